"""Token losses: what one token of one completion contributes to the objective that is minimised.

Shape letters: B rows (completions), T tokens. ``logp`` is the trainer's log-probability of the token
(with gradient), ``anchor_logp`` that of the recipe's ``anchor`` (``rl.mismatch``). By default it is the
generator's at the moment of sampling: then the ratio is trainer over *generator*, and holds staleness and
numeric mismatch alike (ScaleRL section 2).

Every row returns a loss per token that depends on its own row of the batch alone, and is exactly 0 with
zero gradient where the mask is 0. The loss of a batch is ``(weight_BT * loss_BT).sum()`` with the weights
of ``aggregation``, so micro-batches just add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scalerl_lab.config.objective import CISPO, GSPO, Loss, PPOClip, Reinforce

LOG_RATIO_BOUND = 20.0
"""Log-ratios are clamped to +-20 before exp: e^20 = 4.9e8 is far outside every cap, and finite in float32."""


class LossTerms(NamedTuple):
    """What a loss says of each token."""

    loss_BT: Tensor
    """Loss to minimise, not yet weighted; 0 at masked tokens."""
    clipped_BT: Tensor
    """bool: a loss token whose loss or gradient is changed by a bound of the ratio."""


def token_loss(
    loss_cfg: Loss, logp_BT: Tensor, anchor_logp_BT: Tensor, advantage: Tensor, mask_BT: Tensor
) -> LossTerms:
    """Loss of every token under the recipe's choice.

    Args:
        loss_cfg: the recipe's ``loss``.
        logp_BT: trainer's log-probabilities, with gradient.
        anchor_logp_BT: the anchor's log-probabilities; may be anything, also NaN, where the mask is 0.
        advantage: of every completion (B,), or of every token (B, T).
        mask_BT: 1 at loss tokens, 0 elsewhere (prompt, padding, injected tokens).
    """
    inside_BT = mask_BT > 0
    zero = logp_BT.new_zeros(())
    # Replaced before any arithmetic: NaN * 0 is NaN, in the loss and in the gradient.
    logp_BT = torch.where(inside_BT, logp_BT, zero)
    anchor_logp_BT = torch.where(inside_BT, anchor_logp_BT.to(logp_BT.dtype), zero)
    advantage_BT = (advantage[:, None] if advantage.dim() == 1 else advantage).to(logp_BT.dtype)
    terms = LOSSES[loss_cfg.type](
        loss_cfg, logp_BT, anchor_logp_BT, advantage_BT.expand_as(logp_BT), inside_BT
    )
    return LossTerms(torch.where(inside_BT, terms.loss_BT, zero), terms.clipped_BT & inside_BT)


def cispo(
    cfg: CISPO, logp_BT: Tensor, anchor_logp_BT: Tensor, advantage_BT: Tensor, inside_BT: Tensor
) -> LossTerms:
    """Truncated importance weight times REINFORCE; every token keeps its gradient, at most capped.

    loss = -sg(min(rho, ratio_cap)) * A * logp, with rho = exp(logp - anchor_logp) and sg a stop-gradient.

    The cap is absolute, on the ratio itself (other code bases cap at 1 + eps); there is no lower bound.
    Worked number: rho = 8, cap 5, A = 0.5, logp = -2: loss = -5 * 0.5 * -2 = 5, d loss / d logp = -2.5.
    Source: ScaleRL Eq. 4; MiniMax-M1.
    """
    ratio_BT = _clamped(logp_BT - anchor_logp_BT).exp().detach()
    weight_BT = ratio_BT.clamp(max=cfg.ratio_cap)
    return LossTerms(-weight_BT * advantage_BT * logp_BT, ratio_BT > cfg.ratio_cap)


def ppo_clip(
    cfg: PPOClip, logp_BT: Tensor, anchor_logp_BT: Tensor, advantage_BT: Tensor, inside_BT: Tensor
) -> LossTerms:
    """Clipped token ratio; a token past the bound in the direction of its advantage has no gradient.

    loss = -min(rho * A, clip(rho, 1 - clip_low, 1 + clip_high) * A), rho = exp(logp - anchor_logp).

    With ``dual_clip`` c, a token with A < 0 loses at most -c * A: loss = -max(the above, c * A), since the
    pessimistic side has no other bound, and one token with a huge ratio would own the step.

    Worked number: bounds 0.2 and 0.26, rho = 2: A = 1 gives -1.26 (clipped, gradient 0);
    A = -1 gives 2 (the larger loss is kept, d loss / d logp = 2), or 1.5 and gradient 0 under dual_clip 1.5.
    Source: PPO; GRPO with equal bounds; DAPO and ScaleRL Eq. 3 and Eq. 8 with a higher upper one; dual clip
    arXiv 1912.09729 (TRL's ``delta`` is the same where it is above 1 + clip_high).
    """
    ratio_BT = _clamped(logp_BT - anchor_logp_BT).exp()
    terms = _clip(ratio_BT, advantage_BT, 1.0 - cfg.clip_low, 1.0 + cfg.clip_high)
    if cfg.dual_clip is None:
        return terms
    most_BT = -cfg.dual_clip * advantage_BT
    bounded_BT = (advantage_BT < 0) & (terms.loss_BT > most_BT)
    return LossTerms(torch.where(bounded_BT, most_BT, terms.loss_BT), terms.clipped_BT | bounded_BT)


def gspo(
    cfg: GSPO, logp_BT: Tensor, anchor_logp_BT: Tensor, advantage_BT: Tensor, inside_BT: Tensor
) -> LossTerms:
    """Clipped length-normalised ratio of the whole completion, in token form.

    s_i = exp(mean_t (logp - anchor_logp)) over the loss tokens of completion i;
    log s_it = sg(log s_i) + logp_it - sg(logp_it);
    loss = -min(s_it * A, clip(s_it, 1 - clip_low, 1 + clip_high) * A).

    Each s_it has the value of s_i and the gradient s_i * d logp_it. Under ``sample`` aggregation the T_i
    tokens weigh 1/(N T_i) each, so value and gradient are the paper's sequence loss:
    grad s_i = s_i * mean_t grad logp_it. Other aggregations only weigh completions otherwise.

    Worked number: log-ratios (0.02, -0.01) give s = exp(0.005) = 1.005013; with clip_high 0.004 and A = 1
    both tokens have loss -1.004 and no gradient; with A = -1, loss 1.005013 each.
    Source: GSPO (arXiv 2507.18071), sequence and token form; ScaleRL section 3.2.
    """
    length_B1 = inside_BT.sum(dim=1, keepdim=True).clamp(min=1)
    mean_B1 = (logp_BT - anchor_logp_BT).detach().sum(dim=1, keepdim=True) / length_B1
    ratio_BT = _clamped(mean_B1 + (logp_BT - logp_BT.detach())).exp()
    return _clip(ratio_BT, advantage_BT, 1.0 - cfg.clip_low, 1.0 + cfg.clip_high)


def reinforce(
    cfg: Reinforce, logp_BT: Tensor, anchor_logp_BT: Tensor, advantage_BT: Tensor, inside_BT: Tensor
) -> LossTerms:
    """Plain policy gradient: loss = -A * logp, with no ratio, so off-policy data are taken as on-policy.

    Worked number: A = 0.5, logp = -2: loss = 1, d loss / d logp = -0.5.
    Source: Williams 1992.
    """
    return LossTerms(-advantage_BT * logp_BT, torch.zeros_like(inside_BT))


def _clamped(log_ratio: Tensor) -> Tensor:
    return log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)


def _clip(ratio_BT: Tensor, advantage_BT: Tensor, low: float, high: float) -> LossTerms:
    """The pessimistic one of the free and the clipped surrogate."""
    free_BT = ratio_BT * advantage_BT
    bounded_BT = ratio_BT.clamp(low, high) * advantage_BT
    # torch.minimum halves the gradient between equal arguments, and both arguments agree wherever
    # the ratio is within its bounds; `where` gives the free one its whole gradient there.
    clipped_BT = bounded_BT < free_BT
    return LossTerms(-torch.where(clipped_BT, bounded_BT, free_BT), clipped_BT)


LOSSES: Mapping[str, Callable[[Any, Tensor, Tensor, Tensor, Tensor], LossTerms]] = MappingProxyType(
    {"cispo": cispo, "ppo_clip": ppo_clip, "gspo": gspo, "reinforce": reinforce}
)
"""``loss.type`` of a recipe -> (cfg, logp_BT, anchor_logp_BT, advantage_BT, inside_BT) -> LossTerms."""
