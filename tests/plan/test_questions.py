"""Each kind of question gives the arms it should, or says what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from scalerl_lab.config.overrides import override
from scalerl_lab.config.problems import KeyPathError
from scalerl_lab.plan import describe
from scalerl_lab.plan.changes import short
from scalerl_lab.records import Role
from tests.plan.questions import BASE, GRPO, changed, plan_of

SAMPLE = {"set": {"aggregation": {"type": "sample"}}}


def loo(**arms: Any) -> dict[str, Any]:
    return {"type": "leave_one_out", "arms": arms}


def problem_of(question: dict[str, Any], *more_recipes: Any, **more: Any) -> str:
    with pytest.raises(KeyPathError) as error:
        plan_of(question, *more_recipes, **more)
    return str(error.value)


# ---------------------------------------------------------------- written arms


def test_written_arms_change_only_what_they_say() -> None:
    plan = plan_of(
        loo(
            sample=SAMPLE,
            dapo={"set": {"loss": {"type": "ppo_clip", "clip_high": 0.28}}},
            heads={"set": {"numerics.trainer_head": "bf16", "numerics.generator_head": "bf16"}},
        )
    )
    assert plan.arms == ("control", "dapo", "heads", "sample")
    assert plan.control == "control"
    assert changed(plan, "control") == {}
    assert changed(plan, "sample") == {"aggregation": ("prompt", "sample")}
    assert changed(plan, "dapo") == {"loss": ("cispo(ratio_cap=5)", "ppo_clip(clip_low=0.2, clip_high=0.28)")}
    assert changed(plan, "heads") == {
        "numerics.trainer_head": ("fp32", "bf16"),
        "numerics.generator_head": ("fp32", "bf16"),
    }
    assert plan.runs_of("sample")[0].spec.recipe == override(BASE, {"aggregation.type": "sample"})


def test_setting_a_type_replaces_the_whole_choice() -> None:
    plan = plan_of(loo(gspo={"set": {"loss.type": "gspo", "loss.clip_high": 0.04}}))
    assert changed(plan, "gspo") == {"loss": ("cispo(ratio_cap=5)", "gspo(clip_low=0.003, clip_high=0.04)")}


def test_controls_come_first_then_every_arm_before_any_has_two() -> None:
    plan = plan_of(loo(b=SAMPLE, a={"set": {"zero_variance": "keep"}}), seeds={"control": 3, "arm": [4, 2]})
    assert [(run.arm, run.spec.seed) for run in plan.runs] == [
        ("control", 0),
        ("control", 1),
        ("control", 2),
        ("a", 4),
        ("b", 4),
        ("a", 2),
        ("b", 2),
    ]
    assert [run.order for run in plan.runs] == list(range(7))
    assert [run.role for run in plan.runs] == [Role.CONTROL] * 3 + [Role.ARM] * 4
    assert len({run.run_id for run in plan.runs}) == 7


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        ({"x": {"set": {"los.type": "gspo"}}}, "question.arms.x.set.los.type: unknown key 'los'"),
        ({"x": {"set": {"los.type": "gspo"}}}, "did you mean 'loss'?"),
        ({"x": {"set": {"loss.clip_low": 0.1}}}, "allowed: ratio_cap, type (loss is 'cispo' here)"),
        ({"x": {"set": {"loss.type": "dapo"}}}, "question.arms.x.set.loss.type: unknown type 'dapo'"),
        ({"x": {"set": {"loss": {"type": "gspo", "clip_lw": 1.0}}}}, "x.set.loss.clip_lw: unknown key"),
        (
            {"x": {"set": {"zero_variance": "kep"}}},
            "must be one of 'drop', 'keep' or 'refill', got 'kep'; did you mean",
        ),
        (
            {"x": {"set": {"zero_variance.type": "keep"}}},
            "x.set.zero_variance.type: zero_variance is a single",
        ),
        ({"x": {"set": {"loss.ratio_cap.low": 1}}}, "loss.ratio_cap is a single value and has no keys"),
        ({"x": {"set": {"batch.prompts_per_step": 2.5}}}, "must be a whole number, got 2.5"),
        ({"x": {"set": {"batch.prompts_per_step": 4096}}}, "exceeds tasks.num_train (2048)"),
        ({"x": {"set": {"batch": 7}}}, "x.set.batch: must be a mapping of keys, got 7"),
        ({"x": {"set": {"model.type": "checkpoint"}}}, "x.set.model.type: model.path: is missing"),
        ({"x": {"set": {}}}, "question.arms.x.set: changes nothing"),
        (
            {"x": {"set": {"aggregation": {"type": "prompt"}, "zero_variance": "keep"}}},
            "x.set.aggregation: changes nothing: aggregation is prompt in the recipe already",
        ),
        ({"x": {"set": {"name": "other"}}}, "x is the same run as control (recipe); arms must differ"),
        ({"x": SAMPLE, "y": SAMPLE}, "y is the same run as x (question.arms.x); arms must differ"),
        ({"control": SAMPLE}, "'control' is the name of the untouched recipe"),
        (
            {"x": {"set": {"loss": {"type": "gspo"}, "loss.clip_low": 0.1}}},
            "loss.clip_low: overlaps with 'loss'",
        ),
        (
            {"x": {"set": {"off_policy.type": "sync", "loss.type": "ppo_clip"}}},
            "every ratio is 1, so nothing is ever clipped",
        ),
    ],
)
def test_a_bad_arm_is_refused(arms: dict[str, Any], says: str) -> None:
    assert says in problem_of(loo(**arms))


def test_all_bad_arms_are_listed() -> None:
    text = problem_of(loo(a={"set": {"los": 1}}, b={"set": {"batsh": 1}}, c=SAMPLE))
    assert [line.split(":")[0] for line in text.splitlines()] == [
        "question.arms.a.set.los",
        "question.arms.b.set.batsh",
    ]


def test_an_unknown_recipe_names_the_key_path() -> None:
    assert problem_of(loo(a=SAMPLE), recipe="bas") == "recipe: no recipe 'bas'"


# ---------------------------------------------------------------- derived arms


def test_leave_one_out_from_a_baseline_reverts_each_choice_alone() -> None:
    plan = plan_of({"type": "leave_one_out", "baseline": "grpo"})
    assert plan.arms == ("control", "loss_ppo_clip", "aggregation_sample", "numerics")
    assert changed(plan, "loss_ppo_clip") == {
        "loss": ("cispo(ratio_cap=5)", "ppo_clip(clip_low=0.2, clip_high=0.26)")
    }
    assert changed(plan, "numerics") == {"numerics.trainer_head": ("fp32", "bf16")}
    for run in plan.runs:
        assert run.spec.recipe.model == BASE.model, "the model is no choice"
        assert run.spec.recipe.evaluation == BASE.evaluation


def test_add_one_is_the_mirror_image() -> None:
    out = plan_of({"type": "leave_one_out", "baseline": "grpo"})
    add = plan_of({"type": "add_one", "target": "base"}, recipe="grpo")
    assert add.arms == ("control", "loss_cispo", "aggregation_prompt", "numerics")
    for left, right in zip(out.arms[1:], add.arms[1:], strict=True):
        assert changed(out, left) == {path: pair[::-1] for path, pair in changed(add, right).items()}


def test_derived_literal_choices_are_named_by_their_value() -> None:
    keeps = override(BASE, {"zero_variance": "keep", "name": "keeps"})
    plan = plan_of({"type": "leave_one_out", "baseline": "keeps"}, keeps)
    assert plan.arms == ("control", "zero_variance_keep")


def test_a_baseline_that_does_not_differ_is_refused() -> None:
    same = override(BASE, {"name": "same", "model.width": 32})
    text = problem_of({"type": "leave_one_out", "baseline": "same"}, same)
    assert text.startswith("question.baseline: 'same' differs from 'base' in no choice (sampling, batch,")


def test_a_derived_arm_that_is_impossible_is_named() -> None:
    clipped = override(BASE, {"loss": {"type": "ppo_clip"}, "name": "clipped"})
    synced = override(BASE, {"off_policy": {"type": "sync"}, "name": "synced"})
    text = problem_of({"type": "add_one", "target": "synced"}, clipped, synced, recipe="clipped")
    assert text.startswith("question.target: arm off_policy_sync: loss.type=ppo_clip with fp32 heads")


# ---------------------------------------------------------------- axis and grid


def axis(path: str, **more: Any) -> dict[str, Any]:
    return {"type": "axis", "path": path, **more}


GENERATIONS = "sampling.generations_per_prompt"
PROMPTS = "batch.prompts_per_step"


def test_the_point_that_equals_the_recipe_is_the_control() -> None:
    plan = plan_of(axis(PROMPTS, values=[32, 48, 96], run_gpu_hours=[50, 60, 70]))
    assert plan.arms == ("prompts_per_step=48", "prompts_per_step=32", "prompts_per_step=96")
    assert plan.control == "prompts_per_step=48"
    assert {run.arm: run.budget_gpu_hours for run in plan.runs} == {
        "prompts_per_step=32": 50.0,
        "prompts_per_step=48": 60.0,
        "prompts_per_step=96": 70.0,
    }
    assert changed(plan, "prompts_per_step=96") == {PROMPTS: ("48", "96")}


def test_without_such_a_point_the_untouched_recipe_joins() -> None:
    plan = plan_of(axis(PROMPTS, values=[32], run_gpu_hours=[50]))
    assert plan.arms == ("control", "prompts_per_step=32")
    assert [run.budget_gpu_hours for run in plan.runs] == [100.0, 100.0, 100.0, 50.0]


def test_factors_are_rounded_where_the_field_is_whole() -> None:
    plan = plan_of(axis(PROMPTS, factors=[0.6667, 1, 2.6667], names=["small", "own", "large"]))
    assert plan.arms == ("own", "small", "large")
    values = {run.arm: run.spec.recipe.batch.prompts_per_step for run in plan.runs}
    assert values == {"own": 48, "small": 32, "large": 128}
    rates = plan_of(axis("optimizer.lr", factors=[0.5, 1]))
    assert changed(rates, "lr=2.5e-07") == {"optimizer.lr": ("5e-07", "2.5e-07")}


def test_a_held_product_keeps_the_completions() -> None:
    coupled = [{"path": PROMPTS, "hold": "product"}]
    plan = plan_of(axis(GENERATIONS, values=[8, 16, 24, 32], coupled=coupled))
    pairs = [
        (run.spec.recipe.sampling.generations_per_prompt, run.spec.recipe.batch.prompts_per_step)
        for run in plan.runs
        if run.spec.seed == 0
    ]
    assert pairs == [(16, 48), (8, 96), (24, 32), (32, 24)]
    assert {generations * prompts for generations, prompts in pairs} == {768}


def test_a_held_ratio_and_spelled_out_values() -> None:
    coupled = [{"path": "model.mlp_width", "hold": "ratio"}, {"path": "optimizer.lr", "values": [3e-7, 1e-7]}]
    plan = plan_of(axis("model.width", values=[32, 128], coupled=coupled))
    assert changed(plan, "width=128") == {
        "model.width": ("64", "128"),
        "model.mlp_width": ("256", "512"),
        "optimizer.lr": ("5e-07", "1e-07"),
    }
    assert changed(plan, "width=32")["model.mlp_width"] == ("256", "128")


def test_a_held_product_of_a_real_field_need_not_be_whole() -> None:
    plan = plan_of(axis(PROMPTS, values=[36], coupled=[{"path": "optimizer.lr", "hold": "product"}]))
    assert plan.runs[-1].spec.recipe.optimizer.lr == pytest.approx(5e-7 * 48 / 36, rel=1e-12)


def test_points_that_are_whole_choices_are_named_by_what_varies() -> None:
    values = [{"type": "gspo"}, {"type": "cispo"}, {"type": "cispo", "ratio_cap": 4}]
    plan = plan_of(axis("loss", values=values))
    assert plan.arms == ("loss=cispo", "loss=gspo", "loss=cispo,4")


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (axis("batch.prompt_per_step", values=[1]), "question.path: batch.prompt_per_step: unknown key"),
        (axis("batch.prompt_per_step", values=[1]), "did you mean 'prompts_per_step'?"),
        (axis(PROMPTS, values=["many"]), f"question.values[0].{PROMPTS}: must be a whole number, got 'many'"),
        (axis(PROMPTS, factors=[1, 1.001]), "is the same run as prompts_per_step=48 (question.factors[0])"),
        (axis(PROMPTS, values=[8, 9], names=["a", "a"]), "two arms are called 'a'"),
        (
            axis("loss", factors=[2]),
            "question.factors[0]: needs a number to multiply, got 'cispo(ratio_cap=5)'",
        ),
        (
            axis(GENERATIONS, values=[10], coupled=[{"path": PROMPTS, "hold": "product"}]),
            "coupled[0]: holding the product would make batch.prompts_per_step 76.8 at 10, not a whole",
        ),
        (
            axis(GENERATIONS, values=[8], coupled=[{"path": "batch.x", "hold": "product"}]),
            "question.coupled[0].path: batch.x: unknown key 'x'; allowed: epochs, mini_batches, prompts_per",
        ),
        (
            axis("optimizer.warmup_steps", values=[0], coupled=[{"path": PROMPTS, "hold": "product"}]),
            "question.coupled[0]: cannot hold a product or ratio with 0",
        ),
        (axis("loss.ratio_cap.low", values=[0]), "loss.ratio_cap is a single value and has no keys"),
        (
            {"type": "grid", "axes": {"loss.kind": ["gspo"]}},
            "question.axes.loss.kind: loss.kind: unknown key 'kind'; allowed: ratio_cap, type",
        ),
        ({"type": "grid", "axes": {"loss.type": ["gpso"]}}, "question.axes.loss.type: unknown type 'gpso'"),
    ],
)
def test_a_bad_axis_is_refused(question: dict[str, Any], says: str) -> None:
    assert says in problem_of(question)


def test_all_bad_points_are_listed() -> None:
    text = problem_of(axis(GENERATIONS, values=[1, 16, 0]))
    assert [line.split(":")[0] for line in text.splitlines()] == [
        f"question.values[0].{GENERATIONS}",
        f"question.values[2].{GENERATIONS}",
    ]


def test_a_grid_is_the_product_and_has_its_control() -> None:
    axes = {"loss.type": ["gspo", "cispo"], "advantage.type": ["batch", "none"]}
    plan = plan_of({"type": "grid", "axes": axes})
    assert plan.arms == (
        "advantage=batch,loss=cispo",
        "advantage=batch,loss=gspo",
        "advantage=none,loss=gspo",
        "advantage=none,loss=cispo",
    )
    assert changed(plan, "advantage=none,loss=gspo").keys() == {"loss", "advantage"}


# ---------------------------------------------------------------- compare


def test_compare_takes_the_first_recipe_as_control() -> None:
    plan = plan_of({"type": "compare", "recipes": ["grpo", "base"]}, recipe="grpo")
    assert plan.arms == ("grpo", "base")
    assert plan.runs_of("grpo")[0].role is Role.CONTROL
    assert changed(plan, "base") == {
        "model.width": ("32", "64"),
        "loss": ("ppo_clip(clip_low=0.2, clip_high=0.26)", "cispo(ratio_cap=5)"),
        "aggregation": ("sample", "prompt"),
        "numerics.trainer_head": ("bf16", "fp32"),
        "evaluation.every_steps": ("7", "100"),
    }


def test_comparing_a_recipe_with_its_copy_is_refused() -> None:
    copy = override(BASE, {"name": "copy", "about": "prose decides nothing"})
    text = problem_of({"type": "compare", "recipes": ["base", "copy"]}, copy)
    assert text == "question.recipes[1]: copy is the same run as base (question.recipes[0]); arms must differ"


# ---------------------------------------------------------------- the bill


def test_the_bill_adds_up_by_hand() -> None:
    arms = {"a": {"about": "keeps all", "set": {"zero_variance": "keep"}}, "b": SAMPLE}
    plan = plan_of(loo(**arms), seeds={"control": 3, "arm": 2}, price_per_gpu_hour=1.5)
    assert plan.total_gpu_hours == 700.0  # (3 + 2 + 2) runs of 100
    assert plan.sweep_gpu_hours == 700.0
    assert plan.cost(2.0) == 1400.0
    rows = describe(plan)
    assert [(row.arm, row.num_runs, row.seeds, row.gpu_hours, row.money) for row in rows] == [
        ("control", 3, (0, 1, 2), 300.0, 450.0),
        ("a", 2, (0, 1), 200.0, 300.0),
        ("b", 2, (0, 1), 200.0, 300.0),
    ]
    assert [row.about for row in rows] == ["", "keeps all", ""]
    assert rows[1].changes == plan.runs_of("a")[0].changes
    assert rows[1].run_ids == tuple(run.run_id for run in plan.runs_of("a"))
    assert [row.money for row in describe(plan, price_per_gpu_hour=3.0)] == [900.0, 600.0, 600.0]


def test_without_a_price_there_is_no_money() -> None:
    assert [row.money for row in describe(plan_of(axis(PROMPTS, values=[8])))] == [None, None]


def test_a_cap_bounds_the_bill() -> None:
    plan = plan_of(loo(a=SAMPLE), budget={"run_gpu_hours": 100, "sweep_gpu_hours": 250})
    assert (plan.total_gpu_hours, plan.sweep_gpu_hours, plan.cost(2.0)) == (400.0, 250.0, 500.0)


def test_a_budget_must_reach_the_fits_and_fit_into_the_cap() -> None:
    question = axis(PROMPTS, values=[8, 9], run_gpu_hours=[10, 300])
    text = problem_of(question, budget={"run_gpu_hours": 100, "sweep_gpu_hours": 200})
    assert text.splitlines() == [
        "fit_start_gpu_hours: 10 leaves no point to fit: prompts_per_step=8 ends at 10 GPU-hours",
        "budget.sweep_gpu_hours: 200 does not cover one run of prompts_per_step=9 (300 GPU-hours)",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["+", "-"], "+ -"),
        (0.1 + 0.2, "0.3"),
        (1e-15, "1e-15"),
        (True, "True"),
        ("x" * 40, "x" * 40),
        ("x" * 41, "x" * 37 + "..."),
        ({"type": "none"}, "none"),
        ({"a": 1, "type": "t", "b": [2]}, "t(a=1, b=2)"),
    ],
)
def test_values_are_shown_on_one_line(value: Any, text: str) -> None:
    assert short(value) == text


def test_grpo_differs_from_base_as_these_tests_assume() -> None:
    assert GRPO.loss.type == "ppo_clip"
    assert GRPO.advantage == BASE.advantage
