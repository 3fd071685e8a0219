"""The list of a sweep's decisions: what is on it, what it comes to, and what is said where it is empty."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from scalerl_lab.errors import NotFound, UserError
from scalerl_lab.plan import plan_file
from scalerl_lab.records import Order, OrderKind, RunStatus
from scalerl_lab.report.ceilings import Ceilings
from scalerl_lab.report.decisions import RUN_WIDTH, decision_list, decisions_json, decisions_table
from scalerl_lab.report.page_parts import decisions
from scalerl_lab.report.why import why_text
from scalerl_lab.store import Store
from tests.report.simulate import Sim
from tests.report.stored import fill

FILTERS: tuple[dict[str, Any], ...] = (
    {"run": "bf16_head:0"},
    {"action": "kill"},
    {"every": True, "run": "bf16_head:0"},
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, sim: Sim) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path_factory.mktemp('lab') / 'lab.db'}")
    fill(opened, sim)
    yield opened
    opened.close()


def printed(*pieces: object) -> str:
    out = io.StringIO()
    console = Console(file=out, width=100, highlight=False)
    for piece in pieces:
        console.print(piece)
    return out.getvalue()


def test_what_changed_something_in_the_order_of_time(store: Store, sim: Sim) -> None:
    found = decision_list(store, sim.plan.sweep_id)
    actions = [row.effect.row.decision.action.value for row in found.rows]
    # Three seeds of the control and five arms finish, three arms are killed, one is extended.
    assert sorted(actions) == ["extend"] + ["finish"] * 8 + ["kill"] * 3
    times = [(row.effect.row.at, row.effect.row.decision_id) for row in found.rows]
    assert times == sorted(times)
    everything = decision_list(store, sim.plan.sweep_id, every=True)
    assert len(everything.rows) == found.num_recorded == len(sim.decisions)


def test_its_hours_are_those_of_the_ledger(store: Store, sim: Sim, found: Ceilings) -> None:
    listed = decision_list(store, sim.plan.sweep_id)
    # Killed at 8,800, 7,200 and 5,600 of 16,000 each.
    assert listed.saved_gpu_hours == found.totals.saved == 26_400.0
    assert listed.given_gpu_hours == found.totals.extended == 2400.0
    assert listed.saved_gpu_hours == store.budget(sim.plan.sweep_id).total.saved


def test_the_table_fits_and_names_every_run(store: Store, sim: Sim) -> None:
    text = printed(*decisions_table(decision_list(store, sim.plan.sweep_id)))
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    (kill,) = [line.split() for line in text.splitlines() if "dapo_loss:0" in line]
    assert kill[2:] == ["dapo_loss:0", "7,200", "kill", "ceiling", "below", kill[7], "8,800", "saved"]
    assert float(kill[7]) > 0.9
    (extended,) = [line for line in text.splitlines() if "extend" in line]
    assert extended.rstrip().endswith("2,400 given")
    assert "12 of 68 decisions on record" in text
    assert "GPU-hours: 26,400 saved, 2,400 given beyond the budgets." in text


def test_filters(store: Store, sim: Sim) -> None:
    sweep_id = sim.plan.sweep_id
    assert len(decision_list(store, sweep_id, action="kill").rows) == 3
    (one,) = decision_list(store, sweep_id, run="bf16_head:0").rows
    assert one.state.planned.arm == "bf16_head"
    going_on = decision_list(store, sweep_id, run="bf16_head:0", action="continue").rows
    assert len(going_on) == 3
    with pytest.raises(NotFound, match="'bf16_head:0'"):
        decision_list(store, sweep_id, run="bf16_heat:0")
    with pytest.raises(
        UserError, match=r"no action 'extended'; the nearest is 'extend'; allowed: continue, "
    ):
        decision_list(store, sweep_id, action="extended")
    nothing = printed(*decisions_table(decision_list(store, sweep_id, run="bf16_head:0", action="extend")))
    assert "none of its 68 decisions on record is of that kind." in nothing
    assert "--all" not in nothing


def test_all_are_offered_only_where_they_are_not_shown(store: Store, sim: Sim) -> None:
    sweep_id = sim.plan.sweep_id
    assert "--all shows those" in printed(*decisions_table(decision_list(store, sweep_id)))
    every = printed(*decisions_table(decision_list(store, sweep_id, every=True)))
    assert "68 of 68 decisions on record." in every
    for given in FILTERS:
        assert "--all" not in printed(*decisions_table(decision_list(store, sweep_id, **given)))


def test_the_page_lists_the_same_decisions(store: Store, sim: Sim) -> None:
    found = decision_list(store, sim.plan.sweep_id)
    note, listed = (str(part) for part in decisions(sim.view()))
    assert f"{len(found.rows)} of them listed here" in note
    assert listed.count("<li>") == len(found.rows) == 12


def test_arms_of_an_axis_stay_apart_in_few_columns(store: Store, sim: Sim) -> None:
    found = decision_list(store, sim.plan.sweep_id, action="kill")
    long = [
        replace(row, state=replace(row.state, planned=replace(row.state.planned, arm=arm)))
        for row, arm in zip(
            found.rows, ("max_response_tokens_long=9", "max_response_tokens_long=17"), strict=False
        )
    ]
    lines = printed(*decisions_table(replace(found, rows=tuple(long)))).splitlines()
    labels = [line.split()[2] for line in lines if "…" in line]
    assert [label[-5:] for label in labels] == ["g=9:0", "=17:0"]
    assert {len(label) for label in labels} == {RUN_WIDTH}


def test_json_says_what_the_table_says(store: Store, sim: Sim) -> None:
    found = decision_list(store, sim.plan.sweep_id)
    document = decisions_json(found)
    assert [row["action"] for row in document["decisions"]] == [
        row.effect.row.decision.action.value for row in found.rows
    ]
    assert sum(row["saved_gpu_hours"] for row in document["decisions"]) == document["saved_gpu_hours"]
    assert {row["by"] for row in document["decisions"]} == {"rule"}


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Store]:
    """A sweep that was planned and not started."""
    opened = Store.open(f"sqlite:///{tmp_path / 'lab.db'}")
    opened.record_plan(plan_file("loo_16k", "laptop"))
    yield opened
    opened.close()


def test_a_sweep_that_has_not_started(bare: Store) -> None:
    (sweep,) = bare.sweeps()
    text = " ".join(printed(*decisions_table(decision_list(bare, sweep.sweep_id))).split())
    assert text == (
        f"Sweep {sweep.sweep_id}: nothing has been decided yet, none of its 11 runs has started. "
        "Start them with: lab sweep run loo_16k"
    )
    told = " ".join(printed(*why_text(bare, "dapo_loss:0", None)).split())
    assert "Nothing has been decided on it yet: it has not started." in told
    run_id = bare.plan(sweep.sweep_id).runs[0].run_id
    bare.set_status(sweep.sweep_id, run_id, RunStatus.RUNNING)
    text = " ".join(printed(*decisions_table(decision_list(bare, sweep.sweep_id))).split())
    assert "1 of 11 runs started, and the first decision on a run follows its first point." in text
    told = " ".join(printed(*why_text(bare, run_id, None)).split())
    assert "the first decision follows its first point" in told


def test_orders_are_told_with_who_and_why(bare: Store) -> None:
    (sweep,) = bare.sweeps()
    run = next(run for run in bare.plan(sweep.sweep_id).runs if run.arm == "dapo_loss")
    at = 1_790_000_000.0
    for given in (
        Order(sweep.sweep_id, run.run_id, OrderKind.PIN, None, "ada@lab", "I want to see its end.", at),
        Order(sweep.sweep_id, None, OrderKind.PAUSE, None, "bob@lab", "The cluster is needed.", at + 60.0),
    ):
        bare.record_order(given)
    text = " ".join(printed(*decisions_table(decision_list(bare, sweep.sweep_id))).split())
    assert "09-21 14:13:20, dapo_loss:0, pin: ordered. By ada@lab: I want to see its end." in text
    assert "09-21 14:14:20, pause of the whole sweep: ordered. By bob@lab: The cluster is needed." in text
    told = " ".join(printed(*why_text(bare, "dapo_loss:0", None)).split())
    assert "pin: ordered By ada@lab" in told
    assert "pause of the whole sweep: ordered By bob@lab" in told
    other = " ".join(printed(*why_text(bare, "bf16_head:0", None)).split())
    assert "pin" not in other
    assert "pause of the whole sweep" in other
