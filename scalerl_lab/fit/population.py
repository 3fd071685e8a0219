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
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalerl_lab.fit.law import Floats, Integers, gain_share
from scalerl_lab.fit.posterior import MIDPOINT_LOG_SD, MIDPOINT_MEDIAN

_SPREAD_MEDIAN = np.array([0.019, 0.12, 0.27])
_SPREAD_ROOT = np.linalg.cholesky(0.45 * np.ones((3, 3)) + 0.19 * np.eye(3))
_B_MEDIAN, _B_LOG_SD = 1.85, 0.35
_SEED_SPREAD = np.array([0.0075, 0.05, 0.06])
_SEED_LOG_SD = 0.5
_ROUGH = np.array([0.05, 0.4, 0.5])
_ODD_FACTOR = 6.0
_ODD = np.array([[False, False, False], [True, False, False], [True, True, True]])
"""[3, 3] in which coordinates an arm is odd, in each of three cases."""
_CASE_VARIANCES = np.where(_ODD, _ODD_FACTOR**2, 1.0)
_CASE_LOG_WEIGHTS = np.log([0.78, 0.10, 0.12])
_BLOCK = 128
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
    axis_B: Floats
    """Distinct values of ``log_B``."""
    axis_C: Floats
    """The same of ``log_C``."""
    at_B: Integers
    """[Q] index of each cell's B in them."""
    at_C: Integers
    """[Q]"""
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

    def repeated(self, times: int) -> Particles:
        """All of them so many times."""
        return Particles(*(np.tile(getattr(self, field.name), (times, 1)) for field in fields(self)))


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
    tables: list[Table],
    sites: Sites,
    arms: Integers,
    particles: Particles,
    unit: Unit,
    seed: int,
    tries: int = 1,
) -> Drawn:
    """Draw all runs and arms given each particle, and the evidence of their points.

    A run that is alone in its arm is drawn with the arm integrated out. Where an arm has several seeds, the
    arm is drawn first: of several draws from what the sites say one is kept by its importance weight, and
    the evidence is the mean of the weights.

    Args:
        tables: of R runs.
        sites: their approximations.
        arms: [R] which arm each belongs to, numbered from 0.
        particles: K populations.
        unit: of the sites.
        seed: of the random numbers.
        tries: draws of an arm of several seeds from which one is kept.
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
            arm_var = particles.spread**2
            placed = _place(tables[run], particles.mean, seed_var, arm_var, rng)
            np.add(drawn.log_evidence, placed.log_evidence(tables[run]), out=drawn.log_evidence)
            odd = _draw_run(drawn, tables[run], run, placed, particles.mean, seed_var, arm_var, rng)
            var = np.where(odd, _ODD_FACTOR**2, 1.0) * particles.spread**2
            # A run without the law says nothing of its arm.
            precision = np.where(drawn.lawful[:, run, None], 1.0 / seed_var, 0.0)
            updated = 1.0 / (1.0 / var + precision)
            theta = _theta(drawn, tables[run], run)
            centre = updated * (particles.mean / var + precision * theta)
            drawn.arm[:, arm] = centre + np.sqrt(updated) * rng.standard_normal((num, 3))
        else:
            tried, log_weight = _draw_arm(sites, runs, particles.repeated(tries), unit, rng)
            seeds = runs.tolist()
            tried_var = np.tile(seed_var, (tries, 1))
            all_placed = [_place(tables[seed], tried, tried_var, None, rng) for seed in seeds]
            for seed, placed in zip(seeds, all_placed, strict=True):
                log_weight += placed.log_evidence(tables[seed])
            by_try = log_weight.reshape(tries, num)
            mean_weight = np.logaddexp.reduce(by_try, axis=0) - math.log(tries)
            np.add(drawn.log_evidence, mean_weight, out=drawn.log_evidence)
            best = np.argmax(by_try + rng.gumbel(size=by_try.shape), axis=0) * num + np.arange(num)
            drawn.arm[:, arm] = tried[best]
            for seed, placed in zip(seeds, all_placed, strict=True):
                _draw_run(drawn, tables[seed], seed, placed.of(best), tried[best], seed_var, None, rng)
    return drawn


def _draw_run(
    drawn: Drawn,
    table: Table,
    run: int,
    placed: _Placed,
    mean: Floats,
    seed_var: Floats,
    arm_var: Floats | None,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Draw a run, about its arm where ``arm_var`` is None, else about mu; [K, 3] whether its arm is odd."""
    num = mean.shape[0]
    # Siblings may confirm that a run follows the law; that it differs from them says nothing against it.
    lawful = np.maximum(np.exp(placed.log_law - placed.log_evidence(table)), table.lawful)
    drawn.lawful[:, run] = rng.random(num) < lawful
    cell = placed.cell
    odd = np.zeros((num, 3), bool)
    var_A = seed_var[:, 0]
    if arm_var is not None:
        odd = _ODD[np.argmax(placed.log_cases + rng.gumbel(size=placed.log_cases.shape), axis=1)]
        var_A = np.where(odd[:, 0], _ODD_FACTOR**2, 1.0) * arm_var[:, 0] + seed_var[:, 0]
    drawn.cell[:, run] = cell
    drawn.prior_mean[:, run], drawn.prior_sd[:, run] = mean[:, 0], np.sqrt(var_A)
    precision = 1.0 / table.var_A[cell] + 1.0 / var_A
    centre = (table.A[cell] / table.var_A[cell] + mean[:, 0] / var_A) / precision
    drawn.A[:, run] = centre + rng.standard_normal(num) / np.sqrt(precision)
    return odd


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
    cases = [
        _Case.of(precision, shift, factors * spread, weight)
        for factors, weight in zip(_CASE_VARIANCES, _CASE_LOG_WEIGHTS.tolist(), strict=True)
    ]
    log_share = np.array([case.log_evidence for case in cases])
    log_share -= np.logaddexp.reduce(log_share, axis=0)
    chosen = np.argmax(log_share + rng.gumbel(size=log_share.shape), axis=0)
    every = np.arange(num)
    root = np.array([case.root for case in cases])[chosen, every]
    whitened = np.array([case.whitened for case in cases])[chosen, every]
    z = rng.standard_normal((num, 3))
    off = np.linalg.solve(np.swapaxes(root, 1, 2), (whitened + z)[..., None])[..., 0]
    log_density = np.logaddexp.reduce(
        [share + case.log_density(off) for share, case in zip(log_share, cases, strict=True)], axis=0
    )
    return (mean + off) * scale + offset, _log_arm_density(off, spread) - log_density


