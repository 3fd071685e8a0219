"""The population of shapes against sums, integrals and scipy's densities."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, stats
from scipy.special import expit, logsumexp

from scalerl_lab.fit import population
from scalerl_lab.fit.population import (
    Bell,
    Drawn,
    Particles,
    Sites,
    Table,
    Unit,
    absorb,
    log_prior,
    log_spread_prior,
    particles_of,
    propose,
    search,
    sites_of,
)

Array = NDArray[np.float64]

# The population as its docstring states it.
CASES = (
    (np.array([1.0, 1.0, 1.0]), 0.78),
    (np.array([36.0, 1.0, 1.0]), 0.10),
    (np.array([36.0, 36.0, 36.0]), 0.12),
)
"""(Factors of the spread's square, probability) of an arm like others, one odd in its ceiling, one in all."""
SPREAD_MEDIAN = np.array([0.019, 0.12, 0.27])
SPREAD_COVARIANCE = 0.8**2 * (0.7 + 0.3 * np.eye(3))
SEED_SPREAD, SEED_LOG_SD = np.array([0.0075, 0.05, 0.06]), 0.5
UNIT = Unit(value=2.0, last=5000.0, bounds=(0.0, 2.0), level=(0.5, 1.0))
SCALE, OFFSET = np.array([2.0, 1.0, 1.0]), np.array([0.0, 0.0, math.log(5000.0)])


def table_of(
    centre: tuple[float, float, float],
    precision: Array,
    *,
    shape: tuple[int, int] = (14, 12),
    half: tuple[float, float] = (0.9, 0.7),
    log_other: float = -math.inf,
    bend: float = 0.0,
) -> Table:
    """Cells whose evidence of (A, log B, log C) is exactly normal, but for ``bend``."""
    axis_C = np.linspace(centre[2] - half[0], centre[2] + half[0], shape[0])
    axis_B = np.linspace(centre[1] - half[1], centre[1] + half[1], shape[1])
    log_C, log_B = np.meshgrid(axis_C, axis_B, indexing="ij")
    rest = np.stack([log_B.ravel() - centre[1], log_C.ravel() - centre[2]])
    var_A = 1.0 / precision[0, 0]
    A = centre[0] - var_A * precision[0, 1:] @ rest + bend * rest[1] ** 2
    slice_precision = precision[1:, 1:] - var_A * np.outer(precision[0, 1:], precision[0, 1:])
    log_weight = -0.5 * np.einsum("iq,ij,jq->q", rest, slice_precision, rest) + bend * rest[0] ** 3
    size = A.size
    return Table(
        log_weight=log_weight - log_weight.max(),
        log_scale=-1.5,
        A=A,
        var_A=np.full(size, var_A) * (1.0 + abs(bend) * rest[1] ** 2),
        log_B=log_B.ravel(),
        log_C=log_C.ravel(),
        axis_B=axis_B,
        axis_C=axis_C,
        at_B=np.tile(np.arange(shape[1]), shape[0]),
        at_C=np.repeat(np.arange(shape[0]), shape[1]),
        step=(2.0 * half[1] / (shape[1] - 1), 2.0 * half[0] / (shape[0] - 1)),
        log_other=log_other,
        place=np.arange(size),
        log_share=np.zeros(size),
        size=0.05,
    )


def correlated(sds: tuple[float, float, float], correlation: float) -> Array:
    """The precision of three normals that are equally correlated."""
    covariance = np.outer(sds, sds) * (correlation + (1.0 - correlation) * np.eye(3))
    inverse: Array = np.linalg.inv(covariance).astype(np.float64)
    return inverse


BENT = table_of((1.2, 0.5, 7.8), correlated((0.06, 0.2, 0.3), 0.6), bend=0.3, log_other=2.0)


def populations(num: int = 1, spread: float = 1.0) -> Particles:
    """The same population ``num`` times."""
    mean = np.array([1.15, 0.6, 7.7])
    return Particles(
        np.tile(mean, (num, 1)),
        np.tile(spread * np.array([0.05, 0.15, 0.25]), (num, 1)),
        np.tile(np.array([0.02, 0.06, 0.08]), (num, 1)),
    )


def log_cells(table: Table, mean: Array, var: Array) -> Array:
    """[Q] log of cell weight times its density under a normal, A integrated by scipy's normal."""
    wide = var + np.array([0.0, table.step[0] ** 2 / 12.0, table.step[1] ** 2 / 12.0])
    total: Array = table.log_scale + table.log_weight
    total = total + stats.norm.logpdf(table.A, mean[0], np.sqrt(wide[0] + table.var_A))
    total = total + stats.norm.logpdf(table.log_B, mean[1], math.sqrt(wide[1]))
    total += stats.norm.logpdf(table.log_C, mean[2], math.sqrt(wide[2]))
    return total


# ---------------------------------------------------------------- coordinates and priors


def test_coordinates_are_in_units_and_come_back() -> None:
    coordinates = np.random.default_rng(0).normal(size=(5, 7))
    found = particles_of(coordinates, UNIT)
    back = np.concatenate(
        [
            (found.mean - OFFSET) / SCALE,
            np.log(found.spread / SCALE),
            np.log(found.seed_spread / SCALE / SEED_SPREAD)[:, :1],
        ],
        axis=1,
    )
    assert back == pytest.approx(coordinates, abs=1e-12)
    # All three spreads of seeds have one factor.
    assert np.ptp(found.seed_spread / SCALE / SEED_SPREAD, axis=1) == pytest.approx(0.0, abs=1e-12)


def test_prior_of_the_spreads_is_the_normal_that_is_stated() -> None:
    coordinates = np.zeros((20, 7))
    coordinates[:, 3:] = np.random.default_rng(1).normal(scale=0.5, size=(20, 4))
    coordinates[:, 3:6] += np.log(SPREAD_MEDIAN)
    expected = stats.multivariate_normal(np.log(SPREAD_MEDIAN), SPREAD_COVARIANCE).logpdf(coordinates[:, 3:6])
    expected += stats.norm(0.0, SEED_LOG_SD).logpdf(coordinates[:, 6])
    found = log_spread_prior(coordinates)
    # The constants are rounded.
    assert found - found[0] == pytest.approx(expected - expected[0], rel=0.02, abs=0.03)


def test_prior_of_the_mean_has_a_flat_gain_within_the_window() -> None:
    coordinates = np.zeros((3, 7))
    coordinates[:, 0] = 0.6
    coordinates[:, 1:3] = [[0.3, -1.0], [0.6, 0.5], [1.1, 2.0]]
    _, log_B, log_C = coordinates[:, :3].T
    expected = stats.norm(math.log(1.85), 0.35).logpdf(log_B) + stats.norm(math.log(0.5), 1.3).logpdf(log_C)
    expected += np.log(expit(-np.exp(log_B) * log_C))
    found = log_prior(coordinates, UNIT)
    assert np.diff(found) == pytest.approx(np.diff(expected), abs=1e-9)


def test_prior_of_the_ceiling_ends_at_the_bounds_or_is_the_level() -> None:
    coordinates = np.zeros((4, 7))
    coordinates[:, 0] = [0.1, 0.9, 1.1, -0.1]
    bounded = log_prior(coordinates, UNIT)
    assert bounded[0] == bounded[1]
    assert np.all(bounded[2:] < bounded[0] - 10.0)
    free = log_prior(coordinates, Unit(2.0, 5000.0, None, (0.5, 1.0)))
    expected = stats.norm(0.5, 1.0).logpdf(2.0 * coordinates[:, 0])
    assert np.diff(free) == pytest.approx(np.diff(expected), abs=1e-12)


# ---------------------------------------------------------------- sites


def test_blur_is_the_integral_over_the_scatter_in_one_dimension() -> None:
    p, h, v = np.array([3.0, 0.5, 1e-3]), np.array([1.0, -0.7, 0.02]), np.array([0.4, 2.0, 0.1])
    P, towards, log_const = population._blur(np.diag(p), h, v[None])
    for centre in (-1.3, 0.0, 2.0):
        expected = 0.0
        for axis in range(3):

            def inside(x: float, axis: int = axis, centre: float = centre) -> float:
                site = math.exp(-0.5 * p[axis] * x * x + h[axis] * x)
                return site * float(stats.norm.pdf(x, centre, math.sqrt(v[axis])))

            expected += math.log(integrate.quad(inside, centre - 15.0, centre + 15.0, limit=200)[0])
        at = np.full(3, centre)
        assert log_const[0] - 0.5 * at @ P[0] @ at + towards[0] @ at == pytest.approx(expected, abs=1e-6)


def test_blur_is_the_integral_over_the_scatter_in_three_dimensions() -> None:
    precision, shift = correlated((0.6, 1.0, 1.4), 0.6), np.array([0.5, -0.3, 0.2])
    variance = np.array([[0.2, 0.5, 0.1], [0.02, 1.0, 0.3]])
    P, towards, log_const = population._blur(precision, shift, variance)
    for row in range(2):
        for centre in (np.array([0.2, -0.1, 0.4]), np.array([-0.8, 0.6, 0.0])):
            z = np.linspace(-7.0, 7.0, 57)
            off = np.stack(np.meshgrid(z, z, z, indexing="ij"), axis=-1).reshape(-1, 3)
            x = centre + off * np.sqrt(variance[row])
            log_site = -0.5 * np.einsum("ni,ij,nj->n", x, precision, x) + x @ shift
            weight = np.exp(-0.5 * (off**2).sum(axis=1)) / (2.0 * math.pi) ** 1.5 * (z[1] - z[0]) ** 3
            expected = math.log(float(np.exp(log_site) @ weight))
            found = log_const[row] - 0.5 * centre @ P[row] @ centre + towards[row] @ centre
            assert found == pytest.approx(expected, abs=1e-6)


def test_tilted_moments_are_those_of_a_sum_over_cells_and_ceilings() -> None:
    centre, precision = np.array([0.55, 0.6, -0.9]), correlated((0.04, 0.15, 0.3), -0.3)
    mean, covariance = population._tilted(BENT, UNIT, centre, precision)
    A = np.linspace(0.3, 1.0, 1401)
    theta = np.stack(
        [
            np.broadcast_to(A, (BENT.A.size, A.size)),
            np.broadcast_to(BENT.log_B[:, None], (BENT.A.size, A.size)),
            np.broadcast_to(BENT.log_C[:, None] - math.log(5000.0), (BENT.A.size, A.size)),
        ],
        axis=-1,
    )
    log_weight = BENT.log_weight[:, None] + stats.norm.logpdf(
        2.0 * A, BENT.A[:, None], np.sqrt(BENT.var_A)[:, None]
    )
    log_weight += stats.multivariate_normal(centre, np.linalg.inv(precision)).logpdf(theta)
    weight = np.exp(log_weight - log_weight.max()).ravel()
    weight, flat = weight / weight.sum(), theta.reshape(-1, 3)
    expected = weight @ flat
    off = flat - expected
    within = np.diag([0.0, BENT.step[0] ** 2 / 12.0, BENT.step[1] ** 2 / 12.0])
    assert mean == pytest.approx(expected, abs=1e-9)
    assert covariance == pytest.approx((off.T * weight) @ off + within, abs=1e-9)


@pytest.mark.parametrize("reference", [0, 1])
def test_a_normal_run_has_its_own_normal_as_site_wherever_the_reference_lies(reference: int) -> None:
    sds = (0.06, 0.1, 0.12)
    precision = correlated(sds, 0.5)
    table = table_of((1.2, 0.5, 7.8), precision, shape=(81, 81), half=(0.8, 0.7))
    centre = np.array([[0.6, 0.5, -0.7], [0.58, 0.6, -0.75]])[reference]
    sites = sites_of([table], UNIT, centre[None], np.diag([0.05, 0.15, 0.15])[None] ** 2)
    in_unit = precision * np.outer(SCALE, SCALE)
    at = (np.array([1.2, 0.5, 7.8]) - OFFSET) / SCALE
    width = np.sqrt(np.diag(in_unit))
    assert sites.precision[0] / np.outer(width, width) == pytest.approx(
        in_unit / np.outer(width, width), abs=0.03
    )
    found = np.linalg.solve(sites.precision[0], sites.shift[0])
    assert (found - at) * SCALE / sds == pytest.approx(0.0, abs=0.05)


def test_a_run_that_says_nothing_has_a_site_that_says_nothing() -> None:
    flat = table_of((1.0, 0.5, 7.8), np.diag([1e-4, 1e-4, 1e-4]), shape=(60, 60), half=(6.0, 4.0))
    sites = sites_of([flat], UNIT, np.array([[0.5, 0.5, -0.7]]), np.diag([0.1, 0.2, 0.3])[None] ** 2)
    assert np.linalg.eigvalsh(sites.precision[0]).max() < 0.1
    assert np.linalg.eigvalsh(sites.precision[0]).min() > 0.0


# ---------------------------------------------------------------- runs


class Even:
    """Evenly spaced numbers in the place of random ones."""

    def random(self, shape: tuple[int, int]) -> Array:
        """Of the middles of equal parts."""
        return ((np.arange(shape[0]) + 0.5) / shape[0]).reshape(shape)


def place(table: Table, mean: Array, seed_var: Array, arm_var: Array | None = None) -> Any:
    """``_place`` with even numbers."""
    return population._place(table, mean, seed_var, arm_var, Even())  # type: ignore[arg-type]


def test_evidence_of_a_seed_is_the_integral_over_its_ceiling_in_every_cell() -> None:
    # More than two blocks, no two populations alike.
    num = 300
    along = np.linspace(0.0, 1.0, num)[:, None]
    mean = (1.0 - along) * np.array([1.15, 0.6, 7.7]) + along * np.array([1.4, 0.3, 8.3])
    var = (1.0 - along) * np.array([0.003, 0.02, 0.05]) + along * np.array([0.02, 0.3, 0.001])
    found = place(BENT, mean, var)
    A = np.linspace(-0.5, 3.0, 7001)
    for row in (0, 127, 128, 255, 256, 299):
        normal_A = stats.norm.pdf(A, mean[row, 0], math.sqrt(var[row, 0]))
        by_A = stats.norm.pdf(A, BENT.A[:, None], np.sqrt(BENT.var_A)[:, None]) @ normal_A * (A[1] - A[0])
        wide = var[row, 1:] + np.square(BENT.step) / 12.0
        cells = np.exp(BENT.log_weight + BENT.log_scale) * by_A
        cells *= stats.norm.pdf(BENT.log_B, mean[row, 1], math.sqrt(wide[0]))
        cells *= stats.norm.pdf(BENT.log_C, mean[row, 2], math.sqrt(wide[1]))
        # Single precision.
        assert found.log_law[row] == pytest.approx(math.log(cells.sum()), abs=1e-4)
        # The cell is where the even number falls.
        share = np.cumsum(cells) / cells.sum()
        cell, at = found.cell[row], (row + 0.5) / num
        assert share[cell] > at - 1e-5
        assert share[cell] - cells[cell] / cells.sum() < at + 1e-5


def test_cells_are_drawn_by_their_weight_and_cases_by_theirs() -> None:
    num, one = 8000, populations()
    mean, arm_var, seed_var = one.mean[0], one.spread[0] ** 2, one.seed_spread[0] ** 2
    logs = np.array(
        [log_cells(BENT, mean, factors * arm_var + seed_var) + math.log(share) for factors, share in CASES]
    )
    found = place(BENT, *(np.tile(values, (num, 1)) for values in (mean, seed_var, arm_var)))
    log_law = float(logsumexp(logs))
    assert found.log_law == pytest.approx(np.full(num, log_law), abs=1e-4)
    assert np.bincount(found.cell, minlength=BENT.A.size) / num == pytest.approx(
        np.exp(logsumexp(logs, axis=0) - log_law), abs=1.01 / num
    )
    share = np.exp(logs - logsumexp(logs, axis=0)).T[found.cell]
    weight = np.exp(found.log_cases - logsumexp(found.log_cases, axis=1)[:, None])
    assert weight == pytest.approx(share, abs=1e-5)
    # Somewhere each case matters, so that none could be left out.
    assert share.max(axis=0).min() > 0.3


def test_cells_without_weight_are_never_drawn() -> None:
    log_weight = np.full(BENT.A.size, -np.inf)
    log_weight[[3, 50, 90]] = 0.0
    few = replace(BENT, log_weight=log_weight)
    one = populations(2000)
    cell = place(few, one.mean, one.seed_spread**2, one.spread**2).cell
    assert set(cell) == {3, 50, 90}
    assert cell[0] == 3
    assert cell[-1] == 90


def test_values_far_from_zero_are_weighed_as_those_near_it() -> None:
    far = 2e4
    moved = table_of((1.2 + far, 0.5, 7.8), correlated((0.06, 0.2, 0.3), 0.6))
    table = table_of((1.2, 0.5, 7.8), correlated((0.06, 0.2, 0.3), 0.6))
    mean, var = np.array([[1.1, 0.6, 7.7]]), np.array([[0.003, 0.02, 0.05]])
    here = place(table, mean, var).log_law
    there = place(moved, mean + np.array([far, 0.0, 0.0]), var).log_law
    assert there == pytest.approx(here, abs=0.02)


def test_evidence_of_single_runs_is_a_direct_sum() -> None:
    tables = [BENT, table_of((1.0, 0.8, 7.5), correlated((0.1, 0.3, 0.2), 0.2), log_other=-2.0)]
    one = populations()
    drawn = absorb(tables, normal_sites(2), np.array([0, 1]), one, UNIT, 0)
    expected = 0.0
    for table in tables:
        kinds = [
            log_cells(table, one.mean[0], factors * one.spread[0] ** 2 + one.seed_spread[0] ** 2)
            + math.log(share)
            for factors, share in CASES
        ]
        expected += float(np.logaddexp(logsumexp(kinds), table.log_other))
    assert drawn.log_evidence[0] == pytest.approx(expected, abs=2e-4)


def test_draws_of_single_runs_and_their_arms_have_the_moments_of_a_direct_sum() -> None:
    num = 40_000
    drawn = absorb([BENT], normal_sites(1), np.array([0]), populations(num), UNIT, 3)
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
    drawn = absorb([far], normal_sites(1), np.array([0]), populations(10_000, spread=0.3), UNIT, 2)
    assert drawn.lawful.mean() == pytest.approx(0.7, abs=0.02)
    near = replace(table_of((1.15, 0.6, 7.7), correlated((0.01, 0.1, 0.1), 0.0), log_other=-20.0), lawful=0.7)
    drawn = absorb([near], normal_sites(1), np.array([0]), populations(1000), UNIT, 2)
    assert drawn.lawful.all()


def test_spread_of_ceilings_of_a_single_run_is_that_of_a_direct_sum() -> None:
    drawn = absorb([BENT], normal_sites(1), np.array([0]), populations(40_000), UNIT, 4)
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


def normal_sites(num: int, sds: tuple[float, float, float] = (0.03, 0.15, 0.2)) -> Sites:
    """Sites in the unit about slightly different places."""
    rng = np.random.default_rng(5)
    at = np.array([0.58, 0.6, -0.8]) + rng.normal(size=(num, 3)) * np.array([0.02, 0.1, 0.15])
    precision = np.array([correlated(sds, 0.4)] * num)
    return Sites(precision, np.einsum("rij,rj->ri", precision, at))


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
    arm, _ = population._draw_arm(sites, np.arange(3), populations(num), UNIT, np.random.default_rng(0))
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
    arm, log_weight = population._draw_arm(sites, np.arange(2), many, UNIT, np.random.default_rng(1))
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
    drawn = absorb(tables, sites, np.array([0, 0]), populations(num, spread=0.7), UNIT, 8, tries=4)
    total, mean, ceilings = summed_over_arms(tables, one)
    weight = np.exp(drawn.log_evidence)
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
        drawn = absorb(tables, sites, np.array([0, 0]), populations(3000, spread=0.7), UNIT, 9, tries)
        # The mean of 3,000 has an error of 0.02 spreads.
        assert low < float((mean - drawn.arm[:, 0].mean(axis=0))[0] / one.spread[0, 0]) < high, tries


def test_draws_are_chosen_and_mixed_by_particle() -> None:
    first = absorb([BENT], normal_sites(1), np.array([0]), populations(6), UNIT, 0)
    second = absorb([BENT], normal_sites(1), np.array([0]), populations(6), UNIT, 1)
    theirs = np.array([True, False, False, True, False, True])
    mixed = first.mixed(second, theirs)
    for name in ("cell", "A", "lawful", "arm", "log_evidence"):
        expected: list[Any] = [
            getattr(second if new else first, name)[k] for k, new in enumerate(theirs.tolist())
        ]
        assert np.array_equal(getattr(mixed, name), np.array(expected))
    chosen: Drawn = first.of(np.array([4, 4, 0]))
    assert np.array_equal(chosen.A[:, 0], first.A[[4, 4, 0], 0])


# ---------------------------------------------------------------- proposals


def log_singles(sites: Sites, coordinates: Array) -> Array:
    """[K] log evidence of normal runs, each alone in its arm, given the population, in the unit."""
    at = np.linalg.solve(sites.precision, sites.shift[..., None])[..., 0]
    spread, seed = np.exp(2.0 * coordinates[:, 3:6]), (np.exp(coordinates[:, 6:]) * SEED_SPREAD) ** 2
    total = np.zeros(coordinates.shape[0])
    for centre, own in zip(at, np.linalg.inv(sites.precision), strict=True):
        kinds = []
        for factors, share in CASES:
            covariance = own + np.einsum("ki,ij->kij", factors * spread + seed, np.eye(3))
            off = coordinates[:, :3] - centre
            misfit = np.einsum("ki,ki->k", off, np.linalg.solve(covariance, off[..., None])[..., 0])
            kinds.append(math.log(share) - 0.5 * (misfit + np.linalg.slogdet(covariance)[1]))
        total += logsumexp(kinds, axis=0)
    return total


def log_mean_prior(coordinates: Array, level: tuple[float, float]) -> Array:
    """[K] the normal priors of mu that a proposal counts."""
    prior_mean, prior_sd = [level[0], math.log(1.85), math.log(0.5)], [level[1], 0.35, 1.3]
    density: Array = stats.norm.logpdf(coordinates[:, :3], prior_mean, prior_sd).sum(axis=1)
    return density


def weighted(sites: Sites, num: int, level: tuple[float, float]) -> tuple[Array, Array]:
    """(coordinates, weights) of proposals, weighted by the exact marginal of normal runs."""
    proposed = propose(sites, np.arange(len(sites.shift)), num, 1, level)
    log_weight = log_singles(sites, proposed.coordinates) + log_mean_prior(proposed.coordinates, level)
    log_weight -= proposed.log_density
    weight = np.exp(log_weight - log_weight.max())
    return proposed.coordinates, weight / weight.sum()


def test_with_known_spreads_proposals_weigh_to_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(population, "_SPREAD_ROOT", 1e-6 * np.eye(3))
    monkeypatch.setattr(population, "_SEED_LOG_SD", 1e-6)
    monkeypatch.setattr(population, "_CASE_LOG_WEIGHTS", np.log([1.0, 1e-12, 1e-12]))
    sites, level = normal_sites(4), (0.5, 0.35)
    proposed = propose(sites, np.arange(4), 2048, 1, level)
    at = np.linalg.solve(sites.precision, sites.shift[..., None])[..., 0]
    # Normal throughout: precisions add.
    prior = np.diag(np.array([0.35, 0.35, 1.3]) ** -2.0)
    precision, pull = prior.copy(), prior @ np.array([0.5, math.log(1.85), math.log(0.5)])
    for own, centre in zip(np.linalg.inv(sites.precision), at, strict=True):
        inverse = np.linalg.inv(own + np.diag(SPREAD_MEDIAN**2 + SEED_SPREAD**2))
        precision, pull = precision + inverse, pull + inverse @ centre
    covariance = np.linalg.inv(precision)
    mean = covariance @ pull
    mu = proposed.coordinates[:, :3]
    log_weight = stats.multivariate_normal(mean, covariance).logpdf(mu) - proposed.log_density
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    sd = np.sqrt(np.diag(covariance))
    found = weight @ mu
    assert (found - mean) / sd == pytest.approx(0.0, abs=0.04)
    off = (mu - found) / sd
    assert (off.T * weight) @ off == pytest.approx(covariance / np.outer(sd, sd), abs=0.06)
    # Heavier tails than the target, and no worse.
    assert 1.0 / (weight**2).sum() > 0.6 * weight.size
    assert log_weight.max() - np.median(log_weight) < 2.0


@pytest.mark.parametrize("odd", [False, True])
def test_proposals_weigh_to_the_posterior_of_a_chain_free_sum(odd: bool) -> None:
    sites, level = normal_sites(6), (0.5, 0.35)
    if odd:
        sites.shift[2] += sites.precision[2] @ np.array([-0.2, 0.0, 0.6])
    coordinates, weight = weighted(sites, 4096, level)
    # Brute force: spreads from their prior, mu from a wide normal.
    rng, num = np.random.default_rng(2), 150_000
    wide = stats.multivariate_normal(np.log(SPREAD_MEDIAN), SPREAD_COVARIANCE)
    brute = np.empty((num, 7))
    centre, width = np.array([0.57, 0.6, -0.75]), np.array([0.03, 0.12, 0.2])
    brute[:, :3] = centre + width * rng.standard_normal((num, 3))
    brute[:, 3:6] = wide.rvs(num, random_state=rng)
    brute[:, 6] = SEED_LOG_SD * rng.standard_normal(num)
    log_weight = log_singles(sites, brute) + log_mean_prior(brute, level)
    log_weight -= stats.norm.logpdf(brute[:, :3], centre, width).sum(axis=1)
    exact = np.exp(log_weight - log_weight.max())
    exact /= exact.sum()
    assert 1.0 / (exact**2).sum() > 3000.0
    mean, sd = exact @ brute, np.sqrt(exact @ brute**2 - (exact @ brute) ** 2)
    found = weight @ coordinates
    assert (found - mean) / sd == pytest.approx(0.0, abs=0.1)
    spread = np.sqrt(weight @ coordinates**2 - found**2)
    assert spread / sd == pytest.approx(1.0, abs=0.12)
    assert 1.0 / (weight**2).sum() > 0.25 * weight.size


def test_an_odd_arm_hardly_moves_the_proposed_population() -> None:
    level = (0.5, 0.35)
    plain, moved = normal_sites(8, (0.004, 0.05, 0.08)), normal_sites(8, (0.004, 0.05, 0.08))
    moved.shift[3] += moved.precision[3] @ np.array([-0.15, 0.0, 0.0])
    found = [weighted(sites, 1024, level) for sites in (plain, moved)]
    mean = [weight @ coordinates for coordinates, weight in found]
    assert mean[0][0] - mean[1][0] == pytest.approx(0.0, abs=0.015)
    assert math.exp(mean[1][3] - mean[0][3]) < 1.6


# ---------------------------------------------------------------- where annealing and searching begin


def test_a_bell_is_the_widened_normal_of_weighted_populations() -> None:
    rng = np.random.default_rng(6)
    coordinates, weight = rng.normal(size=(400, 7)) @ rng.normal(size=(7, 7)), rng.random(400)
    weight /= weight.sum()
    bell = Bell.around(coordinates, weight, 1.7)
    covariance = 1.7 * np.cov(coordinates.T, aweights=weight, ddof=0)
    assert bell.centre == pytest.approx(weight @ coordinates)
    assert bell.root @ bell.root.T == pytest.approx(covariance, abs=0.01)
    drawn = bell.draw(4096, 3)
    sd = np.sqrt(np.diag(covariance))
    assert np.cov(drawn.T) / np.outer(sd, sd) == pytest.approx(covariance / np.outer(sd, sd), abs=0.03)
    exact = stats.multivariate_normal(bell.centre, bell.root @ bell.root.T).logpdf(drawn[:20])
    assert np.diff(bell.log_density(drawn[:20])) == pytest.approx(np.diff(exact), abs=1e-8)


def test_a_search_fills_its_box() -> None:
    low, high = np.array([0.2, -0.5, -2.0]), np.array([0.9, 1.5, 1.0])
    found = search(low, high, 512)
    assert np.all((found[:, :3] >= low) & (found[:, :3] <= high))
    assert found[:, :3].mean(axis=0) == pytest.approx(0.5 * (low + high), abs=0.01)
    assert np.ptp(found[:, :3], axis=0) == pytest.approx(high - low, rel=0.02)
