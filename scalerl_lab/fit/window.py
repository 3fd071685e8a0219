"""From a run's points to what a fit is given: the window, the noise expected of it, and the start.

Noise. A point's variance is phi (se_i^2 + mean se^2) / 2: half of it follows the point's own sampling
error and half is common to all points, as training moves the pass rate too. phi is unknown and at
least about 1; published residuals (sd 0.0045 where sampling explains about 0.0025) and tiny runs
(0.011 to 0.035 where it explains 0.012) put it between 1 and 8.

Start. R0 is the run's own measurement at step 0, with that point's error. A run without one (an
imported curve) has its R0 guessed from its points: with C_half where the curve crosses the middle of
its range, and B = 1.5, it has gained the share q = 1 / (1 + (C_half / C_first)^1.5) before its first
point, so R0 lies q / (1 - q) of the range below that point, give or take as much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit.law import Floats
from scalerl_lab.records import EvalPoint

_SMALLEST_SE = 0.001


@dataclass(frozen=True, slots=True)
class Window:
    """The points of a fit (N of them, ordered by compute) and its start.

    ``sd`` is relative: the noise of point i is sigma * sd[i], and sigma^2 is of the order
    ``noise_variance``. ``start_sd`` is relative to sigma in the same way.
    """

    gpu_hours: Floats
    pass_rate: Floats
    sd: Floats
    gaps: Floats
    """[N - 1] distances between neighbours in units of their median, for the correlation of residuals."""
    noise_variance: float
    start: float
    start_sd: float
    start_measured: bool


def is_start(point: EvalPoint) -> bool:
    """Whether the point was measured before any training."""
    return point.step <= 0 or point.gpu_hours <= 0.0


def read_window(points: Sequence[EvalPoint], fit_start_gpu_hours: float) -> Window | None:
    """The window of a fit: points at and after the fit start, and the step-0 point as the start.

    Returns:
        None where no point lies in the window.
    """
    usable = sorted(
        (p for p in points if math.isfinite(p.gpu_hours) and math.isfinite(p.pass_rate)),
        key=lambda p: (p.gpu_hours, p.step, p.pass_rate),
    )
    starts = [p for p in usable if is_start(p)]
    trained = [p for p in usable if not is_start(p)]
    inside = [p for p in trained if p.gpu_hours >= fit_start_gpu_hours]
    if not inside:
        return None
    variance = np.array([_sampling_error(p) ** 2 for p in inside])
    mean_variance = float(variance.mean())
    # The centre of the prior on phi is 2.
    noise_variance = 2.0 * mean_variance
    if starts:
        start = starts[0].pass_rate
        start_sd = math.sqrt((_sampling_error(starts[0]) ** 2 / mean_variance + 1.0) / 2.0)
    else:
        start, start_sd = _guess_start(trained, noise_variance)
    hours = np.array([p.gpu_hours for p in inside])
    return Window(
        gpu_hours=hours,
        pass_rate=np.array([p.pass_rate for p in inside]),
        sd=np.sqrt((variance / mean_variance + 1.0) / 2.0),
        gaps=_relative_gaps(hours),
        noise_variance=noise_variance,
        start=start,
        start_sd=start_sd,
        start_measured=bool(starts),
    )


def _sampling_error(point: EvalPoint) -> float:
    """The point's standard error; where it is 0 (all right, all wrong, unknown), one from its counts."""
    if math.isfinite(point.pass_rate_se) and point.pass_rate_se > 0.0:
        return min(max(point.pass_rate_se, _SMALLEST_SE), 1.0)
    samples = max(point.num_samples, 0)
    # One right and one wrong sample more: an unbroken row of successes is not certainty.
    share = (min(max(point.pass_rate, 0.0), 1.0) * samples + 1.0) / (samples + 2.0)
    return max(math.sqrt(share * (1.0 - share) / (samples + 2.0)), _SMALLEST_SE)


def _guess_start(trained: Sequence[EvalPoint], noise_variance: float) -> tuple[float, float]:
    """(R0, its sd relative to sigma) for a run without a step-0 point."""
    first = trained[0]
    span = max((p.pass_rate - first.pass_rate for p in trained), key=abs)
    half = next(p for p in trained if abs(p.pass_rate - first.pass_rate) >= abs(span) / 2.0)
    # A curve that crosses at its first point has no rise to speak of: the share is 1/2.
    share = 1.0 / (1.0 + min(half.gpu_hours / first.gpu_hours, 1e6) ** 1.5)
    shift = share / (1.0 - share) * span
    spread = math.hypot(shift, math.sqrt(noise_variance))
    return min(max(first.pass_rate - shift, 0.0), 1.0), spread / math.sqrt(noise_variance)


def _relative_gaps(hours: Floats) -> Floats:
    """Gaps over their median, kept within [1/4, 4] so that no two points count as one, or as strangers."""
    gaps: Floats = np.diff(hours)
    if gaps.size == 0:
        return gaps
    typical = float(np.median(gaps))
    if typical <= 0.0:
        return np.ones_like(gaps)
    relative: Floats = np.clip(gaps / typical, 0.25, 4.0)
    return relative
