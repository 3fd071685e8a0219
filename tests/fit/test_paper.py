"""The paper's procedure gives the paper's row."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.optimize import curve_fit

from scalerl_lab.fit import paper_fit, pass_rate
from scalerl_lab.fit.paper import PAPER_CEILINGS, PAPER_MIDPOINTS
from tests.fit.curves import GOLDEN_HOURS, GOLDEN_R0, GOLDEN_RATES, NUM_FITTED

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
