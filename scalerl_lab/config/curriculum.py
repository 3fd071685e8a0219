"""Which training prompts come, from which step on, and which never come again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from scalerl_lab.config.strict import Name, Strict


class PromptStage(Strict):
    """Which training prompts come from a step on, until the next stage begins; without a word, all of them.

    Each stage has epochs of its own; what a prompt's pass rate retires stays retired. Magistral changes to
    harder prompts where the reward levels off (arXiv 2506.10910, section 5), ProRL adds a domain in its
    third of eight runs (arXiv 2505.24864, section 3); neither gives the steps.
    """

    from_step: Annotated[int, Field(ge=0)]
    """First step of the stage, from 0: it holds for the batch that this step consumes and for later ones."""
    min_difficulty: float | None = None
    """Chains: number of steps. Rows of data files: the number in ``metadata.difficulty``."""
    max_difficulty: float | None = None
    """Prompts of this difficulty still come."""
    domains: dict[Name, PositiveFloat] = Field(default_factory=dict)
    """Domain -> its share of the prompts of every batch, in any unit; others do not come. A small domain is
    gone through more often; once so many of its prompts are retired that they do not fill its share, others
    take their places. Without any, prompts come as they lie in the training set."""

    @model_validator(mode="after")
    def _bounds_in_order(self) -> PromptStage:
        low, high = self.min_difficulty, self.max_difficulty
        if low is not None and high is not None and high < low:
            raise ValueError(f"max_difficulty ({high:g}) must be at least min_difficulty ({low:g})")
        return self

    @property
    def chooses(self) -> tuple[object, ...]:
        """What tells two stages apart."""
        whole = sum(self.domains.values())
        shares = {domain: round(share / whole, 9) for domain, share in sorted(self.domains.items())}
        return self.min_difficulty, self.max_difficulty, shares


class _Curriculum(Strict):
    """What all curricula have in common."""

    stages: tuple[PromptStage, ...] = ()
    """Which prompts come from which step on; before the first one, all."""


class UniformCurriculum(_Curriculum):
    """Every training prompt once per epoch, in a seeded random order."""

    type: Literal["uniform"] = "uniform"


class NoPositiveResampling(_Curriculum):
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
