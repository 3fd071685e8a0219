"""Ceilings of an arm's seeds pooled, the difference between two arms, and refits at a common ceiling.

Seeds of an arm have ceilings A_s ~ N(mu, tau^2) cut to [0, 1]; mu is the arm's ceiling. tau, the spread
from seed to seed, is common to the arms that are compared, and log tau ~ N(log 0.01, 0.7^2), 95 % within
0.0025 to 0.04: three replicates of the published recipe lay within 0.015 of each other (ScaleRL A.5).
An arm with a single seed takes its tau from that prior and from the arm it is compared with.

Notation: M points of the ceiling grid, T nodes of tau.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from scalerl_lab.fit.fitted import QUANTILES, FittedCurve, finite_interval, interval_of
from scalerl_lab.fit.law import Floats, hours_to_reach
from scalerl_lab.fit.law_fit import ready
from scalerl_lab.fit.posterior import Draws, draw_posterior
from scalerl_lab.fit.window import curve_of
from scalerl_lab.records import EvalPoint, Interval

_STEP = 0.001
_GRID: Floats = np.linspace(0.0, 1.0, 1001)
_NUM_FFT = 2048
"""At least 2 M - 1, so that nothing wraps around."""
_SPREADS: Floats = 0.01 * np.exp(0.7 * np.linspace(-2.0, 2.0, 9))
_SPREAD_PRIOR: Floats = np.exp(-0.5 * np.linspace(-2.0, 2.0, 9) ** 2)


@dataclass(frozen=True, slots=True)
class PooledCeiling:
    """The ceiling of an arm over its seeds."""

    interval: Interval
    num_seeds: int
    identified: bool
    """Whether at least one seed's ceiling is identified; seeds that are not are then left out."""
    likelihood: Floats
    """[T, M] probability of the seeds' points given (tau, mu), up to a constant."""

    def draws(self, num: int, seed: int = 0) -> Floats:
        """``num`` equally probable ceilings of the arm in random order, deterministic."""
        mass = _SPREAD_PRIOR @ self.likelihood
        values = _inverse(_GRID, mass, (np.arange(num) + 0.5) / num)
        shuffled: Floats = np.random.default_rng(seed).permutation(values)
        return shuffled


@dataclass(frozen=True, slots=True)
class CeilingDifference:
    """Ceiling of an arm minus the control's."""

    interval: Interval
    values: Floats
    mass: Floats
    """Probability of each of ``values``; sums to 1."""

    def probability_below(self, difference: float) -> float:
        """P(ceiling of the arm - ceiling of the control < difference)."""
        # Each value stands for a cell around it; a cell that the bound cuts counts in part.
        inside = np.clip((difference - self.values) / _STEP + 0.5, 0.0, 1.0)
        return min(float(inside @ self.mass), 1.0)

    def probability_above(self, difference: float) -> float:
        """P(ceiling of the arm - ceiling of the control > difference)."""
        return 1.0 - self.probability_below(difference)


@dataclass(frozen=True, slots=True)
class CeilingRefit:
    """Efficiency and midpoint of a curve whose ceiling is held at a given value."""

    ceiling: float
    efficiency: Interval
    midpoint: Interval
    draws: Draws

    def hours_to_reach(self, level: float) -> Interval | None:
        """Compute at which the latent curve reaches a pass rate; None unless it does with 97.5 %."""
        d = self.draws
        return finite_interval(hours_to_reach(level, d.r0, d.A, d.B, d.C_mid))


def pool(fitted: Sequence[FittedCurve]) -> PooledCeiling | None:
    """The ceiling of an arm from the fits of its seeds.

    Args:
        fitted: one fit per seed. Where any seed's ceiling is identified, those that are not are left out.

    Returns:
        None where no seed has a posterior.
    """
    usable = [curve for curve in fitted if curve.draws is not None]
    known = [curve for curve in usable if curve.identified]
    chosen = known or usable
    if not chosen:
        return None
    log_likelihood = np.zeros((_SPREADS.size, _GRID.size))
    for curve in chosen:
        assert curve.draws is not None
        log_likelihood += np.log(_seed_likelihood(curve.draws.A))
    likelihood = np.exp(log_likelihood - log_likelihood.max())
    return PooledCeiling(
        interval=_interval(_GRID, _SPREAD_PRIOR @ likelihood),
        num_seeds=len(chosen),
        identified=bool(known),
        likelihood=likelihood,
    )


