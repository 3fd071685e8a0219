"""Fits and decisions as rows and back."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from scalerl_lab.records import (
    Action,
    Cause,
    Decision,
    Evidence,
    Fit,
    Forecast,
    RunStatus,
    from_json,
    to_json,
)
from scalerl_lab.store import outbox
from scalerl_lab.store.outbox import Kind
from scalerl_lab.store.plans import place_of
from scalerl_lab.store.rows import DecisionRow
from scalerl_lab.store.statuses import OVER
from scalerl_lab.store.tables import DecisionTable, FitTable, SweepRunTable

Concluded = tuple[Fit, tuple[Forecast, ...]]


def record_fit(session: Session, sweep_id: str, fit: Fit, forecasts: Sequence[Forecast]) -> int:
    """Write a fit with its forecasts unless it is on record; returns its id."""
    written, said = to_json(fit), to_json(tuple(forecasts))
    digest = hashlib.sha256(json.dumps([written, said], sort_keys=True).encode()).hexdigest()
    place_of(session, sweep_id, fit.run_id)
    same = select(FitTable.fit_id).filter_by(sweep_id=sweep_id, run_id=fit.run_id, digest=digest)
    found = session.scalar(same)
    if found is not None:
        return found
    row = FitTable(
        sweep_id=sweep_id,
        run_id=fit.run_id,
        at=time.time(),
        status=fit.status.value,
        num_points=fit.num_points,
        last_gpu_hours=fit.last_gpu_hours,
        ceiling=fit.ceiling.median if fit.ceiling else None,
        efficiency=fit.efficiency.median if fit.efficiency else None,
        midpoint_gpu_hours=fit.midpoint.median if fit.midpoint else None,
        fit=written,
        forecasts=said,
        digest=digest,
    )
    session.add(row)
    session.flush()
    outbox.queue(session, [(sweep_id, fit.run_id, Kind.FIT, row.fit_id)])
    return row.fit_id


def read_fit(row: FitTable) -> Concluded:
    """The fit of a row, with its forecasts."""
    return from_json(Fit, row.fit), tuple(from_json(Forecast, each) for each in row.forecasts)


def latest_fits(session: Session, sweep_id: str) -> dict[str, Concluded]:
    """The newest fit of each run that has one."""
    newest = select(func.max(FitTable.fit_id)).filter_by(sweep_id=sweep_id).group_by(FitTable.run_id)
    rows = session.scalars(select(FitTable).where(FitTable.fit_id.in_(newest)))
    return {row.run_id: read_fit(row) for row in rows}


def record_decision(session: Session, sweep_id: str, decision: Decision, fit_id: int | None) -> int:
    """Write a decision unless it is the run's last one on record already; returns its id."""
    # The row of the run is held from here on, so that no other writer comes in between.
    place_of(session, sweep_id, decision.run_id)
    of_run = select(DecisionTable).filter_by(sweep_id=sweep_id, run_id=decision.run_id)
    last = session.scalar(of_run.order_by(DecisionTable.decision_id.desc()).limit(1))
    said = (decision.step, decision.action.value, decision.cause.value)
    if last is not None and (last.step, last.action, last.cause) == said:
        return last.decision_id
    return add_decision(session, sweep_id, decision, fit_id)


def add_decision(session: Session, sweep_id: str, decision: Decision, fit_id: int | None) -> int:
    """Write a decision, raise the grant it gives, and have a run go on that it takes up again."""
    place = place_of(session, sweep_id, decision.run_id)
    now = time.time()
    row = DecisionTable(
        sweep_id=sweep_id,
        run_id=decision.run_id,
        fit_id=fit_id,
        at=now,
        step=decision.step,
        gpu_hours=decision.gpu_hours,
        action=decision.action.value,
        cause=decision.cause.value,
        reason=decision.reason,
        granted_gpu_hours=decision.granted_gpu_hours,
        evidence=to_json(decision.evidence),
        # To continue, or to stay finished, asks for nothing, so it is carried out by being decided.
        acted_at=now if _asks_nothing(decision, place) else None,
    )
    session.add(row)
    if decision.action is Action.EXTEND:
        place.granted_gpu_hours = max(place.granted_gpu_hours, decision.granted_gpu_hours)
    if decision.action in {Action.EXTEND, Action.REVIVE} and RunStatus(place.status) in OVER:
        # At once, as from here on its hours are promised.
        place.status, place.status_at = RunStatus.RUNNING.value, now
    outbox.queue(session, [(sweep_id, decision.run_id, Kind.RUN, None)])
    session.flush()
    return row.decision_id


def _asks_nothing(decision: Decision, place: SweepRunTable) -> bool:
    stays = decision.action is Action.FINISH and RunStatus(place.status) in OVER
    return decision.action is Action.CONTINUE or stays


def mark_acted(session: Session, decision_id: int) -> None:
    """Note that a decision has been carried out; the first time counts."""
    still_open = update(DecisionTable).filter_by(decision_id=decision_id, acted_at=None)
    session.execute(still_open.values(acted_at=time.time()))


def decisions(session: Session, *where: ColumnElement[bool]) -> list[DecisionRow]:
    """Decisions that meet all conditions, oldest first."""
    rows = session.scalars(select(DecisionTable).where(*where).order_by(DecisionTable.decision_id))
    return [_decided(row) for row in rows]


def last_decisions(
    session: Session, sweep_id: str, only: Collection[str] | None = None
) -> dict[str, Decision]:
    """The newest decision on each run, or each of the given ones, that has one."""
    newest = select(func.max(DecisionTable.decision_id)).filter_by(sweep_id=sweep_id)
    if only is not None:
        newest = newest.where(DecisionTable.run_id.in_(only))
    of_each = newest.group_by(DecisionTable.run_id)
    found = decisions(session, DecisionTable.decision_id.in_(of_each))
    return {row.decision.run_id: row.decision for row in found}


def _decided(row: DecisionTable) -> DecisionRow:
    decision = Decision(
        run_id=row.run_id,
        step=row.step,
        gpu_hours=row.gpu_hours,
        action=Action(row.action),
        cause=Cause(row.cause),
        reason=row.reason,
        granted_gpu_hours=row.granted_gpu_hours,
        evidence=from_json(Evidence, row.evidence),
    )
    return DecisionRow(row.decision_id, row.sweep_id, row.at, decision, row.acted_at)
