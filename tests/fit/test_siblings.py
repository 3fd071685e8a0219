"""Runs fitted together: what they borrow, what they do not, and what must not matter."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from scalerl_lab.fit import LawFit, Siblings, fit_posterior, fit_siblings, pass_rate
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.simulate import (
    Arm,
    SimulatedSweep,
    SweepKind,
    Truth,
    simulate_arms,
    simulate_sweep,
)
from scalerl_lab.records import FitStatus

Array = NDArray[np.float64]

BUDGET = 16_000.0
HOURS = np.arange(1, 9) * 1000.0
NARROW = (0.1, 0.5, 0.9)

pytestmark = pytest.mark.filterwarnings("error")


def sweep(seed: int, num: int = 5, *, spread: float = 0.015, spacing: float = 700.0) -> SimulatedSweep:
    """Arms about one population, the control with two seeds."""
    rng = np.random.default_rng(seed)
    arms = [
        Arm(
            f"arm{i}",
            Truth(
                0.6 + spread * float(rng.standard_normal()),
                1.9 * math.exp(0.07 * float(rng.standard_normal())),
                2500.0 * math.exp(0.1 * float(rng.standard_normal())),
            ),
            spacing,
            2 if i == 0 else 1,
        )
        for i in range(num)
    ]
    return simulate_arms(arms, rng)


def law(A: float = 0.6, C_mid: float = 2500.0, B: float = 1.9, seed: int = 0, sd: float = 0.004) -> Array:
    """Eight values up to 8,000."""
    rates: Array = pass_rate(HOURS, 0.4, A, B, C_mid) + sd * np.random.default_rng(seed).normal(size=8)
    return rates


def curve(value: Sequence[float] | Array, bounds: tuple[float, float] | None = (0.0, 1.0)) -> Curve:
    """A curve whose points are at 1,000, 2,000, ..."""
    return Curve.of("run", HOURS[: len(value)], value, r0=0.4, r0_se=0.003, bounds=bounds)


def band(fit: LawFit, compute: float = BUDGET) -> Array:
    """[3] 10, 50 and 90 % of the curve at a compute."""
    return fit.predict([compute]).mean_quantiles(NARROW)[:, 0]


def width(fit: LawFit, compute: float = BUDGET) -> float:
    """Of the 80 % band of the curve."""
    low, _, high = band(fit, compute)
    return float(high - low)


def ceiling(fit: LawFit) -> Array:
    """[K] draws of A."""
    assert fit.asymptote is not None
    return fit.asymptote


def thinned(of: Curve) -> Curve:
    """Every third point."""
    return replace(of, compute=of.compute[::3], value=of.value[::3], se=None)


@cache
def young() -> tuple[SimulatedSweep, tuple[Curve, ...], Siblings]:
    """Runs seen to 4,500, before their bend is clear."""
    found = sweep(3)
    curves = tuple(c.between(None, 4500.0) for c in found.curves)
    return found, curves, fit_siblings(curves, found.arms)


@cache
def unbounded() -> tuple[list[Curve], Siblings]:
    """The same without bounds."""
    found, curves, _ = young()
    free = [replace(c, bounds=None) for c in curves]
    return free, fit_siblings(free, found.arms)


def assert_sound(found: Siblings, curves: Sequence[Curve]) -> None:
    """Every number is finite, every forecast within bounds."""
    assert len(found.fits) == len(curves)
    for fit, of in zip(found.fits, curves, strict=True):
        assert fit.curve is of
        quantiles = fit.predict([500.0, 8000.0, 1e5]).quantiles()
        assert np.all(np.isfinite(quantiles))
        if of.bounds is not None:
            assert quantiles.min() >= of.bounds[0]
            assert quantiles.max() <= of.bounds[1]
        if fit.draws is not None:
            for name in ("r0", "A", "B", "C_mid", "sigma", "slope"):
                assert np.all(np.isfinite(getattr(fit.draws, name))), name
    for arm in found.arms.values():
        for name in ("r0", "A", "B", "C_mid"):
            assert np.all(np.isfinite(getattr(arm, name))), name


# ---------------------------------------------------------------- what must not matter


def test_neither_the_order_of_runs_nor_the_names_of_arms_matter() -> None:
    found, curves, first = young()
    order = [4, 2, 0, 5, 1, 3]
    renamed = {name: f"z{99 - int(name[3:])}" for name in found.arms}
    other = fit_siblings([curves[i] for i in order], [renamed[found.arms[i]] for i in order])
    for place, i in enumerate(order):
        one, two = first.fits[i], other.fits[place]
        assert two.curve is curves[i]
        assert one.draws is not None
        assert two.draws is not None
        for name in ("r0", "A", "B", "C_mid", "sigma", "kind", "lawful", "seed"):
            # All draws are the same ones, so those of two runs belong together as before.
            assert np.array_equal(getattr(one.draws, name), getattr(two.draws, name)), name
        assert np.array_equal(one.predict([BUDGET]).mean, two.predict([BUDGET]).mean)
    assert list(other.arms) == [renamed[name] for name in ("arm3", "arm1", "arm0", "arm4", "arm2")]
    for name, arm in first.arms.items():
        for part in ("r0", "A", "B", "C_mid"):
            assert np.array_equal(getattr(arm, part), getattr(other.arms[renamed[name]], part))


def test_the_order_of_equal_runs_matters_as_little_as_of_others() -> None:
    one, two = replace(curve(law()), name="one"), replace(curve(law()), name="two")
    third = curve(law(0.62, seed=1))
    found, swapped = fit_siblings([one, two, third]), fit_siblings([third, two, one])
    for place in range(3):
        assert np.array_equal(ceiling(found.fits[place]), ceiling(swapped.fits[2 - place]))


def test_each_run_has_random_numbers_of_its_own() -> None:
    fits = young()[2].fits
    seeds = [fit.draws.seed for fit in fits if fit.draws is not None]
    assert len(set(seeds)) == len(fits) == 6


def test_the_unit_of_compute_moves_the_midpoint_only() -> None:
    found, curves, first = young()
    scaled = fit_siblings([replace(c, compute=1000.0 * c.compute) for c in curves], found.arms)
    for one, other in zip(first.fits, scaled.fits, strict=True):
        assert one.draws is not None
        assert other.draws is not None
        # Rounding may choose another cell or population for a draw or two.
        assert np.isclose(other.draws.A, one.draws.A, rtol=0.0, atol=1e-6).mean() > 0.95
        assert np.isclose(other.draws.B, one.draws.B, rtol=1e-6).mean() > 0.95
        assert np.isclose(other.draws.C_mid, 1000.0 * one.draws.C_mid, rtol=1e-5).mean() > 0.95


@pytest.mark.parametrize(("factor", "shift"), [(100.0, -30.0), (1e-3, 5.0)])
def test_without_bounds_the_unit_of_value_does_not_matter(factor: float, shift: float) -> None:
    found = young()[0]
    free, first = unbounded()
    moved = [
        replace(
            c,
            value=factor * c.value + shift,
            se=None if c.se is None else factor * c.se,
            r0=None if c.r0 is None else factor * c.r0 + shift,
            r0_se=None if c.r0_se is None else factor * c.r0_se,
        )
        for c in free
    ]
    other = fit_siblings(moved, found.arms)
    for one, two in zip(first.fits, other.fits, strict=True):
        # A quarter of a standard deviation: rounding decides which draws are kept.
        tolerance = width(one) / 2.56 / 4.0
        assert (band(two) - shift) / factor == pytest.approx(band(one), abs=tolerance)


def test_without_names_each_curve_is_an_arm() -> None:
    curves = [curve(law(seed=i)) for i in range(3)]
    plain, named = fit_siblings(curves), fit_siblings(curves, ["x", "y", "z"])
    assert len(plain.arms) == 3
    for one, other in zip(plain.fits, named.fits, strict=True):
        assert np.array_equal(ceiling(one), ceiling(other))


def test_every_curve_needs_an_arm() -> None:
    with pytest.raises(ValueError, match="2 curves and 1 arms"):
        fit_siblings([curve(law()), curve(law())], ["a"])


# ---------------------------------------------------------------- strange curves


FLAT, NONE = np.full(8, 0.4), np.empty(0)
STRANGE: dict[str, list[Array]] = {
    "one point each": [np.array([0.45])] * 3,
    "two points": [np.array([0.45, 0.5]), law()],
    "some without points": [law(), NONE, law(0.62), NONE],
    "constant": [FLAT, FLAT],
    "all zero": [np.zeros(8)] * 3,
    "identical": [law()] * 4,
    "no noise": [law(A, sd=0.0) for A in (0.6, 0.61, 0.62)],
    "all kinds": [
        law(),
        FLAT,
        np.zeros(8),
        np.ones(8),
        0.8 - law(),
        np.random.default_rng(0).random(8),
        np.where(HOURS > 4000.0, 0.9, 0.1),
        np.array([0.45]),
        NONE,
    ],
}


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
@pytest.mark.parametrize("name", STRANGE)
def test_strange_curves_break_nothing(name: str, bounds: tuple[float, float] | None) -> None:
    curves = [curve(value, bounds) for value in STRANGE[name]]
    # Singles within bounds, pairs without.
    arms = None if bounds else [str(i // 2) for i in range(len(curves))]
    assert_sound(fit_siblings(curves, arms), curves)


def test_random_curves_break_nothing() -> None:
    rng = np.random.default_rng(5)
    for _ in range(6):
        bounds = (0.0, 1.0) if rng.random() < 0.5 else None
        curves = []
        for _ in range(int(rng.integers(1, 5))):
            num = int(rng.integers(0, 12))
            compute = np.sort(10.0 ** rng.uniform(-3.0, 6.0, num))
            rise = pass_rate(compute, 0.3, rng.random(), 0.1 + 3.0 * rng.random(), 10.0 ** rng.uniform(-3, 6))
            value = [rng.random(num), np.full(num, rng.random()), rise, np.round(rng.random(num))]
            size = 1.0 if bounds else 10.0 ** rng.uniform(-3.0, 3.0)
            curves.append(
                Curve.of("run", compute, size * value[int(rng.integers(4))], bounds=bounds, r0=0.3 * size)
            )
        arms = [str(rng.integers(3)) for _ in curves]
        assert_sound(fit_siblings(curves, arms), curves)


@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_values_of_any_size_break_nothing(size: float) -> None:
    curves = [Curve.of("run", HOURS, size * law(seed=i), r0=0.4 * size, r0_se=0.003 * size) for i in range(3)]
    found = fit_siblings(curves, ["a", "a", "b"])
    assert_sound(found, curves)
    assert np.median(ceiling(found.fits[2])) / size == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_values_of_extreme_size_break_nothing(size: float) -> None:
    curves = [Curve.of("run", HOURS, size * law(seed=i), r0=0.4 * size, r0_se=0.003 * size) for i in range(3)]
    assert_sound(fit_siblings(curves), curves)


def test_no_curves_and_curves_without_points_say_so() -> None:
    assert fit_siblings([]) == Siblings((), {})
    found = fit_siblings([curve([]), curve([])])
    assert [fit.status for fit in found.fits] == [FitStatus.TOO_FEW_POINTS] * 2
    assert found.arms == {}


def test_a_curve_without_points_changes_no_other() -> None:
    curves = [curve(law(seed=i)) for i in range(3)]
    first = fit_siblings(curves, ["a", "b", "c"])
    other = fit_siblings([curve([]), *curves, curve([])], ["a", "a", "b", "c", "d"])
    for one, two in zip(first.fits, other.fits[1:4], strict=True):
        assert np.array_equal(ceiling(one), ceiling(two))
    assert set(other.arms) == {"a", "b", "c"}


@pytest.mark.parametrize("num", [1, 2])
def test_a_run_of_one_or_two_points_is_not_said_to_reach_the_bound(num: int) -> None:
    of = Curve.of(
        "run", HOURS[:num], [0.45, 0.49][:num], se=[0.003] * num, r0=0.4, r0_se=0.003, bounds=(0.0, 1.0)
    )
    alone, together = ceiling(fit_posterior(of)), ceiling(fit_siblings([of]).fits[0])
    # The populations' priors differ a little from those of a curve alone.
    assert np.median(together) == pytest.approx(np.median(alone), abs=0.1)


def test_draws_at_the_ends_of_the_search_are_counted() -> None:
    # Steps: B is as large as it can be.
    curves = [curve(np.where(HOURS > 4000.0, 0.7, 0.4) + 0.004 * law(seed=i)) for i in range(3)]
    for found in fit_siblings(curves).fits:
        draws = found.draws
        assert draws is not None
        end = (draws.B > 13.99) | (draws.B < 0.1501) | (draws.C_mid > 8000.0 * math.exp(3.4999))
        assert draws.edge_mass == pytest.approx(float(np.mean(end & draws.lawful)), abs=1e-12)
        assert draws.edge_mass > 0.05
    for fit in young()[2].fits:
        assert fit.draws is not None
        assert fit.draws.edge_mass < 0.01


# ---------------------------------------------------------------- what is borrowed


def test_a_curve_alone_is_fitted_much_as_by_itself() -> None:
    of = curve(law())
    together, alone = fit_siblings([of]).fits[0], fit_posterior(of)
    assert band(together)[1] == pytest.approx(band(alone)[1], abs=0.5 * width(alone))
    assert width(together) == pytest.approx(width(alone), rel=0.5)


def test_draws_are_joint_young_runs_go_together() -> None:
    _, _, found = young()
    A = np.array([ceiling(fit) for fit in found.fits])
    related = np.corrcoef(A)[np.triu_indices(len(A), 1)]
    assert related.mean() > 0.15
    assert related.min() > -0.05
    # Seeds of an arm go together more than arms do.
    assert np.corrcoef(A)[0, 1] > related[1:].mean()


def test_seeds_of_an_arm_lie_closer_than_arms() -> None:
    _, _, found = young()
    A = [ceiling(fit) for fit in found.fits]
    between = np.mean([np.std(A[i] - A[j]) for i in range(1, 6) for j in range(i + 1, 6)])
    assert np.std(A[0] - A[1]) < 0.9 * between
    # An arm is known better than its runs say one by one, and another seed of it differs from its runs.
    assert np.std(found.arms["arm0"].A - A[0]) < np.std(found.arms["arm0"].A - A[3])


def test_arms_follow_the_law_of_their_draws() -> None:
    arm = young()[2].arms["arm1"]
    expected = [
        r0 + (A - r0) / (1.0 + (C / 8000.0) ** B)
        for r0, A, B, C in zip(arm.r0, arm.A, arm.B, arm.C_mid, strict=True)
    ]
    assert arm.pass_rate(8000.0) == pytest.approx(expected)
    hours = arm.hours_to_reach(0.5)
    reached = np.isfinite(hours) & (hours > 0.0)
    assert reached.mean() > 0.9
    back = pass_rate(hours, arm.r0, arm.A, arm.B, arm.C_mid)[reached]
    assert back == pytest.approx(0.5)


@cache
def among_old() -> Array:
    """[sweeps, 5] of a run seen to 1.5 C_mid among old ones: (low, median, high, truth, width alone)."""
    rows = []
    for seed in range(10):
        found = simulate_sweep(SweepKind.LEAVE_ONE_OUT, np.random.default_rng(200 + seed))
        # Every third evaluation of half of the arms, for speed.
        runs = [found.runs[i] for i in (0, 3, 4, 5, 6)]
        curves = [thinned(r.curve) for r in runs]
        place = seed % len(runs)
        curves[place] = runs[place].curve.between(1500.0, 1.5 * runs[place].truth.C_mid)
        together = fit_siblings(curves, [r.arm.name for r in runs]).fits[place]
        truth = float(runs[place].truth.mean([BUDGET])[0])
        rows.append([*band(together), truth, width(fit_posterior(curves[place]))])
    return np.array(rows)


def test_a_young_run_among_old_ones_is_known_much_better_than_alone() -> None:
    low, _, high, _, alone = among_old().T
    assert np.mean(high - low) < 0.5 * np.mean(alone)
    assert np.all(high - low < alone)


def test_bands_of_young_runs_among_old_ones_cover_the_truth() -> None:
    low, median, high, truth, _ = among_old().T
    # 80 % bands: 5 or fewer of 10 has probability 0.03.
    assert np.sum((low <= truth) & (truth <= high)) >= 6
    assert np.mean(np.abs(median - truth)) < 0.02


def test_bands_of_young_sweeps_cover_the_truth_with_and_without_bounds() -> None:
    for bounds in ((0.0, 1.0), None):
        inside: list[bool] = []
        for seed in range(3):
            found = sweep(100 + seed, 6, spread=0.02, spacing=500.0)
            curves = [replace(c.between(None, 5000.0), bounds=bounds) for c in found.curves]
            for run, fit in zip(found.runs, fit_siblings(curves, found.arms).fits, strict=True):
                low, _, high = band(fit)
                inside.append(bool(low <= run.truth.mean([BUDGET])[0] <= high))
        assert np.mean(inside) >= 0.65, bounds


def test_siblings_do_not_widen_young_forecasts() -> None:
    together, alone = [], []
    for seed in range(4):
        found = simulate_sweep(SweepKind.LEAVE_ONE_OUT, np.random.default_rng(seed))
        # Every third evaluation, for speed.
        curves = [thinned(c.between(1500.0, 6000.0)) for c in found.curves[2:9]]
        fits = fit_siblings(curves, found.arms[2:9]).fits
        together.append(np.mean([width(fit) for fit in fits]))
        alone.append(np.mean([width(fit_posterior(c)) for c in curves]))
    assert np.mean(together) < 0.8 * np.mean(alone)


def test_more_siblings_narrow_the_forecast_on_average() -> None:
    few, many = [], []
    for seed in range(3):
        found = sweep(40 + seed, 9)
        curves = [c.between(None, 4500.0) for c in found.curves[1:]]
        few.append(width(fit_siblings(curves[:2]).fits[0]))
        many.append(width(fit_siblings(curves).fits[0]))
    assert np.mean(many) < 0.9 * np.mean(few)


@pytest.mark.xfail(reason="the prior of the spreads knows no sweep whose ceilings differ by 0.5")
def test_unrelated_runs_borrow_little() -> None:
    shapes = [(0.45, 4.0, 700.0), (0.95, 0.8, 9000.0), (0.75, 1.2, 1500.0), (0.6, 2.5, 5000.0)]
    curves = [curve(law(A, C, B, seed=i)) for i, (A, B, C) in enumerate(shapes)]
    target = curve(law(seed=9)[:4])
    together, alone = fit_siblings([target, *curves]).fits[0], fit_posterior(target)
    assert width(together) > 0.3 * width(alone)
    assert band(together)[1] == pytest.approx(band(alone)[1], abs=0.6 * width(alone))
    truth = float(pass_rate(BUDGET, 0.4, 0.6, 1.9, 2500.0))
    assert band(together)[0] - 0.01 <= truth <= band(together)[2] + 0.01


def test_an_odd_arm_is_left_where_it_is() -> None:
    regular = [law(0.6 + 0.005 * (i % 3), seed=i) for i in range(7)]
    odd = law(0.5, seed=8)
    calm = fit_siblings([curve(value) for value in [*regular, law(seed=8)]])
    found = fit_siblings([curve(value) for value in [*regular, odd]])
    alone = fit_posterior(curve(odd))
    assert band(found.fits[-1])[1] == pytest.approx(band(alone)[1], abs=0.012)
    draws = found.fits[-1].draws
    assert draws is not None
    # Nearer the truth than by its own points, 0.529, and not drawn to the others' 0.605.
    assert np.median(draws.A[draws.lawful]) == pytest.approx(0.5, abs=0.025)
    assert band(found.fits[-1])[2] < band(calm.fits[-1])[0]
    # The others are a little wider for it, and stay where they were.
    for before, after in zip(calm.fits[:-1], found.fits[:-1], strict=True):
        assert band(after)[1] == pytest.approx(band(before)[1], abs=0.01)
    assert np.mean([width(f) for f in found.fits[:-1]]) < 1.6 * np.mean([width(f) for f in calm.fits[:-1]])


def test_siblings_that_are_all_noise_leave_a_good_run_its_own_noise() -> None:
    rng = np.random.default_rng(1)
    wild = [curve(0.5 + 0.1 * rng.normal(size=8)) for _ in range(4)]
    good = fit_siblings([curve(law()), *wild]).fits[0]
    assert good.residual_sd is not None
    assert good.residual_sd < 0.03
    assert np.median(ceiling(good)) == pytest.approx(0.6, abs=0.04)


@pytest.mark.parametrize(
    "ratio",
    [
        30.0,
        pytest.param(
            1e6,
            marks=pytest.mark.xfail(reason="midpoints are expected near the furthest compute of all runs"),
        ),
    ],
)
def test_a_run_at_another_scale_of_compute_disturbs_no_other(ratio: float) -> None:
    values = [law(seed=i) for i in range(3)]
    same = [curve(value) for value in values]
    apart = [same[0], replace(same[1], compute=ratio * same[1].compute), same[2]]
    first, other = fit_siblings(same).fits, fit_siblings(apart).fits
    for place in (0, 2):
        assert np.median(ceiling(other[place])) == pytest.approx(np.median(ceiling(first[place])), abs=0.01)
        assert width(other[place]) < 2.0 * width(first[place])


def test_ceilings_are_known_once_all_runs_are_old() -> None:
    found = sweep(11)
    fits = fit_siblings(found.curves, found.arms).fits
    for run, fit in zip(found.runs, fits, strict=True):
        assert np.median(ceiling(fit)) == pytest.approx(run.truth.A, abs=0.015)
        assert fit.status is FitStatus.IDENTIFIED


def test_time_grows_with_the_number_of_runs() -> None:
    took = []
    for num in (6, 24):
        found = sweep(60, num - 1, spacing=1300.0)
        curves = found.curves
        assert {c.value.size for c in curves} == {12}
        start = time.process_time()
        fit_siblings(curves)
        took.append(time.process_time() - start)
    assert took[1] < 8.0 * took[0]
    assert took[1] < 15.0
