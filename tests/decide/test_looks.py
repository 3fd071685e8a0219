"""When a run is looked at together with its sweep."""

from __future__ import annotations

import dataclasses

import pytest

from scalerl_lab.decide import is_look_due
from scalerl_lab.records import Action, Cause, Decision, Evidence, RunState
from tests.decide.states import BUDGET, run_state, sweep
from tests.fit.curves import point

EARLY = tuple(1500.0 + i for i in range(6))
"""Six points at the fit start, as many as the rule demands, before any multiple of 800 but the first."""


def at(*gpu_hours: float, granted: float = BUDGET, judged: int | None = None) -> RunState:
    """A run measured at these computes, and judged last at the point of that number."""
    points = [point(i + int(gpu_hours[0] > 0.0), hours, 0.5) for i, hours in enumerate(gpu_hours)]
    state = run_state(points, granted=granted)
    if judged is None:
        return state
    last = Decision(
        run_id=state.planned.run_id,
        step=points[judged].step,
        gpu_hours=points[judged].gpu_hours,
        action=Action.CONTINUE,
        cause=Cause.WITHIN_MARGIN,
        reason="",
        granted_gpu_hours=granted,
        evidence=Evidence(None, None, None, None, None, None),
    )
    return dataclasses.replace(state, last_decision=last)


@pytest.mark.parametrize(
    ("judged", "last", "due"),
    [
        (1590.0, 1599.0, False),
        (1590.0, 1610.0, True),
        (1590.0, 1600.0, True),
        (1600.0, 2300.0, False),
        # A point that passes two multiples is one look.
        (1600.0, 3300.0, True),
        (2400.0, 3199.9, False),
    ],
)
def test_a_point_that_passes_a_multiple_is_a_look(judged: float, last: float, due: bool) -> None:
    assert is_look_due(at(*EARLY, judged, last, judged=6), sweep()) is due


def test_a_look_that_was_missed_is_still_due() -> None:
    # 2,410 passed a multiple; that a later point did not changes nothing.
    assert is_look_due(at(*EARLY, 2410.0, 2500.0, judged=5), sweep())
    assert not is_look_due(at(*EARLY, 2410.0, 2500.0, judged=6), sweep())
    assert not is_look_due(at(*EARLY, 2410.0, judged=6), sweep())


def test_what_was_never_judged_is_looked_at_once_it_can_be() -> None:
    assert is_look_due(at(*EARLY), sweep())
    assert not is_look_due(at(*EARLY[:5]), sweep())
    # Points before the fit start do not count, nor does the start.
    assert not is_look_due(at(0.0, 1499.0, *EARLY[:5]), sweep())
    assert not is_look_due(run_state([]), sweep())


def test_the_share_between_looks_can_be_changed() -> None:
    assert not is_look_due(at(*EARLY, 1610.0, 2410.0, judged=6), sweep(), 0.25)
    assert is_look_due(at(*EARLY, 1610.0, 4010.0, judged=6), sweep(), 0.25)


def test_the_grant_is_always_a_look() -> None:
    assert not is_look_due(at(*EARLY, 15300.0, 15990.0, judged=6), sweep())
    assert is_look_due(at(*EARLY, 15300.0, 15990.0, granted=15990.0, judged=6), sweep())
    assert is_look_due(at(10.0, granted=10.0), sweep())


def test_divergence_is_a_look() -> None:
    level = at(*EARLY, *(1610.0 + 10.0 * i for i in range(6)), judged=6)
    assert not is_look_due(level, sweep())
    fallen = (*level.points[:-2], *(dataclasses.replace(p, pass_rate=0.1) for p in level.points[-2:]))
    assert is_look_due(dataclasses.replace(level, points=fallen), sweep())
