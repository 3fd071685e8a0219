"""What a recipe may say: the full description of one RL training run.

Each choice that a sweep can ablate is a tagged union (``type: ...``) or a plain field, and is
implemented by one row of a table in ``rl``. Defaults live here and nowhere else; where the
ScaleRL paper (arXiv 2510.13786) states a value, the default is that value.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from scalerl_lab.config.curriculum import (
    Curriculum,
    DifficultyFilter,
    NoDifficultyFilter,
    NoPositiveResampling,
)
from scalerl_lab.config.evaluation import DemonstrationCorpus, Evaluation
from scalerl_lab.config.objective import (
    CISPO,
    GSPO,
    KL,
    Advantage,
    Aggregation,
    Anchor,
    BatchAdvantage,
    KLLoss,
    KLReward,
    Loss,
    MismatchWeight,
    NoKL,
    NoMismatchWeight,
    PPOClip,
    PromptAggregation,
    Reference,
    Reinforce,
)
from scalerl_lab.config.refusals import refuse_data
from scalerl_lab.config.rewards import (
    Interruption,
    LengthControl,
    LengthReward,
    NoLengthReward,
    Reward,
    ScoredTruncated,
    TruncatedCompletions,
)
from scalerl_lab.config.sampling import (
    Batch,
    EarlyTruncation,
    NoEarlyTruncation,
    OffPolicy,
    Pipeline,
    PPOOffPolicy,
    Refill,
    Sampling,
    Sync,
)
from scalerl_lab.config.start import CheckpointModel, Demonstrations, Model, NoWarmStart, WarmStart
from scalerl_lab.config.strict import Name, NonNegative, Strict
from scalerl_lab.config.tasks import ChainArithmetic, Mixture, Tasks

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
        if self.evaluation.downstream is not None and not self.tasks.downstream:
            where = "tasks.downstream names none"
            if isinstance(self.tasks, Mixture):
                where = "no part's tasks.downstream names any"
            raise ValueError(f"evaluation.downstream needs sets of problems, but {where}")
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
