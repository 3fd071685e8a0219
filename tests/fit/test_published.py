"""Published parameters agree with the published points, and with each other."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.optimize import brentq

from scalerl_lab.fit.published import (
    COMMON_CEILING,
    FORWARD,
    LARGE_SCALE,
    LEAVE_ONE_OUT,
    OFF_POLICY_8_LEGEND,
    RECIPES,
    Mark,
    PublishedRun,
)
from tests.fit.curves import GOLDEN_HOURS, GOLDEN_RATES

ALL = (*LARGE_SCALE, *LEAVE_ONE_OUT, OFF_POLICY_8_LEGEND, *RECIPES, *FORWARD)


def large(name: str) -> PublishedRun:
    return next(run for run in LARGE_SCALE if run.name == name)


def test_the_control_passes_through_its_points() -> None:
    control = LEAVE_ONE_OUT[0]
    assert (control.name, control.A, control.B, control.C_mid) == ("ScaleRL", 0.610, 1.92, 2542.0)
    residuals = GOLDEN_RATES - control.pass_rate(GOLDEN_HOURS)
    assert f"{np.sqrt(np.mean(residuals**2)):.4f}" == "0.0042"


@pytest.mark.parametrize(
    ("run", "gpu_hours", "rate"),
    [
        (RECIPES[0], 12_500.0, 0.604),
        (RECIPES[1], 16_000.0, 0.592),
        (RECIPES[2], 9_900.0, 0.517),
        (RECIPES[3], 12_300.0, 0.502),
    ],
    ids=lambda value: value.name if isinstance(value, PublishedRun) else None,
)
def test_the_recipes_pass_through_theirs(run: PublishedRun, gpu_hours: float, rate: float) -> None:
    # Two standard deviations of a point.
    assert float(run.pass_rate(gpu_hours)) == pytest.approx(rate, abs=0.009)


def test_halfway_lies_at_the_midpoint() -> None:
    for run in ALL:
        assert float(run.pass_rate(run.C_mid)) == pytest.approx((run.A + run.r0) / 2.0, abs=1e-12)


def test_leave_one_out() -> None:
    assert len(LEAVE_ONE_OUT) == 9
    mean = np.mean([run.A for run in LEAVE_ONE_OUT])
    assert f"{mean:.3f}" == "0.604"
    assert round(mean / 0.005) * 0.005 == pytest.approx(COMMON_CEILING)
    grid = {int(value) for value in np.linspace(100.0, 4000.0, 100)}
    assert {int(run.C_mid) for run in LEAVE_ONE_OUT} <= grid
    # A run whose own ceiling is the common one has one B.
    at_common = [run for run in LEAVE_ONE_OUT if run.A == COMMON_CEILING]
    assert len(at_common) == 2
    assert all(run.B_at_common_ceiling == run.B for run in at_common)
    ranked = sorted(LEAVE_ONE_OUT, key=lambda run: -(run.B_at_common_ceiling or 0.0))
    assert [run.name for run in (ranked[0], ranked[-1])] == ["ScaleRL", "LOO-uniform-sampling"]


@pytest.mark.parametrize(("name", "gpu_hours"), [("ScaleRL-32k", 28_000.0), ("ScaleRL-bs2048", 31_000.0)])
def test_the_slow_arms_overtake_late(name: str, gpu_hours: float) -> None:
    arm, control = large(name), large("ScaleRL")
    crossing = brentq(lambda c: float(arm.pass_rate(c) - control.pass_rate(c)), 10_000.0, 90_000.0)
    # The drawn curve of the large batch has B 1.68 where Table 1 prints 1.70.
    assert crossing == pytest.approx(gpu_hours, rel=0.04)


def test_the_two_misprinted_midpoints_are_the_drawn_ones() -> None:
    for name, drawn in (("ScaleRL-Scout", 6897.0), ("ScaleRL-32gen", 2623.0)):
        assert large(name).C_mid == drawn
        assert large(name).table.C_mid is Mark.DERIVED
    assert not {run.C_mid for run in ALL} & {4242.0, 2936.0}


def test_every_8b_run_starts_at_the_same_model() -> None:
    assert all(0.394 < run.r0 < 0.406 for run in ALL if run.name != "ScaleRL-Scout")


def test_a_run_is_named_once_in_its_table() -> None:
    assert max(Counter((run.table.name, run.name) for run in ALL).values()) == 1


def test_forward_ablations_change_one_baseline() -> None:
    baseline = [run for run in FORWARD if run.A == 0.520 and 4.5 < run.B < 4.6]
    assert len(baseline) == 8
    assert all(1375.0 < run.C_mid < 1390.0 for run in baseline)
