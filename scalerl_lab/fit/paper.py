"""The fit of the ScaleRL paper: least squares on a grid of ceilings and midpoints, for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scalerl_lab.fit.law import Floats

PAPER_CEILINGS = tuple(round(0.45 + 0.005 * step, 3) for step in range(71))
"""0.450, 0.455, ..., 0.800 (A.5)."""
PAPER_MIDPOINTS = tuple(float(value) for value in np.linspace(100.0, 4000.0, 100))
"""The grid on which the published midpoints of the 8B runs lie; A.5 prints 40,000 for its end."""
_B_RANGE = (1e-3, 50.0)


@dataclass(frozen=True, slots=True)
class PaperFit:
    """The least-squares point of the grid."""

    A: float
    B: float
    C_mid: float
    rmse: float
    at_edge: bool
    """Whether the best ceiling or midpoint is the first or last of its grid: then it says nothing."""


def paper_fit(
    gpu_hours: ArrayLike,
    pass_rate: ArrayLike,
    r0: float,
    *,
    ceilings: Sequence[float] = PAPER_CEILINGS,
    midpoints: Sequence[float] = PAPER_MIDPOINTS,
) -> PaperFit:
    """The pair (A, C_mid) of a grid with the smallest sum of squares, B being fitted for each pair.

    Args:
        gpu_hours: N computes > 0, of the points past the fit start.
        pass_rate: N pass rates.
        r0: pass rate before training, held fixed.
        ceilings: grid of A.
        midpoints: grid of C_mid, in the unit of ``gpu_hours``.

    Raises:
        ValueError: there is no point.

    Source: ScaleRL (arXiv 2510.13786) A.5. The one-dimensional fit of B, there SciPy's ``curve_fit``
    from its default start, is done for all pairs at once by the same method (Levenberg-Marquardt on B).
    """
    hours, rates = np.asarray(gpu_hours, dtype=np.float64), np.asarray(pass_rate, dtype=np.float64)
    if hours.size == 0:
        raise ValueError("a fit needs at least one point")
    A, C_mid = (axis.ravel() for axis in np.meshgrid(ceilings, midpoints, indexing="ij"))
    log_ratio = np.log(C_mid[:, None] / hours)
    B, sse = _fit_efficiency(log_ratio, (A - r0)[:, None], rates - r0)
    best = int(np.argmin(sse))
    return PaperFit(
        A=float(A[best]),
        B=float(B[best]),
        C_mid=float(C_mid[best]),
        rmse=float(np.sqrt(sse[best] / hours.size)),
        at_edge=bool(A[best] in (ceilings[0], ceilings[-1]) or C_mid[best] in (midpoints[0], midpoints[-1])),
    )


def _fit_efficiency(
    log_ratio: Floats, gain: Floats, rise: Floats, iterations: int = 60
) -> tuple[Floats, Floats]:
    """Levenberg-Marquardt on B for all pairs: ([Q], [Q]) best B and its sum of squares."""

    def residual_and_share(B: Floats) -> tuple[Floats, Floats]:
        share = np.exp(-np.logaddexp(0.0, B[:, None] * log_ratio))
        return rise - gain * share, share

    B = np.ones(log_ratio.shape[0])
    damping = np.full_like(B, 1e-3)
    residual, share = residual_and_share(B)
    sse: Floats = np.einsum("qn,qn->q", residual, residual)
    for _ in range(iterations):
        slope = -gain * share * (1.0 - share) * log_ratio
        gradient = np.einsum("qn,qn->q", slope, residual)
        curvature = np.einsum("qn,qn->q", slope, slope) + 1e-30
        trial = np.clip(B + gradient / (curvature * (1.0 + damping)), *_B_RANGE)
        trial_residual, trial_share = residual_and_share(trial)
        trial_sse = np.einsum("qn,qn->q", trial_residual, trial_residual)
        better = trial_sse <= sse
        B, sse = np.where(better, trial, B), np.where(better, trial_sse, sse)
        residual = np.where(better[:, None], trial_residual, residual)
        share = np.where(better[:, None], trial_share, share)
        damping = np.clip(np.where(better, damping / 10.0, damping * 10.0), 1e-12, 1e12)
    return B, sse
