"""What a recipe may say: the full description of one RL training run.

Each choice that a sweep can ablate is a tagged union (``type: ...``) or a plain field, and is
implemented by one row of a table in ``rl``. Defaults live here and nowhere else; where the
ScaleRL paper (arXiv 2510.13786) states a value, the default is that value.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from scalerl_lab.config.refusals import refuse_data
from scalerl_lab.config.sandbox import CodeReward, Sandbox
from scalerl_lab.config.stages import Always, Cycle, LengthChange, TemperatureChange, When, value_at
from scalerl_lab.config.strict import Name, Strict

Share = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]


# ---------------------------------------------------------------- model and tasks


class LlamaModel(Strict):
    """A Llama decoder built locally with random weights; nothing is downloaded."""

    type: Literal["llama"] = "llama"
    layers: PositiveInt = 2
    width: PositiveInt = 64
    heads: PositiveInt = 4
    mlp_width: PositiveInt = 256

    @model_validator(mode="after")
    def _heads_divide_width(self) -> LlamaModel:
        if self.width % self.heads:
            raise ValueError(f"heads must divide width, got width={self.width} and heads={self.heads}")
        return self


class CheckpointModel(Strict):
    """A pre-trained checkpoint, read from a local folder in Hugging Face format."""

    type: Literal["checkpoint"] = "checkpoint"
    path: str
    """Local folder; the lab never downloads weights."""
    params_billion: PositiveFloat
    """Number of parameters, for estimates."""


Model = Annotated[LlamaModel | CheckpointModel, Field(discriminator="type")]


HELDOUT = "heldout"
"""Name of the problems that every point is measured on, among the sets of problems of a recipe."""


class ChainSet(Strict):
    """Further chains modulo the recipe's number, verified like its own and never trained on.

    Longer chains, or fewer kinds of operations, than the training prompts have: out of distribution.
    """

    min_steps: PositiveInt
    max_steps: PositiveInt
    operations: tuple[Literal["+", "-", "*"], ...] | None = None
    """Some of the recipe's own operations, which the vocabulary has words for; all of them when absent."""
    num_prompts: PositiveInt = 128
    seed: int = 0

    @model_validator(mode="after")
    def _can_be_drawn(self) -> ChainSet:
        if self.max_steps < self.min_steps:
            raise ValueError(f"max_steps ({self.max_steps}) must be at least min_steps ({self.min_steps})")
        if self.operations == ():
            raise ValueError("operations must name at least one operation, or be left out for all of them")
        return self


class ChainArithmetic(Strict):
    """Chains of signed operations modulo a small prime, worked step by step, verified by the answer."""

    type: Literal["chain_arithmetic"] = "chain_arithmetic"
    modulus: PositiveInt = 7
    operations: tuple[Literal["+", "-", "*"], ...] = ("+", "-", "*")
    min_steps: PositiveInt = 2
    max_steps: PositiveInt = 10
    num_train: PositiveInt = 2048
    num_heldout: PositiveInt = 256
    seed: int = 0
    """Seed of the prompts; train and held-out prompts never overlap."""
    downstream: dict[Name, ChainSet] = Field(default_factory=dict)
    """Further sets of problems by name, for ``evaluation``; none shares a prompt with another set."""

    @model_validator(mode="after")
    def _steps_in_order(self) -> ChainArithmetic:
        if self.max_steps < self.min_steps:
            raise ValueError(f"max_steps ({self.max_steps}) must be at least min_steps ({self.min_steps})")
        return self

    @model_validator(mode="after")
    def _vocabulary_covers_the_sets(self) -> ChainArithmetic:
        for name, chains in self.downstream.items():
            if name == HELDOUT:
                raise ValueError(
                    f"downstream.{name}: this name is taken by the held-out prompts; choose another"
                )
            unknown = sorted(set(chains.operations or ()) - set(self.operations))
            if unknown:
                raise ValueError(
                    f"downstream.{name}.operations has {', '.join(unknown)}, for which the vocabulary has no "
                    f"words; allowed: {', '.join(self.operations)}"
                )
        return self


AnswerFormat = Literal["boxed", "answer_tag", "marker"]
"""How a response must give its answer: ``\\boxed{...}``, ``<answer>...</answer>``, or ``#`` before it on the
last line. Instructions ask for none: there the whole response counts; code is the last fenced block."""


class _Text(Strict):
    """What all tasks whose prompts are text have in common."""

    template: str = "{prompt}\n"
    """What the model reads: the prompt of a row, with its choices, takes the place of ``{prompt}``."""
    answer_format: AnswerFormat = "boxed"
    partial_credit: bool = False
    """Whether a score below 1 (a share of constraints or of a solution's tests) is rewarded by as much, as
    ProRL does (arXiv 2505.24864, Table 4). A pass is a full score in either case."""

    @model_validator(mode="after")
    def _template_has_the_prompt(self) -> _Text:
        if self.template.count("{prompt}") != 1:
            raise ValueError(f"template must hold {{prompt}} once, got {self.template!r}")
        return self


class PromptFiles(_Text):
    """Prompts with verifiable answers in local files: JSON lines or Parquet.

    The fields of a row are in ``scalerl_lab/tasks/item.py``. A file is looked for as given, then in the
    folder ``recipes``. Prompts that two of the sets share are an error.
    """

    type: Literal["prompt_files"] = "prompt_files"
    train: str
    heldout: str | None = None
    """File of the held-out set; without one it is taken out of ``train``."""
    num_heldout: PositiveInt = 1000
    """Held out at random from the same file (ScaleRL section 2.1: 1,000 of Polaris-53k); no part is played by
    it where there is a file."""
    downstream: dict[Name, str] = Field(default_factory=dict)
    """Further sets that are only measured: name -> file."""
    weights: dict[Name, PositiveFloat] = Field(default_factory=dict)
    """Shares of the files' domains in train and held-out set, as in a mixture; without any, as they come."""
    sandbox: Sandbox = Sandbox()
    """Where solutions to rows of the domain code run; other rows run nothing."""
    code_reward: CodeReward = CodeReward()
    """What a solution is worth; a fraction of its tests is rewarded only with ``partial_credit``."""
    seed: int = 0

    @model_validator(mode="after")
    def _all_or_nothing_is_said_once(self) -> PromptFiles:
        if self.code_reward.score == "all_or_nothing" and not self.partial_credit:
            raise ValueError(
                "code_reward.score=all_or_nothing is a no-op with partial_credit=false, which rewards full "
                "scores alone in every domain; leave it out, or set partial_credit: true for other domains"
            )
        return self


