"""Held-out measurement: its error, its draws, and the recipe's own length control."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scalerl_lab.engines.policy import build_policy
from scalerl_lab.engines.sampler import TorchSampler
from scalerl_lab.errors import ConfigError
from scalerl_lab.rl import evaluate
from scalerl_lab.rl.evaluate import Evaluator, Outcome, domain_rates, sampling_error
from scalerl_lab.rl.warm_start import start_policy
from scalerl_lab.tasks import Problem, build_tasks
from scalerl_lab.tasks.item import Item
from tests.rl.tiny import tiny_recipe


def evaluator(seed: int = 0, **changes: object) -> Evaluator:
    recipe = tiny_recipe(**changes)
    tasks = build_tasks(recipe.tasks)
    return Evaluator(recipe, tasks, build_policy(recipe.model, tasks.tokenizer.size, 0), seed)


def test_sampling_error_by_hand() -> None:
    # 1/4 and 2/4 of 4 samples: variances 3/16 and 4/16 over 3, summed, rooted, over 2 prompts.
    assert sampling_error(torch.tensor([0.25, 0.5]), 4) == pytest.approx(math.sqrt(0.4375 / 3) / 2)


def test_sampling_error_of_certain_prompts_is_zero() -> None:
    assert sampling_error(torch.tensor([1.0, 0.0, 1.0]), 8) == 0.0


def test_sampling_error_with_one_sample_is_binomial() -> None:
    assert sampling_error(torch.tensor([1.0, 0.0, 0.0, 1.0]), 1) == pytest.approx(0.25)


@given(st.lists(st.floats(0.05, 0.95), min_size=2, max_size=6))
def test_sampling_error_is_unbiased_over_all_outcomes(rates: list[float]) -> None:
    # Exact expectation over the outcomes of 3 samples of each prompt equals the true variance.
    samples = 3
    true = sum(p * (1 - p) / samples for p in rates) / len(rates) ** 2
    expected = 0.0
    for p in rates:
        for hits in range(samples + 1):
            chance = math.comb(samples, hits) * p**hits * (1 - p) ** (samples - hits)
            share = torch.tensor([hits / samples], dtype=torch.float64)
            expected += chance * sampling_error(share, samples) ** 2
    assert expected / len(rates) ** 2 == pytest.approx(true, rel=1e-9)


def test_a_measurement_depends_on_seed_and_step_alone() -> None:
    one = evaluator()
    first = one.measure(8)
    one.measure(12)
    assert one.measure(8) == first == evaluator().measure(8)
    assert evaluator(seed=1).measure(8) != first
    assert one.measure(12) != first


def test_counts_and_the_sharper_first_point() -> None:
    later, first = evaluator().measure(4), evaluator().measure(0)
    assert (later.num_prompts, later.num_samples) == (8, 16)
    assert (first.num_prompts, first.num_samples) == (8, 64)


def test_chunks_cover_every_prompt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    start = TorchSampler.start

    def spy(self, block, prompts, *rest, **more):  # type: ignore[no-untyped-def]
        seen.extend(prompts)
        start(self, block, prompts, *rest, **more)

    monkeypatch.setattr(TorchSampler, "start", spy)
    monkeypatch.setattr(evaluate, "_ROWS_AT_ONCE", 6)
    found = evaluator().measure(4)
    tasks = build_tasks(tiny_recipe().tasks)
    assert seen == [problem.prompt for problem in tasks.heldout[:8]]
    assert found.num_samples == 16


def test_interruption_applies_in_evaluation(tmp_path: Path) -> None:
    # Chains of 4 to 6 steps need 11 to 15 tokens of the 10: cut when free, answered when interrupted.
    taught = {"type": "demonstrations", "steps": 150, "demonstrations_per_step": 32, "lr": 1e-2}
    found = {}
    for control in ({"type": "truncate"}, tiny_recipe().length_control.model_dump()):
        recipe = tiny_recipe(warm_start=taught, length_control=control)
        tasks = build_tasks(recipe.tasks)
        policy = start_policy(recipe, tasks, "run", 0, tmp_path).policy
        found[control["type"]] = Evaluator(recipe, tasks, policy, 0).measure(0)
    assert found["truncate"].truncation_rate > 0.3
    assert found["interruption"].truncation_rate < 0.1
    assert found["interruption"].mean_tokens < found["truncate"].mean_tokens <= 10
    assert 0.0 < found["truncate"].entropy < math.log(8)


def row(domain: str, text: str) -> Problem:
    return Problem(prompt=(0,), domain=domain, item=Item(text, domain, text, "1"))


def test_rates_of_each_domain_by_hand() -> None:
    problems = (row("stem", "a"), row("choice", "b"), row("stem", "c"))
    passed_PK = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]).double()
    tolerant_PK = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]).double()
    found = domain_rates("heldout", Outcome(problems, passed_PK, tolerant_PK, 0.0, 1.0, 0.0, []))
    of = {(each.domain, each.metric): each for each in found}
    assert list(of) == [
        ("choice", "pass_rate"), ("stem", "pass_rate"),
        ("", "tolerant_pass_rate"), ("choice", "tolerant_pass_rate"), ("stem", "tolerant_pass_rate"),
    ]  # fmt: skip
    # stem: 3/8 with the error of two prompts of 1/4 and 2/4, 0.190941; tolerantly twice 2/4: sqrt(0.5/3)/2.
    strict, tolerant = of["stem", "pass_rate"], of["stem", "tolerant_pass_rate"]
    assert (strict.value, tolerant.value, strict.num_prompts, strict.num_samples) == (0.375, 0.5, 2, 8)
    assert strict.standard_error == pytest.approx(0.190941, abs=1e-6)
    assert tolerant.standard_error == pytest.approx(math.sqrt(0.5 / 3) / 2)
    assert of["choice", "pass_rate"].standard_error == 0.0
    assert of["", "tolerant_pass_rate"].value == pytest.approx(2.0 / 3.0)


def test_one_domain_of_chains_has_no_rates_beside_its_point() -> None:
    assert evaluator().measure(0).named == ()


def test_a_mixture_is_measured_by_domain() -> None:
    words = {"type": "prompt_files", "train": "data/words_train.jsonl", "heldout": "data/words_heldout.jsonl"}
    chains = tiny_recipe().tasks.model_dump(mode="json")
    mixed = {"type": "mixture", "parts": [{"tasks": chains, "weight": 1.0}, {"tasks": words, "weight": 3.0}]}
    found = evaluator(tasks=mixed).measure(0)
    strict = [each for each in found.named if each.metric == "pass_rate"]
    assert [(each.domain, each.num_prompts) for each in strict] == [
        ("chain_arithmetic", 2), ("instructions", 6)
    ]  # fmt: skip
    whole = sum(each.value * each.num_prompts for each in strict) / found.num_prompts
    assert found.pass_rate == pytest.approx(whole)


def test_more_prompts_than_are_held_out_is_an_error() -> None:
    words = {"type": "prompt_files", "train": "data/words_train.jsonl", "heldout": "data/words_heldout.jsonl"}
    recipe = tiny_recipe(tasks=words)
    recipe = recipe.model_copy(
        update={"evaluation": recipe.evaluation.model_copy(update={"num_prompts": 129})}
    )
    tasks = build_tasks(recipe.tasks)
    with pytest.raises(ConfigError, match=r"num_prompts \(129\) exceeds .* which are 128"):
        Evaluator(recipe, tasks, build_policy(recipe.model, tasks.tokenizer.size, 0), 0)
