"""Reward shaping against numbers worked by hand. Shape letters: B rows."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.rewards import CosineBonus, CosineReward, Reward, StopProperly
from scalerl_lab.config.stages import Always, Between, Cycle
from scalerl_lab.rl.batch import Completions, TrainBatch, assemble, mini_batches
from scalerl_lab.rl.filters import judge
from scalerl_lab.rl.rewards import after_truncation, holds, shaped_rewards, with_length_reward, worth
from tests.rl.batches import floats
from tests.rl.test_batch import completions
from tests.rl.tiny import tiny_recipe

ON = {"type": "always"}


def shaped(
    recipe: Recipe, raw: list[float], tokens: list[int], cut: list[bool], step: int = 0
) -> list[float]:
    return shaped_rewards(recipe, floats(*raw), torch.tensor(tokens), torch.tensor(cut), step).tolist()


def test_worth_by_hand() -> None:
    assert worth(Reward(), floats(0, 1)).tolist() == [-1.0, 1.0]
    assert worth(Reward(correct=1, wrong=-0.5), floats(0, 0.5, 1)).tolist() == [-0.5, 0.25, 1.0]


def test_cosine_by_hand() -> None:
    """eta falls from 0.8 to 0.2 over 100 tokens: 0.8, 0.5 + 0.3 cos(pi/4), 0.5, 0.2, 0.2; half of it."""
    cfg = CosineBonus(weight=0.5, eta_min=0.2, eta_max=0.8, when=Always())
    right = torch.tensor([True, False, True, False, True])
    got = with_length_reward(cfg, floats(1, 0, 1, 0, 1), right, floats(0, 25, 50, 100, 140), 100, 0)
    expected = floats(1.4, 0.25 + 0.15 * math.sqrt(0.5), 1.25, 0.1, 1.1)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_cosine_reward_by_hand() -> None:
    """TRL's defaults: right 1 to 0.5, wrong -1 to -0.5; at a third of the way cos is 1/2: three quarters."""
    right = torch.tensor([True, True, True, False, False, False])
    got = with_length_reward(
        CosineReward(), floats(9, 9, 9, 9, 9, 9), right, floats(0, 20, 60, 0, 20, 60), 60, 0
    )
    torch.testing.assert_close(got, floats(1, 0.875, 0.5, -1, -0.875, -0.5), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("coefficient", "expected"), [(0.1, [0.1, 1, 0.05]), (0.0, [0, 1, 0]), (-0.5, [-0.5, 1, -0.5])]
)
def test_stop_properly_by_hand(coefficient: float, expected: list[float]) -> None:
    cut = torch.tensor([True, False, True])
    got = after_truncation(StopProperly(coefficient=coefficient), floats(1, 1, 0.5), cut, 0)
    torch.testing.assert_close(got, floats(*expected), rtol=0, atol=1e-12)


def test_schedules_by_hand() -> None:
    on_first, off_first = Cycle(on_steps=2, off_steps=3), Cycle(on_steps=2, off_steps=3, first="off")
    assert [holds(on_first, step) for step in range(7)] == [True, True, False, False, False, True, True]
    assert [holds(off_first, step) for step in range(7)] == [False, False, False, True, True, False, False]
    assert [holds(Between(from_step=2, until_step=4), step) for step in range(6)] == [
        False, False, True, True, False, False,
    ]  # fmt: skip
    assert [holds(Between(from_step=2), step) for step in (1, 2, 10_000)] == [False, True, True]


def test_every_combination_in_the_order_that_the_room_declares() -> None:
    """All on and off combinations, right and wrong, cut or not, against arithmetic done here.

    Limit 10, 9 tokens: cosine at 9/10; the penalty's window is half, so 0.8 of the scale is lost.
    """
    fall = (1.0 + math.cos(math.pi * 0.9)) / 2.0
    for replaces, punishes, stops in itertools.product((False, True), repeat=3):
        recipe = tiny_recipe(
            reward={"correct": 2.0, "wrong": 0.5},
            length_reward={
                "type": "cosine", "weight": 1.0, "when": {"type": "cycle", "on_steps": 1, "off_steps": 1}
            } if replaces else {"type": "none"},
            length_control={"type": "penalty", "window_fraction": 0.5, "applies_to": "all", "scale": 0.25}
            if punishes else {"type": "truncate"},
            truncated={"type": "stop_properly", "coefficient": 0.5} if stops else {"type": "score"},
        )  # fmt: skip
        for right, cut, step in itertools.product((1.0, -1.0), (False, True), (0, 1)):
            expected = 2.0 if right > 0 else 0.5
            expected += fall if replaces and step == 0 else 0.0
            expected -= 0.2 if punishes else 0.0
            expected *= 0.5 if stops and cut else 1.0
            assert shaped(recipe, [right], [9], [cut], step) == pytest.approx([expected], abs=1e-12)


