"""Orders of people as rows and back; each is settled once, in the transaction of what follows from it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from scalerl_lab.records import Decision, Order, OrderKind
from scalerl_lab.store.conclusions import add_decision
from scalerl_lab.store.rows import OrderRow
from scalerl_lab.store.tables import OrderTable


def record(session: Session, order: Order) -> int:
    """Write an order, to be settled by the driver; returns its id."""
    row = OrderTable(
        sweep_id=order.sweep_id,
        run_id=order.run_id,
        kind=order.kind.value,
        to_gpu_hours=order.to_gpu_hours,
        raise_cap=order.raise_cap,
        ordered_by=order.by,
        why=order.why,
        at=order.at,
    )
    session.add(row)
    session.flush()
    return row.order_id


def read(session: Session, *where: ColumnElement[bool]) -> list[OrderRow]:
    """Orders that meet all conditions, oldest first."""
    rows = session.scalars(select(OrderTable).where(*where).order_by(OrderTable.order_id))
    return [_read(row) for row in rows]


def settle(
    session: Session,
    order_id: int,
    decisions: Sequence[Decision],
    refused: str | None,
    raised_cap_to: float | None = None,
) -> bool:
    """Write what follows from an order and that it is settled; False where it was settled before.

    A cap that it raises is an order of its own, by the same person, settled with it.
    """
    row = session.scalars(select(OrderTable).filter_by(order_id=order_id).with_for_update()).one()
    if row.settled_at is not None:
        return False
    for decision in decisions:
        add_decision(session, row.sweep_id, decision, None)
    row.settled_at, row.refused = time.time(), refused
    if raised_cap_to is not None:
        session.add(
            OrderTable(
                sweep_id=row.sweep_id,
                kind=OrderKind.RAISE_CAP.value,
                to_gpu_hours=raised_cap_to,
                ordered_by=row.ordered_by,
                why=row.why,
                at=row.at,
                settled_at=row.settled_at,
            )
        )
    return True


def _read(row: OrderTable) -> OrderRow:
    order = Order(
        sweep_id=row.sweep_id,
        run_id=row.run_id,
        kind=OrderKind(row.kind),
        to_gpu_hours=row.to_gpu_hours,
        by=row.ordered_by,
        why=row.why,
        at=row.at,
        raise_cap=row.raise_cap,
    )
    return OrderRow(row.order_id, order, row.settled_at, row.refused)
