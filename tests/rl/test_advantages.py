"""Advantages against numbers worked by hand and known identities. Shape letters: P prompts, B rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scalerl_lab.config.recipe import BatchAdvantage, CentredAdvantage, GroupStdAdvantage
from scalerl_lab.rl.advantages import ADVANTAGES, advantages
from tests.rl.batches import ADVANTAGE_CHOICES, floats

EXACT = {
    "group_std": GroupStdAdvantage(eps=1e-300),
    "batch": BatchAdvantage(eps=1e-300),
    "none": CentredAdvantage(),
}
REWARDS = floats(1, -1, 1, -1, -1, -1)
PROMPTS = torch.tensor([0, 0, 1, 1, 1, 1])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Group standard deviations: sqrt(2) and 1.
        ("group_std", [math.sqrt(0.5), -math.sqrt(0.5), 1.5, -0.5, -0.5, -0.5]),
        # Mean square of the centred rewards: (2 + 3) / 6.
        ("batch", [1.0954451150, -1.0954451150, 1.6431676725, -0.5477225575, -0.5477225575, -0.5477225575]),
        ("none", [1.0, -1.0, 1.5, -0.5, -0.5, -0.5]),
    ],
)
def test_two_prompts_by_hand(name: str, expected: list[float]) -> None:
    got = advantages(EXACT[name], REWARDS, PROMPTS, 2)
    torch.testing.assert_close(got, floats(*expected), rtol=1e-9, atol=0)


def test_eps_is_added_to_the_standard_deviation() -> None:
    reward_B = floats(1, -1, -1, -1)
    one = torch.zeros(4, dtype=torch.long)
    got = advantages(GroupStdAdvantage(eps=0.5), reward_B, one, 1)
    torch.testing.assert_close(got, floats(1.5, -0.5, -0.5, -0.5) / 1.5)
    got = advantages(BatchAdvantage(eps=0.5), reward_B, one, 1)
    torch.testing.assert_close(got, floats(1.5, -0.5, -0.5, -0.5) / (math.sqrt(0.75) + 0.5))


@pytest.mark.parametrize(("right", "group"), [(1, 4), (3, 4), (2, 16), (15, 16)])
def test_group_std_of_binary_rewards(right: int, group: int) -> None:
    """A = sqrt((1-q)/q) if right and -sqrt(q/(1-q)) if wrong, times sqrt((G-1)/G) for the unbiased sd."""
    reward_B = floats(*[1.0] * right, *[-1.0] * (group - right))
    got = advantages(EXACT["group_std"], reward_B, torch.zeros(group, dtype=torch.long), 1)
    q, unbias = right / group, math.sqrt((group - 1) / group)
    assert got[0].item() == pytest.approx(unbias * math.sqrt((1 - q) / q), rel=1e-12)
    assert got[-1].item() == pytest.approx(-unbias * math.sqrt(q / (1 - q)), rel=1e-12)


rewards = st.lists(
    st.lists(st.sampled_from([-1.0, 1.0, 0.25]), min_size=2, max_size=5), min_size=1, max_size=5
)


def flat(groups: list[list[float]]) -> tuple[Tensor, Tensor, int]:
    index = [p for p, group in enumerate(groups) for _ in group]
    return floats(*[r for group in groups for r in group]), torch.tensor(index), len(groups)


@pytest.mark.parametrize("name", ADVANTAGES)
@given(groups=rewards)
def test_each_prompt_sums_to_zero(name: str, groups: list[list[float]]) -> None:
    reward_B, index_B, num = flat(groups)
    got = advantages(ADVANTAGE_CHOICES[name](), reward_B, index_B, num)
    assert got.isfinite().all()
    for prompt in range(num):
        assert float(got[index_B == prompt].sum()) == pytest.approx(0.0, abs=1e-9)


@given(groups=rewards, scale=st.floats(0.1, 10.0), shift=st.floats(-5.0, 5.0))
def test_normalised_advantages_do_not_see_the_scale(
    groups: list[list[float]], scale: float, shift: float
) -> None:
    reward_B, index_B, num = flat([group for group in groups if len(set(group)) > 1] or [[1.0, -1.0]])
    for name, factor in (("group_std", 1.0), ("batch", 1.0), ("none", scale)):
        before = advantages(EXACT[name], reward_B, index_B, num)
        after = advantages(EXACT[name], scale * reward_B + shift, index_B, num)
        torch.testing.assert_close(after, factor * before, rtol=1e-9, atol=1e-9)


@given(groups=rewards)
def test_against_numpy(groups: list[list[float]]) -> None:
    groups = [group for group in groups if len(set(group)) > 1] or [[1.0, -1.0]]
    centred = [np.array(group) - np.mean(group) for group in groups]
    reward_B, index_B, num = flat(groups)
    spread = np.std(np.concatenate(centred))
    expected = {
        "none": np.concatenate(centred),
        "batch": np.concatenate(centred) / spread,
        "group_std": np.concatenate([c / np.std(g, ddof=1) for c, g in zip(centred, groups, strict=True)]),
    }
    assert expected.keys() == ADVANTAGES.keys()
    for name, want in expected.items():
        got = advantages(EXACT[name], reward_B, index_B, num).numpy()
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


@given(groups=rewards)
def test_batch_advantages_have_mean_square_one(groups: list[list[float]]) -> None:
    reward_B, index_B, num = flat([*groups, [1.0, -1.0]])
    got = advantages(EXACT["batch"], reward_B, index_B, num)
    assert float(got.square().mean()) == pytest.approx(1.0, rel=1e-12)


def test_batch_shares_one_scale_where_group_std_does_not() -> None:
    """The factor on a centred reward is one number under batch, one per prompt under group_std."""
    centred_B = advantages(EXACT["none"], REWARDS, PROMPTS, 2)
    ratio = {
        name: advantages(EXACT[name], REWARDS, PROMPTS, 2) / centred_B for name in ("batch", "group_std")
    }
    assert float(ratio["batch"].std()) == pytest.approx(0.0, abs=1e-12)
    assert ratio["group_std"][0].item() == pytest.approx(math.sqrt(0.5))
    assert ratio["group_std"][2].item() == pytest.approx(1.0)


@pytest.mark.parametrize("name", ADVANTAGES)
def test_no_variance_no_advantage(name: str) -> None:
    """Equal rewards, and a prompt with one completion, give exactly 0 and never NaN."""
    got = advantages(
        ADVANTAGE_CHOICES[name](), floats(1, 1, 1, -1, -1, -1, 1), torch.tensor([0, 0, 0, 1, 1, 1, 2]), 3
    )
    assert got.tolist() == [0.0] * 7


@pytest.mark.parametrize("name", ADVANTAGES)
@given(order=st.permutations(range(6)), relabel=st.booleans())
def test_row_order_and_prompt_numbers_change_nothing(name: str, order: list[int], relabel: bool) -> None:
    cfg = ADVANTAGE_CHOICES[name]()
    index_B = 1 - PROMPTS if relabel else PROMPTS
    got = advantages(cfg, REWARDS[order], index_B[order], 2)
    torch.testing.assert_close(got, advantages(cfg, REWARDS, PROMPTS, 2)[order], rtol=1e-12, atol=1e-15)
