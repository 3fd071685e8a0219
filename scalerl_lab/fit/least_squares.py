"""The sigmoid, a power law and a line in log compute by least squares, with the bands people draw.

Parameters are drawn from the normal of the usual covariance s^2 (J'J)^-1, s^2 = SSE / (N - P), widened
to a Student t with N - P degrees and cut to the box that the parameters may lie in; where the points do
not say a parameter, the box does. A new point scatters about the curve with s. Residuals count as
independent and the law as true: that is the naive part.

Compute is in units of the last compute, values in units of their range. The box: the ceiling within the
bounds, or ten ranges from the last value where there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

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
from scalerl_lab.fit.law import Floats, gain_share
from scalerl_lab.fit.persistence import last_value
from scalerl_lab.records import FitStatus

_UNBOUNDED = 3.0
_NUM_STARTS = 3
_MOST_EVALUATIONS = 40
_MOST_DEGREES = 30
_LEAST_SD = 1e-4
"""Of the range: a fit that passes through every point is not thereby exact."""
_SURE_CEILING = 0.05
"""A ceiling whose standard deviation is above this share of the range is not identified."""


@dataclass(frozen=True, slots=True)
class Model:
    """A curve with P parameters in a box, the first of them the ceiling."""

    low: Floats
    """[P]"""
    high: Floats
    """[P]"""
    starts: Callable[[], Floats]
    """[Q, P] points from which to look for the least squares, the most promising first."""
    curve: Callable[[Floats, Floats], Floats]
    """M computes and parameters [..., P] to values [..., M]."""
    slopes: Callable[[Floats, Floats], Floats]
    """M computes and parameters [P] to derivatives [M, P]."""
    linear: bool = False


@dataclass(frozen=True, slots=True)
class Solution:
    """The least-squares point with K draws about it."""

    parameters: Floats
    """[P]"""
    draws: Floats
    """[K, P] inside the box."""
    offsets: Floats
    """[K, P] deviations from the parameters, not cut, to which the curve answers linearly."""
    sd: float
    noise: Floats
    """[K]"""
    ceiling_sd: float
    at_edge: bool
    """Whether the ceiling ended on the box."""


def least_squares(curve: Curve) -> BaselineFit:
    """The sigmoid law by least squares; R0 is held where the curve knows it, else free.

    At least one point more than parameters is needed; with fewer the last value stays.
    """
    levels, shares = levelled(curve), computes(curve)
    solved = solve(sigmoid(shares, levels), shares, levels.value)
    if solved is None:
        return _few(curve, "least_squares", 4 if levels.r0 is not None else 5)
    draws = solved.draws
    last = curve.compute[-1]
    model = sigmoid(shares, levels)
    fit = _fit_of(curve, "least_squares", levels, solved, model)
    with np.errstate(over="ignore"):
        return replace(
            fit,
            r0=curve.r0
            if curve.r0 is not None
            else float(levels.location + levels.unit * solved.parameters[3]),
            efficiency=np.exp(draws[:, 1]),
            midpoint=np.minimum(np.exp(draws[:, 2]) * last, np.finfo(np.float64).max),
        )


def power_law(curve: Curve) -> BaselineFit:
    """A - D / C^B by least squares.

    At least four points are needed; with fewer the last value stays.

    Source: the rival law of ScaleRL (arXiv 2510.13786) A.4.
    """
    levels, shares = levelled(curve), computes(curve)
    model = power(shares, levels)
    solved = solve(model, shares, levels.value)
    if solved is None:
        return _few(curve, "power_law", 4)
    return replace(_fit_of(curve, "power_law", levels, solved, model), efficiency=np.exp(solved.draws[:, 1]))


def log_linear(curve: Curve) -> BaselineFit:
    """a + b log C by least squares over the points given; it knows no ceiling but the bounds.

    At least three points are needed; with fewer the last value stays.
    """
    levels, shares = levelled(curve), computes(curve)
    model = line(levels)
    solved = solve(model, shares, levels.value)
    if solved is None:
        return _few(curve, "log_linear", 3)
    fit = _fit_of(curve, "log_linear", levels, solved, model)
    return replace(
        fit, asymptote=None, status=FitStatus.NOT_IDENTIFIED, why="A line in log compute has no ceiling."
    )


def sigmoid(shares: Floats, levels: Levelled) -> Model:
    """R0 + (A - R0) / (1 + (C_mid / C)^B) in A, log B, log C_mid and, where it is not known, R0."""
    low, high = _ceiling_box(levels)
    first = float(np.log(shares[0]))
    box = [(low, high), (np.log(0.05), np.log(20.0)), (first - 2.0, np.log(100.0))]
    if levels.r0 is None:
        box.append((low, high))
    known = levels.r0

    def start_of(parameters: Floats) -> Floats:
        return parameters[..., 3:4] if known is None else np.full_like(parameters[..., :1], known)

    def curve(compute: Floats, parameters: Floats) -> Floats:
        start = start_of(parameters)
        gained = gain_share(compute, np.exp(parameters[..., 1:2]), np.exp(parameters[..., 2:3]))
        values: Floats = start + (parameters[..., :1] - start) * gained
        return values

    def slopes(compute: Floats, parameters: Floats) -> Floats:
        B = np.exp(parameters[1])
        ratio = B * (parameters[2] - np.log(compute))
        gained = gain_share(compute, B, np.exp(parameters[2]))
        bend = -(parameters[0] - start_of(parameters)[0]) * gained * (1.0 - gained)
        columns = [gained, bend * ratio, bend * B]
        return np.stack(columns if known is not None else [*columns, 1.0 - gained], axis=1)

    def starts() -> Floats:
        log_B, log_mid = (
            axis.ravel()
            for axis in np.meshgrid(
                np.log([0.3, 0.6, 1.0, 1.6, 2.5, 4.0, 8.0]),
                np.linspace(max(first, -6.0), np.log(5.0), 10),
                indexing="ij",
            )
        )
        gained = gain_share(shares, np.exp(log_B)[:, None], np.exp(log_mid)[:, None])
        ceiling, start, sse = _best_lines(gained, levels.value, known, low, high)
        columns = [ceiling, log_B, log_mid] + ([start] if known is None else [])
        found: Floats = np.stack(columns, axis=1)[np.argsort(sse, kind="stable")]
        return found

    return Model(*_box(box), starts=starts, curve=curve, slopes=slopes)


def power(shares: Floats, levels: Levelled) -> Model:
    """A - D (C / C_first)^-B in A, log B and D: D is what is missing at the first point."""
    low, high = _ceiling_box(levels)
    first = float(np.log(shares[0]))
    widest = high - low
    box = [(low, high), (np.log(0.01), np.log(20.0)), (-widest, widest)]

    def missing(compute: Floats, log_B: Floats) -> Floats:
        return np.exp(np.minimum(-np.exp(log_B) * (np.log(compute) - first), 50.0))

    def curve(compute: Floats, parameters: Floats) -> Floats:
        return parameters[..., :1] - parameters[..., 2:3] * missing(compute, parameters[..., 1:2])

    def slopes(compute: Floats, parameters: Floats) -> Floats:
        share = missing(compute, parameters[1])
        by_B = parameters[2] * share * np.exp(parameters[1]) * (np.log(compute) - first)
        return np.stack([np.ones_like(share), by_B, -share], axis=1)

    def starts() -> Floats:
        log_B = np.log(np.geomspace(0.02, 10.0, 20))
        share = missing(shares, log_B[:, None])
        ceiling, start, sse = _best_lines(1.0 - share, levels.value, None, low, high)
        found: Floats = np.stack([ceiling, log_B, ceiling - start], axis=1)[np.argsort(sse, kind="stable")]
        return found

    return Model(*_box(box), starts=starts, curve=curve, slopes=slopes)


def line(levels: Levelled) -> Model:
    """The value at the last compute, and the slope per unit of log compute."""
    low, high = _ceiling_box(levels)
    widest = high - low

    def curve(compute: Floats, parameters: Floats) -> Floats:
        values: Floats = parameters[..., :1] + parameters[..., 1:2] * np.log(compute)
        return values

    def slopes(compute: Floats, parameters: Floats) -> Floats:
        return np.stack([np.ones_like(compute), np.log(compute)], axis=1)

    low_box, high_box = _box([(low, high), (-widest, widest)])
    return Model(low_box, high_box, lambda: np.zeros((1, 2)), curve, slopes, linear=True)


def solve(model: Model, compute: Floats, value: Floats) -> Solution | None:
    """The least squares from several starts, with draws; None with too few points."""
    if value.size <= model.low.size:
        return None
    if model.linear:
        slopes = model.slopes(compute, model.low)
        found, *_ = np.linalg.lstsq(slopes, value)
        return around(model, compute, value, np.clip(found, model.low, model.high))
    from scipy import optimize

    margin = 1e-9 * (model.high - model.low)
    best = None
    for start in model.starts()[:_NUM_STARTS]:
        tried = optimize.least_squares(
            lambda p: model.curve(compute, p) - value,
            np.clip(start, model.low + margin, model.high - margin),
            jac=lambda p: model.slopes(compute, p),
            bounds=(model.low, model.high),
            max_nfev=_MOST_EVALUATIONS,
            ftol=1e-7,
        )
        if best is None or tried.cost < best.cost:
            best = tried
    assert best is not None
    return around(model, compute, value, np.asarray(best.x, dtype=np.float64))


def around(model: Model, compute: Floats, value: Floats, parameters: Floats) -> Solution:
    """Draws about the least-squares point by the usual covariance; N > P."""
    degrees = value.size - parameters.size
    residual = model.curve(compute, parameters) - value
    sd = max(float(np.sqrt(residual @ residual / degrees)), _LEAST_SD)
    slopes = model.slopes(compute, parameters)
    widest = model.high - model.low
    # The box as a vague normal: its part is felt only where the points are silent.
    information = slopes.T @ slopes / sd**2 + np.diag(1.0 / widest**2)
    precision, axes = np.linalg.eigh(information * widest[:, None] * widest)
    root = widest[:, None] * axes / np.sqrt(np.maximum(precision, 1.0))
    scale = spread_scales(float(min(degrees, _MOST_DEGREES)))
    normals = np.stack([spread_normals(i) for i in range(parameters.size)], axis=1)
    offsets = scale[:, None] * (normals @ root.T)
    edge = min(parameters[0] - model.low[0], model.high[0] - parameters[0])
    return Solution(
        parameters=parameters,
        draws=np.clip(parameters + offsets, model.low, model.high),
        offsets=offsets,
        sd=sd,
        noise=sd * scale,
        ceiling_sd=float(np.sqrt(np.sum(root[0] ** 2))),
        at_edge=bool(edge <= 1e-3 * widest[0]),
    )


def _fit_of(curve: Curve, method: str, levels: Levelled, solved: Solution, model: Model) -> BaselineFit:
    def curves_at(compute: Floats) -> Floats:
        shares = shares_of_last(curve, compute)
        centre = model.curve(shares, solved.parameters)
        spread = solved.offsets @ model.slopes(shares, solved.parameters).T
        return levels.location + levels.unit * (centre + spread)

    silent = solved.at_edge or solved.ceiling_sd > _SURE_CEILING * _range(levels)
    where = "ends at the edge of what is allowed" if solved.at_edge else "has"
    return BaselineFit(
        curve=curve,
        method=method,
        status=FitStatus.NOT_IDENTIFIED if silent else FitStatus.IDENTIFIED,
        why=f"The ceiling {where}{' with' if solved.at_edge else ''} a standard error of "
        f"{levels.unit * solved.ceiling_sd:.3g}.",
        r0=curve.r0,
        asymptote=levels.location + levels.unit * solved.draws[:, 0],
        efficiency=None,
        midpoint=None,
        residual_sd=levels.unit * solved.sd,
        curves_at=curves_at,
        noise_sd=levels.unit * solved.noise,
    )


def _few(curve: Curve, method: str, demanded: int) -> BaselineFit:
    """The last value in the place of a law that needs more points."""
    num = curve.compute.size
    return replace(
        last_value(curve),
        method=method,
        status=FitStatus.TOO_FEW_POINTS,
        why=f"{num} {'point' if num == 1 else 'points'}, at least {demanded} demanded: the last value stays.",
    )


def _range(levels: Levelled) -> float:
    return levels.known_range if levels.bounds is None else levels.bounds[1] - levels.bounds[0]


def _ceiling_box(levels: Levelled) -> tuple[float, float]:
    if levels.bounds is not None:
        # A value outside of its bounds is a value all the same.
        return min(levels.bounds[0], -1e-6), max(levels.bounds[1], 1e-6)
    return -_UNBOUNDED, _UNBOUNDED


def _box(sides: list[tuple[float, float]]) -> tuple[Floats, Floats]:
    low, high = np.array(sides, dtype=np.float64).T
    return low, high


def _best_lines(
    gained: Floats, value: Floats, start: float | None, low: float, high: float
) -> tuple[Floats, Floats, Floats]:
    """For Q shares [Q, N] the best ceiling and start of start + (ceiling - start) share, and their SSE."""
    mean, level = gained.mean(axis=1, keepdims=True), value.mean()
    if start is None:
        moved = gained - mean
        rise = moved @ (value - level) / np.maximum((moved**2).sum(axis=1), 1e-12)
        starts = np.clip(level - rise * mean[:, 0], low, high)
    else:
        rise = gained @ (value - start) / np.maximum((gained**2).sum(axis=1), 1e-12)
        starts = np.full(gained.shape[0], start)
    ceiling = np.clip(starts + rise, low, high)
    residual = value - starts[:, None] - (ceiling - starts)[:, None] * gained
    return ceiling, starts, (residual**2).sum(axis=1)
