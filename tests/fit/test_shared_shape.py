"""Large sweeps: whose runs tell the population, and that all others are drawn as if they did."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from scalerl_lab.fit import Siblings, fit_siblings, shared_shape, siblings
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law_fit import ready
from scalerl_lab.fit.simulate import Arm, SimulatedSweep, Truth, simulate_arms

Array = NDArray[np.float64]

BUDGET = 16_000.0


def chosen(lasts: list[float], arms: list[int]) -> list[int]:
    """Places of the runs from which the population is inferred."""
    found: list[int] = shared_shape.spread_over(np.array(lasts), np.array(arms)).tolist()
    return found


def test_up_to_32_runs_all_tell_the_population() -> None:
    assert chosen([5.0] * 32, list(range(32))) == list(range(32))
    assert chosen([5.0] * 32, [0] * 32) == list(range(32))


def test_of_more_runs_those_chosen_are_spread_over_how_far_they_have_come() -> None:
    lasts = np.random.default_rng(0).permutation(200) + 1.0
    found = chosen(lasts.tolist(), list(range(200)))
    assert len(found) == 32
    assert found == sorted(found)
    # Of each quarter by compute about a quarter.
    quarter = np.bincount(((lasts[found] - 1.0) // 50).astype(np.int64), minlength=4)
    assert quarter.sum() == 32
    assert set(quarter.tolist()) <= {7, 8, 9}


def test_arms_are_chosen_with_all_their_seeds() -> None:
    arms = np.repeat(np.arange(20), 3)
    found = chosen([float(arm) for arm in arms], arms.tolist())
    assert len(found) == 30
    assert set(np.bincount(arms[found]).tolist()) == {0, 3}
    # A large arm is left out, whatever the gap.
    arms = np.array([0] * 40 + list(range(1, 21)))
    assert chosen([1.0] * 60, arms.tolist()) == list(range(40, 60))
    # Unless all are large.
    arms = np.repeat([0, 1], [50, 40])
    assert chosen([1.0] * 90, arms.tolist()) == list(range(50, 90))


@cache
def large() -> tuple[SimulatedSweep, tuple[Curve, ...], Siblings]:
    """40 arms of which the control has three seeds; a third of the runs are young."""
    rng = np.random.default_rng(4)
    arms = [
        Arm(
            f"arm{i}",
            Truth(
                0.6 + 0.02 * float(rng.standard_normal()),
                1.9 * math.exp(0.1 * float(rng.standard_normal())),
                2500.0 * math.exp(0.2 * float(rng.standard_normal())),
            ),
            900.0,
            3 if i == 0 else 1,
        )
        for i in range(40)
    ]
    found = simulate_arms(arms, rng)
    curves = tuple(
        curve.between(0.0, 7000.0 if i % 3 == 2 else BUDGET) for i, curve in enumerate(found.curves)
    )
    return found, curves, fit_siblings(curves, found.arms)


def test_the_order_of_many_runs_changes_nothing() -> None:
    found, curves, first = large()
    order = np.random.default_rng(1).permutation(len(curves)).tolist()
    other = fit_siblings([curves[i] for i in order], [found.arms[i] for i in order])
    for place, i in enumerate(order):
        one, two = first.fits[i].draws, other.fits[place].draws
        assert one is not None
        assert two is not None
        assert np.array_equal(one.A, two.A)
        assert np.array_equal(one.C_mid, two.C_mid)
    for name, arm in first.arms.items():
        assert np.array_equal(arm.A, other.arms[name].A)


def test_runs_that_did_not_tell_the_population_are_known_as_if_they_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, curves, first = large()
    monkeypatch.setattr(shared_shape, "MOST_RUNS", 1000)
    whole = fit_siblings(curves, found.arms)
    off, width = [], []
    for name, arm in whole.arms.items():
        other = first.arms[name].A
        off.append(float(np.median(other) - np.median(arm.A)) / float(arm.A.std()))
        low, high = np.quantile(arm.A, (0.1, 0.9)), np.quantile(other, (0.1, 0.9))
        width.append(float((high[1] - high[0]) / (low[1] - low[0])))
    assert float(np.sqrt(np.mean(np.square(off)))) < 0.2
    assert float(np.mean(width)) == pytest.approx(1.0, abs=0.1)


def test_an_arm_is_fitted_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found, curves, first = large()
    made: list[str] = []

    def counted(curve: Curve) -> Any:
        made.append(curve.name)
        return ready(curve)

    monkeypatch.setattr(siblings, "ready", counted)
    again = fit_siblings(curves, found.arms)
    assert len(made) == 32
    late = next(i for i, curve in enumerate(curves) if curve.name not in made)
    told = made[:]
    assert again.fits[late].draws is not None
    # In any order, with what came of the others.
    for i in reversed(range(len(curves))):
        one, two = again.fits[i].draws, first.fits[i].draws
        assert one is not None
        assert two is not None
        assert np.array_equal(one.A, two.A)
    assert sorted(made) == sorted(curve.name for curve in curves)
    assert made[:33] == [*told, curves[late].name]


def test_ceilings_of_many_runs_cover_the_truth() -> None:
    found, _, first = large()
    truth = {run.arm.name: run.arm.truth.A for run in found.runs}
    inside = [
        bool(np.quantile(arm.A, 0.1) <= truth[name] <= np.quantile(arm.A, 0.9))
        for name, arm in first.arms.items()
    ]
    # 80 % of 40, with two standard errors of 6 %.
    assert 0.67 <= float(np.mean(inside)) <= 0.96
