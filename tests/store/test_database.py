"""Many processes at once, first starts at once, deaths at any statement, and databases that are not there."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from sqlalchemy import event, func, select

from scalerl_lab.errors import LockHeld, StoreError
from scalerl_lab.plan import SweepPlan
from scalerl_lab.store import Store
from scalerl_lab.store.database import Database
from scalerl_lab.store.tables import CheckpointTable, LedgerTable, OutboxTable, PointTable, TrialTable
from tests.store import story
from tests.store.processes import fork, python

SWEEP = "5feeb0000001"
CONTROL = story.run_id("control", 0)


def test_24_processes_write_to_one_database(url: str) -> None:
    writers, batches = 24, 10
    arms = [f"a{number:02d}" for number in range(writers)]
    store = Store.open(url)
    plan = story.wide_plan(arms)
    store.record_plan(plan)
    store.close()

    def write(number: int) -> None:
        own = Store.open(url)
        run_id = plan.runs[number].run_id
        for batch in range(batches):
            own.ingest(run_id, 2 * batch, [story.train_entry(batch, batch + 1), story.point(batch)])
        own.close()

    assert fork(writers, write) == [0] * writers
    store = Store.open(url)
    with store.database.read() as session:
        assert session.scalar(select(func.count()).select_from(PointTable)) == writers * batches
        assert session.scalar(select(func.count()).select_from(LedgerTable)) == writers * batches
    assert {store.ingested_lines(run.run_id) for run in plan.runs} == {2 * batches}
    store.close()


def test_processes_that_ingest_the_same_run_write_each_fact_once(url: str) -> None:
    store = Store.open(url)
    store.record_plan(story.plan())
    store.close()
    told = story.facts(tuple(range(0, 100, 10)))

    def write(number: int) -> None:
        own = Store.open(url)
        for line in range(len(told)):
            own.ingest(CONTROL, max(line - number, 0), told[max(line - number, 0) : line + 1])
        own.close()

    assert fork(4, write) == [0] * 4
    store = Store.open(url)
    assert [p.step for p in store.points(CONTROL)] == list(range(0, 100, 10))
    with store.database.read() as session:
        points = select(func.count()).select_from(OutboxTable).filter_by(kind="point")
        assert session.scalar(points) == 10
    store.close()


def test_processes_may_start_on_an_empty_database_at_once(url: str) -> None:
    body = "Store.open(sys.argv[1]).record_plan(story.plan())"
    children = [python(body, url) for _ in range(6)]
    ends = [(child.communicate(timeout=120)[1], child.returncode) for child in children]
    assert [code for _, code in ends] == [0] * 6, ends
    assert Store.open(url).plan(SWEEP) == story.plan()


def test_a_death_between_statements_leaves_whole_batches_only(url: str) -> None:
    store = Store.open(url)
    store.record_plan(story.plan())
    told = story.facts()
    store.ingest(CONTROL, 0, told[:3])

    def rows() -> tuple[int, ...]:
        with store.database.read() as session:
            tables = (PointTable, LedgerTable, CheckpointTable, TrialTable, OutboxTable)
            return tuple(session.scalar(select(func.count()).select_from(t)) or 0 for t in tables)

    before = rows()

    def die(_: int, number: int) -> None:
        own = Store.open(url)
        seen = 0

        def count(*_: object) -> None:
            nonlocal seen
            seen += 1
            if seen == number + 1:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(own.database.engine, "before_cursor_execute", count)
        own.ingest(CONTROL, 3, told[3:])

    deaths = 0
    store.close()
    while fork(1, die, deaths) == [-signal.SIGKILL]:
        assert rows() == before
        assert store.ingested_lines(CONTROL) == 3
        store.close()
        deaths += 1
    # Seven facts, the count of lines, and the queue: it died before each of them.
    assert deaths >= 9
    assert [p.step for p in store.points(CONTROL)] == [0, 30, 60]
    assert store.ingested_lines(CONTROL) == len(told)
    store.close()


def test_a_death_while_migrating_leaves_an_empty_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'lab.db'}"
    body = """
from sqlalchemy import event
from scalerl_lab.store.database import Database
from scalerl_lab.store.migrate import migrate
database = Database(sys.argv[1])
def die(connection, cursor, statement, *rest):
    if "CREATE TABLE points" in statement:
        os.kill(os.getpid(), 9)
event.listen(database.engine, "before_cursor_execute", die)
migrate(database)
"""
    child = python(body, url)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    Store.open(url).record_plan(story.plan())


def test_a_lock_is_one_holders_and_dies_with_it(url: str) -> None:
    Store.open(url).close()
    body = """
import time
from scalerl_lab.store.database import Database
with Database(sys.argv[1]).lock("mirror.x", wait_s=1.0):
    print("held", flush=True)
    time.sleep(60)
"""
    child = python(body, url)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    database = Database(url)
    with pytest.raises(LockHeld, match="mirror"), database.lock("mirror.x", wait_s=0.1):
        pass
    with database.lock("mirror.y", wait_s=0.1):
        pass
    child.kill()
    child.communicate()
    with database.lock("mirror.x", wait_s=10.0):
        pass
    with database.lock("mirror.x", wait_s=10.0):
        pass
    database.engine.dispose()


def test_a_reader_does_not_wait_for_a_writer(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    with store.database.write() as session:
        session.connection().exec_driver_sql("UPDATE runs SET ingested_lines = 1")
        began = time.monotonic()
        assert store.ingested_lines(CONTROL) == 0
        assert time.monotonic() - began < 5.0


def test_an_unreachable_database_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"scalerl:\*\*\*@127.0.0.1:1/lab") as caught:
        Store.open("postgresql+psycopg://scalerl:geheim@127.0.0.1:1/lab")
    told: BaseException | None = caught.value
    assert "geheim" not in str(told)
    (tmp_path / "notes.txt").write_text("this is no database " * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(f"sqlite:///{tmp_path / 'notes.txt'}")


@pytest.mark.parametrize("url", ["mysql://u:geheim@h/x", "nonsense", "sqlite://", "sqlite:///:memory:"])
def test_an_url_that_cannot_serve_is_refused_with_what_is_allowed(url: str) -> None:
    with pytest.raises(StoreError, match="sqlite:///FILE") as caught:
        Store.open(url)
    assert "geheim" not in str(caught.value)


def test_the_plain_postgresql_url_means_the_driver_that_is_installed() -> None:
    assert Database("postgresql://u@h/x").url.drivername == "postgresql+psycopg"


def test_opening_loads_neither_mlflow_nor_alembic_when_the_schema_is_there(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'lab.db'}"
    Store.open(url).close()
    heavy = "{'alembic', 'mlflow', 'torch', 'ray', 'transformers', 'scipy', 'matplotlib'}"
    child = python(f"Store.open(sys.argv[1]); sys.exit(str({heavy} & set(sys.modules)))", url)
    assert child.communicate(timeout=60)[1].strip() == "set()"
