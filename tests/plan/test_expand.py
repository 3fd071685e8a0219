"""Expansion is deterministic, names runs by what decides their numbers, and applies profiles."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalerl_lab.config.overrides import override
from scalerl_lab.config.problems import KeyPathError
from scalerl_lab.config.profile import FlopsMeter, Profile, WallMeter
from scalerl_lab.config.reading import read_recipe
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.schema import validate
from scalerl_lab.config.sweep import Sweep
from scalerl_lab.plan import expand, identity, run_identity
from tests.plan.questions import BASE, GRPO, PROFILE, plan_of, recipes, sweep
from tests.rl.tiny import tiny_recipe

METER = FlopsMeter(flops_per_gpu_hour=1e6)
QUESTIONS: list[dict[str, Any]] = [
    {
        "type": "leave_one_out",
        "arms": {
            "b": {
                "about": "x",
                "set": {"loss.type": "gspo", "loss.clip_high": 0.04, "zero_variance": "keep"},
            },
            "a": {"set": {"aggregation": {"type": "sample"}}},
            "c": {"set": {"numerics": {"trainer_head": "bf16", "generator_head": "bf16"}}},
        },
    },
    {"type": "leave_one_out", "baseline": "grpo"},
    {"type": "grid", "axes": {"loss.type": ["gspo", "cispo"], "advantage.type": ["batch", "none"]}},
    {"type": "axis", "path": "loss", "values": [{"type": "gspo", "clip_low": 0.01, "clip_high": 0.02}]},
]


def shuffled(value: Any, rng: random.Random) -> Any:
    """The same value with the keys of every mapping in another order."""
    if isinstance(value, dict):
        keys = list(value)
        rng.shuffle(keys)
        return {key: shuffled(value[key], rng) for key in keys}
    if isinstance(value, list):
        return [shuffled(item, rng) for item in value]
    return value


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), question=st.sampled_from(QUESTIONS))
def test_key_order_changes_nothing(seed: int, question: dict[str, Any]) -> None:
    rng = random.Random(seed)
    asked = sweep(question, profiles={"here": {"seeds.arm": 2, "rule.margin": 0.03}})
    other = validate(Sweep, shuffled(asked.model_dump(mode="json"), rng))
    shuffle = {r.name: validate(Recipe, shuffled(r.model_dump(mode="json"), rng)) for r in (BASE, GRPO)}
    plan = expand(asked, PROFILE, recipes())
    again = expand(other, PROFILE, shuffle.__getitem__)
    assert again.sweep_id == plan.sweep_id
    assert again.runs == plan.runs
    assert again.sweep == plan.sweep


def test_ids_have_their_form_and_do_not_drift() -> None:
    plan = plan_of(QUESTIONS[0])
    assert re.fullmatch(r"ask-[0-9a-f]{8}", plan.sweep_id)
    assert all(re.fullmatch(r"[0-9a-f]{12}", run.run_id) for run in plan.runs)
    assert {run.sweep_id for run in plan.runs} == {plan.sweep_id}


def test_a_later_field_at_its_neutral_value_changes_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    capped = override(BASE, {"loss.ratio_cap": 4.0})
    own, other = run_identity(BASE, 0, METER), run_identity(capped, 0, METER)
    monkeypatch.setitem(identity.NEUTRAL, "loss.ratio_cap", 5.0)
    monkeypatch.setitem(identity.NEUTRAL, "ratio_cap", 4.0)
    # As if the field had not been there; with another value it counts as before.
    assert run_identity(BASE, 0, METER) != own
    assert run_identity(capped, 0, METER) == other
    assert identity.without_neutral({"loss": {"type": "cispo", "ratio_cap": 5.0}}) == {
        "loss": {"type": "cispo"}
    }


def test_runs_on_record_keep_their_identity() -> None:
    """Ids of this version of results; a new field must be neutral by default."""
    on_record = {
        "b6d3107f5890": tiny_recipe(off_policy={"type": "sync"}),
        "b1e61b319024": tiny_recipe(length_control={"type": "penalty", "window_fraction": 0.3}),
    }
    for run_id, recipe in on_record.items():
        assert run_identity(recipe, 0, FlopsMeter(flops_per_gpu_hour=1e6)) == run_id


def test_what_is_neutral_is_what_a_recipe_says_by_default() -> None:
    """A recipe that is silent on a later field has its neutral value; those of one choice only, there."""
    some = {"loss": {"type": "ppo_clip"}, "length_control": {"type": "penalty"}}
    said = [
        each.model_dump(mode="json")
        for each in (
            override(BASE, some),
            tiny_recipe(),
            read_recipe("scalerl_8b"),
            read_recipe("two_domains_tiny"),
        )
    ]
    for path, neutral in identity.NEUTRAL.items():
        found = [value for recipe in said for value in values_at(recipe, path.split(" of ")[0].split("."))]
        assert found, path
        assert all(value == neutral for value in found), path
    kept = set(identity.without_neutral(said[0])) | set(identity.without_neutral(said[0])["loss"])
    assert not {"anchor", "kl", "reference", "dual_clip", "entropy_bonus"} & kept


def values_at(said: Any, parts: list[str]) -> list[Any]:
    """What stands at a path, in each member of the lists on the way; nothing where it is absent."""
    if not parts:
        return [said]
    if isinstance(said, list):
        return [value for each in said for value in values_at(each, parts)]
    return values_at(said[parts[0]], parts[1:]) if isinstance(said, dict) and parts[0] in said else []


def test_a_later_field_inside_a_list_changes_no_identity() -> None:
    neutral = identity.NEUTRAL["tasks.sandbox"]
    weak = neutral | {"fallback": "weak"}
    parts = [{"tasks": {"sandbox": neutral, "seed": 1}}, {"tasks": {"sandbox": weak}}]
    assert identity.without_neutral({"tasks": {"parts": parts}}) == {
        "tasks": {"parts": [{"tasks": {"seed": 1}}, {"tasks": {"sandbox": weak}}]}
    }


def test_identity_ignores_prose_and_keeps_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    own = run_identity(BASE, 0, METER)
    prose = {"name": "other", "about": "words", "stands_in": {"laptop": "tiny"}}
    assert run_identity(override(BASE, prose), 0, METER) == own
    others = [
        run_identity(BASE, 1, METER),
        run_identity(BASE, 0, FlopsMeter(flops_per_gpu_hour=2e6)),
        run_identity(BASE, 0, WallMeter()),
        run_identity(override(BASE, {"optimizer.lr": 6e-7}), 0, METER),
        run_identity(override(BASE, {"evaluation.every_steps": 50}), 0, METER),
        run_identity(override(BASE, {"loss.ratio_cap": 4.0}), 0, METER),
    ]
    monkeypatch.setattr(identity, "RESULTS_VERSION", identity.RESULTS_VERSION + 1)
    others.append(run_identity(BASE, 0, METER))
    assert len({own, *others}) == len(others) + 1


def test_resources_count_only_where_time_is_measured_on_them() -> None:
    more = override(BASE, {"resources.cpus": 2.0})
    assert run_identity(more, 0, METER) == run_identity(BASE, 0, METER)
    assert run_identity(more, 0, WallMeter()) != run_identity(BASE, 0, WallMeter())


def test_every_field_of_a_recipe_but_the_prose_reaches_the_identity() -> None:
    left_out = {
        path
        for path, value in {
            "model.layers": 3,
            "tasks.seed": 1,
            "warm_start.type": "demonstrations",
            "sampling.temperature": 0.9,
            "batch.prompts_per_step": 47,
            "off_policy.max_lag": 4,
            "loss.ratio_cap": 4.0,
            "aggregation.type": "token",
            "advantage.type": "none",
            "zero_variance": "keep",
            "curriculum.threshold": 0.8,
            "length_control.phrase": "#",
            "numerics.generator_head": "bf16",
            "optimizer.beta2": 0.99,
            "evaluation.samples_per_prompt": 8,
            "engine.generator": None,
        }.items()
        if value is not None
        and run_identity(override(BASE, {path: value}), 0, METER) == run_identity(BASE, 0, METER)
    }
    assert left_out == set()


def test_the_sweep_id_follows_the_question_not_its_prose() -> None:
    question = QUESTIONS[0]
    own = plan_of(question).sweep_id
    assert plan_of(question, about="more words", price_per_gpu_hour=3).sweep_id == own
    elsewhere = Profile(name="here", meter=METER, max_failures=7)
    assert expand(sweep(question), elsewhere, recipes()).sweep_id == own
    others = [
        plan_of(question, rule={"margin": 0.03}).sweep_id,
        plan_of(question, fit_start_gpu_hours=20).sweep_id,
        plan_of(question, budget={"run_gpu_hours": 101}).sweep_id,
        plan_of(question, budget={"run_gpu_hours": 100, "sweep_gpu_hours": 500}).sweep_id,
        plan_of(question, seeds={"control": 2}).sweep_id,
        plan_of(question, name="asked").sweep_id,
        expand(sweep(question), Profile(name="there", meter=METER), recipes()).sweep_id,
        expand(sweep(question), Profile(name="here"), recipes()).sweep_id,
    ]
    assert len({own, *others}) == len(others) + 1


def test_runs_are_shared_between_sweeps_that_ask_for_the_same() -> None:
    left = plan_of(QUESTIONS[0], name="left")
    right = plan_of({"type": "axis", "path": "batch.prompts_per_step", "values": [8]}, name="right")
    shared = {run.run_id for run in left.runs} & {run.run_id for run in right.runs}
    assert shared == {run.run_id for run in left.runs if run.arm == "control"}


# ---------------------------------------------------------------- profiles


def test_a_profile_overrides_the_sweep() -> None:
    asked = sweep(
        {"type": "axis", "path": "batch.prompts_per_step", "values": [32, 48]},
        profiles={
            "here": {"question.values": [16, 48], "seeds.control": 2, "question.run_gpu_hours": [50, 60]}
        },
    )
    here = expand(asked, PROFILE, recipes())
    assert here.arms == ("prompts_per_step=48", "prompts_per_step=16")
    assert [run.budget_gpu_hours for run in here.runs] == [60.0, 60.0, 50.0]
    assert here.sweep.seeds.control == 2
    there = expand(asked, Profile(name="there"), recipes())
    assert there.arms == ("prompts_per_step=48", "prompts_per_step=32")
    assert there.sweep == asked


def test_a_profile_may_ask_another_question() -> None:
    asked = sweep(
        {"type": "axis", "path": "batch.prompts_per_step", "values": [32, 48]},
        profiles={"here": {"question": {"type": "axis", "path": "model.layers", "factors": [2.0]}}},
    )
    assert expand(asked, PROFILE, recipes()).arms == ("control", "layers=4")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"question.valuse": [1]}, "profiles.here.question.valuse: unknown key 'valuse'; allowed: "),
        ({"question.valuse": [1]}, "did you mean 'values'?"),
        (
            {"seeds.control": "many"},
            "profiles.here.seeds.control: must be a whole number, got 'many', or must",
        ),
        ({"question.factors": [1.0]}, "profiles.here.question.factors: give either values or factors"),
        ({"rule.margin": 2}, "profiles.here.rule.margin: must be less than 1, got 2"),
    ],
)
def test_a_bad_profile_override_is_refused(changes: dict[str, Any], says: str) -> None:
    asked = sweep(
        {"type": "axis", "path": "batch.prompts_per_step", "values": [32]}, profiles={"here": changes}
    )
    with pytest.raises(KeyPathError) as error:
        expand(asked, PROFILE, recipes())
    assert says in str(error.value)


SMALL = override(BASE, {"name": "small", "model.layers": 1})
BIG = override(BASE, {"name": "big", "stands_in": {"laptop": "small"}})
LAPTOP = Profile(name="laptop", scale="laptop", meter=METER)
TOKEN_AVERAGE = {"type": "leave_one_out", "arms": {"a": {"set": {"aggregation.type": "token"}}}}


def test_stand_ins_follow_the_scale() -> None:
    asked = sweep(TOKEN_AVERAGE, recipe="big")
    small = expand(asked, LAPTOP, recipes(SMALL, BIG))
    assert {run.spec.recipe.model for run in small.runs} == {SMALL.model}
    assert small.stand_in == "small"
    big = expand(asked, PROFILE, recipes(SMALL, BIG))
    assert {run.spec.recipe.model for run in big.runs} == {BIG.model}
    assert big.stand_in is None


def test_a_recipe_without_a_stand_in_runs_as_it_is() -> None:
    plan = expand(sweep(TOKEN_AVERAGE, recipe="small"), LAPTOP, recipes(SMALL, BIG))
    assert plan.stand_in is None
    assert plan.runs[0].spec.recipe == SMALL


@pytest.mark.parametrize("pair", [("big", "grpo"), ("grpo", "big")])
def test_a_stand_in_is_not_compared_with_a_recipe_of_full_scale(pair: tuple[str, str]) -> None:
    asked = sweep({"type": "compare", "recipes": list(pair)}, recipe=pair[0])
    with pytest.raises(
        KeyPathError, match=r"question\.recipes\[1\]: recipe 'grpo' has no stand-in for scale"
    ):
        expand(asked, LAPTOP, recipes(SMALL, BIG))


def test_a_missing_stand_in_names_who_wants_it() -> None:
    asked = sweep(TOKEN_AVERAGE, recipe="big")
    with pytest.raises(KeyPathError, match=r"^recipe: no recipe 'small'"):
        expand(asked, LAPTOP, recipes(BIG))
