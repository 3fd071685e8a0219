"""What runs of one sweep have in common: how their ceilings, efficiencies and midpoints are distributed.

A run has shape theta = (A, log B, log C_mid). Seeds scatter about their arm, arms about the population:

    theta_run ~ N(arm, t^2),   arm ~ N(mu, s^2), each of the three coordinates on its own.

With probability 0.1 an arm is odd in its ceiling, with 0.12 in all three: there s is 6 times as wide. So an
arm that differs as ablations seldom do does not widen what is said of all others; one of which only the
ceiling is bad keeps its siblings' efficiency and midpoint; and one whose midpoint is far off, as on an axis
of compute, does not borrow their ceiling.

Priors (units of value: the span of possible values, or five times that of values seen):

- mu: those of a curve alone (``posterior``), C_mid relative to the furthest compute of all runs, the gain
  within it flat.
- s: log-normal about 0.019 (A), 0.12 (log B), 0.27 (log C_mid), each with log sd 0.8 and correlated by
  0.7: arms that differ much in one differ in the others. The published leave-one-out arms have 0.007,
  0.07, 0.10; published recipes 0.05, 0.2, 0.33; axes of compute 0.02, 0.2, 0.6.
- t = (0.0075, 0.05, 0.06) tau, log tau ~ N(0, 0.5^2): three replicates of the published recipe lay within
  0.015 of each other in A (ScaleRL A.5); the other two are of the same relative size.

Notation: K particles (possible populations), R runs, Q cells of a run, 3 coordinates of theta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit.law import Floats, Integers, gain_share
from scalerl_lab.fit.posterior import MIDPOINT_LOG_SD, MIDPOINT_MEDIAN

SPREAD_MEDIAN = np.array([0.019, 0.12, 0.27])
SPREAD_ROOT = np.linalg.cholesky(0.45 * np.ones((3, 3)) + 0.19 * np.eye(3))
B_MEDIAN, B_LOG_SD = 1.85, 0.35
SEED_SPREAD = np.array([0.0075, 0.05, 0.06])
SEED_LOG_SD = 0.5
ODD_FACTOR = 6.0
ODD = np.array([[False, False, False], [True, False, False], [True, True, True]])
"""[3, 3] in which coordinates an arm is odd, in each of three cases."""
CASE_VARIANCES = np.where(ODD, ODD_FACTOR**2, 1.0)
CASE_LOG_WEIGHTS = np.log([0.78, 0.10, 0.12])
_FARTHEST = 50.0


@dataclass(frozen=True, slots=True)
class Particles:
    """K populations."""

    mean: Floats
    """[K, 3] mu"""
    spread: Floats
    """[K, 3] s"""
    seed_spread: Floats
    """[K, 3] t"""

    def of(self, kept: Integers) -> Particles:
        """Chosen ones."""
        return Particles(self.mean[kept], self.spread[kept], self.seed_spread[kept])


@dataclass(frozen=True, slots=True)
class Unit:
    """In what the population's priors are stated."""

    value: float
    """Span of possible values, or of those seen."""
    last: float
    """Furthest compute of all runs."""
    bounds: tuple[float, float] | None
    level: tuple[float, float]
    """(centre, standard deviation) of where ceilings may lie, without bounds."""

    @property
    def level_in_unit(self) -> tuple[float, float]:
        """The same in the unit."""
        return self.level[0] / self.value, self.level[1] / self.value


def particles_of(coordinates: Floats, unit: Unit) -> Particles:
    """[K, 7] coordinates (mu, log s, log tau; values in the unit's, computes relative to its last)."""
    scale = np.array([unit.value, 1.0, 1.0])
    mean = coordinates[:, :3] * scale
    mean[:, 2] += math.log(unit.last)
    spread = np.exp(coordinates[:, 3:6]) * scale
    seed_spread = np.exp(coordinates[:, 6:]) * SEED_SPREAD * scale
    return Particles(mean, spread, seed_spread)


def log_prior(coordinates: Floats, unit: Unit) -> Floats:
    """[K] log density of mu's prior, up to a constant."""
    log_B, log_C = np.clip(coordinates[:, 1:3], -_FARTHEST, _FARTHEST).T
    total: Floats = -0.5 * ((log_B - math.log(B_MEDIAN)) / B_LOG_SD) ** 2
    total += -0.5 * ((log_C - math.log(MIDPOINT_MEDIAN)) / MIDPOINT_LOG_SD) ** 2
    # Those of the spreads are in the proposal.
    total += np.log(np.maximum(gain_share(1.0, np.exp(log_B), np.exp(log_C)), 1e-12))
    value = coordinates[:, 0] * unit.value
    if unit.bounds is None:
        total += -0.5 * ((value - unit.level[0]) / unit.level[1]) ** 2
    else:
        # Steep instead of sharp: the samples must find their way back.
        outside = value - np.clip(value, *unit.bounds)
        total += -0.5 * (outside / (0.02 * unit.value)) ** 2
    return total


def log_spread_prior(coordinates: Floats) -> Floats:
    """[K] log density of the prior of the spreads, up to a constant."""
    off = np.linalg.solve(SPREAD_ROOT, (coordinates[:, 3:6] - np.log(SPREAD_MEDIAN)).T)
    density: Floats = -0.5 * (off**2).sum(axis=0) - 0.5 * (coordinates[:, 6] / SEED_LOG_SD) ** 2
    return density
