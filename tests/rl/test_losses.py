"""Token losses against numbers worked by hand. Shape letters: B rows, T tokens."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scalerl_lab.config.objective import (
    CISPO,
    GSPO,
    Loss,
    PPOClip,
    PromptAggregation,
    Reinforce,
    SampleAggregation,
    TokenAggregation,
)
from scalerl_lab.rl.losses import LOSSES, token_loss
from tests.rl.batches import LOSS_CHOICES, floats, random_rows, value_and_grad


def one_token(loss: Loss, ratio: float, advantage: float, logp: float = -2.0) -> tuple[float, float, bool]:
    """Loss, its gradient by logp and the clip mark, of one token with a given ratio."""
    logp_BT = floats([logp]).requires_grad_()
    gen_logp_BT = floats([logp - math.log(ratio)])
    terms = token_loss(loss, logp_BT, gen_logp_BT, floats(advantage), floats([1.0]))
    (grad_BT,) = torch.autograd.grad(terms.loss_BT.sum(), logp_BT)
    return terms.loss_BT.item(), grad_BT.item(), bool(terms.clipped_BT.item())


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "grad", "clipped"),
    [
        (8.0, 0.5, 5.0, -2.5, True),  # -5 * 0.5 * -2
        (2.0, 0.5, 2.0, -1.0, False),
        (0.1, 0.5, 0.1, -0.05, False),  # no lower bound
        (8.0, -0.5, -5.0, 2.5, True),  # a capped token keeps its gradient, whatever the sign
        (5.0, 1.0, 10.0, -5.0, False),
    ],
)
def test_cispo(ratio: float, advantage: float, loss: float, grad: float, clipped: bool) -> None:
    got = one_token(CISPO(ratio_cap=5.0), ratio, advantage)
    assert got[:2] == pytest.approx((loss, grad), rel=1e-12)
    assert got[2] is clipped or ratio == 5.0  # log and exp may round the ratio to either side of its cap


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "grad", "clipped"),
    [
        (1.0, 1.0, -1.0, -1.0, False),
        (2.0, 1.0, -1.26, 0.0, True),
        (1.25, 1.0, -1.25, -1.25, False),  # between 1 + low and 1 + high: DAPO's higher bound
        (1.25, -1.0, 1.25, 1.25, False),
        (2.0, -1.0, 2.0, 2.0, False),  # the pessimistic side is free
        (0.5, -1.0, 0.8, 0.0, True),
        (0.79, -2.0, 1.6, 0.0, True),
        (0.5, 1.0, -0.5, -0.5, False),
        (2.0, 0.0, 0.0, 0.0, False),
    ],
)
def test_ppo_clip(ratio: float, advantage: float, loss: float, grad: float, clipped: bool) -> None:
    got = one_token(PPOClip(clip_low=0.2, clip_high=0.26), ratio, advantage)
    assert got[:2] == pytest.approx((loss, grad), rel=1e-12)
    assert got[2] is clipped


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "grad", "clipped"),
    [
        (2.0, -1.0, 2.0, 2.0, False),
        (4.0, -1.0, 3.0, 0.0, True),  # bounded at 3, where plain PPO would lose 4
        (4.0, -0.5, 1.5, 0.0, True),
        (4.0, 1.0, -1.26, 0.0, True),  # a positive advantage has the upper bound as before
        (0.5, -1.0, 0.8, 0.0, True),
    ],
)
def test_dual_clip(ratio: float, advantage: float, loss: float, grad: float, clipped: bool) -> None:
    got = one_token(PPOClip(clip_low=0.2, clip_high=0.26, dual_clip=3.0), ratio, advantage)
    assert got[:2] == pytest.approx((loss, grad), rel=1e-12)
    assert got[2] is clipped


def test_advantages_may_differ_from_token_to_token() -> None:
    logp_BT = floats([-1.0, -2.0]).requires_grad_()
    terms = token_loss(Reinforce(), logp_BT, floats([-1.0, -2.0]), floats([0.5, 3.0]), floats([1.0, 1.0]))
    assert terms.loss_BT.tolist() == [[0.5, 6.0]]


@pytest.mark.parametrize(("ratio", "advantage"), [(1.0, 0.5), (8.0, 0.5), (0.01, 0.5)])
def test_reinforce_ignores_the_ratio(ratio: float, advantage: float) -> None:
    assert one_token(Reinforce(), ratio, advantage) == (1.0, -0.5, False)


def gspo_terms(advantage: float) -> tuple[Tensor, Tensor, Tensor]:
    """Two loss tokens with log-ratios 0.02 and -0.01, and a masked one with 3."""
    logp_BT = floats([-1.0, -2.0, -0.5]).requires_grad_()
    gen_logp_BT = floats([-1.02, -1.99, -3.5])
    terms = token_loss(
        GSPO(clip_low=3e-3, clip_high=4e-3), logp_BT, gen_logp_BT, floats(advantage), floats([1.0, 1.0, 0.0])
    )
    (grad_BT,) = torch.autograd.grad(terms.loss_BT.sum(), logp_BT)
    return terms.loss_BT.detach(), grad_BT, terms.clipped_BT


def test_gspo_clips_whole_completions() -> None:
    loss_BT, grad_BT, clipped_BT = gspo_terms(1.0)
    torch.testing.assert_close(loss_BT, floats([-1.004, -1.004, 0.0]), rtol=1e-12, atol=0)
    assert grad_BT.tolist() == [[0.0, 0.0, 0.0]]
    assert clipped_BT.tolist() == [[True, True, False]]


def test_gspo_takes_the_mean_log_ratio_over_loss_tokens() -> None:
    loss_BT, grad_BT, clipped_BT = gspo_terms(-1.0)
    ratio = 1.00501252085940  # exp((0.02 - 0.01) / 2)
    torch.testing.assert_close(loss_BT, floats([ratio, ratio, 0.0]), rtol=1e-12, atol=0)
    torch.testing.assert_close(grad_BT, floats([ratio, ratio, 0.0]), rtol=1e-12, atol=0)
    assert not clipped_BT.any()


def test_gspo_under_sample_aggregation_is_the_papers_sequence_loss() -> None:
    rows = random_rows(seed=3, tokens=5, off=0.2)
    cfg = GSPO(clip_low=0.05, clip_high=0.08)
    got = value_and_grad(cfg, SampleAggregation(), rows)

    logp_BT = rows.logp_BT.clone().requires_grad_()
    losses = []
    for b in range(len(logp_BT)):
        at = rows.mask_BT[b].bool()
        ratio = (logp_BT[b, at] - rows.gen_logp_BT[b, at]).mean().exp()
        bounded = ratio.clamp(0.95, 1.08)
        losses.append(-torch.minimum(ratio * rows.advantage_B[b], bounded * rows.advantage_B[b]))
    total = torch.stack(losses).mean()
    (grad_BT,) = torch.autograd.grad(total, logp_BT)

    assert 0 < sum(float(grad_BT[b].abs().sum()) == 0.0 for b in range(len(logp_BT))) < len(logp_BT)
    torch.testing.assert_close(got[0], total.detach(), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(got[1], grad_BT, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", LOSS_CHOICES)
@pytest.mark.parametrize("aggregation", [SampleAggregation(), PromptAggregation(), TokenAggregation()])
def test_on_policy_every_loss_has_the_policy_gradient(name: str, aggregation: SampleAggregation) -> None:
    """With ratio 1, d loss / d logp = -A * weight for every row of the table."""
    rows = random_rows(seed=11, off=0.0)
    _, grad_BT = value_and_grad(LOSS_CHOICES[name](), aggregation, rows)
    _, reinforce_BT = value_and_grad(Reinforce(), aggregation, rows)
    assert grad_BT.abs().sum() > 0.1
    torch.testing.assert_close(grad_BT, reinforce_BT, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("log_ratio", [50.0, -50.0, 1e4, -1e4, math.inf])
@pytest.mark.parametrize("advantage", [1.5, -1.5])
def test_extreme_ratios_stay_finite(
    name: str, dtype: torch.dtype, log_ratio: float, advantage: float
) -> None:
    logp_BT = torch.tensor([[-0.1, -1.0]], dtype=dtype, requires_grad=True)
    gen_logp_BT = torch.tensor([[-0.1 - log_ratio, -1.0]], dtype=dtype)
    terms = token_loss(
        LOSS_CHOICES[name](), logp_BT, gen_logp_BT, torch.tensor([advantage], dtype=dtype), torch.ones(1, 2)
    )
    (grad_BT,) = torch.autograd.grad(terms.loss_BT.sum(), logp_BT)
    assert terms.loss_BT.isfinite().all()
    assert grad_BT.isfinite().all()
    assert terms.loss_BT.abs().max() <= 1.5 * math.exp(20.0) * 1.001


def test_the_clamp_is_at_twenty() -> None:
    loss, grad, clipped = one_token(PPOClip(), math.exp(50.0), -1.0)
    assert (loss, grad, clipped) == (pytest.approx(math.exp(20.0)), 0.0, False)
    loss, _, _ = one_token(PPOClip(), math.exp(19.0), -1.0)
    assert loss == pytest.approx(math.exp(19.0))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf])
def test_masked_tokens_are_harmless(name: str, garbage: float) -> None:
    """Whatever stands at a masked token: loss 0, gradient 0, and the others are as if it were not there."""
    cfg = LOSS_CHOICES[name]()
    rows = random_rows(seed=5)
    hidden_BT = rows.mask_BT == 0
    assert hidden_BT.any()
    clean = value_and_grad(cfg, SampleAggregation(), rows)

    logp_BT = rows.logp_BT.masked_fill(hidden_BT, garbage).requires_grad_()
    gen_logp_BT = rows.gen_logp_BT.masked_fill(hidden_BT, garbage)
    terms = token_loss(cfg, logp_BT, gen_logp_BT, rows.advantage_B, rows.mask_BT)
    assert (terms.loss_BT[hidden_BT] == 0).all()
    assert not terms.clipped_BT[hidden_BT].any()
    weight_BT = rows.mask_BT / rows.mask_BT.sum(dim=1, keepdim=True) / len(logp_BT)
    total = (weight_BT * terms.loss_BT).sum()
    (grad_BT,) = torch.autograd.grad(total, logp_BT)
    torch.testing.assert_close(total.detach(), clean[0], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(grad_BT, clean[1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", LOSSES)
def test_a_non_finite_loss_token_is_not_hidden(name: str) -> None:
    """NaN from the trainer must reach the loss: the loop ends the run by it."""
    logp_BT = floats([math.nan, -1.0])
    terms = token_loss(LOSS_CHOICES[name](), logp_BT, floats([-1.0, -1.0]), floats(1.0), floats([1.0, 1.0]))
    assert terms.loss_BT.isnan().any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_completion_without_loss_tokens(name: str) -> None:
    logp_BT = floats([-1.0, -2.0], [-1.0, -2.0]).requires_grad_()
    mask_BT = floats([0.0, 0.0], [1.0, 1.0])
    terms = token_loss(LOSS_CHOICES[name](), logp_BT, logp_BT.detach(), floats(2.0, 2.0), mask_BT)
    (grad_BT,) = torch.autograd.grad(terms.loss_BT.sum(), logp_BT)
    assert terms.loss_BT[0].tolist() == [0.0, 0.0]
    assert grad_BT.tolist() == [[0.0, 0.0], [-2.0, -2.0]]