def ceiling_difference(arm: PooledCeiling, control: PooledCeiling) -> CeilingDifference:
    """Posterior of the arm's ceiling minus the control's, with one seed-to-seed spread for both."""
    values = np.linspace(-1.0, 1.0, 2 * _GRID.size - 1)
    spectra = np.fft.rfft(arm.likelihood, _NUM_FFT) * np.fft.rfft(control.likelihood[:, ::-1], _NUM_FFT)
    # A transform leaves rounding of either sign where there is nothing.
    mass = np.maximum(np.fft.irfft(_SPREAD_PRIOR @ spectra, _NUM_FFT)[: values.size], 0.0)
    mass /= mass.sum()
    return CeilingDifference(interval=_interval(values, mass), values=values, mass=mass)


def refit_at_ceiling(
    points: Sequence[EvalPoint], ceiling: float, *, fit_start_gpu_hours: float
) -> CeilingRefit | None:
    """Efficiency and midpoint given the ceiling: what compares arms whose ceilings are alike.

    Returns:
        None where no point lies past the fit start.

    Source: ScaleRL (arXiv 2510.13786) A.5: refit at the mean A, then the higher B is the more efficient.
    """
    curve = curve_of("", points, fit_start_gpu_hours)
    if curve.value.size == 0:
        return None
    problem, axes = ready(curve)
    draws = draw_posterior(problem, axes, ceiling=ceiling)
    return CeilingRefit(ceiling, interval_of(draws.B), interval_of(draws.C_mid), draws)


def _seed_likelihood(ceilings: Floats) -> Floats:
    """[T, M] probability of a seed's points given (tau, mu).

    A seed's posterior has a uniform prior on A, so its density is the likelihood of A; the spread
    from seed to seed smooths it.
    """
    position = ceilings / _STEP
    below = np.minimum(position.astype(np.int64), _GRID.size - 2)
    share = position - below
    density: Floats = np.bincount(below, 1.0 - share, _GRID.size).astype(np.float64)
    density = density + np.bincount(below + 1, share, _GRID.size)
    density = density / density.sum()
    kernels, inside = _kernels()
    smooth: Floats = np.fft.irfft(np.fft.rfft(density, _NUM_FFT) * kernels, _NUM_FFT)[:, : _GRID.size]
    # The floor stands for a seed that is of another kind; it keeps logarithms finite.
    likelihood: Floats = np.maximum(smooth, 0.0) / inside + 1e-9
    return likelihood


@cache
def _kernels() -> tuple[NDArray[np.complex128], Floats]:
    """Spectra of the normals of each spread, [T, F], and the part of each inside [0, 1], [T, M]."""
    place = np.arange(_NUM_FFT)
    offset = np.minimum(place, _NUM_FFT - place) * _STEP
    spectra = np.fft.rfft(np.exp(-0.5 * (offset / _SPREADS[:, None]) ** 2))
    inside: Floats = np.fft.irfft(np.fft.rfft(np.ones(_GRID.size), _NUM_FFT) * spectra, _NUM_FFT)
    return spectra, inside[:, : _GRID.size]


def _interval(values: Floats, mass: Floats) -> Interval:
    low95, low80, median, high80, high95 = (float(v) for v in _inverse(values, mass, np.array(QUANTILES)))
    return Interval(median=median, low80=low80, high80=high80, low95=low95, high95=high95)


def _inverse(values: Floats, mass: Floats, ranks: Floats) -> Floats:
    """Quantiles of probability spread evenly over cells around equally spaced values."""
    step = values[1] - values[0]
    edges = np.append(values - step / 2.0, values[-1] + step / 2.0)
    below = np.append(0.0, np.cumsum(mass))
    quantiles: Floats = np.interp(ranks * below[-1], below, edges)
    return np.clip(quantiles, values[0], values[-1])
