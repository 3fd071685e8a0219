"""What a scheduler knows of a trial, and how it reads a tool's results and configs."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scalerl_lab.plugins.trial_log import Order
from scalerl_lab.plugins.verdict import History, Verdict, thinned


@dataclass(slots=True)
class Tracked:
    """What the scheduler knows of a trial."""

    control: bool = False
    compute: array[float] = field(default_factory=lambda: array("d"))
    """Strictly increasing."""
    value: array[float] = field(default_factory=lambda: array("d"))
    ended: bool = False
    failed: bool = False
    order: Order = Order.GO_ON
    verdict: Verdict | None = None
    looked_at: float = 0.0
    """Compute at the last look."""
    version: int = -1
    """Of what was known at the last look."""

    def add(self, compute: float, value: float) -> None:
        """A point. A trial that goes back goes on from a checkpoint: its later points are void."""
        while self.compute and self.compute[-1] >= compute:
            self.compute.pop()
            self.value.pop()
        self.compute.append(compute)
        self.value.append(value)
        self.looked_at = min(self.looked_at, compute)

    @property
    def live(self) -> bool:
        """Whether it still gets compute, or may again."""
        return not (self.ended or self.failed or self.order is Order.STOP)

    def history(self, name: str) -> History:
        """As ``judge`` takes it."""
        points = thinned(np.asarray(self.compute), np.asarray(self.value))
        lost = self.failed or self.order is not Order.GO_ON
        return History(name, points, runs=self.live, lost=lost, control=self.control)


def matches(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a config has all wanted values; "a/b" reaches into nested ones."""
    for path, value in wanted.items():
        found: Any = config
        for key in path.split("/"):
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is None or not bool(np.all(found == value)):
            return False
    return True


def finite_number(value: Any) -> float | None:
    """A finite number of any type that is one, else None."""
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return number if math.isfinite(number) else None
