"""A run's fit: posterior summary, forecast and bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scalerl_lab.config.sweep import Rule
from scalerl_lab.fit.courses import drawn_curves
from scalerl_lab.fit.identify import Limits
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.law_fit import LawFit, fit_posterior
from scalerl_lab.fit.posterior import Draws
from scalerl_lab.fit.reach import reached_hours
from scalerl_lab.fit.window import curve_of
from scalerl_lab.records import EvalPoint, Fit, FitStatus, Forecast, Interval

QUANTILES = (0.025, 0.1, 0.5, 0.9, 0.975)
"""The five quantiles of every band: central 95 % and 80 % intervals and the median."""


def interval_of(values: Floats) -> Interval:
    """Median with central 80 % and 95 % intervals of equally probable values."""
    low95, low80, median, high80, high95 = (float(q) for q in np.quantile(values, QUANTILES))
    return Interval(median=median, low80=low80, high80=high80, low95=low95, high95=high95)


@dataclass(frozen=True, slots=True)
class FittedCurve:
    """A run's points with the posterior of the law.

    With too few points there is a status and no posterior: ``draws``, ``forecast``, ``bands``,
    ``ceiling_draws`` and ``hours_to_reach`` are then None.
    """

    fit: Fit
    points: tuple[EvalPoint, ...]
    """All points of the run, also those left out of the fit."""
    draws: Draws | None
    law: LawFit | None = None
    """Where the draws come from; a posterior that is given otherwise has no wander about the law."""

    @property
    def identified(self) -> bool:
        """Whether the fit says where the ceiling is."""
        return self.fit.status is FitStatus.IDENTIFIED

    def forecast(self, gpu_hours: float) -> Forecast | None:
        """The curve (without measurement noise) at a compute >= 0."""
        curves = self.curves([gpu_hours])
        return None if curves is None else Forecast(gpu_hours, interval_of(curves[:, 0]))

    def bands(self, gpu_hours: ArrayLike) -> Floats | None:
        """Quantiles ``QUANTILES`` of the curve, [5, N], at N computes >= 0."""
        curves = self.curves(gpu_hours)
        if curves is None:
            return None
        quantiles: Floats = np.quantile(curves, QUANTILES, axis=0)
        return quantiles

    def curves(self, gpu_hours: ArrayLike) -> Floats | None:
        """[K, N] equally probable curves at N computes >= 0."""
        if self.draws is None:
            return None
        if self.law is not None:
            return self.law.predict(gpu_hours).mean
        return drawn_curves(self.draws, gpu_hours)

    def ceiling_draws(self, num: int, seed: int = 0) -> Floats | None:
        """``num`` equally probable ceilings in random order; the same seed gives the same draws."""
        if self.draws is None:
            return None
        order = np.random.default_rng(seed).permutation(self.draws.A.size)
        drawn: Floats = np.resize(self.draws.A[order], num)
        return drawn

    def hours_to_reach(self, level: float) -> Interval | None:
        """Compute at which the curve reaches a pass rate; None unless it does with 97.5 %."""
        if self.draws is None:
            return None
        return finite_interval(reached_hours(self.draws, level, [] if self.law is None else [self.law]))


def finite_interval(values: Floats) -> Interval | None:
    """The interval of values, or None where more than 2.5 % of them are infinite."""
    if np.mean(np.isinf(values)) >= 1.0 - QUANTILES[-1]:
        return None
    # The quantiles lie below the infinite values, but interpolation must not touch them.
    largest = values[np.isfinite(values)].max()
    return interval_of(np.minimum(values, largest))


def fit_curve(
    run_id: str, points: Sequence[EvalPoint], *, fit_start_gpu_hours: float, rule: Rule
) -> FittedCurve:
    """The posterior of R(C) = R0 + (A - R0) / (1 + (C_mid / C)^B) given a run's points.

    Args:
        run_id: the run.
        points: its points in any order; those before the fit start are left out, except the step-0
            point, which gives R0.
        fit_start_gpu_hours: where the early regime is past.
        rule: what is demanded of an identified ceiling.

    Returns:
        A fit for any points: none, few, constant, falling, at 0 or at 1.

    Source: ScaleRL (arXiv 2510.13786) equation 1 and A.5 to A.7 for the window.
    """
    curve = curve_of(run_id, points, fit_start_gpu_hours)
    return fitted_curve(fit_posterior(curve, limits=limits_of(rule)), points)


def limits_of(rule: Rule) -> Limits:
    """What a sweep's rule demands of an identified ceiling."""
    return Limits(rule.min_points, rule.min_window_midpoints, rule.max_ceiling_width)


def fitted_curve(law: LawFit, points: Sequence[EvalPoint]) -> FittedCurve:
    """The record of a fit; too few points leave its status only."""
    curve, draws = law.curve, law.draws
    known = draws is not None and law.status is not FitStatus.TOO_FEW_POINTS
    few = not known or draws is None
    fit = Fit(
        run_id=curve.name,
        status=law.status,
        why=law.why,
        num_points=curve.value.size,
        first_gpu_hours=float(curve.compute[0]) if curve.value.size else None,
        last_gpu_hours=float(curve.compute[-1]) if curve.value.size else None,
        r0=curve.r0 if few else law.r0,
        ceiling=None if draws is None or few else interval_of(draws.A),
        efficiency=None if draws is None or few else interval_of(draws.B),
        midpoint=None if draws is None or few else interval_of(draws.C_mid),
        residual_sd=None if few else law.residual_sd,
    )
    return FittedCurve(fit, tuple(points), None if few else draws, None if few else law)
