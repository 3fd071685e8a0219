"""What arms are compared by, and with what: joint draws of the rule's quantity, larger is better.

GPU-hours to a level count as -log(hours), so that a difference is the log of a ratio and fewer hours are
more. Notation: K draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scalerl_lab.config.sweep import Ceiling, GpuHours, PassRate, Rule, ToBest, ToControl
from scalerl_lab.fit import Difference, PooledCeiling, drawn_curves, interval_of
from scalerl_lab.fit.law import Floats
from scalerl_lab.records import Interval

_LEAST_HOURS, _MOST_HOURS = 1e-12, 1e30


@dataclass(frozen=True, slots=True)
class Measure:
    """A rule's quantity of a run with a given budget."""

    rule: Rule
    budget_gpu_hours: float

    @property
    def name(self) -> str:
        """As the subject of a sentence."""
        match self.rule.quantity:
            case Ceiling():
                return "ceiling"
            case PassRate():
                return f"pass rate at {self.gpu_hours:,.6g} GPU-hours"
            case GpuHours(pass_rate=level):
                return f"compute to {level:g}"

    @property
    def gpu_hours(self) -> float:
        """Where the pass rate is compared."""
        quantity = self.rule.quantity
        at = quantity.gpu_hours if isinstance(quantity, PassRate) else None
        return self.budget_gpu_hours if at is None else at

    @property
    def margin(self) -> float:
        """The rule's margin in units of the draws."""
        return math.log1p(self.rule.margin) if self._is_hours else self.rule.margin

    def draws(self, arm: PooledCeiling) -> Floats:
        """[K] of an arm."""
        match self.rule.quantity:
            case Ceiling():
                return arm.draws
            case PassRate():
                return drawn_curves(arm.law, self.gpu_hours)[:, 0]
            case GpuHours(pass_rate=level):
                return _from_hours(arm.hours_to(level))

    def reference(self, arm: str, arms: Mapping[str, PooledCeiling], control: str) -> Floats | None:
        """[K] what an arm is compared with; None while nothing is known of it, or it is the arm itself."""
        match self.rule.reference:
            case ToControl():
                return self.draws(arms[control]) if arm != control and control in arms else None
            case ToBest():
                others = [self.draws(other) for name, other in arms.items() if name != arm]
                return np.max(others, axis=0) if others else None
            case level:
                if arm not in arms:
                    return None
                value = np.full(arms[arm].draws.size, level.value)
                return _from_hours(value) if self._is_hours else value

    def reference_known(self, arm: str, arms: Mapping[str, PooledCeiling], control: str) -> bool:
        """Whether the reference of an arm can be told: a level always, an arm once it is identified."""
        match self.rule.reference:
            case ToControl():
                return control in arms and arms[control].identified
            case ToBest():
                return any(other.identified for name, other in arms.items() if name != arm)
            case _:
                return True

    def shown(self, draws: Floats) -> Interval:
        """Their interval as people read it: pass rates, or GPU-hours."""
        return interval_of(np.exp(-draws) if self._is_hours else draws)

    def shown_difference(self, difference: Difference) -> Interval:
        """A difference as people read it: of pass rates, or GPU-hours saved as a share of the reference's."""
        return Difference(-np.expm1(-difference.draws)).interval if self._is_hours else difference.interval

    @property
    def _is_hours(self) -> bool:
        return isinstance(self.rule.quantity, GpuHours)


def _from_hours(gpu_hours: Floats) -> Floats:
    """-log(hours); a level that is never reached counts as one in the distant future."""
    values: Floats = -np.log(np.clip(gpu_hours, _LEAST_HOURS, _MOST_HOURS))
    return values
