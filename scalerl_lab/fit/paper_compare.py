"""How the paper compares runs: the margin of a ceiling from replicates, and B at a common ceiling.

Two ceilings that differ by no more than the margin count as alike; both runs are then refitted at their
mean, and the one with the higher B is at least as good. B at different ceilings is not comparable: one and
the same curve has a higher B under a lower ceiling.

Source: ScaleRL (arXiv 2510.13786) A.5 for the margin and the rule, figure 7 for the slope.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scalerl_lab.fit.law import Floats

PUBLISHED_MARGIN = 0.02
"""Three runs of the published recipe lay within 0.015 of each other's mean; the paper uses 0.02."""
_STEP = 0.01


@dataclass(frozen=True, slots=True)
class Replicates:
    """Ceilings of runs that differ in nothing but their seed."""

    mean: float
    spread: float
    """The largest distance of a ceiling from the mean."""
    margin: float
    """The spread, rounded up to the next hundredth."""


@dataclass(frozen=True, slots=True)
class Slope:
    """The straight line of log F against log C."""

    B: float
    C_mid: float
    points: int
    """Points strictly between R0 and the ceiling: only there is F a number."""


def ceiling_margin(ceilings: Sequence[float]) -> Replicates:
    """How far a ceiling may be off for no reason but the seed.

    Raises:
        ValueError: there are fewer than two replicates.

    Worked number: 0.600, 0.605 and 0.625 have mean 0.610, spread 0.015 and margin 0.02.
    """
    if len(ceilings) < 2:
        raise ValueError("a margin needs at least two replicates")
    mean = math.fsum(ceilings) / len(ceilings)
    spread = max(abs(A - mean) for A in ceilings)
    # Less a rounding: a spread of 0.02 has margin 0.02.
    return Replicates(mean, spread, _STEP * math.ceil(spread / _STEP - 1e-9))


def slope_at_ceiling(gpu_hours: ArrayLike, pass_rate: ArrayLike, r0: float, ceiling: float) -> Slope | None:
    """B as the slope of log F(R) against log C at a held ceiling.

    F(R) = C_mid^B / ((A - R0) / (R - R0) - 1) equals C^B under the law, so that
    log((R - R0) / (A - R)) = B log C - B log C_mid, a line fitted by least squares.

    Returns:
        None where fewer than two points lie strictly between R0 and the ceiling, or their line falls.

    Source: ScaleRL (arXiv 2510.13786) figure 7.
    """
    hours, rates = np.asarray(gpu_hours, dtype=np.float64), np.asarray(pass_rate, dtype=np.float64)
    inside = (rates > min(r0, ceiling)) & (rates < max(r0, ceiling)) & (hours > 0.0)
    if np.unique(hours[inside]).size < 2:
        return None
    x: Floats = np.log(hours[inside])
    y: Floats = np.log((rates[inside] - r0) / (ceiling - rates[inside]))
    centred = x - x.mean()
    B = float(centred @ y / (centred @ centred))
    if B <= 0.0:
        return None
    return Slope(B, float(np.exp(x.mean() - y.mean() / B)), int(inside.sum()))


def common_ceiling(first: float, second: float, margin: float = PUBLISHED_MARGIN) -> float | None:
    """The mean of two ceilings at which B may be compared; None where they differ by more than the margin.

    Worked number: 0.610 and 0.595 give 0.6025 with margin 0.02; 0.645 and 0.610 give None.
    """
    if abs(first - second) > margin + 1e-9:
        return None
    return (first + second) / 2.0
