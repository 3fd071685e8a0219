"""Cells and cases weighed against direct sums and integrals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from scalerl_lab.fit.weighing import Table, Weighed, log_cases, weigh
from tests.fit.populations import (
    BENT,
    CASES,
    Array,
    correlated,
    log_cells,
    populations,
    table_of,
)


def even(num: int) -> Array:
    """The middles of equal parts, in the place of random numbers."""
    numbers: Array = (np.arange(num) + 0.5) / num
    return numbers


def place(table: Table, mean: Array, seed_var: Array, arm_var: Array | None = None) -> Weighed:
    """One cell from each population, by even numbers."""
    num = mean.shape[0]
    return weigh(table, mean, seed_var, arm_var, np.arange(num), even(num))


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
    repeated = (np.tile(values, (num, 1)) for values in (mean, seed_var, arm_var))
    log_case = log_cases(BENT, found.cell, *repeated)
    weight = np.exp(log_case - logsumexp(log_case, axis=1)[:, None])
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


def test_several_cells_of_a_population_are_drawn_by_their_weight() -> None:
    # Two populations of 300 have draws: 6,000 and 2,000.
    num, along = 300, np.linspace(0.0, 1.0, 300)[:, None]
    mean = (1.0 - along) * np.array([1.15, 0.6, 7.7]) + along * np.array([1.25, 0.4, 7.9])
    arm_var, seed_var = (
        np.tile(values**2, (num, 1))
        for values in (np.array([0.05, 0.15, 0.25]), np.array([0.02, 0.06, 0.08]))
    )
    owner = np.repeat([5, 290], [6000, 2000])
    found = weigh(BENT, mean, seed_var, arm_var, owner, np.concatenate([even(6000), even(2000)]))
    for row, count in ((5, 6000), (290, 2000)):
        logs = [
            log_cells(BENT, mean[row], factors * arm_var[row] + seed_var[row]) + math.log(share)
            for factors, share in CASES
        ]
        expected = np.exp(logsumexp(logs, axis=0) - logsumexp(logs))
        drawn = np.bincount(found.cell[owner == row], minlength=BENT.A.size) / count
        assert drawn == pytest.approx(expected, abs=1.01 / count)
        assert found.log_law[row] == pytest.approx(float(logsumexp(logs)), abs=1e-4)


@pytest.mark.parametrize("arm_is_given", [True, False])
def test_populations_out_of_reach_of_single_precision_weigh_as_others(arm_is_given: bool) -> None:
    # The density of the far one is about exp(-700) of that of the near one.
    mean = np.array([[1.15, 0.6, 7.7], [9.0, 0.6, 7.7], [1.15, 0.6, 7.75]])
    seed_var, arm_var = np.tile([0.0004, 0.0036, 0.0064], (3, 1)), np.tile([0.0009, 0.01, 0.01], (3, 1))
    owner, uniform = np.repeat([0, 1, 2], 2000), np.tile(even(2000), 3)
    found = weigh(BENT, mean, seed_var, None if arm_is_given else arm_var, owner, uniform)
    for row in range(3):
        if arm_is_given:
            log_each = log_cells(BENT, mean[row], seed_var[row])
        else:
            log_each = logsumexp(
                [
                    log_cells(BENT, mean[row], factors * arm_var[row] + seed_var[row]) + math.log(share)
                    for factors, share in CASES
                ],
                axis=0,
            )
        total = float(logsumexp(log_each))
        assert found.log_law[row] == pytest.approx(total, rel=1e-5, abs=1e-4)
        drawn = np.bincount(found.cell[2000 * row : 2000 * row + 2000], minlength=BENT.A.size) / 2000
        assert drawn == pytest.approx(np.exp(log_each - total), abs=1.01 / 2000)
    assert found.log_law[1] < found.log_law[0] - 200.0
