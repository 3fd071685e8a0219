"""A sweep, resolved: every run that it asks for, in the order in which they start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scalerl_lab.config.profile import Profile
from scalerl_lab.config.sweep import Sweep
from scalerl_lab.records import PlannedRun, Role


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """A sweep under a profile, resolved into runs."""

    sweep_id: str
    sweep: Sweep
    """With the profile's overrides applied."""
    profile: Profile
    runs: tuple[PlannedRun, ...]
    """In the order in which they start: the control's seeds first."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms, the control first."""
        return tuple(dict.fromkeys(run.arm for run in self.runs))

    @property
    def control(self) -> str:
        """Name of the control."""
        return next(run.arm for run in self.runs if run.role is Role.CONTROL)

    def runs_of(self, arm: str) -> tuple[PlannedRun, ...]:
        """An arm's runs, one per seed."""
        return tuple(run for run in self.runs if run.arm == arm)

    @property
    def total_gpu_hours(self) -> float:
        """The sum of all runs' budgets."""
        return sum(run.budget_gpu_hours for run in self.runs)

    @property
    def sweep_gpu_hours(self) -> float:
        """What all runs together may use, extensions included."""
        cap = self.sweep.budget.sweep_gpu_hours
        return self.total_gpu_hours if cap is None else cap

    def cost(self, price_per_gpu_hour: float) -> float:
        """What the sweep costs at most, if nothing is killed."""
        return min(self.total_gpu_hours, self.sweep_gpu_hours) * price_per_gpu_hour

    @property
    def stand_in(self) -> str | None:
        """Name of the recipe that runs in place of the sweep's own at the profile's scale, if any."""
        running = next(run.spec.recipe.name for run in self.runs if run.role is Role.CONTROL)
        return None if running == Path(self.sweep.recipe).stem else running
