"""GPU-hours to a level, where points follow the law and where they leave it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scalerl_lab.fit import ArmDraws, PooledCeiling, drawn_hours, fit_siblings, reached_hours
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats, pass_rate
from scalerl_lab.fit.reach import _share_below

HOURS = np.arange(1500.0, 16_001.0, 250.0)
R0, A, B, C_MID = 0.25, 0.7, 2.0, 3500.0


def measured(name: str, value: Floats, seed: int) -> Curve:
    noise = np.random.default_rng(seed).normal(0.0, 0.004, HOURS.size)
    return Curve.of(name, HOURS, value + noise, r0=R0, r0_se=0.003, bounds=(0.0, 1.0))


def test_the_share_below_a_level_by_hand() -> None:
    # Up from -1 to 1: half of the one step. Down and up again: below 0 from a quarter to three quarters.
    gaps = np.array(
        [[-1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [3.0, -1.0, 3.0], [-1.0, -2.0, -1.0], [0.0, 0.0, 0.0]]
    )
    assert _share_below(gaps) == pytest.approx([0.25, 0.5, 0.25, 1.0, 0.0])


def test_without_points_it_is_the_law_s() -> None:
    ones = np.ones(3)
    arm = PooledCeiling(ArmDraws(0.2 * ones, np.array([0.6, 0.45, 0.2]), 2.0 * ones, 3000.0 * ones), 1, True)
    # (0.6 - 0.2) / (0.5 - 0.2) - 1 = 1/3; the others' ceilings lie below 0.5.
    assert arm.hours_to(0.5) == pytest.approx([3000.0 * math.sqrt(3.0), math.inf, math.inf])
    assert arm.hours_to(0.2) == pytest.approx([0.0, 0.0, 0.0])


@pytest.mark.parametrize("level", [0.27, 0.4, 0.6, 0.685])
def test_where_points_follow_the_law_it_is_the_law_s(level: float) -> None:
    """Before, within and beyond the window (0.32 to 0.679)."""
    (found,) = fit_siblings([measured("run", pass_rate(HOURS, R0, A, B, C_MID), 0)]).fits
    assert found.draws is not None
    truth = C_MID * ((A - R0) / (level - R0) - 1.0) ** (-1.0 / B)
    by_law, by_curve = (
        float(np.median(hours))
        for hours in (drawn_hours(found.draws, level), reached_hours(found.draws, level, [found]))
    )
    assert by_curve == pytest.approx(by_law, rel=0.03)
    assert by_curve == pytest.approx(truth, rel=0.1)


def test_a_slow_arm_shows_although_all_runs_leave_the_law() -> None:
    """Each run dips off the law alike, one of them a third later: the law's parameters hardly tell."""

    def dipped(hours: Floats) -> Floats:
        dip = 0.06 * np.exp(-0.5 * (np.log(hours / 6000.0) / 0.3) ** 2)
        return pass_rate(hours, R0, A, B, C_MID) - dip

    stretch = np.where(HOURS < 3000.0, 1.0, 1.0 + 0.5 * np.minimum((HOURS - 3000.0) / 2000.0, 1.0))
    names = ["control"] * 3 + ["slow"] + [f"tied_{i}" for i in range(5)]
    curves = [
        measured(f"{name}:{i}", dipped(HOURS / stretch if name == "slow" else HOURS), i)
        for i, name in enumerate(names)
    ]
    found = fit_siblings(curves, names)
    level = 0.63
    fine = np.linspace(1500.0, 16_000.0, 20_001)
    mean = dipped(fine)
    truth = float(np.mean(mean < level)) * (fine[-1] - fine[0]) + fine[0]
    hours = {}
    for name in ("control", "slow", "tied_2"):
        seeds = [fit for fit, own in zip(found.fits, names, strict=True) if own == name]
        law = found.arms[name]
        arm = PooledCeiling(ArmDraws(law.r0, law.A, law.B, law.C_mid), len(seeds), True, tuple(seeds))
        hours[name] = arm.hours_to(level)
    assert np.median(hours["control"]) == pytest.approx(truth, rel=0.05)
    low, middle, high = np.quantile(np.log(hours["slow"] / hours["control"]), (0.1, 0.5, 0.9))
    assert low > 0.2
    assert middle == pytest.approx(math.log(1.5), abs=0.12)
    assert low < math.log(1.5) < high
    low, high = np.quantile(np.log(hours["tied_2"] / hours["control"]), (0.1, 0.9))
    assert low < 0.0 < high
