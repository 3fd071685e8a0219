"""A tiny sweep that asks for everything: trained, killed, resumed, recorded, and told by both reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from scalerl_lab.cli import lab
from scalerl_lab.launch.run_folder import Orders, RunFolder, fact_key
from scalerl_lab.launch.worker import execute
from scalerl_lab.plan import SweepPlan, plan_file
from scalerl_lab.records import EvalPoint, Measurement, PassCounts, PlannedRun
from scalerl_lab.store import Store
from tests.rl.tiny import Killed, tiny_recipe

EVALUATION = {
    "every_steps": 3,
    "num_prompts": 16,
    "samples_per_prompt": 4,
    "downstream": {"every_steps": 3, "samples_per_prompt": 4, "max_response_tokens": 20},
    "boundary": {"every_steps": 3, "num_prompts": 16, "samples_per_prompt": 16, "max_k": 16},
    "ngram_overlap": {"every_steps": 3, "min_length": 2, "max_length": 4},
}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> SweepPlan:
    """A control and two arms, from files."""
    folder = tmp_path_factory.mktemp("sweep")
    recipe = tiny_recipe().model_dump(mode="json") | {"evaluation": EVALUATION}
    recipe["tasks"]["downstream"] = {
        "longer": {"min_steps": 7, "max_steps": 8, "num_prompts": 12},
        "same": {"min_steps": 1, "max_steps": 6, "num_prompts": 12},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    sweep = {
        "name": "measured",
        "recipe": "tiny",
        "question": {
            "type": "leave_one_out",
            "arms": {
                "slow": {"set": {"optimizer.lr": 1e-5}},
                "sample_average": {"set": {"aggregation": {"type": "sample"}}},
            },
        },
        "seeds": {"control": 1, "arm": 1},
        "budget": {"run_gpu_hours": 0.9},
        "fit_start_gpu_hours": 0.0,
    }
    (folder / "measured.yaml").write_text(yaml.safe_dump(sweep), encoding="utf-8")
    return plan_file(folder / "measured.yaml", "laptop")


def die_at(step: int) -> Callable[[EvalPoint], None]:
    """Dies between a point and what was measured beside it."""

    def on_point(point: EvalPoint) -> None:
        if point.step == step:
            raise Killed

    return on_point


def train(run: PlannedRun, root: Path, kills: tuple[int, ...] = ()) -> RunFolder:
    """All of a run's trials, each but the last killed."""
    folder = RunFolder(root / run.run_id)
    folder.create(run.spec)
    folder.write_orders(Orders(run.budget_gpu_hours))
    for trial, step in enumerate(kills, 1):
        with pytest.raises(Killed):
            execute(folder.path, root / "cache", trial, code_version="test", on_point=die_at(step))
    execute(folder.path, root / "cache", len(kills) + 1, code_version="test")
    return folder


def beside(folder: RunFolder) -> dict[tuple[object, ...], float | tuple[int, ...]]:
    """Values of all that was measured, by name and step; nothing may stand twice in the file."""
    told = [f for f in folder.read_facts() if isinstance(f, Measurement | PassCounts)]
    found = {fact_key(f): f.value if isinstance(f, Measurement) else f.passed for f in told}
    assert len(found) == len(told)
    return found


@pytest.mark.timeout(900)
def test_a_sweep_tells_of_its_boundary_its_transfer_and_its_novelty(plan: SweepPlan, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    store = Store.open(f"sqlite:///{home / 'lab.db'}")
    store.record_plan(plan)
    for run in plan.runs:
        store.ingest(run.run_id, 0, train(run, tmp_path / "runs").read_facts())
    control = plan.runs[0]
    broken = train(control, tmp_path / "broken", kills=(3, 6))
    assert beside(broken) == beside(RunFolder(tmp_path / "runs" / control.run_id))
    steps = sorted({fact.step for fact in broken.read_facts() if isinstance(fact, PassCounts)})
    assert len(steps) >= 3
    told = store.measurements([control.run_id])[control.run_id]
    assert len(told) == sum(key[0] == "Measurement" for key in beside(broken))
    store.close()

    def document(*arguments: str) -> dict[str, list[dict[str, object]]]:
        env = {"LAB_HOME": str(home), "LAB_DATABASE_URL": ""}
        text = CliRunner().invoke(lab, ["report", *arguments], env=env, catch_exceptions=False)
        assert text.exit_code == 0
        assert "control:0" in text.output
        shown = CliRunner().invoke(lab, ["report", *arguments, "--json"], env=env, catch_exceptions=False)
        found: dict[str, list[dict[str, object]]] = json.loads(shown.output)
        return found

    boundary = document("boundary", "measured")
    assert [row["problems"] for row in boundary["rows"][:4]] == ["heldout", "longer", "same", "overall"]
    assert len(boundary["rows"]) == 3 * 4
    assert [row["label"] for row in boundary["novelty"]] == ["control:0", "sample_average:0", "slow:0"]
    assert boundary["unmeasured"] == []
    one = document("boundary", "control:0")
    assert one["rows"] == boundary["rows"][:4]
    transfer = document("transfer")
    assert [list(row["downstream"]) for row in transfer["runs"]] == [["longer", "same", "mean of sets"]] * 3
    assert [each["num_arms"] for each in transfer["agreements"]] == [3, 3, 3]
    # The points of the report are those of the curve.
    last = {row["arm"]: row["to_step"] for row in transfer["runs"]}
    assert last["control"] == steps[-1]
