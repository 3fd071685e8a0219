"""From a run's measured points to the curve that a fit is given."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scalerl_lab.fit.curve import Curve
from scalerl_lab.records import EvalPoint

_SMALLEST_SE = 0.001
PASS_RATES = (0.0, 1.0)


def is_start(point: EvalPoint) -> bool:
    """Whether the point was measured before any training."""
    return point.step <= 0 or point.gpu_hours <= 0.0


def num_in_window(points: Sequence[EvalPoint], fit_start_gpu_hours: float) -> int:
    """How many points of training lie at or after the fit start."""
    return sum(p.gpu_hours >= fit_start_gpu_hours and not is_start(p) for p in points)


def curve_of(run_id: str, points: Sequence[EvalPoint], fit_start_gpu_hours: float) -> Curve:
    """The points at and after the fit start as a curve; the step-0 point is its start."""
    usable = [p for p in points if math.isfinite(p.gpu_hours) and math.isfinite(p.pass_rate)]
    starts = sorted((p for p in usable if is_start(p)), key=lambda p: (p.gpu_hours, p.step, p.pass_rate))
    trained = [p for p in usable if not is_start(p)]
    return Curve.of(
        run_id,
        [p.gpu_hours for p in trained],
        [p.pass_rate for p in trained],
        se=[_sampling_error(p) for p in trained],
        r0=starts[0].pass_rate if starts else None,
        r0_se=math.sqrt(2.0) * _sampling_error(starts[0]) if starts else None,
        bounds=PASS_RATES,
    ).between(fit_start_gpu_hours, None)


def _sampling_error(point: EvalPoint) -> float:
    """The point's standard error; where it is 0 (all right, all wrong, unknown), one from its counts."""
    if math.isfinite(point.pass_rate_se) and point.pass_rate_se > 0.0:
        return min(max(point.pass_rate_se, _SMALLEST_SE), 1.0)
    samples = max(point.num_samples, 0)
    # One right and one wrong sample more: an unbroken row of successes is not certainty.
    share = (min(max(point.pass_rate, 0.0), 1.0) * samples + 1.0) / (samples + 2.0)
    return max(math.sqrt(share * (1.0 - share) / (samples + 2.0)), _SMALLEST_SE)
