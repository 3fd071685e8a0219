"""The Bayesian fit of one curve, and its forecasts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from scalerl_lab.fit.cells import Problem, prepare
from scalerl_lab.fit.courses import Lines
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.identify import Limits, identify, too_few
from scalerl_lab.fit.law import Floats, gain_share
from scalerl_lab.fit.outliers import inflation
from scalerl_lab.fit.paths import predict
from scalerl_lab.fit.posterior import Axes, Draws, draw_posterior, locate
from scalerl_lab.fit.prediction import Prediction
from scalerl_lab.fit.shape import blocks_identification, recognise
from scalerl_lab.records import FitStatus, Shape

_DECADE = math.log(10.0)


@dataclass(frozen=True, slots=True)
class LawFit:
    """A curve with the posterior of the law; a ``CurveFit``."""

    curve: Curve
    status: FitStatus
    why: str
    shape: Shape | None
    problem: Problem | None
    """None where the curve has no point."""
    draws: Draws | None
    method: str = "posterior"

    @property
    def r0(self) -> float | None:
        """Median of the value before training."""
        return self.curve.r0 if self.draws is None else float(np.median(self.draws.r0))

    @property
    def asymptote(self) -> Floats | None:
        """[K] draws of A."""
        return None if self.draws is None else self.draws.A

    @property
    def efficiency(self) -> Floats | None:
        """[K] draws of B."""
        return None if self.draws is None else self.draws.B

    @property
    def midpoint(self) -> Floats | None:
        """[K] draws of C_mid."""
        return None if self.draws is None else self.draws.C_mid

    @property
    def residual_sd(self) -> float | None:
        """Posterior mean of the noise of a point."""
        return None if self.draws is None else float(self.draws.sigma.mean())

    def predict(self, compute: ArrayLike) -> Prediction:
        """The forecast at M computes; without any point all that is possible is as likely."""
        if self.problem is None or self.draws is None:
            return _unknown(self.curve, compute)
        return predict(self.problem, self.draws, compute)


def fit_posterior(curve: Curve, *, limits: Limits | None = None) -> LawFit:
    """The posterior of R(C) = R0 + (A - R0) / (1 + (C_mid / C)^B) given a curve.

    Args:
        curve: any curve: none, few, constant, falling points, any unit and scale.
        limits: what is demanded of an identified ceiling.

    Source: ScaleRL (arXiv 2510.13786) equation 1.
    """
    limits = limits or Limits()
    if curve.value.size == 0:
        return unfitted(curve, limits)
    problem, axes = ready(curve)
    draws = draw_posterior(problem, axes)
    return judged(curve, problem, draws, limits)


def unfitted(curve: Curve, limits: Limits) -> LawFit:
    """The fit of a curve with too few points for one."""
    why = too_few(curve.value.size, limits) or ""
    return LawFit(curve, FitStatus.TOO_FEW_POINTS, why, None, None, None)


def judged(curve: Curve, problem: Problem, draws: Draws, limits: Limits) -> LawFit:
    """The fit with its shape and its status: of another shape the law's ceiling is not believed.

    Where the shape is not the law its reason comes first, then what is said of the ceiling.
    """
    draws = _as_wandered(problem, draws)
    status, why = identify(curve, draws, limits)
    shape, reason = recognise(curve, residuals(problem, draws))
    why = why[0].upper() + why[1:]
    if status is FitStatus.IDENTIFIED and blocks_identification(shape):
        status, why = FitStatus.NOT_IDENTIFIED, reason
    elif status is not FitStatus.TOO_FEW_POINTS and shape is not Shape.LAW:
        why = f"{reason} {why}"
    return LawFit(curve, status, why, shape, problem, draws)


def _as_wandered(problem: Problem, draws: Draws) -> Draws:
    """Draws without the law go on, and have A, from where the curve has wandered to by the window's end."""
    if draws.lawful.all():
        return draws
    last = float(problem.curve.compute[-1])
    end = predict(problem, draws, [last]).mean[:, 0]
    later = problem.inside(end + draws.slope * _DECADE)
    lines = Lines(draws.lawful, end, draws.slope, last, problem.curve.bounds)
    return replace(draws, A=np.where(draws.lawful, draws.A, later), lines=lines)


def residuals(problem: Problem, draws: Draws) -> Floats:
    """[N] values less the mean of the law's curves at the curve's own points."""
    few = slice(None, None, 16)
    gain = np.where(draws.lawful, draws.A - draws.r0, 0.0)[few, None]
    compute = problem.curve.compute
    share = gain_share(compute, draws.B[few, None], draws.C_mid[few, None])
    line = draws.slope[few, None] * np.log(compute / compute[-1])
    left: Floats = problem.curve.value - (draws.r0[few, None] + gain * share + line).mean(axis=0)
    return left


def ready(curve: Curve) -> tuple[Problem, Axes]:
    """A curve with at least one point made ready, its outliers made to count less, and where its law lies."""
    problem = prepare(curve)
    axes = locate(problem)
    factors = inflation(problem, axes)
    if factors is None:
        return problem, axes
    problem = prepare(curve, inflation=factors)
    return problem, locate(problem)


def _unknown(curve: Curve, compute: ArrayLike) -> Prediction:
    """Anything within the bounds; without bounds, about the start within its own size."""
    at = np.atleast_1d(np.asarray(compute, dtype=np.float64))
    even = (np.arange(200) + 0.5) / 200.0
    centre = curve.r0 if curve.r0 is not None else 0.0
    half = max(abs(centre), 1.0)
    low, high = curve.bounds if curve.bounds is not None else (centre - half, centre + half)
    mean = np.repeat((low + (high - low) * even)[:, None], at.size, axis=1)
    return Prediction(at, mean, np.zeros_like(mean), curve.bounds)
