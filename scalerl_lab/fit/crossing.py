"""At which compute one arm overtakes another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit.courses import LawDraws, drawn_curves
from scalerl_lab.fit.differences import probability_below
from scalerl_lab.fit.fitted import interval_of
from scalerl_lab.fit.law import Floats
from scalerl_lab.records import Interval

_GRID = 257


@dataclass(frozen=True, slots=True)
class Crossing:
    """When an arm gets ahead of another for good, within a range of compute.

    The three probabilities sum to 1.
    """

    probability: float
    """That it gets ahead within the range and is ahead at its end."""
    ahead: float
    """That it is ahead throughout."""
    behind: float
    """That it is behind, or level, at the range's end."""
    gpu_hours: Interval | None
    """Where, given that it gets ahead within the range; None where that has no draw."""

    drawn: Floats
    """[K'] equally probable computes at which it gets ahead within the range."""

    def probability_by(self, gpu_hours: float) -> float:
        """P(the arm is ahead for good from this compute of the range on)."""
        if not self.drawn.size:
            return self.ahead
        return self.ahead + self.probability * probability_below(np.log(self.drawn), math.log(gpu_hours))


def crossing(arm: LawDraws, other: LawDraws, after: float, until: float) -> Crossing:
    """At which compute an arm overtakes another: the last time that it gets ahead.

    Args:
        arm: joint draws of the arm.
        other: of the other, draw by draw.
        after: first compute of the range, > 0.
        until: its last, > ``after``.

    Source of the question: ScaleRL (arXiv 2510.13786) figures 9 and 10: long contexts and large batches
    start slower and end higher.
    """
    if not 0.0 < after < until:
        raise ValueError(f"the range must ascend from above 0, got {after} to {until}")
    hours = np.geomspace(after, until, _GRID)
    return crossing_of_curves(hours, drawn_curves(arm, hours), drawn_curves(other, hours))


def crossing_of_curves(gpu_hours: Floats, arm: Floats, other: Floats) -> Crossing:
    """The same for curves drawn together, [K, M], at M increasing computes > 0, M at least 2."""
    gap = arm - other
    num, width = gap.shape
    level = gap <= 0.0
    # The last compute at which the arm is not ahead; -1 where it is ahead throughout.
    last = width - 1 - np.argmax(level[:, ::-1], axis=1)
    last = np.where(level.any(axis=1), last, -1)
    crosses = np.flatnonzero((last >= 0) & (last < width - 1))
    left = last[crosses]
    below, above = gap[crosses, left], gap[crosses, left + 1]
    log_hours = np.log(gpu_hours)
    share = below / (below - above)
    drawn = np.exp(log_hours[left] + share * (log_hours[left + 1] - log_hours[left]))
    return Crossing(
        probability=crosses.size / num,
        ahead=float(np.mean(last < 0)),
        behind=float(np.mean(last == width - 1)),
        gpu_hours=interval_of(drawn) if drawn.size else None,
        drawn=drawn,
    )
