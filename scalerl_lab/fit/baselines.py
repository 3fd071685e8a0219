"""What the simple methods of forecasting have in common: their result, and a curve in units of its own.

K equally probable curves stand for what a method does not know. They are made from fixed, evenly
spread numbers: the same points give the same forecast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.prediction import Prediction
from scalerl_lab.records import FitStatus, Shape

NUM_CURVES = 250
"""K"""


@dataclass(frozen=True, slots=True)
class BaselineFit:
    """One curve as a simple method sees it; a ``CurveFit``."""

    curve: Curve
    method: str
    status: FitStatus
    why: str
    r0: float | None
    asymptote: Floats | None
    efficiency: Floats | None
    midpoint: Floats | None
    residual_sd: float | None
    curves_at: Callable[[Floats], Floats]
    """M computes > 0 to K curves, [K, M]."""
    noise_sd: Floats
    """[K] standard deviation of a new point about each curve."""
    shape: Shape | None = None

    def predict(self, compute: ArrayLike) -> Prediction:
        """The forecast at M computes; one at or before 0 is taken for the smallest number above it."""
        asked = np.atleast_1d(np.asarray(compute, dtype=np.float64))
        curves = self.curves_at(np.maximum(asked, np.finfo(np.float64).tiny))
        if self.curve.bounds is not None:
            curves = np.clip(curves, *self.curve.bounds)
        noise_sd = np.broadcast_to(self.noise_sd[:, None], curves.shape)
        return Prediction(asked, curves, noise_sd, self.curve.bounds)


@dataclass(frozen=True, slots=True)
class Levelled:
    """The points of a curve with values moved and scaled to about -1 to 1, so that no unit overflows."""

    value: Floats
    """[N] (value - location) / unit."""
    r0: float | None
    location: float
    unit: float
    bounds: tuple[float, float] | None
    known_range: float
    """The range that values are known to move in, in ``unit``: that of the points, or of the bounds where
    the points do not move at all."""


def levelled(curve: Curve) -> Levelled:
    """The curve's values in units of their range; the location is the last value.

    A curve without points is read as one at its start, or in the middle of its bounds, or at 0.
    """
    value = curve.value
    if value.size == 0:
        value = np.array([_start_of_nothing(curve)])
    location = float(value[-1])
    everything = value if curve.r0 is None else np.append(value, curve.r0)
    # Halved before the subtraction: the range of two finite numbers need not be finite.
    unit = 2.0 * float(np.max(np.abs(everything / 2.0 - location / 2.0)))
    moves = unit > 1e-12 * abs(location) and np.isfinite(unit)
    if not moves:
        unit = _unit_at_rest(curve, location)
    bounds = None
    if curve.bounds is not None:
        low, high = ((bound / 2.0 - location / 2.0) / unit * 2.0 for bound in curve.bounds)
        bounds = (low, high)
    return Levelled(
        value=(value / 2.0 - location / 2.0) / unit * 2.0,
        r0=None if curve.r0 is None else (curve.r0 / 2.0 - location / 2.0) / unit * 2.0,
        location=location,
        unit=unit,
        bounds=bounds,
        known_range=1.0 if moves or bounds is None else bounds[1] - bounds[0],
    )


def computes(curve: Curve) -> Floats:
    """[N] computes as shares of the last one; a curve without points has one, at 1."""
    if curve.compute.size == 0:
        return np.ones(1)
    shares: Floats = np.maximum(curve.compute / curve.compute[-1], np.finfo(np.float64).tiny)
    return shares


def shares_of_last(curve: Curve, compute: Floats) -> Floats:
    """Computes as shares of the curve's last one, kept within what logarithms and powers can hold."""
    last = curve.compute[-1] if curve.compute.size else 1.0
    with np.errstate(over="ignore"):
        shares: Floats = np.clip(compute / last, 1e-300, 1e300)
    return shares


@cache
def spread_normals(index: int) -> Floats:
    """[K] evenly spread standard normal values, in an order of their own for each index.

    Value k + K/2 is minus value k, for every index: sums of them are symmetric about 0.
    """
    from scipy import special

    half = NUM_CURVES // 2
    even = special.ndtri(0.5 + (np.arange(half) + 0.5) / NUM_CURVES)
    rng = np.random.default_rng(index)
    one: Floats = rng.permutation(even) * rng.choice([-1.0, 1.0], half)
    return np.concatenate([one, -one])


@cache
def spread_scales(degrees: float) -> Floats:
    """[K] factors that make a normal a Student t: 1 / sqrt(chi^2 / degrees); k and k + K/2 are alike."""
    from scipy import special

    half = NUM_CURVES // 2
    even = (np.arange(half) + 0.5) / half
    scales: Floats = 1.0 / np.sqrt(special.gammaincinv(degrees / 2.0, even) * 2.0 / degrees)
    return np.tile(np.random.default_rng(100).permutation(scales), 2)


def _start_of_nothing(curve: Curve) -> float:
    if curve.r0 is not None:
        return curve.r0
    return 0.0 if curve.bounds is None else curve.bounds[0] / 2.0 + curve.bounds[1] / 2.0


def _unit_at_rest(curve: Curve, location: float) -> float:
    """The unit of points that do not move."""
    if curve.bounds is not None and np.isfinite(curve.bounds[1] - curve.bounds[0]):
        return curve.bounds[1] - curve.bounds[0]
    return abs(location) or 1.0
