"""Simulated runs and sweeps are what they say: law, noise, seeds, and the same for the same seed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalerl_lab.fit.simulate import (
    GRPO_COLLAPSE,
    Arm,
    Collapse,
    LateStart,
    Noise,
    SecondRise,
    SeedSpread,
    Straight,
    SweepKind,
    Truth,
    arms_of,
    correlated_noise,
    simulate_arms,
    simulate_run,
    simulate_sweep,
)
from scalerl_lab.records import Shape

CONTROL = Truth(0.61, 1.92, 2542.0, 0.40)
SILENT = Noise(sd=0.0, r0_sd=0.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_noise_has_the_stated_variance_and_correlation() -> None:
    residuals = correlated_noise(rng(), 200_000, 0.0045, 0.3)
    assert residuals.mean() == pytest.approx(0.0, abs=0.0001)
    assert residuals.std() == pytest.approx(0.0045, rel=0.01)
    for lag, expected in ((1, 0.3), (2, 0.09), (3, 0.027)):
        found = np.mean(residuals[lag:] * residuals[:-lag]) / residuals.var()
        assert found == pytest.approx(expected, abs=0.01)


def test_noise_is_stationary_from_the_first_point() -> None:
    generator = rng(1)
    short = np.array([correlated_noise(generator, 2, 1.0, 0.8) for _ in range(20_000)])
    assert short.std(axis=0) == pytest.approx([1.0, 1.0], rel=0.02)
    assert np.mean(short[:, 0] * short[:, 1]) == pytest.approx(0.8, abs=0.03)


def test_a_run_measures_its_truth() -> None:
    curve = simulate_run(CONTROL, rng(), noise=SILENT)
    # 62 x 257 = 15,934.
    assert curve.compute[[0, 1, -1]].tolist() == [257.0, 514.0, 15_934.0]
    by_hand = 0.40 + 0.21 / (1.0 + (2542.0 / curve.compute) ** 1.92)
    np.testing.assert_allclose(curve.value, by_hand, rtol=1e-12)
    assert (curve.r0, curve.r0_se, curve.bounds) == (0.40, 0.0, (0.0, 1.0))
    assert curve.se is not None
    assert set(curve.se) == {0.0027}


def test_points_and_start_scatter_as_stated() -> None:
    generator = rng(2)
    runs = [simulate_run(CONTROL, generator, budget_gpu_hours=2000.0) for _ in range(4000)]
    starts = np.array([curve.r0 for curve in runs])
    assert starts.mean() == pytest.approx(0.40, abs=0.0002)
    assert starts.std() == pytest.approx(0.0027, rel=0.05)
    assert {curve.r0_se for curve in runs} == {0.0027}
    residuals = np.array([curve.value for curve in runs]) - CONTROL.mean(runs[0].compute)
    np.testing.assert_allclose(residuals.std(axis=0), 0.0045, rtol=0.06)
    # What was measured before training says nothing of the points after.
    assert abs(np.corrcoef(starts, residuals[:, 0])[0, 1]) < 0.06


def test_a_point_at_the_budget_is_measured() -> None:
    curve = simulate_run(CONTROL, rng(), budget_gpu_hours=0.3, spacing_gpu_hours=0.1)
    assert curve.compute.size == 3


def test_no_standard_error_where_none_is_reported() -> None:
    assert simulate_run(CONTROL, rng(), noise=Noise(reported_se=None)).se is None


def test_the_same_seed_gives_the_same_sweep() -> None:
    first, again = (simulate_sweep(SweepKind.LEAVE_ONE_OUT, rng(3)) for _ in range(2))
    other = simulate_sweep(SweepKind.LEAVE_ONE_OUT, rng(4))
    for one, two, three in zip(first.runs, again.runs, other.runs, strict=True):
        assert one.truth == two.truth
        assert one.curve.r0 == two.curve.r0
        np.testing.assert_array_equal(one.curve.value, two.curve.value)
        assert not np.array_equal(one.curve.value, three.curve.value)


def test_a_larger_budget_extends_the_same_curves() -> None:
    short = simulate_sweep(SweepKind.AXIS, rng(5), budget_gpu_hours=16_000.0)
    long = simulate_sweep(SweepKind.AXIS, rng(5), budget_gpu_hours=50_000.0)
    for one, two in zip(short.runs, long.runs, strict=True):
        assert one.truth == two.truth
        assert two.curve.compute.size > one.curve.compute.size
        np.testing.assert_array_equal(one.curve.value, two.curve.value[: one.curve.value.size])


def test_a_run_does_not_depend_on_the_arms_after_it() -> None:
    arms = arms_of(SweepKind.LEAVE_ONE_OUT)
    few, many = (simulate_arms(arms[:num], rng(6)) for num in (2, 9))
    for one, two in zip(few.runs, many.runs, strict=False):
        np.testing.assert_array_equal(one.curve.value, two.curve.value)


def test_runs_of_a_sweep_are_independent() -> None:
    spreads = []
    for seed in range(300):
        sweep = simulate_sweep(SweepKind.LEAVE_ONE_OUT, rng(seed), budget_gpu_hours=600.0)
        spreads.append([run.curve.value[0] - run.truth.mean([257.0])[0] for run in sweep.runs])
    correlation = np.corrcoef(np.array(spreads).T)
    assert np.abs(correlation - np.eye(11)).max() < 0.23


def test_seeds_spread_as_stated() -> None:
    generator = rng(7)
    seeds = [SeedSpread().seed(CONTROL, generator) for _ in range(30_000)]
    ceilings = np.array([seed.A for seed in seeds])
    assert ceilings.mean() == pytest.approx(0.61, abs=0.0002)
    assert ceilings.std() == pytest.approx(0.0075, rel=0.02)
    assert np.log([seed.B for seed in seeds]).std() == pytest.approx(0.03, rel=0.02)
    assert np.log([seed.C_mid for seed in seeds]).std() == pytest.approx(0.03, rel=0.02)
    assert {seed.r0 for seed in seeds} == {0.40}
    # The paper's three repeated runs: within 0.015.
    threes = ceilings.reshape(-1, 3)
    within = np.abs(threes - threes.mean(axis=1, keepdims=True)).max(axis=1) <= 0.015
    assert within.mean() == pytest.approx(0.96, abs=0.01)


def test_the_leave_one_out_sweep() -> None:
    sweep = simulate_sweep(SweepKind.LEAVE_ONE_OUT, rng(8))
    assert sweep.control == "ScaleRL"
    assert sweep.arms[:4] == ("ScaleRL", "ScaleRL", "ScaleRL", "LOO-no-fp32-precision-fix")
    assert [run.seed for run in sweep.runs[:4]] == [0, 1, 2, 0]
    assert len(sweep.runs) == 11
    assert len({curve.name for curve in sweep.curves}) == 11
    assert len({run.truth.A for run in sweep.runs[:3]}) == 3
    assert {run.arm.truth.A for run in sweep.runs[:3]} == {0.61}
    assert {run.truth.r0 for run in sweep.runs} == {0.40}


def test_the_axis_sweep_is_evaluated_as_its_batches_allow() -> None:
    sweep = simulate_sweep(SweepKind.AXIS, rng(9))
    spacing = {run.arm.name: float(run.curve.compute[0]) for run in sweep.runs}
    assert spacing["ScaleRL"] == 257.0
    assert spacing["ScaleRL-bs2048"] == 1330.0
    assert "ScaleRL-math+code (code)" not in spacing
    starts = {run.arm.name: run.truth.r0 for run in sweep.runs}
    assert starts.pop("ScaleRL-Scout") == 0.5115
    assert set(starts.values()) == {0.40}


def test_grpo_falls_as_it_did() -> None:
    grpo = arms_of(SweepKind.COMPARE)[-1].truth
    assert grpo.departure is GRPO_COLLAPSE
    np.testing.assert_allclose(grpo.mean([8000.0, 10_100.0]), [0.460, 0.4444], atol=0.0005)
    hours = np.linspace(100.0, 16_000.0, 500)
    assert hours[np.argmax(grpo.mean(hours))] == pytest.approx(6500.0, abs=40.0)


def test_departures_by_hand() -> None:
    at = np.array([1000.0, 2000.0, 4000.0])
    law = Truth(0.6, 1.0, 1000.0, 0.4)
    # Half, two thirds and four fifths of 0.2.
    np.testing.assert_allclose(law.mean(at), [0.5, 0.4 + 0.4 / 3.0, 0.56])
    late = replace(law, departure=LateStart(1000.0))
    np.testing.assert_allclose(late.mean(at), [0.4, 0.5, 0.55])
    twice = replace(law, departure=SecondRise(0.1, 2.0, 2000.0))
    np.testing.assert_allclose(twice.mean(at), [0.5 + 0.02, 0.4 + 0.4 / 3.0 + 0.05, 0.56 + 0.08])
    straight = replace(law, departure=Straight())
    np.testing.assert_allclose(straight.mean(at), [0.5, 0.6, 0.8])
    fallen = replace(law, departure=Collapse(1000.0, 0.3, 1000.0))
    np.testing.assert_allclose(fallen.mean(at), [0.5, 0.3 + 0.2 / np.e, 0.3 + 0.2 / np.e**3])
    # A straight line leaves the range of a pass rate; measurements do not.
    assert straight.mean([1e5]).tolist() == [1.0]


def test_every_departure_is_named() -> None:
    shapes = [arm.truth.shape for arm in arms_of(SweepKind.MISFITS)]
    assert shapes == [
        Shape.LAW,
        Shape.COLLAPSING,
        Shape.LATE_BLOOMING,
        Shape.TWO_PHASE,
        Shape.LINEAR,
        Shape.FLAT,
    ]


def test_departures_do_not_jump() -> None:
    hours = np.linspace(50.0, 16_000.0, 4000)
    for arm in arms_of(SweepKind.MISFITS):
        steps = np.abs(np.diff(arm.truth.mean(hours)))
        assert steps.max() < 0.001, arm.name


def test_a_flat_run_has_no_other_seeds() -> None:
    flat = Truth(0.4, 1.0, 1000.0)
    assert SeedSpread().seed(flat, rng()) == flat


def test_a_sweep_needs_an_arm() -> None:
    with pytest.raises(ValueError, match="at least one arm"):
        simulate_arms([], rng())


@settings(max_examples=25, deadline=None)
@given(
    scale=st.floats(1e-6, 1e6),
    arm=st.sampled_from(arms_of(SweepKind.LEAVE_ONE_OUT)),
    seed=st.integers(0, 2**32),
)
def test_rescaling_compute_moves_only_the_midpoint(scale: float, arm: Arm, seed: int) -> None:
    scaled = replace(arm.truth, C_mid=arm.truth.C_mid * scale)
    spacing = arm.spacing_gpu_hours
    one = simulate_run(arm.truth, rng(seed), budget_gpu_hours=20.5 * spacing, spacing_gpu_hours=spacing)
    two = simulate_run(
        scaled, rng(seed), budget_gpu_hours=20.5 * spacing * scale, spacing_gpu_hours=spacing * scale
    )
    np.testing.assert_allclose(two.compute, one.compute * scale, rtol=1e-12)
    np.testing.assert_allclose(two.value, one.value, rtol=1e-9)
    assert all(a < b for a, b in pairwise(two.compute))
