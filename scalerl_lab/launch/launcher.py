"""What every launcher promises: start trials, tell when they end, stop them, give resources back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scalerl_lab.config.recipe import Resources


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """A trial to execute."""

    run_id: str
    trial: int
    folder: Path
    cache: Path
    resources: Resources
    code_version: str
    label: str
    """Arm and seed, for people."""


@dataclass(frozen=True, slots=True)
class TrialOver:
    """A trial's process is done with it and its resources are free again."""

    run_id: str
    trial: int
    error: str | None
    """None when the trial ended by itself; what it left in its folder says how."""


class Launcher(Protocol):
    """Executes trials somewhere.

    A request is executed once. Trials start in the order in which they were requested, as many at a
    time as the resources allow. ``over`` returns each trial's end once. ``stop`` is for a trial that
    does not heed its orders: it takes the process and frees the resources. ``close`` ends all.
    """

    def start(self, request: TrialRequest) -> None:
        """Queue a trial."""

    def over(self) -> list[TrialOver]:
        """Trials that ended since the last call; never blocks."""

    def stop(self, run_id: str) -> None:
        """Take down a run's trial, whatever it is doing."""

    def close(self) -> None:
        """End everything that is still running, and give back what was reserved."""
