"""Posterior-predictive checks: whether the points look as the fitted curve says that they should."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats

_FEWEST_AT_THE_END = 3


@dataclass(frozen=True, slots=True)
class PredictiveChecks:
    """Probabilities, under the fit, of residuals at least as far from noise as those seen.

    Small values speak against the fit. None: too few points.
    """

    runs: float | None
    """Of so few changes of sign from a point to the next: residuals that stay on one side."""
    end: float | None
    """Of so large a level or trend of the last fifth of the residuals: the curve leaves the fit."""
    largest: float
    """Of so large a largest residual: an outlier."""
    scale: float
    """Of so large a sum of squares: the noise explains less than the residuals show."""

    @property
    def smallest(self) -> float:
        """The smallest of them, times their number."""
        seen = [p for p in (self.runs, self.end, self.largest, self.scale) if p is not None]
        return min(len(seen) * min(seen), 1.0)


def predictive_checks(
    curve: Curve,
    mean_at_points: ArrayLike,
    noise_sd: ArrayLike,
    *,
    correlation: float = 0.3,
    noise_degrees: float | None = None,
) -> PredictiveChecks:
    """Four checks of the residuals y_i - mean_i against AR(1) noise.

    Args:
        curve: N points, at least one.
        mean_at_points: [N] the fitted curve.
        noise_sd: [N] or one number > 0, the noise that the fit expects of a point.
        correlation: of neighbouring residuals, in [0, 1).
        noise_degrees: degrees of freedom behind ``noise_sd``; None: it is taken as known.

    Formulas, with z_i = (y_i - mean_i) / sd_i and rho the correlation:

    - runs: signs change between neighbours with probability q = arccos(rho) / pi, so their number is
      about N((N - 1) q, (N - 1) q (1 - q) (1 + rho)).
    - end: the mean of the last M residuals has variance v(M) (as in ``collapse``), and their slope
      (1 + rho) / (1 - rho) / sum (i - mean i)^2; the two squares add up to chi-square with 2 degrees.
    - largest: 1 - (2 Phi(max |z|) - 1)^N.
    - scale: sum z^2 / N has the variance of chi-square over its degrees N (1 - rho^2) / (1 + rho^2).

    With ``noise_degrees`` normal becomes Student's t and chi-square becomes F.
    """
    z = (curve.value - np.asarray(mean_at_points)) / np.asarray(noise_sd)
    num = z.size
    degrees = math.inf if noise_degrees is None else noise_degrees
    spread = num * (1.0 - correlation**2) / (1.0 + correlation**2)
    return PredictiveChecks(
        runs=_few_changes(z, correlation),
        end=_end(z[-max(num // 5, _FEWEST_AT_THE_END) :], correlation, degrees) if num >= 5 else None,
        largest=-math.expm1(
            num * math.log1p(-min(2.0 * _tail(float(np.abs(z).max()), degrees), 1.0 - 1e-16))
        ),
        scale=_above(float(np.mean(z**2)), spread, degrees),
    )


def _few_changes(z: Floats, correlation: float) -> float | None:
    if z.size < 8:
        return None
    steps = z.size - 1
    changes = int(np.count_nonzero(np.diff(z > 0.0)))
    share = math.acos(correlation) / math.pi
    sd = math.sqrt(steps * share * (1.0 - share) * (1.0 + correlation))
    # Counts come in steps of 1: half a step of continuity.
    return 1.0 - _tail((changes + 0.5 - steps * share) / sd, math.inf)


def _end(z: Floats, correlation: float, degrees: float) -> float:
    num = z.size
    ahead = correlation / (1.0 - correlation)
    lasting = (1.0 - correlation**num) / (num * (1.0 - correlation))
    level = float(z.mean()) ** 2 / ((1.0 + 2.0 * ahead * (1.0 - lasting)) / num)
    x = np.arange(num) - (num - 1.0) / 2.0
    trend = float(x @ z) ** 2 / float(x @ x) * (1.0 - correlation) / (1.0 + correlation)
    return _above((level + trend) / 2.0, 2.0, degrees)


def _tail(z: float, degrees: float) -> float:
    """Upper tail of Student's t."""
    from scipy import special

    return float(special.ndtr(-z) if math.isinf(degrees) else special.stdtr(degrees, -z))


def _above(mean_square: float, degrees: float, noise_degrees: float) -> float:
    """Upper tail of F with these degrees."""
    from scipy import special

    if math.isinf(noise_degrees):
        return float(special.gammaincc(degrees / 2.0, degrees * mean_square / 2.0))
    return float(special.fdtrc(degrees, noise_degrees, mean_square))
