"""Reports over a real store say what they say over the records."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from scalerl_lab.errors import NotFound
from scalerl_lab.records import Measurement, PassCounts
from scalerl_lab.report.ceilings import Ceilings, ceilings
from scalerl_lab.report.status import status_json, status_table, sweeps_json, sweeps_table
from scalerl_lab.report.view import view
from scalerl_lab.report.why import evidence_lines, why_json, why_text
from scalerl_lab.store import Store
from tests.report.simulate import Sim
from tests.report.stored import fill


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, sim: Sim) -> Iterator[Store]:
    path: Path = tmp_path_factory.mktemp("lab") / "lab.db"
    opened = Store.open(f"sqlite:///{path}")
    fill(opened, sim)
    yield opened
    opened.close()


def printed(*renderables: object) -> str:
    out = io.StringIO()
    console = Console(file=out, width=100, highlight=False)
    for renderable in renderables:
        console.print(renderable)
    return out.getvalue()


def test_the_table_of_arms_survives_the_store(store: Store, sim: Sim, found: Ceilings) -> None:
    assert ceilings(view(store, sim.plan.sweep_id)) == found


def test_what_was_measured_beside_the_points_comes_with_the_view(tmp_path: Path, sim: Sim) -> None:
    opened = Store.open(f"sqlite:///{tmp_path / 'lab.db'}")
    fill(opened, sim)
    run_id = sim.states[1].planned.run_id
    passed = PassCounts(1, 0.0, 20, 800.0, "heldout", "", 4, 4, (0, 3, 4))
    rate = Measurement(1, 0.0, 20, 800.0, "longer", "", "pass_rate", 0.25, 0.01, 8, 32)
    opened.ingest(run_id, opened.ingested_lines(run_id), [passed, rate])
    seen = {run.run_id: run for run in view(opened, sim.plan.sweep_id).runs}
    opened.close()
    assert (seen[run_id].counts, seen[run_id].measured) == ((passed,), (rate,))
    assert not any(run.counts or run.measured for key, run in seen.items() if key != run_id)


def test_status(store: Store, sim: Sim) -> None:
    sweep_id = sim.plan.sweep_id
    text = printed(status_table(store, sweep_id))
    assert "Ceilings are as fitted at each run's last verdict;" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100
    assert "kill: ceiling below" in text
    assert "1 lab GPU-hour = 1.4e8" in text
    document = status_json(store, sweep_id)
    by_label = {f"{run['arm']}:{run['seed']}": run for run in document["runs"]}
    killed = by_label["dapo_loss:0"]
    assert (killed["status"], killed["gpu_hours"], killed["num_points"]) == ("killed", 7200.0, 10)
    assert killed["last_decision"]["cause"] == "ceiling_below"
    assert by_label["sample_average:0"]["granted_gpu_hours"] == 18400.0
    assert document["used_gpu_hours"] == sum(run["gpu_hours"] for run in document["runs"])


def test_the_list_of_sweeps(store: Store, sim: Sim) -> None:
    (row,) = sweeps_json(store.sweeps())
    assert row["sweep_id"] == sim.plan.sweep_id
    assert row["statuses"] == {"planned": 0, "running": 0, "finished": 8, "killed": 3, "failed": 0}
    assert "8 finished, 3 killed" in printed(sweeps_table(store.sweeps()))


def test_why_tells_every_decision_with_what_it_rests_on(store: Store, sim: Sim) -> None:
    text = " ".join(printed(*why_text(store, "dapo_loss:0", None, every=True)).split())
    run_id = next(s.planned.run_id for s in sim.states if s.planned.arm == "dapo_loss")
    rows = [d for d in sim.decisions if d.decision.run_id == run_id]
    for row in rows:
        assert row.decision.reason in text
        for line in evidence_lines(row.decision.evidence, sim.plan.sweep.rule):
            assert line in text
    assert f"run {run_id} of sweep {sim.plan.sweep_id}: killed, 7,200 of 16,000 GPU-hours used" in text
    (case,) = why_json(store, run_id[:6], sim.plan.sweep.name)
    assert [d["action"] for d in case["decisions"]] == [d.decision.action.value for d in rows]
    assert case["decisions"][-1]["evidence"]["difference"]["median"] == (
        rows[-1].decision.evidence.difference.median  # type: ignore[union-attr]
    )


def test_unknown_names_name_the_nearest(store: Store) -> None:
    with pytest.raises(NotFound, match="dapo_loss:0"):
        why_text(store, "dapo_los:0", None)
    with pytest.raises(NotFound, match="loo_16k"):
        why_text(store, "dapo_loss:0", "loo_61k")
