"""A search: what its YAML may say, its plan before and while it runs, and the runs of a proposal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalerl_lab.config.overrides import get
from scalerl_lab.config.problems import KeyPathError
from scalerl_lab.config.sweep import Knob
from scalerl_lab.errors import ConfigError
from scalerl_lab.plan import control_values, plan_file, rounded, run_identity, searched_runs
from tests.plan.questions import BASE, PROFILE, changed, plan_of

OVER: dict[str, dict[str, Any]] = {
    "optimizer.lr": {"low": 1e-7, "high": 1e-4, "scale": "log"},
    "loss.ratio_cap": {"low": 2, "high": 10},
    "sampling.generations_per_prompt": {"low": 8, "high": 32, "step": 8},
}


def search(**changes: Any) -> dict[str, Any]:
    return {"type": "search", "over": OVER, "arms": 24} | changes


def test_the_plan_has_the_control_and_the_bill_all_proposals() -> None:
    plan = plan_of(search(), seeds={"control": 3, "arm": 2})
    assert [run.arm for run in plan.runs] == ["control"] * 3
    assert (plan.num_arms, plan.num_runs) == (25, 3 + 48)
    assert plan.total_gpu_hours == plan.sweep_gpu_hours == 300 + 48 * 100
    assert plan.cost(2.0) == 2.0 * 5100


def test_proposing_does_not_raise_the_cap() -> None:
    plan = plan_of(search())
    proposed = replace(plan, runs=plan.runs + searched_runs(plan, 0, {"loss.ratio_cap": 3.0}))
    assert len(proposed.runs) == 4
    assert (proposed.sweep_gpu_hours, proposed.num_runs) == (plan.sweep_gpu_hours, plan.num_runs)


def test_the_runs_of_a_proposal() -> None:
    plan = plan_of(search(), seeds={"control": 3, "arm": [5, 2]})
    values = {"optimizer.lr": 3.1e-5, "sampling.generations_per_prompt": 24}
    runs = searched_runs(plan, 7, values)
    assert [(run.arm, run.spec.seed, run.order) for run in runs] == [("s007", 5, 17), ("s007", 2, 18)]
    assert runs[0].budget_gpu_hours == 100.0
    shown = {"optimizer.lr": ("5e-07", "3.1e-05"), "sampling.generations_per_prompt": ("16", "24")}
    assert changed(replace(plan, runs=plan.runs + runs), "s007") == shown
    recipe = runs[0].spec.recipe
    assert get(recipe, "optimizer.lr") == 3.1e-5
    assert runs[1].run_id == run_identity(recipe, 2, PROFILE.meter)
    written = plan_of({"type": "axis", "path": "optimizer.lr", "values": [3.1e-5]})
    alone = searched_runs(plan, 3, {"optimizer.lr": 3.1e-5})
    assert alone[1].run_id != written.runs_of(written.arms[1])[0].run_id
    same = searched_runs(plan_of(search()), 3, {"optimizer.lr": 3.1e-5})
    assert same[0].run_id == written.runs_of(written.arms[1])[0].run_id


def test_what_decides_a_search_is_in_its_id() -> None:
    plans = [
        plan_of(search()),
        plan_of(search(arms=25)),
        plan_of(search(method="gp")),
        plan_of(search(seed=1)),
        plan_of(search(), seeds={"arm": 2}),
        plan_of(search(over={"loss.ratio_cap": {"low": 2, "high": 10}})),
        plan_of(search(over={"loss.ratio_cap": {"low": 2, "high": 9}})),
    ]
    assert len({plan.sweep_id for plan in plans}) == len(plans)
    assert plan_of(search(over=dict(reversed(OVER.items())))).sweep_id == plans[0].sweep_id


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"optimizer.learning": {"low": 1, "high": 2}}, "unknown key 'learning'"),
        ({"loss.clip_low": {"low": 1, "high": 2}}, "loss is 'cispo' here"),
        ({"loss.type": {"low": 1, "high": 2}}, "a search turns numbers; loss.type is 'cispo'"),
        ({"optimizer.beta1": {"low": 0.5, "high": 1.0}}, "optimizer.beta1.high: must be less than 1"),
        ({"optimizer.warmup_steps": {"low": 0, "high": 9}}, "is a whole number: give low, high and step"),
        ({"optimizer.warmup_steps": {"low": 0, "high": 1, "step": 0.5}}, "optimizer.warmup_steps.step"),
        ({"sampling.generations_per_prompt": {"low": 1, "high": 3, "step": 1}}, "low: must be greater"),
        ({"resources.gpus": {"low": 1, "high": 3, "step": 1}}, "resources decides no result"),
        ({"loss.ratio_cap": {"low": 2, "high": 2}}, "must lie below high"),
        ({"loss.ratio_cap": {"low": 0, "high": 2, "scale": "log"}}, "scale: log needs a low above 0"),
        ({"loss.ratio_cap": {"low": 2, "high": 7, "step": 2}}, "steps of 2 from 2 miss high: 6 would be met"),
        ({"loss.ratio_cap": {"low": 2, "high": 7, "step": 6}}, "miss high"),
        ({}, "at least 1"),
    ],
)
def test_what_cannot_be_searched_is_refused(over: dict[str, Any], said: str) -> None:
    with pytest.raises(KeyPathError) as caught:
        plan_of(search(over=over))
    assert said in str(caught.value)
    assert "question" in str(caught.value)


def test_an_error_names_file_line_and_nearest_path(tmp_path: Path) -> None:
    (tmp_path / "ask.yaml").write_text(
        "name: ask\nrecipe: scalerl_tiny\nquestion:\n  type: search\n  arms: 4\n  over:\n"
        "    optimizer.lrr: {low: 1.0e-6, high: 1.0e-3, scale: log}\nbudget: {run_gpu_hours: 4000}\n"
    )
    with pytest.raises(ConfigError) as caught:
        plan_file(tmp_path / "ask.yaml", "laptop")
    assert "ask.yaml:7" in str(caught.value)
    assert "lr" in str(caught.value)


def test_a_cap_must_cover_one_run() -> None:
    with pytest.raises(KeyPathError, match="does not cover one run"):
        plan_of(search(), budget={"run_gpu_hours": 100, "sweep_gpu_hours": 50})


@settings(max_examples=200, deadline=None)
@given(st.floats(2.0, 10.0))
def test_values_are_rounded_once_and_stay_inside(value: float) -> None:
    for knob in (Knob(low=2, high=10), Knob(low=2, high=10, step=0.1), Knob(low=2, high=10, step=2)):
        found = rounded(knob, value)
        assert rounded(knob, found) == found
        assert 2 <= found <= 10
        assert abs(found - value) <= (knob.step or 1e-4) / 2 + 1e-9
        assert isinstance(found, int) is (knob.step == 2)
    assert rounded(Knob(low=2, high=10), 2.34567891) == 2.34568


def test_the_control_is_an_outcome_where_it_lies_in_the_ranges() -> None:
    assert get(BASE, "loss.ratio_cap") == 5.0
    assert control_values(plan_of(search())) == {
        "optimizer.lr": 5e-7,
        "loss.ratio_cap": 5.0,
        "sampling.generations_per_prompt": 16,
    }
    assert control_values(plan_of(search(over={"loss.ratio_cap": {"low": 6, "high": 10}}))) is None
    off = {"sampling.generations_per_prompt": {"low": 6, "high": 30, "step": 6}}
    assert control_values(plan_of(search(over=off))) is None
