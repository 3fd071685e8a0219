"""When a run is looked at together with its sweep, and what is said between."""

from __future__ import annotations

import dataclasses

import pytest

from scalerl_lab.decide import (
    LOOK_FRACTION,
    decide_between_looks,
    is_kill_near,
    is_look,
    look_gpu_hours,
)
from scalerl_lab.records import Action, Cause, Role, RunState
from tests.decide.states import BUDGET, curve_points, fit_with, run_state, sweep, too_few
from tests.fit.curves import point

FITTED = fit_with(0.80)


def at(*gpu_hours: float, granted: float = BUDGET) -> RunState:
    """A run measured at these computes."""
    return run_state([point(i, hours, 0.5) for i, hours in enumerate(gpu_hours)], granted=granted)


def test_a_look_comes_every_twentieth_of_the_budget() -> None:
    assert LOOK_FRACTION == 0.05
    assert look_gpu_hours(at(0.0)) == 800.0


@pytest.mark.parametrize(
    ("before", "last", "looks"),
    [
        (600.0, 790.0, False),
        (790.0, 810.0, True),
        (700.0, 800.0, True),
        (800.0, 900.0, False),
        # A point that passes two multiples is one look.
        (700.0, 2500.0, True),
        (2400.0, 3199.9, False),
    ],
)
def test_a_point_that_passes_a_multiple_is_a_look(before: float, last: float, looks: bool) -> None:
    assert is_look(at(before, last), FITTED) is looks


def test_the_grant_is_always_a_look() -> None:
    assert not is_look(at(15300.0, 15990.0), FITTED)
    assert is_look(at(15300.0, 15990.0, granted=15990.0), FITTED)
    assert is_look(at(18000.0, 18010.0, granted=18010.0), too_few())


def test_the_first_point_and_too_few_points_are_none() -> None:
    assert not is_look(at(0.0), FITTED)
    assert not is_look(run_state([]), FITTED)
    assert is_look(at(900.0), FITTED)
    assert not is_look(at(900.0), too_few())


def test_what_another_sweep_left_is_looked_at_once() -> None:
    left = dataclasses.replace(at(15300.0, 15990.0), reused=True)
    assert is_look(left, FITTED)
    assert not is_look(left, too_few())
    decided = dataclasses.replace(left, last_decision=decide_between_looks(left, FITTED, sweep=sweep()))
    assert not is_look(decided, FITTED)


def test_a_kill_is_near_where_the_interval_lies_below_the_controls_by_the_margin() -> None:
    # 0.76 + 1.28 * 0.01 = 0.773 < 0.80 - 0.02; 0.77 + 0.013 = 0.783 is not.
    controls = [fit_with(0.79), fit_with(0.81), fit_with(0.10, identified=False)]
    state = run_state(curve_points())
    assert is_kill_near(state, fit_with(0.76, 0.01), controls, sweep=sweep())
    assert not is_kill_near(state, fit_with(0.77, 0.01), controls, sweep=sweep())
    assert is_kill_near(state, fit_with(0.77, 0.01), controls, sweep=sweep(margin=0.01))


def test_no_kill_is_near_without_identified_ceilings_or_of_a_control() -> None:
    low, state = fit_with(0.5), run_state(curve_points())
    assert not is_kill_near(state, fit_with(0.5, identified=False), [FITTED], sweep=sweep())
    assert not is_kill_near(state, low, [fit_with(0.8, identified=False)], sweep=sweep())
    assert not is_kill_near(state, low, [], sweep=sweep())
    assert not is_kill_near(state, too_few(), [FITTED], sweep=sweep())
    assert not is_kill_near(run_state(curve_points(), role=Role.CONTROL), low, [FITTED], sweep=sweep())


def test_between_looks_a_run_goes_on_and_is_told_why() -> None:
    state, fitted = run_state(curve_points()), fit_with(0.5, 0.01)
    decision = decide_between_looks(state, fitted, sweep=sweep())
    assert (decision.action, decision.cause) == (Action.CONTINUE, Cause.WITHIN_MARGIN)
    assert decision.reason == (
        "Between looks at the whole sweep, one every 800 GPU-hours, after 9,850 of 16,000 GPU-hours; "
        "by its own fit the ceiling is 0.500 [0.487, 0.513]."
    )
    assert decision.evidence.fit == fitted.fit
    assert decision.evidence.control_ceiling is None
    assert decision.evidence.probability_below is None
    control = decide_between_looks(run_state(curve_points(), role=Role.CONTROL), fitted, sweep=sweep())
    assert control.cause is Cause.IS_CONTROL
    unknown = decide_between_looks(state, fit_with(0.5, identified=False), sweep=sweep())
    assert unknown.cause is Cause.NOT_IDENTIFIED
    assert unknown.reason.endswith(
        "by its own fit the ceiling is not identified: the window ends at 1.2 midpoints, 2 demanded."
    )
