"""What runs of one sweep have in common: how their ceilings, efficiencies and midpoints are distributed.

A run has shape theta = (A, log B, log C_mid). Seeds scatter about their arm, arms about the population:

    theta_run ~ N(arm, t^2),   arm ~ N(mu, s^2) or, with probability 0.1, N(mu, (8 s)^2)

each of the three on its own. The second kind of arm is one that differs as ablations seldom do; it keeps
one bad arm from widening what is said of all others.

Priors (units of value: the span of possible values, or five times that of values seen):

- mu: those of a curve alone (``posterior``), C_mid relative to the furthest compute of all runs, the gain
  within it flat.
- s: log-normal about 0.015 (A), 0.12 (log B), 0.25 (log C_mid), each with log sd 0.8 and correlated by
  0.7: arms that differ much in one differ in the others. The published leave-one-out arms have 0.007,
  0.07, 0.10; published recipes 0.05, 0.2, 0.33; axes of compute 0.02, 0.2, 0.6.
- t = (0.0075, 0.05, 0.06) tau, log tau ~ N(0, 0.5^2): three replicates of the published recipe lay within
  0.015 of each other in A (ScaleRL A.5); the other two are of the same relative size.

Notation: K particles (possible populations), R runs, Q cells of a run, 3 coordinates of theta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalerl_lab.fit.law import Floats, Integers, gain_share
from scalerl_lab.fit.posterior import MIDPOINT_LOG_SD, MIDPOINT_MEDIAN

_SPREAD_MEDIAN = np.array([0.015, 0.12, 0.25])
_SPREAD_ROOT = np.linalg.cholesky(0.45 * np.ones((3, 3)) + 0.19 * np.eye(3))
_B_MEDIAN, _B_LOG_SD = 1.85, 0.35
_SEED_SPREAD = np.array([0.0075, 0.05, 0.06])
_SEED_LOG_SD = 0.5
_ROUGH = np.array([0.05, 0.4, 0.5])
_ODD_WEIGHT, _ODD_FACTOR = 0.1, 8.0
_PROPOSAL_DEGREES = 6.0
_FARTHEST = 50.0
_LEAST_SD = np.array([0.002, 0.02, 0.03, 0.05, 0.05, 0.05, 0.05])


@dataclass(frozen=True, slots=True)
class Table:
    """What one run's points say of its shape: a normal of A in each cell of (log B, log C_mid)."""

    log_weight: Floats
    """[Q] evidence of the cell with a flat density of A, the area of the cell included; 0 for the best."""
    log_scale: float
    """Evidence of the best cell."""
    A: Floats
    """[Q] mean of A in units of value."""
    var_A: Floats
    """[Q]"""
    log_B: Floats
    """[Q]"""
    log_C: Floats
    """[Q] absolute."""
    step: tuple[float, float]
    """Cell size in log B and log C_mid."""
    log_other: float
    """Evidence that the run follows no law."""
    place: Integers
    """[Q] of the cells among those of the run's axes."""
    log_share: Floats
    """[Q] log share of the whole gain that each cell gains within the run's window."""
    size: float
    """Noise of a point, in units of value: what A is counted in where digits are few."""
    lawful: float = 0.0
    """Probability by the run's own points that it follows the law."""


@dataclass(frozen=True, slots=True)
class Particles:
    """K populations."""

    mean: Floats
    """[K, 3] mu"""
    spread: Floats
    """[K, 3] s"""
    seed_spread: Floats
    """[K, 3] t"""


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


