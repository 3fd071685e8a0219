"""What ratios are against, and what becomes of the difference between sampler and trainer.

Shape letters: B rows (completions), T tokens. Three log-probabilities of a sampled token: ``gen`` the
sampler's when it wrote the token, ``old`` the trainer's before its first step on the rollout, and the
trainer's now. So

    now / gen = (now / old) * w,   w = exp(old - gen)

and a loss whose ratio is now / gen holds w already, while one with now / old may weigh each token by some
f(w). Both are 1 on-policy with equal numerics. f(w) has no gradient, and multiplies the policy's token loss
only: not the KL, not the entropy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from scalerl_lab.config.objective import (
    IcePop,
    Masked,
    MismatchWeight,
    NoMismatchWeight,
    SequenceBand,
    SequenceMasked,
    SequenceTruncated,
    Truncated,
)

LOG_WEIGHT_BOUND = 20.0
"""log w is clamped to +-20 before exp, as log-ratios are; TRL and verl too."""


def gen(gen_logp_BT: Tensor, old_logp_BT: Tensor | None) -> Tensor:
    """The sampler's log-probabilities: ratios hold staleness and numeric mismatch alike.

    Worked number: gen -2, old -1.9, now -1.5: ratio exp(0.5) = 1.648721.
    Source: ScaleRL section 2; PipelineRL (arXiv 2509.19128); verl ``bypass_mode``.
    """
    return gen_logp_BT


def old(gen_logp_BT: Tensor, old_logp_BT: Tensor | None) -> Tensor:
    """The trainer's own before its first step on the rollout: ratios hold its own movement alone.

    Worked number: gen -2, old -1.9, now -1.5: ratio exp(0.4) = 1.491825, and w = exp(0.1) = 1.105171.
    Source: PPO with a proximal policy of its own (arXiv 2110.00641); the default of verl, TRL, OpenRLHF and
    NeMo-RL.
    """
    if old_logp_BT is None:
        raise ValueError("anchor=old needs the trainer's old log-probabilities, and none were computed")
    return old_logp_BT


ANCHORS: Mapping[str, Callable[[Tensor, Tensor | None], Tensor]] = MappingProxyType({"gen": gen, "old": old})
"""``anchor`` of a recipe -> (gen_logp_BT, old_logp_BT) -> anchor_logp_BT."""


def mismatch_weights(
    cfg: MismatchWeight, old_logp_BT: Tensor, gen_logp_BT: Tensor, mask_BT: Tensor
) -> Tensor:
    """f(w) of every token (B, T) under the recipe's choice, without gradient; 1 where the mask is 0.

    Args:
        cfg: the recipe's ``mismatch_weight``.
        old_logp_BT: trainer's log-probabilities before its first step on the rollout.
        gen_logp_BT: sampler's; both may be anything, also NaN, where the mask is 0.
        mask_BT: 1 at loss tokens, 0 elsewhere.
    """
    inside_BT = mask_BT > 0
    log_w_BT = (old_logp_BT - gen_logp_BT).detach().masked_fill(~inside_BT, 0.0)
    return MISMATCH_WEIGHTS[cfg.type](cfg, log_w_BT, inside_BT).masked_fill(~inside_BT, 1.0)


def none(cfg: NoMismatchWeight, log_w_BT: Tensor, inside_BT: Tensor) -> Tensor:
    """No weight: 1.

    Worked number: w = (0.4, 1.5, 6) weigh (1, 1, 1).
    Source: GRPO, DAPO and ProRL v1, which do not speak of the mismatch.
    """
    return torch.ones_like(log_w_BT)


def truncated(cfg: Truncated, log_w_BT: Tensor, inside_BT: Tensor) -> Tensor:
    """Importance weights cut at a cap: min(w, cap).

    Worked number: w = (0.4, 1.5, 6) under cap 2 weigh (0.4, 1.5, 2).
    Source: truncated importance sampling (TIS): verl and OpenRLHF; NVIDIA's ProRL v2 run at cap 2.
    """
    return _exp(log_w_BT).clamp(max=cfg.cap)


def masked(cfg: Masked, log_w_BT: Tensor, inside_BT: Tensor) -> Tensor:
    """Importance weights, and no loss at all for tokens above a cap: w * 1[w <= cap].

    Worked number: w = (0.4, 1.5, 6) under cap 3 weigh (0.4, 1.5, 0).
    Source: masked importance sampling: TRL 1.16 ``token_mask``.
    """
    return _within(_exp(log_w_BT), 0.0, cfg.cap)


def icepop(cfg: IcePop, log_w_BT: Tensor, inside_BT: Tensor) -> Tensor:
    """Importance weights, and no loss for tokens outside a band: w * 1[low <= w <= high].

    Worked number: w = (0.4, 1.5, 6) with the band 0.5 to 5 weigh (0, 1.5, 0).
    Source: IcePop as in NeMo-RL's and OpenRLHF's ProRL v2.
    """
    return _within(_exp(log_w_BT), cfg.low, cfg.high)


def sequence_truncated(cfg: SequenceTruncated, log_w_BT: Tensor, inside_BT: Tensor) -> Tensor:
    """One weight for the completion, cut at a cap: min(exp(sum_t log w), cap).

    Worked number: w = (0.4, 1.5, 6) multiply to 3.6: each token weighs 3 under cap 3.
    Source: TRL 1.16 ``sequence_truncate``.
    """
    return _exp(log_w_BT.sum(dim=1, keepdim=True)).clamp(max=cfg.cap).expand_as(log_w_BT)


def sequence_masked(cfg: SequenceMasked, log_w_BT: Tensor, inside_BT: Tensor) -> Tensor:
    """One weight for the completion, and no loss at all above a cap: w * 1[w <= cap], w = exp(sum_t log w).

    Worked number: w = (0.4, 1.5, 6) multiply to 3.6: each token weighs 0 under cap 3, and 3.6 under 4.
    Source: TRL 1.16 ``sequence_mask``.
    """
    return _within(_exp(log_w_BT.sum(dim=1, keepdim=True)), 0.0, cfg.cap).expand_as(log_w_BT)


def sequence_band(cfg: SequenceBand, log_w_BT: Tensor, inside_BT: Tensor) -> Tensor:
    """Importance weights of the completions whose geometric mean of w is within a band; 0 in the others.

    Worked number: w = (0.4, 1.5, 6) have geometric mean 3.6^(1/3) = 1.532619: (0.4, 1.5, 6) with the band 0.5
    to 2, and (0, 0, 0) with the band 0.5 to 1.5.
    Source: ``seq-mask-tis`` of NeMo-RL and OpenRLHF.
    """
    length_B1 = inside_BT.sum(dim=1, keepdim=True).clamp(min=1)
    mean_B1 = _exp(log_w_BT.sum(dim=1, keepdim=True) / length_B1)
    kept_B1 = (mean_B1 >= cfg.low) & (mean_B1 <= cfg.high)
    return _exp(log_w_BT) * kept_B1


def _exp(log_w: Tensor) -> Tensor:
    return log_w.clamp(-LOG_WEIGHT_BOUND, LOG_WEIGHT_BOUND).exp()


def _within(w: Tensor, low: float, high: float) -> Tensor:
    return w * ((w >= low) & (w <= high))


MISMATCH_WEIGHTS: Mapping[str, Callable[[Any, Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "none": none,
        "truncated": truncated,
        "masked": masked,
        "icepop": icepop,
        "sequence_truncated": sequence_truncated,
        "sequence_masked": sequence_masked,
        "sequence_band": sequence_band,
    }
)
"""``mismatch_weight.type`` of a recipe -> (cfg, log_w_BT, inside_BT) -> weight_BT."""
