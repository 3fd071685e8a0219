"""The closed forms of a cell against sums over grids, dense matrices and numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scalerl_lab.fit.cells import Problem, evaluate, evaluate_level, law_forms, prepare, trend_form
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import gain_share
from scalerl_lab.fit.noise import KINDS
from tests.fit.dense import Explanation, covariance, law, level, relative_values, sum_over_grid, trend

CELLS = (np.log([0.3, 1.0, 4.0]), np.log([1.6, 3.0, 0.8]))
"""(log C_mid over the last compute, log B)."""

CURVES = {
    "bounded": Curve.of(
        "run",
        [1.0, 2.0, 3.0, 5.0, 8.0],
        [0.31, 0.42, 0.44, 0.55, 0.58],
        se=[0.02, 0.02, 0.01, 0.02, 0.03],
        r0=0.2,
        r0_se=0.02,
        bounds=(0.0, 1.0),
    ),
    "without a start": Curve.of("run", [1.0, 2.0, 4.0, 6.0], [0.3, 0.35, 0.5, 0.52], bounds=(0.0, 1.0)),
    "long": Curve.of(
        "run",
        np.arange(1.0, 121.0),
        gain_share(np.arange(1.0, 121.0), 1.5, 30.0) + 0.05 * np.random.default_rng(0).normal(size=120),
        r0=0.0,
        bounds=(-1.0, 2.0),
    ),
    "unbounded": Curve.of(
        "run", [10.0, 20.0, 40.0, 60.0, 70.0, 90.0], [-5, 40.0, 85.0, 90.0, 99.0, 97.0], r0=-20.0
    ),
}


def component(problem: Problem, rho: float, walk: float, which: int = 0) -> int:
    """A component of the kind of noise; ``which`` of those with different readings of the start."""
    kinds = [j for j, k in enumerate(KINDS) if (k.rho, k.walk) == (rho, walk)]
    return int(np.flatnonzero(problem.kind == kinds[0])[which])


def some_components(problem: Problem) -> list[int]:
    """White, correlated and wandering noise, and the other reading of the start where there is one."""
    chosen = [component(problem, 0.3, 0.0), component(problem, 0.85, 0.0), component(problem, 0.2, 4.0)]
    if problem.kind.size > len(KINDS):
        chosen.append(component(problem, 0.3, 0.0, which=1))
    return chosen


@pytest.mark.parametrize("name", CURVES)
def test_evidences_and_moments_are_those_of_a_sum_over_all_parameters(name: str) -> None:
    problem = prepare(CURVES[name])
    chosen = np.array(some_components(problem))
    found = evaluate(problem, law_forms(problem, *CELLS), chosen)
    exact, log_weight = [], []
    for row, j in enumerate(chosen):
        for q in range(CELLS[0].size):
            summed = sum_over_grid(problem, law(problem, int(j), CELLS[0][q], CELLS[1][q]))
            exact.append(summed.log_evidence)
            log_weight.append(found.log_weight[row, q])
            sigma2 = found.sse[row, q] / (problem.degrees - 2.0)
            assert sigma2 == pytest.approx(summed.sigma2, rel=0.01)
            assert found.r0[row, q] == pytest.approx(summed.r0, abs=0.01 * math.sqrt(summed.var_r0))
            assert found.A[row, q] == pytest.approx(summed.A, abs=0.01 * math.sqrt(summed.var_A))
            assert sigma2 * found.var_r0[row, q] == pytest.approx(summed.var_r0, rel=0.02)
            assert sigma2 * found.var_A[row, q] == pytest.approx(summed.var_A, rel=0.02)
            scale = math.sqrt(summed.var_A * summed.var_r0)
            assert sigma2 * found.covariance[row, q] == pytest.approx(summed.covariance, abs=0.02 * scale)
    odds = np.array(log_weight) - log_weight[0]
    # The oracle's range of evidences is wide, so that agreement is no accident.
    assert np.ptp(odds) > 2.0
    assert odds == pytest.approx(np.array(exact) - exact[0], abs=0.02)


@pytest.mark.parametrize("name", CURVES)
def test_the_level_and_the_trend_compete_with_the_law_at_their_true_odds(name: str) -> None:
    problem = prepare(CURVES[name])
    chosen = np.array(some_components(problem))
    cells = evaluate(problem, law_forms(problem, *CELLS), chosen)
    flat = evaluate_level(problem)
    line = evaluate(problem, trend_form(problem), chosen, loose=True)
    exact, found = [], []
    for row, component_ in enumerate(chosen):
        j = int(component_)
        three: list[tuple[Explanation, float]] = [
            (law(problem, j, CELLS[0][0], CELLS[1][0]), float(cells.log_weight[row, 0])),
            (level(problem, j), float(flat.log_weight[j])),
            (trend(problem, j), float(line.log_weight[row, 0])),
        ]
        for explanation, log_weight in three:
            exact.append(sum_over_grid(problem, explanation).log_evidence)
            found.append(log_weight)
    assert np.ptp(exact) > 2.0
    assert np.array(found) - found[0] == pytest.approx(np.array(exact) - exact[0], abs=0.02)


@pytest.mark.parametrize("name", CURVES)
def test_the_level_is_known_as_well_as_a_sum_says(name: str) -> None:
    problem = prepare(CURVES[name])
    found = evaluate_level(problem)
    for j in some_components(problem):
        summed = sum_over_grid(problem, level(problem, j))
        assert found.r0[j] == pytest.approx(summed.r0, abs=0.01 * math.sqrt(summed.var_r0))
        sigma2 = found.sse[j] / (problem.degrees - 2.0)
        assert sigma2 == pytest.approx(summed.sigma2, rel=0.01)
        assert sigma2 * found.var_r0[j] == pytest.approx(summed.var_r0, rel=0.02)


@pytest.mark.parametrize("num", [1, 2, 9, 80])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
def test_conditionals_are_generalised_least_squares_with_the_priors_as_data(
    num: int, bounds: tuple[float, float] | None
) -> None:
    rng = np.random.default_rng(num)
    hours = np.cumsum(0.5 + rng.random(num))
    value = 0.2 + 0.5 * gain_share(hours, 1.6, 0.4 * hours[-1]) + 0.02 * rng.normal(size=num)
    curve = Curve.of("run", hours, value, se=0.01 + 0.02 * rng.random(num), r0=0.21, bounds=bounds)
    problem = prepare(curve)
    every = np.arange(problem.kind.size)
    found = evaluate(problem, law_forms(problem, *CELLS), every)
    y = relative_values(problem)
    num = y.size
    for j in every:
        for q in range(CELLS[0].size):
            of = law(problem, int(j), CELLS[0][q], CELLS[1][q])
            # Rows: the points, then what the priors say of R0, of the gain in the window, and of A.
            # Columns: R0 and A.
            assert of.form is not None
            gained = of.form * of.share
            design = np.vstack(
                [np.column_stack([1.0 - gained, gained]), [1.0, 0.0], [-of.share, of.share], [0.0, 1.0]]
            )
            weight = np.zeros((num + 3, num + 3))
            weight[:num, :num] = np.linalg.inv(covariance_of(problem, of.kind))
            weight[num, num] = 1.0 / of.start_variance
            weight[num + 1, num + 1] = problem.gain_precision
            weight[num + 2, num + 2] = problem.ceiling_precision
            target = np.concatenate([y, [0.0, 0.0, problem.ceiling_mean]])
            spread = np.linalg.inv(design.T @ weight @ design)
            best = spread @ design.T @ weight @ target
            rest = target - design @ best
            assert found.r0[j, q] == pytest.approx(best[0], abs=1e-6 * math.sqrt(spread[0, 0]))
            assert found.A[j, q] == pytest.approx(best[1], abs=1e-6 * math.sqrt(spread[1, 1]))
            assert found.var_r0[j, q] == pytest.approx(spread[0, 0], rel=1e-6)
            assert found.var_A[j, q] == pytest.approx(spread[1, 1], rel=1e-6)
            squares = rest @ weight @ rest + problem.noise_degrees + problem.scatter[j]
            assert found.sse[j, q] == pytest.approx(squares, rel=1e-6)
            assert found.covariance[j, q] == pytest.approx(
                spread[0, 1], abs=1e-6 * math.sqrt(spread[0, 0] * spread[1, 1])
            )


def covariance_of(problem: Problem, kind: int) -> np.ndarray:
    """Of the points, also of a single one."""
    return (
        np.array([[problem.points.sd[0] ** 2]]) if problem.points.t.size == 1 else covariance(problem, kind)
    )


def test_forms_are_the_law_over_its_gain_in_the_window() -> None:
    problem = prepare(CURVES["bounded"])
    forms = law_forms(problem, *CELLS)
    for q in range(3):
        gained = gain_share(problem.points.t, np.exp(CELLS[1][q]), np.exp(CELLS[0][q]))
        assert forms.share[q] == pytest.approx(gained[-1])
        assert forms.form[q] == pytest.approx(gained / gained[-1])
    # C_mid at the last compute 8 and B = 3: a half there, and 1 / (1 + 4^3) at compute 2.
    assert forms.share[1] == pytest.approx(0.5)
    assert forms.form[1, 1] == pytest.approx(2.0 / (1.0 + 4.0**3))
    assert forms.form[:, -1] == pytest.approx(np.ones(3))


def test_the_farthest_cells_have_numbers() -> None:
    curve = Curve.of("run", [1e-9, 1.0, 1e9], [0.2, 0.3, 0.4], bounds=(0.0, 1.0))
    problem = prepare(curve)
    log_C, log_B = (grid.ravel() for grid in np.meshgrid([-5.0, 3.5], [math.log(0.15), math.log(14.0)]))
    forms = law_forms(problem, log_C, log_B)
    found = evaluate(problem, forms, np.arange(problem.kind.size))
    for numbers in (forms.form, found.log_weight, found.A, found.r0, found.var_A, found.sse):
        assert np.all(np.isfinite(numbers))
    assert np.all(found.var_A > 0.0)


def test_a_line_in_log_compute_runs_from_the_first_point_to_the_last() -> None:
    problem = prepare(Curve.of("run", [1.0, 10.0, 100.0, 10000.0], [0.1, 0.2, 0.3, 0.4], bounds=(0.0, 1.0)))
    assert trend_form(problem).form[0] == pytest.approx([0.0, 0.25, 0.5, 1.0])
    assert trend_form(problem).share.tolist() == [1.0]
    # R0 is then the first value and A the last.
    found = evaluate(problem, trend_form(problem), np.array([0]), loose=True)
    assert problem.start + problem.scale * found.r0[0, 0] == pytest.approx(0.11, abs=0.02)
    assert problem.start + problem.scale * found.A[0, 0] == pytest.approx(0.41, abs=0.02)


def test_what_is_known_of_the_start() -> None:
    hours, value = [1.0, 2.0, 3.0, 4.0], [0.3, 0.5, 0.6, 0.7]
    # Standard errors of 0.05: the scale is sqrt(2) 0.05, the range 0.7 - 0.2 with the start, 0.4 without.
    se, scale = [0.05] * 4, math.sqrt(2.0) * 0.05
    measured = prepare(Curve.of("run", hours, value, se=se, r0=0.2, r0_se=0.1))
    assert [measured.start, measured.range] == pytest.approx([0.2, 0.5])
    assert measured.scale == pytest.approx(scale)
    tight, loose = (0.1 / scale) ** 2, (0.1 / scale) ** 2 + (0.15 * 0.5 / scale) ** 2
    assert 1.0 / measured.start_precision[[0, -1]] == pytest.approx([tight, loose])
    assert measured.kind.tolist() == 2 * list(range(len(KINDS)))
    as_a_point = prepare(Curve.of("run", hours, value, se=se, r0=0.2))
    assert 1.0 / as_a_point.start_precision[[0, -1]] == pytest.approx([1.0, 1.0 + (0.15 * 0.5 / scale) ** 2])
    exact = prepare(Curve.of("run", hours, value, se=se, r0=0.2, r0_se=0.0))
    assert exact.kind.size == len(KINDS)
    assert exact.start_precision[0] >= 1e4
    unknown = prepare(Curve.of("run", hours, value, se=se))
    assert [unknown.start, unknown.range] == pytest.approx([0.3, 0.4])
    assert unknown.kind.size == len(KINDS)
    assert 1.0 / unknown.start_precision[0] == pytest.approx((0.4 / scale) ** 2)


def test_what_is_thought_possible_of_the_gain_and_the_ceiling() -> None:
    hours, value = [1.0, 2.0, 3.0, 4.0], [30.0, 50.0, 60.0, 70.0]
    free = prepare(Curve.of("run", hours, value, se=[1.0] * 4))
    wide = (3.0 * 40.0 / math.sqrt(2.0)) ** 2
    assert 1.0 / free.gain_precision == pytest.approx(wide)
    assert 1.0 / free.ceiling_precision == pytest.approx(wide)
    assert free.ceiling_mean == pytest.approx((60.0 - 30.0) / math.sqrt(2.0))
    assert (free.low, free.high) == (-math.inf, math.inf)
    bounded = prepare(Curve.of("run", hours, value, se=[1.0] * 4, bounds=(0.0, 100.0)))
    assert bounded.ceiling_precision == 0.0
    assert [bounded.low, bounded.high] == pytest.approx([-30.0 / math.sqrt(2.0), 70.0 / math.sqrt(2.0)])


def test_noise_is_never_nothing() -> None:
    # Equal points, or points on a line, show none: ((0.013^2 + 0.004 / 64) / 4)^(1/2) = 0.0076076 of what is
    # possible, or of four times what was seen.
    constant = prepare(Curve.of("run", [1.0, 2.0, 3.0, 4.0], [0.5] * 4, bounds=(0.0, 2.0)))
    assert constant.scale == pytest.approx(0.0152151, rel=1e-4)
    line = prepare(Curve.of("run", [1.0, 2.0, 3.0, 4.0], [0.0, 100.0, 200.0, 300.0]))
    assert line.scale == pytest.approx(9.1291, rel=1e-4)
    # A range of less than three times the noise is noise.
    assert constant.range == pytest.approx(3.0 * 0.0152151, rel=1e-4)
    # Errors that are given are believed, down to a ten-thousandth of what was seen.
    known = prepare(Curve.of("run", [1.0, 2.0], [0.4, 0.6], se=[1e-9] * 2, bounds=(0.0, 1.0)))
    assert known.scale == pytest.approx(0.25e-4 * 0.8)


def test_outliers_weigh_by_their_inflated_noise() -> None:
    curve = CURVES["bounded"]
    plain, inflated = prepare(curve), prepare(curve, inflation=np.array([1.0, 1.0, 5.0, 1.0, 1.0]))
    assert inflated.points.sd / plain.points.sd == pytest.approx([1.0, 1.0, 5.0, 1.0, 1.0])
    white = component(plain, 0.0, 0.0)
    ratio = np.diag(covariance(inflated, 0)) / np.diag(covariance(plain, 0))
    assert ratio == pytest.approx([1.0, 1.0, 25.0, 1.0, 1.0])
    root = inflated.root[inflated.kind[white]]
    assert np.linalg.inv(root.T @ root) == pytest.approx(covariance(inflated, 0), abs=1e-9)
