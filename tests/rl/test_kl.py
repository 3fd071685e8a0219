"""KL estimates by hand, and what their gradients are by enumeration of a 3-token vocabulary.

Shape letters: V = 3 tokens, Y = 9 completions of T = 2 tokens.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scalerl_lab.rl.kl import KL_ESTIMATORS, kl_terms
from tests.rl.batches import floats
from tests.rl.test_enumeration import BOTH, ONLY_SECOND, grad_of, logits, logp_of


def one_token(estimator: str, d: float, log_g: float = 0.0, clamp: float = 20.0) -> tuple[float, float]:
    """Value, and gradient by logp, of one token with a log-ratio d to the reference."""
    logp_BT = floats([-2.0]).requires_grad_()
    terms = kl_terms(estimator, clamp, logp_BT, floats([-2.0 - d]), floats([-2.0 - log_g]), floats([1.0]))
    (grad_BT,) = torch.autograd.grad(terms.sum(), logp_BT)
    return terms.item(), grad_BT.item()


@pytest.mark.parametrize(
    ("estimator", "g", "value", "grad"),
    [
        ("k1", 1.0, 0.5, 1.0),
        ("k2", 1.0, 0.125, 0.5),
        ("k3", 1.0, 0.10653065971263342, 0.3934693402873666),
        ("k1_weighted", 1.0, 0.5, 1.5),
        ("k1_weighted", 2.0, 1.0, 3.0),
        ("k3_weighted", 1.0, 0.10653065971263342, 0.5),
        ("k3_weighted", 2.0, 0.21306131942526684, 1.0),
        ("k3_straight_through", 1.0, 0.10653065971263342, 0.5),
        # Plain forms do not see the sampler.
        ("k2", 2.0, 0.125, 0.5),
        ("k3", 2.0, 0.10653065971263342, 0.3934693402873666),
    ],
)
def test_one_token_by_hand(estimator: str, g: float, value: float, grad: float) -> None:
    assert one_token(estimator, 0.5, math.log(g)) == pytest.approx((value, grad), rel=1e-12)


@pytest.mark.parametrize("estimator", KL_ESTIMATORS)
def test_at_the_reference_it_is_zero_and_pulls_nowhere(estimator: str) -> None:
    value, grad = one_token(estimator, 0.0)
    assert value == 0.0
    assert grad == (1.0 if estimator.startswith("k1") else 0.0)


def test_the_input_is_clamped_and_the_output_is_not() -> None:
    assert one_token("k2", 15.0) == (112.5, 15.0)  # an output clamp at 10 would take this gradient away
    assert one_token("k2", 25.0) == (200.0, 0.0)
    assert one_token("k2", 5.0, clamp=4.0) == (8.0, 0.0)


@pytest.mark.parametrize("estimator", KL_ESTIMATORS)
def test_masked_tokens_are_harmless(estimator: str) -> None:
    logp_BT = floats([math.nan, -1.0]).requires_grad_()
    other_BT = floats([math.inf, -1.5])
    terms = kl_terms(estimator, 20.0, logp_BT, other_BT, other_BT, floats([0.0, 1.0]))
    (grad_BT,) = torch.autograd.grad(terms.sum(), logp_BT)
    assert terms[0, 0].item() == grad_BT[0, 0].item() == 0.0
    assert terms[0, 1].item() > 0


# ---------------------------------------------------------------- enumeration

THETA, REFERENCE, BEHAVIOUR = logits(10), logits(11), logits(12)


def expected_grad(estimator: str, behaviour: Tensor, mask_YT: Tensor = BOTH) -> Tensor:
    """E over the behaviour's completions of the gradient of the summed estimate."""
    gen_YT, ref_YT = logp_of(behaviour), logp_of(REFERENCE)
    chance_Y1 = gen_YT.sum(dim=1, keepdim=True).exp()
    return grad_of(
        lambda leaf: (chance_Y1 * kl_terms(estimator, 20.0, logp_of(leaf), ref_YT, gen_YT, mask_YT)).sum(),
        THETA,
    )


def kl_of_second(first: Tensor, one: Tensor, two: Tensor) -> Tensor:
    """KL of the second tokens' distributions, over first tokens of a given policy."""
    chance_V = first.log_softmax(dim=1)[0].exp()
    p_VV, q_VV = one.log_softmax(dim=1)[1:], two.log_softmax(dim=1)[1:]
    return (chance_V * (p_VV.exp() * (p_VV - q_VV)).sum(dim=1)).sum()


def test_k1_as_a_loss_has_no_gradient() -> None:
    assert expected_grad("k1", THETA).abs().max() < 1e-15


@pytest.mark.parametrize("estimator", ["k2", "k3_straight_through", "k1_weighted", "k3_weighted"])
def test_the_gradient_is_that_of_the_kl_to_the_reference(estimator: str) -> None:
    """Of the last token alone, where no later one depends on it."""
    exact = grad_of(lambda leaf: kl_of_second(THETA, leaf, REFERENCE), THETA)
    assert exact.abs().max() > 0.1
    torch.testing.assert_close(expected_grad(estimator, THETA, ONLY_SECOND), exact, rtol=1e-10, atol=1e-13)


def test_the_gradient_of_k3_is_of_the_other_direction() -> None:
    other = grad_of(lambda leaf: kl_of_second(THETA, REFERENCE, leaf), THETA)
    wanted = grad_of(lambda leaf: kl_of_second(THETA, leaf, REFERENCE), THETA)
    got = expected_grad("k3", THETA, ONLY_SECOND)
    torch.testing.assert_close(got, other, rtol=1e-10, atol=1e-13)
    assert (got - wanted).abs().max() > 0.05


@pytest.mark.parametrize("estimator", ["k1_weighted", "k3_weighted"])
def test_off_policy_weighted_forms_stay_exact_and_k2_does_not(estimator: str) -> None:
    exact = grad_of(lambda leaf: kl_of_second(BEHAVIOUR, leaf, REFERENCE), THETA)
    got = expected_grad(estimator, BEHAVIOUR, ONLY_SECOND)
    torch.testing.assert_close(got, exact, rtol=1e-10, atol=1e-13)
    assert (expected_grad("k2", BEHAVIOUR, ONLY_SECOND) - exact).abs().max() > 0.01


def test_k2_over_whole_completions_is_token_by_token() -> None:
    """Each token pulls its own distribution; what the first does to the second's prefix is left out."""
    p_YT, q_YT = logp_of(THETA), logp_of(REFERENCE)
    chance_Y = p_YT.sum(dim=1).exp()
    score = grad_of(lambda leaf: (chance_Y[:, None] * (p_YT - q_YT) * logp_of(leaf)).sum(), THETA)
    torch.testing.assert_close(expected_grad("k2", THETA), score, rtol=1e-12, atol=1e-15)
