"""GPU-hours to a common level, and what efficiency is at a common ceiling.

Efficiency B alone does not say who is faster: B and C_mid trade off. So arms are compared by the compute
at which they reach one common level, and B is shown beside it, refitted at the pooled ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit import CeilingRefit, PooledCeiling, interval_of, log_hours_ratio
from scalerl_lab.records import Interval
from scalerl_lab.report.verdict import SPEED_FACTOR, Speed


@dataclass(frozen=True, slots=True)
class Hours:
    """GPU-hours to a level: median and central 80 %; None where the level is not reached."""

    median: float | None
    low80: float | None
    high80: float | None


def hours_to_level(arm: PooledCeiling, level: float) -> Hours:
    """GPU-hours at which an arm reaches a level."""
    hours = arm.hours_to(level)
    low, median, high = np.quantile(hours, (0.1, 0.5, 0.9), method="inverted_cdf")
    return Hours(_finite(median), _finite(low), _finite(high))


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else float(value)


def compare(arm: PooledCeiling, control: PooledCeiling, level: float) -> Speed | None:
    """How an arm's GPU-hours to a level relate to the control's, from joint draws of both.

    Draws of arms know the spread between seeds: an arm with one seed has it from its siblings.
    """
    ratio = log_hours_ratio(arm.hours_to(level), control.hours_to(level))
    if ratio is None:
        return None
    bound = math.log(SPEED_FACTOR)
    return Speed(
        factor=math.exp(float(np.quantile(ratio.draws, 0.5, method="inverted_cdf"))),
        probability_faster=ratio.probability_below(-bound),
        probability_slower=ratio.probability_above(bound),
    )


def pooled_efficiency(refits: Sequence[CeilingRefit]) -> Interval:
    """B over the seeds of an arm: the geometric mean, draw by draw."""
    logs = [
        np.random.default_rng(place).permutation(np.log(refit.draws.B)) for place, refit in enumerate(refits)
    ]
    return interval_of(np.exp(np.mean(logs, axis=0)))
