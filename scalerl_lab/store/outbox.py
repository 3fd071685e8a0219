"""What MLflow is still to be told: queued in the transaction of the fact, taken off once sent."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from scalerl_lab.records import EvalPoint, Fact, Measurement, SandboxUsed, TrialStarted
from scalerl_lab.store.tables import FitTable, MeasurementTable, OutboxTable, PointTable, SweepRunTable


class Kind(StrEnum):
    """What a row of the outbox asks the mirror to send."""

    RUN = "run"
    """The run's tags, params and status, as they stand when it is sent."""
    POINT = "point"
    MEASUREMENTS = "measurements"
    """All that was measured beside the point of a step."""
    FIT = "fit"
    ARTIFACT = "artifact"


@dataclass(frozen=True, slots=True)
class Message:
    """A row of the outbox."""

    outbox_id: int
    run_id: str
    kind: Kind
    ref: int | None
    name: str | None
    data: bytes | None


def queue(session: Session, rows: Iterable[tuple[str, str, Kind, int | None]]) -> None:
    """Queue (sweep, run, kind, ref) rows."""
    now = time.time()
    values = [
        {"sweep_id": sweep_id, "run_id": run_id, "kind": kind.value, "ref": ref, "queued_at": now}
        for sweep_id, run_id, kind, ref in rows
    ]
    if values:
        session.execute(insert(OutboxTable), values)


def queue_facts(session: Session, run_id: str, facts: Sequence[Fact]) -> None:
    """Queue what facts change in MLflow, for every sweep that the run belongs to."""
    sweeps = session.scalars(select(SweepRunTable.sweep_id).filter_by(run_id=run_id)).all()
    steps = [fact.step for fact in facts if isinstance(fact, EvalPoint)]
    beside = sorted({fact.step for fact in facts if isinstance(fact, Measurement)})
    new_trial = any(isinstance(fact, TrialStarted | SandboxUsed) for fact in facts)
    for sweep_id in sweeps:
        queue(session, [(sweep_id, run_id, Kind.POINT, step) for step in steps])
        queue(session, [(sweep_id, run_id, Kind.MEASUREMENTS, step) for step in beside])
        if new_trial:
            queue(session, [(sweep_id, run_id, Kind.RUN, None)])


def queue_all(session: Session, sweep_id: str, run_ids: Sequence[str]) -> None:
    """Queue everything there is of runs of a sweep, except artifacts."""
    queue(session, [(sweep_id, run_id, Kind.RUN, None) for run_id in run_ids])
    steps = select(PointTable.run_id, PointTable.step).where(PointTable.run_id.in_(run_ids))
    in_order = session.execute(steps.order_by(PointTable.run_id, PointTable.step))
    queue(session, [(sweep_id, run_id, Kind.POINT, step) for run_id, step in in_order])
    of_steps = select(MeasurementTable.run_id, MeasurementTable.step).distinct()
    beside = of_steps.where(MeasurementTable.run_id.in_(run_ids))
    each_step = session.execute(beside.order_by(MeasurementTable.run_id, MeasurementTable.step))
    queue(session, [(sweep_id, run_id, Kind.MEASUREMENTS, step) for run_id, step in each_step])
    fits = select(FitTable.run_id, FitTable.fit_id).filter_by(sweep_id=sweep_id)
    of_runs = session.execute(fits.where(FitTable.run_id.in_(run_ids)).order_by(FitTable.fit_id))
    queue(session, [(sweep_id, run_id, Kind.FIT, fit_id) for run_id, fit_id in of_runs])


def queue_artifact(session: Session, sweep_id: str, run_id: str, name: str, data: bytes) -> None:
    """Queue a file; an older file of the same name that waits or was sent makes room for it."""
    same: dict[str, str] = {"sweep_id": sweep_id, "run_id": run_id, "kind": Kind.ARTIFACT.value, "name": name}
    if session.scalar(select(OutboxTable.data).filter_by(**same)) == data:
        return
    session.execute(delete(OutboxTable).filter_by(**same))
    session.execute(insert(OutboxTable), [{**same, "data": data, "queued_at": time.time()}])


def waiting(session: Session, sweep_id: str, limit: int) -> list[Message]:
    """The oldest messages of a sweep that were not sent yet."""
    unsent = select(OutboxTable).filter_by(sweep_id=sweep_id, sent_at=None)
    rows = session.scalars(unsent.order_by(OutboxTable.outbox_id).limit(limit))
    return [Message(r.outbox_id, r.run_id, Kind(r.kind), r.ref, r.name, r.data) for r in rows]


def num_waiting(session: Session, sweep_id: str) -> int:
    """How many messages of a sweep were not sent yet."""
    unsent = select(func.count()).select_from(OutboxTable).filter_by(sweep_id=sweep_id, sent_at=None)
    return session.scalar(unsent) or 0


def mark_sent(session: Session, outbox_ids: Sequence[int]) -> None:
    """Take messages off the queue."""
    chosen = update(OutboxTable).where(OutboxTable.outbox_id.in_(outbox_ids))
    session.execute(chosen.values(sent_at=time.time()))


def forget_sent(session: Session, sweep_id: str, run_ids: Sequence[str]) -> None:
    """Queue a sweep anew, for an MLflow that has lost it."""
    old = delete(OutboxTable).filter_by(sweep_id=sweep_id).where(OutboxTable.kind != Kind.ARTIFACT.value)
    session.execute(old)
    queue_all(session, sweep_id, run_ids)
    session.execute(update(OutboxTable).filter_by(sweep_id=sweep_id).values(sent_at=None))
