"""Estimates of the KL from the policy to the reference, token by token.

Shape letters: B rows (completions), T tokens. With d = logp - ref_logp at sampled tokens, and
g = exp(logp - anchor_logp), which is 1 in value on-policy and carries the gradient of the sampling
probability. What an estimate is worth as a loss is its expected *gradient*, not its expected value:

    k1                   0: as a loss it does nothing
    k2                   that of KL(policy | reference), exactly
    k3                   that of KL(reference | policy), the other direction
    k1_weighted          that of KL(policy | reference), off-policy too
    k3_weighted          the same with less noise
    k3_straight_through  that of k2, with the value of k3

all of them checked by enumeration in ``tests/rl/test_enumeration.py``. The term is *added* to the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from scalerl_lab.rl.losses import LOG_RATIO_BOUND


def kl_terms(
    estimator: str,
    clamp: float,
    logp_BT: Tensor,
    ref_logp_BT: Tensor,
    anchor_logp_BT: Tensor,
    mask_BT: Tensor,
) -> Tensor:
    """Estimate of every token (B, T); 0 with zero gradient where the mask is 0.

    Args:
        estimator: a name in the table.
        clamp: bound of |d|; a token beyond it has no gradient through d.
        logp_BT: policy's log-probabilities.
        ref_logp_BT: reference's.
        anchor_logp_BT: those of the recipe's anchor; all may be NaN where the mask is 0.
        mask_BT: 1 at loss tokens, 0 elsewhere.
    """
    inside_BT = mask_BT > 0
    zero = logp_BT.new_zeros(())
    logp_BT, ref_logp_BT, anchor_logp_BT = (
        torch.where(inside_BT, each.to(logp_BT.dtype), zero)
        for each in (logp_BT, ref_logp_BT, anchor_logp_BT)
    )
    log_ratio_BT = (logp_BT - ref_logp_BT).clamp(-clamp, clamp)
    weight_BT = (logp_BT - anchor_logp_BT).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()
    return torch.where(inside_BT, KL_ESTIMATORS[estimator](log_ratio_BT, weight_BT), zero)


def k1(log_ratio_BT: Tensor, weight_BT: Tensor) -> Tensor:
    """d: unbiased in value, and often negative.

    Worked number: d = 0.5 gives 0.5, and d value / d logp = 1 whatever d.
    Source: Schulman, "Approximating KL divergence" (2020); REINFORCE++ takes it off the reward.
    """
    return log_ratio_BT


def k2(log_ratio_BT: Tensor, weight_BT: Tensor) -> Tensor:
    """d^2 / 2: biased in value, and the right gradient on-policy.

    Worked number: d = 0.5 gives 0.125, and d value / d logp = 0.5.
    Source: Schulman (2020); ProRL v2; verl ``mse``.
    """
    return 0.5 * log_ratio_BT.square()


def k3(log_ratio_BT: Tensor, weight_BT: Tensor) -> Tensor:
    """exp(-d) + d - 1: unbiased in value and never negative; its gradient is of the other direction.

    Worked number: d = 0.5 gives 0.606531 + 0.5 - 1 = 0.106531, and d value / d logp = 0.393469.
    Source: Schulman (2020); GRPO (arXiv 2402.03300, Eq. 4); verl ``low_var_kl``.
    """
    return (-log_ratio_BT).exp() + log_ratio_BT - 1.0


def k1_weighted(log_ratio_BT: Tensor, weight_BT: Tensor) -> Tensor:
    """g * d.

    Worked number: d = 0.5 and g = 1 give 0.5, and d value / d logp = 1 * 0.5 + 1 = 1.5.
    Source: the score-function gradient of the KL, as PPO writes it; OpenRLHF #1309.
    """
    return weight_BT * log_ratio_BT


def k3_weighted(log_ratio_BT: Tensor, weight_BT: Tensor) -> Tensor:
    """g * (exp(-d) + d - 1).

    Worked number: d = 0.5 and g = 2 give 0.213061, and d value / d logp = 2 * (0.106531 + 0.393469) = 1.
    Source: DeepSeek-V3.2 (arXiv 2512.02556); TRL 1.16 ``use_bias_correction_kl``.
    """
    return weight_BT * k3(log_ratio_BT, weight_BT)


def k3_straight_through(log_ratio_BT: Tensor, weight_BT: Tensor) -> Tensor:
    """k3 in value, k2 in gradient: k2 + sg(k3 - k2).

    Worked number: d = 0.5 gives 0.106531, and d value / d logp = 0.5.
    Source: verl ``low_var_kl+``.
    """
    second_BT = k2(log_ratio_BT, weight_BT)
    return second_BT + (k3(log_ratio_BT, weight_BT) - second_BT).detach()


KL_ESTIMATORS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "k1": k1,
        "k2": k2,
        "k3": k3,
        "k1_weighted": k1_weighted,
        "k3_weighted": k3_weighted,
        "k3_straight_through": k3_straight_through,
    }
)
"""``kl.estimator`` of a recipe -> (log_ratio_BT, weight_BT) -> value_BT."""
