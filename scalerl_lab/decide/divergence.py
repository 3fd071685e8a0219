"""Divergence: what stops a run whatever its forecast says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scalerl_lab.config.sweep import Divergence
from scalerl_lab.decide.wording import hours
from scalerl_lab.fit.collapse import find_collapse
from scalerl_lab.fit.curve import Curve
from scalerl_lab.records import Cause, EvalPoint

_TRUNCATION_RISE = 0.1
_NOISE_OF_DIFFERENCE = math.sqrt(1.5)
"""Of one point and the mean of two, in units of a point's."""


@dataclass(frozen=True, slots=True)
class Diverged:
    """A run has diverged, and by what numbers."""

    cause: Cause
    why: str
    """A clause without its full stop."""


def find_divergence(points: Sequence[EvalPoint], limits: Divergence) -> Diverged | None:
    """Whether a run's points show a collapse, or its last two too much truncation.

    Collapse: the pass rate has fallen from its peak by a change-point that noise shows in fewer than
    one curve in a thousand (``fit.find_collapse``), and both last points lie below the peak by more
    than ``collapse_drop`` plus the noise of that difference.

    Truncation: both last points are truncated at more than ``truncation_rate``, and at least 0.1 more
    than the run's first point, so that a task that truncates from the start is no divergence.

    The answer depends on the points alone, not on earlier answers.

    Source: ScaleRL (arXiv 2510.13786) A.15: instability shows as truncation, not in the fit.
    """
    if len(points) < 3:
        return None
    return _collapse(points, limits) or _truncation(points, limits)


def _collapse(points: Sequence[EvalPoint], limits: Divergence) -> Diverged | None:
    before_last, last = points[-2].pass_rate, points[-1].pass_rate
    highest = max((point.pass_rate for point in points[:-2]), default=0.0)
    # No peak lies above the highest point: most looks at most runs end here.
    if not highest - max(before_last, last) > limits.collapse_drop:
        return None
    fall = find_collapse(
        Curve.of(
            "",
            [point.gpu_hours for point in points],
            [point.pass_rate for point in points],
            se=[point.pass_rate_se for point in points],
        )
    )
    if fall is None:
        return None
    noise = _NOISE_OF_DIFFERENCE * fall.noise_sd
    if not fall.peak_value - max(before_last, last) > limits.collapse_drop + noise:
        return None
    return Diverged(
        Cause.COLLAPSED,
        f"the pass rate fell from {fall.peak_value:.3f} at {hours(fall.began_compute)} GPU-hours to "
        f"{before_last:.3f} and {last:.3f} at the last two points, more than {limits.collapse_drop:g} "
        f"beyond noise ({fall.z:.1f} standard deviations)",
    )


def _truncation(points: Sequence[EvalPoint], limits: Divergence) -> Diverged | None:
    first = points[0].truncation_rate
    for point in points[-2:]:
        rate = point.truncation_rate
        if rate <= limits.truncation_rate or rate < first + _TRUNCATION_RISE:
            return None
    before_last, last = points[-2].truncation_rate, points[-1].truncation_rate
    return Diverged(
        Cause.TRUNCATED,
        f"{before_last:.0%} and {last:.0%} of completions ended at the limit at the last two points, "
        f"up from {first:.0%} at the start and above {limits.truncation_rate:.0%}",
    )
