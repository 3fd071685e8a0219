"""What the driver shows of a sweep at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import Fit, Forecast, RunState
from scalerl_lab.store import BudgetView


@dataclass(frozen=True, slots=True)
class Board:
    """A sweep at one moment."""

    plan: SweepPlan
    runs: tuple[RunState, ...]
    fits: Mapping[str, tuple[Fit, tuple[Forecast, ...]]]
    gpu_hours_now: Mapping[str, float]
    """Run id -> training compute up to its last finished step, ahead of its last point."""
    live: frozenset[str]
    """Runs that a worker executes, or waits to."""
    budget: BudgetView
    elapsed_s: float
    left_s: float | None
    """Estimate, once there is a rate to go by."""


class Watcher(Protocol):
    """Shows a sweep as it goes."""

    def started(self, plan: SweepPlan, headline: list[str]) -> None:
        """The plan is on record; nothing has been spent yet."""

    def update(self, board: Board) -> None:
        """Something may have changed; called about twice a second."""

    def said(self, sentence: str) -> None:
        """Something happened that a person should read."""
