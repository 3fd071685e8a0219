"""Points that show no noise: equal ones, one, values on a line, and values in any unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalerl_lab.fit.cells import prepare
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law_fit import fit_posterior
from scalerl_lab.fit.noise import Clock, clock_time
from scalerl_lab.fit.persistence import last_level
from scalerl_lab.fit.shape import recognise
from scalerl_lab.records import Shape

PASS = (0.0, 1.0)


def curve(values: list[float] | np.ndarray, bounds: tuple[float, float] | None = PASS) -> Curve:
    """Points at 100, 200, ..."""
    value = np.asarray(values, dtype=np.float64)
    return Curve.of("run", 100.0 * np.arange(1, value.size + 1), value, bounds=bounds)


def test_the_noise_that_equal_points_may_hide() -> None:
    # ((0.013^2 + 0.1 * 0.2^2 / 27) / 3)^(1/2) of the bounds' distance: 0.01028.
    assert prepare(curve([0.3, 0.3, 0.3])).scale == pytest.approx(0.0102818, rel=1e-4)
    # A single point: (0.013^2 + 0.004)^(1/2).
    assert prepare(curve([0.5])).scale == pytest.approx(0.0645678, rel=1e-4)
    # 0.3 to 0.5 of bounds 0 to 1: values move within 0.8 by then.
    assert prepare(curve([0.3, 0.5])).scale == pytest.approx(0.8 * 0.0182894, rel=1e-4)
    # Points that show their noise are believed: second differences +-0.4, robust and mean both 0.16 / 6.
    shown = np.where(np.arange(12) % 2 == 0, 0.4, 0.5)
    second = 0.2**2
    expected = np.sqrt((second / 0.6745**2 + second) / 12.0)
    assert prepare(curve(shown)).scale == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(
    num=st.integers(1, 8),
    level=st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]),
    ahead=st.sampled_from([1.5, 2.0, 4.0]),
)
def test_equal_points_do_not_make_sure(num: int, level: float, ahead: float) -> None:
    flat = curve([level] * num)
    at = [ahead * 100.0 * num]
    low, high = fit_posterior(flat).predict(at).quantiles((0.025, 0.975)).ravel()
    stays_low, stays_high = last_level(flat).predict(at).quantiles((0.025, 0.975)).ravel()
    assert high - low > (stays_high - stays_low) / 3.0


@pytest.mark.parametrize("value", [0.5, 0.2])
def test_one_point_says_less_the_farther_ahead(value: float) -> None:
    found = fit_posterior(curve([value])).predict([150.0, 400.0, 1000.0]).quantiles((0.1, 0.5, 0.9))
    widths = found[2] - found[0]
    assert 0.1 < widths[0] < widths[1] < widths[2]
    # The middle stays near the point.
    assert found[1] == pytest.approx(np.full(3, value), abs=0.1)


def test_a_window_without_length_is_given_one() -> None:
    # 1 - exp(-1/2) = 0.39347: twice the only compute is 1 / 0.39347 of a window later.
    later = clock_time(np.array([1.0, 2.0]), Clock.LINEAR, 1.0)
    assert later == pytest.approx([0.0, 1.0 / 0.393469], rel=1e-5)
    # A window from a tenth on is measured by itself.
    assert clock_time(np.array([1.9]), Clock.LINEAR, 0.1) == pytest.approx([2.0])


@pytest.mark.parametrize("factor", [1e-1, 1e-3, 1e-9])
def test_small_pass_rates_have_the_same_forecast(factor: float) -> None:
    # Bounds of 0 and 1 are far away from values of a ten-thousandth.
    hours = 250.0 * np.arange(1, 33)
    value = 0.4 + 0.21 / (1.0 + (2500.0 / hours) ** 2)
    value += np.random.default_rng(3).normal(0.0, 0.004, hours.size)
    whole = fit_posterior(Curve.of("run", hours, value, bounds=PASS))
    small = fit_posterior(Curve.of("run", hours, factor * value, bounds=PASS))
    assert (small.status, small.shape) == (whole.status, whole.shape)
    at = [8000.0, 16_000.0]
    expected = whole.predict(at).quantiles()
    assert small.predict(at).quantiles() / factor == pytest.approx(expected, abs=0.002)


def test_a_fall_without_noise_is_no_flat_curve() -> None:
    shape, why = recognise(curve(np.linspace(0.7, 0.5, 32)))
    assert shape is Shape.COLLAPSING
    assert why.startswith("Fell from 0.7 at 100 to 0.5")
