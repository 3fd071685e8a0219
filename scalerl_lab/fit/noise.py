"""What separates points from the law: kinds of noise and discrepancy, and how each weighs residuals.

Notation: N points (neighbours averaged where a curve is long), H kinds of noise.

A point lies at law + wander + noise. The noise is that of measuring and of training, with correlation
rho between neighbours. The wander is a random walk that stands for what the law misses; its clock is
compute or log compute, and ``walk`` is its standard deviation over the window in units of the noise.
Which kind a curve has is inferred with the rest. Beyond the window the kinds differ in how far the law
is trusted: where residuals are structured, the law's extrapolated rise itself may be wrong by
``slope_error`` of the slope that it ends with per unit of log compute.

The weights and errors of the kinds are set on half of the public curves that come with the project's
benchmark (chosen by a checksum of task names); the other half is used for testing only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats, Integers

MAX_POINTS = 40
"""Longer curves are averaged over neighbours: the law is smooth between them."""
_LEAST_LOG_SPAN = 0.5
_LEAST_SPAN = 1.0 - math.exp(-_LEAST_LOG_SPAN)
"""A window shorter than these counts as so long: one point has no length to measure walks by."""
_FAR_AHEAD = 4.0
"""Times the window's last compute: as far as forecasts have been measured."""
_DIFFERENCE_SHARE, _WILD = 2.0 / 3.0, 12.0


class Clock(StrEnum):
    """In what a random walk's variance grows."""

    LOG = "log"
    LINEAR = "linear"


@dataclass(frozen=True, slots=True)
class NoiseKind:
    """One way in which points scatter about the law."""

    rho: float
    """Correlation of neighbouring points' noise."""
    walk: float
    """Standard deviation that the wander gains over the window, over that of a point's noise."""
    clock: Clock
    weight: float
    """Prior probability, up to a constant."""
    slope_error: float
    """Standard deviation of the error of the slope with which the law leaves the window, over that slope."""
    range_error: float
    """Standard deviation that the curve gains per square root of log compute, over its observed range."""


def _kinds() -> tuple[NoiseKind, ...]:
    # Residuals of published curves have a lag-1 correlation of about 0.3.
    plain = [
        NoiseKind(rho, 0.0, Clock.LINEAR, weight, slope, drift)
        for rho, weight, slope, drift in (
            (0.0, 0.24, 0.05, 0.0),
            (0.3, 0.40, 0.05, 0.0),
            (0.6, 0.18, 1.0, 0.0),
            (0.85, 0.06, 1.5, 0.01),
        )
    ]
    walking = [
        NoiseKind(0.2, walk, clock, weight, slope, drift)
        for walk, weight, slope, drift in (
            (1.0, 0.06, 0.1, 0.0),
            (4.0, 0.09, 1.0, 0.01),
            (16.0, 0.09, 1.5, 0.01),
            (64.0, 0.06, 1.5, 0.01),
        )
        for clock in Clock
    ]
    return (*plain, *walking)


KINDS = _kinds()
"""The H kinds of noise."""


@dataclass(frozen=True, slots=True)
class Points:
    """N averaged points in units that make the arithmetic safe."""

    t: Floats
    """[N] compute over the window's last."""
    y: Floats
    """[N] value."""
    sd: Floats
    """[N] noise of a point relative to that of a single typical one."""
    count: Floats
    """[N] how many points of the curve each is the mean of."""
    scatter: float
    """Sum of squares that neighbours within means show about each other, over 1 - rho a sum of noise."""
    scatter_degrees: float


def average(curve: Curve) -> Points:
    """The curve's points, neighbours averaged so that at most ``MAX_POINTS`` are left."""
    relative = np.ones(curve.compute.size)
    if curve.se is not None:
        # Half of the variance follows a point's own sampling error, half is common: training moves too.
        relative = np.sqrt((curve.se**2 / np.mean(curve.se**2) + 1.0) / 2.0)
    log_t = np.log(curve.compute / curve.compute[-1])
    num = curve.compute.size
    if num <= MAX_POINTS:
        return Points(np.exp(log_t), curve.value, relative, np.ones(num), 0.0, 0.0)
    edges = np.linspace(0, num, MAX_POINTS + 1).astype(np.int64)[:-1]
    count = np.diff(np.append(edges, num))

    def mean(values: Floats) -> Floats:
        means: Floats = np.add.reduceat(values, edges) / count
        return means

    t = np.exp(mean(log_t))
    return Points(
        t,
        mean(curve.value),
        np.sqrt(mean(relative**2) / count),
        count.astype(np.float64),
        *_scatter(curve.value, relative, mean(curve.value), edges),
    )


