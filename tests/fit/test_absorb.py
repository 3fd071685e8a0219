"""Runs and arms drawn given a population against direct sums."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from scalerl_lab.fit import absorb as absorbing
from scalerl_lab.fit.absorb import Drawn, absorb
from scalerl_lab.fit.population import Particles
from scalerl_lab.fit.sites import Sites, sites_of
from scalerl_lab.fit.weighing import Table
from tests.fit.populations import (
    BENT,
    CASES,
    OFFSET,
    SCALE,
    UNIT,
    Array,
    correlated,
    log_cells,
    normal_sites,
    populations,
    table_of,
)


def drawn_of(
    tables: list[Table], sites: Sites, arms: list[int], particles: Particles, seed: int, tries: int = 1
) -> tuple[Array, Drawn]:
    """One draw given each particle."""
    counts = np.ones(len(particles.mean), np.int64)
    return absorb(tables, sites, np.array(arms), particles, UNIT, seed, counts, tries)


def test_evidence_of_single_runs_is_a_direct_sum() -> None:
    tables = [BENT, table_of((1.0, 0.8, 7.5), correlated((0.1, 0.3, 0.2), 0.2), log_other=-2.0)]
    one = populations()
    log_evidence, _ = drawn_of(tables, normal_sites(2), [0, 1], one, 0)
    expected = 0.0
    for table in tables:
        kinds = [
            log_cells(table, one.mean[0], factors * one.spread[0] ** 2 + one.seed_spread[0] ** 2)
            + math.log(share)
            for factors, share in CASES
        ]
        expected += float(np.logaddexp(logsumexp(kinds), table.log_other))
    assert log_evidence[0] == pytest.approx(expected, abs=2e-4)


def test_draws_of_single_runs_and_their_arms_have_the_moments_of_a_direct_sum() -> None:
    num = 40_000
    _, drawn = drawn_of([BENT], normal_sites(1), [0], populations(num), 3)
    one = populations()
    mean, var_arm, var_seed = one.mean[0], one.spread[0] ** 2, one.seed_spread[0] ** 2
    logs, runs, arms = [], [], []
    for factors, share in CASES:
        var = factors * var_arm
        logs.append(log_cells(BENT, mean, var + var_seed) + math.log(share))
        # How far the points pull the run, and the arm, from mu: shares of their variances.
        pull = (BENT.A - mean[0]) / (var[0] + var_seed[0] + BENT.var_A)
        runs.append(mean[0] + (var[0] + var_seed[0]) * pull)
        theta = np.stack([BENT.log_B, BENT.log_C])
        rest = mean[1:, None] + (var[1:] / (var[1:] + var_seed[1:]))[:, None] * (theta - mean[1:, None])
        arms.append(np.concatenate([(mean[0] + var[0] * pull)[None], rest]))
    log_law = float(logsumexp(logs))
    lawful_share = math.exp(log_law - np.logaddexp(log_law, BENT.log_other))
    weight = np.exp(np.array(logs) - log_law)
    lawful = drawn.lawful[:, 0]
    assert lawful.mean() == pytest.approx(lawful_share, abs=0.01)
    assert 0.05 < lawful_share < 0.95
    A = drawn.A[:, 0]
    assert A.mean() == pytest.approx(float((weight * np.array(runs)).sum()), abs=0.002)
    cell = drawn.cell[:, 0]
    frequency = np.bincount(cell, minlength=BENT.A.size) / num
    assert frequency == pytest.approx(weight.sum(axis=0), abs=0.005)
    expected = np.einsum("fq,fiq->i", weight, np.array(arms))
    assert drawn.arm[lawful, 0].mean(axis=0) == pytest.approx(expected, abs=0.006)
    # A run without the law leaves its arm to the population.
    others = drawn.arm[~lawful, 0]
    assert np.all(np.abs(others.mean(axis=0) - mean) < 5.0 * others.std(axis=0) / math.sqrt((~lawful).sum()))


def test_a_run_far_from_its_siblings_is_as_lawful_as_its_own_points_say() -> None:
    far = replace(table_of((0.4, 0.5, 7.8), correlated((0.01, 0.1, 0.1), 0.0), log_other=3.0), lawful=0.7)
    _, drawn = drawn_of([far], normal_sites(1), [0], populations(10_000, spread=0.3), 2)
    assert drawn.lawful.mean() == pytest.approx(0.7, abs=0.02)
    near = replace(table_of((1.15, 0.6, 7.7), correlated((0.01, 0.1, 0.1), 0.0), log_other=-20.0), lawful=0.7)
    _, drawn = drawn_of([near], normal_sites(1), [0], populations(1000), 2)
    assert drawn.lawful.all()


def test_spread_of_ceilings_of_a_single_run_is_that_of_a_direct_sum() -> None:
    _, drawn = drawn_of([BENT], normal_sites(1), [0], populations(40_000), 4)
    one = populations()
    A = np.linspace(-1.0, 3.5, 1501)
    density = np.zeros_like(A)
    for factors, share in CASES:
        var = factors * one.spread[0] ** 2 + one.seed_spread[0] ** 2
        free = np.array([1e12, 0.0, 0.0])
        # Without the density of A, which follows point by point.
        cells = np.exp(log_cells(BENT, one.mean[0], var + free) + 0.5 * math.log(2.0 * math.pi * 1e12))
        of_A = stats.norm.pdf(A, BENT.A[:, None], np.sqrt(BENT.var_A)[:, None])
        density += share * (cells @ of_A) * stats.norm.pdf(A, one.mean[0, 0], math.sqrt(var[0]))
    below = (np.cumsum(density) - 0.5 * density) / density.sum()
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        at = float(np.quantile(drawn.A[:, 0], level))
        assert float(np.interp(at, A, below)) == pytest.approx(level, abs=0.012)


# ---------------------------------------------------------------- arms with several seeds


def arm_posterior(sites: Sites, one: Particles) -> list[tuple[float, Array, Array]]:
    """(log share of the evidence, mean, covariance) of each kind of arm, given normal runs, in the unit."""
    mean = (one.mean[0] - OFFSET) / SCALE
    spread, seed = (one.spread[0] / SCALE) ** 2, (one.seed_spread[0] / SCALE) ** 2
    at = np.linalg.solve(sites.precision, sites.shift[..., None])[..., 0]
    own = [np.linalg.inv(P) + np.diag(seed) for P in sites.precision]
    found = []
    for factors, share in CASES:
        # All runs' centres are jointly normal with the arm.
        num = len(own)
        covariance = np.kron(np.ones((num, num)), np.diag(factors * spread))
        for run, block in enumerate(own):
            covariance[3 * run : 3 * run + 3, 3 * run : 3 * run + 3] += block
        off = (at - mean).ravel()
        cross = np.tile(np.diag(factors * spread), (1, num))
        gain = cross @ np.linalg.inv(covariance)
        log_joint = stats.multivariate_normal(np.zeros(3 * num), covariance).logpdf(off)
        found.append(
            (
                math.log(share) + float(log_joint),
                mean + gain @ off,
                np.diag(factors * spread) - gain @ cross.T,
            )
        )
    return found


def test_an_arm_is_drawn_from_what_its_sites_say() -> None:
    sites, num = normal_sites(3), 40_000
    arm, _ = absorbing._draw_arm(sites, np.arange(3), populations(num), UNIT, np.random.default_rng(0))
    kinds = arm_posterior(sites, populations())
    share = np.exp([kind[0] for kind in kinds] - logsumexp([kind[0] for kind in kinds]))
    mean = sum(s * kind[1] for s, kind in zip(share, kinds, strict=True))
    second = sum(
        s * (kind[2] + np.outer(kind[1] - mean, kind[1] - mean)) for s, kind in zip(share, kinds, strict=True)
    )
    found = (arm - OFFSET) / SCALE
    sd = np.sqrt(np.diag(second))
    assert (found.mean(axis=0) - mean) / sd == pytest.approx(0.0, abs=0.025)
    assert np.cov(found.T) / np.outer(sd, sd) == pytest.approx(second / np.outer(sd, sd), abs=0.04)


def test_weights_of_arms_average_to_integrals_over_their_prior() -> None:
    sites, num = normal_sites(2), 40_000
    many, one = populations(num), populations()
    arm, log_weight = absorbing._draw_arm(sites, np.arange(2), many, UNIT, np.random.default_rng(1))
    # The evidence of the very sites: the same for every draw, as the draws follow it.
    own = [np.linalg.inv(P) + np.diag((one.seed_spread[0] / SCALE) ** 2) for P in sites.precision]
    at = np.linalg.solve(sites.precision, sites.shift[..., None])[..., 0]
    in_unit = (arm - OFFSET) / SCALE
    evidence = sum(
        stats.multivariate_normal(centre, cov).logpdf(in_unit) for centre, cov in zip(at, own, strict=True)
    )
    expected = logsumexp([kind[0] for kind in arm_posterior(sites, one)])
    # The density of an arm is over its coordinates in the unit.
    assert log_weight + evidence == pytest.approx(np.full(num, expected), abs=1e-6)
    # Any other function that the draws reach: here a normal, whose integral is known.
    centre, width = np.array([0.57, 0.65, -0.75]), np.array([0.02, 0.05, 0.1])
    f = np.exp(stats.norm.logpdf(in_unit, centre, width).sum(axis=1) + log_weight)
    mean = (one.mean[0] - OFFSET) / SCALE
    spread = one.spread[0] / SCALE
    exact = sum(
        share * math.exp(stats.norm.logpdf(centre, mean, np.hypot(width, np.sqrt(factors) * spread)).sum())
        for factors, share in CASES
    )
    assert f.mean() == pytest.approx(exact, abs=5.0 * f.std() / math.sqrt(num))
    assert f.std() / math.sqrt(num) < 0.03 * exact


def arms_box() -> tuple[list[Array], Array]:
    """(the three axes, [n, 3] points) of a box with all arms that two bent runs leave possible."""
    axes = [np.arange(0.66, 1.75, 0.03), np.arange(-1.1, 2.3, 0.085), np.arange(6.3, 9.3, 0.1)]
    return axes, np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def of_seed(table: Table, axes: list[Array], var: Array) -> tuple[Array, Array]:
    """([n] evidence under the law of a seed whose arm is at each point of a box, [n] mean of its ceiling)."""
    wide = var + np.array([0.0, *np.square(table.step) / 12.0])
    of_A = stats.norm.pdf(table.A, axes[0][:, None], np.sqrt(wide[0] + table.var_A))
    of_B = stats.norm.pdf(table.log_B, axes[1][:, None], math.sqrt(wide[1]))
    of_C = stats.norm.pdf(table.log_C, axes[2][:, None], math.sqrt(wide[2]))
    mass = np.exp(table.log_weight + table.log_scale)
    own = var[0] / (var[0] + table.var_A)
    ceiling = own * table.A + (1.0 - own) * axes[0][:, None]
    shape = (of_B[:, None] * of_C * mass).reshape(-1, table.A.size)
    evidence = of_A @ shape.T
    return evidence.ravel(), ((of_A * ceiling) @ shape.T / np.maximum(evidence, 1e-300)).ravel()


def two_seeds() -> tuple[list[Table], Sites]:
    """Bent runs of one arm, of which the first may follow no law, and what is made of them."""
    tables = [BENT, table_of((1.15, 0.65, 7.6), correlated((0.06, 0.2, 0.3), 0.6), bend=-0.2, log_other=-6.0)]
    covariance = np.diag([0.05, 0.2, 0.3]) ** 2
    return tables, sites_of(tables, UNIT, np.tile([0.58, 0.55, -0.8], (2, 1)), np.array([covariance] * 2))


def summed_over_arms(tables: list[Table], one: Particles) -> tuple[float, Array, Array]:
    """(evidence of two seeds, [3] mean of their arm, [2] means of their ceilings) by a sum over arms."""
    axes, arm = arms_box()
    seeds = [of_seed(table, axes, one.seed_spread[0] ** 2) for table in tables]
    others = [math.exp(table.log_other) for table in tables]
    prior = np.zeros(len(arm))
    for factors, share in CASES:
        prior += share * stats.norm.pdf(arm, one.mean[0], np.sqrt(factors) * one.spread[0]).prod(axis=1)
    prior *= math.prod(axis[1] - axis[0] for axis in axes)
    # Where no run follows the law, which the box need not hold, is known: there the prior is left as it is.
    law = (seeds[0][0] + others[0]) * (seeds[1][0] + others[1]) - math.prod(others)
    mass, without = prior * law, math.prod(others)
    total = float(mass.sum()) + without
    mean = (mass @ arm + without * one.mean[0]) / total
    # A run's ceiling is drawn under the law whether or not it is then used.
    everywhere = prior * (law + without)
    ceilings = [float(everywhere @ ceiling) / float(everywhere.sum()) for _, ceiling in seeds]
    return total, mean, np.array(ceilings)


def test_evidence_arm_and_runs_of_two_seeds_are_those_of_a_direct_sum_over_arms() -> None:
    num = 20_000
    tables, sites = two_seeds()
    one = populations(spread=0.7)
    log_evidence, drawn = drawn_of(tables, sites, [0, 0], populations(num, spread=0.7), 8, tries=4)
    total, mean, ceilings = summed_over_arms(tables, one)
    weight = np.exp(log_evidence)
    error = weight.std() / math.sqrt(num)
    assert weight.mean() == pytest.approx(total, abs=5.0 * error)
    assert error < 0.01 * total
    found = weight @ drawn.arm[:, 0] / weight.sum()
    assert (found - mean) / one.spread[0] == pytest.approx(0.0, abs=0.04)
    assert weight @ drawn.A / weight.sum() == pytest.approx(ceilings, abs=0.003)
    # Those kept of several tries need hardly any weights.
    assert weight.sum() ** 2 / np.sum(weight**2) > 0.8 * num
    assert (drawn.arm[:, 0].mean(axis=0) - mean) / one.spread[0] == pytest.approx(0.0, abs=0.15)


def test_of_several_tries_that_arm_is_kept_which_the_points_ask_for() -> None:
    tables, _ = two_seeds()
    # Sites that lie: a quarter of the spread too low in the ceiling.
    sites = normal_sites(2, (0.05, 0.25, 0.35))
    one = populations(spread=0.7)
    _, mean, _ = summed_over_arms(tables, one)
    for tries, low, high in ((1, 0.2, 0.35), (4, 0.0, 0.12), (16, -0.06, 0.06)):
        _, drawn = drawn_of(tables, sites, [0, 0], populations(3000, spread=0.7), 9, tries)
        # The mean of 3,000 has an error of 0.02 spreads.
        assert low < float((mean - drawn.arm[:, 0].mean(axis=0))[0] / one.spread[0, 0]) < high, tries


def test_draws_of_a_particle_are_as_many_as_asked_and_like_one_of_each_of_its_copies() -> None:
    tables, sites = two_seeds()
    single = table_of((1.3, 0.5, 7.7), correlated((0.06, 0.2, 0.3), 0.6), bend=0.2, log_other=0.0)
    all_tables, arms = [*tables, single], np.array([0, 0, 1])
    all_sites = Sites(
        np.concatenate([sites.precision, normal_sites(1).precision]),
        np.concatenate([sites.shift, normal_sites(1).shift]),
    )
    near, far = populations(1, spread=0.7), populations(1, spread=2.0)
    both = Particles(
        np.concatenate([near.mean, far.mean]),
        np.concatenate([near.spread, far.spread]),
        np.concatenate([near.seed_spread, far.seed_spread]),
    )
    counts = np.array([12_000, 20_000])
    log_evidence, drawn = absorb(all_tables, all_sites, arms, both, UNIT, 3, counts, 4)
    for row, one in enumerate((near, far)):
        copies = one.of(np.zeros(20_000, np.int64))
        evidence, expected = drawn_of(all_tables, all_sites, arms.tolist(), copies, 5, tries=16)
        mine = slice(0, 12_000) if row == 0 else slice(12_000, None)
        assert log_evidence[row] == pytest.approx(float(logsumexp(evidence)) - math.log(20_000), abs=0.05)
        for name in ("A", "arm", "prior_mean", "prior_sd"):
            found, other = getattr(drawn, name)[mine], getattr(expected, name)
            assert (found.mean(axis=0) - other.mean(axis=0)) / other.std(axis=0).clip(1e-6) == pytest.approx(
                0.0, abs=0.06
            )
            assert found.std(axis=0) == pytest.approx(other.std(axis=0), rel=0.06, abs=1e-9)
        assert drawn.lawful[mine].mean(axis=0) == pytest.approx(expected.lawful.mean(axis=0), abs=0.04)


def test_evidence_without_draws_is_the_same() -> None:
    tables = [BENT, table_of((1.0, 0.8, 7.5), correlated((0.1, 0.3, 0.2), 0.2), log_other=-2.0)]
    with_draws, drawn = drawn_of(tables, normal_sites(2), [0, 1], populations(3), 0)
    without, none = absorb(
        tables, normal_sites(2), np.array([0, 1]), populations(3), UNIT, 0, np.zeros(3, np.int64)
    )
    assert np.array_equal(with_draws, without)
    assert drawn.cell.shape == (3, 2)
    assert none.cell.shape == (0, 2)
