"""Every data choice in a short run: it changes the curve, and survives being killed bit for bit."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from scalerl_lab.engines.learner import TorchLearner
from scalerl_lab.engines.policy import build_policy
from scalerl_lab.records import LedgerKind
from scalerl_lab.rl.batch import assemble
from scalerl_lab.rl.evaluate import Evaluator
from scalerl_lab.rl.rollout import Rollout, Verified
from scalerl_lab.tasks import build_tasks
from tests.rl.tiny import Killed, Recorder, numbers_of, run_to, tiny_recipe

SAMPLING = {"generations_per_prompt": 4, "max_response_tokens": 10}
LONG = SAMPLING | {"max_response_tokens_changes": [{"from_step": 3, "value": 12}]}
WARM = SAMPLING | {"temperature_changes": [{"from_step": 3, "value": 1.3}, {"from_step": 5, "value": 0.9}]}
CYCLE = {"type": "cycle", "on_steps": 2, "off_steps": 1}
EASY_FIRST = [{"from_step": 0, "max_difficulty": 4}, {"from_step": 5, "min_difficulty": 4}]
K3 = {"off_policy": {"type": "ppo_off_policy", "k": 3}}

AXES: dict[str, dict[str, Any]] = {
    "refill": {"zero_variance": "refill", "refill": {"when_short": "train"}},
    "refill of k": {"zero_variance": "refill", "curriculum": {"type": "uniform"}, **K3},
    "filter on shaped": {"filter_on": "shaped", "length_reward": {"type": "cosine", "when": CYCLE}},
    "cosine on and off": {"length_reward": {"type": "cosine", "when": CYCLE}},
    "cosine reward": {"length_reward": {"type": "cosine_reward"}},
    "penalty for all": {
        "length_control": {"type": "penalty", "window_fraction": 0.5, "applies_to": "all", "scale": 0.5}
    },
    "stop properly": {"truncated": {"type": "stop_properly", "coefficient": -1.5}},
    "mask": {"truncated": {"type": "mask"}, "length_control": {"type": "truncate"}},
    "mask, not counted": {"truncated": {"type": "mask", "in_statistics": False}, **K3},
    "difficulty filter": {"difficulty_filter": {"type": "pass_rate_band", "samples": 4}},
    "rewards 1 and 0": {"reward": {"correct": 1.0, "wrong": 0.0}, "advantage": {"type": "none"}},
    "temperature by step": {"sampling": WARM},
    "temperature by step, k": {"sampling": WARM, **K3},
    "length by step": {"sampling": LONG},
    "easy first": {"curriculum": {"type": "no_positive_resampling", "stages": EASY_FIRST}},
    "easy first, refill of k": {
        "curriculum": {"type": "uniform", "stages": EASY_FIRST},
        "zero_variance": "refill",
        "refill": {"when_short": "train"},
        **K3,
    },
    "repetition": {
        "early_truncation": {"type": "repetition", "consecutive_tokens": 2, "above_probability": 0.4}
    },
}
STEPS = 8


def until_step(root: Path, recipe: Any, kills: tuple[int, ...] = ()) -> Recorder:
    """Eight steps, dying after some of them."""
    recorder = Recorder(1e9, stop_at=STEPS)
    for trial, step in enumerate(kills, 1):
        recorder.kill_at = step
        with pytest.raises(Killed):
            run_to(recorder, root, recipe, trial)
    ended = run_to(recorder, root, recipe, len(kills) + 1)
    assert ended.step == STEPS, ended
    return recorder


@pytest.fixture(scope="module")
def controls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recorder]:
    return {
        key: until_step(tmp_path_factory.mktemp("control"), tiny_recipe(**changes))
        for key, changes in {"": {}, "k": K3}.items()
    }


@pytest.mark.parametrize("axis", AXES)
def test_killed_and_resumed_with_the_choice_on_the_curve_is_the_same(
    controls: dict[str, Recorder], tmp_path: Path, axis: str
) -> None:
    recipe = tiny_recipe(**AXES[axis])
    whole = until_step(tmp_path / "whole", recipe)
    # 5 lies between two checkpoints, and within a round of k; a run also dies right after a checkpoint.
    broken = until_step(tmp_path / "broken", recipe, kills=(4, 5, 7))
    assert numbers_of(broken.points) == numbers_of(whole.points)
    billed, meant = ([e.flops for e in each.entries(LedgerKind.TRAIN)] for each in (broken, whole))
    assert billed == meant
    control = controls["k" if "off_policy" in AXES[axis] else ""]
    assert numbers_of(whole.points)[1:] != numbers_of(control.points)[1:], "the choice changes nothing"


def test_a_batch_has_the_temperature_and_the_limit_of_the_step_that_consumes_it() -> None:
    """In a pipeline three batches are in flight at once, under two temperatures and two limits."""
    sampling = WARM | LONG
    recipe = tiny_recipe(sampling=sampling, length_control={"type": "truncate"})
    tasks = build_tasks(recipe.tasks)
    policy = build_policy(recipe.model, tasks.tokenizer.size, 0)
    rollout = Rollout(recipe, tasks, policy, seed=0)
    learner = TorchLearner(policy, recipe.optimizer, "fp32")
    for step in range(7):
        verified = rollout.next_batch(step)
        assert isinstance(verified, Verified)
        found = verified.completions
        temperature = 1.0 if step < 3 else 1.3 if step < 5 else 0.9
        assert int(found.num_tokens_B.max()) == (10 if step < 3 else 12)
        logp = learner.token_logprobs(found.tokens_BT, temperature)
        assert ((logp - found.gen_logp_BT) * found.response_mask_BT).abs().max() < 1e-5
        varied = found.raw_reward_B.clone()
        varied[::2] = -varied[::2]
        batch = assemble(recipe, dataclasses.replace(found, raw_reward_B=varied))
        assert batch is not None
        assert batch.temperature == temperature


def test_evaluations_follow_their_own_temperatures_and_the_limit() -> None:
    evaluation = tiny_recipe().evaluation.model_dump() | {
        "samples_per_prompt": 64,
        "temperature_changes": [{"from_step": 4, "value": 0.1}],
    }
    recipe = tiny_recipe(evaluation=evaluation, sampling=LONG, length_control={"type": "truncate"})
    tasks = build_tasks(recipe.tasks)
    policy = build_policy(recipe.model, tasks.tokenizer.size, 0)
    with torch.no_grad():
        policy.lm_head.weight *= 3.0
    evaluator = Evaluator(recipe, tasks, policy, seed=0)
    before, long, cold = (evaluator.measure(step) for step in (2, 3, 4))
    # Entropy is of the distribution drawn from: ten times colder, far less of it.
    assert cold.entropy < 0.7 * long.entropy
    assert before.entropy == pytest.approx(long.entropy, rel=0.05)
    assert before.mean_tokens + 0.3 < long.mean_tokens
    assert before.truncation_rate > long.truncation_rate > 0
    assert math.isfinite(cold.pass_rate)
