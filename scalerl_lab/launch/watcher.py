"""What the driver tells of a sweep while it runs; how that is shown is not its affair."""

from __future__ import annotations

from typing import Protocol

from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import ProgressView


class Watcher(Protocol):
    """Shows a sweep as it goes."""

    def started(self, plan: SweepPlan, headline: list[str]) -> None:
        """The plan is on record; nothing has been spent yet."""

    def update(self, view: ProgressView) -> None:
        """Something may have changed; called about twice a second."""

    def said(self, sentence: str) -> None:
        """Something happened that a person should read."""
