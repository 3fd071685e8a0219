"""Every method survives any curve; each forecasts what it should where the answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from scalerl_lab.errors import NotFound
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import pass_rate
from scalerl_lab.fit.methods import METHODS, fit_with
from scalerl_lab.fit.prediction import CurveFit
from scalerl_lab.records import FitStatus

SIMPLE = ("least_squares", "paper", "power_law", "log_linear", "last_value", "last_level")
UNITS = st.sampled_from([1e-9, 1.0, 1e12])
HOURS = np.geomspace(300.0, 8000.0, 25)
LATER = np.array([10_000.0, 16_000.0])


def curves() -> st.SearchStrategy[Curve]:
    """Curves of 0 to 12 points of any unit, size and shape."""
    value = st.floats(-1.0, 1.0) | st.sampled_from([0.0, 1.0])

    def build(
        points: list[tuple[float, float]], unit: float, size: float, r0: float | None, bounded: bool
    ) -> Curve:
        compute = [c * unit for c, _ in points]
        values = [abs(v) if bounded else v * size for _, v in points]
        start = None if r0 is None else (abs(r0) if bounded else r0 * size)
        return Curve.of("c", compute, values, r0=start, bounds=(0.0, 1.0) if bounded else None)

    return st.builds(
        build,
        st.lists(st.tuples(st.floats(1e-3, 1e4), value), max_size=12),
        UNITS,
        st.sampled_from([1e-200, 1e-6, 1.0, 1e9, 1e200]),
        st.none() | value,
        st.booleans(),
    )


def check(fit: CurveFit, compute: np.ndarray) -> None:
    prediction = fit.predict(compute)
    assert prediction.mean.shape == prediction.noise_sd.shape
    assert prediction.mean.shape[1] == compute.size
    for numbers in (prediction.mean, prediction.noise_sd, fit.asymptote, fit.efficiency, fit.midpoint):
        assert numbers is None or np.isfinite(numbers).all()
    assert (prediction.noise_sd >= 0.0).all()
    for number in (fit.r0, fit.residual_sd):
        assert number is None or math.isfinite(number)
    assert fit.why
    if prediction.bounds is not None:
        assert prediction.mean.min() >= prediction.bounds[0]
        assert prediction.mean.max() <= prediction.bounds[1]


@pytest.mark.parametrize("method", SIMPLE)
@given(curve=curves())
@settings(max_examples=40, deadline=None)
def test_any_curve_has_a_forecast(method: str, curve: Curve) -> None:
    fit = fit_with(method, curve)
    assert fit.method == method
    last = curve.compute[-1] if curve.compute.size else 1.0
    check(fit, np.array([last / 1e6, last / 2.0, last, 1.5 * last, 100.0 * last]))


@pytest.mark.parametrize("method", SIMPLE)
@pytest.mark.parametrize(
    "values",
    [
        [],
        [0.3],
        [0.3, 0.4],
        [0.5] * 8,
        [0.0] * 8,
        [0.9, 0.7, 0.6, 0.5, 0.5, 0.4],
        [0.2, 0.2, 0.9, 0.2, 0.3, 0.3],
    ],
    ids=["none", "one", "two", "constant", "zero", "falling", "outlier"],
)
@pytest.mark.parametrize("bounds", [(0.0, 1.0), None], ids=["bounded", "unbounded"])
def test_curves_that_are_hard(method: str, values: list[float], bounds: tuple[float, float] | None) -> None:
    compute = np.arange(1.0, len(values) + 1.0)
    fit = fit_with(method, Curve.of("c", compute, values, bounds=bounds))
    check(fit, np.array([1.0, 5.0, 20.0]))
    if len(values) < 2:
        assert fit.status is FitStatus.TOO_FEW_POINTS
        assert fit.asymptote is None
    quantiles = fit.predict([20.0]).quantiles()
    assert (np.diff(quantiles, axis=0) >= 0.0).all()
    if len(values) == 1:
        # A single point says nothing of what follows.
        assert quantiles[-1, 0] - quantiles[0, 0] > 0.1


@pytest.mark.parametrize("method", SIMPLE)
def test_the_order_of_points_does_not_matter(method: str) -> None:
    values = pass_rate(HOURS, 0.4, 0.61, 1.9, 2500.0) + 0.01 * np.sin(np.arange(25.0))
    backward = Curve.of("c", HOURS[::-1], values[::-1], r0=0.4, bounds=(0.0, 1.0))
    forward = Curve.of("c", HOURS, values, r0=0.4, bounds=(0.0, 1.0))
    np.testing.assert_array_equal(
        fit_with(method, backward).predict(LATER).mean, fit_with(method, forward).predict(LATER).mean
    )


@pytest.mark.parametrize("method", SIMPLE)
def test_units_do_not_matter(method: str) -> None:
    """In other units of value, and of compute, the same forecast in those units."""
    values = 30.0 + 100.0 * pass_rate(HOURS, 0.0, 0.61, 1.9, 2500.0) + 2.0 * np.sin(np.arange(25.0))
    plain = fit_with(method, Curve.of("c", HOURS, values, r0=30.0)).predict(LATER)
    other = fit_with(method, Curve.of("c", HOURS * 8.0, values / 1024.0 - 7.0, r0=30.0 / 1024.0 - 7.0))
    moved = other.predict(LATER * 8.0)
    np.testing.assert_allclose((moved.mean + 7.0) * 1024.0, plain.mean, rtol=2e-4)
    np.testing.assert_allclose(moved.noise_sd * 1024.0, plain.noise_sd, rtol=2e-4)


@pytest.mark.parametrize(("method", "r0"), [("least_squares", 0.4), ("least_squares", None), ("paper", 0.4)])
def test_the_sigmoid_is_found_again(method: str, r0: float | None) -> None:
    hours = np.geomspace(300.0, 16_000.0, 40)
    noise = np.random.default_rng(1).normal(0.0, 0.003, 40)
    curve = Curve.of("c", hours, pass_rate(hours, 0.4, 0.61, 1.9, 2500.0) + noise, r0=r0, bounds=(0.0, 1.0))
    fit = fit_with(method, curve)
    assert fit.status is FitStatus.IDENTIFIED
    for draws, truth in ((fit.asymptote, 0.61), (fit.efficiency, 1.9), (fit.midpoint, 2500.0)):
        assert draws is not None
        low, high = np.quantile(draws, [0.005, 0.995])
        assert low < truth < high
        assert np.median(draws) == pytest.approx(truth, rel=0.1)
    assert fit.residual_sd == pytest.approx(0.003, rel=0.3)
    assert fit.r0 == pytest.approx(0.4, abs=0.02)
    # Far out the curve itself is the ceiling.
    assert np.median(fit.predict([1e7]).mean) == pytest.approx(0.61, abs=0.01)


def test_least_squares_are_those_of_curve_fit() -> None:
    noise = np.random.default_rng(2).normal(0.0, 0.004, 25)
    values = pass_rate(HOURS, 0.4, 0.61, 1.9, 2500.0) + noise
    fit = fit_with("least_squares", Curve.of("c", HOURS, values, r0=0.4, bounds=(0.0, 1.0)))

    def law(hours: np.ndarray, A: float, log_B: float, log_mid: float) -> np.ndarray:
        return pass_rate(hours, 0.4, A, np.exp(log_B), np.exp(log_mid))

    (A, log_B, log_mid), covariance = curve_fit(law, HOURS, values, p0=[0.6, 0.5, 7.8])
    assert fit.asymptote is not None
    assert fit.efficiency is not None
    assert fit.midpoint is not None
    assert np.median(fit.asymptote) == pytest.approx(A, abs=1e-4)
    assert np.median(fit.efficiency) == pytest.approx(np.exp(log_B), rel=1e-3)
    assert np.median(fit.midpoint) == pytest.approx(np.exp(log_mid), rel=1e-3)
    # A Student t with 22 degrees has sd sqrt(22 / 20).
    assert fit.asymptote.std() == pytest.approx(np.sqrt(covariance[0, 0] * 22 / 20), rel=0.1)


def test_the_power_law_is_found_again() -> None:
    values = 0.7 - 3.0 / HOURS**0.4
    fit = fit_with("power_law", Curve.of("c", HOURS, values, bounds=(0.0, 1.0)))
    assert fit.asymptote is not None
    assert fit.efficiency is not None
    assert np.median(fit.asymptote) == pytest.approx(0.7, abs=1e-3)
    assert np.median(fit.efficiency) == pytest.approx(0.4, abs=5e-3)
    assert np.median(fit.predict(LATER).mean, axis=0) == pytest.approx(0.7 - 3.0 / LATER**0.4, abs=1e-4)
    assert fit.midpoint is None


def test_the_line_is_the_regression_in_log_compute() -> None:
    values = 0.1 + 0.04 * np.log(HOURS) + np.random.default_rng(3).normal(0.0, 0.01, 25)
    slope, offset = np.polyfit(np.log(HOURS), values, 1)
    fit = fit_with("log_linear", Curve.of("c", HOURS, values, bounds=(0.0, 1.0)))
    prediction = fit.predict(LATER)
    assert np.median(prediction.mean, axis=0) == pytest.approx(offset + slope * np.log(LATER), abs=1e-6)
    assert fit.asymptote is None
    # The usual variance of a regression line, widened to a Student t with 23 degrees.
    x = np.log(HOURS)
    sd = np.sqrt(np.sum((values - offset - slope * x) ** 2) / 23)
    spread = sd * np.sqrt(1 / 25 + (np.log(LATER) - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2))
    assert prediction.mean.std(axis=0) == pytest.approx(spread * np.sqrt(23 / 21), rel=0.15)
    assert fit.residual_sd == pytest.approx(sd)


def test_the_line_stops_at_the_bounds() -> None:
    fit = fit_with("log_linear", Curve.of("c", HOURS, 0.2 * np.log(HOURS) - 0.9, bounds=(0.0, 1.0)))
    assert fit.predict([1e9]).quantiles()[:, 0] == pytest.approx(1.0, abs=1e-3)


def test_the_last_value_stays() -> None:
    values = np.array([0.1, 0.3, 0.35, 0.42, 0.41, 0.47])
    curve = Curve.of("c", [1, 2, 3, 4, 5, 6], values, bounds=(0.0, 1.0))
    prediction = fit_with("last_value", curve).predict([7.0, 60.0])
    assert np.median(prediction.mean, axis=0) == pytest.approx(0.47, abs=1e-3)
    width = np.ptp(prediction.quantiles([0.05, 0.95]), axis=0)
    assert width[1] > 1.2 * width[0]


@pytest.mark.parametrize("method", ["last_value", "last_level"])
def test_bands_of_a_random_walk_in_log_compute(method: str) -> None:
    """The truth that the bands assume: they cover what they say, short and far out."""
    rng = np.random.default_rng(4)
    compute = np.geomspace(100.0, 3000.0, 60)
    inside = np.zeros(2)
    for _ in range(300):
        steps = rng.normal(0.0, 1.0, 60) * np.sqrt(np.diff(np.log(compute), prepend=np.log(compute[0])))
        value = 5.0 + 0.8 * np.cumsum(steps) + rng.normal(0.0, 0.3, 60)
        known = Curve.of("c", compute[:40], value[:40])
        low, high = fit_with(method, known).predict(compute[[44, 59]]).quantiles([0.05, 0.95])
        inside += (low < value[[44, 59]]) & (value[[44, 59]] < high)
    assert np.all(np.abs(inside / 300 - 0.9) < 0.06)


def test_the_last_level_is_the_mean_of_noise() -> None:
    """About a constant level, many points tell it better than the last one."""
    rng = np.random.default_rng(5)
    errors = {"last_value": [], "last_level": []}
    for _ in range(60):
        curve = Curve.of("c", np.arange(100.0, 140.0), 3.0 + rng.normal(0.0, 1.0, 40))
        for method, found in errors.items():
            found.append(np.median(fit_with(method, curve).predict([150.0]).mean) - 3.0)
    sd = {method: np.std(found) for method, found in errors.items()}
    assert sd["last_value"] == pytest.approx(1.0, abs=0.25)
    assert sd["last_level"] < 0.4


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(NotFound, match=r"no method 'papre'.*paper"):
        fit_with("papre", Curve.of("c", [1.0], [0.5]))


def test_the_table_holds_them_all() -> None:
    assert set(SIMPLE) <= set(METHODS)
