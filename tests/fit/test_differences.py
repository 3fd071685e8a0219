"""Differences between arms in efficiency, pass rate and compute to a level, on draws made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scalerl_lab.config.sweep import Rule
from scalerl_lab.fit import (
    ArmDraws,
    FittedCurve,
    drawn_hours,
    fit_curve,
    log_hours_ratio,
    pass_rate_difference,
    probability_ends_above,
)
from tests.fit.curves import point, simulate

K = 1000
RANKS = (np.arange(K) + 0.5) / K


def arm(
    A: float | np.ndarray = 0.6,
    B: float | np.ndarray = 2.0,
    C_mid: float | np.ndarray = 3000.0,
    r0: float = 0.2,
) -> ArmDraws:
    """Draws of an arm; what is one number is certain."""
    ones = np.ones(K)
    return ArmDraws(r0 * ones, A * ones, B * ones, C_mid * ones)


def hours(draws: ArmDraws) -> np.ndarray:
    """To a pass rate of 0.5."""
    return drawn_hours(draws, 0.5)


def test_the_difference_of_pass_rates_at_a_compute() -> None:
    # At the common midpoint both have half of their gain: (A - A') / 2.
    found = pass_rate_difference(arm(0.5 + 0.2 * RANKS), arm(0.5), 3000.0)
    assert found.interval.median == pytest.approx(0.05)
    # U(0, 0.1) lies below 0.025 with probability 1/4.
    assert found.probability_below(0.025) == pytest.approx(0.25, abs=0.01)


def test_hours_to_a_level_compare_as_midpoints_where_all_else_is_alike() -> None:
    found = log_hours_ratio(hours(arm(C_mid=2400.0)), hours(arm(C_mid=3000.0)))
    assert found is not None
    assert found.draws == pytest.approx(np.full(K, math.log(0.8)))


def test_hours_are_compared_draw_by_draw() -> None:
    midpoints = 3000.0 * np.exp(RANKS)
    found = log_hours_ratio(hours(arm(C_mid=0.5 * midpoints)), hours(arm(C_mid=midpoints)))
    assert found is not None
    assert found.interval.high95 == pytest.approx(math.log(0.5))


def test_an_arm_that_does_not_arrive_takes_infinitely_long() -> None:
    # It arrives in the 60 % of draws above 0.5.
    uncertain = np.where(RANKS < 0.4, 0.45, 0.6)
    found = log_hours_ratio(hours(arm(uncertain)), hours(arm()))
    assert found is not None
    assert np.mean(np.isposinf(found.draws)) == pytest.approx(0.4)
    assert found.probability_above(1.0) == pytest.approx(0.4)
    # Draws in which neither arrives say nothing of the two.
    both = log_hours_ratio(hours(arm(uncertain)), hours(arm(np.where(RANKS < 0.2, 0.45, 0.6))))
    assert both is not None
    assert both.draws.size == 0.8 * K
    assert np.mean(np.isposinf(both.draws)) == pytest.approx(0.25)
    assert log_hours_ratio(hours(arm(0.45)), hours(arm(0.45))) is None


def test_which_run_ends_above() -> None:
    rng = np.random.default_rng(0)

    def fitted(A: float) -> FittedCurve:
        return fit_curve("r", simulate(rng, A=A), fit_start_gpu_hours=1500.0, rule=Rule())

    high, low = fitted(0.66), fitted(0.58)
    above, below = (
        probability_ends_above(first, second, 20_000.0) for first, second in ((high, low), (low, high))
    )
    assert above is not None
    assert above > 0.95
    assert below == pytest.approx(1.0 - above)
    none = fit_curve("r", [point(0, 0.0, 0.4)], fit_start_gpu_hours=0.0, rule=Rule())
    assert probability_ends_above(none, none, 20_000.0) is None
