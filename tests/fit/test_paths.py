"""Curves drawn from known parameters: what the law misses grows beyond the window, by formula."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from scalerl_lab.fit import fit_posterior, pass_rate
from scalerl_lab.fit.cells import Problem, prepare
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.noise import KINDS
from scalerl_lab.fit.paths import predict
from scalerl_lab.fit.posterior import Draws
from tests.fit.curves import simulate
from tests.fit.dense import correlation_of, covariance, time_of, walk_covariance
from tests.fit.test_posterior import published

R0, A, B, C_MID = 20.0, 80.0, 1.5, 3000.0
HOURS = np.arange(1, 17) * 500.0
LAST = HOURS[-1]
SIGMA = 1.5
NUM = 8192
AHEAD = np.array([1.1, 1.5, 2.0, 4.0, 10.0])


def known(
    kind: int, *, lawful: bool = True, slope: float = 0.0, sigma: float = SIGMA, seed: int = 0
) -> Draws:
    """Draws that are certain of everything."""
    ones = np.ones(NUM)
    return Draws(
        r0=R0 * ones,
        A=A * ones,
        B=B * ones,
        C_mid=C_MID * ones,
        sigma=sigma * ones,
        kind=np.full(NUM, kind, dtype=np.int64),
        lawful=np.full(NUM, lawful),
        slope=slope * ones,
        edge_mass=0.0,
        seed=seed,
    )


def exactly(off: np.ndarray | float = 0.0, **more: object) -> Problem:
    """Points on the law, or off it."""
    value = pass_rate(HOURS, R0, A, B, C_MID) + off
    return prepare(Curve.of("run", HOURS, value, r0=R0, **more))  # type: ignore[arg-type]


def index_of(rho: float, walk: float) -> int:
    """The first kind of noise with these numbers."""
    return next(j for j, k in enumerate(KINDS) if (k.rho, k.walk) == (rho, walk))


def end_slope() -> float:
    """Rise of the law at the window's end per unit of log compute, by difference."""
    step = 1e-5
    ends = pass_rate(LAST * np.exp([-step, step]), R0, A, B, C_MID)
    return float((ends[1] - ends[0]) / (2.0 * step))


def wander_left(problem: Problem, kind: int) -> float:
    """Variance of the wander at the window's end given the points, over sigma^2."""
    t, end = problem.points.t, np.ones(1)
    cross = walk_covariance(problem, kind, end, t)
    left = walk_covariance(problem, kind, end, end)
    left = left - cross @ np.linalg.inv(covariance(problem, kind)) @ cross.T
    return float(left[0, 0])


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_what_the_law_misses_grows_beyond_the_window_by_formula(kind: int) -> None:
    problem, of = exactly(), KINDS[kind]
    found = predict(problem, known(kind), AHEAD * LAST).mean
    beyond = np.log(AHEAD)
    variance = (of.slope_error * end_slope() * beyond) ** 2 + (of.range_error * problem.range) ** 2 * beyond
    if of.walk > 0.0:
        on = time_of(AHEAD, of.clock, float(problem.points.t[0])) - 1.0
        variance = variance + SIGMA**2 * (wander_left(problem, kind) + of.walk**2 * on)
    assert found.std(axis=0) == pytest.approx(np.sqrt(variance), rel=0.04, abs=1e-9)
    assert np.all(np.diff(found.std(axis=0)) > 0.0)
    # Points on the law leave no wander, so the curve is expected on the law.
    law = pass_rate(AHEAD * LAST, R0, A, B, C_MID)
    assert found.mean(axis=0) == pytest.approx(law, abs=5.0 * math.sqrt(variance.max() / NUM) + 1e-9)


def test_the_law_itself_where_residuals_are_noise() -> None:
    found = predict(exactly(), known(index_of(0.0, 0.0)), [0.0, 250.0, 3000.0, LAST])
    # Half of the gain at the midpoint.
    assert found.mean[:, 2] == pytest.approx(np.full(NUM, 50.0))
    assert found.mean[:, 0] == pytest.approx(np.full(NUM, R0))
    assert np.ptp(found.mean, axis=0) == pytest.approx(np.zeros(4), abs=1e-9)
    assert np.all(found.noise_sd == SIGMA)
    assert np.all(found.centre == found.mean)


