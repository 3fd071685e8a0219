"""What a recipe may say: the full description of one RL training run.

Each choice that a sweep can ablate is a tagged union (``type: ...``) or a plain field, and is
implemented by one row of a table in ``rl``. Defaults live here and nowhere else; where the
ScaleRL paper (arXiv 2510.13786) states a value, the default is that value.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

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

    @model_validator(mode="after")
    def _steps_in_order(self) -> ChainArithmetic:
        if self.max_steps < self.min_steps:
            raise ValueError(f"max_steps ({self.max_steps}) must be at least min_steps ({self.min_steps})")
        return self


AnswerFormat = Literal["boxed", "answer_tag", "marker"]
"""How a response must give its answer: ``\\boxed{...}``, ``<answer>...</answer>``, or ``#`` before it on the
last line. Instructions ask for none: there the whole response counts."""


class _Text(Strict):
    """What all tasks whose prompts are text have in common."""

    template: str = "{prompt}\n"
    """What the model reads: the prompt of a row, with its choices, takes the place of ``{prompt}``."""
    answer_format: AnswerFormat = "boxed"
    partial_credit: bool = False
    """Whether a score below 1 (constraints followed in part, a puzzle solved in part) is rewarded by as much,
    as ProRL does (arXiv 2505.24864, Table 4). A pass is a full score in either case."""

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
    seed: int = 0


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


class Batch(Strict):
    """What one optimiser step consumes."""

    prompts_per_step: PositiveInt = 48


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


class GSPO(Strict):
    """Clipped length-normalised sequence ratio."""

    type: Literal["gspo"] = "gspo"
    clip_low: PositiveFloat = 3e-3
    clip_high: PositiveFloat = 4e-3


class Reinforce(Strict):
    """Plain policy gradient, no ratio."""

    type: Literal["reinforce"] = "reinforce"


Loss = Annotated[CISPO | PPOClip | GSPO | Reinforce, Field(discriminator="type")]


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


Advantage = Annotated[GroupStdAdvantage | BatchAdvantage | CentredAdvantage, Field(discriminator="type")]


# ---------------------------------------------------------------- data


class UniformCurriculum(Strict):
    """Every training prompt once per epoch, in a seeded random order."""

    type: Literal["uniform"] = "uniform"


class NoPositiveResampling(Strict):
    """Drop a prompt from later epochs for good once its pass rate reaches the threshold (ScaleRL A.3)."""

    type: Literal["no_positive_resampling"] = "no_positive_resampling"
    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9


Curriculum = Annotated[UniformCurriculum | NoPositiveResampling, Field(discriminator="type")]


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
    """Soft overlong punishment, added to correct completions only (ScaleRL A.10).

    clip((L_max - |y|) / L_cache - 1, -1, 0) with L_max = max_response_tokens and
    L_cache = window_fraction * L_max.
    """

    type: Literal["penalty"] = "penalty"
    window_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 0.143


class Truncation(Strict):
    """A completion that reaches the limit is cut and scored as it stands."""

    type: Literal["truncate"] = "truncate"


LengthControl = Annotated[Interruption | LengthPenalty | Truncation, Field(discriminator="type")]


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


class Evaluation(Strict):
    """Held-out pass rate: the same prompts every time."""

    every_steps: PositiveInt = 100
    num_prompts: PositiveInt = 1000
    samples_per_prompt: PositiveInt = 16
    temperature: PositiveFloat = 1.0


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
    """One training run, wholly described. Rewards are +1 for a verified answer and -1 otherwise."""

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
    aggregation: Aggregation = PromptAggregation()
    advantage: Advantage = BatchAdvantage()
    zero_variance: Literal["drop", "keep"] = "drop"
    """What becomes of prompts whose completions all have the same reward."""
    curriculum: Curriculum = NoPositiveResampling()
    length_control: LengthControl = Interruption()
    numerics: Numerics = Numerics()
    optimizer: Optimizer = Optimizer()
    evaluation: Evaluation = Evaluation()
    engine: Engine = Engine()
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _prompts_suffice(self) -> Recipe:
        if isinstance(self.tasks, ChainArithmetic):
            for path, num, of, limit in [
                ("batch.prompts_per_step", self.batch.prompts_per_step, "num_train", self.tasks.num_train),
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
    def _engines_have_gpus(self) -> Recipe:
        for engine, path, gpus in [
            (self.engine.generator, "resources.generator_gpus", self.resources.generator_gpus),
            (self.engine.trainer, "resources.trainer_gpus", self.resources.trainer_gpus),
        ]:
            if engine != "torch" and gpus == 0:
                raise ValueError(f"{engine} needs GPUs, but {path} is 0")
        return self

    @model_validator(mode="after")
    def _ratios_can_differ_from_one(self) -> Recipe:
        on_policy = isinstance(self.off_policy, Sync) or (
            isinstance(self.off_policy, PPOOffPolicy) and self.off_policy.k == 1
        )
        same_heads = self.numerics.trainer_head == self.numerics.generator_head == "fp32"
        if on_policy and same_heads and isinstance(self.loss, PPOClip | GSPO):
            raise ValueError(
                f"loss.type={self.loss.type} with fp32 heads and on-policy data is a no-op: every ratio "
                "is 1, so nothing is ever clipped; use reinforce, or an off_policy whose data are older"
            )
        return self
