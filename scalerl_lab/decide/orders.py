"""What people may order while a sweep runs, when it is allowed, and what follows; pure.

An order is settled once, by the driver of the sweep: carried out, or refused with the reason. Where a run
stands says which orders it takes (- refused):

    run is     kill      extend to H    revive           pin, unpin
    planned    killed    grant raised   -                noted
    running    killed    grant raised   -                noted
    finished   -         goes on to H   goes on          noted
    killed     -         goes on to H   goes on          noted
    failed     -         goes on to H   goes on          noted

``goes on`` means running again, from its checkpoint. A run that is being stopped takes no order until it is
down. What goes on or gets more must be spare in the sweep's ledger; ``raise_cap`` raises the cap by what is
not, in the transaction that carries the order out. A pinned run is not stopped by the rule, at whatever its
forecast says; a number that is not finite ends it all the same, and so does the end of its grant. Extension
and revival pin, or the rule would undo them at its next look; a kill by order unpins.

    sweep is   pause     resume    cancel
    at work    paused    -         every run that is not over: killed
    paused     -         at work   every run that is not over: killed

A cancelled sweep starts nothing more: no run that failed is tried again, and a search proposes no more arms.

While paused nothing is started and trials go down to a checkpoint; runs keep their status, and
their grants stay promised. Verdicts on points that are there are still taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from scalerl_lab.decide.ledger import Ledger, used_gpu_hours
from scalerl_lab.decide.looks import at_grant
from scalerl_lab.decide.wording import hours, spent
from scalerl_lab.errors import BudgetError, UserError
from scalerl_lab.records import (
    Action,
    Cause,
    Decision,
    Evidence,
    Order,
    OrderKind,
    RunState,
    RunStatus,
)

_NO_EVIDENCE = Evidence(None, None, None, None, None, None)
_OVER = frozenset({RunStatus.FINISHED, RunStatus.KILLED, RunStatus.FAILED})
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class InForce:
    """What the orders carried out so far amount to."""

    pins: Mapping[str, Order]
    """Run id -> the order that pinned it."""
    paused: Order | None
    """The order that paused the sweep, while it is paused."""
    cap_gpu_hours: float
    cancelled: bool = False
    """Whether the sweep was cancelled: nothing more is started or proposed, for good."""


def in_force(orders: Iterable[Order], cap_gpu_hours: float) -> InForce:
    """What carried-out orders, oldest first, make of a sweep whose plan has this cap."""
    pins: dict[str, Order] = {}
    paused, cancelled = None, False
    for order in orders:
        match order.kind:
            case OrderKind.PIN | OrderKind.REVIVE | OrderKind.EXTEND if order.run_id is not None:
                pins[order.run_id] = order
            case OrderKind.UNPIN | OrderKind.KILL if order.run_id is not None:
                pins.pop(order.run_id, None)
            case OrderKind.PAUSE:
                paused = order
            case OrderKind.RESUME:
                paused = None
            case OrderKind.CANCEL:
                pins.clear()
                cancelled = True
            case OrderKind.RAISE_CAP if order.to_gpu_hours is not None:
                cap_gpu_hours = max(cap_gpu_hours, order.to_gpu_hours)
    return InForce(pins, paused, cap_gpu_hours, cancelled)


def is_being_stopped(run: RunState) -> bool:
    """Whether a kill is on record that has not been carried out yet."""
    last = run.last_decision
    return last is not None and last.action is Action.KILL and run.status not in _OVER


def check_order(
    order: Order, runs: Sequence[RunState], ledger: Ledger, force: InForce, *, is_search: bool = False
) -> None:
    """Say whether an order can be carried out as things stand.

    Args:
        order: what is wanted.
        runs: every run of the sweep.
        ledger: the sweep's.
        force: what earlier orders amount to.
        is_search: whether arms may be proposed that are no runs yet.

    Raises:
        UserError: the run or the sweep is not in a state that takes it, or the compute named is too low.
        BudgetError: the sweep has less free than it takes; the message says how much and what to do.
    """
    if order.run_id is None:
        _check_sweep_order(order, runs, force, is_search)
        return
    run = next(r for r in runs if r.planned.run_id == order.run_id)
    name = f"{run.planned.arm}:{run.planned.spec.seed}"
    if order.kind is OrderKind.UNPIN and order.run_id not in force.pins:
        raise UserError(f"{name} is not pinned: nothing to undo")
    if order.kind in {OrderKind.PIN, OrderKind.UNPIN}:
        return
    if is_being_stopped(run):
        raise UserError(f"{name} is being stopped already; order again when lab sweep status shows it killed")
    if order.kind is OrderKind.KILL and run.status in _OVER:
        raise UserError(f"{name} is {run.status} already: there is nothing to kill")
    if order.kind is OrderKind.REVIVE:
        _check_revival(name, run)
    if order.kind is OrderKind.EXTEND:
        assert order.to_gpu_hours is not None
        if order.to_gpu_hours <= run.granted_gpu_hours * (1.0 + _ROUNDING):
            raise UserError(
                f"{name} has {hours(run.granted_gpu_hours)} GPU-hours granted; --to {order.to_gpu_hours:g} "
                "is no extension: give more than it has"
            )
    if not order.raise_cap and raised_cap(order, run, ledger) is not None:
        raise BudgetError(
            f"{order.kind} of {name} takes {hours(needed_gpu_hours(order, run))} GPU-hours and the sweep has "
            f"{hours(max(ledger.spare, 0.0))} to spare under its cap of {hours(ledger.cap)}; "
            "--raise-cap raises the cap by what is missing, or kill a run that you need less"
        )


def needed_gpu_hours(order: Order, run: RunState) -> float:
    """What carrying out an order takes from the GPU-hours that are spare."""
    used = min(used_gpu_hours(run), run.granted_gpu_hours)
    # What a started run may still use is promised to it already; of one that is over it was given back.
    base = used if run.status in _OVER else run.granted_gpu_hours
    if order.kind is OrderKind.EXTEND and order.to_gpu_hours is not None:
        return order.to_gpu_hours - base
    return run.granted_gpu_hours - base if order.kind is OrderKind.REVIVE else 0.0


def raised_cap(order: Order, run: RunState, ledger: Ledger) -> float | None:
    """The cap under which an order can be carried out; None where the present one is enough."""
    needed = needed_gpu_hours(order, run)
    return None if needed <= 0.0 or ledger.spares(needed) else ledger.cap + needed - ledger.spare


def decisions_of(order: Order, runs: Sequence[RunState]) -> list[Decision]:
    """The decisions that follow from an order that ``check_order`` let pass."""
    if order.kind is OrderKind.CANCEL:
        doomed = [run for run in runs if run.status not in _OVER and not is_being_stopped(run)]
        return [_decision(order, run, Action.KILL, "The sweep was cancelled") for run in doomed]
    if order.run_id is None:
        return []
    run = next(r for r in runs if r.planned.run_id == order.run_id)
    match order.kind:
        case OrderKind.KILL:
            return [_decision(order, run, Action.KILL, "Killed")]
        case OrderKind.REVIVE:
            return [_decision(order, run, Action.REVIVE, f"Revived, having been {run.status},")]
        case OrderKind.EXTEND:
            assert order.to_gpu_hours is not None
            head = f"Extended from {hours(run.granted_gpu_hours)} to {hours(order.to_gpu_hours)} GPU-hours"
            return [_decision(order, run, Action.EXTEND, head, order.to_gpu_hours)]
        case _:
            return []


def under_pin(decision: Decision, pin: Order, run: RunState) -> Decision:
    """What becomes of a rule's decision on a pinned run: a stop becomes its going on.

    At its grant a run ends in any case: what would have killed it there finishes it.
    """
    if decision.action is Action.KILL and decision.cause is not Cause.NON_FINITE:
        action = Action.FINISH if at_grant(run) else Action.CONTINUE
    elif (
        decision.action is Action.FINISH
        and decision.cause is not Cause.PROMPTS_EXHAUSTED
        and not at_grant(run)
    ):
        action = Action.CONTINUE
    else:
        return decision
    means = "goes on" if action is Action.CONTINUE else "ends only by its grant"
    reason = (
        f"Pinned by {pin.by} ({pin.why}), so it {means}. The rule says {decision.action}: {decision.reason}"
    )
    return replace(decision, action=action, cause=Cause.PINNED, reason=reason)


def _check_revival(name: str, run: RunState) -> None:
    if run.status not in _OVER:
        raise UserError(f"{name} is {run.status}: only a run that is over can be revived")
    if at_grant(run):
        raise UserError(
            f"{name} has used all {hours(run.granted_gpu_hours)} GPU-hours granted to it; "
            "to go on it needs more: lab run extend --to"
        )


def _check_sweep_order(order: Order, runs: Sequence[RunState], force: InForce, is_search: bool) -> None:
    paused = force.paused
    if order.kind is OrderKind.PAUSE and paused is not None:
        raise UserError(f"the sweep is paused already, by {paused.by}: {paused.why}")
    if order.kind is OrderKind.RESUME and paused is None:
        raise UserError("the sweep is not paused: there is nothing to resume")
    if order.kind is OrderKind.CANCEL and force.cancelled:
        raise UserError("the sweep is cancelled already")
    # One that failed would be tried again when the sweep goes on.
    done = all(run.status in _OVER and run.status is not RunStatus.FAILED for run in runs)
    if order.kind is OrderKind.CANCEL and done and not is_search:
        raise UserError("every run of the sweep is over: there is nothing to cancel")


def _decision(
    order: Order, run: RunState, action: Action, head: str, granted_gpu_hours: float | None = None
) -> Decision:
    granted = run.granted_gpu_hours
    reason = f"{head} by order of {order.by} after {spent(run.gpu_hours, granted)}: {order.why.rstrip('.')}."
    return Decision(
        run_id=run.planned.run_id,
        step=run.points[-1].step if run.points else 0,
        gpu_hours=run.gpu_hours,
        action=action,
        cause=Cause.ORDERED,
        reason=reason,
        granted_gpu_hours=granted if granted_gpu_hours is None else granted_gpu_hours,
        evidence=_NO_EVIDENCE,
    )
