"""Populations proposed: drawn as if each run's points said what its site says; and where to begin."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalerl_lab.fit import symmetric
from scalerl_lab.fit.law import Floats, Integers
from scalerl_lab.fit.population import (
    B_LOG_SD,
    B_MEDIAN,
    CASE_LOG_WEIGHTS,
    CASE_VARIANCES,
    SEED_LOG_SD,
    SEED_SPREAD,
    SPREAD_MEDIAN,
    SPREAD_ROOT,
)
from scalerl_lab.fit.posterior import MIDPOINT_LOG_SD, MIDPOINT_MEDIAN
from scalerl_lab.fit.sites import Sites, blur

_ROUGH = np.array([0.05, 0.4, 0.5])
_PROPOSAL_DEGREES = 6.0
_LEAST_SD = np.array([0.002, 0.02, 0.03, 0.05, 0.05, 0.05, 0.05])


@dataclass(frozen=True, slots=True)
class Proposed:
    """K populations drawn from the approximation."""

    coordinates: Floats
    """[K, 7]"""
    log_density: Floats
    """[K] over the prior of s and t, up to a constant."""


def propose(sites: Sites, arms: Integers, num: int, seed: int, level: tuple[float, float]) -> Proposed:
    """Populations drawn as if each run's points said what its site says.

    The spreads are drawn from their prior and kept by their evidence; the means are normal given those.
    Whether an arm is an odd one is judged as if mu were where all sites together put it.

    Args:
        level: (centre, standard deviation) of mu's first coordinate a priori, in the unit.
    """
    from scipy import special
    from scipy.stats import qmc

    # Sobol numbers come in powers of two.
    many = 8 * num
    uniform = qmc.Sobol(4, rng=np.random.default_rng([seed, 1])).random(many) * (1 - 1e-9) + 5e-10
    normal = special.ndtri(uniform)
    log_spread = np.log(SPREAD_MEDIAN) + normal[:, :3] @ SPREAD_ROOT.T
    log_tau = SEED_LOG_SD * normal[:, 3:]
    prior_sd = np.array([level[1], B_LOG_SD, MIDPOINT_LOG_SD])
    prior_mean = np.array([level[0], math.log(B_MEDIAN), math.log(MIDPOINT_MEDIAN)])
    centre = _centre(sites)
    from_centre = sites.shift - sites.precision @ centre
    precision, shift = np.zeros((6, many)), np.empty((3, many))
    precision[:3] = prior_sd[:, None] ** -2.0
    shift[:] = ((prior_mean - centre) / prior_sd**2)[:, None]
    log_evidence = np.zeros(many)
    spread = np.exp(2.0 * log_spread).T
    seed_spread = (np.exp(log_tau) * SEED_SPREAD).T ** 2
    for arm in range(int(arms.max()) + 1):
        P, h, log_const, scatter = _of_arm(sites.precision, from_centre, arms == arm, seed_spread)
        log_evidence += log_const
        cases = [blur(P, h, factors[:, None] * spread + scatter) for factors in CASE_VARIANCES]
        log_case = np.array([case[2] for case in cases]) + CASE_LOG_WEIGHTS[:, None]
        log_all = np.logaddexp.reduce(log_case, axis=0)
        log_evidence += log_all
        for share, case in zip(np.exp(log_case - log_all), cases, strict=True):
            precision += share * case[0]
            shift += share * case[1]
    inverse, determinant = symmetric.inverse(precision)
    log_det = 0.5 * np.log(determinant)
    log_evidence += 0.5 * (shift * symmetric.times(inverse, shift)).sum(axis=0) - log_det
    weight = np.exp(log_evidence - log_evidence.max())
    rank = (np.arange(num) + 0.5) / num
    kept = np.minimum(np.searchsorted(np.cumsum(weight) / weight.sum(), rank), many - 1)
    uniform = qmc.Sobol(4, rng=np.random.default_rng([seed, 2])).random(num) * (1 - 1e-9) + 5e-10
    chi = 2.0 * special.gammaincinv(_PROPOSAL_DEGREES / 2.0, uniform[:, 3]) / _PROPOSAL_DEGREES
    z = special.ndtri(uniform[:, :3]) / np.sqrt(chi)[:, None]
    root = symmetric.root(precision[:, kept])
    off = symmetric.solve_upper(root, symmetric.solve_lower(root, shift[:, kept]) + z.T)
    mean = centre + off.T
    log_density = log_evidence[kept] + log_det[kept]
    log_density -= 0.5 * (_PROPOSAL_DEGREES + 3.0) * np.log1p((z**2).sum(axis=1) / _PROPOSAL_DEGREES)
    return Proposed(np.concatenate([mean, log_spread[kept], log_tau[kept]], axis=1), log_density)


def _of_arm(
    precision: Floats, shift: Floats, runs: NDArray[np.bool_], seed_spread: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """([6, K], [3, K], [K] log constant) of what an arm's runs say, and the scatter [3, K] they say it with.

    A run that is alone in its arm scatters about mu as its arm and itself do together.
    """
    seeds = np.flatnonzero(runs)
    many = seed_spread.shape[1]
    own = [(symmetric.packed(precision[run]), shift[run][:, None]) for run in seeds]
    if len(own) == 1:
        return *own[0], np.zeros(many), seed_spread
    blurred = [blur(P, h, seed_spread) for P, h in own]
    P, h, log_const = (sum(parts) for parts in zip(*blurred, strict=True))
    return P, h, log_const, np.zeros_like(seed_spread)


@dataclass(frozen=True, slots=True)
class Bell:
    """A wide normal of the 7 coordinates, from which annealing starts."""

    centre: Floats
    root: Floats
    """[7, 7] lower triangular root of the covariance."""

    @classmethod
    def around(cls, coordinates: Floats, weight: Floats, widening: float) -> Bell:
        """Of weighted populations; ``weight`` sums to 1."""
        centre = weight @ coordinates
        off = coordinates - centre
        covariance = widening * (off.T * weight) @ off + np.diag(_LEAST_SD**2)
        return cls(centre, np.linalg.cholesky(covariance).astype(np.float64))

    def draw(self, num: int, seed: int) -> Floats:
        """[num, 7] coordinates."""
        from scipy import special
        from scipy.stats import qmc

        uniform = qmc.Sobol(7, rng=np.random.default_rng([seed, 3])).random(num) * (1 - 1e-9) + 5e-10
        drawn: Floats = self.centre + special.ndtri(uniform) @ self.root.T
        return drawn

    def log_density(self, coordinates: Floats) -> Floats:
        """[K] up to a constant."""
        z = np.linalg.solve(self.root, (coordinates - self.centre).T)
        density: Floats = -0.5 * (z**2).sum(axis=0)
        return density


def search(low: Floats, high: Floats, num: int) -> Floats:
    """[num, 7] coordinates: mu fills a box, the spreads are of their prior: where to begin."""
    from scipy import special
    from scipy.stats import qmc

    uniform = qmc.Sobol(7, rng=np.random.default_rng(11)).random(num) * (1 - 1e-9) + 5e-10
    normal = special.ndtri(uniform[:, 3:])
    mean = low + (high - low) * uniform[:, :3]
    log_spread = np.log(1.5 * SPREAD_MEDIAN) + normal[:, :3] @ SPREAD_ROOT.T
    return np.concatenate([mean, log_spread, SEED_LOG_SD * normal[:, 3:]], axis=1)


def _centre(sites: Sites) -> Floats:
    """[3] the median over runs of where their sites lie, each drawn a little to what all say together."""
    together = sites.precision.sum(axis=0)
    pooled = np.linalg.solve(together, sites.shift.sum(axis=0))
    faint = np.diag(1.0 / _ROUGH**2)
    each = np.linalg.solve(sites.precision + faint, (sites.shift + faint @ pooled)[..., None])[..., 0]
    middle: Floats = np.median(each, axis=0)
    return middle
