"""Curves drawn from a posterior, at any compute: the law, what it misses, and the noise of a new point.

Beyond the window the wander goes on from where the points left it. Beyond the window, or beyond what older
siblings have shown, the law's slope may be wrong and the curve may drift by a share of its observed range:
the more, the more structured the residuals are (``noise.KINDS``).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from scalerl_lab.fit.cells import Problem
from scalerl_lab.fit.law import Floats, Integers, gain_share
from scalerl_lab.fit.noise import KINDS, Points, clock_time, mean_noise
from scalerl_lab.fit.posterior import Draws
from scalerl_lab.fit.prediction import Prediction

_LEAST_COMPUTE = 1e-12
_SLOPE_ERROR = np.array([kind.slope_error for kind in KINDS])
_RANGE_ERROR = np.array([kind.range_error for kind in KINDS])


def predict(problem: Problem, draws: Draws, compute: ArrayLike) -> Prediction:
    """The predictive distribution at M computes >= 0, in any order."""
    at = np.atleast_1d(np.asarray(compute, dtype=np.float64))
    order = np.argsort(at, kind="stable")
    last = float(problem.curve.compute[-1])
    x = np.maximum(at[order] / last, _LEAST_COMPUTE)
    mean, shift, noise = _sorted_paths(problem, draws, x)
    back = np.empty_like(order)
    back[order] = np.arange(order.size)
    mean = problem.inside(mean)
    return Prediction(at, mean[:, back], noise[:, back], problem.curve.bounds, shift[:, back])


def _sorted_paths(problem: Problem, draws: Draws, x: Floats) -> tuple[Floats, Floats, Floats]:
    """(curve, expected noise, sd of noise), each [K, M], at increasing computes relative to the last."""
    last, points = float(problem.curve.compute[-1]), problem.points
    t = points.t
    share = gain_share(x, draws.B[:, None], draws.C_mid[:, None] / last)
    gain = np.where(draws.lawful, draws.A - draws.r0, 0.0)[:, None]
    line = draws.slope[:, None]
    mean = draws.r0[:, None] + gain * share + line * np.log(x)

    def residual(k: Integers, at: slice) -> Floats:
        """Of some draws at some of the window's points."""
        within = gain_share(t[at], draws.B[k, None], draws.C_mid[k, None] / last)
        law = draws.r0[k, None] + gain[k] * within + line[k] * np.log(t[at])
        left: Floats = points.y[at] - law
        return left

    # What siblings have shown is not extrapolated.
    shown = max(draws.shown / last, 1.0)
    there = gain_share(shown, draws.B, draws.C_mid / last)
    slope = np.abs(gain[:, 0] * there * (1.0 - there) * draws.B + draws.slope)
    shift = np.zeros_like(mean)
    noise = np.repeat(draws.sigma[:, None], x.size, axis=1)
    # As many curves again share each kind; each has its own errors.
    steps_ahead = _steps_ahead(points, x)
    steps = _steps(draws.r0.size, x.size, draws.seed)
    tilt, origin = (_scores(draws.r0.size, stride) for stride in (0.7548776662466927, 0.5698402909980532))
    if draws.seed:
        shuffle = np.random.default_rng(draws.seed).permutation(draws.r0.size)
        tilt, origin = tilt[shuffle], origin[shuffle[::-1]]
    beyond = np.maximum(np.log(x / shown), 0.0)
    mean += (_RANGE_ERROR[draws.kind] * problem.range)[:, None] * _walk(steps, beyond)
    mean += (_SLOPE_ERROR[draws.kind] * slope * tilt)[:, None] * beyond
    for index in np.flatnonzero(np.bincount(draws.kind)):
        kind, k = KINDS[index], np.flatnonzero(draws.kind == index)
        sigma = draws.sigma[k, None]
        if kind.walk > 0.0:
            first = float(t[0])
            time = clock_time(x, kind.clock, first)
            inside = np.minimum(time, 1.0)
            weights = problem.root[index] @ (kind.walk**2 * np.minimum(problem.walk[index][:, None], inside))
            left = np.maximum(kind.walk**2 * inside - (weights**2).sum(axis=0), 0.0)
            wander = origin[k, None] * np.sqrt(left)
            wander += kind.walk * _walk(steps[k], np.maximum(time - 1.0, 0.0))
            mean[k] += residual(k, slice(None)) @ (problem.root[index].T @ weights) + sigma * wander
        elif kind.rho > 0.0:
            carried, explained = _carried(points, kind.rho, steps_ahead)
            shift[k] = residual(k, slice(-1, None)) * carried
            noise[k] = sigma * np.sqrt(1.0 - explained)
    return mean, shift, noise


def _steps_ahead(points: Points, x: Floats) -> Floats:
    """[M] how many points of the curve a new one lies past the last; it is never nearer than a neighbour."""
    gap = float(np.median(np.diff(points.t))) if points.t.size > 1 else 1.0
    ahead = np.maximum((x - 1.0) / gap * float(np.median(points.count)), 1.0)
    return np.where(x > 1.0, ahead, np.inf)


def _carried(points: Points, rho: float, steps_ahead: Floats) -> tuple[Floats, Floats]:
    """([M] share of the last residual expected of a new point, [M] share of its variance that explains).

    The last residual may be that of a mean of points.
    """
    count = float(np.median(points.count))
    covariance = float(np.mean(rho ** np.arange(int(count)))) * rho**steps_ahead
    variance = mean_noise(rho, count)[0] / count
    # A last point of more noise than is typical, or an outlier, says less of the next.
    noisier = float(points.sd[-1]) * math.sqrt(float(points.count[-1]))
    return covariance / variance / noisier, np.minimum(covariance**2 / variance, 0.99)


def _walk(steps: Floats, variance: Floats) -> Floats:
    """Random walks [K, M] whose variance at each compute is the given one, which does not fall."""
    path: Floats = np.cumsum(steps * np.sqrt(np.maximum(np.diff(variance, prepend=0.0), 0.0)), axis=1)
    return path


@lru_cache(maxsize=16)
def _steps(num: int, width: int, seed: int) -> Floats:
    """[num, width] standard normal numbers, always the same; not to be written to."""
    drawn: Floats = np.random.default_rng([width, seed]).standard_normal((num, width))
    drawn.setflags(write=False)
    return drawn


@lru_cache(maxsize=16)
def _scores(num: int, stride: float) -> Floats:
    """[num] evenly spread standard normal values of a Kronecker sequence; not to be written to."""
    from scipy import special

    uniform = (0.5 + np.arange(num) * stride) % 1.0
    scores: Floats = special.ndtri((uniform * (num - 1.0) + 0.5) / num)
    scores.setflags(write=False)
    return scores
