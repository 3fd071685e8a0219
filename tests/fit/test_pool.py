"""Ceilings pooled over seeds, differences, and refits at a common ceiling."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalerl_lab.config.sweep import Rule
from scalerl_lab.fit import FittedCurve, PooledCeiling, ceiling_difference, fit_curve, pool, refit_at_ceiling
from scalerl_lab.records import FitStatus
from tests.fit.curves import GOLDEN_R0, golden_points, point, simulate


def normal_ceiling(mean: float, sd: float, *, identified: bool = True) -> FittedCurve:
    """A fit whose ceiling is normal."""
    curve = fit_curve("seed", golden_points(), fit_start_gpu_hours=900.0, rule=Rule())
    assert curve.draws is not None
    ranks = (np.arange(4096) + 0.5) / 4096
    normal = np.sort(np.random.default_rng(0).normal(size=400_000))[(ranks * 400_000).astype(int)]
    draws = dataclasses.replace(curve.draws, A=np.clip(mean + sd * normal, 0.0, 1.0))
    status = FitStatus.IDENTIFIED if identified else FitStatus.NOT_IDENTIFIED
    return dataclasses.replace(curve, draws=draws, fit=dataclasses.replace(curve.fit, status=status))


def pooled(*ceilings: FittedCurve) -> PooledCeiling:
    """A pool that exists."""
    found = pool(ceilings)
    assert found is not None
    return found


def half80(found: PooledCeiling) -> float:
    """Half of the 80 % interval."""
    return (found.interval.high80 - found.interval.low80) / 2.0


def test_one_seed_is_as_wide_as_its_fit_and_the_spread_together() -> None:
    found = pooled(normal_ceiling(0.6, 0.02))
    rng, num = np.random.default_rng(1), 200_000
    spread = 0.01 * np.exp(0.7 * rng.normal(size=num)) * rng.normal(size=num)
    expected = np.quantile(0.02 * rng.normal(size=num) + spread, 0.9)
    assert found.interval.median == pytest.approx(0.6, abs=0.001)
    assert half80(found) == pytest.approx(expected, rel=0.05)
    assert found.num_seeds == 1
    assert found.identified


def test_three_alike_seeds_narrow_the_ceiling_by_about_their_root() -> None:
    one, three = pooled(normal_ceiling(0.6, 0.03)), pooled(*3 * [normal_ceiling(0.6, 0.03)])
    assert three.interval.median == pytest.approx(0.6, abs=0.001)
    assert half80(three) < half80(one) / 3.0**0.5 * 1.05
    assert half80(three) > 1.2816 * 0.03 / 3.0**0.5


def test_seeds_that_disagree_widen_the_ceiling() -> None:
    alike = pooled(normal_ceiling(0.600, 0.003), normal_ceiling(0.601, 0.003), normal_ceiling(0.599, 0.003))
    apart = pooled(normal_ceiling(0.57, 0.003), normal_ceiling(0.60, 0.003), normal_ceiling(0.63, 0.003))
    assert half80(apart) > 2.0 * half80(alike)
    assert apart.interval.median == pytest.approx(0.6, abs=0.002)


def test_the_sharper_seed_weighs_more() -> None:
    found = pooled(normal_ceiling(0.60, 0.005), normal_ceiling(0.70, 0.1))
    assert found.interval.median == pytest.approx(0.60, abs=0.006)


def test_seeds_not_identified_are_left_out_where_one_is() -> None:
    known, unknown = normal_ceiling(0.6, 0.01), normal_ceiling(0.9, 0.01, identified=False)
    assert pooled(known, unknown).interval == pooled(known).interval
    assert pooled(known, unknown).num_seeds == 1
    alone = pooled(unknown)
    assert not alone.identified
    assert alone.interval.median == pytest.approx(0.9, abs=0.002)


def test_nothing_to_pool() -> None:
    few = fit_curve("few", [point(0, 0.0, 0.4)], fit_start_gpu_hours=0.0, rule=Rule())
    assert pool([]) is None
    assert pool([few]) is None
    assert pooled(few, normal_ceiling(0.6, 0.01)).num_seeds == 1


def test_contradicting_seeds_do_not_break_it() -> None:
    found = pooled(normal_ceiling(0.0, 0.0), normal_ceiling(1.0, 0.0))
    assert 0.0 <= found.interval.low95 <= found.interval.high95 <= 1.0


def test_pooled_draws_follow_the_interval() -> None:
    found = pooled(normal_ceiling(0.6, 0.02), normal_ceiling(0.62, 0.02))
    draws = found.draws(2000, seed=4)
    assert np.quantile(draws, [0.1, 0.5, 0.9]) == pytest.approx(
        [found.interval.low80, found.interval.median, found.interval.high80], abs=0.001
    )
    assert np.array_equal(draws, found.draws(2000, seed=4))
    assert not np.array_equal(draws, found.draws(2000, seed=5))


def test_the_difference_is_that_of_independent_ceilings() -> None:
    found = ceiling_difference(pooled(normal_ceiling(0.55, 0.02)), pooled(normal_ceiling(0.60, 0.02)))
    assert found.interval.median == pytest.approx(-0.05, abs=0.001)
    rng, num = np.random.default_rng(2), 200_000
    spread = 0.01 * np.exp(0.7 * rng.normal(size=num))
    noise = np.hypot(0.02, spread) * (rng.normal(size=num) - rng.normal(size=num))
    half = (found.interval.high80 - found.interval.low80) / 2.0
    assert half == pytest.approx(np.quantile(noise, 0.9), rel=0.05)
    assert found.probability_below(-0.05) == pytest.approx(0.5, abs=0.02)
    assert found.probability_below(-0.02) + found.probability_above(-0.02) == pytest.approx(1.0)


def test_the_spread_is_learnt_from_the_control_for_an_arm_of_one_seed() -> None:
    arm = pooled(normal_ceiling(0.55, 0.003))
    quiet = pooled(*(normal_ceiling(0.6 + shift, 0.003) for shift in (-0.001, 0.0, 0.001)))
    noisy = pooled(*(normal_ceiling(0.6 + shift, 0.003) for shift in (-0.04, 0.0, 0.04)))
    assert ceiling_difference(arm, quiet).probability_below(-0.02) > 0.97
    assert ceiling_difference(arm, noisy).probability_below(-0.02) < 0.9


def test_an_arm_against_itself_is_neither_below_nor_above() -> None:
    arm = pooled(normal_ceiling(0.6, 0.01))
    found = ceiling_difference(arm, arm)
    assert found.interval.median == pytest.approx(0.0, abs=1e-3)
    assert found.probability_below(0.0) == pytest.approx(0.5, abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.1, 0.9), st.floats(0.0, 0.2), st.floats(-0.3, 0.3), st.floats(0.0, 0.3))
def test_more_margin_is_never_more_probable(mean: float, sd: float, shift: float, margin: float) -> None:
    found = ceiling_difference(pooled(normal_ceiling(mean + shift, sd)), pooled(normal_ceiling(mean, sd)))
    assert found.probability_below(-margin) >= found.probability_below(-margin - 0.01) - 1e-12
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
    level = refit.hours_to_reach(0.58)
    assert level is not None
    # C_mid ((A - R0) / (R - R0) - 1)^(-1/B) at the refitted medians.
    by_hand = refit.midpoint.median * ((0.605 - GOLDEN_R0) / (0.58 - GOLDEN_R0) - 1.0) ** (
        -1.0 / refit.efficiency.median
    )
    assert level.median == pytest.approx(by_hand, rel=0.02)
    assert refit.hours_to_reach(0.61) is None


def test_a_refit_needs_a_point() -> None:
    assert refit_at_ceiling([point(0, 0.0, 0.4)], 0.6, fit_start_gpu_hours=1500.0) is None
    single = refit_at_ceiling([point(0, 0.0, 0.4), point(1, 2000.0, 0.5)], 0.6, fit_start_gpu_hours=1500.0)
    assert single is not None
    assert single.midpoint.low80 < 2000.0 < single.midpoint.high80
