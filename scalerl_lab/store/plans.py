"""Plans as rows and back, and the ways to name a sweep or a run."""

from __future__ import annotations

import difflib
import time
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scalerl_lab.config.profile import Profile
from scalerl_lab.config.sweep import Sweep
from scalerl_lab.errors import NotFound, StoreError
from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import Change, PlannedRun, Role, RunSpec, RunStatus, from_json, to_json
from scalerl_lab.store import outbox
from scalerl_lab.store.facts import insert_new
from scalerl_lab.store.rows import PlaceRow, SweepRow
from scalerl_lab.store.tables import PointTable, RunTable, SweepRunTable, SweepTable


def record(session: Session, plan: SweepPlan) -> None:
    """Write what is not on record yet; a run that has points already is marked as reused."""
    now = time.time()
    sweep = {
        "sweep_id": plan.sweep_id,
        "name": plan.sweep.name,
        "created_at": now,
        "cap_gpu_hours": plan.sweep_gpu_hours,
        "sweep": to_json(plan.sweep),
        "profile": to_json(plan.profile),
    }
    insert_new(session, SweepTable, [sweep])
    add_runs(session, plan.sweep_id, plan.runs)


def add_runs(session: Session, sweep_id: str, runs: Sequence[PlannedRun]) -> None:
    """Give runs their place in a sweep; one that has a place there already keeps it."""
    now = time.time()
    known = set(session.scalars(select(SweepRunTable.run_id).filter_by(sweep_id=sweep_id)))
    new = [run for run in runs if run.run_id not in known]
    ids = [run.run_id for run in new]
    insert_new(session, RunTable, [_identity(run.spec, now) for run in new])
    chosen = select(PointTable.run_id).where(PointTable.run_id.in_(ids)).distinct()
    measured = set(session.scalars(chosen))
    sweep = from_json(Sweep, session.get_one(SweepTable, sweep_id).sweep)
    first = sweep.rule.extension.first_share
    places = [_place(run, now, first_share=first, reused=run.run_id in measured) for run in new]
    insert_new(session, SweepRunTable, places)
    outbox.queue_all(session, sweep_id, ids)


def _identity(spec: RunSpec, now: float) -> dict[str, object]:
    return {
        "run_id": spec.run_id,
        "seed": spec.seed,
        "meter": to_json(spec.meter),
        "created_at": now,
        "ingested_lines": 0,
    }


def _place(run: PlannedRun, now: float, *, first_share: float, reused: bool) -> dict[str, object]:
    return {
        "sweep_id": run.sweep_id,
        "run_id": run.run_id,
        "arm": run.arm,
        "role": run.role.value,
        "place": run.order,
        "changes": to_json(run.changes),
        "recipe": to_json(run.spec.recipe),
        "budget_gpu_hours": run.budget_gpu_hours,
        "granted_gpu_hours": first_share * run.budget_gpu_hours,
        "status": RunStatus.PLANNED.value,
        "status_at": now,
        "reused": reused,
    }


def read(session: Session, sweep_id: str) -> SweepPlan:
    """The plan as it was recorded.

    Raises:
        NotFound: no sweep has this id.
        StoreError: it was written by a version of the lab that knew other settings.
    """
    row = session.get(SweepTable, sweep_id)
    if row is None:
        raise NotFound(f"no sweep has the id {sweep_id}")
    both = select(SweepRunTable, RunTable).join(RunTable, RunTable.run_id == SweepRunTable.run_id)
    in_order = both.where(SweepRunTable.sweep_id == sweep_id).order_by(SweepRunTable.place)
    try:
        return SweepPlan(
            sweep_id=sweep_id,
            sweep=from_json(Sweep, row.sweep),
            profile=from_json(Profile, row.profile),
            runs=tuple(_planned(place, run) for place, run in session.execute(in_order)),
        )
    except ValueError as error:
        raise StoreError(
            f"sweep {sweep_id} ({row.name}) was recorded by another version of the lab and cannot be read "
            f"by this one: {error}"
        ) from None


def _planned(place: SweepRunTable, run: RunTable) -> PlannedRun:
    spec = {"run_id": run.run_id, "recipe": place.recipe, "seed": run.seed, "meter": run.meter}
    return PlannedRun(
        sweep_id=place.sweep_id,
        arm=place.arm,
        role=Role(place.role),
        changes=tuple(from_json(Change, change) for change in place.changes),
        budget_gpu_hours=place.budget_gpu_hours,
        spec=from_json(RunSpec, spec),
        order=place.place,
    )


