"""The paper's procedure gives the paper's row."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.optimize import curve_fit

from scalerl_lab.fit import METHODS, paper_fit, pass_rate
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.paper import PAPER_CEILINGS, PAPER_LONG_MIDPOINTS, PAPER_MIDPOINTS, paper_fit_literal
from scalerl_lab.records import FitStatus
from tests.fit.curves import GOLDEN_HOURS, GOLDEN_R0, GOLDEN_RATES, NUM_FITTED
from tests.fit.digitised import LEAVE_ONE_OUT, markers, merged

STARS = np.arange(GOLDEN_HOURS.size) < NUM_FITTED
LATE = GOLDEN_HOURS >= 1500.0


@pytest.mark.parametrize(
    ("chosen", "A", "B", "C_mid", "rmse"),
    [
        (np.ones_like(STARS), "0.610", "1.92", "2542", "0.0042"),
        (LATE, "0.610", "1.96", "2582", "0.0043"),
        (STARS, "0.600", "2.13", "2424", "0.0047"),
        (STARS & LATE, "0.595", "2.34", "2385", "0.0045"),
    ],
    ids=["all", "all from 1.5k", "first half", "first half from 1.5k"],
)
def test_golden_refit(chosen: np.ndarray, A: str, B: str, C_mid: str, rmse: str) -> None:
    fit = paper_fit(GOLDEN_HOURS[chosen], GOLDEN_RATES[chosen], GOLDEN_R0)
    assert (f"{fit.A:.3f}", f"{fit.B:.2f}", f"{fit.C_mid:.0f}", f"{fit.rmse:.4f}") == (A, B, C_mid, rmse)
    assert not fit.at_edge


@pytest.mark.parametrize(
    ("figure", "run", "A", "B", "C_mid"),
    [
        ("fig_loss", "GSPO", "0.590", "1.81", "1479"),
        ("fig_loss", "CISPO", "0.590", "2.38", "1794"),
        ("fig_fp32", "fp32-fix", "0.610", "1.80", "2385"),
    ],
)
def test_other_published_runs(figure: str, run: str, A: str, B: str, C_mid: str) -> None:
    hours, rates = markers((figure,), run)
    late = hours >= 1400.0
    fit = paper_fit(hours[late], rates[late], GOLDEN_R0)
    assert (f"{fit.A:.3f}", f"{fit.B:.2f}", f"{fit.C_mid:.0f}") == (A, B, C_mid)


def test_the_golden_points_are_those_of_the_figures() -> None:
    hours, rates = merged(*markers(LEAVE_ONE_OUT, "ScaleRL"))
    assert hours.size == 32
    np.testing.assert_allclose(hours, GOLDEN_HOURS, atol=1.0)
    np.testing.assert_allclose(rates, GOLDEN_RATES, atol=3e-4)


@pytest.mark.parametrize("num", [5, 12, 32])
def test_the_search_finds_the_pair_that_curve_fit_finds(num: int) -> None:
    grids = {"ceilings": PAPER_CEILINGS[::5], "midpoints": PAPER_MIDPOINTS[::9]}
    fast = paper_fit(GOLDEN_HOURS[:num], GOLDEN_RATES[:num], GOLDEN_R0, **grids)
    literal = paper_fit_literal(GOLDEN_HOURS[:num], GOLDEN_RATES[:num], GOLDEN_R0, **grids)
    assert (fast.A, fast.C_mid, fast.at_edge) == (literal.A, literal.C_mid, literal.at_edge)
    assert pytest.approx(literal.B, rel=1e-4) == fast.B
    assert fast.rmse == pytest.approx(literal.rmse, rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_the_search_misses_no_better_pair(seed: int) -> None:
    """Every pair of a coarse grid by a plain one-dimensional search."""
    rng = np.random.default_rng(seed)
    hours = np.sort(rng.uniform(200.0, 9000.0, 12))
    rates = pass_rate(hours, 0.4, 0.62, rng.uniform(0.6, 4.0), rng.uniform(500.0, 6000.0))
    rates = rates + rng.normal(0.0, 0.02, hours.size)
    ceilings, midpoints = np.linspace(0.45, 0.8, 9), np.linspace(400.0, 4000.0, 7)
    fit = paper_fit(hours, rates, 0.4, ceilings=list(ceilings), midpoints=list(midpoints))
    efficiencies = np.geomspace(0.02, 49.0, 3000)
    least = min(
        np.sum((pass_rate(hours, 0.4, A, efficiencies[:, None], C) - rates) ** 2, axis=1).min()
        for A in ceilings
        for C in midpoints
    )
    assert fit.rmse**2 * hours.size <= least * (1.0 + 1e-9)


def golden(num: int = 32, unit: float = 1.0) -> Curve:
    return Curve.of("g", GOLDEN_HOURS[:num] * unit, GOLDEN_RATES[:num], r0=GOLDEN_R0, bounds=(0.0, 1.0))


def test_the_method_prints_the_published_row() -> None:
    fit = METHODS["paper"](golden())
    assert fit.asymptote is not None
    assert fit.efficiency is not None
    assert fit.midpoint is not None
    A, B, C_mid = (float(np.median(draws)) for draws in (fit.asymptote, fit.efficiency, fit.midpoint))
    assert (f"{A:.3f}", f"{B:.2f}", f"{C_mid:.0f}") == ("0.610", "1.92", "2542")
    assert (fit.r0, fit.status) == (0.4, FitStatus.IDENTIFIED)
    assert fit.residual_sd == pytest.approx(0.00423 * np.sqrt(32 / 29), rel=0.01)


def test_the_method_in_other_units_of_compute() -> None:
    """Other grids, which scale with the data: a step of theirs is 1 % of the midpoint."""
    fits = [METHODS["paper"](golden(unit=unit)) for unit in (1e-9, 1e9)]
    for fit, unit in zip(fits, (1e-9, 1e9), strict=True):
        assert fit.asymptote is not None
        assert fit.midpoint is not None
        assert np.median(fit.asymptote) == pytest.approx(0.610, abs=0.0051)
        assert np.median(fit.midpoint) == pytest.approx(2542.0 * unit, rel=0.02)


def test_long_runs_use_the_second_grid() -> None:
    hours = np.linspace(1500.0, 100_000.0, 40)
    long = METHODS["paper"](
        Curve.of("l", hours, pass_rate(hours, 0.402, 0.645, 1.7, 10909.0), r0=0.402, bounds=(0.0, 1.0))
    )
    assert long.midpoint is not None
    assert int(np.median(long.midpoint)) == int(PAPER_LONG_MIDPOINTS[19]) == 10909


def test_a_window_too_short_for_the_ceiling_is_not_identified() -> None:
    assert METHODS["paper"](golden(num=12)).status is FitStatus.NOT_IDENTIFIED


def test_the_efficiency_is_the_one_curve_fit_finds() -> None:
    for A, C_mid in [(0.61, 2542.4), (0.55, 1500.0), (0.75, 3500.0)]:
        fit = paper_fit(GOLDEN_HOURS, GOLDEN_RATES, GOLDEN_R0, ceilings=[A], midpoints=[C_mid])
        law = partial(pass_rate, r0=GOLDEN_R0, A=A, C_mid=C_mid)
        (B,), _ = curve_fit(lambda hours, B, law=law: law(hours, B=B), GOLDEN_HOURS, GOLDEN_RATES, p0=[1.0])
        assert pytest.approx(B, rel=2e-4) == fit.B


def test_the_grids_are_the_papers() -> None:
    assert len(PAPER_CEILINGS) == 71
    assert (PAPER_CEILINGS[0], PAPER_CEILINGS[32], PAPER_CEILINGS[-1]) == (0.45, 0.61, 0.8)
    # Published midpoints lie on it.
    assert {2542, 2463, 2660, 2503, 3409, 2857, 2621, 3093} <= {int(value) for value in PAPER_MIDPOINTS}


def test_a_fit_on_the_edge_of_its_grid_says_so() -> None:
    hours = np.linspace(1500.0, 17000.0, 15)
    slow = pass_rate(hours, 0.396, 0.645, 1.89, 11272.0)
    assert paper_fit(hours, slow, 0.396).at_edge


def test_no_points_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        paper_fit([], [], 0.4)
