"""Sweeps with drawn arms: what each kind promises of its arms."""

from __future__ import annotations

import numpy as np
import pytest

from scalerl_lab.fit.drawn import DrawnKind, draw_arms, draw_sweep
from scalerl_lab.fit.published import LEAVE_ONE_OUT
from scalerl_lab.fit.simulate import Collapse, SweepKind, simulate_sweep


def test_worse_arms_lie_between_the_deficits_and_the_tied_ones_within_the_margin() -> None:
    counts = []
    for seed in range(200):
        control, *arms = draw_arms(DrawnKind.WORSE_ARMS, np.random.default_rng(seed))
        assert (control.truth.A, control.num_seeds) == (0.610, 3)
        worse = [arm for arm in arms if arm.name.startswith("worse")]
        tied = arms[:8]
        assert all(0.05 <= control.truth.A - arm.truth.A <= 0.12 for arm in worse)
        assert all(control.truth.A - arm.truth.A <= 0.02 + 1e-12 for arm in tied)
        (collapsing,) = [arm for arm in arms if isinstance(arm.truth.departure, Collapse)]
        assert 3200.0 <= collapsing.truth.departure.at <= 12_000.0
        assert {arm.spacing_gpu_hours for arm in (control, *arms)} == {257.0}
        counts.append(len(worse))
    # 50 of 200 are expected of each number; four standard deviations are 24.
    assert all(26 <= counts.count(number) <= 74 for number in range(4))


def test_a_collapse_is_a_fall_beyond_any_rule_within_a_tenth_of_the_budget() -> None:
    for seed in range(100):
        arms = draw_arms(DrawnKind.WORSE_ARMS, np.random.default_rng(seed))
        truth = arms[-1].truth
        assert isinstance(truth.departure, Collapse)
        peak, after = truth.mean([truth.departure.at, truth.departure.at + 1100.0])
        assert peak - after > 0.1 or peak < 0.45


def test_early_leaders_among_twelve_recipes_often_end_lower() -> None:
    """In about half of the sweeps by more than 0.02; of 400, four standard deviations are 0.1."""
    lost = []
    for seed in range(400):
        arms = draw_arms(DrawnKind.TWELVE_RECIPES, np.random.default_rng(seed))
        assert len(arms) == 12
        assert all(0.490 <= arm.truth.A <= 0.645 for arm in arms)
        assert all(1300.0 <= arm.truth.C_mid <= 6897.0 for arm in arms)
        early = max(arms, key=lambda arm: float(arm.truth.mean(1600.0)))
        best = max(float(arm.truth.mean(16_000.0)) for arm in arms)
        lost.append(best - float(early.truth.mean(16_000.0)) > 0.02)
    assert np.mean(lost) == pytest.approx(0.55, abs=0.1)


@pytest.mark.parametrize("kind", [*DrawnKind, *SweepKind])
def test_a_longer_sweep_extends_the_same_curves(kind: DrawnKind | SweepKind) -> None:
    short = draw_sweep(kind, np.random.default_rng(3), budget_gpu_hours=8000.0)
    long = draw_sweep(kind, np.random.default_rng(3), budget_gpu_hours=8000.0, longest_gpu_hours=12_000.0)
    assert short.arms == long.arms
    for a, b in zip(short.curves, long.curves, strict=True):
        assert b.compute[-1] > a.compute[-1]
        assert np.array_equal(a.value, b.value[: a.value.size])


def test_published_kinds_are_those_of_the_simulation() -> None:
    drawn = draw_sweep(SweepKind.LEAVE_ONE_OUT, np.random.default_rng(1))
    plain = simulate_sweep(SweepKind.LEAVE_ONE_OUT, np.random.default_rng(1))
    assert drawn.arms == plain.arms
    assert np.array_equal(drawn.curves[0].value, plain.curves[0].value)
    assert len(LEAVE_ONE_OUT) == 9
