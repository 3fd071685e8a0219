"""Divergence: what stops a run whatever its forecast says."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from scalerl_lab.config.sweep import Divergence
from scalerl_lab.decide.wording import hours
from scalerl_lab.records import Cause, EvalPoint

_TRUNCATION_RISE = 0.1


@dataclass(frozen=True, slots=True)
class Diverged:
    """A run has diverged, and by what numbers."""

    cause: Cause
    why: str
    """A clause without its full stop."""


def find_divergence(points: Sequence[EvalPoint], limits: Divergence) -> Diverged | None:
    """Whether a run's last two points show a collapse or too much truncation.

    Collapse: both lie below the peak by more than ``collapse_drop`` plus the noise of that difference.
    The peak is the highest mean of two successive points, so that one lucky point is no peak; the noise
    of a point is its standard error, or the curve's own jitter where that is larger.

    Truncation: both are truncated at more than ``truncation_rate``, and at least 0.1 more than the
    run's first point, so that a task that truncates from the start is no divergence.

    Source: ScaleRL (arXiv 2510.13786) A.15: instability shows as truncation, not in the fit.
    """
    if len(points) < 3:
        return None
    return _collapse(points, limits) or _truncation(points, limits)


def _collapse(points: Sequence[EvalPoint], limits: Divergence) -> Diverged | None:
    pairs = [(first.pass_rate + second.pass_rate) / 2.0 for first, second in pairwise(points)]
    # The peak lies before the two points that are to have fallen from it.
    before = pairs[:-2] or [points[0].pass_rate]
    place = max(range(len(before)), key=before.__getitem__)
    peak, peak_hours = before[place], points[min(place + 1, len(points) - 3)].gpu_hours
    jitter = _jitter(points[:-2])
    for point in points[-2:]:
        noise = math.sqrt(1.5) * max(point.pass_rate_se, jitter)
        if peak - point.pass_rate <= limits.collapse_drop + noise:
            return None
    last, before_last = points[-1], points[-2]
    return Diverged(
        Cause.COLLAPSED,
        f"the pass rate fell from {peak:.3f} at {hours(peak_hours)} GPU-hours to {before_last.pass_rate:.3f} "
        f"and {last.pass_rate:.3f} at the last two points, more than {limits.collapse_drop:g} beyond noise",
    )


def _jitter(points: Sequence[EvalPoint]) -> float:
    """Standard deviation of one point about its neighbours' trend, robust to a few steps: from the median
    of absolute second differences, whose noise is sqrt(6) times a point's."""
    rates = [point.pass_rate for point in points]
    seconds = [abs(a - 2.0 * b + c) for a, b, c in zip(rates, rates[1:], rates[2:], strict=False)]
    return 1.4826 * statistics.median(seconds) / math.sqrt(6.0) if len(seconds) >= 3 else 0.0


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
