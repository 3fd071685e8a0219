"""Curves drawn from a posterior, at any compute: the law, what it misses, and the noise of a new point.

Beyond the window the wander goes on from where the points left it. Beyond the window, or beyond what older
siblings have shown, the law's slope may be wrong and the curve may drift by a share of its observed range:
the more, the more structured the residuals are (``noise.KINDS``).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from scalerl_lab.fit.cells import Problem
from scalerl_lab.fit.law import Floats, gain_share
from scalerl_lab.fit.noise import KINDS, clock_time, mean_noise
from scalerl_lab.fit.posterior import Draws
from scalerl_lab.fit.prediction import Prediction

_LEAST_COMPUTE = 1e-12


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
    last = float(problem.curve.compute[-1])
    t = problem.points.t
    share = gain_share(x, draws.B[:, None], draws.C_mid[:, None] / last)
    within = gain_share(t, draws.B[:, None], draws.C_mid[:, None] / last)
    gain = np.where(draws.lawful, draws.A - draws.r0, 0.0)[:, None]
    line = draws.slope[:, None]
    mean = draws.r0[:, None] + gain * share + line * np.log(x)
    residual = problem.points.y - (draws.r0[:, None] + gain * within + line * np.log(t))
    # What siblings have shown is not extrapolated.
    shown = max(draws.shown / last, 1.0)
    there = gain_share(shown, draws.B, draws.C_mid / last)
    slope = np.abs(gain[:, 0] * there * (1.0 - there) * draws.B + draws.slope)
    shift = np.zeros_like(mean)
    noise = np.repeat(draws.sigma[:, None], x.size, axis=1)
    # As many curves again share each kind; each has its own errors.
    steps = _steps(draws.r0.size, x.size, draws.seed)
    tilt, origin = (_scores(draws.r0.size, stride) for stride in (0.7548776662466927, 0.5698402909980532))
    if draws.seed:
        shuffle = np.random.default_rng(draws.seed).permutation(draws.r0.size)
        tilt, origin = tilt[shuffle], origin[shuffle[::-1]]
    beyond = np.maximum(np.log(x / shown), 0.0)
    drift = _walk(steps, beyond)
    for index in np.unique(draws.kind):
        kind, k = KINDS[index], np.flatnonzero(draws.kind == index)
        sigma = draws.sigma[k, None]
        if kind.walk > 0.0:
            first = float(t[0])
            time = clock_time(x, kind.clock, first)
            inside = np.minimum(time, 1.0)
            weights = problem.root[index] @ (kind.walk**2 * np.minimum(problem.walk[index][:, None], inside))
            left = np.maximum(kind.walk**2 * inside - (weights**2).sum(axis=0), 0.0)
            mean[k] += (residual[k] @ problem.root[index].T) @ weights
            mean[k] += sigma * (origin[k, None] * np.sqrt(left))
            mean[k] += sigma * kind.walk * _walk(steps[k], np.maximum(time - 1.0, 0.0))
        elif kind.rho > 0.0:
            carried, explained = _carried(problem, kind.rho, x)
            shift[k] = residual[k, -1:] * carried
            noise[k] = sigma * np.sqrt(1.0 - explained)
        mean[k] += kind.range_error * problem.range * drift[k]
        mean[k] += kind.slope_error * slope[k, None] * tilt[k, None] * beyond
    return mean, shift, noise


def _carried(problem: Problem, rho: float, x: Floats) -> tuple[Floats, Floats]:
    """([M] share of the last residual expected of a new point, [M] share of its variance that explains).

    The last residual may be that of a mean of points.
    """
    points = problem.points
    gap = float(np.median(np.diff(points.t))) if points.t.size > 1 else 1.0
    count = float(np.median(points.count))
    # A new point is measured anew: it is never nearer than a neighbour.
    steps = np.maximum((x - 1.0) / gap * count, 1.0)
    covariance = np.where(x > 1.0, float(np.mean(rho ** np.arange(int(count)))) * rho**steps, 0.0)
    variance = mean_noise(rho, count)[0] / count
    # A last point of more noise than is typical, or an outlier, says less of the next.
    noisier = float(points.sd[-1]) * math.sqrt(float(points.count[-1]))
    return covariance / variance / noisier, np.minimum(covariance**2 / variance, 0.99)


def _walk(steps: Floats, variance: Floats) -> Floats:
    """Random walks [K, M] whose variance at each compute is the given one, which does not fall."""
    path: Floats = np.cumsum(steps * np.sqrt(np.maximum(np.diff(variance, prepend=0.0), 0.0)), axis=1)
    return path


def _steps(num: int, width: int, seed: int) -> Floats:
    """[num, width] standard normal numbers, always the same."""
    drawn: Floats = np.random.default_rng([width, seed]).standard_normal((num, width))
    return drawn


def _scores(num: int, stride: float) -> Floats:
    """[num] evenly spread standard normal values in the order of a Kronecker sequence."""
    from scipy import special

    uniform = (0.5 + np.arange(num) * stride) % 1.0
    scores: Floats = special.ndtri((uniform * (num - 1.0) + 0.5) / num)
    return scores
