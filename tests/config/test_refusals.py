"""Data choices that contradict each other or do nothing are refused, with the reason; their kin are not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.refusals import lowest_reward
from scalerl_lab.config.stages import TemperatureChange, value_at
from tests.rl.tiny import tiny_recipe

SAMPLING = {"generations_per_prompt": 4, "max_response_tokens": 10}
ZERO_ONE = {"correct": 1.0, "wrong": 0.0}
PENALTY = {"type": "penalty", "window_fraction": 0.5}


def stages(*chosen: dict[str, Any]) -> dict[str, Any]:
    return {"curriculum": {"type": "uniform", "stages": list(chosen)}}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"refill": {"max_generated": 5}}, "zero_variance=drop replaces no prompt: a no-op"),
    ({"filter_on": "shaped"}, "no length term shapes the reward"),
    ({"filter_on": "shaped", "length_control": PENALTY, "zero_variance": "keep"}, "no prompt is filtered"),
    ({"reward": {"correct": 0.0, "wrong": 0.0}}, r"correct \(0\) must be larger than wrong \(0\)"),
    ({"length_reward": {"type": "cosine", "eta_min": 1.0}}, "which no advantage sees"),
    (
        {"length_reward": {"type": "cosine_reward", "wrong_long": 0.5}},
        "a correct completion may get 0.5 and a wrong one 0.5",
    ),
    (
        {
            "length_reward": {
                "type": "cosine_reward", "correct_long": 1.0, "wrong_long": -1.0
            }
        },
        "short and long completions get the same",
    ),
    ({"length_reward": {"type": "cosine_reward"}, "reward": ZERO_ONE}, "replaces it at every step: a no-op"),
    (
        {"truncated": {"type": "stop_properly"}},
        "would raise negative rewards, which go down to -1 here",
    ),
    (
        {
            "truncated": {"type": "stop_properly"},
            "reward": ZERO_ONE,
            "length_control": PENALTY | {"applies_to": "all", "scale": 0.25},
        },
        "which go down to -0.25 here",
    ),
    (
        {"truncated": {"type": "stop_properly", "coefficient": 1.0}, "reward": ZERO_ONE},
        "less than 1",
    ),
    (
        {"difficulty_filter": {"type": "pass_rate_band", "samples": 1}},
        r"no share of 1 samples lies between above \(0\) and below \(1\)",
    ),
    (
        {"early_truncation": {"type": "repetition"}},
        r"consecutive_tokens \(3000\) is a no-op: completions end at 10 tokens",
    ),
    (
        {"sampling": SAMPLING | {"temperature_changes": [{"from_step": 5, "value": 1.0}]}},
        "sampling.temperature_changes: the value from step 5 on is 1, as before: a no-op",
    ),
    (
        {
            "sampling": SAMPLING
            | {
                "max_response_tokens_changes": [
                    {"from_step": 5, "value": 12}, {"from_step": 5, "value": 14}
                ]
            }
        },
        "in the order of their steps, each from another step: 5 follows 5",
    ),
    (
        {
            "evaluation": {
                "num_prompts": 8, "temperature_changes": [{"from_step": 0, "value": 0.6}]
            }
        },
        "greater than 0",
    ),
    (stages({"from_step": 0}), "stages.0 is a no-op: its prompts are those that come without it"),
    (
        stages({"from_step": 5, "max_difficulty": 3}, {"from_step": 5}),
        r"stages.1.from_step \(5\) must come after that of the stage before it \(5\)",
    ),
    (
        stages({"from_step": 5, "max_difficulty": 3}, {"from_step": 8, "max_difficulty": 3}),
        "stages.1 is a no-op: its prompts are those of the stage before it",
    ),
    (
        stages({"from_step": 5, "min_difficulty": 4, "max_difficulty": 3}),
        r"max_difficulty \(3\) must be at least min_difficulty \(4\)",
    ),
    (
        stages({"from_step": 5, "min_difficulty": 7}),
        "stages.0 has no prompt: chains have 1 to 6 steps",
    ),
    (
        stages({"from_step": 5, "min_difficulty": 1, "max_difficulty": 6}),
        "these bounds leave none out: a no-op",
    ),
    (stages({"from_step": 5, "domains": {"chain_arithmetic": 1}}), "has one domain; leave it out"),
    (
        {
            "tasks": {"type": "reasoning_gym", "generators": {"spell_backward": {}}},
            **stages({"from_step": 5, "max_difficulty": 3}),
        },
        "no difficulty to choose by",
    ),
    (
        {
            "length_reward": {
                "type": "cosine", "when": {"type": "between", "from_step": 9, "until_step": 9}
            }
        },
        r"until_step \(9\) must be after from_step \(9\)",
    ),
    (
        {"length_reward": {"type": "cosine", "when": {"type": "between"}}},
        "from step 0 until the end is type: always",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "says"), REFUSED, ids=[says[:40] for _, says in REFUSED])
def test_refused_with_the_reason(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        tiny_recipe(**changes)


ALLOWED: list[dict[str, Any]] = [
    {"zero_variance": "refill", "refill": {"max_generated": 5}},
    {"filter_on": "shaped", "length_control": PENALTY},
    {"filter_on": "shaped", "truncated": {"type": "stop_properly", "coefficient": -0.5}},
    {"length_reward": {"type": "cosine_reward", "when": {"type": "cycle"}}, "reward": ZERO_ONE},
    {"truncated": {"type": "stop_properly"}, "reward": ZERO_ONE},
    {"truncated": {"type": "stop_properly"}, "reward": ZERO_ONE, "length_control": PENALTY},
    # An interrupted completion may still be cut within its answer, so filtering it can bite.
    {"truncated": {"type": "mask"}},
    {"early_truncation": {"type": "repetition", "consecutive_tokens": 9}},
    stages({"from_step": 0, "max_difficulty": 3}, {"from_step": 5}),
]


@pytest.mark.parametrize("changes", ALLOWED, ids=str)
def test_what_can_act_is_allowed(changes: dict[str, Any]) -> None:
    assert isinstance(tiny_recipe(**changes), Recipe)


def test_an_early_truncation_that_only_a_later_limit_lets_act_is_allowed() -> None:
    early = {"type": "repetition", "consecutive_tokens": 11}
    later = SAMPLING | {"max_response_tokens_changes": [{"from_step": 5, "value": 12}]}
    with pytest.raises(ValidationError, match="no-op"):
        tiny_recipe(early_truncation=early)
    assert tiny_recipe(early_truncation=early, sampling=later).sampling.longest_response_tokens == 12


@pytest.mark.parametrize(
    ("changes", "lowest"),
    [
        ({}, -1.0),
        ({"reward": ZERO_ONE}, 0.0),
        ({"reward": ZERO_ONE, "length_control": PENALTY}, 0.0),
        ({"reward": ZERO_ONE, "length_control": PENALTY | {"applies_to": "all"}}, -1.0),
        ({"reward": ZERO_ONE, "length_control": PENALTY | {"scale": 1.5}}, -0.5),
        ({"reward": ZERO_ONE, "length_reward": {"type": "cosine", "eta_min": -1.0}}, -0.5),
        ({"reward": ZERO_ONE, "length_reward": {"type": "cosine", "eta_min": 0.5}}, 0.0),
        ({"length_reward": {"type": "cosine_reward", "wrong_short": 0.0, "wrong_long": 0.1}}, 0.0),
        (
            {
                "length_reward": {
                    "type": "cosine_reward",
                    "wrong_short": 0.0,
                    "wrong_long": 0.1,
                    "when": {"type": "cycle"},
                }
            },
            -1.0,
        ),
    ],
    ids=str,
)
def test_the_lowest_reward_by_hand(changes: dict[str, Any], lowest: float) -> None:
    assert lowest_reward(tiny_recipe(**changes)) == pytest.approx(lowest)


def test_values_by_step_by_hand() -> None:
    changes = [TemperatureChange(from_step=10, value=1.2), TemperatureChange(from_step=20, value=0.6)]
    assert [value_at(1.0, changes, step) for step in (0, 9, 10, 19, 20, 99)] == [1.0, 1.0, 1.2, 1.2, 0.6, 0.6]
    assert value_at(1.0, [], 99) == 1.0
