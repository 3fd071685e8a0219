"""What every database must do alike."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from scalerl_lab.errors import NotFound, StoreError
from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import (
    Action,
    EndReason,
    LedgerEntry,
    LedgerKind,
    RunStatus,
    TrialEnded,
    TrialStarted,
)
from scalerl_lab.store import Store
from scalerl_lab.store.tables import SweepTable, Table
from tests.store import story

SWEEP = "5feeb0000001"
CONTROL = story.run_id("control", 0)
DAPO = story.run_id("dapo", 0)


def counts(store: Store) -> dict[str, int]:
    """Rows per table."""
    with store.database.read() as session:
        tables = Table.metadata.sorted_tables
        return {t.name: session.scalar(select(func.count()).select_from(t)) or 0 for t in tables}


def test_a_plan_comes_back_as_it_was_recorded(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    assert Store.open(str(store.database.url)).plan(SWEEP) == plan
    states = store.run_states(SWEEP)
    assert [state.planned for state in states] == list(plan.runs)
    assert all(s.status is RunStatus.PLANNED and s.granted_gpu_hours == 100.0 for s in states)
    assert not any(s.reused or s.points or s.trials or s.last_decision for s in states)


def test_everything_comes_back_bit_for_bit(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    told = story.facts()
    store.ingest(CONTROL, 0, told)
    assert list(store.points(CONTROL)) == [f for f in told if type(f).__name__ == "EvalPoint"]
    assert list(store.checkpoints(CONTROL)) == [f for f in told if type(f).__name__ == "CheckpointSaved"]
    assert [r.entry for r in store.ledger(SWEEP)] == [f for f in told if isinstance(f, LedgerEntry)]
    (trial,) = store.trials(CONTROL)
    assert (trial.started, trial.ended) == (told[0], told[-1])
    made = story.decision(CONTROL)
    store.record_fit(SWEEP, story.fit(CONTROL), story.FORECASTS)
    store.record_decision(SWEEP, made, None)
    assert store.latest_fits(SWEEP) == {CONTROL: (story.fit(CONTROL), story.FORECASTS)}
    assert [row.decision for row in store.decisions(SWEEP)] == [made]


def test_every_entry_made_twice_changes_nothing(store: Store, plan: SweepPlan) -> None:
    def enter() -> tuple[int, int]:
        store.record_plan(plan)
        store.ingest(CONTROL, 0, story.facts())
        fit_id = store.record_fit(SWEEP, story.fit(CONTROL), story.FORECASTS)
        decision_id = store.record_decision(
            SWEEP, story.decision(CONTROL, Action.EXTEND, granted=125.0), fit_id
        )
        store.mark_acted(decision_id)
        store.set_status(SWEEP, CONTROL, RunStatus.RUNNING)
        store.queue_artifact(SWEEP, CONTROL, "fit.png", b"\x89PNG")
        return fit_id, decision_id

    ids = enter()
    rows, states, acted = counts(store), store.run_states(SWEEP), store.decisions()
    assert enter() == ids
    assert (counts(store), store.run_states(SWEEP), store.decisions()) == (rows, states, acted)


def test_facts_may_overlap_what_is_on_record_but_leave_no_gap(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    told = story.facts()
    store.ingest(CONTROL, 0, told[:3])
    store.ingest(CONTROL, 1, told[1:5])
    assert store.ingested_lines(CONTROL) == 5
    with pytest.raises(StoreError, match="rows end at line 5"):
        store.ingest(CONTROL, 6, told[6:])
    assert store.ingested_lines(CONTROL) == 5
    store.ingest(CONTROL, 5, told[5:])
    assert [p.step for p in store.points(CONTROL)] == [0, 30, 60]


def test_a_measurement_told_again_keeps_its_first_row(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    store.ingest(CONTROL, 0, [story.started(), story.point(30, 0.25)])
    store.ingest(CONTROL, 2, [story.started(2, 30), story.point(30, 0.25, trial=2), story.point(60, trial=2)])
    assert [(p.step, p.trial) for p in store.points(CONTROL)] == [(30, 1), (60, 2)]


def test_trials_are_counted_and_failures_among_them(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    store.ingest(
        CONTROL,
        0,
        [
            story.started(1),
            story.ended(0, EndReason.FAILED, 1),
            story.started(2),
            story.started(3),
            story.ended(60, trial=3),
        ],
    )
    state = store.run_states(SWEEP)[0]
    assert (state.trials, state.failures) == (3, 1)
    first, killed_from_outside, last = store.trials(CONTROL)
    assert isinstance(first.ended, TrialEnded)
    assert first.ended.detail == "detail, \u00e9 and 'quotes'"
    assert killed_from_outside.ended is None
    assert isinstance(last.started, TrialStarted)
    assert last.ended is not None
    assert first.sandbox is None


def test_a_trial_says_how_it_ran_code(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    store.ingest(CONTROL, 0, [story.started(1), story.sandbox(1), story.started(2), story.ended(0, trial=2)])
    first, second = store.trials(CONTROL)
    assert (first.sandbox, second.sandbox) == (story.sandbox(1), None)


ALLOWED = {
    ("planned", "running"),
    ("running", "finished"),
    ("running", "killed"),
    ("running", "failed"),
    ("finished", "running"),
    ("killed", "running"),
    ("failed", "running"),
}
WAY_TO = {
    "planned": [],
    "running": ["running"],
    "finished": ["running", "finished"],
    "killed": ["running", "killed"],
    "failed": ["running", "failed"],
}


@pytest.mark.parametrize("before", list(RunStatus))
def test_statuses_change_only_as_the_table_says(store: Store, plan: SweepPlan, before: RunStatus) -> None:
    for after in RunStatus:
        sweep = replace(plan, sweep_id=f"{after:0<12}", runs=plan.runs[:1])
        sweep = replace(sweep, runs=(replace(plan.runs[0], sweep_id=sweep.sweep_id),))
        store.record_plan(sweep)
        for status in WAY_TO[before]:
            store.set_status(sweep.sweep_id, CONTROL, RunStatus(status))
        if after is before or (before, after) in ALLOWED:
            store.set_status(sweep.sweep_id, CONTROL, after)
            assert store.run_states(sweep.sweep_id)[0].status is after
        else:
            with pytest.raises(StoreError, match=f"is {before} and cannot become {after}"):
                store.set_status(sweep.sweep_id, CONTROL, after)
            assert store.run_states(sweep.sweep_id)[0].status is before


def test_a_run_with_points_is_reused_by_another_sweep(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    store.ingest(CONTROL, 0, story.facts())
    store.record_plan(plan)
    assert not any(state.reused for state in store.run_states(SWEEP))
    other = story.plan("5feeb0000002", "again", ("control", "token"))
    store.record_plan(other)
    states = {s.planned.run_id: s for s in store.run_states(other.sweep_id)}
    assert [run_id for run_id, s in states.items() if s.reused] == [CONTROL]
    assert states[CONTROL].status is RunStatus.PLANNED
    assert [p.step for p in states[CONTROL].points] == [0, 30, 60]
    store.set_status(SWEEP, CONTROL, RunStatus.RUNNING)
    assert store.run_states(other.sweep_id)[0].status is RunStatus.PLANNED


def test_points_of_a_shared_run_are_queued_for_each_sweep(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    store.ingest(CONTROL, 0, story.facts())
    other = story.plan("5feeb0000002", "again", ("control",))
    before = store.num_unsent(SWEEP)
    store.record_plan(other)
    assert store.num_unsent(other.sweep_id) == 2 + 3
    store.ingest(CONTROL, len(story.facts()), [story.point(90)])
    assert store.num_unsent(SWEEP) == before + 1
    assert store.num_unsent(other.sweep_id) == 2 + 3 + 1


def test_the_budget_adds_up_by_hand(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    assert store.budget(SWEEP).free == 0.0
    assert store.budget(SWEEP).waiting == 400.0
    lost = LedgerEntry(1, 0.0, LedgerKind.LOST, 3.0, 0.0, 0, 60, 69)
    evaluated = LedgerEntry(1, 0.0, LedgerKind.EVALUATE, 0.5, 1.0, 0, 60, 60)
    store.ingest(CONTROL, 0, [story.point(60), story.train_entry(0, 60), evaluated, lost])
    store.ingest(DAPO, 0, [story.point(120), story.train_entry(0, 120)])
    for run_id in (CONTROL, DAPO):
        store.set_status(SWEEP, run_id, RunStatus.RUNNING)
    store.set_status(SWEEP, DAPO, RunStatus.KILLED)
    view = store.budget(SWEEP)
    # Control: 20 used of 100 granted. Dapo: killed after 40. The other two: 100 each, not started.
    assert view.cap == 400.0
    assert view.total.used == 20.0 + 40.0
    assert (view.total.promised, view.waiting) == (80.0, 100.0 + 100.0)
    assert view.free == 400.0 - 60.0 - 280.0
    assert view.total.held == 60.0 + 3.5
    assert (view.total.lost, view.total.overhead, view.total.saved) == (3.0, 0.5, 60.0)
    store.record_decision(SWEEP, story.decision(CONTROL, Action.EXTEND, granted=125.0), None)
    assert store.budget(SWEEP).free == 60.0 - 25.0
    assert store.run_states(SWEEP)[0].granted_gpu_hours == 125.0


def test_decisions_wait_until_they_are_acted_on(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    store.record_decision(SWEEP, story.decision(CONTROL), None)
    kill = store.record_decision(SWEEP, story.decision(DAPO, Action.KILL), None)
    assert [row.decision_id for row in store.unacted(SWEEP)] == [kill]
    store.mark_acted(kill)
    assert store.unacted(SWEEP) == []
    first = store.decisions(run_id=DAPO)[0].acted_at
    assert first is not None
    store.mark_acted(kill)
    assert store.decisions(run_id=DAPO)[0].acted_at == first
    assert [row.decision.run_id for row in store.decisions(SWEEP)] == [CONTROL, DAPO]
    later = story.decision(CONTROL, Action.FINISH, step=90)
    store.record_decision(SWEEP, later, None)
    assert store.run_states(SWEEP)[0].last_decision == later


def test_the_newest_fit_counts(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    store.record_fit(SWEEP, story.too_few(CONTROL), ())
    store.record_fit(SWEEP, story.fit(CONTROL, 7, 0.62), story.FORECASTS)
    store.record_fit(SWEEP, story.too_few(DAPO), ())
    assert store.latest_fits(SWEEP) == {
        CONTROL: (story.fit(CONTROL, 7, 0.62), story.FORECASTS),
        DAPO: (story.too_few(DAPO), ()),
    }


def test_sweeps_and_runs_are_found_by_what_people_type(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    other = story.plan("5feeb0000002", "loo", ("control",))
    store.record_plan(other)
    assert store.find_sweep("loo").sweep_id == other.sweep_id
    assert store.find_sweep(SWEEP).sweep_id == SWEEP
    assert store.find_sweep("5fee").sweep_id == other.sweep_id
    assert [(row.sweep_id, row.num_runs, row.profile_name) for row in store.sweeps()] == [
        (other.sweep_id, 2, "laptop"),
        (SWEEP, 4, "laptop"),
    ]
    assert store.sweeps()[1].statuses == {RunStatus.PLANNED: 4}
    assert store.find_run("control:1") == [story.run_id("control", 1)]
    assert store.find_run("dapo:0", SWEEP) == [DAPO]
    assert store.find_run("c") == [CONTROL, story.run_id("control", 1)]
    assert store.find_run(DAPO) == [DAPO]
    with pytest.raises(NotFound, match="'loo'"):
        store.find_sweep("lo0")
    with pytest.raises(NotFound, match="'dapo:0'"):
        store.find_run("dopa:0")
    with pytest.raises(NotFound):
        store.find_run("")
    with pytest.raises(NotFound):
        store.plan("nosuch")


def test_a_sweep_of_another_version_is_named(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    with store.database.write() as session:
        row = session.get_one(SweepTable, SWEEP)
        row.sweep = row.sweep | {"later": 1}
    with pytest.raises(StoreError, match="another version of the lab"):
        store.plan(SWEEP)


def test_what_no_plan_names_is_refused(store: Store, plan: SweepPlan) -> None:
    with pytest.raises(StoreError, match="in no sweep"):
        store.ingest(CONTROL, 0, story.facts())
    with pytest.raises(StoreError, match="has no run"):
        store.set_status(SWEEP, CONTROL, RunStatus.RUNNING)
    with pytest.raises(StoreError, match="has no run"):
        store.record_decision(SWEEP, story.decision(CONTROL), None)


def test_numbers_that_do_not_exist_are_refused_whole(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    with pytest.raises(ValueError, match="nan"):
        store.ingest(CONTROL, 0, [story.started(), story.point(30, float("nan"))])
    assert store.ingested_lines(CONTROL) == 0
    assert store.trials(CONTROL) == []


def test_schema_of_the_migrations_is_the_schema_of_the_tables(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    from scalerl_lab.store.migrate import schema_version, scripts
    from scalerl_lab.store.tables import HEAD, VERSION_TABLE

    with store.database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, Table.metadata) == []
    assert ScriptDirectory(str(scripts())).get_heads() == [HEAD]
    assert schema_version(store.database) == HEAD


def test_a_newer_database_is_refused_and_left_alone(url: str) -> None:
    store = Store.open(url)
    with store.database.write() as session:
        session.connection().exec_driver_sql("UPDATE scalerl_alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"schema 9999.*upgrade scalerl-lab"):
        Store.open(url)
    store.close()


def test_json_columns_are_plain_json(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    with store.database.read() as session:
        text = session.connection().exec_driver_sql("SELECT recipe FROM sweep_runs").scalars().first()
    recipe = json.loads(text) if isinstance(text, str) else text
    assert recipe["loss"] == {"type": "cispo", "ratio_cap": 5.0}
