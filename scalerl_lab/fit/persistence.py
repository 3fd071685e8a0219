"""Forecasts that a curve stays where it is: what every law has to beat.

The level is a random walk in the logarithm of compute, measured with noise. Both variances come from
the curve's own past: the mean square of the difference of two points is 2 s^2 + q times the distance of
their log computes, s^2 being the noise and q the variance of the walk per unit of log compute. Of the
candidates compute, its root and its logarithm, the logarithm forecasts real curves best, as learning
slows down. Only what is recent counts: at most the last 40 points, at most the last two units of log
compute. Few points say little of either variance: the bands are then those of a Student t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit.baselines import (
    BaselineFit,
    Levelled,
    computes,
    levelled,
    shares_of_last,
    spread_normals,
    spread_scales,
)
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats
from scalerl_lab.records import FitStatus

_RECENT_POINTS = 40
_RECENT_LOG_COMPUTE = 2.0
_LEAST_POINTS = 5
_NUM_LAGS = 10
_DEGREES = 4.0
_SURE_SD = 0.01
"""What one point's worth of evidence says of s and sqrt(q), as a share of the range."""
_UNSURE_SD = 0.2
"""The same where there is a single point."""


def last_value(curve: Curve) -> BaselineFit:
    """The last value stays: the median of the forecast is the last value, at every compute."""
    walk = _read_walk(curve)
    # As a forecast of the level the last value is off by its own noise.
    return _persist(curve, walk, "last_value", float(walk.value[-1]), walk.noise_variance)


def last_level(curve: Curve) -> BaselineFit:
    """The last level stays: the last value without its noise, as the random walk has it.

    The level is the generalised least-squares mean of the recent points, whose covariance is
    s^2 on the diagonal plus q times the smaller distance of the two from the end.
    """
    walk = _read_walk(curve)
    ago = -walk.log_compute
    covariance = walk.growth_variance * np.minimum(ago[:, None], ago[None, :])
    # The floor keeps the matrix regular where nothing moves.
    covariance[np.diag_indices_from(covariance)] += walk.noise_variance + 1e-12
    weight = np.linalg.solve(covariance, np.ones(ago.size))
    total = float(weight.sum())
    return _persist(curve, walk, "last_level", float(weight @ walk.value) / total, 1.0 / total)


@dataclass(frozen=True, slots=True)
class _Walk:
    """The recent points, and what they say of noise and growth, in the curve's own units."""

    levels: Levelled
    log_compute: Floats
    """[N] <= 0, of the recent points; 0 is the end."""
    value: Floats
    noise_variance: float
    growth_variance: float


def _read_walk(curve: Curve) -> _Walk:
    levels = levelled(curve)
    log_compute = np.log(computes(curve))
    recent = log_compute >= -_RECENT_LOG_COMPUTE
    num = min(max(int(recent.sum()), _LEAST_POINTS), _RECENT_POINTS)
    log_compute, value = log_compute[-num:], levels.value[-num:]
    noise, growth = _variances(log_compute, value)
    known = value.size - 1.0
    sure = (_SURE_SD * _width(levels)) ** 2
    unsure = (_UNSURE_SD * _width(levels)) ** 2 / (1.0 + known) ** 3
    return _Walk(
        levels=levels,
        log_compute=log_compute,
        value=value,
        noise_variance=(sure + 0.1 * unsure + known * noise) / (1.0 + known),
        growth_variance=(sure + unsure + known * growth) / (1.0 + known),
    )


def _width(levels: Levelled) -> float:
    """The range in which the level is taken to move: no more than a few times what was seen of it."""
    if levels.bounds is None:
        return levels.known_range
    return min(levels.bounds[1] - levels.bounds[0], 4.0 * levels.known_range)


def _variances(log_compute: Floats, value: Floats) -> tuple[float, float]:
    """(s^2, q), neither below 0, by weighted least squares on the mean squares of differences."""
    num = value.size
    if num < 2:
        return 0.0, 0.0
    lags = np.unique(np.round(np.geomspace(1, max(1, num // 2), _NUM_LAGS)).astype(np.int64))
    distance = np.array([np.mean(log_compute[lag:] - log_compute[:-lag]) for lag in lags])
    square = np.array([np.mean((value[lag:] - value[:-lag]) ** 2) for lag in lags])
    # Differences at a lag overlap: about one in ``lag`` of them is news. The sd of a mean square is
    # in proportion to it.
    weight = np.array([(num - lag) / lag for lag in lags]) / (square + square.mean() + 1e-12) ** 2
    x, y = np.stack([np.full_like(distance, 2.0), distance], axis=1), square
    normal, right = (x * weight[:, None]).T @ x, (x * weight[:, None]).T @ y
    only_noise = np.array([right[0] / normal[0, 0], 0.0])
    only_growth = np.array([0.0, right[1] / normal[1, 1]])
    found = [only_noise, only_growth]
    determinant = normal[0, 0] * normal[1, 1] - normal[0, 1] ** 2
    if determinant > 1e-9 * normal[0, 0] * normal[1, 1]:
        both = np.linalg.solve(normal, right)
        if both.min() >= 0.0:
            found = [both]
    best = min(found, key=lambda pair: float(weight @ (x @ pair - y) ** 2))
    return float(best[0]), float(best[1])


def _persist(curve: Curve, walk: _Walk, method: str, level: float, level_variance: float) -> BaselineFit:
    scale = spread_scales(_DEGREES)
    offset = math.sqrt(level_variance) * scale * spread_normals(0)
    growth = math.sqrt(walk.growth_variance) * scale * spread_normals(1)
    unit, location = walk.levels.unit, walk.levels.location
    noise_sd = math.sqrt(walk.noise_variance) * unit

    def curves_at(compute: Floats) -> Floats:
        beyond = np.maximum(np.log(shares_of_last(curve, compute)), 0.0)
        curves: Floats = location + unit * (level + offset[:, None] + growth[:, None] * np.sqrt(beyond))
        return curves

    num = curve.compute.size
    few = num < 2
    return BaselineFit(
        curve=curve,
        method=method,
        status=FitStatus.TOO_FEW_POINTS if few else FitStatus.NOT_IDENTIFIED,
        why=f"{num} {'point' if num == 1 else 'points'}, at least 2 are needed to see how the curve moves."
        if few
        else "That the curve stays where it is says nothing of a ceiling.",
        r0=curve.r0,
        asymptote=None,
        efficiency=None,
        midpoint=None,
        residual_sd=noise_sd,
        curves_at=curves_at,
        noise_sd=noise_sd * scale,
    )
