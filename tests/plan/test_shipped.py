"""The sweeps that ship expand under both profiles, into what the golden files say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalerl_lab.config.reading import available, read_recipe, shipped
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.errors import ConfigError, NotFound, UserError
from scalerl_lab.plan import SweepPlan, describe, plan_file
from tests.golden.check import check

SWEEPS = (
    "add_one_to_grpo",
    "axis_batch",
    "axis_context",
    "axis_generations",
    "axis_model",
    "clip_bounds",
    "fp32_head",
    "loo_16k",
    "loo_from_grpo",
    "loo_prorl_v1",
    "loo_prorl_v2",
    "loss_type",
    "math_code",
    "off_policy",
    "recipes_16k",
    "schedules",
)


def as_text(plan: SweepPlan, ids: bool) -> str:
    """A plan as lines; ids only where the recipe is not one that is still tuned to a machine."""
    lines = [plan.sweep_id if ids else plan.sweep.name, f"profile {plan.profile.name}"]
    lines += [f"stands in: {plan.stand_in}"] if plan.stand_in else []
    for row in describe(plan, price_per_gpu_hour=2.0):
        seeds = " ".join(map(str, row.seeds))
        lines.append(f"{row.role} {row.arm}: seeds {seeds}, {row.gpu_hours:g} GPU-hours, {row.money:g}")
        lines += [f"    {change.path}: {change.before} -> {change.after}" for change in row.changes]
        lines += [f"    {run_id}" for run_id in row.run_ids] if ids else []
    lines.append(f"{len(plan.runs)} runs, {plan.total_gpu_hours:g} GPU-hours, cap {plan.sweep_gpu_hours:g}")
    return "\n".join(lines) + "\n"


def test_these_are_all() -> None:
    assert available("sweep") == SWEEPS


@pytest.mark.parametrize("profile", ["laptop", "cluster"])
@pytest.mark.parametrize("sweep", SWEEPS)
def test_shipped_sweeps_expand_as_the_golden_files_say(sweep: str, profile: str) -> None:
    text = as_text(plan_file(sweep, profile), ids=profile == "cluster")
    check(f"{sweep}.{profile}.txt", text, "tests/plan/test_shipped.py")


def test_the_leave_one_out_study_asks_the_papers_eight_questions_at_both_scales() -> None:
    plans = [plan_file("loo_16k", profile) for profile in ("laptop", "cluster")]
    choices = [
        {run.arm: {change.path.split(".")[0] for change in run.changes} for run in plan.runs}
        for plan in plans
    ]
    assert choices[0] == choices[1]
    assert choices[0] == {
        "control": set(),
        "ppo_off_policy_8": {"off_policy"},
        "dapo_loss": {"loss"},
        "bf16_head": {"numerics"},
        "sample_average": {"aggregation"},
        "group_advantage": {"advantage"},
        "keep_zero_variance": {"zero_variance"},
        "uniform_sampling": {"curriculum"},
        "length_penalty": {"length_control"},
    }
    for plan in plans:
        assert [run.spec.seed for run in plan.runs_of("control")] == [0, 1, 2]
        assert plan.total_gpu_hours == 11 * 16_000


def test_the_8b_recipe_has_the_papers_numbers() -> None:
    recipe = read_recipe("scalerl_8b")
    completions = recipe.batch.prompts_per_step * recipe.sampling.generations_per_prompt
    assert completions == 768
    assert recipe.sampling.max_response_tokens == 12_288 + 2_048
    assert (recipe.resources.generator_gpus, recipe.resources.trainer_gpus) == (64, 16)
    assert (recipe.optimizer.lr, recipe.optimizer.warmup_steps, recipe.optimizer.eps) == (5e-7, 100, 1e-15)
    assert recipe.evaluation.every_steps == 100
    assert recipe.evaluation.num_prompts * recipe.evaluation.samples_per_prompt == 16_000
    assert recipe.length_control.type == "interruption"
    low = recipe.length_control.low_fraction * recipe.sampling.max_response_tokens
    high = recipe.length_control.high_fraction * recipe.sampling.max_response_tokens
    assert (round(low, -2), round(high, -2)) == (10_200, 12_300)


BIG = [name for name in available("recipe") if read_recipe(name).stands_in]


STAND_IN_DIFFERS = {"scalerl_math_code": {"curriculum", "length_control"}}
"""What the two tiny domains cannot have: their recipe says why."""


@pytest.mark.parametrize("name", BIG)
def test_the_tiny_recipes_make_the_same_choices(name: str) -> None:
    big = read_recipe(name)
    assert list(big.stands_in) == ["laptop"]
    tiny = read_recipe(big.stands_in["laptop"])
    differs = {
        choice
        for choice in (
            "off_policy", "loss", "aggregation", "advantage", "length_control", "curriculum", "length_reward",
            "truncated", "early_truncation", "kl", "mismatch_weight",
        )
        if getattr(big, choice).type != getattr(tiny, choice).type
    }  # fmt: skip
    assert differs == STAND_IN_DIFFERS.get(name, set())
    for choice in ("zero_variance", "refill", "filter_on", "reward", "numerics", "anchor"):
        assert getattr(big, choice) == getattr(tiny, choice), choice
    assert big.kl == tiny.kl
    assert big.mismatch_weight == tiny.mismatch_weight
    assert big.batch.steps_per_rollout == tiny.batch.steps_per_rollout
    for trigger in ("every_steps", "kl_above", "stalled_points"):
        assert (getattr(big.reference, trigger) is None) == (getattr(tiny.reference, trigger) is None), (
            trigger
        )
    assert big.reference.reset_optimizer == tiny.reference.reset_optimizer


LAPTOP_ONLY = {"scalerl_tiny_measured", "two_domains_tiny"}
"""Recipes that show what can be measured, and stand in for none."""


def test_every_recipe_has_a_stand_in_or_is_one() -> None:
    tiny = {read_recipe(name).stands_in["laptop"] for name in BIG}
    assert {*BIG, *tiny, *LAPTOP_ONLY} == set(available("recipe"))
    assert {
        "scalerl", "scalerl_8b", "grpo_8b", "deepseek_r1_grpo", "qwen25_dapo", "magistral", "minimax_m1",
        "prorl_v1", "prorl_v2", "dr_grpo", "rloo", "reinforce_pp",
    } <= set(BIG)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "completions", "prompts_per_rollout", "steps"),
    [
        ("deepseek_r1_grpo_published", 512, 512, 16),    # 8,192 outputs in 16 mini-batches
        ("qwen25_dapo_published", 512, 512, 16),
        ("prorl_v1", 1024, 256, 4),                      # 256 prompts, mini-batch of 64
        ("prorl_v2", 1024, 512, 8),
        ("dr_grpo", 128, 128, 8),
        ("reinforce_pp", 128, 512, 8),                   # 1,024 completions, train_batch_size of 128
        ("reinforce_pp_baseline", 1024, 128, 1),
        ("magistral_published", 4096, 512, 2),
    ],
)  # fmt: skip
def test_rollouts_are_divided_as_published(
    name: str, completions: int, prompts_per_rollout: int, steps: int
) -> None:
    recipe = read_recipe(name)
    assert recipe.batch.prompts_per_step * recipe.sampling.generations_per_prompt == completions
    assert recipe.batch.prompts_per_rollout == prompts_per_rollout
    assert recipe.batch.steps_per_rollout == recipe.steps_on_old_weights == steps


def test_the_second_name_of_a_recipe_is_the_same_runs() -> None:
    def without_prose(name: str) -> dict[str, object]:
        return read_recipe(name).model_dump(exclude={"name", "about"})

    assert without_prose("scalerl") == without_prose("scalerl_8b")
    assert without_prose("deepseek_r1_grpo") == without_prose("grpo_8b")


def test_figure_2_is_asked_of_one_model_and_one_set_of_problems() -> None:
    for profile in ("laptop", "cluster"):
        plan = plan_file("recipes_16k", profile)
        recipes = {run.arm: run.spec.recipe for run in plan.runs}
        assert list(recipes) == ["scalerl", "deepseek_r1_grpo", "qwen25_dapo", "magistral", "minimax_m1"]
        for fixed in ("model", "tasks", "warm_start", "evaluation", "optimizer", "resources"):
            assert len({repr(getattr(each, fixed)) for each in recipes.values()}) == 1, fixed


def test_a_change_within_a_mixture_is_named_by_its_part() -> None:
    (arm,) = plan_file("loo_prorl_v1", "laptop").runs_of("binary_reward")
    assert [(each.path, each.before, each.after) for each in arm.changes] == [
        ("tasks.parts.1.tasks.partial_credit", "True", "False")
    ]


@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.parametrize("profile", ["laptop", "cluster"])
def test_arms_are_measured_on_the_same_prompts(sweep: str, profile: str) -> None:
    plan = plan_file(sweep, profile)
    (control,) = {run.spec.recipe.name: run.spec.recipe for run in plan.runs_of(plan.runs[0].arm)}.values()

    def heldout(recipe: Recipe) -> object:
        tasks = recipe.tasks
        parts = (
            [(part.tasks, part.weight) for part in tasks.parts] if tasks.type == "mixture" else [(tasks, 1.0)]
        )
        return [
            (each.model_dump(exclude={"partial_credit"}), weight) for each, weight in parts
        ], recipe.evaluation.num_prompts

    for run in plan.runs:
        assert heldout(run.spec.recipe) == heldout(control), run.arm


def test_the_punished_stretch_is_the_papers() -> None:
    dapo = read_recipe("qwen25_dapo_published")
    control = dapo.length_control
    assert control.type == "penalty"
    limit = dapo.sampling.max_response_tokens
    assert limit * (1 - control.window_fraction) == 16_384
    assert limit - 16_384 == 4_096
    assert dapo.batch.prompts_per_step * dapo.sampling.generations_per_prompt == 512
    assert dapo.refill.max_generated == 10


def test_the_re_implementations_have_figure_2s_batch() -> None:
    for name in ("qwen25_dapo", "magistral", "minimax_m1"):
        recipe = read_recipe(name)
        assert recipe.batch.prompts_per_step * recipe.sampling.generations_per_prompt == 1_280
        assert recipe.zero_variance == "drop"


def test_a_plan_file_finds_its_recipe_beside_it_and_names_its_lines(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: scalerl_tiny\nloss: {ratio_cap: 4.0}\n")
    question = tmp_path / "ask.yaml"
    head = "recipe: mine\nbudget: {run_gpu_hours: 2000}\nquestion:\n  type: leave_one_out\n  arms:\n"
    question.write_text(head + "    a:\n      set: {loss.ratio_cap: 8}\n")
    plan = plan_file(question, "laptop")
    assert plan.sweep.name == "ask"
    assert [(c.path, c.before, c.after) for c in plan.runs_of("a")[0].changes] == [
        ("loss.ratio_cap", "4", "8")
    ]

    question.write_text(
        head + "    a:\n      set:\n        los.ratio_cap: 8\n    b: {set: {loss: {ratio_cap: 4}}}\n"
    )
    with pytest.raises(ConfigError) as error:
        plan_file(question, "laptop")
    first, second = str(error.value).splitlines()
    assert first.startswith(f"{question}:8: question.arms.a.set.los.ratio_cap: unknown key 'los'; allowed: ")
    assert first.endswith("did you mean 'loss'?")
    assert second.startswith(f"{question}:9: question.arms.b.set.loss: changes nothing")


def test_a_misspelt_profile_is_not_ignored(tmp_path: Path) -> None:
    question = tmp_path / "ask.yaml"
    question.write_text(
        "recipe: scalerl_tiny\nbudget: {run_gpu_hours: 2000}\n"
        "question: {type: axis, path: model.layers, values: [1]}\nprofiles:\n  lapotp: {seeds.control: 1}\n"
    )
    with pytest.raises(
        ConfigError, match=r":5: profiles\.lapotp: unknown profile .* did you mean 'laptop'\?"
    ):
        plan_file(question, "cluster")
    with pytest.raises(
        NotFound, match=r"no profile 'lapto'; there are cluster, laptop; did you mean 'laptop'\?"
    ):
        plan_file(question, "lapto")


DAMAGE = [
    "~",
    "[]",
    "{}",
    "1",
    "-1",
    "x",
    "true",
    "[1, [2]]",
    "{type: gspo}",
    "{a: 1}",
    "1e400",
    "''",
    ".5",
    "9" * 30,
]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), sweep=st.sampled_from(SWEEPS), profile=st.sampled_from(["laptop", "cluster"]))
def test_a_damaged_file_gives_a_plan_or_a_known_failure(
    data: st.DataObject, sweep: str, profile: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kind = data.draw(st.sampled_from(["recipe", "sweep"]))
    texts = {
        "sweep": shipped("sweep", sweep).read_text().replace("scalerl_8b", "mine"),
        "recipe": shipped("recipe", "scalerl_tiny").read_text(),
    }
    words = list(re.finditer(r"[\w.]+|[\[\]{}:,]", texts[kind]))
    word = data.draw(st.sampled_from(words))
    put = data.draw(st.sampled_from(DAMAGE))
    texts[kind] = texts[kind][: word.start()] + put + texts[kind][word.end() :]
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "mine.yaml").write_text(texts["recipe"])
    (folder / "ask.yaml").write_text(texts["sweep"])
    try:
        outcome = plan_file(folder / "ask.yaml", profile).sweep_id
    except UserError as error:
        outcome = str(error)
    assert outcome