@dataclass(frozen=True, slots=True)
class Drawn:
    """One round's draws: K joint sets of all runs and arms."""

    log_evidence: Floats
    """[K] of all points given the particle."""
    cell: Integers
    """[K, R]"""
    A: Floats
    """[K, R]"""
    lawful: NDArray[np.bool_]
    """[K, R]"""
    prior_mean: Floats
    """[K, R] mean of A's prior when the run was drawn."""
    prior_sd: Floats
    """[K, R]"""
    arm: Floats
    """[K, arms, 3]"""

    def of(self, kept: Integers) -> Drawn:
        """The draws of chosen particles."""
        return Drawn(*(getattr(self, field.name)[kept] for field in fields(self)))

    def mixed(self, other: Drawn, theirs: NDArray[np.bool_]) -> Drawn:
        """The other's draws where [K] says so."""

        def choose(name: str) -> Any:
            mine, new = getattr(self, name), getattr(other, name)
            return np.where(theirs.reshape(-1, *[1] * (mine.ndim - 1)), new, mine)

        return Drawn(*(choose(field.name) for field in fields(self)))


def particles_of(coordinates: Floats, unit: Unit) -> Particles:
    """[K, 7] coordinates (mu, log s, log tau; values in the unit's, computes relative to its last)."""
    scale = np.array([unit.value, 1.0, 1.0])
    mean = coordinates[:, :3] * scale
    mean[:, 2] += math.log(unit.last)
    spread = np.exp(coordinates[:, 3:6]) * scale
    seed_spread = np.exp(coordinates[:, 6:]) * _SEED_SPREAD * scale
    return Particles(mean, spread, seed_spread)


def log_prior(coordinates: Floats, unit: Unit) -> Floats:
    """[K] log density of mu's prior, up to a constant."""
    log_B, log_C = np.clip(coordinates[:, 1:3], -_FARTHEST, _FARTHEST).T
    total: Floats = -0.5 * ((log_B - math.log(_B_MEDIAN)) / _B_LOG_SD) ** 2
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


def absorb(
    tables: list[Table], sites: Sites, arms: Integers, particles: Particles, unit: Unit, seed: int
) -> Drawn:
    """Draw all runs and arms given each particle, and the evidence of their points.

    A run that is alone in its arm is drawn with the arm integrated out. Where an arm has several seeds, the
    arm is drawn first, from what the sites say, and its evidence is that draw's importance weight.

    Args:
        tables: of R runs.
        sites: their approximations.
        arms: [R] which arm each belongs to, numbered from 0.
        particles: K populations.
        unit: of the sites.
        seed: of the random numbers.
    """
    num, count = particles.mean.shape[0], len(tables)
    rng = np.random.default_rng(seed)
    drawn = Drawn(
        log_evidence=np.zeros(num),
        cell=np.zeros((num, count), np.int64),
        A=np.zeros((num, count)),
        lawful=np.ones((num, count), bool),
        prior_mean=np.zeros((num, count)),
        prior_sd=np.ones((num, count)),
        arm=np.empty((num, int(arms.max()) + 1, 3)),
    )
    seed_var = particles.seed_spread**2
    for arm in range(drawn.arm.shape[1]):
        runs = np.flatnonzero(arms == arm)
        if runs.size == 1:
            run: int = runs[0].item()
            is_odd = _draw_run(drawn, tables[run], run, particles.mean, particles.spread**2, seed_var, rng)
            var = np.where(is_odd[:, None], _ODD_FACTOR**2, 1.0) * particles.spread**2
            # A run without the law says nothing of its arm.
            precision = np.where(drawn.lawful[:, run, None], 1.0 / seed_var, 0.0)
            updated = 1.0 / (1.0 / var + precision)
            theta = _theta(drawn, tables[run], run)
            centre = updated * (particles.mean / var + precision * theta)
            drawn.arm[:, arm] = centre + np.sqrt(updated) * rng.standard_normal((num, 3))
        else:
            chosen, log_weight = _draw_arm(sites, runs, particles, unit, rng)
            drawn.arm[:, arm] = chosen
            np.add(drawn.log_evidence, log_weight, out=drawn.log_evidence)
            for seed_run in runs.tolist():
                _draw_run(drawn, tables[seed_run], seed_run, chosen, None, seed_var, rng)
    return drawn


