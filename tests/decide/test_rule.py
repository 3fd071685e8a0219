"""The order of the rule, its sentences, and what it never does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalerl_lab.decide import decide_ended
from scalerl_lab.fit import FittedCurve, fit_curve
from scalerl_lab.records import Action, Cause, EndReason, Interval, Role, TrialEnded
from tests.decide.states import (
    BUDGET,
    curve_points,
    decide_on,
    fit_with,
    run_state,
    sweep,
    too_few,
    with_points,
)
from tests.fit.curves import point, simulate

RUNNING = curve_points(9850.0)
AT_BUDGET = curve_points(BUDGET)
COLLAPSED = [*RUNNING, point(50, 9900.0, 0.40), point(51, 9950.0, 0.38)]
GOOD, LOW, TIED = fit_with(0.80), fit_with(0.71), fit_with(0.795)
UNKNOWN = fit_with(0.71, identified=False)
CONTROLS = [GOOD, fit_with(0.802), fit_with(0.798)]


def test_a_ceiling_clearly_below_is_killed_with_the_numbers() -> None:
    low = fit_with(0.71, 0.03)
    decision = decide_on(run_state(RUNNING), low, [], CONTROLS, sweep=sweep(), free_gpu_hours=0.0)
    assert decision.action is Action.KILL
    assert decision.cause is Cause.CEILING_BELOW
    assert (decision.run_id, decision.step, decision.gpu_hours) == ("reverted-0", 11, 9850.0)
    assert decision.granted_gpu_hours == BUDGET
    evidence = decision.evidence
    assert evidence.fit == low.fit
    assert evidence.margin == 0.02
    assert evidence.forecast == low.forecast(BUDGET)
    assert evidence.control_ceiling is not None
    assert evidence.control_ceiling.median == pytest.approx(0.80, abs=0.001)
    assert evidence.difference is not None
    assert evidence.difference.median == pytest.approx(-0.09, abs=0.001)
    assert evidence.probability_below is not None
    # Phi((0.09 - 0.02) / sqrt(0.03^2 + 0.005^2 / 3)) = Phi(2.323), and draws scatter.
    assert evidence.probability_below == pytest.approx(0.990, abs=0.004)
    assert decision.reason.startswith("The ceiling 0.710 [0.6")
    assert "lies below the control's 0.800 [0.79" in decision.reason
    assert "by more than 0.02 with probability 0.9" in decision.reason
    assert decision.reason.endswith("(0.95 demanded), after 9,850 of 16,000 GPU-hours, 3.1 midpoints.")


def test_a_tied_arm_goes_on() -> None:
    decision = decide_on(run_state(RUNNING), TIED, [], CONTROLS, sweep=sweep(), free_gpu_hours=0.0)
    assert (decision.action, decision.cause) == (Action.CONTINUE, Cause.WITHIN_MARGIN)
    assert decision.evidence.probability_below is not None
    assert f"with probability {decision.evidence.probability_below:.3f} (0.95 demanded)" in decision.reason


def test_what_is_not_identified_goes_on() -> None:
    own = decide_on(run_state(RUNNING), UNKNOWN, [], CONTROLS, sweep=sweep(), free_gpu_hours=0.0)
    assert (own.action, own.cause) == (Action.CONTINUE, Cause.NOT_IDENTIFIED)
    assert own.reason == (
        "The ceiling is not identified after 9,850 of 16,000 GPU-hours: "
        "the window ends at 1.2 midpoints, 2 demanded."
    )
    unknown_control = [fit_with(0.80, identified=False)]
    control = decide_on(run_state(RUNNING), LOW, [], unknown_control, sweep=sweep(), free_gpu_hours=0.0)
    assert (control.action, control.cause) == (Action.CONTINUE, Cause.NOT_IDENTIFIED)
    assert control.reason.startswith("The control's ceiling is not identified yet; this run's is 0.710 [")
    none = decide_on(run_state(RUNNING), LOW, [], [], sweep=sweep(), free_gpu_hours=0.0)
    assert (none.action, none.cause) == (Action.CONTINUE, Cause.NOT_IDENTIFIED)
    assert none.evidence.probability_below is None
    assert none.evidence.control_ceiling is None


def test_a_run_that_has_just_begun_goes_on() -> None:
    decision = decide_on(run_state([]), too_few(), [], [], sweep=sweep(), free_gpu_hours=0.0)
    assert (decision.action, decision.cause, decision.step) == (Action.CONTINUE, Cause.NOT_IDENTIFIED, 0)
    assert "0 of 16,000 GPU-hours: 1 point to fit, 6 demanded." in decision.reason


def test_a_run_with_too_few_points_at_its_budget_is_extended() -> None:
    decision = decide_on(run_state(AT_BUDGET), too_few(), [], CONTROLS, sweep=sweep(), free_gpu_hours=1e9)
    assert (decision.action, decision.cause) == (Action.EXTEND, Cause.QUESTION_OPEN)
    assert decision.reason.startswith(
        "The budget is reached (16,000 of 16,000 GPU-hours); the ceiling is not"
    )


def test_divergence_comes_first_and_strikes_the_control_too() -> None:
    for role in Role:
        decision = decide_on(
            run_state(COLLAPSED, role=role),
            with_points(GOOD, COLLAPSED),
            [],
            CONTROLS,
            sweep=sweep(),
            free_gpu_hours=1e9,
        )
        assert (decision.action, decision.cause) == (Action.KILL, Cause.COLLAPSED)
        assert decision.reason == (
            "Diverged: the pass rate fell from 0.600 at 9,850 GPU-hours to 0.400 and 0.380 at the last two "
            "points, more than 0.1 beyond noise (62.5 standard deviations); after 9,950 of 16,000 GPU-hours."
        )
    at_grant = decide_on(
        run_state(COLLAPSED, granted=9950.0),
        with_points(GOOD, COLLAPSED),
        [],
        CONTROLS,
        sweep=sweep(),
        free_gpu_hours=1e9,
    )
    assert at_grant.action is Action.KILL


def test_all_seeds_of_an_arm_count() -> None:
    # One bad seed of three is no bad arm: the mean lies 0.027 below, with the seeds' own errors.
    siblings = [fit_with(0.81, 0.02), fit_with(0.80, 0.02)]
    decision = decide_on(run_state(RUNNING), LOW, siblings, CONTROLS, sweep=sweep(), free_gpu_hours=0.0)
    assert decision.action is Action.CONTINUE
    assert "over 3 seeds lies below" in decision.reason
    # Two seeds that agree are surer than one.
    borderline = fit_with(0.745, 0.015)
    one = decide_on(run_state(RUNNING), borderline, [], CONTROLS, sweep=sweep(), free_gpu_hours=0.0)
    two = decide_on(run_state(RUNNING), borderline, [borderline], CONTROLS, sweep=sweep(), free_gpu_hours=0.0)
    assert one.evidence.probability_below is not None
    assert two.evidence.probability_below is not None
    assert two.evidence.probability_below > one.evidence.probability_below


def test_at_the_grant_an_answered_question_is_finished() -> None:
    for fitted in (fit_with(0.83), LOW):
        decision = decide_on(run_state(AT_BUDGET), fitted, [], CONTROLS, sweep=sweep(), free_gpu_hours=1e9)
        assert (decision.action, decision.cause) == (Action.FINISH, Cause.BUDGET_REACHED)
        assert decision.granted_gpu_hours == BUDGET
        assert decision.reason.startswith(
            "The budget is reached (16,000 of 16,000 GPU-hours, 5.0 midpoints); the ceiling"
        )


def test_an_open_question_extends_the_run_by_one_step() -> None:
    open_arm = fit_with(0.78, 0.02)
    decision = decide_on(run_state(AT_BUDGET), open_arm, [], CONTROLS, sweep=sweep(), free_gpu_hours=2000.0)
    assert (decision.action, decision.cause) == (Action.EXTEND, Cause.QUESTION_OPEN)
    assert decision.granted_gpu_hours == BUDGET + 2000.0
    assert decision.reason.endswith(
        "so the question is open; extended by 2,000 of the sweep's 2,000 free GPU-hours."
    )


def test_an_extension_needs_hours_and_ends_at_the_factor() -> None:
    open_arm = fit_with(0.78, 0.02)
    poor = decide_on(run_state(AT_BUDGET), open_arm, [], CONTROLS, sweep=sweep(), free_gpu_hours=1999.0)
    assert (poor.action, poor.cause) == (Action.FINISH, Cause.NO_HOURS)
    assert poor.reason.endswith("but an extension takes 2,000 GPU-hours and the sweep has 1,999 free.")
    overdrawn = decide_on(run_state(AT_BUDGET), open_arm, [], CONTROLS, sweep=sweep(), free_gpu_hours=-5.0)
    assert overdrawn.reason.endswith("the sweep has 0 free.")
    granted, extensions = BUDGET, 0
    while True:
        state = run_state(curve_points(granted), granted=granted)
        decision = decide_on(state, open_arm, [], CONTROLS, sweep=sweep(), free_gpu_hours=1e9)
        if decision.action is not Action.EXTEND:
            break
        granted, extensions = decision.granted_gpu_hours, extensions + 1
    # Steps of an eighth up to 1.25 times the budget.
    assert (extensions, granted) == (2, 20000.0)
    assert decision.reason.endswith("but no run gets more than 1.25 times its budget.")


def test_extension_can_be_switched_off() -> None:
    off = sweep(extension={"max_factor": 1.0})
    decision = decide_on(
        run_state(AT_BUDGET), fit_with(0.78, 0.02), [], CONTROLS, sweep=off, free_gpu_hours=1e9
    )
    assert decision.action is Action.FINISH


@pytest.mark.parametrize("role", list(Role))
def test_what_is_not_identified_at_the_budget_is_extended(role: Role) -> None:
    decision = decide_on(
        run_state(AT_BUDGET, role=role), UNKNOWN, [], CONTROLS, sweep=sweep(), free_gpu_hours=1e9
    )
    assert (decision.action, decision.cause) == (Action.EXTEND, Cause.QUESTION_OPEN)
    assert "the ceiling is not identified: the window ends at 1.2 midpoints" in decision.reason


def test_a_control_is_extended_where_that_tells_something_of_the_arms() -> None:
    state = run_state(AT_BUDGET, role=Role.CONTROL)
    # A tenth of the margin of 0.02 as a standard deviation: 0.002^2.
    known = decide_on(state, GOOD, [], CONTROLS, sweep=sweep(), free_gpu_hours=1e9, worth=3.9e-6)
    assert (known.action, known.cause) == (Action.FINISH, Cause.BUDGET_REACHED)
    assert "the control's ceiling is 0.800" in known.reason
    told = decide_on(state, GOOD, [], CONTROLS, sweep=sweep(), free_gpu_hours=1e9, worth=4.1e-6)
    assert (told.action, told.cause) == (Action.EXTEND, Cause.QUESTION_OPEN)
    assert "and differences to it are open; extended by 2,000" in told.reason


def test_a_gain_above_the_margin_is_worth_an_extension() -> None:
    # R(16k) = 0.4 + 0.5 / 2 and R(18k) = 0.4 + 0.5 / (1 + (16/18)^3) differ by 0.044.
    rising = fit_with(0.90, efficiency=3.0, midpoint=16000.0)
    decision = decide_on(run_state(AT_BUDGET), rising, [], CONTROLS, sweep=sweep(), free_gpu_hours=1e9)
    assert (decision.action, decision.cause) == (Action.EXTEND, Cause.STILL_RISING)
    assert "an extension is forecast to add 0.044 to the pass rate" in decision.reason
    alone = decide_on(run_state(AT_BUDGET), GOOD, [], [], sweep=sweep(), free_gpu_hours=1e9)
    assert (alone.action, alone.cause) == (Action.FINISH, Cause.BUDGET_REACHED)
    assert "and the control's ceiling is not identified" in alone.reason


def test_small_sweeps_have_readable_hours() -> None:
    state = dataclasses.replace(run_state(curve_points(0.375)), granted_gpu_hours=1.5)
    decision = decide_on(state, UNKNOWN, [], CONTROLS, sweep=sweep(), free_gpu_hours=0.0)
    assert "after 0.375 of 1.5 GPU-hours" in decision.reason


def test_certainty_is_never_claimed() -> None:
    sure = fit_with(0.2, 0.001)
    decision = decide_on(run_state(RUNNING), sure, [], CONTROLS, sweep=sweep(), free_gpu_hours=0.0)
    assert "with probability > 0.999 (0.95 demanded)" in decision.reason
    better = decide_on(
        run_state(RUNNING), fit_with(0.99, 0.001), [], CONTROLS, sweep=sweep(), free_gpu_hours=0.0
    )
    assert "with probability < 0.001 (0.95 demanded)" in better.reason


@pytest.mark.parametrize(
    ("reason", "action", "cause", "sentence"),
    [
        (
            EndReason.NON_FINITE,
            Action.KILL,
            Cause.NON_FINITE,
            "Diverged: a loss, gradient or weight became infinite or not a number (loss is nan) "
            "at step 1,234, after 9,900 of 16,000 GPU-hours.",
        ),
        (
            EndReason.NO_PROMPTS,
            Action.FINISH,
            Cause.PROMPTS_EXHAUSTED,
            "The curriculum retired so many prompts that no batch can be filled (loss is nan) "
            "at step 1,234, after 9,900 of 16,000 GPU-hours.",
        ),
        (
            EndReason.NO_VARIANCE,
            Action.FINISH,
            Cause.PROMPTS_EXHAUSTED,
            "Too few prompts have completions of differing reward to fill a batch (loss is nan) "
            "at step 1,234, after 9,900 of 16,000 GPU-hours.",
        ),
    ],
)
def test_ends_that_no_retry_cures(reason: EndReason, action: Action, cause: Cause, sentence: str) -> None:
    ended = TrialEnded(trial=1, at=0.0, step=1234, gpu_hours=9900.0, reason=reason, detail="loss is nan.")
    decision = decide_ended(run_state(RUNNING), ended)
    assert (decision.action, decision.cause, decision.reason) == (action, cause, sentence)
    assert (decision.step, decision.gpu_hours, decision.granted_gpu_hours) == (1234, 9900.0, BUDGET)
    silent = decide_ended(run_state(RUNNING), dataclasses.replace(ended, detail=""))
    assert "()" not in silent.reason


@pytest.mark.parametrize("reason", [EndReason.GRANT_REACHED, EndReason.STOPPED, EndReason.FAILED])
def test_other_ends_are_not_decided_on(reason: EndReason) -> None:
    with pytest.raises(ValueError, match=str(reason)):
        decide_ended(run_state(RUNNING), TrialEnded(trial=1, at=0.0, step=1, gpu_hours=1.0, reason=reason))


CEILINGS = st.tuples(st.floats(0.05, 0.99), st.floats(0.0, 0.1), st.booleans())


def hand_made(ceiling: tuple[float, float, bool]) -> FittedCurve:
    return fit_with(ceiling[0], ceiling[1], identified=ceiling[2])


@settings(max_examples=40, deadline=None)
@given(own=CEILINGS, control=CEILINGS, hours=st.floats(100.0, 15999.0))
def test_the_control_is_never_killed_for_its_ceiling(
    own: tuple[float, float, bool], control: tuple[float, float, bool], hours: float
) -> None:
    state = run_state(curve_points(hours), role=Role.CONTROL)
    decision = decide_on(state, hand_made(own), [], [hand_made(control)], sweep=sweep(), free_gpu_hours=0.0)
    assert decision.action is Action.CONTINUE


@settings(max_examples=40, deadline=None)
@given(own=CEILINGS, sibling=CEILINGS, control=CEILINGS, at_grant=st.booleans())
def test_nobody_is_killed_while_a_ceiling_is_not_identified(
    own: tuple[float, float, bool],
    sibling: tuple[float, float, bool],
    control: tuple[float, float, bool],
    at_grant: bool,
) -> None:
    state = run_state(AT_BUDGET if at_grant else RUNNING)
    decision = decide_on(
        state, hand_made(own), [hand_made(sibling)], [hand_made(control)], sweep=sweep(), free_gpu_hours=0.0
    )
    if not (own[2] and control[2]) or at_grant:
        assert decision.action is not Action.KILL


@settings(max_examples=40, deadline=None)
@given(own=CEILINGS, control=CEILINGS, margin=st.floats(0.0, 0.3), more=st.floats(0.0, 0.3))
def test_more_margin_never_kills_more(
    own: tuple[float, float, bool], control: tuple[float, float, bool], margin: float, more: float
) -> None:
    decisions = [
        decide_on(
            run_state(RUNNING),
            hand_made(own),
            [],
            [hand_made(control)],
            sweep=sweep(margin=m),
            free_gpu_hours=0.0,
        )
        for m in (margin, margin + more)
    ]
    if decisions[1].action is Action.KILL:
        assert decisions[0].action is Action.KILL


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), end=st.floats(2500.0, 16000.0))
def test_the_same_facts_give_the_same_decision(seed: int, end: float) -> None:
    def decided() -> object:
        rng = np.random.default_rng(seed)
        fits = [
            fit_curve("run", simulate(rng, end=end), fit_start_gpu_hours=1500.0, rule=sweep().rule)
            for _ in range(2)
        ]
        return decide_on(
            run_state(fits[0].points), fits[0], [], fits[1:], sweep=sweep(), free_gpu_hours=500.0
        )

    assert decided() == decided()


def test_intervals_in_reasons_are_the_evidence() -> None:
    decision = decide_on(run_state(RUNNING), LOW, [], CONTROLS, sweep=sweep(), free_gpu_hours=0.0)
    control = decision.evidence.control_ceiling
    assert isinstance(control, Interval)
    assert f"{control.median:.3f} [{control.low80:.3f}, {control.high80:.3f}]" in decision.reason
