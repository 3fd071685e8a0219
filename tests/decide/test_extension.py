"""Which runs may be given more, by how much, and what a first grant below the budget changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scalerl_lab.config.sweep import Sweep
from scalerl_lab.decide import Prospects, decide, is_rival, may_be_extended, next_step
from scalerl_lab.fit import PooledCeiling
from scalerl_lab.records import Action, Cause, Decision, Evidence, Role, RunState, RunStatus
from tests.decide.states import BUDGET, curve_points, decide_on, fit_with, run_state, sweep
from tests.decide.test_quantity import arm

CONTROLS = [fit_with(0.80, 0.001)]
CONTROL = arm(0.80).law
FIRST = {"first_share": 0.25, "step_fraction": 0.125, "max_factor": 1.0}


def growing(**rule: object) -> Sweep:
    """Every run is granted a quarter of its budget at first, the rest in eighths."""
    return sweep(extension=FIRST, **rule)


def granted(gpu_hours: float, *, role: Role = Role.ARM) -> RunState:
    """A run that has used this grant."""
    return run_state(curve_points(gpu_hours), granted=gpu_hours, role=role)


def finished(state: RunState, cause: Cause) -> RunState:
    last = Decision(
        state.planned.run_id,
        state.points[-1].step,
        state.gpu_hours,
        Action.FINISH,
        cause,
        "",
        state.granted_gpu_hours,
        Evidence(None, None, None, None, None, None),
    )
    return replace(state, status=RunStatus.FINISHED, last_decision=last)


@pytest.mark.parametrize(
    ("used", "most", "step"),
    [
        (4000.0, 1.0, 2000.0),
        (15000.0, 1.0, 1000.0),
        (16000.0, 1.0, 0.0),
        (16000.0, 1.25, 2000.0),
        (19000.0, 1.25, 1000.0),
    ],
)
def test_the_last_step_ends_at_the_most_that_a_run_gets(used: float, most: float, step: float) -> None:
    rule = sweep(extension={**FIRST, "max_factor": most})
    assert next_step(granted(used), rule) == pytest.approx(step)
    assert may_be_extended(granted(used), rule) is (step > 0.0)


def test_a_rival_asks_for_hours_and_could_be_given_them() -> None:
    rule, state = growing(), granted(4000.0)
    assert is_rival(state, rule, 2000.0)
    assert not is_rival(state, rule, 1999.0)
    assert is_rival(finished(state, Cause.NO_HOURS), rule, 2000.0)
    assert not is_rival(finished(state, Cause.BUDGET_REACHED), rule, 2000.0)
    assert not is_rival(replace(state, status=RunStatus.KILLED), rule, 2000.0)
    assert not is_rival(replace(state, points=()), rule, 2000.0)


def test_up_to_its_budget_a_run_goes_on_unless_it_is_clearly_worse() -> None:
    for ceiling, role in ((0.79, Role.ARM), (0.76, Role.ARM), (0.80, Role.CONTROL)):
        found = decide_on(
            granted(4000.0, role=role),
            fit_with(ceiling, 0.014),
            [],
            CONTROLS,
            sweep=growing(),
            free_gpu_hours=1e9,
            worth=0.0,
        )
        assert (found.action, found.cause) == (Action.EXTEND, Cause.QUESTION_OPEN), found.reason
        assert found.granted_gpu_hours == 6000.0
        assert found.reason.startswith("The grant is used (4,000 of 4,000 GPU-hours, ")


def test_a_clearly_worse_run_is_killed_at_its_first_grant() -> None:
    worse = decide_on(
        granted(4000.0), fit_with(0.70, 0.01), [], CONTROLS, sweep=growing(), free_gpu_hours=1e9
    )
    assert (worse.action, worse.cause) == (Action.KILL, Cause.CEILING_BELOW)
    # At its budget there is nothing left to save.
    at_end = decide_on(
        granted(BUDGET), fit_with(0.70, 0.01), [], CONTROLS, sweep=growing(), free_gpu_hours=1e9
    )
    assert (at_end.action, at_end.cause) == (Action.FINISH, Cause.BUDGET_REACHED)


def test_a_clearly_worse_run_is_not_extended_for_its_rise() -> None:
    # R(16k) and R(18k) differ by 0.044, more than the margin; the reference lies far above all the same.
    rising = fit_with(0.90, 0.001, efficiency=3.0, midpoint=16000.0)
    found = decide_on(
        granted(BUDGET), rising, [], [fit_with(0.99, 0.001)], sweep=sweep(), free_gpu_hours=1e9, worth=0.0
    )
    assert (found.action, found.cause) == (Action.FINISH, Cause.BUDGET_REACHED), found.reason


def test_a_resolved_run_ends_at_its_first_grant() -> None:
    state, fit = granted(4000.0), fit_with(0.80, 0.006)
    arms = {"control": PooledCeiling(CONTROL, 1, True), "reverted": PooledCeiling(CONTROL, 1, True)}
    prospects = Prospects(1e9, worth=1.0, to_come=0.0015)
    asked = growing(stop_resolved=True)
    found = decide(state, fit, arms, control="control", sweep=asked, prospects=prospects)
    assert (found.action, found.cause) == (Action.FINISH, Cause.RESOLVED), found.reason