@dataclass(frozen=True, slots=True)
class _Case:
    """An arm's offset from mu given its points, in one of the cases: a normal."""

    root: Floats
    """[K, 3, 3] lower triangular root of the precision."""
    whitened: Floats
    """[K, 3]"""
    log_det: Floats
    """[K] of the root."""
    log_evidence: Floats
    """[K] up to a constant, with the case's own weight."""

    @classmethod
    def of(cls, precision: Floats, shift: Floats, variance: Floats, log_weight: float) -> _Case:
        """From what the points say and the prior variance [K, 3] of the offset."""
        root = np.linalg.cholesky(precision + np.eye(3) / variance[:, None, :]).astype(np.float64)
        whitened = np.linalg.solve(root, shift[..., None])[..., 0].astype(np.float64)
        log_det = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
        evidence = 0.5 * (whitened**2).sum(axis=1) - log_det - 0.5 * np.log(variance).sum(axis=1)
        return cls(root, whitened, log_det, evidence + log_weight)

    def log_density(self, off: Floats) -> Floats:
        """[K] of offsets [K, 3], up to a constant."""
        z = np.einsum("kji,kj->ki", self.root, off) - self.whitened
        density: Floats = self.log_det - 0.5 * (z**2).sum(axis=1)
        return density


def _log_arm_density(off: Floats, variance: Floats) -> Floats:
    """[K] log prior density of an arm's offset [K, 3] from mu, up to a constant."""
    cases = [
        log_weight - 0.5 * (np.log(factors * variance) + off**2 / (factors * variance)).sum(axis=1)
        for factors, log_weight in zip(_CASE_VARIANCES, _CASE_LOG_WEIGHTS, strict=True)
    ]
    density: Floats = np.logaddexp.reduce(cases, axis=0)
    return density


