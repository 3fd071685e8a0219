"""Covariances of residuals by dense formula, averages of neighbours, and first guesses of noise."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.noise import (
    KINDS,
    MAX_POINTS,
    Clock,
    NoiseKind,
    Points,
    average,
    clock_time,
    mean_noise,
    noise_scale,
    whiten,
)
from tests.fit.curves import correlated_noise


def kind(rho: float, walk: float, clock: Clock = Clock.LINEAR) -> NoiseKind:
    return NoiseKind(rho, walk, clock, 1.0, 0.0, 0.0)


def points_at(t: np.ndarray, sd: np.ndarray) -> Points:
    """Points with noise of given relative size."""
    return dataclasses.replace(average(Curve.of("run", t, np.zeros(t.size))), sd=sd)


def covariances(points: Points, kinds: tuple[NoiseKind, ...]) -> np.ndarray:
    """What the whitening matrices invert."""
    roots = np.linalg.inv(whiten(points, kinds).inverse_root)
    return np.asarray(roots @ roots.transpose(0, 2, 1))


def test_covariances_by_hand() -> None:
    # Gaps of 0.25 and 0.5, their median 0.375: the points stand at 0, 2/3 and 2 of a typical gap.
    points = points_at(np.array([0.25, 0.5, 1.0]), np.array([1.0, 2.0, 1.0]))
    white, correlated, linear, log = covariances(
        points, (kind(0.0, 0.0), kind(0.5, 0.0), kind(0.0, 2.0), kind(0.0, 2.0, Clock.LOG))
    )
    assert white == pytest.approx(np.diag([1.0, 4.0, 1.0]))
    near, far, across = 2.0 * 0.5 ** (2.0 / 3.0), 2.0 * 0.5 ** (4.0 / 3.0), 0.25
    assert correlated == pytest.approx(
        np.array([[1.0, near, across], [near, 4.0, far], [across, far, 1.0]]), abs=1e-12
    )
    # The walk starts at the first point and has variance 4 at the last; the second point is halfway in
    # log compute and at a third in compute.
    third = 4.0 / 3.0
    assert linear - white == pytest.approx(
        np.array([[0.0, 0.0, 0.0], [0.0, third, third], [0.0, third, 4.0]]), abs=1e-12
    )
    assert log - white == pytest.approx(
        np.array([[0.0, 0.0, 0.0], [0.0, 2.0, 2.0], [0.0, 2.0, 4.0]]), abs=1e-12
    )


def test_every_kind_whitens_its_own_residuals() -> None:
    rng = np.random.default_rng(0)
    points = points_at(np.sort(rng.random(7)), 0.5 + rng.random(7))
    found = whiten(points)
    for root, log_det, covariance in zip(
        found.inverse_root, found.log_det, covariances(points, KINDS), strict=True
    ):
        assert root @ covariance @ root.T == pytest.approx(np.eye(7), abs=1e-8)
        assert log_det == pytest.approx(np.linalg.slogdet(covariance)[1])
        assert np.all(np.linalg.eigvalsh(covariance) > 0.0)


def test_distances_are_neither_nothing_nor_endless() -> None:
    points = points_at(np.array([0.01, 0.010001, 0.02, 0.03, 1.0]), np.ones(5))
    found = covariances(points, (kind(0.5, 0.0),))[0]
    assert found[0, 1] == pytest.approx(0.5**0.25)
    assert found[3, 4] == pytest.approx(0.5**4)


@pytest.mark.parametrize("clock", Clock)
def test_a_clock_runs_from_the_first_point_to_the_last(clock: Clock) -> None:
    t = np.array([0.01, 0.02, 0.1, 1.0])
    times = clock_time(t, clock, 0.01)
    assert times[0] == 0.0
    assert times[-1] == pytest.approx(1.0)
    expected = {Clock.LOG: math.log(2.0) / math.log(100.0), Clock.LINEAR: 0.01 / 0.99}[clock]
    assert times[1] == pytest.approx(expected)
    # It stands before the first point and runs on beyond the last, from four times the window on more slowly.
    assert clock_time(np.array([0.0, 0.005, 10.0]), clock, 0.01)[:2].tolist() == [0.0, 0.0]
    beyond = {
        Clock.LOG: math.log(1000.0) / math.log(100.0),
        Clock.LINEAR: (3.99 + 4.0 * math.log(2.5)) / 0.99,
    }[clock]
    assert clock_time(np.array([10.0]), clock, 0.01)[0] == pytest.approx(beyond)


def test_the_kinds_are_what_inference_expects() -> None:
    assert len({(k.rho, k.walk, k.clock) for k in KINDS}) == len(KINDS)
    assert all(k.weight > 0.0 and 0.0 <= k.rho < 1.0 and k.walk >= 0.0 for k in KINDS)
    # The more structured the residuals, the less the law is trusted beyond the window.
    plain = sorted((k for k in KINDS if k.walk == 0.0), key=lambda k: k.rho)
    walking = sorted((k for k in KINDS if k.walk > 0.0), key=lambda k: k.walk)
    for kinds in (plain, walking):
        assert np.all(np.diff([k.slope_error for k in kinds]) >= 0.0)
        assert np.all(np.diff([k.range_error for k in kinds]) >= 0.0)


def test_few_points_are_left_as_they_are() -> None:
    curve = Curve.of("run", [1.0, 2.0, 4.0], [0.1, 0.2, 0.4])
    points = average(curve)
    assert points.t == pytest.approx([0.25, 0.5, 1.0])
    assert points.y.tolist() == [0.1, 0.2, 0.4]
    assert points.sd.tolist() == [1.0, 1.0, 1.0]
    assert points.count.tolist() == [1.0, 1.0, 1.0]


def test_half_of_the_variance_follows_the_points_own_error() -> None:
    points = average(Curve.of("run", [1.0, 2.0], [0.1, 0.2], se=[0.1, 0.3]))
    # The mean square is 0.05: (0.01 / 0.05 + 1) / 2 = 0.6 and (0.09 / 0.05 + 1) / 2 = 1.4.
    assert points.sd**2 == pytest.approx([0.6, 1.4])


@pytest.mark.parametrize("num", [MAX_POINTS + 1, 100, 1000])
def test_long_curves_are_averaged_over_neighbours(num: int) -> None:
    rng = np.random.default_rng(num)
    hours, value = np.exp(np.sort(rng.normal(size=num))), rng.normal(size=num)
    points = average(Curve.of("run", hours, value))
    count = np.rint(1.0 / points.sd**2).astype(int)
    assert points.sd == pytest.approx(1.0 / np.sqrt(count))
    assert points.count.tolist() == count.tolist()
    assert count.sum() == num
    assert count.size == MAX_POINTS
    assert np.ptp(count) <= 1
    end = np.cumsum(count)
    for place in (0, 17, MAX_POINTS - 1):
        of = slice(end[place] - count[place], end[place])
        assert points.y[place] == pytest.approx(value[of].mean())
        assert points.t[place] == pytest.approx(np.exp(np.log(hours[of]).mean()) / hours[-1])


@pytest.mark.parametrize("count", [1, 2, 5, 20])
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.85])
def test_the_noise_of_means_of_correlated_points(rho: float, count: int) -> None:
    # Two neighbouring means of that many points with correlations rho^lag, written out.
    place = np.arange(2 * count)
    correlation = np.where(np.eye(place.size, dtype=bool), 1.0, rho ** np.abs(place[:, None] - place))
    mean = np.zeros((2, place.size))
    mean[0, :count] = mean[1, count:] = 1.0 / count
    exact = mean @ correlation @ mean.T
    variance, between = mean_noise(rho, float(count))
    assert variance == pytest.approx(count * exact[0, 0])
    assert between == pytest.approx(exact[0, 1] / exact[0, 0])


def test_means_of_correlated_points_are_whitened_as_such() -> None:
    num = 4 * MAX_POINTS
    points = average(Curve.of("run", np.arange(1.0, num + 1.0), np.zeros(num)))
    place = np.arange(num)
    exact = (0.6 ** np.abs(place[:, None] - place)).reshape(MAX_POINTS, 4, MAX_POINTS, 4).mean(axis=(1, 3))
    found = covariances(points, (kind(0.6, 0.0),))[0]
    assert np.diag(found) == pytest.approx(np.diag(exact))
    # Equal steps of compute; the first means, whose logs are far apart, stand apart from the others.
    assert np.diag(found, 1)[3:] == pytest.approx(np.diag(exact, 1)[3:], rel=0.1)


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_neighbours_within_means_show_the_noise(rho: float) -> None:
    num = 100 * MAX_POINTS
    value = 0.6 + correlated_noise(np.random.default_rng(2), num, 0.01, rho)
    points = average(Curve.of("run", np.arange(1.0, num + 1.0), value))
    # Neighbours differ by what is not common to them.
    assert points.scatter / points.scatter_degrees == pytest.approx(0.01**2 * (1.0 - rho), rel=0.1)
    few = average(Curve.of("run", [1.0, 2.0], [0.1, 0.2]))
    assert (few.scatter, few.scatter_degrees) == (0.0, 0.0)


@pytest.mark.parametrize("count", [2, 4])
def test_neither_unequal_errors_nor_slopes_are_scatter(count: int) -> None:
    num, shown = count * MAX_POINTS, []
    for seed in range(10):
        value = 0.6 + 0.01 * np.arange(num) + 0.005 * np.random.default_rng(seed).normal(size=num)
        se = np.where(np.arange(num) % 2 == 0, 0.004, 0.006)
        points = average(Curve.of("run", np.arange(1.0, num + 1.0), value, se=se))
        shown.append(points.scatter / points.scatter_degrees)
    assert np.mean(shown) == pytest.approx(0.005**2, rel=0.15)


def test_averages_of_unequal_errors() -> None:
    num = 2 * MAX_POINTS
    se = np.where(np.arange(num) < MAX_POINTS, 0.1, 0.3)
    points = average(Curve.of("run", np.arange(1.0, num + 1.0), np.zeros(num), se=se))
    # Relative variances of 0.6 and 1.4, halved by averaging two.
    assert points.sd[0] ** 2 == pytest.approx(0.3)
    assert points.sd[-1] ** 2 == pytest.approx(0.7)


def test_the_noise_of_points_is_guessed_from_their_second_differences() -> None:
    rng = np.random.default_rng(1)
    hours = np.arange(1.0, 4001.0)
    noise = 0.02 * rng.normal(size=hours.size)
    assert noise_scale(Curve.of("run", hours, noise)) == pytest.approx(0.02**2, rel=0.1)
    # A line changes nothing.
    assert noise_scale(Curve.of("run", hours, noise + 0.001 * hours)) == pytest.approx(0.02**2, rel=0.1)
    # By hand: the differences are 1, -1 and 4; the median of their sizes is 1, the mean of their squares 6.
    curve = Curve.of("run", [1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 0.0, 1.0, 1.0, 5.0])
    assert noise_scale(curve) == pytest.approx(((1.0 / 0.6745) ** 2 + 6.0) / 12.0)


def test_standard_errors_are_half_of_the_noise() -> None:
    curve = Curve.of("run", [1.0, 2.0, 3.0], [5.0, -7.0, 5.0], se=[0.1, 0.1, 0.2])
    assert noise_scale(curve) == pytest.approx(2.0 * (0.01 + 0.01 + 0.04) / 3.0)
    assert noise_scale(Curve.of("run", [1.0, 2.0], [0.0, 1.0])) == 0.0
