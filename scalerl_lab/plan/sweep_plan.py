"""A sweep, resolved: every run that it asks for, in the order in which they start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scalerl_lab.config.profile import Profile
from scalerl_lab.config.sweep import Search, SeedList, Sweep
from scalerl_lab.records import PlannedRun, Role


def seeds_of(given: int | SeedList) -> tuple[int, ...]:
    """The seeds that a count or a list of them means."""
    return tuple(range(given)) if isinstance(given, int) else given


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """A sweep under a profile, resolved into runs.

    The arms of a search are not known before it runs: its plan has the control's runs, and those of the
    proposals made so far.
    """

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
    def search(self) -> Search | None:
        """The question, where it is a search."""
        return self.sweep.question if isinstance(self.sweep.question, Search) else None

    @property
    def proposal_seeds(self) -> tuple[int, ...]:
        """Seeds of every proposal of a search."""
        return seeds_of(self.sweep.seeds.arm)

    @property
    def proposal_gpu_hours(self) -> float:
        """Budget of one proposal of a search, all its seeds together."""
        return len(self.proposal_seeds) * self.sweep.budget.run_gpu_hours

    @property
    def num_arms(self) -> int:
        """Arms in all, the control and the proposals to come included."""
        return len(self.arms) if self.search is None else 1 + self.search.arms

    @property
    def num_runs(self) -> int:
        """Runs in all, those of proposals to come included."""
        if self.search is None:
            return len(self.runs)
        return len(self.runs_of(self.control)) + self.search.arms * len(self.proposal_seeds)

    @property
    def total_gpu_hours(self) -> float:
        """The sum of all runs' budgets; of a search all proposals count, made or not."""
        if self.search is None:
            return sum(run.budget_gpu_hours for run in self.runs)
        control = sum(run.budget_gpu_hours for run in self.runs_of(self.control))
        return control + self.search.arms * self.proposal_gpu_hours

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
