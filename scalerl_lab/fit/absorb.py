"""A sweep's runs and arms drawn given populations, and the evidence of their points.

Notation: K populations, R runs, M draws of all runs and arms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalerl_lab.fit import symmetric
from scalerl_lab.fit.law import Floats, Integers
from scalerl_lab.fit.population import CASE_LOG_WEIGHTS, CASE_VARIANCES, ODD, ODD_FACTOR, Particles, Unit
from scalerl_lab.fit.sites import Sites, blur
from scalerl_lab.fit.weighing import Table, log_cases, weigh


@dataclass(frozen=True, slots=True)
class Drawn:
    """M joint sets of all runs and arms."""

    cell: Integers
    """[M, R]"""
    A: Floats
    """[M, R]"""
    lawful: NDArray[np.bool_]
    """[M, R]"""
    prior_mean: Floats
    """[M, R] mean of A's prior when the run was drawn."""
    prior_sd: Floats
    """[M, R]"""
    arm: Floats
    """[M, arms, 3]"""

    @classmethod
    def empty(cls, num: int, runs: int, arms: int) -> Drawn:
        """To be filled."""
        shape = num, runs
        return cls(
            cell=np.empty(shape, np.int64),
            A=np.empty(shape),
            lawful=np.empty(shape, bool),
            prior_mean=np.empty(shape),
            prior_sd=np.empty(shape),
            arm=np.empty((num, arms, 3)),
        )


def absorb(
    tables: list[Table],
    sites: Sites,
    arms: Integers,
    particles: Particles,
    unit: Unit,
    seed: int | list[int],
    counts: Integers,
    tries: int = 1,
) -> tuple[Floats, Drawn]:
    """Draw all runs and arms given each particle, and the evidence of their points.

    A run that is alone in its arm is drawn with the arm integrated out. Where an arm has several seeds, the
    arm is drawn first: of several draws from what the sites say some are kept by their importance weights,
    and the evidence is the mean of the weights.

    Args:
        tables: of R runs.
        sites: their approximations.
        arms: [R] which arm each belongs to, numbered from 0.
        particles: K populations.
        unit: of the sites.
        seed: of the random numbers.
        counts: [K] draws given each; may be 0.
        tries: an arm of several seeds is drawn so many times for one draw, and once more for each more.

    Returns:
        ([K] log evidence of all points given each particle, M draws, those of a particle in a row).
    """
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(counts.size), counts)
    drawn = Drawn.empty(owner.size, len(tables), int(arms.max()) + 1)
    log_evidence = np.zeros(counts.size)
    by_arm = np.split(np.argsort(arms, kind="stable"), np.cumsum(np.bincount(arms))[:-1])
    for arm, runs in enumerate(by_arm):
        if runs.size == 1:
            run = int(runs[0])
            log_evidence += _absorb_single(drawn, tables[run], run, arm, particles, owner, rng)
        else:
            log_evidence += _absorb_seeds(
                drawn,
                tables,
                sites,
                runs,
                arm,
                particles,
                unit,
                owner,
                np.maximum(counts, 1) + tries - 1,
                rng,
            )
    return log_evidence, drawn


def _absorb_single(
    drawn: Drawn,
    table: Table,
    run: int,
    arm: int,
    particles: Particles,
    owner: Integers,
    rng: np.random.Generator,
) -> Floats:
    """Draw a run about mu, then its arm; [K] log evidence of its points."""
    num = owner.size
    seed_var, arm_var = particles.seed_spread**2, particles.spread**2
    weighed = weigh(table, particles.mean, seed_var, arm_var, owner, rng.random(num))
    log_evidence = table.log_evidence(weighed.log_law)
    if not num:
        return log_evidence
    mean, seed_var, arm_var = particles.mean[owner], seed_var[owner], arm_var[owner]
    log_case = log_cases(table, weighed.cell, mean, seed_var, arm_var)
    odd = ODD[np.argmax(log_case + rng.gumbel(size=log_case.shape), axis=1)]
    var = np.where(odd, ODD_FACTOR**2, 1.0) * arm_var
    log_lawful = (weighed.log_law - log_evidence)[owner]
    _draw_run(drawn, table, run, weighed.cell, log_lawful, mean[:, 0], var[:, 0] + seed_var[:, 0], rng)
    # A run without the law says nothing of its arm.
    precision = np.where(drawn.lawful[:, run, None], 1.0 / seed_var, 0.0)
    updated = 1.0 / (1.0 / var + precision)
    theta = np.stack([drawn.A[:, run], table.log_B[weighed.cell], table.log_C[weighed.cell]], axis=1)
    centre = updated * (mean / var + precision * theta)
    drawn.arm[:, arm] = centre + np.sqrt(updated) * rng.standard_normal((num, 3))
    return log_evidence