def num_runs(session: Session, sweep_id: str) -> int:
    """How many runs of a sweep are on record."""
    counted = select(func.count()).select_from(SweepRunTable).filter_by(sweep_id=sweep_id)
    return session.scalar(counted) or 0


def sweeps(session: Session) -> list[SweepRow]:
    """All sweeps, newest first."""
    statuses: dict[str, Counter[RunStatus]] = {}
    for sweep_id, status in session.execute(select(SweepRunTable.sweep_id, SweepRunTable.status)):
        statuses.setdefault(sweep_id, Counter())[RunStatus(status)] += 1
    newest_first = select(SweepTable).order_by(SweepTable.created_at.desc(), SweepTable.sweep_id)
    found = []
    for row in session.scalars(newest_first):
        counted = dict(statuses.get(row.sweep_id, {}))
        profile_name = str(row.profile["name"])
        found.append(
            SweepRow(row.sweep_id, row.name, profile_name, row.created_at, sum(counted.values()), counted)
        )
    return found


def find_sweep(session: Session, text: str) -> SweepRow:
    """The sweep with this id, name or id prefix; of several the newest.

    Raises:
        NotFound: there is none.
    """
    rows = sweeps(session)
    by_id = [row for row in rows if row.sweep_id == text]
    by_name = [row for row in rows if row.name == text]
    by_prefix = [row for row in rows if text and row.sweep_id.startswith(text)]
    found = by_id or by_name or by_prefix
    if not found:
        raise NotFound(_nothing("sweep", text, [name for row in rows for name in (row.name, row.sweep_id)]))
    return found[0]


def find_run(session: Session, text: str, sweep_id: str | None) -> list[str]:
    """Ids of the runs with this id, ``arm:seed`` or id prefix, those of the newest sweep first.

    Raises:
        NotFound: there is none.
    """
    arm, _, seed = text.rpartition(":")
    runs = (
        select(SweepRunTable.run_id, SweepRunTable.arm, RunTable.seed)
        .join(RunTable, RunTable.run_id == SweepRunTable.run_id)
        .join(SweepTable, SweepTable.sweep_id == SweepRunTable.sweep_id)
        .order_by(SweepTable.created_at.desc(), SweepRunTable.place)
    )
    if sweep_id is not None:
        runs = runs.where(SweepRunTable.sweep_id == sweep_id)
    rows = list(session.execute(runs))
    by_id = [row.run_id for row in rows if row.run_id == text]
    by_name = [row.run_id for row in rows if row.arm == arm and str(row.seed) == seed]
    by_prefix = [row.run_id for row in rows if text and row.run_id.startswith(text)]
    found = by_id or by_name or by_prefix
    if not found:
        known = [name for row in rows for name in (f"{row.arm}:{row.seed}", row.run_id)]
        raise NotFound(_nothing("run", text, known))
    return list(dict.fromkeys(found))


def places(session: Session, run_ids: Sequence[str], sweep_id: str | None) -> list[PlaceRow]:
    """Every place of the given runs, those in the newest sweep first."""
    found = (
        select(SweepTable.sweep_id, SweepTable.name, RunTable.run_id, SweepRunTable.arm, RunTable.seed)
        .join(SweepRunTable, SweepRunTable.sweep_id == SweepTable.sweep_id)
        .join(RunTable, RunTable.run_id == SweepRunTable.run_id)
        .where(RunTable.run_id.in_(run_ids))
        .order_by(SweepTable.created_at.desc(), SweepRunTable.place)
    )
    if sweep_id is not None:
        found = found.where(SweepTable.sweep_id == sweep_id)
    return [PlaceRow(*row) for row in session.execute(found)]


def _nothing(what: str, text: str, known: Sequence[str]) -> str:
    if not known:
        return f"no {what} {text!r}: the database has none yet; start one with: lab sweep run FILE"
    nearest = difflib.get_close_matches(text, known, n=1, cutoff=0.0)
    command = "lab sweep list" if what == "sweep" else "lab sweep status"
    return f"no {what} {text!r}; the nearest is {nearest[0]!r}; {command} shows all"


def place_of(session: Session, sweep_id: str, run_id: str) -> SweepRunTable:
    """The row of a run in a sweep, held for writing.

    Raises:
        StoreError: the sweep has no such run.
    """
    chosen = select(SweepRunTable).filter_by(sweep_id=sweep_id, run_id=run_id).with_for_update()
    place = session.scalar(chosen)
    if place is None:
        raise StoreError(f"sweep {sweep_id} has no run {run_id} on record; record its plan first")
    return place
