"""Orders and the budget from the command line: what is refused and how, what is kept, what a driver does."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from scalerl_lab.launch.order_desk import OrderDesk
from scalerl_lab.records import OrderKind, RunStatus
from scalerl_lab.store import Store
from tests.cli.conftest import Lab
from tests.cli.test_commands import ALL, _documented


@pytest.fixture
def lab(full_home: Path, tmp_path: Path) -> Lab:
    """A sweep on record whose database may be written to: eleven runs, one of them killed at 8,000."""
    return Lab(Path(shutil.copytree(full_home, tmp_path / "home")))


@pytest.fixture
def store(lab: Lab) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{lab.home / 'lab.db'}")
    yield opened
    opened.close()


def sweep_of(store: Store) -> str:
    return store.sweeps()[0].sweep_id


@contextmanager
def driver(store: Store) -> Iterator[None]:
    """Hold the sweep as a driver does, and settle orders as it does; nothing is trained."""
    sweep_id, over = sweep_of(store), threading.Event()

    def serve() -> None:
        own = Store.open(str(store.database.url))
        desk = OrderDesk(own, own.plan(sweep_id))
        while not over.wait(0.05):
            for _ in desk.settle(lambda: own.run_states(sweep_id), lambda: own.budget(sweep_id)):
                pass
        own.close()

    with store.driving(sweep_id):
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("kill", "dapo_los:0"), 2, "'dapo_loss:0'"),
        (("kill", "dapo_loss:0"), 2, "dapo_loss:0 is killed already"),
        (("kill", "control:0", "--sweep", "loo_61k"), 2, "loo_16k"),
        (("revive", "control:0"), 2, "lab run extend --to"),
        (("extend", "control:0", "--to", "9000"), 2, "16,000 GPU-hours granted; --to 9000 is no extension"),
        (
            ("extend", "control:0", "--to", "90000"),
            3,
            "takes 74,000 GPU-hours and the sweep has 8,000 to spare",
        ),
        (("unpin", "control:0"), 2, "not pinned"),
    ],
)
def test_what_cannot_be_ordered_is_refused_and_nothing_is_kept(
    arguments: tuple[str, ...], code: int, says: str, lab: Lab, store: Store
) -> None:
    result = lab("run", *arguments, "--why", "a reason")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("lab: ")
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert store.orders(sweep_of(store)) == []


def test_a_reason_is_demanded(lab: Lab) -> None:
    assert "--why" in lab("run", "kill", "control:0").stderr
    assert "--why is empty" in lab("run", "pin", "control:0", "--why", " ").stderr


def test_what_can_mean_several_runs_is_asked_back(lab: Lab, store: Store) -> None:
    plan = store.plan(sweep_of(store))
    again = replace(
        plan,
        sweep_id="5feeb0000009",
        sweep=plan.sweep.model_copy(update={"name": "again"}),
        runs=tuple(replace(run, sweep_id="5feeb0000009") for run in plan.runs[:2]),
    )
    store.record_plan(again)
    result = lab("run", "pin", "control:0", "--why", "a reason")
    assert result.exit_code == 2
    assert "can mean 2 runs" in result.stderr
    assert "--sweep 5feeb0000009 (again)" in result.stderr
    assert lab("run", "pin", "control:0", "--why", "a reason", "--sweep", "again").exit_code == 0
    assert [row.order.kind for row in store.orders("5feeb0000009")] == [OrderKind.PIN]
    prefixes = [run.run_id[0] for run in plan.runs]
    many = max(prefixes, key=prefixes.count)
    assert (
        f"can mean {prefixes.count(many)} runs"
        in lab("run", "pin", many, "--why", "x", "--sweep", plan.sweep_id).stderr
    )


def test_an_order_that_nobody_takes_is_kept_for_later(lab: Lab, store: Store) -> None:
    result = lab("run", "revive", "dapo_loss:0", "--why", "the rule had too few points")
    assert result.exit_code == 0
    assert "Nobody drives" in result.stdout
    assert "lab sweep run" in result.stdout
    (row,) = store.waiting_orders(sweep_of(store))
    assert (row.order.kind, row.order.why) == (OrderKind.REVIVE, "the rule had too few points")
    assert "@" in row.order.by
    assert lab("sweep", "pause", "--why", "maintenance").exit_code == 0
    assert len(store.waiting_orders(sweep_of(store))) == 2


def test_a_driver_answers_while_the_command_waits(lab: Lab, store: Store) -> None:
    with driver(store):
        pinned = lab("run", "pin", "group_advantage:0", "--why", "for the paper")
        raised = lab("run", "extend", "control:1", "--to", "30000", "--raise-cap", "--why", "longer")
        revived = lab("run", "revive", "dapo_loss:0", "--why", "look again")
        paused = lab("sweep", "pause", "--why", "maintenance")
        twice = lab("sweep", "pause", "--why", "maintenance")
        resumed = lab("sweep", "resume", "--why", "done")
        cancelled = lab("sweep", "cancel", "--why", "enough")
    assert pinned.stdout.startswith("group_advantage:0 is pinned")
    # 14,000 more, of which the killed run left 8,000.
    assert "rises to 182,000 GPU-hours" in raised.stdout
    assert "control:1 may use 30,000 GPU-hours, pinned" in raised.stdout
    # Those 8,000 are given away, so there is nothing to revive it with.
    assert (revived.exit_code, revived.stdout) == (3, "")
    assert "takes 8,000 GPU-hours and the sweep has 0 to spare" in revived.stderr
    assert paused.stdout.startswith("Paused")
    assert "paused already" in twice.stderr
    assert "Resumed" in resumed.stdout
    assert "Cancelled" in cancelled.stdout
    states = {f"{s.planned.arm}:{s.planned.spec.seed}": s for s in store.run_states(sweep_of(store))}
    extended = states["control:1"]
    assert (extended.status, extended.granted_gpu_hours) == (RunStatus.RUNNING, 30000.0)
    assert extended.last_decision is not None
    assert extended.last_decision.reason.startswith("The sweep was cancelled by order of ")
    assert "ordered" in lab("why", "control:1", "--no-plot").stdout
    assert all(row.settled_at - row.order.at < 5.0 for row in store.orders(sweep_of(store)) if row.settled_at)


def test_the_budget_as_table_and_json(lab: Lab) -> None:
    document = json.loads(lab("report", "budget", "--json", "--price", "2").stdout)
    _documented(ALL["lab report budget"], document, document["runs"][0])
    total = document["total"]
    assert total["used_gpu_hours"] == 10 * 16000.0 + 8000.0
    assert (total["saved_gpu_hours"], document["free_gpu_hours"]) == (8000.0, 8000.0)
    assert total["held_gpu_hours"] == pytest.approx(
        sum(total[f"{part}_gpu_hours"] for part in ("used", "overhead", "lost"))
    )
    assert total["cost"] == 2.0 * total["held_gpu_hours"]
    assert document["arms"]["control"]["granted_gpu_hours"] == 48000.0
    (dapo,) = [run for run in document["runs"] if run["arm"] == "dapo_loss"]
    assert (dapo["used_gpu_hours"], dapo["saved_gpu_hours"]) == (8000.0, 8000.0)
    table = lab("report", "budget").stdout
    assert max(map(len, table.splitlines())) <= 100
    assert "control, 3 seeds" in table
    assert "cost" not in table
    assert f"{total['cost']:,.2f}" in lab("report", "budget", "--price", "2").stdout
    assert "8,000 saved" in lab("sweep", "status").stdout
