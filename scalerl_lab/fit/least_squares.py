"""The sigmoid, a power law and a line in log compute by least squares, with the bands people draw.

Parameters are drawn from the normal of the usual covariance s^2 (J'J)^-1, s^2 = SSE / (N - P), widened
to a Student t with N - P degrees and cut to the box that the parameters may lie in; where the points do
not say a parameter, the box does. A new point scatters about the curve with s. Residuals count as
independent and the law as true: that is the naive part.

The laws and their boxes are in ``models``.
"""

from __future__ import annotations

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
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.models import Model, line, power, sigmoid
from scalerl_lab.fit.persistence import last_value
from scalerl_lab.records import FitStatus

_NUM_STARTS = 3
_MOST_EVALUATIONS = 40
_MOST_DEGREES = 30
_LEAST_SD = 1e-4
"""Of the range: a fit that passes through every point is not thereby exact."""
_SURE_CEILING = 0.05
"""A ceiling whose standard deviation is above this share of the range is not identified."""


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
        return few_points(curve, "least_squares", 4 if levels.r0 is not None else 5)
    draws = solved.draws
    last = curve.compute[-1]
    model = sigmoid(shares, levels)
    fit = fit_of(curve, "least_squares", levels, solved, model)
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
        return few_points(curve, "power_law", 4)
    return replace(fit_of(curve, "power_law", levels, solved, model), efficiency=np.exp(solved.draws[:, 1]))


def log_linear(curve: Curve) -> BaselineFit:
    """a + b log C by least squares over the points given; it knows no ceiling but the bounds.

    At least three points are needed; with fewer the last value stays.
    """
    levels, shares = levelled(curve), computes(curve)
    model = line(levels)
    solved = solve(model, shares, levels.value)
    if solved is None:
        return few_points(curve, "log_linear", 3)
    fit = fit_of(curve, "log_linear", levels, solved, model)
    return replace(
        fit, asymptote=None, status=FitStatus.NOT_IDENTIFIED, why="A line in log compute has no ceiling."
    )


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


def fit_of(curve: Curve, method: str, levels: Levelled, solved: Solution, model: Model) -> BaselineFit:
    """What a solution says: the curve answers linearly to the parameters (delta method)."""

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


def few_points(curve: Curve, method: str, demanded: int) -> BaselineFit:
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