@pytest.mark.parametrize("rho", [0.3, 0.6, 0.85])
def test_the_last_residual_carries_over_to_the_next_points(rho: float) -> None:
    off = np.zeros(HOURS.size)
    off[-1] = 4.0
    # A half, one, two and twenty steps after the last point: never nearer than a neighbour.
    at = LAST + 500.0 * np.array([0.5, 1.0, 2.0, 20.0])
    found = predict(exactly(off), known(index_of(rho, 0.0)), at)
    powers = rho ** np.array([1.0, 1.0, 2.0, 20.0])
    assert found.noise_mean is not None
    assert found.noise_mean[0] == pytest.approx(4.0 * powers)
    assert found.noise_sd[0] == pytest.approx(SIGMA * np.sqrt(1.0 - powers**2))
    within = predict(exactly(off), known(index_of(rho, 0.0)), HOURS)
    assert within.noise_mean is not None
    assert np.all(within.noise_mean == 0.0)
    assert np.all(within.noise_sd == SIGMA)


def test_white_noise_carries_nothing_over() -> None:
    off = np.zeros(HOURS.size)
    off[-1] = 4.0
    found = predict(exactly(off), known(index_of(0.0, 0.0)), [LAST + 500.0])
    assert np.all(found.centre == found.mean)
    assert np.all(found.noise_sd == SIGMA)


def test_the_residual_of_a_mean_carries_over_as_its_points_do() -> None:
    # 120 points are averaged by three: the regression of the next on the mean of the last three.
    hours = np.arange(1, 121) * 100.0
    off = np.where(np.arange(120) >= 117, 4.0, 0.0)
    curve = Curve.of("run", hours, pass_rate(hours, R0, A, B, C_MID) + off, r0=R0)
    problem, kind = prepare(curve), index_of(0.6, 0.0)
    assert problem.points.count[-1] == 3.0
    place = np.arange(4.0)
    every = correlation_of(kind, place[:, None] - place)
    mean = np.array([1.0, 1.0, 1.0, 0.0]) / 3.0
    with_next, of_mean = float(mean @ every[:, 3]), float(mean @ every @ mean)
    found = predict(problem, known(kind), [12100.0])
    assert found.noise_mean is not None
    residual = float(problem.points.y[-1]) - float(
        pass_rate(problem.points.t[-1] * hours[-1], R0, A, B, C_MID)
    )
    assert found.noise_mean[0, 0] == pytest.approx(residual * with_next / of_mean, rel=0.02)
    left = math.sqrt(1.0 - with_next**2 / of_mean)
    assert found.noise_sd[0, 0] == pytest.approx(SIGMA * left, rel=0.02)


def test_an_uncertain_last_point_carries_little_over() -> None:
    off = np.zeros(HOURS.size)
    off[-1] = 4.0
    se = np.where(np.arange(HOURS.size) == HOURS.size - 1, 5.0, 0.5)
    problem = exactly(off, se=se)
    found = predict(problem, known(index_of(0.6, 0.0)), [LAST + 500.0])
    assert found.noise_mean is not None
    assert found.noise_mean[0, 0] == pytest.approx(4.0 * 0.6 / problem.points.sd[-1], rel=0.01)


@pytest.mark.parametrize("walk", [1.0, 4.0, 16.0, 64.0])
def test_the_wander_is_what_the_residuals_say_of_it(walk: float) -> None:
    rng = np.random.default_rng(1)
    off = np.cumsum(rng.normal(size=HOURS.size))
    problem, kind = exactly(off), index_of(0.2, walk)
    at = np.array([700.0, 500.0, 4250.0, LAST, 1.3 * LAST])
    found = predict(problem, known(kind), at)
    x, t = at / LAST, problem.points.t
    cross = walk_covariance(problem, kind, np.minimum(x, 1.0), t)
    weights = cross @ np.linalg.inv(covariance(problem, kind))
    own = np.diag(walk_covariance(problem, kind, np.minimum(x, 1.0), np.minimum(x, 1.0)))
    left = own - np.einsum("mn,mn->m", weights, cross)
    law = pass_rate(at, R0, A, B, C_MID)
    assert found.mean[:, :4].mean(axis=0) == pytest.approx((law + weights @ off)[:4], abs=0.05)
    assert found.mean[:, :4].std(axis=0) == pytest.approx(SIGMA * np.sqrt(left[:4]), rel=0.04, abs=1e-9)
    # Beyond the window it goes on from where it is.
    assert found.mean[:, 4].mean() == pytest.approx(law[4] + weights[4] @ off, abs=0.05 * walk + 0.05)


def test_steps_of_a_walk_are_its_own() -> None:
    problem, kind = exactly(), index_of(0.2, 16.0)
    found = predict(problem, known(kind), np.array([1.0, 1.5, 2.0, 3.0]) * LAST).mean
    steps = np.diff(found, axis=1)
    # What the law's slope errs by is common to all steps; the rest is not.
    together = np.atleast_2d(np.corrcoef(steps.T))
    tilt = (KINDS[kind].slope_error * end_slope() * np.diff(np.log([1.0, 1.5, 2.0, 3.0]))) ** 2
    share = tilt / steps.var(axis=0)
    for i in range(3):
        for j in range(i):
            assert together[i, j] == pytest.approx(math.sqrt(share[i] * share[j]), abs=0.05)