def _draw_run(
    drawn: Drawn,
    table: Table,
    run: int,
    mean: Floats,
    arm_var: Floats | None,
    seed_var: Floats,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Draw a run, about its arm where ``arm_var`` is None, else about mu; [K] whether its arm is odd."""
    num = mean.shape[0]
    is_odd = np.zeros(num, bool)
    if arm_var is None:
        weight, log_law = _weigh(table, mean, seed_var)
        var_A = seed_var[:, 0]
    else:
        common, odd = (_weigh(table, mean, f * arm_var + seed_var) for f in (1.0, _ODD_FACTOR**2))
        log_common, log_odd = common[1] + math.log(1.0 - _ODD_WEIGHT), odd[1] + math.log(_ODD_WEIGHT)
        log_law = np.logaddexp(log_common, log_odd)
        is_odd = np.log(rng.random(num)) < log_odd - log_law
        weight = np.where(is_odd[:, None], odd[0], common[0])
        var_A = np.where(is_odd, _ODD_FACTOR**2, 1.0) * arm_var[:, 0] + seed_var[:, 0]
    log_all = np.logaddexp(log_law, table.log_other)
    np.add(drawn.log_evidence, log_all, out=drawn.log_evidence)
    # Siblings may confirm that a run follows the law; that it differs from them says nothing against it.
    lawful = np.maximum(np.exp(log_law - log_all), table.lawful)
    drawn.lawful[:, run] = rng.random(num) < lawful
    cell = _pick(weight, rng.random((num, 1)))
    drawn.cell[:, run] = cell
    drawn.prior_mean[:, run], drawn.prior_sd[:, run] = mean[:, 0], np.sqrt(var_A)
    precision = 1.0 / table.var_A[cell] + 1.0 / var_A
    centre = (table.A[cell] / table.var_A[cell] + mean[:, 0] / var_A) / precision
    drawn.A[:, run] = centre + rng.standard_normal(num) / np.sqrt(precision)
    return is_odd


def _theta(drawn: Drawn, table: Table, run: int) -> Floats:
    """[K, 3] theta of a drawn run."""
    cell = drawn.cell[:, run]
    return np.stack([drawn.A[:, run], table.log_B[cell], table.log_C[cell]], axis=1)


def _draw_arm(
    sites: Sites, runs: Integers, particles: Particles, unit: Unit, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """([K, 3] an arm's theta from what the sites of its seeds say, [K] log of its prior over its density)."""
    scale, offset = np.array([unit.value, 1.0, 1.0]), np.array([0.0, 0.0, math.log(unit.last)])
    mean = (particles.mean - offset) / scale
    spread, seed_var = (particles.spread / scale) ** 2, (particles.seed_spread / scale) ** 2
    num = mean.shape[0]
    precision, shift = np.zeros((num, 3, 3)), np.zeros((num, 3))
    for run in runs:
        # Relative to mu, so that what is common does not drown the rest.
        P = np.broadcast_to(sites.precision[run], (num, 3, 3))
        moved = sites.shift[run] - mean @ sites.precision[run]
        blurred, towards, _ = _blur(P, moved, seed_var)
        precision, shift = precision + blurred, shift + towards
    eye = np.eye(3)
    forms = []
    for factor, weight in ((1.0, 1.0 - _ODD_WEIGHT), (_ODD_FACTOR**2, _ODD_WEIGHT)):
        prior = eye / (factor * spread)[:, None, :]
        root = np.linalg.cholesky(precision + prior)
        whitened = np.linalg.solve(root, shift[..., None])[..., 0]
        log_det = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
        log_share = 0.5 * (whitened**2).sum(axis=1) - log_det - 0.5 * np.log(factor * spread).sum(axis=1)
        forms.append((root, whitened, log_det, log_share + math.log(weight), factor))
    odd_share = 1.0 / (1.0 + np.exp(np.clip(forms[0][3] - forms[1][3], -50.0, 50.0)))
    is_odd = (rng.random(num) < odd_share)[:, None]
    root = np.where(is_odd[:, None], forms[1][0], forms[0][0])
    whitened = np.where(is_odd, forms[1][1], forms[0][1])
    z = rng.standard_normal((num, 3))
    off = np.linalg.solve(np.swapaxes(root, 1, 2), (whitened + z)[..., None])[..., 0]
    log_density, log_prior_density = np.full(num, -np.inf), np.full(num, -np.inf)
    for (root, whitened, log_det, _, factor), share, weight in zip(
        forms, (1.0 - odd_share, odd_share), (1.0 - _ODD_WEIGHT, _ODD_WEIGHT), strict=True
    ):
        z = np.einsum("kji,kj->ki", root, off) - whitened
        at = np.log(np.maximum(share, 1e-300)) + log_det - 0.5 * (z**2).sum(axis=1)
        log_density = np.logaddexp(log_density, at)
        var = factor * spread
        prior_at = math.log(weight) - 0.5 * (np.log(var) + off**2 / var).sum(axis=1)
        log_prior_density = np.logaddexp(log_prior_density, prior_at)
    return (mean + off) * scale + offset, log_prior_density - log_density


def _weigh(table: Table, mean: Floats, var: Floats) -> tuple[NDArray[np.float32], Floats]:
    """([K, Q] weights of cells, [K] log of their sum) given normals of theta [K, 3]."""
    # Cells stand for all shapes within them: their width smooths a population narrower than they are.
    var_B, var_C = var[:, 1] + table.step[0] ** 2 / 12.0, var[:, 2] + table.step[1] ** 2 / 12.0
    # Single precision is far finer than the noise of K particles, and half the work.
    single = np.float32
    var_A = ((var[:, 0, None] + table.var_A) / table.size**2).astype(single)
    off = ((table.A - mean[:, 0, None]) / table.size).astype(single)
    log_weight = table.log_weight.astype(single) - single(0.5) * (np.log(var_A) + off * off / var_A)
    off = table.log_B.astype(single) - mean[:, 1, None].astype(single)
    log_weight -= (0.5 / var_B)[:, None].astype(single) * (off * off)
    off = table.log_C.astype(single) - mean[:, 2, None].astype(single)
    log_weight -= (0.5 / var_C)[:, None].astype(single) * (off * off)
    top = log_weight.max(axis=1)
    weight = np.exp(log_weight - top[:, None])
    norm = (
        table.log_scale - math.log(table.size) - 0.5 * np.log(var_B * var_C) - 1.5 * math.log(2.0 * math.pi)
    )
    return weight, top + np.log(weight.sum(axis=1, dtype=np.float64)) + norm


def _pick(weight: NDArray[np.float32], uniform: Floats) -> Integers:
    """[K] a cell of each row, by weight, at [K, 1] uniform numbers."""
    cumulative = np.cumsum(weight, axis=1, dtype=np.float64)
    picked: Integers = (cumulative < uniform * cumulative[:, -1:]).sum(axis=1)
    last: Integers = np.minimum(picked, weight.shape[1] - 1)
    return last


@dataclass(frozen=True, slots=True)
class Sites:
    """Normal approximations to what each of R runs says of theta, in the unit: exp(-x'Px/2 + h'x)."""

    precision: Floats
    """[R, 3, 3] P"""
    shift: Floats
    """[R, 3] h"""


@dataclass(frozen=True, slots=True)
class Proposed:
    """K populations drawn from the approximation."""

    coordinates: Floats
    """[K, 7]"""
    log_density: Floats
    """[K] over the prior of s and t, up to a constant."""


def sites_of(tables: list[Table], unit: Unit, mean: Floats, covariance: Floats) -> Sites:
    """The approximation that has the right mean and covariance where the references lie.

    Args:
        tables: of R runs.
        unit: of the coordinates.
        mean: [R, 3] centres of the references, in the unit.
        covariance: [R, 3, 3] of the references.
    """
    precision, shift = [], []
    for table, centre, spread in zip(tables, mean, covariance, strict=True):
        inner = np.linalg.inv(spread)
        found_mean, found = _tilted(table, unit, centre, inner)
        outer = np.linalg.inv(found + 1e-10 * np.eye(3))
        values, vectors = np.linalg.eigh(outer - inner)
        # Where a run says nothing, rounding must not make it repel.
        site = (vectors * np.maximum(values, 1e-6)) @ vectors.T
        precision.append(site)
        shift.append((site + inner) @ found_mean - inner @ centre)
    return Sites(np.array(precision), np.array(shift))


def _tilted(table: Table, unit: Unit, centre: Floats, precision: Floats) -> tuple[Floats, Floats]:
    """Mean [3] and covariance [3, 3] of theta under a run's points and a normal."""
    A, var_A = table.A / unit.value, table.var_A / unit.value**2
    rest = np.stack([table.log_B, table.log_C - math.log(unit.last)]) - centre[1:, None]
    # Given the cell, A is normal under both.
    own = 1.0 / var_A + precision[0, 0]
    pull = A / var_A + precision[0, 0] * centre[0] - precision[0, 1:] @ rest
    best = pull / own
    log_weight = table.log_weight - 0.5 * np.log(var_A * own)
    log_weight += -0.5 * (A**2 / var_A - pull**2 / own)
    log_weight += -0.5 * np.einsum("iq,ij,jq->q", rest, precision[1:, 1:], rest)
    log_weight += centre[0] * (precision[0, 1:] @ rest)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    shape = np.concatenate([best[None], rest + centre[1:, None]])
    mean = shape @ weight
    off = shape - mean[:, None]
    covariance = (off * weight) @ off.T
    covariance[0, 0] += weight @ (1.0 / own)
    covariance[1, 1] += table.step[0] ** 2 / 12.0
    covariance[2, 2] += table.step[1] ** 2 / 12.0
    return mean, covariance


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
    log_spread = np.log(_SPREAD_MEDIAN) + normal[:, :3] @ _SPREAD_ROOT.T
    log_tau = _SEED_LOG_SD * normal[:, 3:]
    prior_sd = np.array([level[1], _B_LOG_SD, MIDPOINT_LOG_SD])
    prior_mean = np.array([level[0], math.log(_B_MEDIAN), math.log(MIDPOINT_MEDIAN)])
    centre = _centre(sites)
    from_centre = sites.shift - sites.precision @ centre
    precision = np.broadcast_to(np.diag(prior_sd**-2.0), (many, 3, 3)).copy()
    shift = np.broadcast_to((prior_mean - centre) / prior_sd**2, (many, 3)).copy()
    log_evidence = np.zeros(many)
    spread = np.exp(2.0 * log_spread)
    seed_spread = (np.exp(log_tau) * _SEED_SPREAD) ** 2
    for arm in range(int(arms.max()) + 1):
        arm_precision, arm_shift = np.zeros((many, 3, 3)), np.zeros((many, 3))
        for run in np.flatnonzero(arms == arm):
            P, h, log_const = _blur(sites.precision[run], from_centre[run], seed_spread)
            arm_precision, arm_shift = arm_precision + P, arm_shift + h
            log_evidence += log_const
        common = _blur(arm_precision, arm_shift, spread)
        odd = _blur(arm_precision, arm_shift, _ODD_FACTOR**2 * spread)
        log_common, log_odd = common[2] + math.log(1.0 - _ODD_WEIGHT), odd[2] + math.log(_ODD_WEIGHT)
        log_evidence += np.logaddexp(log_common, log_odd)
        share = 1.0 / (1.0 + np.exp(np.clip(log_common - log_odd, -50.0, 50.0)))
        precision += common[0] + share[:, None, None] * (odd[0] - common[0])
        shift += common[1] + share[:, None] * (odd[1] - common[1])
    root = np.linalg.cholesky(precision)
    whitened = np.linalg.solve(root, shift[..., None])[..., 0]
    log_det = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    log_evidence += 0.5 * (whitened**2).sum(axis=1) - log_det
    weight = np.exp(log_evidence - log_evidence.max())
    rank = (np.arange(num) + 0.5) / num
    kept = np.minimum(np.searchsorted(np.cumsum(weight) / weight.sum(), rank), many - 1)
    uniform = qmc.Sobol(4, rng=np.random.default_rng([seed, 2])).random(num) * (1 - 1e-9) + 5e-10
    chi = 2.0 * special.gammaincinv(_PROPOSAL_DEGREES / 2.0, uniform[:, 3]) / _PROPOSAL_DEGREES
    z = special.ndtri(uniform[:, :3]) / np.sqrt(chi)[:, None]
    mean = centre + np.linalg.solve(np.swapaxes(root[kept], 1, 2), (whitened[kept] + z)[..., None])[..., 0]
    log_density = log_evidence[kept] + log_det[kept]
    log_density -= 0.5 * (_PROPOSAL_DEGREES + 3.0) * np.log1p((z**2).sum(axis=1) / _PROPOSAL_DEGREES)
    return Proposed(np.concatenate([mean, log_spread[kept], log_tau[kept]], axis=1), log_density)


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
    log_spread = np.log(1.5 * _SPREAD_MEDIAN) + normal[:, :3] @ _SPREAD_ROOT.T
    return np.concatenate([mean, log_spread, _SEED_LOG_SD * normal[:, 3:]], axis=1)


def log_spread_prior(coordinates: Floats) -> Floats:
    """[K] log density of the prior of the spreads, up to a constant."""
    off = np.linalg.solve(_SPREAD_ROOT, (coordinates[:, 3:6] - np.log(_SPREAD_MEDIAN)).T)
    density: Floats = -0.5 * (off**2).sum(axis=0) - 0.5 * (coordinates[:, 6] / _SEED_LOG_SD) ** 2
    return density


def _centre(sites: Sites) -> Floats:
    """[3] the median over runs of where their sites lie, each drawn a little to what all say together."""
    together = sites.precision.sum(axis=0)
    pooled = np.linalg.solve(together, sites.shift.sum(axis=0))
    faint = np.diag(1.0 / _ROUGH**2)
    each = np.linalg.solve(sites.precision + faint, (sites.shift + faint @ pooled)[..., None])[..., 0]
    middle: Floats = np.median(each, axis=0)
    return middle


def _blur(precision: Floats, shift: Floats, variance: Floats) -> tuple[Floats, Floats, Floats]:
    """What exp(-x'Px/2 + h'x) says of a centre about which x scatters: ([K, 3, 3], [K, 3], [K] log constant).

    Args:
        variance: [K, 3] of that scatter.
    """
    widened = np.eye(3) + precision * variance[:, None, :]
    shift = np.broadcast_to(shift, variance.shape)
    cofactors, determinant = _cofactors(widened)
    inverse = cofactors / determinant[:, None, None]
    moved = (inverse * shift[:, None, :]).sum(axis=2)
    log_const: Floats = 0.5 * (shift * variance * moved).sum(axis=1) - 0.5 * np.log(determinant)
    return inverse @ precision, moved, log_const


def _cofactors(matrix: Floats) -> tuple[Floats, Floats]:
    """([K, 3, 3] adjugates, [K] determinants): many small systems are solved at once much faster so."""
    a, b, c = (matrix[:, row] for row in range(3))
    adjugate = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=2)
    determinant: Floats = (a * adjugate[:, :, 0]).sum(axis=1)
    return adjugate, determinant
