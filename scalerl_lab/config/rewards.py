"""What a completion is worth: the reward of a verdict, how its length shapes it, what limits its length."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from scalerl_lab.config.stages import Always, Cycle, When
from scalerl_lab.config.strict import Strict


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
