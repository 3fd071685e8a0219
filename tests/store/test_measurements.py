"""Measurements beside the points: rows that come back, once, in every database and in MLflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, inspect, select

from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import Measurement, PassCounts
from scalerl_lab.store import Store
from scalerl_lab.store.migrate import schema_version, scripts
from scalerl_lab.store.mirror import Mirror
from scalerl_lab.store.outbox import Kind
from scalerl_lab.store.tables import MeasurementTable, OutboxTable
from tests.store import story
from tests.store.test_mirror import empty_mlflow, history, lab, mlflow_uri, seen

__all__ = ["empty_mlflow", "lab", "mlflow_uri"]

SWEEP = "5feeb0000001"
CONTROL = story.run_id("control", 0)
RATE = Measurement(1, 1700000000.1, 30, 10.0, "longer", "", "pass_rate", 0.1 + 0.2, 0.01 / 3, 64, 256)
CODE = replace(RATE, problem_set="heldout", domain="code", metric="pass_at_8", standard_error=None)
COUNTS = PassCounts(1, 1700000000.2, 30, 10.0, "heldout", "code", 4, 4, (0, 4, 1))


def test_measurements_and_counts_come_back_bit_for_bit(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    later = replace(RATE, step=60, value=1 / 3)
    store.ingest(CONTROL, 0, [story.started(), CODE, RATE, COUNTS, later])
    assert store.measurements([CONTROL]) == {CONTROL: (CODE, RATE, later)}
    assert store.pass_counts([CONTROL]) == {CONTROL: (COUNTS,)}
    assert store.measurements([story.run_id("dapo", 0)]) == {}


def test_told_again_after_a_crash_they_keep_their_first_row(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    told = [story.started(), RATE, CODE, COUNTS]
    store.ingest(CONTROL, 0, told)
    store.ingest(CONTROL, 0, told)
    again = [replace(RATE, trial=2, at=9.0), replace(CODE, trial=2), replace(COUNTS, trial=2)]
    store.ingest(CONTROL, len(told), again)
    assert store.measurements([CONTROL])[CONTROL] == (RATE, CODE)
    assert store.pass_counts([CONTROL])[CONTROL] == (COUNTS,)


def test_a_step_is_queued_once_a_batch_and_again_for_another_sweep(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    store.ingest(CONTROL, 0, [RATE, CODE, COUNTS, replace(RATE, step=60)])
    store.record_plan(story.plan("5feeb0000002", "again", ("control",)))
    with store.database.read() as session:
        chosen = select(OutboxTable.sweep_id, OutboxTable.ref).filter_by(kind=Kind.MEASUREMENTS.value)
        assert sorted(map(tuple, session.execute(chosen))) == [
            (sweep_id, step) for sweep_id in (SWEEP, "5feeb0000002") for step in (30, 60)
        ]


def test_the_schema_goes_down_one_version_and_up_again(store: Store, plan: SweepPlan) -> None:
    from alembic import command
    from alembic.config import Config

    store.record_plan(plan)
    store.ingest(CONTROL, 0, [*story.facts(), RATE, COUNTS])
    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))

    def go(where: str) -> set[str]:
        with store.database.engine.begin() as connection:
            config.attributes["connection"] = connection
            if where == "head":
                command.upgrade(config, where)
            else:
                command.downgrade(config, where)
            return set(inspect(connection).get_table_names())

    assert not {"measurements", "pass_counts"} & go("0003")
    assert schema_version(store.database) == "0003"
    assert {"measurements", "pass_counts"} <= go("head")
    assert [point.step for point in store.points(CONTROL)] == [0, 30, 60]
    with store.database.read() as session:
        assert session.scalar(select(func.count()).select_from(MeasurementTable)) == 0


def test_mlflow_is_told_each_measurement_once(lab: Store, mlflow_uri: str, tmp_path: Path) -> None:
    lab.ingest(CONTROL, 0, [story.started(), story.point(30), RATE])
    Mirror(lab, mlflow_uri, SWEEP).send()
    # The rest of the same step comes with a later batch, and a mirror that knows nothing sends it all.
    lab.ingest(CONTROL, 3, [CODE, COUNTS, replace(RATE, step=60, at=1700000001.0, value=0.5)])
    Mirror(lab, mlflow_uri, SWEEP).send()
    lab.queue_again(SWEEP)
    Mirror(lab, mlflow_uri, SWEEP).send()
    mlflow_id = seen(mlflow_uri)[CONTROL].info.run_id
    assert history(mlflow_uri, mlflow_id, "longer/pass_rate") == [(30, 0.1 + 0.2), (60, 0.5)]
    assert history(mlflow_uri, mlflow_id, "longer/pass_rate_se") == [(30, 0.01 / 3), (60, 0.01 / 3)]
    assert history(mlflow_uri, mlflow_id, "heldout/code/pass_at_8") == [(30, 0.1 + 0.2)]
    assert history(mlflow_uri, mlflow_id, "heldout/code/pass_at_8_se") == []
    assert history(mlflow_uri, mlflow_id, "pass_rate") == [(30, 0.1 + 0.2)]


@pytest.mark.parametrize("fact", [RATE, CODE, COUNTS])
def test_they_are_lines_of_a_runs_file(fact: Measurement | PassCounts) -> None:
    from scalerl_lab.records import fact_from_json, fact_to_json

    assert fact_from_json(fact_to_json(fact)) == fact
