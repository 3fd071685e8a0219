"""Orders on record, on every database: each is settled once, with what follows from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from scalerl_lab.decide import decisions_of
from scalerl_lab.errors import LockHeld
from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import Action, Order, OrderKind, RunStatus
from scalerl_lab.store import Store
from scalerl_lab.store.database import Database
from scalerl_lab.store.migrate import scripts
from tests.store import story
from tests.store.processes import fork, python

SWEEP = "5feeb0000001"
CONTROL = story.run_id("control", 0)
DAPO = story.run_id("dapo", 0)


def order(kind: OrderKind, run_id: str | None = CONTROL, to: float | None = None) -> Order:
    return Order(SWEEP, run_id, kind, to, "anna@node1", "an 'odd' reason, é", 1700000000.1)


def test_orders_come_back_as_they_were_given(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    given = [order(OrderKind.EXTEND, to=1.0 / 3), order(OrderKind.PAUSE, None), order(OrderKind.KILL, DAPO)]
    ids = [store.record_order(each) for each in given]
    rows = store.orders(SWEEP)
    assert ([row.order for row in rows], [row.order_id for row in rows]) == (given, ids)
    assert store.waiting_orders(SWEEP) == rows
    assert not any(row.in_force for row in rows)
    assert store.carry_out(ids[0], ())
    store.refuse(ids[1], "it is paused already")
    first, second, third = store.orders(SWEEP)
    assert (first.in_force, second.in_force, third.in_force) == (True, False, False)
    assert second.refused == "it is paused already"
    assert store.waiting_orders(SWEEP) == [third]


def test_an_order_is_carried_out_by_one_of_many(store: Store, plan: SweepPlan, tmp_path: Path) -> None:
    store.record_plan(plan)
    store.ingest(CONTROL, 0, story.facts())
    order_id = store.record_order(order(OrderKind.EXTEND, to=150.0))
    decisions = decisions_of(order(OrderKind.EXTEND, to=150.0), store.run_states(SWEEP))
    url = store.database.url.render_as_string(hide_password=False)
    store.close()

    def carry_out(number: int) -> None:
        if Store.open(url).carry_out(order_id, decisions):
            (tmp_path / f"done-{number}").touch()

    assert fork(4, carry_out) == [0] * 4
    assert len(list(tmp_path.glob("done-*"))) == 1
    (row,) = store.decisions(SWEEP)
    assert (row.decision.action, row.acted_at) == (Action.EXTEND, None)
    assert store.run_states(SWEEP)[0].granted_gpu_hours == 150.0


def test_a_run_is_revived_and_killed_again_at_the_same_step(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    store.ingest(CONTROL, 0, story.facts())
    store.set_status(SWEEP, CONTROL, RunStatus.RUNNING)
    told = []
    for kind in (OrderKind.KILL, OrderKind.REVIVE, OrderKind.KILL):
        order_id = store.record_order(order(kind))
        assert store.carry_out(order_id, decisions_of(order(kind), store.run_states(SWEEP)))
        assert not store.carry_out(order_id, decisions_of(order(kind), store.run_states(SWEEP)))
        told.append(store.run_states(SWEEP)[0].last_decision)
        if kind is OrderKind.KILL:
            store.set_status(SWEEP, CONTROL, RunStatus.KILLED)
        else:
            assert store.run_states(SWEEP)[0].status is RunStatus.RUNNING
    assert [d.action for d in told if d] == [Action.KILL, Action.REVIVE, Action.KILL]
    assert [row.decision for row in store.decisions(SWEEP)] == told


def test_a_decision_is_no_new_row_only_while_it_is_the_last_word(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    first = store.record_decision(SWEEP, story.decision(CONTROL, Action.KILL), None)
    assert store.record_decision(SWEEP, story.decision(CONTROL, Action.KILL), None) == first
    second = store.record_decision(SWEEP, story.decision(CONTROL, Action.REVIVE), None)
    assert store.record_decision(SWEEP, story.decision(CONTROL, Action.KILL), None) > second


def test_a_raised_cap_counts_in_the_budget(store: Store, plan: SweepPlan) -> None:
    store.record_plan(plan)
    raising = replace(order(OrderKind.EXTEND, to=150.0), raise_cap=True)
    order_id = store.record_order(raising)
    assert store.budget(SWEEP).cap == 400.0
    assert store.carry_out(order_id, (), raised_cap_to=450.0)
    assert (store.budget(SWEEP).cap, store.budget(SWEEP).free) == (450.0, 50.0)
    first, second = store.orders(SWEEP)
    assert first.order == raising
    assert second.order == replace(order(OrderKind.RAISE_CAP, None, 450.0), at=raising.at)
    assert (second.in_force, second.settled_at) == (True, first.settled_at)
    # A second driver that comes late raises nothing.
    assert not store.carry_out(order_id, (), raised_cap_to=500.0)
    assert (len(store.orders(SWEEP)), store.budget(SWEEP).cap) == (2, 450.0)
    assert store.budget(SWEEP, 2.0).money(3.0) == 6.0


def test_one_process_drives_a_sweep_and_all_can_see_it(store: Store) -> None:
    url = store.database.url.render_as_string(hide_password=False)
    body = f"""
import time
with Store.open(sys.argv[1]).driving("{SWEEP}"):
    print("driving", flush=True)
    time.sleep(60)
"""
    assert not store.is_driven(SWEEP)
    child = python(body, url)
    assert child.stdout is not None
    assert child.stdout.readline() == "driving\n"
    assert store.is_driven(SWEEP)
    assert not store.is_driven("another")
    with pytest.raises(LockHeld), store.driving(SWEEP):
        pass
    child.kill()
    child.communicate()
    with store.driving(SWEEP):
        pass


def test_a_database_of_the_first_version_keeps_its_decisions(url: str) -> None:
    from alembic import command
    from alembic.config import Config

    database = Database(url)
    config = Config()
    config.set_main_option("script_location", str(scripts()))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for statement in (
            "INSERT INTO sweeps VALUES ('s', 'loo', 1.0, 400.0, '{}', '{}')",
            "INSERT INTO runs VALUES ('r', 0, '{}', 1.0, 0)",
            "INSERT INTO sweep_runs VALUES"
            " ('s', 'r', 'a', 'arm', 0, '[]', '{}', 100.0, 100.0, 'running', 1.0, :no)",
            "INSERT INTO decisions VALUES"
            " (7, 's', 'r', NULL, 1.0, 60, 20.5, 'continue', 'within_margin', 'Tie.', 100.0,"
            ' \'{"fit": null, "forecast": null, "control_ceiling": null, "difference": null,'
            ' "probability_below": null, "margin": 0.02}\', 1.0)',
        ):
            clause = text(statement.replace('": ', '"\\: '))
            connection.execute(clause, {"no": False} if ":no" in statement else {})
    database.engine.dispose()
    store = Store.open(url)
    (row,) = store.decisions("s")
    assert (row.decision_id, row.decision.step, row.decision.reason) == (7, 60, "Tie.")
    assert store.orders("s") == []
    store.close()
