"""What arms are compared by: ceiling, pass rate at a compute, GPU-hours to a level; and with whom."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from scalerl_lab.config.sweep import Rule, Sweep
from scalerl_lab.decide import Prospects, decide
from scalerl_lab.decide.compare import compare
from scalerl_lab.decide.quantity import Measure
from scalerl_lab.fit import ArmDraws, PooledCeiling
from scalerl_lab.records import Action, Cause, Decision, Role
from tests.decide.states import BUDGET, NORMAL, curve_points, fit_with, run_state, sweep

RUNNING = run_state(curve_points(8000.0))
FREE = Prospects(0.0)


def arm(ceiling: float, sd: float = 0.0, *, B: float = 2.0, midpoint: float = 2000.0) -> PooledCeiling:
    """An arm from 0.4 on whose ceiling is normal and whose draws follow the same order as all others'."""
    known = np.ones(NORMAL.size)
    law = ArmDraws(0.4 * known, ceiling + sd * NORMAL, B * known, midpoint * known)
    return PooledCeiling(law, 1, True)


def measure(**rule: Any) -> Measure:
    return Measure(Rule.model_validate(rule), BUDGET)


def test_each_quantity_is_the_law_s() -> None:
    found = arm(0.6)
    assert measure().draws(found) == pytest.approx(0.6)
    # 0.4 + 0.2 / (1 + (2000 / 4000)^2) = 0.56, and at the budget 0.4 + 0.2 / (1 + 1 / 64).
    at = measure(quantity={"type": "pass_rate", "gpu_hours": 4000.0})
    assert at.draws(found) == pytest.approx(0.56)
    assert at.name == "pass rate at 4,000 GPU-hours"
    assert measure(quantity={"type": "pass_rate"}).draws(found) == pytest.approx(0.4 + 0.2 / (1 + 1 / 64))
    # Half of the gain is reached at the midpoint.
    hours = measure(quantity={"type": "gpu_hours", "pass_rate": 0.5})
    assert hours.draws(found) == pytest.approx(-math.log(2000.0))
    assert hours.shown(hours.draws(found)).median == pytest.approx(2000.0)


def test_a_level_that_is_never_reached_is_worse_than_any_that_is() -> None:
    hours = measure(quantity={"type": "gpu_hours", "pass_rate": 0.58}, margin=0.1)
    never, late = hours.draws(arm(0.57)), hours.draws(arm(0.59))
    assert (never < late).all()
    assert np.isfinite(never).all()
    # Twice the midpoint, twice the hours: 100 % more, and so -1 saved.
    slow, fast = hours.draws(arm(0.6, midpoint=4000.0)), hours.draws(arm(0.6))
    from scalerl_lab.fit import Difference

    assert hours.shown_difference(Difference(slow - fast)).median == pytest.approx(-1.0)
    assert hours.margin == pytest.approx(math.log(1.1))


def test_the_best_is_the_best_of_the_others_draw_by_draw() -> None:
    best = measure(reference={"type": "best"})
    arms = {"a": arm(0.60), "b": arm(0.59, 0.02), "c": arm(0.50)}
    against = best.reference("a", arms, "a")
    assert against is not None
    assert against == pytest.approx(np.maximum(0.59 + 0.02 * NORMAL, 0.5))
    assert best.reference("a", {"a": arm(0.6)}, "a") is None


def test_a_level_is_a_reference_without_error() -> None:
    seen = compare(
        RUNNING,
        fit_with(0.55, 0.01),
        {"reverted": arm(0.55, 0.01), "control": arm(0.61)},
        "control",
        sweep(reference={"type": "level", "value": 0.58}),
    )
    # Phi((0.58 - 0.02 - 0.55) / 0.01) = Phi(1), and draws are smoothed a little.
    assert seen.below == pytest.approx(0.8413, abs=0.005)
    assert seen.reference_known
    assert seen.reference is not None
    assert (seen.reference.low95, seen.reference.high95) == (0.58, 0.58)


