"""Collapse: falls worked by hand, falls that must be found, and noise that must not be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scalerl_lab.fit import pass_rate
from scalerl_lab.fit.collapse import ALARM_CHANCE, find_collapse, limited_variance, noise_of
from scalerl_lab.fit.curve import Curve
from tests.fit.curves import correlated_noise

HOURS = 257.0 * np.arange(1, 63)
PLATEAU = pass_rate(HOURS, 0.4, 0.49, 1.17, 1735.0)
# GRPO of the paper: from 0.477 at 8,000 GPU-hours to 0.445 at 10,000.
GRPO = np.where(HOURS > 8000.0, np.maximum(0.4771 - 0.0321 * (HOURS - 8000.0) / 2000.0, 0.445), PLATEAU)
NUM_BEFORE = int((HOURS <= 8000.0).sum())


def curve(values: np.ndarray | list[float], *, se: float | None = None, r0: float | None = None) -> Curve:
    num = len(values)
    return Curve.of("run", np.arange(1, num + 1), values, se=None if se is None else [se] * num, r0=r0)


def test_a_fall_by_hand() -> None:
    found = find_collapse(curve([0.40, 0.50, 0.55, 0.56, 0.44, 0.42], se=0.003))
    assert found is not None
    # Of 0.55 and 0.56 the lower counts, of 0.44 and 0.42 the higher. With four points before the last two
    # there are too few second differences: sd = sqrt(2) se with 8 degrees of freedom.
    sd = math.sqrt(2.0) * 0.003
    # Two points of correlation 1/2 have a mean of variance 3/4; two such means differ by sd sqrt(3/2).
    assert found.z == pytest.approx((0.55 - 0.44) / (sd * math.sqrt(1.5)))
    assert found.chance == pytest.approx(6.0 * stats.t.sf(found.z, 8), rel=1e-9)
    assert found.noise_sd == pytest.approx(sd)
    assert (found.peak_value, found.level) == (pytest.approx(0.555), pytest.approx(0.43))
    assert found.drop == pytest.approx(0.125)
    assert (found.peak_compute, found.began_compute, found.num_points_below) == (3.5, 4.0, 2)


def test_a_descent_by_hand() -> None:
    values = [0.16, 0.46, 0.44, 0.43, 0.44, 0.41, 0.37, 0.38, 0.38, 0.34, 0.33]
    found = find_collapse(curve(values), chance=0.05)
    assert found is not None
    # A straight line through the last 10 points, its standard error doubled.
    line = stats.linregress(np.arange(10), values[1:])
    assert found.z == pytest.approx(-line.slope / (2.0 * line.stderr), rel=0.05)
    assert found.peak_value == pytest.approx(line.intercept, abs=0.003)
    assert found.level == pytest.approx(line.intercept + 9 * line.slope, abs=0.003)
    assert find_collapse(curve(values)) is None  # Not enough to stop a run for.


def test_noise_by_hand() -> None:
    # Second differences of alternating values are +-4: variance 16 over 6 - 8 rho + 2 rho^2 = 2.5.
    noise = noise_of(np.array([1.0, -1.0] * 6))
    assert noise is not None
    assert noise.sd == pytest.approx(math.sqrt(1.06 * 16.0 / 2.5))
    assert noise.degrees == 5.0
    # A straight line has none, and equal values say nothing.
    assert noise_of(np.zeros(12)) is None
    assert noise_of(np.array([1.0, 2.0])) is None


def test_the_scale_of_normal_values_is_kept_and_outliers_are_limited() -> None:
    values = np.random.default_rng(0).normal(size=20_000)
    assert limited_variance(values) == pytest.approx(1.0, rel=0.03)
    spoiled = np.append(values[:200], [20.0, -30.0])
    assert limited_variance(spoiled) < 2.0
    # Mostly 0: a quarter of the mean square is left.
    assert limited_variance(np.append(np.zeros(20), 1.0)) == pytest.approx(0.25 / 21.0)


@pytest.mark.parametrize("correlation", [0.3, 0.6])
def test_noise_about_the_law_or_a_plateau_raises_no_alarm(correlation: float) -> None:
    # 62 looks at each run. In 1,500 runs at correlation 0.3 no look raised one; on a plateau with 0.6,
    # 4 % of runs raise one some time, which is left out here.
    rng = np.random.default_rng(11)
    levels = [pass_rate(HOURS, 0.4, 0.61, 1.92, 2542.0), pass_rate(HOURS, 0.4, 0.65, 1.9, 11272.0)]
    levels += [np.full(HOURS.size, 0.5)] if correlation < 0.5 else []
    for level in levels:
        for _ in range(6):
            values = level + correlated_noise(rng, HOURS.size, 0.0045, correlation)
            for num in range(1, HOURS.size + 1):
                seen = Curve.of("run", HOURS[:num], values[:num], se=[0.0027] * num, r0=0.4)
                assert find_collapse(seen) is None


def test_a_slow_fall_is_found_about_when_it_is_complete() -> None:
    rng, needed = np.random.default_rng(5), []
    for _ in range(25):
        values = GRPO + correlated_noise(rng, HOURS.size, 0.0045)
        looks = [Curve.of("run", HOURS[:n], values[:n], se=[0.0027] * n, r0=0.4) for n in range(1, 63)]
        found = [find_collapse(look) for look in looks]
        first = next(i for i, collapse in enumerate(found) if collapse is not None)
        needed.append(first + 1 - NUM_BEFORE)
        last = found[-1]
        assert last is not None
        assert last.began_compute == pytest.approx(8000.0, abs=1600.0)
        assert last.drop == pytest.approx(0.03, abs=0.008)
        assert last.noise_sd == pytest.approx(0.0045, rel=0.5)
    # The fall takes 8 points and is 7 times the noise of one.
    assert min(needed) >= 4
    assert np.median(needed) <= 9
    assert max(needed) <= 13


def test_a_steep_fall_is_found_at_its_second_point() -> None:
    rng = np.random.default_rng(6)
    for _ in range(20):
        values = PLATEAU + correlated_noise(rng, HOURS.size, 0.0045)
        values[NUM_BEFORE:] -= 0.15
        for extra, expected in ((1, False), (2, True), (3, True), (8, True)):
            num = NUM_BEFORE + extra
            seen = Curve.of("run", HOURS[:num], values[:num])
            assert (find_collapse(seen) is not None) == expected


@pytest.mark.parametrize("size", [0.05, 0.5, 50.0])
@pytest.mark.parametrize("place", [-1, -2, -3, -10, 20, 1])
def test_one_outlier_is_no_collapse(size: float, place: int) -> None:
    rng = np.random.default_rng(7)
    for sign in (-1.0, 1.0):
        values = PLATEAU + correlated_noise(rng, HOURS.size, 0.0045)
        values[place] += sign * size
        assert find_collapse(Curve.of("run", HOURS, values, se=[0.0027] * 62, r0=0.4)) is None


def test_a_curve_that_came_back_has_not_collapsed_and_needs_a_deeper_fall_next_time() -> None:
    rng = np.random.default_rng(8)
    values = 0.5 + 0.004 * rng.normal(size=40)
    values[20:24] -= 0.10
    assert find_collapse(curve(values[:24])) is not None
    assert find_collapse(curve(values)) is None
    assert find_collapse(curve(np.append(values, values[-2:] - 0.12))) is None
    assert find_collapse(curve(np.append(values, values[-2:] - 0.20))) is not None


def test_the_least_drop_is_the_least_that_counts() -> None:
    values = np.append(np.tile([0.50, 0.51], 10), [0.40, 0.41, 0.40, 0.41])
    found = find_collapse(curve(values))
    assert found is not None
    assert find_collapse(curve(values), least_drop=found.drop * 0.99) == found
    assert find_collapse(curve(values), least_drop=found.drop) is None


def test_values_that_come_in_steps_have_at_least_the_noise_of_a_step() -> None:
    # Ten episodes a point, all solved until now: 0.9 twice is no collapse.
    assert find_collapse(curve([1.0] * 20 + [0.9, 0.9])) is None
    assert find_collapse(curve([1.0, 1.0, 0.9, 1.0, 1.0] * 4 + [0.1, 0.0])) is not None


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.1], [0.5, 0.5, 0.5, 0.1], [0.0] * 30])
def test_too_little_to_tell(values: list[float]) -> None:
    assert find_collapse(curve(values)) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 1e4), st.floats(-100.0, 100.0), st.floats(1e-3, 1e6))
def test_units_do_not_matter(seed: int, scale: float, shift: float, unit: float) -> None:
    rng = np.random.default_rng(seed)
    values = np.append(rng.normal(size=15), rng.normal(size=6) - 8.0 * rng.random())
    hours = np.cumsum(rng.uniform(0.5, 2.0, values.size))
    plain = find_collapse(Curve.of("run", hours, values), chance=0.1)
    moved = find_collapse(Curve.of("run", hours * unit, shift + scale * values), chance=0.1)
    assert (plain is None) == (moved is None)
    if plain is not None and moved is not None:
        assert plain.chance < 0.1
        assert moved.z == pytest.approx(plain.z, rel=1e-5)
        assert moved.drop == pytest.approx(scale * plain.drop, rel=1e-5)
        assert moved.peak_value == pytest.approx(shift + scale * plain.peak_value, rel=1e-6, abs=1e-6)
        assert moved.began_compute == pytest.approx(unit * plain.began_compute)


def test_the_alarm_is_rarer_than_one_in_a_thousand() -> None:
    assert ALARM_CHANCE <= 1e-3
