"""Which training prompts come, and which never come again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from scalerl_lab.config.strict import Strict


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
