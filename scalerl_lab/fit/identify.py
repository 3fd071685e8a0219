"""Whether a posterior says where the ceiling is, and the sentence that says why or why not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import pass_rate
from scalerl_lab.fit.posterior import Draws
from scalerl_lab.records import FitStatus

_MAX_EDGE_MASS = 0.05
_MAX_MASS_AT_BOUND = 0.05
_NEAR_BOUND = 0.01


@dataclass(frozen=True, slots=True)
class Limits:
    """What is demanded of an identified ceiling."""

    min_points: int = 6
    min_window_midpoints: float = 2.0
    """How many midpoints (half of the gain) the window must reach: ScaleRL's curves take 2 to 2.5."""
    max_ceiling_width: float = 0.12
    """Of the 80 % interval, as a share of the span of possible values, or of those seen."""


def too_few(num_points: int, limits: Limits) -> str | None:
    """Why a window has too few points for any fit, or None."""
    if num_points >= limits.min_points:
        return None
    noun = "point" if num_points == 1 else "points"
    return f"{num_points} {noun} to fit, {limits.min_points} demanded."


def identify(curve: Curve, draws: Draws, limits: Limits) -> tuple[FitStatus, str]:
    """Status of the ceiling with one sentence that holds the numbers.

    A ceiling is identified when the window reaches ``min_window_midpoints`` midpoints (the posterior
    median), its 80 % interval is narrow enough, it is not piled up at the upper bound, and the grid
    did not cut the posterior off.
    """
    few = too_few(curve.value.size, limits)
    if few is not None:
        return FitStatus.TOO_FEW_POINTS, few
    last = float(curve.compute[-1])
    reach = last / float(np.median(draws.C_mid))
    low, high = (float(q) for q in np.quantile(draws.A, (0.1, 0.9)))
    span = curve.bounds[1] - curve.bounds[0] if curve.bounds is not None else _seen(curve)
    widest = limits.max_ceiling_width * span
    level = float(np.median(pass_rate(last, draws.r0, draws.A, draws.B, draws.C_mid)))
    top = curve.bounds[1] if curve.bounds is not None else np.inf
    at_top = float(np.mean(top - draws.A <= _NEAR_BOUND * span))
    range80 = f"[{low:.3f}, {high:.3f}]"
    missing = None
    if reach < limits.min_window_midpoints:
        missing = (
            f"the window ends at {reach:.1f} midpoints, {limits.min_window_midpoints:g} demanded; "
            f"the ceiling's 80 % interval is {range80}."
        )
    elif high - low > widest:
        missing = (
            f"the ceiling's 80 % interval {range80} is {high - low:.3f} wide, at most {widest:.3g} allowed."
        )
    elif at_top > _MAX_MASS_AT_BOUND and top - level > widest:
        missing = (
            f"with probability {at_top:.2f} the ceiling is {top:g}, where only the bound holds it, "
            f"while the curve is at {level:.3f}."
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
        f"is {high - low:.3f} wide."
    )


def _seen(curve: Curve) -> float:
    """Span of the values seen."""
    values = curve.value if curve.r0 is None else np.append(curve.value, curve.r0)
    return float(np.ptp(values))