def test_the_control_can_be_killed_where_the_reference_is_the_best_arm() -> None:
    arms = {"control": arm(0.50, 0.002), "reverted": arm(0.60, 0.002)}
    state = run_state(curve_points(8000.0), role=Role.CONTROL, arm="control")
    protected = decide(state, fit_with(0.5), arms, control="control", sweep=sweep(), prospects=FREE)
    assert (protected.action, protected.cause) == (Action.CONTINUE, Cause.IS_CONTROL)
    best = sweep(reference={"type": "best"})
    found = decide(state, fit_with(0.5), arms, control="control", sweep=best, prospects=FREE)
    assert (found.action, found.cause) == (Action.KILL, Cause.CEILING_BELOW)
    assert "lies below the best other arm's 0.600 [0.597, 0.603] by more than 0.02" in found.reason
    kept = decide(RUNNING, fit_with(0.6), arms, control="control", sweep=best, prospects=FREE)
    assert kept.action is Action.CONTINUE


def test_a_slow_arm_is_killed_by_its_hours() -> None:
    by_hours = sweep(quantity={"type": "gpu_hours", "pass_rate": 0.55}, margin=0.2)
    arms = {"control": arm(0.61), "reverted": arm(0.61, midpoint=3000.0)}
    found = decide(RUNNING, fit_with(0.61), arms, control="control", sweep=by_hours, prospects=FREE)
    assert found.action is Action.KILL
    # (0.21 / 0.15 - 1)^(-1/2) = 1.5811 midpoints.
    assert found.reason.startswith(
        "The compute to 0.55 of 4,743 GPU-hours is longer than the control's of 3,162 GPU-hours by more than "
        "20% with probability > 0.999"
    )
    tied = {"control": arm(0.61), "reverted": arm(0.61, midpoint=2300.0)}
    assert (
        decide(RUNNING, fit_with(0.61), tied, control="control", sweep=by_hours, prospects=FREE).action
        is Action.CONTINUE
    )


@pytest.mark.parametrize(
    ("ceiling", "sd", "to_come", "cause", "words"),
    [
        # 1.2816 * 0.0015 = 0.096 margins to come; the control is known, so the difference is that of the arm.
        (
            0.605,
            0.006,
            0.0015,
            Cause.RESOLVED,
            "differs from the control's by -0.005 [-0.013, 0.003]; the rest",
        ),
        (
            0.650,
            0.015,
            0.0015,
            Cause.RESOLVED,
            "would move that by 0.10 margins (0.125 allowed), after 8,000",
        ),
        # 1.2816 * 0.002 = 0.128 margins.
        (0.605, 0.006, 0.0020, Cause.WITHIN_MARGIN, "(0.95 demanded)"),
        # 1.2816 * 0.016: more than a margin to either side.
        (0.650, 0.016, 0.0015, Cause.WITHIN_MARGIN, "(0.95 demanded)"),
        (0.605, 0.006, None, Cause.WITHIN_MARGIN, "(0.95 demanded)"),
        # A kill goes before.
        (0.500, 0.006, 0.0015, Cause.CEILING_BELOW, "with probability > 0.999"),
    ],
)
def test_a_run_whose_answer_is_known_ends(
    ceiling: float, sd: float, to_come: float | None, cause: Cause, words: str
) -> None:
    arms, prospects = {"control": arm(0.61), "reverted": arm(ceiling, sd)}, Prospects(0.0, to_come=to_come)

    def decided(asked: Sweep) -> Decision:
        fit = fit_with(ceiling, sd)
        return decide(RUNNING, fit, arms, control="control", sweep=asked, prospects=prospects)

    found = decided(sweep(stop_resolved=True))
    assert found.cause is cause, found.reason
    ends = {Cause.RESOLVED: Action.FINISH, Cause.CEILING_BELOW: Action.KILL}
    assert found.action is ends.get(cause, Action.CONTINUE)
    assert words in found.reason
    assert decided(sweep()).cause is not Cause.RESOLVED


def test_the_control_ends_when_its_rest_moves_no_difference() -> None:
    state = run_state(curve_points(8000.0), role=Role.CONTROL, arm="control")
    for to_come, action in ((0.0015, Action.FINISH), (0.0020, Action.CONTINUE), (None, Action.CONTINUE)):
        found = decide(
            state,
            fit_with(0.61, 0.007),
            {"control": arm(0.61, 0.007)},
            control="control",
            sweep=sweep(stop_resolved=True),
            prospects=Prospects(0.0, to_come=to_come),
        )
        assert found.action is action, found.reason