@dataclass(frozen=True, slots=True)
class _Placed:
    """What K populations make of a run's points, and a cell drawn from each."""

    log_law: Floats
    """[K] log evidence under the law."""
    cell: Integers
    """[K]"""
    log_cases: Floats
    """[K, 3] log weights, given the cell, of the cases in which an arm may be odd; [K, 1] of a seed."""

    def log_evidence(self, table: Table) -> Floats:
        """[K] of the points, lawful or not."""
        both: Floats = np.logaddexp(self.log_law, table.log_other)
        return both

    def of(self, kept: Integers) -> _Placed:
        """Those of chosen populations."""
        return _Placed(*(getattr(self, field.name)[kept] for field in fields(self)))


def _place(
    table: Table, mean: Floats, seed_var: Floats, arm_var: Floats | None, rng: np.random.Generator
) -> _Placed:
    """Weigh a run's cells given the mean [K, 3] of theta (mu with ``arm_var``, else an arm); draw one."""
    # Cells stand for all shapes within them: their width smooths a population narrower than they are.
    step = np.array([0.0, *table.step]) ** 2 / 12.0
    variances = [seed_var + step]
    if arm_var is not None:
        variances = [arm_var + seed_var + step, _ODD_FACTOR**2 * arm_var + seed_var + step]
    uniform = rng.random((mean.shape[0], 1))
    # Blocks that stay in a processor's own memory.
    blocks = [slice(first, first + _BLOCK) for first in range(0, mean.shape[0], _BLOCK)]
    placed = [_place_block(table, mean[k], [var[k] for var in variances], uniform[k]) for k in blocks]
    return _Placed(*(np.concatenate([getattr(p, field.name) for p in placed]) for field in fields(_Placed)))


def _place_block(table: Table, mean: Floats, variances: list[Floats], uniform: Floats) -> _Placed:
    # Single precision is far finer than the noise of K particles, and half the work.
    single = np.float32
    off = ((table.A - mean[:, 0, None]) / table.size).astype(single)
    off *= off
    of_A = []
    for var in variances:
        var_A = ((var[:, 0, None] + table.var_A) / table.size**2).astype(single)
        of_A.append(single(-0.5) * (np.log(var_A) + off / var_A))
    of_shape = []
    for var in variances:
        of_B, of_C = (
            (-0.5 * (np.log(var[:, d, None]) + (axis - mean[:, d, None]) ** 2 / var[:, d, None])).astype(
                single
            )
            for d, axis in ((1, table.axis_B), (2, table.axis_C))
        )
        of_shape.append(of_B[:, table.at_B] + of_C[:, table.at_C])
    if len(variances) == 1:
        cases = [of_A[0] + of_shape[0]]
    else:
        common, ceiling, all_three = _CASE_LOG_WEIGHTS.astype(single)
        cases = [
            of_A[0] + of_shape[0] + common,
            of_A[1] + of_shape[0] + ceiling,
            of_A[1] + of_shape[1] + all_three,
        ]
    for case in cases:
        case += table.log_weight.astype(single)
    top = np.max([case.max(axis=1) for case in cases], axis=0)
    weight = np.exp(cases[0] - top[:, None])
    for case in cases[1:]:
        weight += np.exp(case - top[:, None])
    cumulative = np.cumsum(weight, axis=1, dtype=np.float64)
    total = cumulative[:, -1:]
    cell = np.minimum((cumulative < uniform * total).sum(axis=1), weight.shape[1] - 1)
    norm = table.log_scale - math.log(table.size) - 1.5 * math.log(2.0 * math.pi)
    row = np.arange(cell.size)
    log_cases = np.stack([case[row, cell] for case in cases], axis=1).astype(np.float64)
    return _Placed(top + np.log(total[:, 0]) + norm, cell, log_cases)


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
        cases = [_blur(arm_precision, arm_shift, factors * spread) for factors in _CASE_VARIANCES]
        log_case = np.array([case[2] for case in cases]) + _CASE_LOG_WEIGHTS[:, None]
        log_all = np.logaddexp.reduce(log_case, axis=0)
        log_evidence += log_all
        for log_one, (P, h, _) in zip(log_case, cases, strict=True):
            share = np.exp(log_one - log_all)
            precision += share[:, None, None] * P
            shift += share[:, None] * h
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
