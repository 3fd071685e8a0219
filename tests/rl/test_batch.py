"""The training batch: assembly, micro-batches, invariances. Shape letters: P prompts, B rows, T tokens."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scalerl_lab.config.evaluation import Evaluation
from scalerl_lab.config.objective import BatchAdvantage, CentredAdvantage, PromptAggregation, Reinforce
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.rewards import LengthPenalty, Truncation
from scalerl_lab.config.sampling import Batch, Sampling
from scalerl_lab.config.start import LlamaModel
from scalerl_lab.config.tasks import ChainArithmetic
from scalerl_lab.rl.aggregation import weights
from scalerl_lab.rl.batch import Completions, TrainBatch, assemble, split
from scalerl_lab.rl.losses import token_loss
from tests.rl.batches import (
    AGGREGATION_CHOICES,
    LIMIT,
    LOSS_CHOICES,
    Rows,
    floats,
    random_rows,
    value_and_grad,
)

RECIPE = Recipe(
    name="four_rows",
    model=LlamaModel(),
    tasks=ChainArithmetic(),
    sampling=Sampling(generations_per_prompt=2, max_response_tokens=LIMIT),
    batch=Batch(prompts_per_step=4),
    evaluation=Evaluation(num_prompts=8),
    length_control=Truncation(),
    advantage=CentredAdvantage(),
)


def recipe(**changes: object) -> Recipe:
    return Recipe.model_validate({**dict(RECIPE), **changes})


def completions(
    rewards: list[float], lengths: list[int], prompts: list[int], width: int = LIMIT
) -> Completions:
    length_B = torch.tensor(lengths)
    mask_BT = (torch.arange(width)[None, :] < length_B[:, None]).double()
    rows = len(rewards)
    tokens_BT = torch.arange(rows * width).reshape(rows, width)
    return Completions(
        tokens_BT=tokens_BT,
        response_mask_BT=mask_BT,
        gen_logp_BT=-0.001 * tokens_BT.double() - 0.1,
        prompt_index_B=torch.tensor(prompts),
        raw_reward_B=floats(*rewards),
        num_tokens_B=length_B,
        truncated_B=length_B >= LIMIT,
        num_prompts=max(prompts) + 1,
        step=0,
    )


FOUR = completions([1, -1, 1, 1, -1, -1, -1, 1], [1, 3, 2, 2, 4, 4, 10, 10], [0, 0, 1, 1, 2, 2, 3, 3])


def test_drop_assembles_the_kept_prompts_alone() -> None:
    batch = assemble(recipe(zero_variance="drop"), FOUR)
    assert batch is not None
    assert batch.num_prompts == 2
    assert batch.prompt_index_B.tolist() == [0, 0, 1, 1]
    assert batch.tokens_BT.tolist() == FOUR.tokens_BT[[0, 1, 6, 7]].tolist()
    assert batch.gen_logp_BT.tolist() == FOUR.gen_logp_BT[[0, 1, 6, 7]].tolist()
    assert batch.advantage_BT[:, 0].tolist() == [1.0, -1.0, -1.0, 1.0]
    torch.testing.assert_close(batch.weight_BT.amax(dim=1), floats(1 / 8, 1 / 8, 1 / 40, 1 / 40))


def loss_and_grad(batch: TrainBatch, rows: list[int]) -> tuple[Tensor, Tensor]:
    """REINFORCE with logp = a fixed function of the row of origin."""
    logp_BT = (-0.1 * (1 + torch.tensor(rows).double())[:, None]).expand(-1, LIMIT).clone().requires_grad_()
    terms = token_loss(Reinforce(), logp_BT, batch.anchor_logp_BT, batch.advantage_BT, batch.response_mask_BT)
    total = (batch.weight_BT * terms.loss_BT).sum()
    (grad_BT,) = torch.autograd.grad(total, logp_BT)
    return total.detach(), grad_BT


def test_drop_and_keep_differ_by_the_denominator_alone() -> None:
    """Under `prompt`: dropped prompts have no gradient, and the others P_kept / P of it if they are kept."""
    keep = assemble(recipe(zero_variance="keep", aggregation=PromptAggregation()), FOUR)
    drop = assemble(recipe(zero_variance="drop", aggregation=PromptAggregation()), FOUR)
    assert keep is not None
    assert drop is not None
    keep_loss, keep_grad_BT = loss_and_grad(keep, list(range(8)))
    drop_loss, drop_grad_BT = loss_and_grad(drop, [0, 1, 6, 7])
    assert drop_loss.abs() > 0.01
    torch.testing.assert_close(keep_loss, drop_loss * 2 / 4, rtol=1e-12, atol=0)
    torch.testing.assert_close(keep_grad_BT[[0, 1, 6, 7]], drop_grad_BT * 2 / 4, rtol=1e-12, atol=0)
    assert (keep_grad_BT[[2, 3, 4, 5]] == 0).all()


def test_the_filter_sees_raw_rewards() -> None:
    """Two right answers of unequal length differ only by their penalty: dropped, and gone from the batch."""
    both_right = completions([1, 1, 1, -1], [2, LIMIT, 2, LIMIT], [0, 0, 1, 1])
    penalty = recipe(length_control=LengthPenalty(window_fraction=0.5), zero_variance="drop")
    batch = assemble(penalty, both_right)
    assert batch is not None
    assert batch.tokens_BT.tolist() == both_right.tokens_BT[2:].tolist()
    kept = assemble(
        recipe(length_control=LengthPenalty(window_fraction=0.5), zero_variance="keep"), both_right
    )
    assert kept is not None
    assert kept.advantage_BT[:, 0].tolist() == [0.5, -0.5, 1.0, -1.0]


def test_batch_deviation_is_over_kept_prompts() -> None:
    drop = assemble(recipe(zero_variance="drop", advantage=BatchAdvantage(eps=1e-300)), FOUR)
    keep = assemble(recipe(zero_variance="keep", advantage=BatchAdvantage(eps=1e-300)), FOUR)
    assert drop is not None
    assert keep is not None
    assert drop.advantage_BT[:, 0].tolist() == [1.0, -1.0, -1.0, 1.0]
    torch.testing.assert_close(keep.advantage_BT[:2, 0], floats(math.sqrt(2), -math.sqrt(2)))


def test_nothing_kept_is_no_batch() -> None:
    assert assemble(recipe(zero_variance="drop"), completions([1, 1, -1, -1], [1] * 4, [0, 0, 1, 1])) is None


def test_shapes_are_checked() -> None:
    batch = assemble(recipe(zero_variance="keep"), FOUR)
    assert batch is not None
    with pytest.raises(ValueError, match=r"prompt_index_B has shape \(7,\), not \(8,\)"):
        replace(batch, prompt_index_B=batch.prompt_index_B[:7])
    with pytest.raises(ValueError, match=r"weight_BT has shape \(8, 3\), not \(8, 20\)"):
        replace(batch, weight_BT=batch.weight_BT[:, :3])


# ---------------------------------------------------------------- micro-batches


def batch_of(rows: Rows, weight_BT: Tensor) -> TrainBatch:
    return TrainBatch(
        tokens_BT=torch.arange(rows.logp_BT.numel()).reshape(rows.logp_BT.shape),
        response_mask_BT=rows.mask_BT,
        gen_logp_BT=rows.gen_logp_BT,
        prompt_index_B=rows.prompt_index_B,
        advantage_BT=rows.advantage_B[:, None].expand_as(rows.mask_BT),
        weight_BT=weight_BT,
        num_prompts=rows.num_prompts,
        anchor_logp_BT=rows.gen_logp_BT,
        mismatch_BT=torch.ones_like(rows.mask_BT),
        limit=LIMIT,
        temperature=1.0,
    )


@pytest.mark.parametrize("num_micro", [1, 2, 8, 3])
@pytest.mark.parametrize("aggregation", AGGREGATION_CHOICES)
@pytest.mark.parametrize("loss", LOSS_CHOICES)
def test_micro_batches_add_up(loss: str, aggregation: str, num_micro: int) -> None:
    """Eight rows in 1, 2, 8 and (unevenly, through a prompt) 3 parts, by a parameter they share."""
    rows = random_rows(seed=21)
    loss_cfg, agg_cfg = LOSS_CHOICES[loss](), AGGREGATION_CHOICES[aggregation]()
    whole_loss, whole_grad_BT = value_and_grad(loss_cfg, agg_cfg, rows)
    direction_BT = random_rows(seed=22).logp_BT
    whole_grad = (whole_grad_BT * direction_BT).sum()

    weight_BT = weights(agg_cfg, rows.mask_BT, rows.prompt_index_B, rows.num_prompts, LIMIT)
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    micros = split(batch_of(rows, weight_BT), num_micro)
    assert len(micros) == num_micro
    total = 0.0
    for micro in micros:
        at_BT = micro.tokens_BT
        logp_BT = rows.logp_BT.flatten()[at_BT] + shift * direction_BT.flatten()[at_BT]
        terms = token_loss(
            loss_cfg, logp_BT, micro.anchor_logp_BT, micro.advantage_BT, micro.response_mask_BT
        )
        part = (micro.weight_BT * terms.loss_BT).sum()
        part.backward()
        total += part.item()
    assert shift.grad is not None
    assert whole_grad.abs() > 1e-3
    assert total == pytest.approx(whole_loss.item(), abs=1e-12)
    assert shift.grad.item() == pytest.approx(whole_grad.item(), abs=1e-12)


def test_split_is_a_partition_in_order() -> None:
    batch = assemble(recipe(zero_variance="keep"), FOUR)
    assert batch is not None
    parts = split(batch, 3)
    assert [part.num_rows for part in parts] == [3, 3, 2]
    assert all(part.num_prompts == 4 for part in parts)
    for name in (
        "tokens_BT",
        "response_mask_BT",
        "gen_logp_BT",
        "prompt_index_B",
        "advantage_BT",
        "weight_BT",
        "anchor_logp_BT",
        "mismatch_BT",
    ):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))


@pytest.mark.parametrize("num_micro", [0, 9, -1])
def test_split_refuses_empty_parts(num_micro: int) -> None:
    batch = assemble(recipe(zero_variance="keep"), FOUR)
    assert batch is not None
    with pytest.raises(ValueError, match=f"between 1 and the 8 rows, got {num_micro}"):
        split(batch, num_micro)


# ---------------------------------------------------------------- invariances

names = st.tuples(st.sampled_from(sorted(LOSS_CHOICES)), st.sampled_from(sorted(AGGREGATION_CHOICES)))


@given(names=names, seed=st.integers(0, 1000), left=st.integers(0, 3), right=st.integers(0, 3),
       garbage=st.sampled_from([0.0, 7.5, math.nan, math.inf, -math.inf]))  # fmt: skip
def test_padding_changes_nothing(
    names: tuple[str, str], seed: int, left: int, right: int, garbage: float
) -> None:
    loss, aggregation = LOSS_CHOICES[names[0]](), AGGREGATION_CHOICES[names[1]]()
    rows = random_rows(seed)

    def padded(value_BT: Tensor, fill: float) -> Tensor:
        return torch.nn.functional.pad(value_BT, (left, right), value=fill)

    wide = replace(
        rows,
        logp_BT=padded(rows.logp_BT, -1.0),
        gen_logp_BT=padded(rows.gen_logp_BT, garbage),
        mask_BT=padded(rows.mask_BT, 0.0),
    )
    value, grad_BT = value_and_grad(loss, aggregation, rows)
    wide_value, wide_grad_BT = value_and_grad(loss, aggregation, wide)
    torch.testing.assert_close(wide_value, value, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(wide_grad_BT, padded(grad_BT, 0.0), rtol=1e-12, atol=1e-14)


@given(
    names=names, seed=st.integers(0, 1000), order=st.permutations(range(8)), relabel=st.permutations(range(4))
)
def test_order_and_numbers_of_prompts_change_nothing(
    names: tuple[str, str], seed: int, order: list[int], relabel: list[int]
) -> None:
    loss, aggregation = LOSS_CHOICES[names[0]](), AGGREGATION_CHOICES[names[1]]()
    rows = random_rows(seed)
    moved = replace(rows, prompt_index_B=torch.tensor(relabel)[rows.prompt_index_B]).take(torch.tensor(order))
    value, grad_BT = value_and_grad(loss, aggregation, rows)
    moved_value, moved_grad_BT = value_and_grad(loss, aggregation, moved)
    torch.testing.assert_close(moved_value, value, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(moved_grad_BT, grad_BT[order], rtol=1e-12, atol=1e-14)
