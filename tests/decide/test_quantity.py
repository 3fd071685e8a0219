"""What arms are compared by: ceiling, pass rate at a compute, GPU-hours to a level; and with whom."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from scalerl_lab.config.sweep import Rule
from scalerl_lab.decide import FreeHours, decide
from scalerl_lab.decide.compare import compare
from scalerl_lab.decide.quantity import Measure
from scalerl_lab.fit import ArmDraws, PooledCeiling
from scalerl_lab.records import Action, Cause, Role
from tests.decide.states import BUDGET, NORMAL, curve_points, fit_with, run_state, sweep

RUNNING = run_state(curve_points(8000.0))
FREE = FreeHours(0.0)


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
    protected = decide(state, fit_with(0.5), arms, control="control", sweep=sweep(), free=FREE)
    assert (protected.action, protected.cause) == (Action.CONTINUE, Cause.IS_CONTROL)
    best = sweep(reference={"type": "best"})
    found = decide(state, fit_with(0.5), arms, control="control", sweep=best, free=FREE)
    assert (found.action, found.cause) == (Action.KILL, Cause.CEILING_BELOW)
    assert "lies below the best other arm's 0.600 [0.597, 0.603] by more than 0.02" in found.reason
    kept = decide(RUNNING, fit_with(0.6), arms, control="control", sweep=best, free=FREE)
    assert kept.action is Action.CONTINUE


def test_a_slow_arm_is_killed_by_its_hours() -> None:
    by_hours = sweep(quantity={"type": "gpu_hours", "pass_rate": 0.55}, margin=0.2)
    arms = {"control": arm(0.61), "reverted": arm(0.61, midpoint=3000.0)}
    found = decide(RUNNING, fit_with(0.61), arms, control="control", sweep=by_hours, free=FREE)
    assert found.action is Action.KILL
    # (0.21 / 0.15 - 1)^(-1/2) = 1.5811 midpoints.
    assert found.reason.startswith(
        "The compute to 0.55 of 4,743 GPU-hours is longer than the control's of 3,162 GPU-hours by more than "
        "20% with probability > 0.999"
    )
    tied = {"control": arm(0.61), "reverted": arm(0.61, midpoint=2300.0)}
    assert (
        decide(RUNNING, fit_with(0.61), tied, control="control", sweep=by_hours, free=FREE).action
        is Action.CONTINUE
    )


@pytest.mark.parametrize(
    ("ceiling", "sd", "cause", "words"),
    [
        (0.605, 0.006, Cause.RESOLVED, "within 0.02 of the reference with probability 0.99"),
        (0.650, 0.006, Cause.RESOLVED, "better than the reference by more than 0.02 with probability > 0.99"),
        # Phi((0.59 - 0.587) / 0.006) = 0.69: which answer it is remains open.
        (0.593, 0.006, Cause.WITHIN_MARGIN, "(0.98 demanded)"),
        # The answer is all but sure, the difference itself is not known to half the margin.
        (0.700, 0.020, Cause.WITHIN_MARGIN, "(0.98 demanded)"),
    ],
)
def test_a_run_whose_answer_is_known_ends(ceiling: float, sd: float, cause: Cause, words: str) -> None:
    arms = {"control": arm(0.61), "reverted": arm(ceiling, sd)}
    stopping = sweep(stop_resolved=True)
    found = decide(RUNNING, fit_with(ceiling, sd), arms, control="control", sweep=stopping, free=FREE)
    assert found.cause is cause, found.reason
    assert found.action is (Action.FINISH if cause is Cause.RESOLVED else Action.CONTINUE)
    assert words in found.reason
    without = decide(RUNNING, fit_with(ceiling, sd), arms, control="control", sweep=sweep(), free=FREE)
    assert without.action is Action.CONTINUE


def test_the_control_ends_when_its_own_ceiling_is_known() -> None:
    stopping = sweep(stop_resolved=True)
    state = run_state(curve_points(8000.0), role=Role.CONTROL, arm="control")
    # 80 % intervals of 2 x 1.2816 sd: 0.018 and 0.023 wide, where 0.02 is allowed.
    for sd, action in ((0.007, Action.FINISH), (0.009, Action.CONTINUE)):
        found = decide(
            state,
            fit_with(0.61, sd),
            {"control": arm(0.61, sd)},
            control="control",
            sweep=stopping,
            free=FREE,
        )
        assert found.action is action, found.reason
