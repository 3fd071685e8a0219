"""Advantages: how much better a completion is than its siblings, or than the batch.

Shape letters: P prompts, B rows (completions), T tokens. Most rows of the table start from the centred reward
c_i = R_i - mean of its prompt's rewards; there a prompt with one completion has advantage 0. ``none`` and
``rloo`` see the scale of the reward, the others do not (beyond eps). Whether a standard deviation is the
unbiased one (over n - 1) or that of the population (over n) is said with its source in each row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scalerl_lab.config.objective import (
    Advantage,
    BatchAdvantage,
    BatchRawAdvantage,
    CentredAdvantage,
    GroupStdAdvantage,
    MagistralAdvantage,
    ReinforcePPAdvantage,
    ReinforcePPBaselineAdvantage,
    RLOOAdvantage,
)
from scalerl_lab.rl.groups import rows_per_prompt, sum_per_prompt


class Scored(NamedTuple):
    """What advantages are made of."""

    reward_B: Tensor
    """Shaped reward of each completion, its penalties taken off."""
    centred_B: Tensor
    """Less the mean of its prompt."""
    return_BT: Tensor
    """Shaped reward less the penalties from each token to the end; (B, 1) where tokens are not told apart."""
    mask_BT: Tensor
    """1 at loss tokens; as wide as ``return_BT``, and then sums to the tokens of each completion."""
    prompt_index_B: Tensor
    num_prompts: int


def advantages(
    cfg: Advantage,
    reward_B: Tensor,
    prompt_index_B: Tensor,
    num_prompts: int,
    mask_BT: Tensor | None = None,
    penalty_BT: Tensor | None = None,
) -> Tensor:
    """Advantage of every completion (B,), or of every token (B, T), under the recipe's choice.

    Args:
        cfg: the recipe's ``advantage``.
        reward_B: shaped rewards of the completions that are trained on; the zero-variance filter comes
            first, so dropped prompts do not shrink the batch's standard deviation.
        prompt_index_B: prompt of each completion, 0 .. num_prompts - 1.
        num_prompts: number of prompts.
        mask_BT: 1 at loss tokens, for the rows that weigh by token; without it every completion is one
            token long.
        penalty_BT: taken off the reward at each token (a KL in the reward); 0 where the mask is 0.
    """
    if mask_BT is None:
        mask_BT = torch.ones_like(reward_B)[:, None]
    return_BT = reward_B[:, None]
    if penalty_BT is not None:
        return_BT = return_BT - penalty_BT.flip(1).cumsum(dim=1).flip(1)
        reward_B = reward_B - penalty_BT.sum(dim=1)
    rows_P = rows_per_prompt(prompt_index_B, num_prompts).clamp(min=1)
    mean_P = sum_per_prompt(reward_B, prompt_index_B, num_prompts) / rows_P
    centred_B = reward_B - mean_P[prompt_index_B]
    scored = Scored(reward_B, centred_B, return_BT, mask_BT, prompt_index_B, num_prompts)
    return ADVANTAGES[cfg.type](cfg, scored)


def of_one_step(cfg: Advantage, advantage_BT: Tensor) -> Tensor:
    """Advantages of one mini-batch (B, T), from those of its whole rollout.

    They are the same but for ``magistral``, which is whitened here again: whitening undoes any scale and
    shift of before, so the result is that of the mini-batch's own centred rewards.
    """
    if cfg.type != "magistral":
        return advantage_BT
    each_B1 = advantage_BT[:, :1]
    return _whitened(each_B1, torch.ones_like(each_B1), cfg.eps).expand_as(advantage_BT)


def group_std(cfg: GroupStdAdvantage, scored: Scored) -> Tensor:
    """Centred reward over its group's standard deviation: c_i / (sd_p + eps).

    sd_p is the unbiased one, sqrt(sum c^2 / (G - 1)), as in torch.std.
    Worked number: rewards (1, -1, -1, -1) have mean -0.5 and sd 1: A = (1.5, -0.5, -0.5, -0.5).
    Source: GRPO (arXiv 2402.03300); ScaleRL section 2 ("prompt level").
    """
    _, centred_B, _, _, prompt_index_B, num_prompts = scored
    freedom_P = (rows_per_prompt(prompt_index_B, num_prompts) - 1).clamp(min=1)
    sd_P = (sum_per_prompt(centred_B.square(), prompt_index_B, num_prompts) / freedom_P).sqrt()
    return centred_B / (sd_P[prompt_index_B] + cfg.eps)


def batch(cfg: BatchAdvantage, scored: Scored) -> Tensor:
    """Centred reward over its standard deviation in the whole batch: c_i / (sd + eps).

    sd is the population one, sqrt(mean c^2): centred rewards have mean 0 by construction, and so the
    advantages of a batch have mean square 1. The paper does not say which it uses; at 768 completions
    the sample one differs by 0.07 %.
    Worked number: prompts (1, -1) and (1, -1, -1, -1): mean c^2 = (2 + 3) / 6, sd 0.912871:
    A = (1.095445, -1.095445, 1.643168, -0.547723, -0.547723, -0.547723).
    Source: ScaleRL section 3.2 ("batch level") and J_ScaleRL, where A_std is of the centred rewards.
    """
    centred_B = scored.centred_B
    sd = (centred_B.square().sum() / max(len(centred_B), 1)).sqrt()
    return centred_B / (sd + cfg.eps)


def none(cfg: CentredAdvantage, scored: Scored) -> Tensor:
    """Centred reward as it is: c_i.

    Worked number: rewards (1, -1, -1, -1): A = (1.5, -0.5, -0.5, -0.5).
    Source: Dr. GRPO (arXiv 2503.20783); ScaleRL section 3.2 ("no normalisation").
    """
    return scored.centred_B


def rloo(cfg: RLOOAdvantage, scored: Scored) -> Tensor:
    """Reward less the mean of the prompt's *other* rewards: R_i - mean_{j != i} R_j = c_i * G / (G - 1).

    Worked number: rewards (1, -1, -1, -1): A = (2, -2/3, -2/3, -2/3).
    Source: RLOO (arXiv 2402.14740), after Kool et al. 2019.
    """
    rows_P = rows_per_prompt(scored.prompt_index_B, scored.num_prompts).to(scored.centred_B.dtype)
    factor_P = rows_P / (rows_P - 1).clamp(min=1)
    return scored.centred_B * factor_P[scored.prompt_index_B]


def batch_raw(cfg: BatchRawAdvantage, scored: Scored) -> Tensor:
    """Centred reward over the standard deviation of the rewards themselves: c_i / (sd(R) + eps).

    sd is the unbiased one (torch.std in TRL), and holds the variance between prompts; ``batch`` does not.
    Worked number: prompts (1, -1) and (1, -1, -1, -1): the six rewards have mean -1/3 and sum of squares
    about it 16/3, sd sqrt(16/15) = 1.032796:
    A = (0.968246, -0.968246, 1.452369, -0.484123, -0.484123, -0.484123).
    Source: TRL 1.16 ``scale_rewards="batch"``.
    """
    reward_B = scored.reward_B
    off_B = reward_B - reward_B.mean()
    sd = (off_B.square().sum() / max(len(reward_B) - 1, 1)).sqrt()
    return scored.centred_B / (sd + cfg.eps)


def reinforce_pp(cfg: ReinforcePPAdvantage, scored: Scored) -> Tensor:
    """Return of each token, whitened over the batch; siblings play no part.

    A_it = (R_it - mean) / sqrt(var + eps), over all loss tokens of the batch or over completions; var is the
    unbiased one. A KL in the reward makes returns differ from token to token (discount 1).
    Worked number: rewards (1, -1) of 1 and 3 tokens. By token: mean -0.5, var (2.25 + 3 * 0.25) / 3 = 1,
    A = (1.5, -0.5). By sequence: mean 0, var 2, A = (0.707107, -0.707107).
    Source: REINFORCE++ (arXiv 2501.03262); by token verl's ``masked_whiten``.
    """
    return_BT = scored.return_BT
    if cfg.weighting == "token":
        weight_BT = scored.mask_BT if return_BT.shape[1] > 1 else scored.mask_BT.sum(dim=1, keepdim=True)
        got_BT = _whitened(return_BT, weight_BT, cfg.eps)
    else:
        each_B1 = torch.ones_like(return_BT[:, :1])
        got_BT = _whitened(return_BT, each_B1, cfg.eps, scored.reward_B[:, None])
    return got_BT if got_BT.shape[1] > 1 else got_BT[:, 0]


def reinforce_pp_baseline(cfg: ReinforcePPBaselineAdvantage, scored: Scored) -> Tensor:
    """Centred reward, whitened over the batch: (c_i - mean) / sqrt(var + eps); var is the unbiased one.

    By token the mean is not 0: where right answers are the longer ones it is above, and all A fall.
    Worked number: one prompt, rewards (1, -1) of 1 and 3 tokens: by token A = (1.5, -0.5), by sequence
    (0.707107, -0.707107), as ``reinforce_pp``; a second prompt of rewards (1, 1) adds c = 0 to the average.
    Source: REINFORCE++-baseline (arXiv 2501.03262); verl, OpenRLHF and NeMo-RL by token (OpenRLHF's var is
    that of the population); ProRL v2.
    """
    centred_B1 = scored.centred_B[:, None]
    by_token = cfg.weighting == "token"
    weight_B1 = scored.mask_BT.sum(dim=1, keepdim=True) if by_token else torch.ones_like(centred_B1)
    return _whitened(centred_B1, weight_B1, cfg.eps)[:, 0]


def magistral(cfg: MagistralAdvantage, scored: Scored) -> Tensor:
    """Centred reward, whitened by completion over each *mini-batch*: (c_i - mean) / sqrt(var + eps).

    var is the unbiased one; the paper does not say which. ``of_one_step`` is where mini-batches come in.
    Worked number: prompts (1, -1) and (1, -1, -1, -1): var of c is 5 / 5 = 1: A = c.
    Source: Magistral (arXiv 2506.10910) section 2.1, advantage normalisation.
    """
    centred_B1 = scored.centred_B[:, None]
    return _whitened(centred_B1, torch.ones_like(centred_B1), cfg.eps)[:, 0]


def _whitened(value: Tensor, weight: Tensor, eps: float, sample: Tensor | None = None) -> Tensor:
    """(value - mean) / sqrt(var + eps), with weighted mean and unbiased var of ``sample``, else ``value``."""
    sample = value if sample is None else sample
    count = weight.sum()
    mean = (weight * sample).sum() / count.clamp(min=1)
    var = (weight * (sample - mean).square()).sum() / (count - 1).clamp(min=1)
    return (value - mean) / (var + eps).sqrt()


ADVANTAGES: Mapping[str, Callable[[Any, Scored], Tensor]] = MappingProxyType(
    {
        "group_std": group_std,
        "batch": batch,
        "none": none,
        "rloo": rloo,
        "batch_raw": batch_raw,
        "reinforce_pp": reinforce_pp,
        "reinforce_pp_baseline": reinforce_pp_baseline,
        "magistral": magistral,
    }
)
"""``advantage.type`` of a recipe -> (cfg, scored) -> advantage_B, or (B, T) where tokens are told apart."""