def _scatter(values: Floats, relative: Floats, means: Floats, edges: Integers) -> tuple[float, float]:
    """(sum of squares, its degrees of freedom) of differences between neighbours that share a mean.

    Half a squared difference, the curve's own slope taken out, is sigma^2 (1 - rho) on average. Neighbouring
    differences share a point, so that each tells as much as two thirds of an independent one. Single wild
    points are held back.
    """
    bin_of = np.searchsorted(edges, np.arange(values.size - 1), side="right") - 1
    within = np.searchsorted(edges, np.arange(1, values.size), side="right") - 1 == bin_of
    if not within.any():
        return 0.0, 0.0
    slope = np.gradient(means, edges + 0.5 * np.diff(np.append(edges, values.size)))
    size = np.sqrt((relative[1:] ** 2 + relative[:-1] ** 2) / 2.0)
    half = (((np.diff(values) - slope[bin_of]) / size)[within]) ** 2 / 2.0
    typical = float(np.median(half)) / 0.455
    if typical > 0.0:
        half = np.minimum(half, _WILD * typical)
    return _DIFFERENCE_SHARE * float(half.sum()), _DIFFERENCE_SHARE * half.size


def clock_time(t: Floats, clock: Clock, first: float) -> Floats:
    """Time of a random walk at computes relative to the last: 0 at the first point, 1 at the last."""
    if clock is Clock.LOG:
        times: Floats = np.log(np.maximum(t, first) / first) / max(-math.log(first), _LEAST_LOG_SPAN)
        return times
    # Far beyond what has been measured a walk in compute would know no measure: there it becomes one in
    # log compute.
    near = np.minimum(t, _FAR_AHEAD)
    later = _FAR_AHEAD * np.log(np.maximum(t, _FAR_AHEAD) / _FAR_AHEAD)
    linear: Floats = (np.maximum(near, first) - first + later) / max(1.0 - first, _LEAST_SPAN)
    return linear


@dataclass(frozen=True, slots=True)
class Whitening:
    """For each kind, the matrix that turns residuals into independent ones of unit variance."""

    inverse_root: Floats
    """[H, N, N] L^-1, with L L' the covariance of residuals over the noise variance of a typical point."""
    log_det: Floats
    """[H] log determinant of that covariance."""
    walk: Floats
    """[H, N] times of the random walk at the points."""


def whiten(points: Points, kinds: tuple[NoiseKind, ...] = KINDS) -> Whitening:
    """Covariances of all kinds, inverted."""
    from scipy.linalg import lapack

    t, sd = points.t, points.sd
    gaps = np.diff(t)
    typical = float(np.median(gaps)) if gaps.size else 1.0
    # No two points count as one, or as strangers.
    place = np.append(0.0, np.cumsum(np.clip(gaps / typical, 0.25, 4.0)))
    distance = np.abs(place[:, None] - place)
    first = float(t[0])
    times = {clock: clock_time(t, clock, first) for clock in Clock}
    walk = np.array([times[kind.clock] for kind in kinds])
    own = sd[:, None] * sd
    scatter = {rho: own * _correlation(rho, distance, points.count) for rho in {kind.rho for kind in kinds}}
    covariance = np.array(
        [
            scatter[kind.rho] + kind.walk**2 * np.minimum(times[:, None], times)
            for kind, times in zip(kinds, walk, strict=True)
        ]
    )
    root = np.linalg.cholesky(covariance)
    log_det = 2.0 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    return Whitening(np.array([lapack.dtrtri(each, lower=1)[0] for each in root]), log_det, walk)


@cache
def mean_noise(rho: float, count: float) -> tuple[float, float]:
    """Noise of a mean of neighbours: (variance over that of independent ones, correlation of two means)."""
    lag = np.arange(1, int(2 * count))
    overlap = np.minimum(lag, 2 * count - lag)
    own = 1.0 + 2.0 * float(np.sum((1.0 - lag / count).clip(0.0) * rho**lag))
    return own, float(np.sum(overlap * rho**lag)) / count / own


def _correlation(rho: float, distance: Floats, count: Floats) -> Floats:
    """[N, N] covariance of noise over that of independent noise: neighbours' rho, or that of their means."""
    if rho == 0.0:
        return np.eye(distance.shape[0])
    typical = float(np.median(count))
    if typical == 1.0:
        plain: Floats = rho**distance
        return plain
    own, between = mean_noise(rho, typical)
    averaged: Floats = own * between**distance
    return averaged


def noise_scale(curve: Curve, *, wild: bool = False) -> float:
    """A first guess of a point's noise variance: from standard errors, else from second differences.

    Second differences of neighbours cancel a local trend; their variance is 6 times a point's. The
    median of their squares and their mean are averaged: one is robust, the other sees rare jumps. Of a curve
    with ``wild`` points only the robust one counts.
    """
    if curve.se is not None:
        # Training adds about as much as sampling: published residuals are 1 to 8 times the sampling variance.
        return 2.0 * float(np.mean(curve.se**2))
    y = curve.value
    if y.size < 3:
        return 0.0
    second = y[:-2] - 2.0 * y[1:-1] + y[2:]
    robust = (float(np.median(np.abs(second))) / 0.6745) ** 2
    return robust / 6.0 if wild else (robust + float(np.mean(second**2))) / 12.0
