"""Pairs of the objective that cannot be, or that change nothing, are refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from scalerl_lab.config.recipe import Recipe

BF16 = {"trainer_head": "bf16", "generator_head": "bf16"}
SYNC, PIPELINE, K8 = {"type": "sync"}, {"type": "pipeline"}, {"type": "ppo_off_policy", "k": 8}
OLD_TWO = {"anchor": "old", "batch": {"mini_batches": 2}, "off_policy": SYNC}
ICEPOP = {"mismatch_weight": {"type": "icepop"}}


def recipe(**changes: Any) -> Recipe:
    whole = {
        "name": "one",
        "model": {"type": "llama"},
        "tasks": {"type": "chain_arithmetic", "num_train": 4096},
        "evaluation": {"num_prompts": 256, "every_steps": 16},
    }
    return Recipe.model_validate(whole | changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        # One optimiser step on old weights: the ratio is 1, whatever the sampler did.
        ({"anchor": "old"}, "loss.type=cispo with anchor=old and one optimiser step per rollout is a no-op"),
        ({"anchor": "old", "loss": {"type": "ppo_clip"}, "off_policy": SYNC}, "every ratio is 1"),
        ({"anchor": "old", "loss": {"type": "gspo"}, "numerics": BF16}, "every ratio is 1"),
        # On-policy and the same numerics: the ratio to the sampler is 1 too.
        ({"loss": {"type": "ppo_clip"}, "off_policy": SYNC}, "nothing is ever clipped"),
        ({"loss": {"type": "ppo_clip", "dual_clip": 3.0}, "off_policy": SYNC}, "nothing is ever clipped"),
        (ICEPOP, "counts the sampler's mismatch twice"),
        (OLD_TWO | ICEPOP, "every weight is 1"),
        ({"anchor": "old", "off_policy": K8} | ICEPOP, "every weight is 1"),
        ({"anchor": "old", "loss": {"type": "reinforce"}}, "anchor=old is a no-op with loss.type=reinforce"),
        ({"kl": {"type": "loss", "estimator": "k1"}}, "its expected gradient is 0"),
        ({"kl": {"type": "reward", "estimator": "k3_weighted"}}, "kl.reward.estimator"),
        ({"reference": {"every_steps": 400}}, "reference resets are a no-op with kl.type=none"),
        ({"kl": {"type": "loss"}, "reference": {"new_share": 0.6}}, "no-ops without a trigger"),
        ({"kl": {"type": "loss"}, "reference": {"reset_optimizer": True}}, "no-ops without a trigger"),
        ({"off_policy": K8, "batch": {"mini_batches": 2}}, "already takes k=8 steps"),
        ({"batch": {"mini_batches": 3}}, "must be a multiple of the 3 steps on one rollout"),
        ({"batch": {"mini_batches": 2, "epochs": 16}}, "must be a multiple of the 32 steps"),
        ({"batch": {"mini_batches": 128}}, "prompts_per_step * mini_batches (6144) exceeds tasks.num_train"),
        (
            {"anchor": "old", "mismatch_weight": {"type": "icepop", "low": 5.0, "high": 0.5}},
            "high must be above",
        ),
        ({"loss": {"type": "ppo_clip", "dual_clip": 1.0}}, "greater than 1"),
        ({"entropy_bonus": -0.1}, "greater than or equal to 0"),
    ],
    ids=str,
)
def test_refused_with_the_reason(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        recipe(**changes)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        OLD_TWO,
        {"anchor": "old", "off_policy": K8},
        {"anchor": "old", "batch": {"epochs": 2}},
        # Heads that agree, and yet weights that are not 1: bf16 rounds otherwise in a cache, in-flight data
        # are older than the trainer's old weights, and another engine has numerics of its own.
        OLD_TWO | ICEPOP | {"numerics": BF16},
        {"anchor": "old", "batch": {"epochs": 2}, "off_policy": PIPELINE} | ICEPOP,
        OLD_TWO | ICEPOP | {"engine": {"generator": "vllm"}, "resources": {"generator_gpus": 1}},
        # No ratio, but weights, or a KL that reads the anchor.
        {"anchor": "old", "loss": {"type": "reinforce"}} | ICEPOP,
        {"anchor": "old", "loss": {"type": "reinforce"}, "kl": {"type": "reward"}},
        {"anchor": "old", "loss": {"type": "reinforce"}, "kl": {"type": "loss", "estimator": "k3_weighted"}},
        # Several steps on one rollout: the ratio moves.
        {"loss": {"type": "ppo_clip"}, "off_policy": SYNC, "batch": {"mini_batches": 2}},
        {
            "kl": {"type": "loss"},
            "reference": {"every_steps": 400, "new_share": 0.6, "reset_optimizer": True},
        },
    ],
    ids=str,
)
def test_what_changes_something_is_allowed(changes: dict[str, Any]) -> None:
    assert recipe(**changes).steps_on_old_weights >= 1


def test_counts_of_a_rollout() -> None:
    """R1: 8,192 completions of 512 prompts in 16 steps; here with 16 generations."""
    r1 = recipe(batch={"prompts_per_step": 32, "mini_batches": 16}, off_policy=SYNC)
    assert (r1.batch.prompts_per_rollout, r1.batch.steps_per_rollout, r1.steps_on_old_weights) == (
        512,
        16,
        16,
    )
    assert recipe(off_policy=K8).steps_on_old_weights == 8
    assert recipe().steps_on_old_weights == 1
