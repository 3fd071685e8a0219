"""Counted operations against hand-worked numbers and against PyTorch's own counter."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from scalerl_lab.config.profile import FlopsMeter, WallMeter
from scalerl_lab.config.start import LlamaModel
from scalerl_lab.engines.policy import build_policy, matrix_params
from scalerl_lab.rl.meter import Clock, ModelShape, Pace, gpu_hours

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=20)


def test_forward_by_hand() -> None:
    # Two tokens: 2 * (2 * 10), attention 4 * 1 * 2 * (1 + 2).
    assert ModelShape(10, 1, 2).forward_flops(2, 3) == 64


def test_training_by_hand() -> None:
    # Rows of 3 and 2 tokens read 2 and 1: 3 * (2 * 10 * 3 + 4 * 1 * 2 * (1 + 2 + 1)).
    assert ModelShape(10, 1, 2).training_flops([3, 2]) == 276


@given(LENGTHS, LENGTHS)
def test_batches_add_up_whatever_the_split_and_order(one: list[int], other: list[int]) -> None:
    shape = ModelShape(1234, 3, 16)
    whole = shape.training_flops([*one, *other])
    assert whole == shape.training_flops(one) + shape.training_flops(other)
    assert whole == shape.training_flops(sorted([*one, *other]))


def test_matrix_products_agree_with_torchs_counter() -> None:
    policy = build_policy(LlamaModel(layers=2, width=16, heads=2, mlp_width=24), 11, 0)
    shape = ModelShape(matrix_params(policy), 2, 16)
    tokens = torch.randint(0, 11, (3, 7))
    with FlopCounterMode(display=False) as counter:
        policy(input_ids=tokens).logits.sum().backward()
    counts = counter.get_flop_counts()["Global"]
    products = sum(n for op, n in counts.items() if op in (torch.ops.aten.mm, torch.ops.aten.addmm))
    assert products == 3 * shape.forward_flops(21, 0)


@pytest.mark.parametrize(
    ("meter", "flops", "wall_s", "devices", "hours"),
    [
        (FlopsMeter(flops_per_gpu_hour=1e9), 3_000_000_000, 77.0, 8, 3.0),
        (WallMeter(), 3_000_000_000, 1800.0, 8, 4.0),
        (WallMeter(), 0, 3600.0, 1, 1.0),
    ],
)
def test_hours(meter: FlopsMeter | WallMeter, flops: int, wall_s: float, devices: int, hours: float) -> None:
    assert gpu_hours(meter, flops, wall_s, devices) == hours
    assert Clock(meter, devices, flops, wall_s).gpu_hours == hours


def test_pace_by_hand() -> None:
    """500 tokens in 10 s: 6 rolling out with 1 of reward, 3 in the update, 1 in neither; 10 s to evaluate."""
    pace = Pace(tokens=500, trained=400, whole_s=10.0, generation_s=6.0, reward_s=1.0, update_s=3.0)
    assert pace.means(10.0) == {
        "tokens_per_s": 50.0,
        "trained_tokens_per_s": 40.0,
        "generation_share": 0.25,
        "update_share": 0.15,
        "reward_share": 0.05,
        "waiting_share": 0.05,
        "evaluation_share": 0.5,
    }


def test_no_time_no_pace() -> None:
    assert set(Pace().means(1.0).values()) == {None}


def test_blocks_are_timed_into_the_field_they_name() -> None:
    pace = Pace()
    for _ in range(2):
        with pace.timed("update_s"):
            time.sleep(0.01)
    assert 0.02 <= pace.update_s < 2.0
    assert pace.generation_s == 0.0
