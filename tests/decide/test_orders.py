"""Orders of people: which state takes which, what they cost, and what they make of the rule's decisions."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from scalerl_lab.decide import (
    InForce,
    check_order,
    decisions_of,
    in_force,
    ledger_of,
    raised_cap,
    under_pin,
)
from scalerl_lab.decide.orders import needed_gpu_hours
from scalerl_lab.errors import BudgetError, LabError, UserError
from scalerl_lab.records import Action, Cause, Decision, Evidence, Order, OrderKind, RunState, RunStatus
from tests.decide.states import run_state
from tests.fit.curves import point

NOTHING = Evidence(None, None, None, None, None, None)


def run(status: RunStatus, used: float = 40.0, granted: float = 100.0, arm: str = "a") -> RunState:
    points = [point(0, 0.0, 0.2), point(1, used, 0.4)] if used else []
    return replace(run_state(points, arm=arm, granted=granted), status=status)


def order(kind: OrderKind, to: float | None = None, run_id: str | None = "a-0") -> Order:
    return Order("sweep", run_id, kind, to, "anna@node1", "wrong data", 1.0)


def decided(action: Action, cause: Cause, used: float) -> Decision:
    return Decision("a-0", 1, used, action, cause, "Because.", 100.0, NOTHING)


def check(given: Order, of: RunState, cap: float = 1000.0, earlier: tuple[Order, ...] = ()) -> None:
    check_order(given, [of], ledger_of(cap, [of]), in_force(earlier, cap))


TAKES = {
    RunStatus.PLANNED: {OrderKind.KILL, OrderKind.EXTEND, OrderKind.PIN},
    RunStatus.RUNNING: {OrderKind.KILL, OrderKind.EXTEND, OrderKind.PIN},
    RunStatus.FINISHED: {OrderKind.EXTEND, OrderKind.REVIVE, OrderKind.PIN},
    RunStatus.KILLED: {OrderKind.EXTEND, OrderKind.REVIVE, OrderKind.PIN},
    RunStatus.FAILED: {OrderKind.EXTEND, OrderKind.REVIVE, OrderKind.PIN},
}


@pytest.mark.parametrize("status", list(RunStatus))
def test_each_state_takes_the_orders_of_the_table_and_no_other(status: RunStatus) -> None:
    taken = set()
    for kind in (OrderKind.KILL, OrderKind.EXTEND, OrderKind.REVIVE, OrderKind.PIN, OrderKind.UNPIN):
        with suppress(UserError):
            check(order(kind, 150.0 if kind is OrderKind.EXTEND else None), run(status))
            taken.add(kind)
    assert taken == TAKES[status]
    check(order(OrderKind.UNPIN), run(status), earlier=(order(OrderKind.PIN),))


def test_a_run_that_is_being_stopped_takes_none_but_pins() -> None:
    going = replace(
        run(RunStatus.RUNNING), last_decision=decided(Action.KILL, Cause.CEILING_BELOW, used=40.0)
    )
    for kind in (OrderKind.KILL, OrderKind.EXTEND, OrderKind.REVIVE):
        with pytest.raises(UserError, match="being stopped already"):
            check(order(kind, 150.0), going)


@pytest.mark.parametrize(
    ("given", "of", "says"),
    [
        (order(OrderKind.EXTEND, 100.0), run(RunStatus.RUNNING), "100 GPU-hours granted; --to 100"),
        (order(OrderKind.EXTEND, 60.0), run(RunStatus.KILLED), "give more than it has"),
        (order(OrderKind.REVIVE), run(RunStatus.FINISHED, used=100.0), "lab run extend --to"),
        (order(OrderKind.RESUME, run_id=None), run(RunStatus.RUNNING), "not paused"),
        (order(OrderKind.CANCEL, run_id=None), run(RunStatus.KILLED), "nothing to cancel"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(given: Order, of: RunState, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check(given, of)


def test_a_paused_sweep_is_not_paused_twice() -> None:
    paused = order(OrderKind.PAUSE, run_id=None)
    with pytest.raises(UserError, match=r"by anna@node1: wrong data"):
        check(paused, run(RunStatus.RUNNING), earlier=(paused,))
    check(paused, run(RunStatus.RUNNING), earlier=(paused, order(OrderKind.RESUME, run_id=None)))


def test_what_goes_on_is_paid_from_what_is_free() -> None:
    # One killed at 40 of 100, one at work on 100; under a cap of 190, 50 are free.
    killed, other = run(RunStatus.KILLED), run(RunStatus.RUNNING, arm="b")
    ledger = ledger_of(190.0, [killed, other])
    assert ledger.free == 50.0
    revival, extension = order(OrderKind.REVIVE), order(OrderKind.EXTEND, 120.0)
    assert (needed_gpu_hours(revival, killed), needed_gpu_hours(extension, killed)) == (60.0, 80.0)
    assert needed_gpu_hours(order(OrderKind.EXTEND, 120.0, "b-0"), other) == 20.0
    nothing = in_force((), 190.0)
    with pytest.raises(BudgetError, match=r"takes 60 GPU-hours and the sweep has 50 to spare.*--raise-cap"):
        check_order(revival, [killed, other], ledger, nothing)
    assert raised_cap(revival, killed, ledger) == 200.0
    check_order(revival, [killed, other], replace(ledger, cap=200.0), nothing)
    check_order(replace(revival, raise_cap=True), [killed, other], ledger, nothing)
    check_order(order(OrderKind.EXTEND, 150.0, "b-0"), [killed, other], ledger, nothing)
    assert raised_cap(order(OrderKind.EXTEND, 150.0, "b-0"), other, ledger) is None


def test_what_no_planned_run_can_start_on_is_spare() -> None:
    # Two of 100 are done under a cap of 225; the two that wait want 100 each, and 25 are left for neither.
    done = [run(RunStatus.FINISHED, used=100.0, arm=arm) for arm in "ab"]
    wait = [run(RunStatus.PLANNED, used=0.0, arm=arm) for arm in "cd"]
    ledger = ledger_of(225.0, [*done, *wait])
    assert (ledger.left, ledger.free, ledger.spare) == (25.0, -175.0, 25.0)
    longer = order(OrderKind.EXTEND, 120.0)
    check_order(longer, [*done, *wait], ledger, in_force((), 225.0))
    assert raised_cap(longer, done[0], ledger) is None
    # What is lacking is raised, not what others would like.
    assert raised_cap(order(OrderKind.EXTEND, 130.0), done[0], ledger) == 230.0
    # With room for one of the two, its grant is not spare.
    assert ledger_of(325.0, [*done, *wait]).spare == 25.0


def test_a_sweep_is_cancelled_once_and_while_something_may_start() -> None:
    cancel, nothing = order(OrderKind.CANCEL, run_id=None), in_force((), 200.0)
    done, failed = run(RunStatus.FINISHED, used=100.0), run(RunStatus.FAILED, arm="b")
    ledger = ledger_of(200.0, [done])
    with pytest.raises(UserError, match="nothing to cancel"):
        check_order(cancel, [done], ledger, nothing)
    # A search may propose more; a run that failed would be tried again.
    check_order(cancel, [done], ledger, nothing, is_search=True)
    check_order(cancel, [done, failed], ledger, nothing)
    with pytest.raises(UserError, match="cancelled already"):
        check_order(cancel, [done, failed], ledger, in_force((cancel,), 200.0))


def test_orders_in_force_are_the_last_ones() -> None:
    def after(*orders: Order) -> InForce:
        return in_force(orders, 100.0)

    pin, unpin = order(OrderKind.PIN), order(OrderKind.UNPIN)
    assert after(pin).pins == {"a-0": pin}
    assert after(pin, unpin).pins == {}
    assert after(pin, order(OrderKind.KILL)).pins == {}
    assert list(after(order(OrderKind.REVIVE)).pins) == ["a-0"]
    assert list(after(order(OrderKind.EXTEND, 150.0)).pins) == ["a-0"]
    raises = [order(OrderKind.RAISE_CAP, to, None) for to in (150.0, 120.0)]
    assert after(*raises).cap_gpu_hours == 150.0


def test_decisions_say_who_and_why() -> None:
    alive, killed = run(RunStatus.RUNNING), run(RunStatus.KILLED, arm="b")
    (kill,) = decisions_of(order(OrderKind.KILL), [alive, killed])
    assert (kill.action, kill.cause, kill.step) == (Action.KILL, Cause.ORDERED, alive.points[-1].step)
    assert kill.reason == "Killed by order of anna@node1 after 40 of 100 GPU-hours: wrong data."
    (extended,) = decisions_of(order(OrderKind.EXTEND, 150.0), [alive, killed])
    assert (extended.action, extended.granted_gpu_hours) == (Action.EXTEND, 150.0)
    (revived,) = decisions_of(order(OrderKind.REVIVE, run_id="b-0"), [alive, killed])
    assert (revived.action, revived.run_id) == (Action.REVIVE, "b-0")
    cancelled = decisions_of(order(OrderKind.CANCEL, run_id=None), [alive, killed])
    assert [(d.run_id, d.action) for d in cancelled] == [("a-0", Action.KILL)]
    assert decisions_of(order(OrderKind.PIN), [alive]) == []


@pytest.mark.parametrize(
    ("action", "cause", "used", "becomes"),
    [
        (Action.KILL, Cause.CEILING_BELOW, 40.0, Action.CONTINUE),
        (Action.KILL, Cause.COLLAPSED, 40.0, Action.CONTINUE),
        (Action.KILL, Cause.COLLAPSED, 100.0, Action.FINISH),
        (Action.KILL, Cause.NON_FINITE, 40.0, Action.KILL),
        (Action.FINISH, Cause.BUDGET_REACHED, 40.0, Action.CONTINUE),
        (Action.FINISH, Cause.BUDGET_REACHED, 100.0, Action.FINISH),
        (Action.FINISH, Cause.PROMPTS_EXHAUSTED, 40.0, Action.FINISH),
        (Action.EXTEND, Cause.QUESTION_OPEN, 100.0, Action.EXTEND),
    ],
)
def test_a_pin_holds_against_the_rule(action: Action, cause: Cause, used: float, becomes: Action) -> None:
    rule = decided(action, cause, used)
    found = under_pin(rule, order(OrderKind.PIN), run(RunStatus.RUNNING, used=used))
    assert found.action is becomes
    if becomes is action:
        assert found == rule
    else:
        assert found.cause is Cause.PINNED
        assert found.reason.endswith(f"The rule says {action}: Because.")
        assert "anna@node1 (wrong data)" in found.reason


def test_every_refusal_is_a_failure_the_lab_knows() -> None:
    with pytest.raises(LabError):
        check(order(OrderKind.REVIVE), run(RunStatus.KILLED), cap=50.0)
