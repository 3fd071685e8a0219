"""What a scheduler knows of a trial, and how it reads a tool's results and configs."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scalerl_lab.plugins.trial_log import Order
from scalerl_lab.plugins.verdict import History, Verdict, has_diverged, thinned


@dataclass(slots=True)
class Tracked:
    """What the scheduler knows of a trial."""

    control: bool = False
    compute: array[float] = field(default_factory=lambda: array("d"))
    """Strictly increasing."""
    value: array[float] = field(default_factory=lambda: array("d"))
    bad_compute: array[float] = field(default_factory=lambda: array("d"))
    """Of the newest values, those that are no finite numbers, since the last one that was."""
    bad_value: array[float] = field(default_factory=lambda: array("d"))
    ended: bool = False
    failed: bool = False
    order: Order = Order.GO_ON
    verdict: Verdict | None = None
    looked_at: float = 0.0
    """Compute at the last look."""
    version: int = -1
    """Of what was known at the last look."""

    def add(self, compute: float, value: float) -> None:
        """A value, a point if it is finite. A trial that goes back goes on from a checkpoint: what it
        reported later is void."""
        bad = not math.isfinite(value)
        _cut(self.compute, self.value, compute)
        _cut(self.bad_compute, self.bad_value, compute if bad else -math.inf)
        computes, values = (self.bad_compute, self.bad_value) if bad else (self.compute, self.value)
        computes.append(compute)
        values.append(value)
        self.looked_at = min(self.looked_at, compute)

    @property
    def newest(self) -> tuple[float, float] | None:
        """Compute and value that were added last."""
        if self.bad_compute:
            return self.bad_compute[-1], self.bad_value[-1]
        return (self.compute[-1], self.value[-1]) if self.compute else None

    @property
    def diverged(self) -> bool:
        """Whether its newest values are no finite numbers."""
        return has_diverged(self.bad_value)

    @property
    def live(self) -> bool:
        """Whether it still gets compute, or may again."""
        return not (self.ended or self.failed or self.order is Order.STOP)

    def history(self, name: str) -> History:
        """As ``judge`` takes it."""
        points = thinned(np.asarray(self.compute), np.asarray(self.value))
        lost = self.failed or self.order is not Order.GO_ON
        return History(name, points, runs=self.live, lost=lost, control=self.control, diverged=self.diverged)


def _cut(computes: array[float], values: array[float], compute: float) -> None:
    """Drop what was reported at a compute or later."""
    while computes and computes[-1] >= compute:
        computes.pop()
        values.pop()


def matches(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a config has all wanted values; "a/b" reaches into nested ones."""
    for path, value in wanted.items():
        found: Any = config
        for key in path.split("/"):
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is None or not bool(np.all(found == value)):
            return False
    return True


def number_of(value: Any) -> float | None:
    """A number of any type that is one, nan and the infinite ones included, else None."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
