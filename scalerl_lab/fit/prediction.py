"""What a fit says of computes not yet spent, and how well it said it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats
from scalerl_lab.records import FitStatus, Shape

LEVELS = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
"""Quantiles of every band: the median with central 50, 80, 90 and 95 % intervals."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predictive distribution at M computes: an equal mixture of K normals.

    The curve itself is one of K equally probable curves; a new measured point scatters about it.
    """

    compute: Floats
    """[M]"""
    mean: Floats
    """[K, M] equally probable curves; a row is one curve, so rows are joint over computes."""
    noise_sd: Floats
    """[K, M] standard deviation of a new point about the curve, >= 0."""
    bounds: tuple[float, float] | None
    """No value lies outside."""
    noise_mean: Floats | None = None
    """[K, M] what a new point is expected to lie off the curve, as the noise of neighbours is correlated;
    None: nothing."""

    @property
    def centre(self) -> Floats:
        """[K, M] what a new point is expected at."""
        return self.mean if self.noise_mean is None else self.mean + self.noise_mean

    def quantiles(self, levels: Sequence[float] = LEVELS) -> Floats:
        """Quantiles [L, M] of a new measured point (noise included)."""
        return _quantiles(self.points(), levels)

    def mean_quantiles(self, levels: Sequence[float] = LEVELS) -> Floats:
        """Quantiles [L, M] of the curve itself."""
        return _quantiles(self.mean, levels)

    def points(self, least: int = 1000) -> Floats:
        """[K', M] equally probable new points, in no order; K' is a multiple of K, at least ``least``."""
        num, width = self.mean.shape
        times = -(-least // num)
        mean, sd = np.repeat(self.centre, times, axis=0), np.repeat(self.noise_sd, times, axis=0)
        noise = _normal_scores(num * times, width)
        return self._inside(mean + sd * noise)

    def _inside(self, values: Floats) -> Floats:
        if self.bounds is None:
            return values
        clipped: Floats = np.clip(values, *self.bounds)
        return clipped


class CurveFit(Protocol):
    """What every method of fitting gives for one curve."""

    @property
    def curve(self) -> Curve: ...

    @property
    def method(self) -> str: ...

    @property
    def status(self) -> FitStatus: ...

    @property
    def shape(self) -> Shape | None: ...

    @property
    def why(self) -> str: ...

    @property
    def r0(self) -> float | None: ...

    @property
    def asymptote(self) -> Floats | None: ...

    @property
    def efficiency(self) -> Floats | None: ...

    @property
    def midpoint(self) -> Floats | None: ...

    @property
    def residual_sd(self) -> float | None: ...

    def predict(self, compute: ArrayLike) -> Prediction: ...


def _quantiles(drawn: Floats, levels: Sequence[float]) -> Floats:
    """[L, M] quantiles of K draws in each of M columns."""
    quantiles: Floats = np.quantile(drawn, levels, axis=0)
    return quantiles


@lru_cache(maxsize=16)
def _normal_scores(num: int, width: int) -> Floats:
    """[num, width] evenly spread standard normal values, each column in an order of its own."""
    from scipy import special

    even = special.ndtri((np.arange(num) + 0.5) / num)
    rng = np.random.default_rng(num)
    return np.column_stack([rng.permutation(even) for _ in range(width)]) if width else np.empty((num, 0))
