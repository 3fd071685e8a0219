"""What changes while a run goes on, by optimiser step: later values of a number, and when a term counts.

Steps are counted from 0: step s is taken after s others. A change at step s holds for the batch that
step s consumes and for all later ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol, TypeVar

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from scalerl_lab.config.strict import Strict

Number = TypeVar("Number", int, float, covariant=True)


class TemperatureChange(Strict):
    """Another temperature from a step on."""

    from_step: PositiveInt
    value: PositiveFloat


class LengthChange(Strict):
    """Another response limit from a step on."""

    from_step: PositiveInt
    value: PositiveInt


class StepChange(Protocol[Number]):
    """A later value."""

    @property
    def from_step(self) -> int:
        """First step that it holds for."""
        ...

    @property
    def value(self) -> Number:
        """What holds from there on."""
        ...


def value_at(first: Number, changes: Sequence[StepChange[Number]], step: int) -> Number:
    """The value that holds at a step; ``changes`` are in the order of their steps.

    Worked number: 1.0, then 1.2 from step 10: steps 9 and 10 have 1.0 and 1.2.
    """
    held = first
    for change in changes:
        if change.from_step <= step:
            held = change.value
    return held


class Always(Strict):
    """At every step."""

    type: Literal["always"] = "always"


class Cycle(Strict):
    """On for some steps, off for some, and again (ProRL v2's blog: on for 100 updates, off for 500)."""

    type: Literal["cycle"] = "cycle"
    on_steps: PositiveInt = 100
    off_steps: PositiveInt = 500
    first: Literal["on", "off"] = "on"
    """What step 0 is; the blog does not say."""


class Between(Strict):
    """From one step until before another."""

    type: Literal["between"] = "between"
    from_step: Annotated[int, Field(ge=0)] = 0
    until_step: PositiveInt | None = None
    """None: until the run ends."""

    @model_validator(mode="after")
    def _holds_somewhere_but_not_everywhere(self) -> Between:
        if self.until_step is None:
            if self.from_step == 0:
                raise ValueError("from step 0 until the end is type: always")
        elif self.until_step <= self.from_step:
            raise ValueError(f"until_step ({self.until_step}) must be after from_step ({self.from_step})")
        return self


When = Annotated[Always | Cycle | Between, Field(discriminator="type")]
