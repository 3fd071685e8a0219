"""GPU-hours to a common level, and what efficiency is at a common ceiling.

Efficiency B alone does not say who is faster: B and C_mid trade off. So arms are compared by the compute
at which they reach one common level, and B is shown beside it, refitted at the pooled ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scalerl_lab.fit import CeilingRefit, FittedCurve, hours_to_reach, interval_of
from scalerl_lab.records import Interval
from scalerl_lab.report.verdict import SPEED_FACTOR, Speed

Floats = npt.NDArray[np.float64]

SEED_LOG_SD = 0.10
"""Spread between seeds of log(GPU-hours to a level) that is assumed before the control's seeds are seen."""
SEED_LOG_SD_WEIGHT = 2.0
"""As how many degrees of freedom that assumption counts."""


@dataclass(frozen=True, slots=True)
class Hours:
    """GPU-hours to a level: median and central 80 %; None where the level is not reached."""

    median: float | None
    low80: float | None
    high80: float | None


def log_hours(fitted: Sequence[FittedCurve], level: float) -> Floats | None:
    """Draws [K] of the seeds' mean log(GPU-hours to the level); infinite where it is not reached."""
    each = []
    for place, curve in enumerate(fitted):
        if (d := curve.draws) is None:
            continue
        hours = np.maximum(hours_to_reach(level, d.r0, d.A, d.B, d.C_mid), 1e-9)
        each.append(np.random.default_rng(place).permutation(np.log(hours)))
    return np.mean(each, axis=0) if each else None


def hours_interval(draws: Floats) -> Hours:
    """Draws of log(GPU-hours) in summary."""
    low, median, high = np.quantile(draws, (0.1, 0.5, 0.9), method="inverted_cdf")
    return Hours(_finite(median), _finite(low), _finite(high))


def _finite(log_value: float) -> float | None:
    return None if math.isinf(log_value) else math.exp(log_value)


def compare(arm: Sequence[FittedCurve], control: Sequence[FittedCurve], level: float) -> Speed | None:
    """How an arm's GPU-hours to a level relate to the control's, with the spread between seeds.

    The spread is the control's own between its seeds, shrunk to ``SEED_LOG_SD``; an arm with one seed has
    no other source for it.
    """
    of_arm, of_control = log_hours(arm, level), log_hours(control, level)
    if of_arm is None or of_control is None:
        return None
    sd = math.sqrt(_seed_variance(control, level) * (1.0 / len(arm) + 1.0 / len(control)))
    shuffled = np.random.default_rng(97).permutation(of_control)
    comparable = ~(np.isinf(of_arm) & np.isinf(shuffled))
    if not comparable.any():
        return None
    ratio = of_arm[comparable] - shuffled[comparable]
    bound = math.log(SPEED_FACTOR)
    return Speed(
        factor=math.exp(float(np.quantile(ratio, 0.5, method="inverted_cdf"))),
        probability_faster=float(np.mean([normal_cdf((-bound - r) / sd) for r in ratio])),
        probability_slower=float(np.mean([normal_cdf((r - bound) / sd) for r in ratio])),
    )


def _seed_variance(control: Sequence[FittedCurve], level: float) -> float:
    medians = []
    for curve in control:
        draws = log_hours([curve], level)
        if draws is not None and math.isfinite(median := float(np.median(draws))):
            medians.append(median)
    squares = float(np.square(np.array(medians) - np.mean(medians)).sum()) if medians else 0.0
    freedom = max(0, len(medians) - 1)
    return (SEED_LOG_SD_WEIGHT * SEED_LOG_SD**2 + squares) / (SEED_LOG_SD_WEIGHT + freedom)


def pooled_efficiency(refits: Sequence[CeilingRefit]) -> Interval:
    """B over the seeds of an arm: the geometric mean, draw by draw."""
    logs = [
        np.random.default_rng(place).permutation(np.log(refit.draws.B)) for place, refit in enumerate(refits)
    ]
    return interval_of(np.exp(np.mean(logs, axis=0)))


def pooled_midpoint(fitted: Sequence[FittedCurve]) -> Interval:
    """C_mid over the seeds of an arm, each at its own ceiling: the geometric mean, draw by draw."""
    logs = [
        np.random.default_rng(place).permutation(np.log(curve.draws.C_mid))
        for place, curve in enumerate(fitted)
        if curve.draws is not None
    ]
    return interval_of(np.exp(np.mean(logs, axis=0)))


def normal_cdf(z: float) -> float:
    """Standard normal distribution function."""
    return 0.5 * math.erfc(-z / math.sqrt(2.0))
