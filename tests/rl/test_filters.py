"""The zero-variance filter. Shape letters: P prompts, B rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scalerl_lab.rl.filters import kept_prompts
from tests.rl.batches import floats


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("drop", [True, False, False]), ("keep", [True, True, True]), ("refill", [True, False, False])],
)
def test_by_hand(mode: str, expected: list[bool]) -> None:
    got = kept_prompts(mode, floats(1, -1, 1, 1, -1, -1), torch.tensor([0, 0, 1, 1, 2, 2]), 3)
    assert got.dtype == torch.bool
    assert got.tolist() == expected


def test_the_comparison_is_exact() -> None:
    """Rewards whose mean rounds are still equal, and the smallest difference is one."""
    third = 1.0 / 3.0
    reward_B = floats(third, third, third, third, third, third + 2**-54)
    assert kept_prompts("drop", reward_B, torch.tensor([0, 0, 0, 1, 1, 1]), 2).tolist() == [False, True]


@given(
    groups=st.lists(st.lists(st.sampled_from([-1.0, 1.0]), min_size=1, max_size=4), min_size=1, max_size=6),
    seed=st.integers(0, 100),
)
def test_any_row_order(groups: list[list[float]], seed: int) -> None:
    rows = [(reward, p) for p, group in enumerate(groups) for reward in group]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    reward_B = floats(*[rows[i][0] for i in order])
    index_B = torch.tensor([rows[i][1] for i in order])
    got = kept_prompts("drop", reward_B, index_B, len(groups)).tolist()
    assert got == [len(set(group)) > 1 for group in groups]