def test_a_level_stays_and_a_line_goes_on() -> None:
    hours = np.array([500.0, 1000.0, 2000.0, 4000.0])
    problem = prepare(Curve.of("run", hours, [20.0] * 4, r0=20.0))
    kind = index_of(0.0, 0.0)
    level = predict(problem, known(kind, lawful=False), [0.0, 1000.0, 4000.0, 4e6]).mean
    assert np.ptp(level) == 0.0
    assert level[0, 0] == R0
    line = predict(problem, known(kind, lawful=False, slope=2.0), [400.0, 4000.0, 40000.0]).mean
    # R0 is the value at the window's last compute; a decade is ln 10 = 2.303 away.
    assert line.mean(axis=0) == pytest.approx([20.0 - 4.605, 20.0, 20.0 + 4.605], abs=0.01)
    error = KINDS[kind].slope_error * 2.0 * math.log(10.0)
    assert line.std(axis=0) == pytest.approx([0.0, 0.0, error], rel=0.02, abs=1e-9)
    assert np.all(np.isfinite(predict(problem, known(kind, lawful=False, slope=2.0), [0.0]).mean))


def test_a_level_that_wandered_stays_where_it_is() -> None:
    hours = np.arange(1, 21) * 100.0
    problem = prepare(Curve.of("run", hours, np.where(hours > 1000.0, 30.0, 20.0), r0=20.0))
    found = predict(problem, known(index_of(0.2, 64.0), lawful=False, sigma=0.2), [2000.0, 2100.0]).mean
    assert np.median(found, axis=0) == pytest.approx([30.0, 30.0], abs=0.5)


def test_curves_lie_within_the_bounds() -> None:
    value = np.clip(pass_rate(HOURS, 0.2, 1.0, B, C_MID), 0.0, 1.0)
    curve = Curve.of("run", HOURS, value, r0=0.2, bounds=(0.0, 1.0))
    found = fit_posterior(curve).predict([0.0, LAST, 1e3 * LAST])
    assert found.mean.min() >= 0.0
    assert found.mean.max() <= 1.0
    assert found.quantiles().max() <= 1.0


def test_bands_of_a_new_point_are_wider_than_the_curves() -> None:
    for seed in range(4):
        fit = fit_posterior(published(np.random.default_rng(seed), end=9000.0))
        found = fit.predict([2000.0, 9000.0, 9300.0, 16000.0])
        of_point, of_curve = found.quantiles(), found.mean_quantiles()
        for low in range(4):
            width = of_point[8 - low] - of_point[low]
            assert np.all(width > of_curve[8 - low] - of_curve[low])


def test_bands_widen_with_the_distance_from_the_window() -> None:
    for seed in range(4):
        fit = fit_posterior(published(np.random.default_rng(seed), end=8000.0))
        found = fit.predict(np.array([1.0, 1.3, 2.0, 4.0, 10.0]) * 8000.0).mean_quantiles((0.1, 0.9))
        assert np.all(np.diff(found[1] - found[0]) > 0.0)


def test_random_parts_are_the_same_every_time_and_others_for_another_seed() -> None:
    problem, kind = exactly(), index_of(0.2, 4.0)
    one, again, other = (predict(problem, known(kind, seed=seed), AHEAD * LAST).mean for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert other.std(axis=0) == pytest.approx(one.std(axis=0), rel=0.05)
    # Curves of two seeds have nothing in common.
    for column in range(AHEAD.size):
        assert abs(np.corrcoef(one[:, column], other[:, column])[0, 1]) < 0.05


def test_a_fit_of_measured_points_forecasts_by_the_same_curves() -> None:
    points = simulate(np.random.default_rng(2), end=9000.0)
    curve = Curve.of("run", [p.gpu_hours for p in points], [p.pass_rate for p in points], bounds=(0.0, 1.0))
    fit = fit_posterior(curve)
    assert fit.problem is not None
    assert fit.draws is not None
    at = [10000.0, 16000.0]
    assert np.array_equal(predict(fit.problem, fit.draws, at).mean, fit.predict(at).mean)
    other = predict(fit.problem, replace(fit.draws, seed=5), at).mean_quantiles((0.1, 0.5, 0.9))
    assert other == pytest.approx(fit.predict(at).mean_quantiles((0.1, 0.5, 0.9)), abs=0.01)
