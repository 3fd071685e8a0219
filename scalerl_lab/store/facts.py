"""Facts and rows, each made from the other; every float comes back as it went in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from scalerl_lab.errors import StoreError
from scalerl_lab.records import (
    CheckpointSaved,
    EndReason,
    EvalPoint,
    Fact,
    LedgerEntry,
    LedgerKind,
    Measurement,
    PassCounts,
    SandboxUsed,
    TrialEnded,
    TrialStarted,
    to_json,
)
from scalerl_lab.store import outbox
from scalerl_lab.store.rows import TrialRow
from scalerl_lab.store.tables import (
    CheckpointTable,
    LedgerTable,
    MeasurementTable,
    PassCountsTable,
    PointTable,
    RunTable,
    Table,
    TrialTable,
)

_POINT = tuple(field.name for field in fields(EvalPoint))
_MEASUREMENT = tuple(field.name for field in fields(Measurement))
_PASS_COUNTS = tuple(field.name for field in fields(PassCounts))
_LEDGER = tuple(field.name for field in fields(LedgerEntry))
_CHECKPOINT = tuple(field.name for field in fields(CheckpointSaved))

_AT_ONCE = 200


def insert_new(session: Session, table: type[Table], rows: Sequence[dict[str, object]]) -> None:
    """Insert rows; one whose key is there already changes nothing."""
    if not rows:
        return
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    insert = sqlite.insert if is_sqlite else postgresql.insert
    session.execute(insert(table).on_conflict_do_nothing(), list(rows))


def ingested_lines(session: Session, run_id: str, *, for_update: bool) -> int:
    """How many lines of a run's facts file are rows.

    Raises:
        StoreError: no sweep on record has this run.
    """
    chosen = select(RunTable.ingested_lines).filter_by(run_id=run_id)
    found = session.scalar(chosen.with_for_update() if for_update else chosen)
    if found is None:
        raise StoreError(f"run {run_id} is in no sweep on record; record its plan first")
    return found


def ingest(session: Session, run_id: str, first_line: int, facts: Sequence[Fact]) -> None:
    """Write the facts whose lines are not rows yet, and queue them for the mirror.

    Raises:
        StoreError: lines before ``first_line`` are missing.
    """
    # A second writer of the same run waits here for the first to commit.
    done = ingested_lines(session, run_id, for_update=True)
    if first_line > done:
        raise StoreError(
            f"run {run_id}: facts from line {first_line} on were given, but rows end at line {done}; "
            f"give the lines from {done} on"
        )
    new = list(enumerate(facts, first_line))[done - first_line :]
    if not new:
        return
    for line, fact in new:
        _write(session, run_id, line, fact)
    session.execute(update(RunTable).filter_by(run_id=run_id).values(ingested_lines=new[-1][0] + 1))
    outbox.queue_facts(session, run_id, [fact for _, fact in new])


def _write(session: Session, run_id: str, line: int, fact: Fact) -> None:
    match fact:
        case EvalPoint():
            insert_new(session, PointTable, [{"run_id": run_id, "line": line, **to_json(fact)}])
        case Measurement():
            insert_new(session, MeasurementTable, [{"run_id": run_id, "line": line, **to_json(fact)}])
        case PassCounts():
            insert_new(session, PassCountsTable, [{"run_id": run_id, "line": line, **to_json(fact)}])
        case LedgerEntry():
            insert_new(session, LedgerTable, [{"run_id": run_id, "line": line, **to_json(fact)}])
        case CheckpointSaved():
            insert_new(session, CheckpointTable, [{"run_id": run_id, "line": line, **to_json(fact)}])
        case TrialStarted():
            started = to_json(fact)
            started["started_at"] = started.pop("at")
            insert_new(session, TrialTable, [{"run_id": run_id, "line": line, **started}])
        case SandboxUsed():
            used = {f"sandbox_{name}": value for name, value in to_json(fact).items() if name != "trial"}
            of_trial = update(TrialTable).filter_by(run_id=run_id, trial=fact.trial, sandbox_at=None)
            session.execute(of_trial.values(**used))
        case TrialEnded():
            ended = {f"ended_{name}": value for name, value in to_json(fact).items() if name != "trial"}
            open_trial = update(TrialTable).filter_by(run_id=run_id, trial=fact.trial, ended_line=None)
            session.execute(open_trial.values(ended_line=line, **ended))


def points(
    session: Session, run_ids: Iterable[str], known: Mapping[str, tuple[EvalPoint, ...]] | None = None
) -> dict[str, tuple[EvalPoint, ...]]:
    """Points of runs in the order of their steps; a run without points is absent.

    Args:
        session: of the database.
        run_ids: of which runs.
        known: first points of some of them, which are not read again.
    """
    found = {run_id: list((known or {}).get(run_id, ())) for run_id in run_ids}
    unread = [run_id for run_id, curve in found.items() if not curve]
    columns = [getattr(PointTable, name) for name in _POINT]
    later = [
        and_(PointTable.run_id == run_id, PointTable.step > curve[-1].step)
        for run_id, curve in found.items()
        if curve
    ]
    # A database takes conditions of a limited depth.
    groups: list[list[ColumnElement[bool]]] = [[PointTable.run_id.in_(unread)]] if unread else []
    groups += [[*later[first : first + _AT_ONCE]] for first in range(0, len(later), _AT_ONCE)]
    for conditions in groups:
        chosen = select(PointTable.run_id, *columns).where(or_(*conditions))
        for run_id, *values in session.execute(chosen.order_by(PointTable.run_id, PointTable.step)):
            found[run_id].append(EvalPoint(*values))
    return {run_id: tuple(curve) for run_id, curve in found.items() if curve}


def measurements(session: Session, run_ids: Iterable[str]) -> dict[str, tuple[Measurement, ...]]:
    """What was measured of runs beside their points, by step and then in the order of the file."""
    found: dict[str, list[Measurement]] = {}
    columns = [getattr(MeasurementTable, name) for name in _MEASUREMENT]
    chosen = select(MeasurementTable.run_id, *columns).where(MeasurementTable.run_id.in_(list(run_ids)))
    in_order = chosen.order_by(MeasurementTable.run_id, MeasurementTable.step, MeasurementTable.line)
    for run_id, *values in session.execute(in_order):
        found.setdefault(run_id, []).append(Measurement(*values))
    return {run_id: tuple(told) for run_id, told in found.items()}


def pass_counts(session: Session, run_ids: Iterable[str]) -> dict[str, tuple[PassCounts, ...]]:
    """Counts of passes of runs, by step and then in the order of the file."""
    found: dict[str, list[PassCounts]] = {}
    columns = [getattr(PassCountsTable, name) for name in _PASS_COUNTS]
    chosen = select(PassCountsTable.run_id, *columns).where(PassCountsTable.run_id.in_(list(run_ids)))
    in_order = chosen.order_by(PassCountsTable.run_id, PassCountsTable.step, PassCountsTable.line)
    for run_id, *values in session.execute(in_order):
        row = dict(zip(_PASS_COUNTS, values, strict=True))
        found.setdefault(run_id, []).append(PassCounts(**{**row, "passed": tuple(row["passed"])}))
    return {run_id: tuple(told) for run_id, told in found.items()}


def ledger(session: Session, run_ids: Iterable[str]) -> list[tuple[str, LedgerEntry]]:
    """Ledger entries of runs, each in the order in which it was written."""
    columns = [getattr(LedgerTable, name) for name in _LEDGER]
    chosen = select(LedgerTable.run_id, *columns).where(LedgerTable.run_id.in_(list(run_ids)))
    found = []
    for run_id, *values in session.execute(chosen.order_by(LedgerTable.run_id, LedgerTable.line)):
        row = dict(zip(_LEDGER, values, strict=True))
        found.append((run_id, LedgerEntry(**{**row, "kind": LedgerKind(row["kind"])})))
    return found


def checkpoints(session: Session, run_id: str) -> tuple[CheckpointSaved, ...]:
    """Every checkpoint a run has told of, oldest first; only the newest are still on disk."""
    columns = [getattr(CheckpointTable, name) for name in _CHECKPOINT]
    chosen = select(*columns).filter_by(run_id=run_id).order_by(CheckpointTable.step)
    return tuple(CheckpointSaved(*values) for values in session.execute(chosen))


def trials(session: Session, run_ids: Iterable[str]) -> list[tuple[str, TrialRow]]:
    """Trials of runs in the order of their numbers."""
    chosen = select(TrialTable).where(TrialTable.run_id.in_(list(run_ids)))
    rows = session.scalars(chosen.order_by(TrialTable.run_id, TrialTable.trial))
    return [(row.run_id, TrialRow(_started(row), _ended(row), _sandbox(row))) for row in rows]


def _started(row: TrialTable) -> TrialStarted:
    return TrialStarted(row.trial, row.started_at, row.resumed_step, row.host, row.pid, row.code_version)


def _sandbox(row: TrialTable) -> SandboxUsed | None:
    if (
        row.sandbox_at is None
        or row.sandbox_kind is None
        or row.sandbox_own_user is None
        or row.sandbox_seccomp is None
    ):
        return None
    why = row.sandbox_why or ""
    return SandboxUsed(
        row.trial, row.sandbox_at, row.sandbox_kind, row.sandbox_own_user, row.sandbox_seccomp, why
    )


def _ended(row: TrialTable) -> TrialEnded | None:
    if (
        row.ended_at is None
        or row.ended_step is None
        or row.ended_gpu_hours is None
        or row.ended_reason is None
    ):
        return None
    reason, detail = EndReason(row.ended_reason), row.ended_detail or ""
    return TrialEnded(row.trial, row.ended_at, row.ended_step, row.ended_gpu_hours, reason, detail)
