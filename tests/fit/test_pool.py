"""Ceilings of arms from draws, their difference, and refits at a common ceiling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalerl_lab.fit import (
    ArmDraws,
    Difference,
    PooledCeiling,
    ceiling_difference,
    drawn_hours,
    efficiency_difference,
    fit_posterior,
    pass_rate,
    refit_at_ceiling,
)
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.fitted import finite_interval
from scalerl_lab.fit.law_fit import ready
from scalerl_lab.fit.posterior import draw_posterior
from tests.fit.curves import GOLDEN_R0, golden_points, point, simulate

K = 1024


def ceiling(draws: np.ndarray, *, identified: bool = True) -> PooledCeiling:
    """An arm of which only the ceiling is uncertain."""
    ones = np.ones(draws.size)
    return PooledCeiling(ArmDraws(0.4 * ones, draws, 1.9 * ones, 2500.0 * ones), 1, identified)


def test_the_interval_is_that_of_the_draws() -> None:
    found = ceiling(np.linspace(0.5, 0.7, 1001))
    interval = found.interval
    assert (interval.low95, interval.low80, interval.median, interval.high80, interval.high95) == (
        pytest.approx((0.505, 0.52, 0.6, 0.68, 0.695))
    )
    assert found.draws is found.law.A


def test_what_both_share_cancels_in_the_difference() -> None:
    rng = np.random.default_rng(0)
    common, own = 0.05 * rng.normal(size=K), 0.002 * rng.normal(size=K)
    joint = ceiling_difference(ceiling(0.55 + common + own), ceiling(0.60 + common))
    shuffled = ceiling_difference(ceiling(0.55 + common + own), ceiling(0.60 + rng.permutation(common)))
    assert joint.interval.median == pytest.approx(-0.05, abs=0.0005)
    assert (joint.interval.high80 - joint.interval.low80) / 2.0 == pytest.approx(1.2816 * 0.002, rel=0.1)
    assert (shuffled.interval.high80 - shuffled.interval.low80) / 2.0 == pytest.approx(
        1.2816 * 0.05 * math.sqrt(2.0), rel=0.1
    )


def test_probabilities_follow_the_normal_that_was_drawn_from() -> None:
    rng = np.random.default_rng(1)
    found = Difference(-0.03 + 0.01 * rng.normal(size=100 * K))
    # Phi(1), Phi(0), and what is left of it.
    assert found.probability_below(-0.02) == pytest.approx(0.8413, abs=0.005)
    assert found.probability_below(-0.03) == pytest.approx(0.5, abs=0.005)
    assert found.probability_below(-0.02) + found.probability_above(-0.02) == pytest.approx(1.0)


def test_probabilities_have_no_steps() -> None:
    rng = np.random.default_rng(2)
    found = Difference(0.01 * rng.normal(size=K))
    bounds = np.linspace(-0.02, 0.02, 4001)
    steps = np.diff([found.probability_below(float(bound)) for bound in bounds])
    assert steps.min() > 0.0
    # One draw of 1,024 would be a step of 0.001; the density of the normal at 0 makes 0.0004.
    assert steps.max() < 1.3 * 0.3989 * 1e-5 / 0.01


def test_draws_that_are_all_alike_are_a_certainty() -> None:
    found = Difference(np.full(K, -0.05))
    assert found.probability_below(-0.02) == 1.0
    assert found.probability_below(-0.06) == 0.0


def test_infinite_draws_count_on_their_side() -> None:
    draws = np.concatenate([np.full(10, -np.inf), np.zeros(70), np.full(20, np.inf)])
    found = Difference(draws)
    assert found.probability_below(1.0) == pytest.approx(0.8)
    assert found.probability_below(-1.0) == pytest.approx(0.1)
    assert found.probability_above(1.0) == pytest.approx(0.2)
    assert Difference(np.full(5, np.inf)).probability_below(0.0) == 0.0


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.3, 0.3), st.floats(0.0, 0.2), st.floats(0.0, 0.3), st.integers(0, 99))
def test_more_margin_is_never_more_probable(shift: float, sd: float, margin: float, seed: int) -> None:
    found = Difference(shift + sd * np.random.default_rng(seed).normal(size=64))
    assert found.probability_below(-margin) >= found.probability_below(-margin - 0.01)
    assert 0.0 <= found.probability_below(-margin) <= 1.0


def test_refits_at_a_common_ceiling_compare_efficiencies() -> None:
    rng = np.random.default_rng(20)
    fast = refit_at_ceiling(simulate(rng, B=2.4), 0.61, fit_start_gpu_hours=1500.0)
    slow = refit_at_ceiling(simulate(rng, B=1.6), 0.61, fit_start_gpu_hours=1500.0)
    assert fast is not None
    assert slow is not None
    assert fast.efficiency.low95 <= 2.4 <= fast.efficiency.high95
    assert slow.efficiency.low95 <= 1.6 <= slow.efficiency.high95
    assert fast.efficiency.low95 > slow.efficiency.high95
    assert fast.midpoint.median == pytest.approx(2542.0, rel=0.05)


def test_the_published_efficiency_at_the_common_ceiling() -> None:
    refit = refit_at_ceiling(golden_points(), 0.605, fit_start_gpu_hours=900.0)
    assert refit is not None
    assert refit.ceiling == 0.605
    assert refit.efficiency.low80 <= 2.01 <= refit.efficiency.high80


def test_hours_to_a_common_level_at_a_common_ceiling() -> None:
    refit = refit_at_ceiling(golden_points(), 0.605, fit_start_gpu_hours=900.0)
    assert refit is not None
    level = finite_interval(drawn_hours(refit.draws, 0.58))
    assert level is not None
    # C_mid ((A - R0) / (R - R0) - 1)^(-1/B) at the refitted medians.
    by_hand = refit.midpoint.median * ((0.605 - GOLDEN_R0) / (0.58 - GOLDEN_R0) - 1.0) ** (
        -1.0 / refit.efficiency.median
    )
    assert level.median == pytest.approx(by_hand, rel=0.02)
    assert finite_interval(drawn_hours(refit.draws, 0.61)) is None


def test_a_refit_needs_a_point() -> None:
    assert refit_at_ceiling([point(0, 0.0, 0.4)], 0.6, fit_start_gpu_hours=1500.0) is None
    single = refit_at_ceiling([point(0, 0.0, 0.4), point(1, 2000.0, 0.5)], 0.6, fit_start_gpu_hours=1500.0)
    assert single is not None
    assert single.midpoint.low80 < 2000.0 < single.midpoint.high80


def test_efficiencies_at_one_ceiling_are_compared_by_refits() -> None:
    rng = np.random.default_rng(4)
    hours = np.arange(1, 49) * 333.0
    curves = [
        Curve.of("", hours, pass_rate(hours, 0.4, 0.61, B, 2500.0) + rng.normal(0.0, 0.003, 48), r0=0.4)
        for B in (2.4, 1.8)
    ]
    fast, slow = (fit_posterior(curve) for curve in curves)
    found = efficiency_difference(fast, slow, 0.61)
    assert found is not None
    assert found.interval.low95 < 0.6 < found.interval.high95
    assert found.interval.median == pytest.approx(0.6, abs=0.15)
    # Two independent posteriors: their variances add up.
    alone = [draw_posterior(*ready(curve), ceiling=0.61).B.var() for curve in curves]
    assert found.draws.var() == pytest.approx(sum(alone), rel=0.1)
    nothing = fit_posterior(Curve.of("", [], []))
    assert efficiency_difference(fast, nothing, 0.61) is None
