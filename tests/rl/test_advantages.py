"""Advantages against numbers worked by hand and known identities. Shape letters: P prompts, B rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scalerl_lab.config.objective import (
    BatchAdvantage,
    BatchRawAdvantage,
    CentredAdvantage,
    GroupStdAdvantage,
    MagistralAdvantage,
    ReinforcePPAdvantage,
    ReinforcePPBaselineAdvantage,
    RLOOAdvantage,
)
from scalerl_lab.rl.advantages import ADVANTAGES, advantages, of_one_step
from tests.rl.batches import ADVANTAGE_CHOICES, floats

EXACT = {
    "group_std": GroupStdAdvantage(eps=1e-300),
    "batch": BatchAdvantage(eps=1e-300),
    "none": CentredAdvantage(),
    "rloo": RLOOAdvantage(),
    "batch_raw": BatchRawAdvantage(eps=1e-300),
    "reinforce_pp": ReinforcePPAdvantage(eps=1e-300),
    "reinforce_pp_baseline": ReinforcePPBaselineAdvantage(eps=1e-300),
    "magistral": MagistralAdvantage(eps=1e-300),
}
NO_BASELINE = {"reinforce_pp"}
"""Rows without a group mean."""
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
        ("rloo", [2.0, -2.0, 2.0, -2 / 3, -2 / 3, -2 / 3]),
        # Rewards as they are: mean -1/3, sum of squares about it 2 (4/3)^2 + 4 (2/3)^2 = 16/3, over 5.
        ("batch_raw", [0.968245837, -0.968245837, 1.452368755, -0.484122918, -0.484122918, -0.484122918]),
        # The same deviation, about the batch's mean: (4/3, -2/3, ...) / sqrt(16/15).
        ("reinforce_pp", [1.290994449, -0.645497224, 1.290994449, -0.645497224, -0.645497224, -0.645497224]),
        # Centred rewards have sum of squares 2 + 3, over 5.
        ("reinforce_pp_baseline", [1.0, -1.0, 1.5, -0.5, -0.5, -0.5]),
        ("magistral", [1.0, -1.0, 1.5, -0.5, -0.5, -0.5]),
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


@pytest.mark.parametrize("cls", [ReinforcePPAdvantage, ReinforcePPBaselineAdvantage])
def test_reinforce_pp_by_token_and_by_sequence(
    cls: type[ReinforcePPAdvantage | ReinforcePPBaselineAdvantage],
) -> None:
    """Rewards (1, -1) of one prompt, 1 and 3 tokens long."""
    mask_BT = floats([1, 0, 0], [1, 1, 1])
    one = torch.tensor([0, 0])
    # Over tokens: mean (1 - 3) / 4, variance (1.5^2 + 3 * 0.5^2) / 3 = 1. Over completions: 0 and 2.
    for weighting, expected in (("token", (1.5, -0.5)), ("sequence", (math.sqrt(0.5), -math.sqrt(0.5)))):
        got = advantages(cls(weighting=weighting, eps=1e-300), floats(1, -1), one, 1, mask_BT)
        torch.testing.assert_close(got, floats(*expected), rtol=1e-12, atol=0)


def test_eps_of_whitening_is_added_to_the_variance() -> None:
    got = advantages(MagistralAdvantage(eps=2.0), floats(1, -1), torch.tensor([0, 0]), 1)
    torch.testing.assert_close(got, floats(0.5, -0.5), rtol=1e-12, atol=0)  # variance 2


def test_a_kl_in_the_reward_is_taken_off_whole_or_from_each_token_on() -> None:
    """Rewards (1, -1); penalties (0.1, 0.2) and (0.3): rewards become 0.7 and -1.3."""
    penalty_BT, mask_BT = floats([0.1, 0.2], [0.3, 0.0]), floats([1, 1], [1, 0])
    one = torch.tensor([0, 0])
    got = advantages(CentredAdvantage(), floats(1, -1), one, 1, mask_BT, penalty_BT)
    torch.testing.assert_close(got, floats(1.0, -1.0), rtol=1e-12, atol=0)
    # Returns (0.7, 0.8) and (-1.3): mean 1/15, variance of the three 1.403333.
    got = advantages(ReinforcePPAdvantage(eps=1e-300), floats(1, -1), one, 1, mask_BT, penalty_BT)
    returns = np.array([0.7, 0.8, -1.3])
    want = (returns - returns.mean()) / returns.std(ddof=1)
    assert got[mask_BT > 0].tolist() == pytest.approx(want.tolist(), rel=1e-12)
    # By sequence the scale is that of the whole rewards 0.7 and -1.3: mean -0.3, deviation sqrt(2).
    cfg = ReinforcePPAdvantage(weighting="sequence", eps=1e-300)
    got = advantages(cfg, floats(1, -1), one, 1, mask_BT, penalty_BT)
    assert got[mask_BT > 0].tolist() == pytest.approx([x / math.sqrt(2) for x in (1.0, 1.1, -1.0)], rel=1e-12)


def test_magistral_is_whitened_again_in_each_mini_batch() -> None:
    """Two prompts of unlike spread: as one batch they share a scale, as two mini-batches each has its own."""
    whole_B = advantages(EXACT["magistral"], floats(1, -1, 0.5, 0.25), torch.tensor([0, 0, 1, 1]), 2)
    # Centred (1, -1, 0.125, -0.125): variance (2 + 0.03125) / 3.
    assert whole_B[0].item() == pytest.approx(1 / math.sqrt(2.03125 / 3), rel=1e-12)
    for rows in (slice(0, 2), slice(2, 4)):
        part_BT = whole_B[rows, None].expand(-1, 3)
        got = of_one_step(MagistralAdvantage(), part_BT)
        want = floats(math.sqrt(0.5), -math.sqrt(0.5))[:, None].expand(-1, 3)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=0)
        assert torch.equal(of_one_step(CentredAdvantage(), part_BT), part_BT)


@pytest.mark.parametrize("name", sorted(ADVANTAGES.keys() - NO_BASELINE))
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
    for name in EXACT:
        factor = scale if name in ("none", "rloo") else 1.0
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
        "rloo": np.concatenate(
            [[r - (sum(g) - r) / (len(g) - 1) for r in g] for g in groups]  # the others' mean
        ),
        "batch_raw": np.concatenate(centred) / np.std(np.concatenate(groups), ddof=1),
        "reinforce_pp": (np.concatenate(groups) - np.mean(np.concatenate(groups)))
        / np.std(np.concatenate(groups), ddof=1),
        "reinforce_pp_baseline": np.concatenate(centred) / np.std(np.concatenate(centred), ddof=1),
        "magistral": np.concatenate(centred) / np.std(np.concatenate(centred), ddof=1),
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


@pytest.mark.parametrize("name", sorted(ADVANTAGES.keys() - NO_BASELINE))
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
