"""What a recipe may ask to be measured; asking for nothing leaves a run's identity alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from scalerl_lab.config.profile import FlopsMeter
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.plan import run_identity
from scalerl_lab.rl.warm_start import content_key
from scalerl_lab.tasks import build_tasks
from tests.rl.tiny import tiny_recipe

METER = FlopsMeter(flops_per_gpu_hour=1e6)
BEFORE, CONTENT = "fca661908017", "fa21d27f8a490841"
"""As they would be had recipes never been able to ask for measurements."""
SETS = {"longer": {"min_steps": 7, "max_steps": 9, "num_prompts": 20}}


def with_sets(**changes: Any) -> Recipe:
    return tiny_recipe(tasks=tiny_recipe().tasks.model_dump() | {"downstream": SETS}, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluation": {"every_steps": 4, "boundary": {"every_steps": 6}}}, r"boundary.every_steps \(6\)"),
        (
            {"evaluation": {"boundary": {"every_steps": 100, "samples_per_prompt": 8}}},
            r"max_k \(256\) exceeds samples_per_prompt \(8\)",
        ),
        ({"evaluation": {"downstream": {"every_steps": 100}}}, "tasks.downstream names none"),
        (
            {
                "warm_start": {"type": "none"},
                "evaluation": {"ngram_overlap": {"every_steps": 100}},
            },
            "use corpus.type=text_file",
        ),
        (
            {"evaluation": {"ngram_overlap": {"every_steps": 100, "min_length": 6, "max_length": 5}}},
            r"max_length \(5\) must be at least min_length \(6\)",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(changes: dict[str, Any], said: str) -> None:
    sizes = {"num_prompts": 8, "samples_per_prompt": 2}
    changes = changes | {"evaluation": sizes | changes["evaluation"]}
    with pytest.raises(ValidationError, match=said):
        tiny_recipe(**changes)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({"heldout": {"min_steps": 1, "max_steps": 2}}, "taken by the held-out prompts"),
        ({"other": {"min_steps": 1, "max_steps": 2, "operations": ["*"]}}, "no words"),
        ({"other": {"min_steps": 3, "max_steps": 2}}, "must be at least min_steps"),
        ({"a b": {"min_steps": 3, "max_steps": 4}}, "pattern"),
    ],
)
def test_sets_that_cannot_be_drawn_are_refused(sets: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        tiny_recipe(tasks=tiny_recipe().tasks.model_dump() | {"downstream": sets})


def test_asking_for_nothing_is_the_run_that_it_was() -> None:

    assert run_identity(tiny_recipe(), 0, METER) == BEFORE
    spoken = json.loads(tiny_recipe().model_dump_json())
    assert spoken["evaluation"]["boundary"] is None
    assert run_identity(with_sets(), 0, METER) != BEFORE


def test_what_is_only_measured_leaves_the_warm_start_and_the_training_prompts_alone() -> None:
    assert content_key(with_sets()) == CONTENT
    assert content_key(tiny_recipe()) == CONTENT
    plain, more = build_tasks(tiny_recipe().tasks), build_tasks(with_sets().tasks)
    assert (plain.train, plain.heldout) == (more.train, more.heldout)
    assert plain.downstream == {}


def test_downstream_sets_share_no_prompt_and_do_not_depend_on_their_order() -> None:
    near = {"min_steps": 2, "max_steps": 8, "num_prompts": 20}
    sets = {"near": near, "again": near, "longer": SETS["longer"]}
    base = tiny_recipe().tasks.model_dump()
    tasks = build_tasks(tiny_recipe(tasks=base | {"downstream": sets}).tasks)
    other = build_tasks(tiny_recipe(tasks=base | {"downstream": dict(reversed(sets.items()))}).tasks)
    assert tasks.downstream == other.downstream
    prompts = [p.prompt for found in tasks.downstream.values() for p in found]
    prompts += [p.prompt for p in (*tasks.heldout, *tasks.train)]
    assert len(set(prompts)) == len(prompts)
    assert {len(p.prompt) - 2 for p in tasks.downstream["longer"]} == {7, 8, 9}
    problem = tasks.downstream["longer"][0]
    value = int(tasks.tokenizer.decode(problem.prompt[:1]))
    for word in tasks.tokenizer.decode(problem.prompt[1:-1]).split():
        value = (value + int(word[1:])) % 3
    assert tasks.verify(problem, [*tasks.tokenizer.encode(f"# {value}"), tasks.tokenizer.end_id])
