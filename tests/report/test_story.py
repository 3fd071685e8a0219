"""What is told of a run, in which order, and what each decision did to its hours."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scalerl_lab.config.sweep import Extension, Rule
from scalerl_lab.records import Action, Cause, EndReason, OrderKind, RunStatus, TrialEnded
from scalerl_lab.report.story import (
    Kind,
    Story,
    changes_something,
    earlier_look,
    effects,
    pictured,
    tell,
    untold_orders,
)
from scalerl_lab.report.story_plot import legend_lines
from tests.report.told import (
    BEGAN,
    BUDGET,
    EVIDENCE,
    RULE,
    decided,
    looks_and_kill,
    ordered,
    point,
    run,
    trial,
)


def test_looks_between_are_told_as_one() -> None:
    story = tell("loo-1", RULE, run(), looks_and_kill(), [trial(1, BEGAN)])
    began, looks, kill = story.entries
    assert (began.kind, began.head, began.text) == (Kind.TRIAL, "started", "Trial 1 on host.")
    assert (looks.kind, looks.head) == (Kind.LOOKS, "3 looks: nothing decided")
    assert looks.text == "Not identified at 2, within margin at 1."
    assert looks.gpu_hours == (1000.0, 4000.0)
    assert (kill.kind, kill.head) == (Kind.DECISION, "kill (ceiling below)")
    assert kill.text.startswith("The ceiling 0.600 lies below")
    assert story.drawn == (kill,)


def test_all_tells_each_look_with_its_sentence() -> None:
    story = tell("loo-1", RULE, run(), looks_and_kill(), folded=False)
    assert [entry.text for entry in story.entries[:3]] == ["Sentence 1.", "Sentence 2.", "Sentence 3."]
    assert [entry.head for entry in story.entries][2] == "continue (within margin)"


def test_looks_of_one_cause_say_it_once() -> None:
    story = tell("loo-1", RULE, run(), looks_and_kill()[:2])
    assert story.entries[0].text == "Each time not identified."
    assert story.drawn == story.entries


def test_a_failure_stands_between_the_looks_it_came_between() -> None:
    failed = TrialEnded(1, BEGAN + 100.0, 12, 1200.0, EndReason.FAILED, "CUDA out of memory.")
    trials = [trial(1, BEGAN, ended=failed), trial(2, BEGAN + 110.0, resumed_step=10)]
    story = tell("loo-1", RULE, run(), looks_and_kill(), trials)
    assert [entry.head for entry in story.entries] == [
        "started",
        "continue (not identified)",
        "failed",
        "went on",
        "2 looks: nothing decided",
        "kill (ceiling below)",
    ]
    assert story.entries[2].text == "Trial 1 ended at step 12: CUDA out of memory."
    assert story.entries[3].text == "Trial 2 on host, from its checkpoint at step 10."
    assert story.entries[3].gpu_hours == (1000.0, 1000.0)


@pytest.mark.parametrize("reason", [EndReason.GRANT_REACHED, EndReason.STOPPED])
def test_an_end_that_a_decision_tells_of_is_not_told_twice(reason: EndReason) -> None:
    ended = TrialEnded(1, BEGAN + 600.0, 80, 8000.0, reason)
    assert len(tell("loo-1", RULE, run(), looks_and_kill(), [trial(1, BEGAN, ended=ended)]).entries) == 3


def test_a_kill_saves_what_is_left_of_the_grant() -> None:
    # 8,000 of 16,000 GPU-hours are used.
    found = effects(Rule(), run(), looks_and_kill())
    assert [effect.saved_gpu_hours for effect in found] == [0.0, 0.0, 0.0, 8000.0]
    assert [effect.given_gpu_hours for effect in found] == [0.0] * 4


def test_a_kill_that_was_taken_back_saves_nothing() -> None:
    rows = [*looks_and_kill(), decided(5, 8000.0, Action.REVIVE, Cause.ORDERED)]
    assert [e.saved_gpu_hours for e in effects(Rule(), run(RunStatus.RUNNING), rows)] == [0.0] * 5
    again = [*rows, decided(6, 8000.0, Action.KILL, Cause.ORDERED)]
    assert [e.saved_gpu_hours for e in effects(Rule(), run(), again)] == [0.0] * 5 + [8000.0]


def test_another_sweep_that_had_a_hand_in_it_is_named() -> None:
    rows = [decided(1, 6000.0, Action.KILL, Cause.CEILING_BELOW)]
    assert tell("loo-1", RULE, run(reused=True), rows).notes == (
        "Another sweep ran it before; its points were there when this sweep began.",
        "Another sweep took it on from 6,000 GPU-hours, after this one stopped it.",
    )
    assert tell("loo-1", RULE, run(), looks_and_kill()).notes == ()


def test_extensions_give_what_comes_on_top() -> None:
    rows = [
        decided(1, 4000.0, Action.EXTEND, Cause.ORDERED, granted=BUDGET + 2400.0),
        decided(2, 6000.0, granted=BUDGET + 2400.0),
        decided(3, 8000.0, Action.EXTEND, Cause.QUESTION_OPEN, granted=BUDGET + 4000.0),
    ]
    found = effects(Rule(), run(RunStatus.RUNNING, granted=BUDGET + 4000.0), rows)
    assert [effect.given_gpu_hours for effect in found] == [2400.0, 0.0, 1600.0]


def test_after_a_first_grant_below_the_budget_each_step_is_given() -> None:
    rule = Rule(extension=Extension(first_share=0.25))
    rows = [
        decided(1, 4000.0, Action.EXTEND, Cause.QUESTION_OPEN, granted=6000.0),
        decided(2, 6000.0, Action.EXTEND, Cause.QUESTION_OPEN, granted=8000.0),
    ]
    found = effects(rule, run(RunStatus.RUNNING, granted=8000.0), rows)
    assert [effect.given_gpu_hours for effect in found] == [2000.0, 2000.0]


def test_what_changes_something() -> None:
    going_on = decided(1, 1000.0).decision
    assert not changes_something(going_on)
    assert changes_something(replace(going_on, cause=Cause.ORDERED))
    assert changes_something(replace(going_on, action=Action.FINISH))


def test_orders_that_no_decision_tells_of() -> None:
    orders = [
        ordered(OrderKind.PIN),
        ordered(OrderKind.PAUSE, run_id=None, settled=False),
        ordered(OrderKind.KILL),
        ordered(OrderKind.REVIVE, refused="d is running"),
        ordered(OrderKind.UNPIN, run_id="other"),
    ]
    told = tell("loo-1", RULE, run(), looks_and_kill(), orders=orders).entries
    found = [(entry.head, entry.text, entry.gpu_hours[0]) for entry in told if entry.kind is Kind.ORDER]
    # Five minutes after the beginning the point at 4,000 GPU-hours was the newest.
    assert found == [
        ("pin: ordered", "By ada@lab: a hunch.", 4000.0),
        (
            "pause of the whole sweep: ordered",
            "By ada@lab: a hunch. It waits for the sweep's driver: lab sweep run.",
            4000.0,
        ),
        ("revive: ordered, but refused", "By ada@lab: a hunch. Refused: d is running.", 4000.0),
    ]
    assert len(untold_orders(orders)) == 4


def finished(*earlier: float) -> Story:
    """A run that used its budget of 16,000, with looks before at some GPU-hours, each with a forecast."""
    state = run(RunStatus.FINISHED)
    last = [point(12_000.0, 0.50), point(15_500.0, 0.52), point(BUDGET, 0.53)]
    state = replace(state, points=(*state.points, *last))
    rows = [decided(k, at, cause=Cause.WITHIN_MARGIN, evidence=EVIDENCE) for k, at in enumerate(earlier, 1)]
    end = decided(99, BUDGET, Action.FINISH, Cause.BUDGET_REACHED, evidence=EVIDENCE)
    return tell("loo-1", RULE, state, [*rows, end])


def test_an_end_at_the_budget_is_drawn_at_the_newest_look_with_something_ahead() -> None:
    story = finished(4000.0, 12_000.0, 15_500.0)
    looks, end = story.entries
    found = pictured(story, end)
    assert found is not None
    # Of the width 3 % is ahead at 15,500, and a quarter at 12,000.
    assert found[0].gpu_hours == 12_000.0
    assert found[1].ahead[-1].median == pytest.approx(0.53)
    assert [hours for hours, _ in found[1].later] == [15_500.0, BUDGET]
    assert earlier_look(end, found[0]).startswith("As at 12,000 GPU-hours, the newest look with")
    assert pictured(story, looks) is None


def test_an_end_without_an_earlier_look_is_drawn_as_it_is() -> None:
    story = finished(15_500.0)
    found = pictured(story, story.entries[-1])
    assert found is not None
    assert found[0].action is Action.FINISH
    assert earlier_look(story.entries[-1], found[0]) == ""
    assert not any("forecast" in line for line in legend_lines(found[1], 80))


def test_no_look_is_drawn_twice() -> None:
    """An extension at the budget is drawn by its own picture, and the end after it by none before it."""
    rows = [
        decided(1, 8000.0, evidence=EVIDENCE),
        decided(2, BUDGET, Action.EXTEND, Cause.QUESTION_OPEN, granted=24_000.0, evidence=EVIDENCE),
        decided(3, 24_000.0, Action.FINISH, Cause.BUDGET_REACHED, granted=24_000.0, evidence=EVIDENCE),
    ]
    state = run(RunStatus.FINISHED, granted=24_000.0)
    state = replace(state, points=(*state.points, point(BUDGET, 0.53), point(24_000.0, 0.55)))
    story = tell("loo-1", RULE, state, rows)
    drawn = [pictured(story, entry) for entry in story.entries]
    assert [None if found is None else found[0].gpu_hours for found in drawn] == [None, BUDGET, 24_000.0]
