"""Fits of a run's measured points: known truth, statuses with their reasons, and curves that say nothing."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalerl_lab.config.sweep import Rule
from scalerl_lab.fit import FittedCurve, fit_curve, pass_rate
from scalerl_lab.records import EvalPoint, FitStatus, Interval
from tests.fit.curves import GOLDEN_HOURS, GOLDEN_RATES, NUM_FITTED, golden_points, point, points_of, simulate


def fitted(points: tuple[EvalPoint, ...] | list[EvalPoint], fit_start: float = 1500.0) -> FittedCurve:
    return fit_curve("run", points, fit_start_gpu_hours=fit_start, rule=Rule())


@pytest.mark.parametrize(
    ("end", "sd", "truth"),
    [
        (8000.0, 0.0045, {}),
        (16000.0, 0.012, {}),
        (16000.0, 0.012, {"A": 0.81, "B": 1.9, "C_mid": 4400.0, "r0": 0.2}),
    ],
)
def test_bands_cover_the_truth_as_often_as_they_say(end: float, sd: float, truth: dict[str, float]) -> None:
    rng, num = np.random.default_rng(11), 60
    ceiling = truth.get("A", 0.61)
    rate = float(
        pass_rate(16000.0, truth.get("r0", 0.4), ceiling, truth.get("B", 1.92), truth.get("C_mid", 2542.0))
    )
    hits = np.zeros(4)
    for _ in range(num):
        curve = fitted(simulate(rng, end=end, sd=sd, **truth))
        forecast = curve.forecast(16000.0)
        assert curve.fit.ceiling is not None
        assert forecast is not None
        for place, (interval, value) in enumerate([(curve.fit.ceiling, ceiling), (forecast.pass_rate, rate)]):
            hits[2 * place] += interval.low80 <= value <= interval.high80
            hits[2 * place + 1] += interval.low95 <= value <= interval.high95
    # Three standard errors of a binomial share of 60.
    assert np.all(np.abs(hits[[0, 2]] / num - 0.8) < 0.155), hits
    assert np.all(hits[[1, 3]] / num > 0.865), hits


def test_parameters_are_recovered_from_long_quiet_curves() -> None:
    fits = [fitted(simulate(np.random.default_rng(seed), sd=0.001, end=40000.0)).fit for seed in range(5)]
    assert all(fit.status is FitStatus.IDENTIFIED for fit in fits)
    medians = np.mean([[values(i)[2] for i in (f.ceiling, f.efficiency, f.midpoint)] for f in fits], axis=0)
    assert medians[0] == pytest.approx(0.61, abs=0.002)
    assert medians[1] == pytest.approx(1.92, abs=0.08)
    assert medians[2] == pytest.approx(2542.0, rel=0.03)
    assert np.mean([fit.residual_sd for fit in fits]) == pytest.approx(0.001, rel=0.3)


def test_the_published_first_half_forecasts_its_second_half() -> None:
    curve = fitted(golden_points(NUM_FITTED), fit_start=900.0)
    assert curve.identified
    later = curve.bands(GOLDEN_HOURS[NUM_FITTED:])
    assert later is not None
    errors = np.abs(GOLDEN_RATES[NUM_FITTED:] - later[2])
    assert errors.mean() < 0.008
    assert errors.max() < 0.012
    assert np.all((GOLDEN_RATES[NUM_FITTED:] >= later[0]) & (GOLDEN_RATES[NUM_FITTED:] <= later[4]))
    assert curve.fit.ceiling is not None
    assert curve.fit.ceiling.low80 <= 0.610 <= curve.fit.ceiling.high80


def test_the_whole_published_run_gives_the_published_row() -> None:
    fit = fitted(golden_points(), fit_start=900.0).fit
    for interval, published in [(fit.ceiling, 0.610), (fit.efficiency, 1.92), (fit.midpoint, 2542.0)]:
        assert interval is not None
        assert interval.low80 <= published <= interval.high80


def test_a_window_that_ends_before_two_midpoints_is_not_identified() -> None:
    # The 34k-context run on its first half: 1.5 midpoints.
    rng = np.random.default_rng(2)
    points = simulate(rng, A=0.645, B=1.89, C_mid=11272.0, r0=0.396, end=17000.0, spacing=1065.0)
    fit = fitted(points).fit
    assert fit.status is FitStatus.NOT_IDENTIFIED
    early = fitted(simulate(rng, end=4000.0)).fit
    assert early.status is FitStatus.NOT_IDENTIFIED
    assert "demanded" in early.why or "wide" in early.why


def test_each_lack_has_its_sentence() -> None:
    rng = np.random.default_rng(3)
    short = fitted(simulate(rng, end=5000.0, sd=0.001, C_mid=4000.0)).fit
    assert short.why.startswith("The window ends at 1.")
    assert "2 demanded" in short.why
    noisy = fitted(simulate(rng, end=10000.0, sd=0.03)).fit
    assert "at most 0.12 allowed" in noisy.why
    lenient = Rule(max_ceiling_width=0.3, min_window_midpoints=0.5)
    linear = [point(i, 500.0 * i, 0.1 + 0.02 * i) for i in range(20)]
    rising = fit_curve("run", linear, fit_start_gpu_hours=500.0, rule=lenient).fit
    assert rising.status is FitStatus.NOT_IDENTIFIED
    assert "the ceiling is 1" in rising.why
    good = fitted(simulate(rng)).fit
    assert good.status is FitStatus.IDENTIFIED
    assert good.why.startswith("The window ends at 6.")


def test_a_jump_says_nothing_of_its_ceiling_but_is_forecast() -> None:
    points = [point(i, 100.0 * i, 0.2 if i < 20 else 0.8, 0.001) for i in range(60)]
    curve = fit_curve("run", points, fit_start_gpu_hours=100.0, rule=Rule())
    assert curve.fit.status is FitStatus.NOT_IDENTIFIED
    forecast = curve.forecast(7000.0)
    assert forecast is not None
    assert forecast.pass_rate.median == pytest.approx(0.8, abs=0.02)


def test_points_before_the_fit_start_count_only_as_the_start() -> None:
    rng = np.random.default_rng(4)
    points = simulate(rng)
    spoilt = [p if p.gpu_hours >= 1500.0 or p.step == 0 else point(p.step, p.gpu_hours, 0.9) for p in points]
    assert fitted(spoilt).fit == fitted(points).fit
    moved = [point(0, 0.0, 0.3), *points[1:]]
    assert fitted(moved).fit != fitted(points).fit
    assert fitted(points).fit.num_points == sum(p.gpu_hours >= 1500.0 for p in points)


def test_a_start_is_a_measurement_with_an_error() -> None:
    points = simulate(np.random.default_rng(6), end=8000.0)
    sure = fitted([point(0, 0.0, 0.40, 0.001), *points[1:]]).fit
    unsure = fitted([point(0, 0.0, 0.40, 0.05), *points[1:]]).fit
    assert sure.efficiency is not None
    assert unsure.efficiency is not None
    assert width(unsure.efficiency) > 1.3 * width(sure.efficiency)


def test_without_a_step_0_point_the_start_is_inferred() -> None:
    starts, hits = [], 0
    for seed in range(20):
        points = simulate(np.random.default_rng(seed))
        fit = fitted([p for p in points if p.gpu_hours > 700.0]).fit
        assert fit.ceiling is not None
        starts.append(fit.r0)
        hits += fit.ceiling.low95 <= 0.61 <= fit.ceiling.high95
    assert np.median(starts) == pytest.approx(0.4, abs=0.025)
    assert hits >= 16


def test_noisier_points_weigh_less() -> None:
    # Off by less than what makes an outlier.
    moved = []
    for seed in range(8):
        points = list(simulate(np.random.default_rng(seed), end=12000.0))
        last = points[-1]
        ceilings = []
        for off, se in ((0.0, 0.0027), (0.012, 0.0027), (0.012, 0.02)):
            spoilt = point(last.step, last.gpu_hours, last.pass_rate - off, se)
            ceilings.append(values(fitted([*points[:-1], spoilt]).fit.ceiling)[2])
        moved.append([ceilings[0] - ceilings[1], ceilings[0] - ceilings[2]])
    heavy, light = np.mean(moved, axis=0)
    assert heavy > 0.0
    assert abs(light) < 0.5 * heavy


def test_correlated_residuals_widen_the_interval() -> None:
    rng = np.random.default_rng(9)
    hours = np.arange(1, 60) * 257.0
    law = pass_rate(hours, 0.4, 0.61, 1.92, 2542.0)
    fresh = rng.normal(0.0, 0.005, hours.size)
    slow = np.convolve(rng.normal(0.0, 0.005, hours.size + 7), np.ones(8) / math.sqrt(8), mode="valid")
    slow *= fresh.std() / slow.std()
    widths = []
    for noise in (fresh, slow):
        curve = fitted([point(0, 0.0, 0.4), *points_of(hours, law + noise)])
        assert curve.fit.ceiling is not None
        widths.append(width(curve.fit.ceiling))
    assert widths[1] > 1.3 * widths[0]


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(1e-6, 1e6), seed=st.integers(0, 10**6))
def test_rescaling_compute_moves_only_the_midpoint(scale: float, seed: int) -> None:
    points = simulate(np.random.default_rng(seed), end=9000.0)
    scaled = [point(p.step, scale * p.gpu_hours, p.pass_rate, p.pass_rate_se) for p in points]
    one, other = (
        fitted(points).fit,
        fit_curve("run", scaled, fit_start_gpu_hours=1500.0 * scale, rule=Rule()).fit,
    )
    assert values(other.ceiling) == pytest.approx(values(one.ceiling), rel=1e-3)
    assert values(other.efficiency) == pytest.approx(values(one.efficiency), rel=1e-2)
    assert [v / scale for v in values(other.midpoint)] == pytest.approx(values(one.midpoint), rel=1e-2)
    assert other.status is one.status


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_points_is_immaterial(random: object) -> None:
    points = list(simulate(np.random.default_rng(1), end=8000.0))
    shuffled = list(points)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fitted(shuffled).fit == fitted(points).fit


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 1e5),
            st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0)),
            st.sampled_from([0.0, 0.001, 0.01, 0.3]),
        ),
        max_size=25,
    ),
    st.booleans(),
)
def test_no_curve_is_too_strange(raw: list[tuple[float, float, float]], with_start: bool) -> None:
    points = [
        point(i + 1 - with_start, hours * (i > 0 or not with_start), rate, se)
        for i, (hours, rate, se) in enumerate(raw)
    ]
    curve = fit_curve("run", points, fit_start_gpu_hours=100.0, rule=Rule(min_points=1))
    fit = curve.fit
    assert fit.why.endswith(".")
    if curve.draws is None:
        assert fit.status is FitStatus.TOO_FEW_POINTS
        return
    for interval in (fit.ceiling, fit.efficiency, fit.midpoint):
        assert interval is not None
        ordered = [interval.low95, interval.low80, interval.median, interval.high80, interval.high95]
        assert all(math.isfinite(value) for value in ordered)
        assert ordered == sorted(ordered)
    assert fit.ceiling is not None
    assert fit.ceiling.low95 >= 0.0
    assert fit.ceiling.high95 <= 1.0
    forecast = curve.forecast(2e5)
    assert forecast is not None
    assert 0.0 <= forecast.pass_rate.low95 <= forecast.pass_rate.high95 <= 1.0


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_a_constant_curve_claims_no_ceiling_but_forecasts_itself(rate: float) -> None:
    curve = fitted([point(i, 400.0 * i, rate, 0.0) for i in range(40)])
    forecast = curve.forecast(16000.0)
    assert forecast is not None
    assert forecast.pass_rate.median == pytest.approx(rate, abs=0.02)
    if rate == 0.4:
        assert curve.fit.status is FitStatus.NOT_IDENTIFIED


def test_a_falling_run_has_a_ceiling_below_its_start() -> None:
    curve = fitted(simulate(np.random.default_rng(10), A=0.25, r0=0.4))
    assert curve.fit.ceiling is not None
    assert curve.fit.ceiling.median == pytest.approx(0.25, abs=0.01)


def test_points_at_one_compute_are_averaged() -> None:
    points = list(simulate(np.random.default_rng(12), end=8000.0))
    split = [
        point(p.step, p.gpu_hours, p.pass_rate + off, 2.0**0.5 * p.pass_rate_se)
        for p in points
        for off in ((-0.002, 0.002) if p.step else (0.0,))
    ]
    once, twice = fitted(points).fit, fitted(split).fit
    assert twice.num_points == once.num_points
    assert values(twice.ceiling) == pytest.approx(values(once.ceiling), abs=0.006)
    all_at_once = fitted([point(i + 1, 2000.0, 0.5 + 0.01 * i) for i in range(8)])
    assert all_at_once.fit.status is FitStatus.TOO_FEW_POINTS
    assert all_at_once.fit.num_points == 1


def test_points_that_are_no_numbers_are_left_out() -> None:
    points = list(simulate(np.random.default_rng(13), end=8000.0))
    spoilt = [*points, point(99, math.nan, 0.5), point(98, 8100.0, math.nan), point(97, math.inf, 0.5)]
    assert fitted(spoilt).fit == fitted(points).fit


@pytest.mark.parametrize("num", [0, 1, 2, 3, 5])
def test_few_points_have_a_status_and_no_posterior(num: int) -> None:
    points = [point(0, 0.0, 0.4), *(point(i + 1, 2000.0 + 300.0 * i, 0.5) for i in range(num))]
    curve = fitted(points)
    assert curve.fit.status is FitStatus.TOO_FEW_POINTS
    assert curve.fit.num_points == num
    assert f"{num} point" in curve.fit.why
    assert curve.fit.ceiling is None
    assert curve.forecast(16000.0) is None
    assert curve.bands([1.0, 2.0]) is None
    assert curve.ceiling_draws(10) is None
    assert curve.hours_to_reach(0.5) is None
    assert not curve.identified


def test_the_same_points_give_the_same_bits() -> None:
    points = simulate(np.random.default_rng(14))
    one, other = fitted(points), fitted(points)
    assert one.fit == other.fit
    assert one.draws is not None
    assert other.draws is not None
    assert np.array_equal(one.draws.A, other.draws.A)
    first, second = one.ceiling_draws(1000, seed=3), other.ceiling_draws(1000, seed=3)
    assert first is not None
    assert second is not None
    assert np.array_equal(first, second)


def test_draws_forecasts_and_bands_agree() -> None:
    curve = fitted(simulate(np.random.default_rng(15), end=8000.0))
    drawn = curve.ceiling_draws(4096)
    assert drawn is not None
    assert curve.fit.ceiling is not None
    assert np.quantile(drawn, [0.025, 0.5, 0.975]) == pytest.approx(
        [curve.fit.ceiling.low95, curve.fit.ceiling.median, curve.fit.ceiling.high95], abs=0.001
    )
    many = curve.ceiling_draws(10000)
    assert many is not None
    assert many.shape == (10000,)
    bands, forecast = curve.bands([0.0, 16000.0, 1e12]), curve.forecast(16000.0)
    assert bands is not None
    assert forecast is not None
    assert bands.shape == (5, 3)
    # Asked together or alone: other random numbers of the same distribution.
    assert bands[:, 1] == pytest.approx(values(forecast.pass_rate), abs=0.004)
    assert bands[2, 0] == pytest.approx(curve.fit.r0, abs=0.001)
    # Far beyond the window the law's error has grown, but about the ceiling.
    assert bands[2, 2] == pytest.approx(curve.fit.ceiling.median, abs=0.01)
    assert bands[4, 2] - bands[0, 2] > 1.5 * (bands[4, 1] - bands[0, 1])


def test_hours_to_reach_a_level() -> None:
    curve = fitted(simulate(np.random.default_rng(16)))
    half = curve.hours_to_reach(0.505)
    assert half is not None
    assert half.low95 <= 2542.0 <= half.high95
    assert half.median == pytest.approx(2542.0, rel=0.05)
    assert curve.hours_to_reach(0.7) is None
    already = curve.hours_to_reach(0.1)
    assert already is not None
    assert values(already) == [0.0] * 5


def test_one_fit_of_40_points_takes_under_60_ms() -> None:
    points = simulate(np.random.default_rng(17), end=1500.0 + 40 * 257.0)
    fitted(points)
    best = math.inf
    for _ in range(5):
        began = time.process_time()
        fit = fitted(points).fit
        best = min(best, time.process_time() - began)
    assert fit.num_points == 40
    assert best < 0.060


def width(interval: Interval) -> float:
    """Of the 80 % interval."""
    return interval.high80 - interval.low80


def values(interval: Interval | None) -> list[float]:
    """In the order of the quantiles."""
    assert interval is not None
    return [interval.low95, interval.low80, interval.median, interval.high80, interval.high95]
