"""Giving an order to a run or a sweep, from any process on its database."""

from __future__ import annotations

import getpass
import os
import socket
import time
from dataclasses import dataclass

from scalerl_lab.decide import check_order
from scalerl_lab.errors import UserError
from scalerl_lab.records import Order, OrderKind
from scalerl_lab.store import OrderRow, Store

_ANSWER_S = 10.0
_POLL_S = 0.1
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Given:
    """An order that is on record."""

    order: Order
    label: str
    """The run, or the sweep's id."""
    driven: bool
    """Whether a process drives the sweep now; else the order waits for ``lab sweep run``."""
    settled: bool
    raised_cap_to: float | None
    """The cap that the sweep has from now on, where the order raised it."""


def order_run(
    store: Store,
    run: str,
    kind: OrderKind,
    why: str,
    *,
    sweep: str | None = None,
    to_gpu_hours: float | None = None,
    raise_cap: bool = False,
    answer_s: float = _ANSWER_S,
) -> Given:
    """Order something of one run, and wait for the driver's answer where there is a driver.

    Args:
        store: where the sweep is on record.
        run: id, start of one, or arm:seed.
        kind: what is ordered.
        why: the reason, for whoever reads the decision.
        sweep: the sweep in which it is ordered; needed where several have such a run.
        to_gpu_hours: the new grant, for an extension.
        raise_cap: whether the driver is to raise the sweep's cap by what is missing.
        answer_s: how long to wait for the driver.

    Raises:
        NotFound: there is no such run or sweep.
        UserError: several runs are meant, or the run does not take this order as it stands.
        BudgetError: the sweep has less free than it takes.
    """
    sweep_id, run_id, label = _find(store, run, sweep)
    order = _order(sweep_id, run_id, kind, why, to_gpu_hours, raise_cap)
    return _give(store, order, label, answer_s)


def order_sweep(
    store: Store, sweep_id: str, kind: OrderKind, why: str, *, answer_s: float = _ANSWER_S
) -> Given:
    """Order something of a sweep as a whole, and wait for the driver's answer where there is a driver.

    Raises:
        UserError: the sweep does not take this order as it stands.
    """
    return _give(store, _order(sweep_id, None, kind, why, None), sweep_id, answer_s)


def _give(store: Store, order: Order, label: str, answer_s: float) -> Given:
    sweep_id, ledger = order.sweep_id, store.budget(order.sweep_id)
    is_search = store.plan(sweep_id).search is not None
    check_order(order, store.run_states(sweep_id), ledger, store.force(sweep_id), is_search=is_search)
    order_id = store.record_order(order)
    driven = store.is_driven(order.sweep_id)
    deadline = time.monotonic() + (answer_s if driven else 0.0)
    while True:
        row = _row(store, order.sweep_id, order_id)
        if row.settled_at is not None or time.monotonic() >= deadline:
            break
        time.sleep(_POLL_S)
    if row.refused is not None:
        raise UserError(f"the driver refused it: {row.refused}")
    cap = store.force(sweep_id).cap_gpu_hours
    return Given(order, label, driven, row.settled_at is not None, cap if cap > ledger.cap else None)


def _row(store: Store, sweep_id: str, order_id: int) -> OrderRow:
    return next(row for row in store.orders(sweep_id) if row.order_id == order_id)


def _order(
    sweep_id: str, run_id: str | None, kind: OrderKind, why: str, to: float | None, raise_cap: bool = False
) -> Order:
    if not why.strip():
        raise UserError("--why is empty: say in a few words why; it is shown wherever the order is")
    return Order(sweep_id, run_id, kind, to, _who(), why.strip(), time.time(), raise_cap)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _find(store: Store, text: str, sweep: str | None) -> tuple[str, str, str]:
    """(sweep id, run id, arm:seed) of the one run that is meant."""
    only = store.find_sweep(sweep).sweep_id if sweep is not None else None
    places = store.places(store.find_run(text, only), only)
    if len(places) > 1:
        lines = [
            f"{place.label}, run {place.run_id}: --sweep {place.sweep_id} ({place.sweep_name})"
            for place in places[:_SHOWN]
        ]
        more = f"\n  and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        raise UserError(
            f"run {text!r} can mean {len(places)} runs; say which with --sweep, or by more of the id:\n  "
            + "\n  ".join(lines)
            + more
        )
    (place,) = places
    return place.sweep_id, place.run_id, place.label