def test_today_s_recipes_keep_their_rewards_bit_for_bit() -> None:
    raw, tokens = torch.tensor([1.0, -1.0, 1.0]), torch.tensor([7, 9, 9])
    recipe = tiny_recipe(length_control={"type": "penalty", "window_fraction": 0.3})
    got = shaped_rewards(recipe, raw, tokens, torch.tensor([False, False, True]), 5)
    room = ((10 - torch.tensor([7.0, 9.0, 9.0])) / (0.3 * 10) - 1.0).clamp(-1.0, 0.0)
    assert torch.equal(got, torch.where(raw > 0, raw + room, raw))
    assert torch.equal(shaped_rewards(tiny_recipe(), raw, tokens, torch.ones(3, dtype=torch.bool), 5), raw)


def test_the_limit_of_the_step_is_the_one_that_counts() -> None:
    recipe = tiny_recipe(
        sampling={
            "generations_per_prompt": 4,
            "max_response_tokens": 10,
            "max_response_tokens_changes": [{"from_step": 3, "value": 20}],
        },
        length_control={"type": "penalty", "window_fraction": 0.5},
    )
    # 9 of 10 tokens: 0.2 of a window of 5 is left; 9 of 20 are before the window of 10 begins.
    assert shaped(recipe, [1], [9], [False], 2) == pytest.approx([0.2])
    assert shaped(recipe, [1], [9], [False], 3) == [1.0]


def test_a_part_of_the_score_is_not_a_correct_answer() -> None:
    recipe = tiny_recipe(length_control={"type": "penalty", "window_fraction": 0.5})
    assert shaped(recipe, [0.999, 1.0], [10, 10], [False, False]) == pytest.approx([0.999, 0.0], abs=1e-12)


@pytest.mark.parametrize(
    ("filter_on", "expected"), [("raw", [True, False, False]), ("shaped", [True, True, False])]
)
def test_length_terms_give_variance_that_only_the_shaped_filter_sees(
    filter_on: str, expected: list[bool]
) -> None:
    """The pitfall: prompt 1 is always solved, but one of its completions is in the penalty's window."""
    recipe = tiny_recipe(filter_on=filter_on, length_control={"type": "penalty", "window_fraction": 0.5})
    batch = completions([1, -1, 1, 1, -1, -1], [1, 1, 1, 9, 1, 9], [0, 0, 1, 1, 2, 2])
    assert judge(recipe, batch).kept_P.tolist() == expected


@given(st.permutations(range(6)), st.integers(0, 12))
def test_the_order_of_completions_changes_nothing(order: list[int], step: int) -> None:
    recipe = tiny_recipe(
        reward={"correct": 1.0, "wrong": 0.0},
        length_reward={"type": "cosine", "when": {"type": "cycle", "on_steps": 3, "off_steps": 4}},
        truncated={"type": "stop_properly", "coefficient": -0.5},
    )
    raw, tokens, cut = [1, -1, 1, -1, 1, 0.5], [1, 3, 10, 10, 6, 2], [False, False, True, True, False, False]
    whole = shaped(recipe, raw, tokens, cut, step)
    mixed = shaped(recipe, *([each[i] for i in order] for each in (raw, tokens, cut)), step)  # type: ignore[arg-type]
    assert mixed == [whole[i] for i in order]


