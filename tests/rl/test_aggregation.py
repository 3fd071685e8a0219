"""Aggregation weights against numbers worked by hand. Shape letters: P prompts, B rows, T tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scalerl_lab.rl.aggregation import AGGREGATIONS, weights
from tests.rl.batches import AGGREGATION_CHOICES, LIMIT, floats, random_rows


def mask_of(*lengths: int, width: int = 10) -> Tensor:
    return (torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]).double()


def row_weights(name: str, mask_BT: Tensor, prompts: list[int], num_prompts: int) -> Tensor:
    """Weight per loss token of each row, after a check that it is the same for all of the row's tokens."""
    weight_BT = weights(AGGREGATION_CHOICES[name](), mask_BT, torch.tensor(prompts), num_prompts, LIMIT)
    assert weight_BT.shape == mask_BT.shape
    assert (weight_BT[mask_BT == 0] == 0).all()
    high_B = weight_BT.amax(dim=1)
    assert torch.equal(weight_BT, mask_BT * high_B[:, None])
    return high_B


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sample", [1 / 3, 1 / 9, 1 / 30]),
        ("prompt", [1 / 8, 1 / 8, 1 / 20]),
        ("token", [1 / 14, 1 / 14, 1 / 14]),
        ("const", [1 / 60, 1 / 60, 1 / 60]),
    ],
)
def test_lengths_one_three_and_ten(name: str, expected: list[float]) -> None:
    got = row_weights(name, mask_of(1, 3, 10), [0, 0, 1], 2)
    torch.testing.assert_close(got, floats(*expected), rtol=1e-15, atol=0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sample", [0.0, 1 / 9, 1 / 30]),  # three completions, also the empty one
        ("prompt", [0.0, 1 / 6, 1 / 20]),
        ("token", [0.0, 1 / 13, 1 / 13]),
        ("const", [0.0, 1 / 60, 1 / 60]),
    ],
)
def test_a_completion_without_loss_tokens(name: str, expected: list[float]) -> None:
    got = row_weights(name, mask_of(0, 3, 10), [0, 0, 1], 2)
    torch.testing.assert_close(got, floats(*expected), rtol=1e-15, atol=0)


@pytest.mark.parametrize(("name", "expected"), [("sample", 1 / 20), ("prompt", 1 / 20), ("token", 1 / 10)])
def test_a_prompt_without_loss_tokens_still_counts(name: str, expected: float) -> None:
    got = row_weights(name, mask_of(0, 10), [0, 1], 2)
    torch.testing.assert_close(got, floats(0.0, expected), rtol=1e-15, atol=0)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_nothing_to_learn_from_gives_finite_zeros(name: str) -> None:
    weight_BT = weights(AGGREGATION_CHOICES[name](), mask_of(0, 0), torch.tensor([0, 1]), 2, LIMIT)
    assert (weight_BT == 0).all()


@pytest.mark.parametrize("name", ["sample", "prompt", "token"])
@given(seed=st.integers(0, 10_000))
def test_a_mean_of_ones_is_one(name: str, seed: int) -> None:
    rows = random_rows(seed, prompts=3, generations=3)
    weight_BT = weights(AGGREGATION_CHOICES[name](), rows.mask_BT, rows.prompt_index_B, 3, LIMIT)
    assert float(weight_BT.sum()) == pytest.approx(1.0, rel=1e-12)


@given(seed=st.integers(0, 10_000))
def test_prompt_weighs_prompts_alike_and_sample_completions(seed: int) -> None:
    rows = random_rows(seed, prompts=3, generations=4)
    index_B = rows.prompt_index_B
    prompt_BT = weights(AGGREGATION_CHOICES["prompt"](), rows.mask_BT, index_B, 3, LIMIT)
    sample_BT = weights(AGGREGATION_CHOICES["sample"](), rows.mask_BT, index_B, 3, LIMIT)
    torch.testing.assert_close(prompt_BT.reshape(3, -1).sum(dim=1), floats(*[1 / 3] * 3))
    torch.testing.assert_close(sample_BT.sum(dim=1), floats(*[1 / 12] * 12))


def test_const_does_not_depend_on_lengths_or_padding() -> None:
    narrow = row_weights("const", mask_of(1, 3, width=4), [0, 0], 1)
    wide = row_weights("const", mask_of(3, 3, width=9), [0, 0], 1)
    assert narrow.tolist() == wide.tolist() == [1 / 40, 1 / 40]


def test_equal_lengths_make_all_means_agree() -> None:
    got = {name: row_weights(name, mask_of(5, 5, 5, 5), [0, 0, 1, 1], 2) for name in AGGREGATIONS}
    for name in ("sample", "prompt", "token"):
        torch.testing.assert_close(got[name], floats(*[1 / 20] * 4), rtol=1e-15, atol=0)
    torch.testing.assert_close(got["const"], floats(*[1 / 80] * 4), rtol=1e-15, atol=0)
