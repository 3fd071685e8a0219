"""Whether a posterior says where the ceiling is, and the sentence that says why or why not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import pass_rate
from scalerl_lab.fit.posterior import Draws
from scalerl_lab.records import FitStatus

_LEAST_LAWFUL = 0.8
"""Least probability that the curve follows the law at all: else there is no ceiling to speak of."""
_MAX_EDGE_MASS = 0.05
_MAX_MASS_AT_BOUND = 0.05
_NEAR_BOUND = 0.01
_SEEN_SPANS = 5.0
"""The published gain of 0.2 is a fifth of what a pass rate can be: no more than so many times what was seen
counts as possible, so that bounds far away do not make a wide interval look narrow."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is demanded of an identified ceiling."""

    min_points: int = 6
    min_window_midpoints: float = 2.0
    """How many midpoints (half of the gain) the window must reach: ScaleRL's curves take 2 to 2.5."""
    max_ceiling_width: float = 0.12
    """Of the 80 % interval, as a share of the span of possible values, at most five times that of those
    seen; without bounds of that."""


def too_few(num_points: int, limits: Limits) -> str | None:
    """Why a window has too few points for any fit, or None."""
    if num_points >= limits.min_points:
        return None
    noun = "point" if num_points == 1 else "points"
    return f"{num_points} {noun} to fit, {limits.min_points} demanded."


def identify(curve: Curve, draws: Draws, limits: Limits) -> tuple[FitStatus, str]:
    """Status of the ceiling with one sentence that holds the numbers.

    A ceiling is identified when the curve follows the law with probability 0.8, the window reaches
    ``min_window_midpoints`` midpoints (the posterior median), its 80 % interval is narrow enough, it is not
    piled up at the upper bound, and the grid did not cut the posterior off. What concerns the law is read
    off draws that follow it.
    """
    few = too_few(curve.value.size, limits)
    if few is not None:
        return FitStatus.TOO_FEW_POINTS, few
    lawful = float(draws.lawful.mean())
    if lawful < _LEAST_LAWFUL:
        return FitStatus.NOT_IDENTIFIED, (
            f"with probability {_of_line(1.0 - lawful)} the curve is a level or a line in log compute, "
            "which has no ceiling."
        )
    law = draws.lawful
    last = float(curve.compute[-1])
    reach = last / float(np.median(draws.C_mid[law]))
    low, high = (float(q) for q in np.quantile(draws.A, (0.1, 0.9)))
    span = _span(curve)
    widest = limits.max_ceiling_width * span
    level = float(np.median(pass_rate(last, draws.r0[law], draws.A[law], draws.B[law], draws.C_mid[law])))
    top = curve.bounds[1] if curve.bounds is not None else np.inf
    at_top = float(np.mean(top - draws.A[law] <= _NEAR_BOUND * span))
    digits = _decimals(high - low)
    range80 = f"[{_number(low, digits)}, {_number(high, digits)}]"
    width = _number(high - low, digits)
    missing = None
    if reach < limits.min_window_midpoints:
        missing = (
            f"the window ends at {_below(reach)} midpoints, {limits.min_window_midpoints:g} demanded; "
            f"the ceiling's 80 % interval is {range80}."
        )
    elif high - low > widest:
        missing = f"the ceiling's 80 % interval {range80} is {width} wide, at most {widest:.3g} allowed."
    elif at_top > _MAX_MASS_AT_BOUND and top - level > widest:
        missing = (
            f"with probability {at_top:.2f} the ceiling is {top:g}, where only the bound holds it, "
            f"while the curve is at {_number(level, _decimals(top - level))}."
        )
    elif draws.edge_mass > _MAX_EDGE_MASS:
        missing = (
            f"with probability {draws.edge_mass:.2f} the midpoint or the efficiency lies "
            "at the edge of what was searched."
        )
    if missing is not None:
        return FitStatus.NOT_IDENTIFIED, missing
    return FitStatus.IDENTIFIED, (
        f"the window ends at {reach:.1f} midpoints, and the ceiling's 80 % interval {range80} "
        f"is {width} wide."
    )


def _span(curve: Curve) -> float:
    """Span of the values that are taken to be possible."""
    values = curve.value if curve.r0 is None else np.append(curve.value, curve.r0)
    seen = float(np.ptp(values))
    if curve.bounds is None:
        return seen
    return min(curve.bounds[1] - curve.bounds[0], _SEEN_SPANS * seen)


def _below(reach: float) -> str:
    """Midpoints with one decimal, rounded down: 1.96 is not 2."""
    return f"{math.floor(10.0 * reach + 1e-9) / 10.0:.1f}"


def _of_line(probability: float) -> str:
    """A probability above 0.2 that never claims certainty."""
    return "above 0.99" if probability > 0.99 else f"{probability:.2f}"


def _decimals(span: float) -> int:
    """Three decimals as for pass rates; more where a span is too small for them, fewer where it is large."""
    if 0.01 <= span < 10.0 or not 0.0 < span < math.inf:
        return 3
    return min(15, max(0, 1 - math.floor(math.log10(span))))


def _number(value: float, digits: int) -> str:
    """A value with so many decimals; in powers of ten where those would not end."""
    small, large = 0.0 < abs(value) < 1e-6, abs(value) >= 1e8
    return f"{value:.3g}" if small or large else f"{value:.{digits}f}"