def _absorb_seeds(
    drawn: Drawn,
    tables: list[Table],
    sites: Sites,
    runs: Integers,
    arm: int,
    particles: Particles,
    unit: Unit,
    owner: Integers,
    tries: Integers,
    rng: np.random.Generator,
) -> Floats:
    """Draw an arm, ``tries`` [K] times for each population, then its runs; [K] log evidence of its points."""
    tried_by = np.repeat(np.arange(tries.size), tries)
    first = np.cumsum(tries) - tries
    of_tries = particles.of(tried_by)
    tried, log_weight = _draw_arm(sites, runs, of_tries, unit, rng)
    seed_var = of_tries.seed_spread**2
    every = np.arange(tried_by.size if owner.size else 0)
    seeds = runs.tolist()
    all_weighed = [
        weigh(tables[seed], tried, seed_var, None, every, rng.random(every.size)) for seed in seeds
    ]
    for seed, weighed in zip(seeds, all_weighed, strict=True):
        log_weight += tables[seed].log_evidence(weighed.log_law)
    top = np.maximum.reduceat(log_weight, first)
    weight = np.exp(log_weight - top[tried_by])
    total = np.add.reduceat(weight, first)
    if owner.size:
        # Evenly through the weights of each population's tries.
        draws = np.bincount(owner, minlength=tries.size)
        place = np.arange(owner.size) - (np.cumsum(draws) - draws)[owner]
        share = (place + rng.random(tries.size)[owner]) / draws[owner]
        kept = np.searchsorted(np.cumsum(weight / total[tried_by]), owner + share)
        kept = np.clip(kept, first[owner], (first + tries - 1)[owner])
        drawn.arm[:, arm] = tried[kept]
        for seed, weighed in zip(seeds, all_weighed, strict=True):
            log_lawful = weighed.log_law - tables[seed].log_evidence(weighed.log_law)
            _draw_run(
                drawn,
                tables[seed],
                seed,
                weighed.cell[kept],
                log_lawful[kept],
                tried[kept, 0],
                seed_var[kept, 0],
                rng,
            )
    return top + np.log(total / tries)


def _draw_run(
    drawn: Drawn,
    table: Table,
    run: int,
    cell: Integers,
    log_lawful: Floats,
    mean: Floats,
    variance: Floats,
    rng: np.random.Generator,
) -> None:
    """Fill in M draws of a run whose cells are drawn.

    Args:
        log_lawful: [M] log probability by the population that it follows the law.
        mean: [M] of its ceiling a priori.
        variance: [M]
    """
    # Siblings may confirm that a run follows the law; that it differs from them says nothing against it.
    lawful = np.maximum(np.exp(log_lawful), table.lawful)
    drawn.lawful[:, run] = rng.random(cell.size) < lawful
    drawn.cell[:, run] = cell
    drawn.prior_mean[:, run], drawn.prior_sd[:, run] = mean, np.sqrt(variance)
    precision = 1.0 / table.var_A[cell] + 1.0 / variance
    centre = (table.A[cell] / table.var_A[cell] + mean / variance) / precision
    drawn.A[:, run] = centre + rng.standard_normal(cell.size) / np.sqrt(precision)


def _draw_arm(
    sites: Sites, runs: Integers, particles: Particles, unit: Unit, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """([K, 3] an arm's theta from what the sites of its seeds say, [K] log of its prior over its density)."""
    scale, offset = np.array([unit.value, 1.0, 1.0]), np.array([0.0, 0.0, math.log(unit.last)])
    mean = ((particles.mean - offset) / scale).T
    spread, seed_var = ((particles.spread / scale) ** 2).T, ((particles.seed_spread / scale) ** 2).T
    num = mean.shape[1]
    precision, shift = np.zeros((6, num)), np.zeros((3, num))
    for run in runs:
        # Relative to mu, so that what is common does not drown the rest.
        P = symmetric.packed(sites.precision[run])
        blurred, towards, _ = blur(P, sites.shift[run][:, None] - symmetric.times(P, mean), seed_var)
        precision += blurred
        shift += towards
    cases = [
        _Case.of(precision, shift, factors[:, None] * spread, weight)
        for factors, weight in zip(CASE_VARIANCES, CASE_LOG_WEIGHTS.tolist(), strict=True)
    ]
    log_share = np.array([case.log_evidence for case in cases])
    log_share -= np.logaddexp.reduce(log_share, axis=0)
    chosen = np.argmax(log_share + rng.gumbel(size=log_share.shape), axis=0)
    every = np.arange(num)
    root = np.array([case.root for case in cases])[chosen, :, every].T
    whitened = np.array([case.whitened for case in cases])[chosen, :, every].T
    off = symmetric.solve_upper(root, whitened + rng.standard_normal((3, num)))
    log_density = np.logaddexp.reduce(
        [share + case.log_density(off) for share, case in zip(log_share, cases, strict=True)], axis=0
    )
    return (mean + off).T * scale + offset, _log_arm_density(off, spread) - log_density


@dataclass(frozen=True, slots=True)
class _Case:
    """An arm's offset from mu given its points, in one of the cases: a normal."""

    root: Floats
    """[6, K] root of the precision, as in ``symmetric``."""
    whitened: Floats
    """[3, K]"""
    log_det: Floats
    """[K] of the root."""
    log_evidence: Floats
    """[K] up to a constant, with the case's own weight."""

    @classmethod
    def of(cls, precision: Floats, shift: Floats, variance: Floats, log_weight: float) -> _Case:
        """From what the points say and the prior variance [3, K] of the offset."""
        both = precision.copy()
        both[:3] += 1.0 / variance
        root = symmetric.root(both)
        whitened = symmetric.solve_lower(root, shift)
        log_det = np.log(root[:3]).sum(axis=0)
        evidence = 0.5 * (whitened**2).sum(axis=0) - log_det - 0.5 * np.log(variance).sum(axis=0)
        return cls(root, whitened, log_det, evidence + log_weight)

    def log_density(self, off: Floats) -> Floats:
        """[K] of offsets [3, K], up to a constant."""
        z = symmetric.times_upper(self.root, off) - self.whitened
        density: Floats = self.log_det - 0.5 * (z**2).sum(axis=0)
        return density


def _log_arm_density(off: Floats, variance: Floats) -> Floats:
    """[K] log prior density of an arm's offset [3, K] from mu, up to a constant."""
    cases = []
    for factors, log_weight in zip(CASE_VARIANCES, CASE_LOG_WEIGHTS, strict=True):
        wide = factors[:, None] * variance
        cases.append(log_weight - 0.5 * (np.log(wide) + off**2 / wide).sum(axis=0))
    density: Floats = np.logaddexp.reduce(cases, axis=0)
    return density
