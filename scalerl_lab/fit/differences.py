"""Differences between two arms or two runs of a sweep, from their joint draws.

Draw k of one belongs to draw k of the other: what both share, as the noise or the spread between seeds,
does not widen the difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit.courses import LawDraws, drawn_curves
from scalerl_lab.fit.fitted import QUANTILES, FittedCurve, interval_of
from scalerl_lab.fit.law import Floats
from scalerl_lab.records import Interval

_NARROWEST = 1e-12


@dataclass(frozen=True, slots=True)
class Difference:
    """A quantity of an arm minus that of another."""

    draws: Floats
    """[K] equally probable values; infinite where only one of the two has the quantity."""

    @property
    def interval(self) -> Interval:
        """Median with central intervals; an end is infinite where as many draws are."""
        if np.isfinite(self.draws).all():
            return interval_of(self.draws)
        # Interpolation must not touch infinite values.
        low95, low80, median, high80, high95 = (
            float(q) for q in np.quantile(self.draws, QUANTILES, method="inverted_cdf")
        )
        return Interval(median=median, low80=low80, high80=high80, low95=low95, high95=high95)

    def probability_below(self, bound: float) -> float:
        """P(difference < bound)."""
        return probability_below(self.draws, bound)

    def probability_above(self, bound: float) -> float:
        """P(difference > bound)."""
        return 1.0 - self.probability_below(bound)


def probability_below(draws: Floats, bound: float) -> float:
    """P(value < bound) from K equally probable values, each widened a little so that there are no steps.

    A normal of Silverman's width 0.9 min(sd, IQR / 1.34) K^(-1/5) stands for each finite value.

    Source: Silverman (1986), Density Estimation, equation 3.31.
    """
    from scipy import special

    finite = np.isfinite(draws)
    values = draws[finite]
    below = float(np.count_nonzero(draws == -np.inf))
    if values.size:
        quarter, three_quarters = np.quantile(values, (0.25, 0.75))
        spread = min(float(values.std()), float(three_quarters - quarter) / 1.34)
        width = max(0.9 * spread * values.size**-0.2, _NARROWEST)
        below += float(special.ndtr((bound - values) / width).sum())
    return min(below / draws.size, 1.0)


def pass_rate_difference(arm: LawDraws, other: LawDraws, gpu_hours: float) -> Difference:
    """Pass rate of an arm's curve at a compute minus that of another's."""
    of_arm, of_other = (drawn_curves(draws, gpu_hours)[:, 0] for draws in (arm, other))
    return Difference(of_arm - of_other)


def log_hours_ratio(arm: Floats, other: Floats) -> Difference | None:
    """log(GPU-hours of an arm to a level / those of another); below 0 the arm is the faster one.

    Args:
        arm: [K] joint draws of its hours, infinite where it does not arrive.
        other: [K] those of the other.

    Returns:
        Infinite in draws in which only one arrives; draws in which neither does are left out. None where
        neither ever does.
    """
    of_arm, of_other = (np.log(np.maximum(hours, _NARROWEST)) for hours in (arm, other))
    arrives = ~(np.isinf(of_arm) & np.isinf(of_other))
    return Difference(of_arm[arrives] - of_other[arrives]) if arrives.any() else None


def probability_ends_above(run: FittedCurve, other: FittedCurve, gpu_hours: float) -> float | None:
    """P(a run's curve lies above another's at a compute), from fits of one sweep.

    Returns:
        None where one of them has no posterior.
    """
    of_run, of_other = run.curves([gpu_hours]), other.curves([gpu_hours])
    if of_run is None or of_other is None:
        return None
    return 1.0 - probability_below(of_run[:, 0] - of_other[:, 0], 0.0)
