"""A run over two domains: resumed bit for bit, rewarded in parts, started anew when its files change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from scalerl_lab.config.reading import data_file
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.tasks import HELDOUT
from scalerl_lab.engines.policy import build_policy
from scalerl_lab.engines.rows import Finished
from scalerl_lab.records import Measurement
from scalerl_lab.rl.rollout import Rollout, Verified, rewards
from scalerl_lab.rl.warm_start import content_key
from scalerl_lab.tasks import Verdict, build_tasks
from tests.rl.tiny import Killed, Recorder, numbers_of, run_to, tiny_recipe

WORDS = {"type": "prompt_files", "train": "data/words_train.jsonl", "heldout": "data/words_heldout.jsonl"}


def mixed(words: dict[str, Any] = WORDS, stages: tuple[dict[str, Any], ...] = ()) -> Recipe:
    chains = tiny_recipe().tasks.model_dump(mode="json")
    parts = [{"tasks": chains}, {"tasks": words}]
    return tiny_recipe(
        tasks={"type": "mixture", "parts": parts},
        curriculum={"type": "uniform", "stages": stages},
        # Without it every group of so small a model may fail, and be dropped.
        zero_variance="keep",
    )


def test_a_run_of_two_domains_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    whole, broken = Recorder(400.0), Recorder(400.0)
    run_to(whole, tmp_path / "whole", mixed())
    broken.kill_at = 6
    with pytest.raises(Killed):
        run_to(broken, tmp_path / "broken", mixed())
    run_to(broken, tmp_path / "broken", mixed(), trial=2)
    assert len(whole.points) >= 3
    assert numbers_of(broken.points) == numbers_of(whole.points)


def test_domains_that_come_by_step_are_resumed_bit_for_bit(tmp_path: Path) -> None:
    """Chains alone, then one row of words for three chains."""
    recipe = mixed(
        stages=(
            {"from_step": 0, "domains": {"chain_arithmetic": 1}},
            {"from_step": 5, "domains": {"chain_arithmetic": 3, "instructions": 1}},
        )
    )
    whole, broken, plain = (Recorder(1e9, stop_at=8) for _ in range(3))
    run_to(whole, tmp_path / "whole", recipe)
    broken.kill_at = 6
    with pytest.raises(Killed):
        run_to(broken, tmp_path / "broken", recipe)
    run_to(broken, tmp_path / "broken", recipe, trial=2)
    run_to(plain, tmp_path / "plain", mixed())
    assert len(whole.points) == 3
    assert numbers_of(broken.points) == numbers_of(whole.points)
    assert numbers_of(plain.points)[1:] != numbers_of(whole.points)[1:]


def test_downstream_sets_of_both_domains_are_measured_at_their_steps(tmp_path: Path) -> None:
    chains = tiny_recipe().tasks.model_dump(mode="json")
    chains["downstream"] = {"longer": {"min_steps": 7, "max_steps": 8, "num_prompts": 6}}
    held = data_file("data/words_heldout.jsonl").read_text().splitlines()
    rest, further = tmp_path / "held.jsonl", tmp_path / "further.jsonl"
    rest.write_text("\n".join(held[5:]))
    further.write_text("\n".join(held[:5]))
    words = WORDS | {"heldout": str(rest), "downstream": {"words": str(further)}}
    changes: dict[str, Any] = {
        "tasks": {"type": "mixture", "parts": [{"tasks": chains}, {"tasks": words}]},
        "evaluation": {
            "every_steps": 4,
            "num_prompts": 8,
            "samples_per_prompt": 2,
            "downstream": {"every_steps": 8, "samples_per_prompt": 3},
        },
    }
    recorder = Recorder(1e9, stop_at=8)
    run_to(recorder, tmp_path, Recipe.model_validate(mixed().model_dump(mode="json") | changes))
    found = [fact for fact in recorder.facts if isinstance(fact, Measurement) and fact.metric == "pass_rate"]
    further_sets = [fact for fact in found if fact.problem_set != HELDOUT]
    assert [(fact.step, fact.problem_set, fact.num_samples) for fact in further_sets] == [
        (0, "longer", 18),
        (0, "words", 15),
        (8, "longer", 18),
        (8, "words", 15),
    ]


def test_measuring_downstream_without_a_set_is_refused() -> None:
    evaluation = tiny_recipe().evaluation.model_dump() | {"downstream": {"every_steps": 4}}
    with pytest.raises(ValidationError, match=r"no part's tasks.downstream names any"):
        Recipe.model_validate(mixed().model_dump() | {"evaluation": evaluation})


def test_batches_of_a_rollout_hold_the_domains_of_their_step() -> None:
    recipe = mixed(
        stages=(
            {"from_step": 0, "domains": {"chain_arithmetic": 1}},
            {"from_step": 4, "domains": {"chain_arithmetic": 3, "instructions": 1}},
        )
    )
    tasks = build_tasks(recipe.tasks)
    policy = build_policy(recipe.model, tasks.tokenizer.size, 0)
    rollout = Rollout(recipe, tasks, policy, seed=0)
    kinds = []
    for step in range(6):
        verified = rollout.next_batch(step)
        assert isinstance(verified, Verified)
        first_B = verified.completions.tokens_BT[::4]
        prompts = [tuple(t for t in row.tolist() if t) for row in first_B]
        words = {p.prompt for p in tasks.train if p.domain == "instructions"}
        kinds.append(sum(any(row[: len(w)] == w for w in words) for row in prompts))
    assert kinds == [0, 0, 0, 0, 1, 1]


def test_rewards_go_from_minus_one_to_one_with_the_score() -> None:
    class Scored:
        def verdicts(self, problems: list[Any], responses: list[Any]) -> list[Verdict]:
            return [Verdict(score, 1.0) for score in (0.0, 0.25, 0.75, 1.0)]

    class Written:
        def responses(self) -> list[list[int]]:
            return [[]] * 4

    tasks: Any = Scored()
    finished: Finished | Any = Written()
    found = rewards(tasks, [], finished)
    assert torch.equal(found, torch.tensor([-1.0, -0.5, 0.5, 1.0]))


def test_a_start_is_another_one_when_its_file_changes(tmp_path: Path) -> None:
    train = tmp_path / "words.jsonl"
    shutil.copy(data_file(WORDS["train"]), train)
    recipe = mixed({**WORDS, "train": str(train)})
    before = content_key(recipe)
    assert content_key(recipe) == before
    rows = train.read_text().splitlines()
    first = json.loads(rows[0]) | {"response": "PIE FIG SKY"}
    train.write_text("\n".join([json.dumps(first), *rows[1:]]))
    assert content_key(recipe) != before


def test_a_start_does_not_depend_on_what_is_only_measured() -> None:
    recipe = mixed()
    tasks = recipe.tasks.model_dump(mode="json")
    tasks["parts"][0]["tasks"]["downstream"] = {"longer": {"min_steps": 8, "max_steps": 9}}
    measured = tiny_recipe(tasks=tasks)
    assert content_key(measured) == content_key(recipe)
    tasks["parts"][0]["tasks"]["seed"] = 1
    assert content_key(tiny_recipe(tasks=tasks)) != content_key(recipe)


def test_both_domains_are_demonstrated() -> None:
    tasks = build_tasks(mixed().tasks)
    shown = tasks.demonstrations(tiny_recipe().warm_start, 64)
    assert sum(" with " in tasks.tokenizer.decode(each.prompt) for each in shown) == 32
