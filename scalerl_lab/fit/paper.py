"""The fit of the ScaleRL paper: least squares on a grid of ceilings and midpoints, for comparison."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scalerl_lab.fit.law import Floats

PAPER_CEILINGS = tuple(round(0.45 + 0.005 * step, 3) for step in range(71))
"""0.450, 0.455, ..., 0.800 (A.5)."""
PAPER_MIDPOINTS = tuple(float(value) for value in np.linspace(100.0, 4000.0, 100))
"""The grid on which the published midpoints of the 8B runs lie; A.5 prints 40,000 for its end."""
PAPER_LONG_MIDPOINTS = tuple(float(value) for value in np.linspace(4000.0, 40000.0, 100))
"""The grid on which those of the long runs lie (32k context, batch 2048)."""
_B_RANGE = (1e-3, 50.0)
_LOG_B: Floats = np.log(np.geomspace(0.02, 50.0, 80))
_NUM_REFINED = 64


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
    from its default start, is done for all pairs at once on a fine grid of B, and for the best of them
    by the same method (Levenberg-Marquardt on B).
    """
    hours, rates = np.asarray(gpu_hours, dtype=np.float64), np.asarray(pass_rate, dtype=np.float64)
    if hours.size == 0:
        raise ValueError("a fit needs at least one point")
    gains, log_midpoints = np.asarray(ceilings, dtype=np.float64) - r0, np.log(np.asarray(midpoints))
    a, c, B = _most_promising(np.log(hours), rates - r0, gains, log_midpoints)
    B, sse = _fit_efficiency(log_midpoints[c][:, None] - np.log(hours), gains[a][:, None], rates - r0, B)
    # Of pairs alike to the last digit the first in the grid's order is taken.
    best = int(np.lexsort((c, a, sse))[0])
    A, C_mid = float(ceilings[a[best]]), float(midpoints[c[best]])
    return PaperFit(
        A=A,
        B=float(B[best]),
        C_mid=C_mid,
        rmse=float(np.sqrt(sse[best] / hours.size)),
        at_edge=_at_edge(A, ceilings) or _at_edge(C_mid, midpoints),
    )


def paper_fit_literal(
    gpu_hours: ArrayLike,
    pass_rate: ArrayLike,
    r0: float,
    *,
    ceilings: Sequence[float] = PAPER_CEILINGS,
    midpoints: Sequence[float] = PAPER_MIDPOINTS,
) -> PaperFit:
    """``paper_fit`` as A.5 words it: one ``curve_fit`` of B from its default start for each pair.

    The yardstick of speed, and the proof that ``paper_fit`` finds the same pair. Pairs for which
    ``curve_fit`` finds nothing are left out.

    Raises:
        ValueError: there is no point.
    """
    from scipy.optimize import curve_fit

    hours, rates = np.asarray(gpu_hours, dtype=np.float64), np.asarray(pass_rate, dtype=np.float64)
    if hours.size == 0:
        raise ValueError("a fit needs at least one point")
    best, smallest = (ceilings[0], 1.0, midpoints[0]), np.inf
    for A in ceilings:
        for C_mid in midpoints:
            law = _law_of_efficiency(r0, A, C_mid)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    (B,), _ = curve_fit(law, hours, rates)
                except RuntimeError:
                    continue
            sse = float(np.sum((rates - law(hours, B)) ** 2))
            if sse < smallest:
                best, smallest = (A, float(B), C_mid), sse
    A, B, C_mid = best
    edge = _at_edge(A, ceilings) or _at_edge(C_mid, midpoints)
    return PaperFit(A, B, C_mid, float(np.sqrt(smallest / hours.size)), edge)


def _at_edge(value: float, grid: Sequence[float]) -> bool:
    """Whether a value is the first or last of its grid; a grid of one value is a value held, and no edge."""
    return len(grid) > 1 and value in (grid[0], grid[-1])


def _law_of_efficiency(r0: float, A: float, C_mid: float) -> Callable[[Floats, float], Floats]:
    """The law with all but B held."""

    def law(hours: Floats, B: float) -> Floats:
        with np.errstate(over="ignore"):
            curve: Floats = r0 + (A - r0) / (1.0 + (C_mid / hours) ** B)
        return curve

    return law


def _most_promising(
    log_hours: Floats, rise: Floats, gains: Floats, log_midpoints: Floats
) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Indices ([Q] into ceilings, [Q] into midpoints) of the best pairs of the grid, and about their B.

    The sum of squares is a parabola in A - R0, so that two sums for each (C_mid, B) give it for every
    ceiling; between the B of a fine grid it is interpolated.
    """
    lags = log_midpoints[:, None] - log_hours
    with_rise = np.empty((_LOG_B.size, log_midpoints.size))
    squared = np.empty_like(with_rise)
    for row, log_B in enumerate(_LOG_B):
        share = _expit(-np.exp(log_B) * lags)
        with_rise[row], squared[row] = share @ rise, np.einsum("cn,cn->c", share, share)
    # [L, A, C] for L values of B, less what all have in common.
    sse = gains[:, None] ** 2 * squared[:, None, :] - 2.0 * gains[:, None] * with_rise[:, None, :]
    at = np.argmin(sse, axis=0)
    inner = np.clip(at, 1, _LOG_B.size - 2)
    left, centre, right = (np.take_along_axis(sse, (inner + step)[None], axis=0)[0] for step in (-1, 0, 1))
    bend = np.maximum(left - 2.0 * centre + right, 1e-300)
    shift = np.clip(0.5 * (left - right) / bend, -1.0, 1.0)
    lowest = centre + 0.5 * (right - left) * shift + 0.5 * bend * shift**2
    num = min(_NUM_REFINED, lowest.size)
    chosen = np.argpartition(lowest.ravel(), num - 1)[:num]
    a, c = np.unravel_index(chosen, lowest.shape)
    log_B = _LOG_B[inner.ravel()[chosen]] + shift.ravel()[chosen] * (_LOG_B[1] - _LOG_B[0])
    return a, c, np.exp(log_B)


def _fit_efficiency(
    log_ratio: Floats, gain: Floats, rise: Floats, B: Floats, iterations: int = 25
) -> tuple[Floats, Floats]:
    """Levenberg-Marquardt on B for Q pairs from a start [Q]: ([Q], [Q]) best B and its sum of squares."""

    def residual_and_share(B: Floats) -> tuple[Floats, Floats]:
        share = _expit(-B[:, None] * log_ratio)
        return rise - gain * share, share

    B = np.clip(B, *_B_RANGE)
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


def _expit(value: Floats) -> Floats:
    """1 / (1 + exp(-value))."""
    from scipy import special

    share: Floats = special.expit(value)
    return share