GymOptions = dict[str, bool | int | float | str | list[int] | list[str]]


class ReasoningGym(_Text):
    """Puzzles of reasoning-gym's generators, in equal shares, scored by their own scorers.

    Generators that ``lab tasks audit`` finds untrustworthy are refused.
    """

    type: Literal["reasoning_gym"] = "reasoning_gym"
    generators: dict[Name, GymOptions] = Field(min_length=1)
    """Generator -> its options, e.g. {spell_backward: {min_word_len: 3}}; {} for its own defaults."""
    answer_format: AnswerFormat = "answer_tag"
    num_train: PositiveInt = 2048
    num_heldout: PositiveInt = 256
    seed: int = 0
    """Seed of the puzzles; train and held-out prompts never overlap."""


class MixturePart(Strict):
    """One family of a mixture."""

    tasks: Annotated[ChainArithmetic | PromptFiles | ReasoningGym, Field(discriminator="type")]
    weight: PositiveFloat = 1.0


class Mixture(Strict):
    """Prompts of several families in one run, each domain with a curve of its own.

    The parts' shares of the training and of the held-out prompts are as their weights. The part that is
    smallest for its weight is used whole, of the others as many prompts as their share allows.
    """

    type: Literal["mixture"] = "mixture"
    parts: Annotated[tuple[MixturePart, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _one_closed_vocabulary(self) -> Mixture:
        closed = [part.tasks for part in self.parts if isinstance(part.tasks, ChainArithmetic)]
        if len(closed) > 1:
            raise ValueError(
                f"at most one part may be chain_arithmetic, got {len(closed)}: each has its own vocabulary"
            )
        return self


Tasks = Annotated[ChainArithmetic | PromptFiles | ReasoningGym | Mixture, Field(discriminator="type")]


class NoWarmStart(Strict):
    """RL starts from the model's own weights."""

    type: Literal["none"] = "none"


class Demonstrations(Strict):
    """Supervised warm start on demonstrations that are unreliable per fact.

    For each (operation, operand, state) the probability that a demonstration does it right is
    drawn once from Beta(reliability_alpha, reliability_beta). So RL starts from a low pass rate
    with the right moves in the policy's support.
    """

    type: Literal["demonstrations"] = "demonstrations"
    steps: PositiveInt = 800
    demonstrations_per_step: PositiveInt = 64
    lr: PositiveFloat = 2e-3
    reliability_alpha: PositiveFloat = 3.0
    reliability_beta: PositiveFloat = 1.5
    worked_share: Share = 0.90
    """Share of demonstrations that write every step."""
    results_only_share: Share = 0.05
    """Share that write only the running results; the remainder writes only the answer."""
    seed: int = 0

    @model_validator(mode="after")
    def _shares_fit(self) -> Demonstrations:
        if self.worked_share + self.results_only_share > 1.0:
            raise ValueError("worked_share + results_only_share must be at most 1")
        return self


WarmStart = Annotated[NoWarmStart | Demonstrations, Field(discriminator="type")]


# ---------------------------------------------------------------- sampling, batch, schedule


class Sampling(Strict):
    """How completions are drawn during training."""

    generations_per_prompt: Annotated[int, Field(ge=2)] = 16
    temperature: PositiveFloat = 1.0
    max_response_tokens: PositiveInt = 14336
    """All response tokens, thinking and answer (ScaleRL A.3: 12,288 + 2,048)."""
    temperature_changes: tuple[TemperatureChange, ...] = ()
    """Later temperatures; each batch is sampled at that of the step that consumes it."""
    max_response_tokens_changes: tuple[LengthChange, ...] = ()
    """Later limits, of training and evaluation alike (DeepSeek-R1: 32,768, from step 8,200 on 65,536)."""

    def temperature_at(self, step: int) -> float:
        """Temperature of the batch that step ``step`` (from 0) consumes."""
        return value_at(self.temperature, self.temperature_changes, step)

    def max_response_tokens_at(self, step: int) -> int:
        """Response limit of the batch that step ``step`` (from 0) consumes."""
        return value_at(self.max_response_tokens, self.max_response_tokens_changes, step)

    @property
    def longest_response_tokens(self) -> int:
        """The largest limit of the whole run."""
        return max(self.max_response_tokens, *(each.value for each in self.max_response_tokens_changes), 1)


class NoEarlyTruncation(Strict):
    """A completion goes on until it ends or reaches the limit."""

    type: Literal["none"] = "none"


class RepetitionTruncation(Strict):
    """A training completion is cut once a run of its tokens were all nearly certain: it repeats itself.

    MiniMax-M1 (arXiv 2506.13585): 3,000 consecutive tokens with probability above 0.99.
    The completion counts as truncated. Evaluations are not cut.
    """

    type: Literal["repetition"] = "repetition"
    consecutive_tokens: PositiveInt = 3000
    above_probability: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.99


EarlyTruncation = Annotated[NoEarlyTruncation | RepetitionTruncation, Field(discriminator="type")]


class Refill(Strict):
    """How ``zero_variance: refill`` replaces dropped prompts."""

    max_generated: Annotated[int, Field(ge=2)] = 10
    """Most prompts generated for one batch, in multiples of ``prompts_per_step``.

    Ten generation batches in DAPO's open code (verl, max_num_gen_batches) and in NeMo-RL's ProRL v2.
    """
    when_short: Literal["end", "train"] = "end"
    """Where even that leaves the batch short: end the run, as verl does, or train on what there is."""


class Batch(Strict):
    """What one optimiser step consumes, and how many steps a rollout is good for.

    A rollout of ``prompts_per_step * mini_batches`` prompts is divided by prompts into mini-batches, in
    the order in which they were drawn; each is one optimiser step, and all of them come again in every
    epoch. Advantages are those of the whole rollout, except where a choice says otherwise. ``max_lag`` of
    a pipeline then counts rollouts. The steps on one rollout are atomic: evaluations, checkpoints and
    stops come between rollouts.
    """

    prompts_per_step: PositiveInt = 48
    mini_batches: PositiveInt = 1
    """16 in DeepSeek-R1 (8,192 completions in steps of 512) and in DAPO (arXiv 2503.14476, section 4.1)."""
    epochs: PositiveInt = 1
    """Times that a rollout is gone through; 1 in every recipe of the lab."""

    @property
    def prompts_per_rollout(self) -> int:
        """Prompts that are generated at once."""
        return self.prompts_per_step * self.mini_batches

    @property
    def steps_per_rollout(self) -> int:
        """Optimiser steps taken on them."""
        return self.mini_batches * self.epochs


class Pipeline(Strict):
    """PipelineRL: generation never drains; new weights arrive in flight and the stale KV cache is kept.

    A completion's oldest token lags at most ``max_lag`` optimiser steps behind the weights it trains.
    """

    type: Literal["pipeline"] = "pipeline"
    max_lag: PositiveInt = 8


class PPOOffPolicy(Strict):
    """Generate k batches with one policy, then take k optimiser steps on them."""

    type: Literal["ppo_off_policy"] = "ppo_off_policy"
    k: PositiveInt = 8


class Sync(Strict):
    """Generate one batch, train on it, repeat: on-policy."""

    type: Literal["sync"] = "sync"


OffPolicy = Annotated[Pipeline | PPOOffPolicy | Sync, Field(discriminator="type")]


# ---------------------------------------------------------------- objective


class CISPO(Strict):
    """Truncated importance weights, gradient through every token (ScaleRL Eq. 4)."""

    type: Literal["cispo"] = "cispo"
    ratio_cap: PositiveFloat = 5.0
    """Absolute cap on the token ratio; the paper finds 4, 5 and 8 alike."""


class PPOClip(Strict):
    """Clipped token ratio: GRPO with equal bounds, DAPO with a higher upper bound."""

    type: Literal["ppo_clip"] = "ppo_clip"
    clip_low: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    clip_high: PositiveFloat = 0.26
    dual_clip: Annotated[float, Field(gt=1.0)] | None = None
    """Dual clip (arXiv 1912.09729): with a negative advantage A no loss beyond -dual_clip * A. verl: 3;
    NVIDIA's ProRL v2 script: 10; NeMo-RL's ProRL v2 and most others: none."""


class GSPO(Strict):
    """Clipped length-normalised sequence ratio."""

    type: Literal["gspo"] = "gspo"
    clip_low: PositiveFloat = 3e-3
    clip_high: PositiveFloat = 4e-3


class Reinforce(Strict):
    """Plain policy gradient, no ratio."""

    type: Literal["reinforce"] = "reinforce"


Loss = Annotated[CISPO | PPOClip | GSPO | Reinforce, Field(discriminator="type")]

Anchor = Literal["gen", "old"]


class NoMismatchWeight(Strict):
    """Whatever the sampler said, the token loss stays as it is."""

    type: Literal["none"] = "none"


class Truncated(Strict):
    """Truncated importance sampling (TIS): min(w, cap) per token."""

    type: Literal["truncated"] = "truncated"
    cap: PositiveFloat = 2.0
    """2 in verl, OpenRLHF, open-instruct and NVIDIA's ProRL v2 run."""


class Masked(Strict):
    """w per token, and 0 where it is above the cap (MIS; TRL's ``token_mask``)."""

    type: Literal["masked"] = "masked"
    cap: PositiveFloat = 3.0
    """TRL 1.16."""


class IcePop(Strict):
    """w per token, and 0 where it is outside the band."""

    type: Literal["icepop"] = "icepop"
    low: NonNegative = 0.5
    high: PositiveFloat = 5.0
    """0.5 and 5 are those of ProRL v2 in NeMo-RL and OpenRLHF."""

    @model_validator(mode="after")
    def _in_order(self) -> IcePop:
        _require_order(self.low, self.high)
        return self


class SequenceTruncated(Strict):
    """min(w, cap) with w = exp(sum of log w) of the whole completion."""

    type: Literal["sequence_truncated"] = "sequence_truncated"
    cap: PositiveFloat = 3.0
    """TRL 1.16."""


class SequenceMasked(Strict):
    """w = exp(sum of log w) of the whole completion, and 0 where it is above the cap.

    The sum grows with length, so long completions are masked in numbers.
    """

    type: Literal["sequence_masked"] = "sequence_masked"
    cap: PositiveFloat = 3.0
    """TRL 1.16, where this form is the default."""


class SequenceBand(Strict):
    """w per token, in completions whose geometric mean of w is within the band; 0 in the others.

    ``seq-mask-tis`` of NeMo-RL and OpenRLHF.
    """

    type: Literal["sequence_band"] = "sequence_band"
    low: NonNegative = 0.99
    high: PositiveFloat = 1.02
    """The lab's; ProRL v2.1 has 0.999 and 1.002 for a mixture of experts."""

    @model_validator(mode="after")
    def _in_order(self) -> SequenceBand:
        _require_order(self.low, self.high)
        return self


def _require_order(low: float, high: float) -> None:
    if high <= low:
        raise ValueError(f"high must be above low, got low={low} and high={high}")


MismatchWeight = Annotated[
    NoMismatchWeight | Truncated | Masked | IcePop | SequenceTruncated | SequenceMasked | SequenceBand,
    Field(discriminator="type"),
]


class ConstAggregation(Strict):
    """Sum of token losses over completions times the response limit (Dr. GRPO)."""

    type: Literal["const"] = "const"


class SampleAggregation(Strict):
    """Mean over completions of each completion's token mean (GRPO)."""

    type: Literal["sample"] = "sample"


class PromptAggregation(Strict):
    """Mean over prompts of the token mean over all of a prompt's completions (ScaleRL)."""

    type: Literal["prompt"] = "prompt"


class TokenAggregation(Strict):
    """Mean over all tokens of the batch."""

    type: Literal["token"] = "token"


Aggregation = Annotated[
    SampleAggregation | PromptAggregation | TokenAggregation | ConstAggregation, Field(discriminator="type")
]


class GroupStdAdvantage(Strict):
    """Reward minus group mean, over the group's (unbiased) standard deviation (GRPO)."""

    type: Literal["group_std"] = "group_std"
    eps: PositiveFloat = 1e-6


class BatchAdvantage(Strict):
    """Reward minus group mean, over the batch's standard deviation of that difference (ScaleRL)."""

    type: Literal["batch"] = "batch"
    eps: PositiveFloat = 1e-6


class CentredAdvantage(Strict):
    """Reward minus group mean, not normalised (Dr. GRPO)."""

    type: Literal["none"] = "none"


class RLOOAdvantage(Strict):
    """Reward minus the mean of the group's other rewards (RLOO)."""

    type: Literal["rloo"] = "rloo"


class BatchRawAdvantage(Strict):
    """Reward minus group mean, over the batch's (unbiased) standard deviation of the rewards as they are.

    TRL's ``scale_rewards: batch``; differs from ``batch`` by the variance between prompts.
    """

    type: Literal["batch_raw"] = "batch_raw"
    eps: PositiveFloat = 1e-4
    """TRL 1.16."""


Weighting = Literal["token", "sequence"]
"""Whether long completions count more in a mean: every token once, or every completion once."""


class ReinforcePPAdvantage(Strict):
    """REINFORCE++ (arXiv 2501.03262): returns whitened over the whole batch, with no group mean."""

    type: Literal["reinforce_pp"] = "reinforce_pp"
    weighting: Weighting = "token"
    eps: PositiveFloat = 1e-8
    """Added to the variance (verl's ``masked_whiten``)."""


class ReinforcePPBaselineAdvantage(Strict):
    """REINFORCE++-baseline: reward minus group mean, whitened over the whole batch.

    verl, OpenRLHF and NeMo-RL weigh by token; the text of ProRL v2 does not say.
    """

    type: Literal["reinforce_pp_baseline"] = "reinforce_pp_baseline"
    weighting: Weighting = "token"
    eps: PositiveFloat = 1e-8
    """Added to the variance (verl's ``masked_whiten``)."""


class MagistralAdvantage(Strict):
    """Reward minus group mean, whitened by completion over each mini-batch (arXiv 2506.10910)."""

    type: Literal["magistral"] = "magistral"
    eps: PositiveFloat = 1e-8
    """Added to the variance; the paper has none."""


Advantage = Annotated[
    GroupStdAdvantage
    | BatchAdvantage
    | CentredAdvantage
    | RLOOAdvantage
    | BatchRawAdvantage
    | ReinforcePPAdvantage
    | ReinforcePPBaselineAdvantage
    | MagistralAdvantage,
    Field(discriminator="type"),
]


# ---------------------------------------------------------------- KL and its reference


class NoKL(Strict):
    """Nothing holds the policy to a reference."""

    type: Literal["none"] = "none"


class KLLoss(Strict):
    """coef times an estimate of the KL to the reference, added to the loss of each token."""

    type: Literal["loss"] = "loss"
    estimator: Literal["k1", "k2", "k3", "k1_weighted", "k3_weighted", "k3_straight_through"] = "k3"
    """``rl.kl`` says what each one's gradient is."""
    coef: PositiveFloat = 1e-3
    """DeepSeek-R1: 1e-3; ProRL v1: 1e-4; ProRL v2: 5e-4, 1e-3 or 1e-4 in NVIDIA's own three scripts."""
    clamp: PositiveFloat = 20.0
    """Bound of |log-ratio to the reference| before anything else: verl 20, ProRL v2's text 10,
    open-instruct 40. There is no bound on the estimate itself: at 10 it takes the gradient of k2 from every
    token with a log-ratio beyond 4.47."""

    @model_validator(mode="after")
    def _has_a_gradient(self) -> KLLoss:
        if self.estimator == "k1":
            raise ValueError(
                "kl.type=loss with estimator=k1 is a no-op: its expected gradient is 0; "
                "use k2 or k1_weighted, or kl.type=reward"
            )
        return self


class KLReward(Strict):
    """coef times an estimate of the KL to the reference, taken off the reward; it carries no gradient.

    Off the reward of the whole completion, or, where the advantage is REINFORCE++'s, off the return of each
    token from there to the end (arXiv 2501.03262).
    """

    type: Literal["reward"] = "reward"
    estimator: Literal["k1", "k2", "k3"] = "k1"
    coef: PositiveFloat = 0.03
    """TRL's RLOO trainer."""
    clamp: PositiveFloat = 20.0
    """Bound of |log-ratio to the reference|."""


KL = Annotated[NoKL | KLLoss | KLReward, Field(discriminator="type")]


class Reference(Strict):
    """The reference policy of the KL: the start's weights, until a reset moves it to the policy.

    Triggers add up; whichever fires resets. None of the published recipes gives a number for a spike or a
    stall. DeepSeek-R1: hard, every 400 steps; ProRL v1: hard, on stalled validation, optimiser too; ProRL v2:
    hard, every 200 to 500 steps or on a spike or stall, optimiser kept.
    """

    every_steps: PositiveInt | None = None
    """Reset after every so many optimiser steps."""
    kl_above: PositiveFloat | None = None
    """Reset after a step whose mean log-ratio to the reference over its tokens is above this."""
    stalled_points: PositiveInt | None = None
    """Reset when so many scheduled evaluations on end have not raised the best pass rate."""
    new_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """The reference becomes new_share * policy + (1 - new_share) * itself: 1 is a hard reset, less is
    Polyak's (TRL ``sync_ref_model``: 0.6 every 512 steps)."""
    reset_optimizer: bool = False
    """Whether a reset also forgets the optimiser's moments."""

    @property
    def resets(self) -> bool:
        """Whether anything can move the reference."""
        return any(each is not None for each in (self.every_steps, self.kl_above, self.stalled_points))


# ---------------------------------------------------------------- data


class UniformCurriculum(Strict):
    """Every training prompt once per epoch, in a seeded random order."""

    type: Literal["uniform"] = "uniform"


class NoPositiveResampling(Strict):
    """Drop a prompt from later epochs for good once its pass rate reaches the threshold (ScaleRL A.3)."""

    type: Literal["no_positive_resampling"] = "no_positive_resampling"
    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9


Curriculum = Annotated[UniformCurriculum | NoPositiveResampling, Field(discriminator="type")]


class NoDifficultyFilter(Strict):
    """Every training prompt may come."""

    type: Literal["none"] = "none"


class PassRateBand(Strict):
    """Before step 0 the starting policy tries every training prompt; those outside a band never come.

    MiniMax-M1 keeps prompts of pass@10 within (0, 0.9); Magistral leaves out those that are never or always
    solved in 16 samples, first by another, then by a trained model. The generation is billed apart from
    training, as ``difficulty``.
    """

    type: Literal["pass_rate_band"] = "pass_rate_band"
    samples: PositiveInt = 16
    above: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    below: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0

    @model_validator(mode="after")
    def _something_stays(self) -> PassRateBand:
        if not any(self.above < right / self.samples < self.below for right in range(self.samples + 1)):
            raise ValueError(
                f"no share of {self.samples} samples lies between above ({self.above:g}) and below "
                f"({self.below:g}), so no prompt would stay; take more samples or widen the band"
            )
        return self


DifficultyFilter = Annotated[NoDifficultyFilter | PassRateBand, Field(discriminator="type")]


class Interruption(Strict):
    """Thinking is cut at a random budget by a forced phrase; the injected tokens are masked from the loss.

    The budget is drawn per completion, uniformly between the two fractions of
    ``max_response_tokens`` (ScaleRL section 4: 10k to 12k of 14,336 tokens).
    """

    type: Literal["interruption"] = "interruption"
    low_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.714
    high_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.857
    phrase: str = "Okay, time is up. Let me stop thinking and formulate a final answer now. </think>"

    @model_validator(mode="after")
    def _fractions_in_order(self) -> Interruption:
        if self.high_fraction < self.low_fraction:
            raise ValueError("high_fraction must be at least low_fraction")
        return self


class LengthPenalty(Strict):
    """Soft overlong punishment, added to the reward.

    scale * clip((L_max - |y|) / L_cache - 1, -1, 0) with L_max = max_response_tokens and
    L_cache = window_fraction * L_max.
    """

    type: Literal["penalty"] = "penalty"
    window_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 0.143
    applies_to: Literal["correct", "all"] = "correct"
    """Correct completions only (ScaleRL A.10), or wrong ones too (DAPO Eq. 13)."""
    scale: PositiveFloat = 1.0
    """Largest punishment: 1 in DAPO and ScaleRL, 0.1 in Magistral (arXiv 2506.10910, section 2.2.3)."""


class Truncation(Strict):
    """A completion that reaches the limit is cut and scored as it stands."""

    type: Literal["truncate"] = "truncate"


LengthControl = Annotated[Interruption | LengthPenalty | Truncation, Field(discriminator="type")]


# ---------------------------------------------------------------- rewards


class Reward(Strict):
    """What a verdict is worth before its length is looked at: wrong + score * (correct - wrong).

    +1 and -1 in ScaleRL and DAPO; 1 and 0 in ProRL; ProRL v2's blog finds 0/1 and -1/1 alike.
    """

    correct: float = 1.0
    wrong: float = -1.0

    @model_validator(mode="after")
    def _correct_is_better(self) -> Reward:
        if self.correct <= self.wrong:
            raise ValueError(f"correct ({self.correct:g}) must be larger than wrong ({self.wrong:g})")
        return self


class NoLengthReward(Strict):
    """The reward does not depend on the length, except through ``length_control``."""

    type: Literal["none"] = "none"


class CosineBonus(Strict):
    """A bonus that falls with the length: R + weight * eta(T).

    eta(T) = eta_min + (eta_max - eta_min) / 2 * (1 + cos(pi T / L)), L = max_response_tokens.
    Source: NVIDIA's ProRL v2 blog, which switches it on for 100 updates and off for 500. It gives no
    weight, eta_min or eta_max: the lab's spread a correct answer's reward by 0.5, as NVIDIA's script does.
    """

    type: Literal["cosine"] = "cosine"
    weight: PositiveFloat = 0.5
    eta_min: float = 0.0
    eta_max: float = 1.0
    when: When = Field(default_factory=Cycle)

    @model_validator(mode="after")
    def _short_is_better(self) -> CosineBonus:
        if self.eta_max <= self.eta_min:
            raise ValueError(
                f"eta_max ({self.eta_max:g}) must be larger than eta_min ({self.eta_min:g}): with equal ones "
                "every completion gets the same bonus, which no advantage sees"
            )
        return self


class CosineReward(Strict):
    """The reward is replaced by one between a short and a long completion's, right and wrong apart.

    long + (short - long) / 2 * (1 + cos(pi T / L)), L = max_response_tokens.
    Source: NVIDIA's public ProRL v2 launch script (correct_long 0.5, wrong_long 0; the other two not
    published); TRL's get_cosine_scaled_reward, whose defaults these are. A long wrong answer is
    punished less than a short one.
    """

    type: Literal["cosine_reward"] = "cosine_reward"
    correct_short: float = 1.0
    correct_long: float = 0.5
    wrong_short: float = -1.0
    wrong_long: float = -0.5
    when: When = Field(default_factory=Always)

    @model_validator(mode="after")
    def _ranges_make_sense(self) -> CosineReward:
        lowest, highest = min(self.correct_short, self.correct_long), max(self.wrong_short, self.wrong_long)
        if lowest <= highest:
            raise ValueError(
                f"a correct completion may get {lowest:g} and a wrong one {highest:g}: every reward of a "
                "correct one must be larger than every reward of a wrong one"
            )
        if self.correct_short == self.correct_long and self.wrong_short == self.wrong_long:
            raise ValueError("short and long completions get the same: this is a no-op; set reward instead")
        return self


LengthReward = Annotated[NoLengthReward | CosineBonus | CosineReward, Field(discriminator="type")]


class ScoredTruncated(Strict):
    """A truncated completion is scored and trained on like any other."""

    type: Literal["score"] = "score"


class StopProperly(Strict):
    """A truncated completion keeps only a share of its reward, or gets a fixed one.

    R -> coefficient * R where the coefficient is at least 0, R -> coefficient where it is negative.
    Source: NVIDIA's public ProRL v2 script (0.1); NeMo-RL and OpenRLHF (0; OpenRLHF the negative form).
    """

    type: Literal["stop_properly"] = "stop_properly"
    coefficient: Annotated[float, Field(lt=1.0)] = 0.1
    when: When = Field(default_factory=Always)


class MaskedTruncated(Strict):
    """Overlong filtering: a truncated completion carries no loss (DAPO, section 3.4, of arXiv 2503.14476)."""

    type: Literal["mask"] = "mask"
    in_statistics: bool = True
    """Whether its reward counts in the filter and in means and deviations (as in TRL's code)."""


TruncatedCompletions = Annotated[
    ScoredTruncated | StopProperly | MaskedTruncated, Field(discriminator="type")
]


# ---------------------------------------------------------------- numerics, optimiser, evaluation


Precision = Literal["fp32", "bf16"]


class Numerics(Strict):
    """Precision of the language-model head, on each side."""

    trainer_head: Precision = "fp32"
    generator_head: Precision = "fp32"


class Optimizer(Strict):
    """AdamW with linear warm-up to a constant rate (ScaleRL A.3)."""

    lr: PositiveFloat = 5e-7
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    eps: PositiveFloat = 1e-15
    weight_decay: NonNegative = 0.01
    grad_clip: PositiveFloat = 1.0


class DownstreamEvaluation(Strict):
    """Pass rate on each of the tasks' downstream sets: does the gain on held-out prompts carry over?"""

    every_steps: PositiveInt
    """A multiple of ``evaluation.every_steps``; measured also at step 0 and where the grant is used."""
    samples_per_prompt: PositiveInt = 16
    """ProRL averages pass@1 over 16 samples (arXiv 2505.24864, evaluation set-up)."""
    temperature: PositiveFloat | None = None
    """Of ``evaluation``, when absent."""
    max_response_tokens: PositiveInt | None = None
    """Of ``sampling``, when absent; harder problems may need longer answers than training allows."""


class BoundaryEvaluation(Strict):
    """pass@k for k = 1, 2, 4 .. max_k on the held-out prompts and on each downstream set.

    The reasoning boundary is what some sample of many reaches (ProRL, arXiv 2505.24864: 256 samples).
    """

    every_steps: PositiveInt
    """A multiple of ``evaluation.every_steps``; measured also at step 0 and where the grant is used."""
    num_prompts: PositiveInt = 256
    """At most so many of each set: its first ones, the same every time."""
    samples_per_prompt: PositiveInt = 256
    max_k: PositiveInt = 256
    temperature: PositiveFloat | None = None
    """Of ``evaluation``, when absent."""
    max_response_tokens: PositiveInt | None = None
    """Of ``sampling``, when absent."""

    @model_validator(mode="after")
    def _samples_suffice(self) -> BoundaryEvaluation:
        if self.max_k > self.samples_per_prompt:
            raise ValueError(
                f"max_k ({self.max_k}) exceeds samples_per_prompt ({self.samples_per_prompt}): pass@k cannot "
                "be estimated from fewer than k samples"
            )
        return self


class DemonstrationCorpus(Strict):
    """The responses that the supervised warm start showed."""

    type: Literal["demonstrations"] = "demonstrations"


class TextCorpus(Strict):
    """A local text file; each line is a text of its own."""

    type: Literal["text_file"] = "text_file"
    path: str


Corpus = Annotated[DemonstrationCorpus | TextCorpus, Field(discriminator="type")]


class NgramOverlap(Strict):
    """How much of the held-out completions is found, n-gram by n-gram, in a corpus.

    The share of words inside an n-gram that the corpus has, averaged over n from min_length to
    max_length. The sum over n of the remaining shares is the Creativity Index (Lu et al., arXiv
    2410.04265, L = 5..12), which ProRL reports against a web corpus; verbatim matches only.
    """

    every_steps: PositiveInt
    """A multiple of ``evaluation.every_steps``; measured also at step 0 and where the grant is used."""
    corpus: Corpus = DemonstrationCorpus()
    min_length: PositiveInt = 5
    max_length: Annotated[int, Field(ge=1, le=32)] = 12

    @model_validator(mode="after")
    def _lengths_in_order(self) -> NgramOverlap:
        if self.max_length < self.min_length:
            raise ValueError(
                f"max_length ({self.max_length}) must be at least min_length ({self.min_length})"
            )
        return self


class Evaluation(Strict):
    """Held-out pass rate: the same prompts every time; and what else is measured, each at its cadence."""

    every_steps: PositiveInt = 100
    num_prompts: PositiveInt = 1000
    samples_per_prompt: PositiveInt = 16
    temperature: PositiveFloat = 1.0
    temperature_changes: tuple[TemperatureChange, ...] = ()
    """Later temperatures, by the optimiser steps taken before the evaluation."""
    downstream: DownstreamEvaluation | None = None
    boundary: BoundaryEvaluation | None = None
    ngram_overlap: NgramOverlap | None = None

    @model_validator(mode="after")
    def _cadences_meet(self) -> Evaluation:
        for name in ("downstream", "boundary", "ngram_overlap"):
            further = getattr(self, name)
            if further is not None and further.every_steps % self.every_steps:
                raise ValueError(
                    f"{name}.every_steps ({further.every_steps}) must be a multiple of every_steps "
                    f"({self.every_steps}): further measurements are saved together with a point"
                )
        return self

    def temperature_at(self, step: int) -> float:
        """Temperature of the evaluation after ``step`` optimiser steps."""
        return value_at(self.temperature, self.temperature_changes, step)


class Engine(Strict):
    """Which back ends generate and train."""

    generator: Literal["torch", "vllm"] = "torch"
    trainer: Literal["torch", "deepspeed"] = "torch"


class Resources(Strict):
    """What one run holds while it runs; Ray reserves it as a placement group."""

    cpus: PositiveFloat = 1.0
    generator_gpus: Annotated[int, Field(ge=0)] = 0
    trainer_gpus: Annotated[int, Field(ge=0)] = 0

    @property
    def gpus(self) -> int:
        """All GPUs of one run."""
        return self.generator_gpus + self.trainer_gpus


class Recipe(Strict):
    """One training run, wholly described."""

    name: Name
    about: str = ""
    stands_in: dict[str, Name] = Field(default_factory=dict)
    """Scale of a profile -> the recipe that asks the same question there, e.g. {laptop: scalerl_tiny}."""
    model: Model
    tasks: Tasks
    warm_start: WarmStart = NoWarmStart()
    sampling: Sampling = Sampling()
    batch: Batch = Batch()
    off_policy: OffPolicy = Pipeline()
    loss: Loss = CISPO()
    anchor: Anchor = "gen"
    """What ratios are against: the sampler when it wrote the token (ScaleRL, PipelineRL), or the trainer's
    own log-probability before its first step on the rollout (verl, TRL, OpenRLHF, NeMo-RL)."""
    mismatch_weight: MismatchWeight = NoMismatchWeight()
    """Weight of each token's loss by w = exp(old - gen), which holds what an ``old`` anchor leaves out."""
    aggregation: Aggregation = PromptAggregation()
    advantage: Advantage = BatchAdvantage()
    kl: KL = NoKL()
    reference: Reference = Reference()
    entropy_bonus: NonNegative = 0.0
    """Weight of the policy's mean token entropy in nats, taken off the loss; aggregated as the loss is."""
    zero_variance: Literal["drop", "keep", "refill"] = "drop"
    """What becomes of prompts whose completions all have the same reward."""
    refill: Refill = Refill()
    filter_on: Literal["raw", "shaped"] = "raw"
    """Which reward must vary: the verdict (NeMo-RL), or the shaped one (verl's seq_reward).

    Length terms give variance to prompts that are always solved; NVIDIA's ProRL v2 script keeps those.
    """
    curriculum: Curriculum = NoPositiveResampling()
    difficulty_filter: DifficultyFilter = NoDifficultyFilter()
    reward: Reward = Reward()
    length_reward: LengthReward = NoLengthReward()
    length_control: LengthControl = Interruption()
    truncated: TruncatedCompletions = ScoredTruncated()
    early_truncation: EarlyTruncation = NoEarlyTruncation()
    numerics: Numerics = Numerics()
    optimizer: Optimizer = Optimizer()
    evaluation: Evaluation = Evaluation()
    engine: Engine = Engine()
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _prompts_suffice(self) -> Recipe:
        if isinstance(self.tasks, ChainArithmetic):
            for path, num, of, limit in [
                (self._rollout_path(), self.batch.prompts_per_rollout, "num_train", self.tasks.num_train),
                (
                    "evaluation.num_prompts",
                    self.evaluation.num_prompts,
                    "num_heldout",
                    self.tasks.num_heldout,
                ),
            ]:
                if num > limit:
                    raise ValueError(f"{path} ({num}) exceeds tasks.{of} ({limit})")
        return self

    @model_validator(mode="after")
    def _data_fit_the_model(self) -> Recipe:
        if isinstance(self.model, CheckpointModel):
            if isinstance(self.warm_start, Demonstrations):
                raise ValueError(
                    "warm_start.type=demonstrations teaches a model.type=llama from nothing; a checkpoint "
                    "has had its supervised start"
                )
            if isinstance(self.tasks, Mixture) and any(
                isinstance(part.tasks, ChainArithmetic) for part in self.tasks.parts
            ):
                raise ValueError(
                    "tasks.parts has chain_arithmetic, whose vocabulary of whole words only "
                    "model.type=llama knows"
                )
        return self

    @model_validator(mode="after")
    def _measurements_have_their_data(self) -> Recipe:
        if self.evaluation.downstream is not None and not getattr(self.tasks, "downstream", None):
            raise ValueError("evaluation.downstream needs sets of problems, but tasks.downstream names none")
        overlap, taught = self.evaluation.ngram_overlap, isinstance(self.warm_start, Demonstrations)
        if overlap is not None and isinstance(overlap.corpus, DemonstrationCorpus) and not taught:
            raise ValueError(
                "evaluation.ngram_overlap.corpus.type=demonstrations needs "
                "warm_start.type=demonstrations; use corpus.type=text_file"
            )
        return self

    @model_validator(mode="after")
    def _engines_have_gpus(self) -> Recipe:
        for engine, path, gpus in [
            (self.engine.generator, "resources.generator_gpus", self.resources.generator_gpus),
            (self.engine.trainer, "resources.trainer_gpus", self.resources.trainer_gpus),
        ]:
            if engine != "torch" and gpus == 0:
                raise ValueError(f"{engine} needs GPUs, but {path} is 0")
        return self

    def _rollout_path(self) -> str:
        path = "batch.prompts_per_step"
        return path if self.batch.mini_batches == 1 else f"{path} * mini_batches"

    @model_validator(mode="after")
    def _rollouts_are_divided_once(self) -> Recipe:
        steps = self.batch.steps_per_rollout
        if steps == 1:
            return self
        if isinstance(self.off_policy, PPOOffPolicy) and self.off_policy.k > 1:
            raise ValueError(
                f"off_policy.type=ppo_off_policy already takes k={self.off_policy.k} steps on one rollout; "
                "for mini_batches and epochs write off_policy: {type: sync}"
            )
        if self.evaluation.every_steps % steps:
            raise ValueError(
                f"evaluation.every_steps ({self.evaluation.every_steps}) must be a multiple of the {steps} "
                "steps on one rollout (batch.mini_batches * batch.epochs): evaluations come between rollouts"
            )
        return self

    @property
    def steps_on_old_weights(self) -> int:
        """Optimiser steps between two recomputations of the trainer's old log-probabilities."""
        k = self.off_policy.k if isinstance(self.off_policy, PPOOffPolicy) else 1
        return k * self.batch.steps_per_rollout

    @property
    def _sampler_is_trainer(self) -> bool:
        """Whether both sides compute the same log-probabilities from the same weights, up to rounding."""
        return (
            self.numerics.trainer_head == self.numerics.generator_head == "fp32"
            and self.engine.generator == self.engine.trainer == "torch"
        )

    @model_validator(mode="after")
    def _data_choices_do_something(self) -> Recipe:
        refuse_data(self)
        return self

    @model_validator(mode="after")
    def _ratios_can_differ_from_one(self) -> Recipe:
        loss = self.loss
        if self.anchor == "old":
            if self.steps_on_old_weights == 1 and not isinstance(loss, Reinforce):
                raise ValueError(
                    f"loss.type={loss.type} with anchor=old and one optimiser step per rollout is a no-op: "
                    "every ratio is 1, so no clip or cap ever acts; use reinforce, anchor=gen, or more "
                    "batch.mini_batches or batch.epochs"
                )
            return self
        on_policy = isinstance(self.off_policy, Sync) or (
            isinstance(self.off_policy, PPOOffPolicy) and self.off_policy.k == 1
        )
        same_heads = self.numerics.trainer_head == self.numerics.generator_head == "fp32"
        on_policy = on_policy and self.batch.steps_per_rollout == 1
        if on_policy and same_heads and isinstance(loss, PPOClip | GSPO):
            raise ValueError(
                f"loss.type={loss.type} with fp32 heads and on-policy data is a no-op: every ratio "
                "is 1, so nothing is ever clipped; use reinforce, or an off_policy whose data are older"
            )
        return self

    @model_validator(mode="after")
    def _mismatch_is_there_and_counted_once(self) -> Recipe:
        weight = self.mismatch_weight.type
        if weight == "none":
            return self
        if self.anchor == "gen":
            raise ValueError(
                f"mismatch_weight.type={weight} with anchor=gen counts the sampler's mismatch twice: the "
                "ratio holds it already; use anchor=old, or mismatch_weight: {type: none}"
            )
        if not isinstance(self.off_policy, Pipeline) and self._sampler_is_trainer:
            raise ValueError(
                f"mismatch_weight.type={weight} is a no-op: with off_policy.type={self.off_policy.type}, "
                "fp32 heads and torch on both sides the sampler's log-probabilities are the trainer's old "
                "ones, and every weight is 1; use bf16 heads, another engine, or off_policy: {type: pipeline}"
            )
        return self

    @model_validator(mode="after")
    def _the_anchor_is_read(self) -> Recipe:
        weighted = isinstance(self.kl, KLLoss) and self.kl.estimator.endswith("_weighted")
        if (
            self.anchor == "old"
            and isinstance(self.loss, Reinforce)
            and self.mismatch_weight.type == "none"
            and not (weighted or isinstance(self.kl, KLReward))
        ):
            raise ValueError(
                "anchor=old is a no-op with loss.type=reinforce, which has no ratio, and no mismatch_weight; "
                "leave it out, or give a mismatch_weight"
            )
        return self

    @model_validator(mode="after")
    def _the_reference_is_used(self) -> Recipe:
        reference = self.reference
        if reference.resets and self.kl.type == "none":
            raise ValueError(
                "reference resets are a no-op with kl.type=none: only the KL reads the reference; "
                "give a kl, or leave reference out"
            )
        if not reference.resets and (reference.new_share != 1.0 or reference.reset_optimizer):
            raise ValueError(
                "reference.new_share and reference.reset_optimizer are no-ops without a trigger; "
                "give reference.every_steps, kl_above or stalled_points"
            )
        return self
