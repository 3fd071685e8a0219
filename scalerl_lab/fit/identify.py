"""Whether a posterior says where the ceiling is, and the sentence that says why or why not."""

from __future__ import annotations

import numpy as np

from scalerl_lab.config.sweep import Rule
from scalerl_lab.fit.law import pass_rate
from scalerl_lab.fit.posterior import Draws
from scalerl_lab.fit.window import Window
from scalerl_lab.records import FitStatus, Interval

_MAX_EDGE_MASS = 0.05
_MAX_MASS_AT_ONE = 0.05


def too_few(num_points: int, rule: Rule) -> str | None:
    """Why a window has too few points for any fit, or None."""
    if num_points >= rule.min_points:
        return None
    noun = "point" if num_points == 1 else "points"
    return f"{num_points} {noun} past the fit start, {rule.min_points} demanded."


def identify(
    window: Window, draws: Draws, ceiling: Interval, midpoint: Interval, rule: Rule
) -> tuple[FitStatus, str]:
    """Status of the ceiling with one sentence that holds the numbers.

    A ceiling is identified when the window reaches ``rule.min_window_midpoints`` midpoints (the
    posterior median), its 80 % interval is at most ``rule.max_ceiling_width`` wide, it is not piled up
    at 1, and the grid did not cut the posterior off.
    """
    last = float(window.gpu_hours[-1])
    reach = last / midpoint.median
    width = ceiling.high80 - ceiling.low80
    level = float(np.median(pass_rate(last, draws.r0, draws.A, draws.B, draws.C_mid)))
    at_one = float(np.mean(draws.A >= 0.99))
    range80 = f"[{ceiling.low80:.3f}, {ceiling.high80:.3f}]"
    missing = None
    if reach < rule.min_window_midpoints:
        missing = (
            f"the window ends at {reach:.1f} midpoints, {rule.min_window_midpoints:g} demanded; "
            f"the ceiling's 80 % interval is {range80}."
        )
    elif width > rule.max_ceiling_width:
        missing = (
            f"the ceiling's 80 % interval {range80} is {width:.3f} wide, "
            f"at most {rule.max_ceiling_width:g} allowed."
        )
    elif at_one > _MAX_MASS_AT_ONE and 1.0 - level > rule.max_ceiling_width:
        missing = (
            f"with probability {at_one:.2f} the ceiling is 1, where only the bound of a pass rate holds it, "
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
        f"is {width:.3f} wide."
    )