def test_a_masked_completion_trains_nothing_but_counts_where_asked() -> None:
    """Rewards (1, -1, 1) of one prompt, the last cut: means 1/3 or 0, and no row of it in the batch."""
    batch = completions([1, -1, 1], [4, 2, 20], [0, 0, 0])
    for in_statistics, expected in ((True, [2 / 3, -4 / 3]), (False, [1, -1])):
        made = trained(masked(in_statistics), batch)
        assert made is not None
        assert made.num_rows == 2
        assert made.advantage_BT[:, 0].tolist() == pytest.approx(expected)
        # Token average: 6 tokens carry loss, whichever it is.
        assert made.weight_BT.unique().tolist() == pytest.approx([0, 1 / 6])
    sample = trained(masked(True, aggregation={"type": "sample"}), batch)
    assert sample is not None
    # The masked completion is one of three, as in TRL's mean over completions.
    assert sample.weight_BT.amax(1).tolist() == pytest.approx([1 / 12, 1 / 6])


def trained(recipe: Recipe, batch: Completions) -> TrainBatch | None:
    """What the one step on a rollout consumes."""
    whole = assemble(recipe, batch)
    return None if whole is None else mini_batches(recipe, whole)[0]


def masked(in_statistics: bool, **changes: Any) -> Recipe:
    return tiny_recipe(
        truncated={"type": "mask", "in_statistics": in_statistics},
        advantage={"type": "none"},
        length_control={"type": "truncate"},
        **({"aggregation": {"type": "token"}} | changes),
    )


@pytest.mark.parametrize("mode", ["drop", "keep"])
def test_prompts_of_truncated_completions_only_train_nothing(mode: str) -> None:
    batch = completions([1, -1, 1, -1], [20, 20, 3, 3], [0, 0, 1, 1])
    out = assemble(masked(False, zero_variance=mode), batch)
    assert out is not None
    assert (out.num_prompts, out.prompt_index_B.tolist()) == (1, [0, 0])
    all_cut = completions([1, -1], [20, 20], [0, 0])
    assert assemble(masked(False, zero_variance=mode), all_cut) is None
    assert assemble(masked(True, zero_variance=mode), all_cut) is None


SHAPINGS: list[dict[str, Any]] = [
    {
        "length_control": {"type": "penalty", "window_fraction": 0.5, "applies_to": "all"},
        "filter_on": "shaped",
    },
    {"length_reward": {"type": "cosine", "when": ON}, "filter_on": "shaped", "zero_variance": "refill"},
    {"length_reward": {"type": "cosine_reward"}, "truncated": {"type": "stop_properly", "coefficient": -2.0}},
    {"truncated": {"type": "mask"}, "zero_variance": "keep"},
    {"truncated": {"type": "mask", "in_statistics": False}},
]


@pytest.mark.parametrize("aggregation", ["sample", "prompt", "token", "const"])
@pytest.mark.parametrize("changes", SHAPINGS, ids=str)
@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0)], ids=str)
def test_prompts_in_another_order_and_more_padding_change_nothing(
    changes: dict[str, Any], order: tuple[int, ...], aggregation: str
) -> None:
    recipe = tiny_recipe(
        sampling={"generations_per_prompt": 3, "max_response_tokens": 20},
        aggregation={"type": aggregation},
        **{"length_control": {"type": "truncate"}} | changes,
    )
    raw, tokens = [1, -1, 1, 1, 1, 1, -1, 1, -1], [4, 20, 9, 3, 12, 20, 20, 7, 8]
    whole = trained(recipe, completions(raw, tokens, [0, 0, 0, 1, 1, 1, 2, 2, 2]))
    rows = [3 * prompt + row for prompt in order for row in (1, 2, 0)]
    mixed = trained(
        recipe,
        completions([raw[i] for i in rows], [tokens[i] for i in rows], [0, 0, 0, 1, 1, 1, 2, 2, 2], width=31),
    )
    assert whole is not None
    assert mixed is not None
    assert mixed.num_prompts == whole.num_prompts

    def seen(batch: Any) -> list[tuple[float, ...]]:
        values = (batch.response_mask_BT.sum(1), batch.advantage_BT[:, 0], batch.weight_BT.sum(1))
        return sorted(zip(*(each.tolist() for each in values), strict=True))

    for one, two in zip(seen(whole), seen(mixed), strict=True):
        assert one == pytest.approx(two, abs=1e-12)
