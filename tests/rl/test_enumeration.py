"""Expected gradients by exact enumeration: 3 tokens in the vocabulary, completions of 2 tokens.

Shape letters: V = 3 tokens, Y = 9 completions, T = 2 tokens. A policy is a table of logits: (V,) for
the first token and (V, V) for the second given the first, so that every expectation is a finite sum.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scalerl_lab.config.objective import (
    CISPO,
    GSPO,
    CentredAdvantage,
    Loss,
    PPOClip,
    Reinforce,
    SampleAggregation,
)
from scalerl_lab.rl.advantages import advantages
from scalerl_lab.rl.aggregation import weights
from scalerl_lab.rl.losses import token_loss
from tests.rl.batches import LOSS_CHOICES, floats

FIRST = torch.arange(3).repeat_interleave(3)
SECOND = torch.arange(3).repeat(3)
REWARD_Y = floats(1, -1, 0.3, -0.7, 2, -1, 0.1, 0.5, -2)
BOTH = torch.ones(9, 2, dtype=torch.float64)
ONLY_SECOND = floats(*[[0.0, 1.0]] * 9)
WIDE = [CISPO(ratio_cap=1e9), PPOClip(clip_low=0.999999, clip_high=1e9)]


def logits(seed: int, scale: float = 1.0) -> Tensor:
    """First row: the first token's logits; the others: the second's, given the first."""
    return scale * torch.randn(4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logp_of(theta: Tensor) -> Tensor:
    """log-probabilities (Y, T) of the nine completions' tokens."""
    table = theta.log_softmax(dim=1)
    return torch.stack([table[0, FIRST], table[1 + FIRST, SECOND]], dim=1)


def grad_of(objective: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
    leaf = theta.clone().requires_grad_()
    (grad,) = torch.autograd.grad(objective(leaf), leaf)
    return grad


def expected_grad(
    loss: Loss, theta: Tensor, behaviour: Tensor, mask_YT: Tensor = BOTH, scale: float = 1.0
) -> Tensor:
    """-E over the behaviour's completions of the gradient of the summed token loss with A = R."""
    gen_logp_YT = logp_of(behaviour)
    probability_Y = gen_logp_YT.sum(dim=1).exp()

    def objective(leaf: Tensor) -> Tensor:
        terms = token_loss(loss, logp_of(leaf), gen_logp_YT, REWARD_Y, mask_YT)
        return -scale * (probability_Y[:, None] * terms.loss_BT).sum()

    return grad_of(objective, theta)


def reward_of(theta: Tensor) -> Tensor:
    """E[R] under the policy."""
    return (logp_of(theta).sum(dim=1).exp() * REWARD_Y).sum()


@pytest.mark.parametrize("name", LOSS_CHOICES)
def test_on_policy_every_loss_has_the_exact_policy_gradient(name: str) -> None:
    theta = logits(0)
    got = expected_grad(LOSS_CHOICES[name](), theta, theta)
    exact = grad_of(reward_of, theta)
    assert exact.abs().max() > 0.1
    torch.testing.assert_close(got, exact, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", LOSS_CHOICES)
def test_centred_pairs_have_the_policy_gradient_times_one_minus_one_over_g(name: str) -> None:
    """All 81 pairs of completions: a group's own mean as baseline costs the factor (G - 1) / G, G = 2."""
    theta = logits(1)
    gen_logp_YT = logp_of(theta)
    probability_Y = gen_logp_YT.sum(dim=1).exp()

    def objective(leaf: Tensor) -> Tensor:
        logp_YT = logp_of(leaf)
        total = leaf.new_zeros(())
        for one in range(9):
            for two in range(9):
                pair = torch.tensor([one, two])
                index_B = torch.tensor([0, 0])
                advantage_B = advantages(CentredAdvantage(), REWARD_Y[pair], index_B, 1)
                weight_BT = weights(SampleAggregation(), BOTH[:2], index_B, 1, 2)
                terms = token_loss(
                    LOSS_CHOICES[name](), logp_YT[pair], gen_logp_YT[pair], advantage_B, BOTH[:2]
                )
                chance = probability_Y[one] * probability_Y[two]
                total = total - chance * (weight_BT * terms.loss_BT).sum()
        return total

    got = grad_of(objective, theta)
    # Sample aggregation divides by the two tokens.
    torch.testing.assert_close(got, 0.5 * 0.5 * grad_of(reward_of, theta), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("loss", [*WIDE, GSPO(clip_low=0.999999, clip_high=1e9)], ids=lambda loss: loss.type)
def test_off_policy_the_ratio_corrects_the_last_token_exactly(loss: Loss) -> None:
    """Second tokens alone: the gradient of E over the behaviour's first and the policy's second tokens."""
    theta, behaviour = logits(2), logits(3)
    first_Y = logp_of(behaviour)[:, 0].exp()

    def objective(leaf: Tensor) -> Tensor:
        return (first_Y * logp_of(leaf)[:, 1].exp() * REWARD_Y).sum()

    got = expected_grad(loss, theta, behaviour, ONLY_SECOND)
    torch.testing.assert_close(got, grad_of(objective, theta), rtol=1e-10, atol=1e-12)


def test_off_policy_reinforce_is_not_corrected() -> None:
    theta, behaviour = logits(2), logits(3)
    probability_Y = logp_of(behaviour).sum(dim=1).exp()

    def cross_entropy(leaf: Tensor) -> Tensor:
        return (probability_Y * REWARD_Y * logp_of(leaf).sum(dim=1)).sum()

    got = expected_grad(Reinforce(), theta, behaviour)
    torch.testing.assert_close(got, grad_of(cross_entropy, theta), rtol=1e-12, atol=1e-14)
    assert (got - grad_of(reward_of, theta)).abs().max() > 0.05


@pytest.mark.parametrize("loss", WIDE, ids=lambda loss: loss.type)
def test_off_policy_token_ratios_leave_the_state_distribution_stale(loss: Loss) -> None:
    """Both tokens: each has its own ratio, so prefixes stay those of the behaviour policy."""
    theta, behaviour = logits(4), logits(5)
    gen_logp_YT = logp_of(behaviour)

    def objective(leaf: Tensor) -> Tensor:
        logp_YT = logp_of(leaf)
        policy_then_behaviour_Y = (logp_YT[:, 0] + gen_logp_YT[:, 1]).exp()
        behaviour_then_policy_Y = (gen_logp_YT[:, 0] + logp_YT[:, 1]).exp()
        return ((policy_then_behaviour_Y + behaviour_then_policy_Y) * REWARD_Y).sum()

    got = expected_grad(loss, theta, behaviour)
    torch.testing.assert_close(got, grad_of(objective, theta), rtol=1e-10, atol=1e-12)


def test_off_policy_gspo_is_the_gradient_of_the_geometric_mean_ratio() -> None:
    """With weights 1/T: grad of E_behaviour[R * (policy / behaviour)^(1/T)], T = 2."""
    theta, behaviour = logits(6), logits(7)
    gen_logp_YT = logp_of(behaviour)

    def objective(leaf: Tensor) -> Tensor:
        log_ratio_Y = (logp_of(leaf) - gen_logp_YT).sum(dim=1)
        return (gen_logp_YT.sum(dim=1).exp() * REWARD_Y * (log_ratio_Y / 2).exp()).sum()

    got = expected_grad(GSPO(clip_low=0.999999, clip_high=1e9), theta, behaviour, scale=0.5)
    torch.testing.assert_close(got, grad_of(objective, theta), rtol=1e-10, atol=1e-12)


def test_off_policy_cispo_caps_and_keeps_every_token() -> None:
    """Token by token with plain floats: sum of P(y) * min(rho, cap) * R * grad logp."""
    theta, behaviour, cap = logits(8, 1.5), logits(9, 1.5), 1.3
    gen_logp_YT, logp_YT = logp_of(behaviour), logp_of(theta)
    expected, capped = torch.zeros_like(theta), 0
    for y in range(9):
        chance = gen_logp_YT[y].sum().exp()
        for t in range(2):
            ratio = float((logp_YT[y, t] - gen_logp_YT[y, t]).exp())
            capped += ratio > cap
            # grad of log softmax: one-hot minus probabilities.
            row, taken = (0, FIRST[y]) if t == 0 else (1 + int(FIRST[y]), SECOND[y])
            score = -theta[row].softmax(dim=0)
            score[taken] += 1.0
            expected[row] += chance * min(ratio, cap) * REWARD_Y[y] * score
    assert 3 <= capped <= 15
    torch.testing.assert_close(expected_grad(CISPO(ratio_cap=cap), theta, behaviour), expected)


def test_off_policy_ppo_clip_drops_tokens_past_the_bound() -> None:
    """Token by token with plain floats: no gradient beyond the bound in the advantage's direction."""
    theta, behaviour, low, high = logits(8, 1.5), logits(9, 1.5), 0.3, 0.5
    gen_logp_YT, logp_YT = logp_of(behaviour), logp_of(theta)
    expected, dropped = torch.zeros_like(theta), 0
    for y in range(9):
        chance = gen_logp_YT[y].sum().exp()
        for t in range(2):
            ratio = float((logp_YT[y, t] - gen_logp_YT[y, t]).exp())
            if ratio > 1 + high if REWARD_Y[y] > 0 else ratio < 1 - low:
                dropped += 1
                continue
            row, taken = (0, FIRST[y]) if t == 0 else (1 + int(FIRST[y]), SECOND[y])
            score = -theta[row].softmax(dim=0)
            score[taken] += 1.0
            expected[row] += chance * ratio * REWARD_Y[y] * score
    assert 3 <= dropped <= 15
    got = expected_grad(PPOClip(clip_low=low, clip_high=high), theta, behaviour)
    torch.testing.assert_close(got, expected)
