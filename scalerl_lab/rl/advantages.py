"""Advantages: how much better a completion is than its siblings.

Shape letters: P prompts, B rows (completions). Every row of the table starts from the centred reward
c_i = R_i - mean of its prompt's rewards. ``group_std`` and ``batch`` do not see the scale of the reward
(beyond eps), ``none`` does. A prompt with one completion has advantage 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor

from scalerl_lab.config.recipe import Advantage, BatchAdvantage, CentredAdvantage, GroupStdAdvantage
from scalerl_lab.rl.groups import rows_per_prompt, sum_per_prompt


def advantages(cfg: Advantage, reward_B: Tensor, prompt_index_B: Tensor, num_prompts: int) -> Tensor:
    """Advantage of every completion (B,) under the recipe's choice.

    Args:
        cfg: the recipe's ``advantage``.
        reward_B: shaped rewards of the completions that are trained on; the zero-variance filter comes
            first, so dropped prompts do not shrink the batch's standard deviation.
        prompt_index_B: prompt of each completion, 0 .. num_prompts - 1.
        num_prompts: number of prompts.
    """
    rows_P = rows_per_prompt(prompt_index_B, num_prompts).clamp(min=1)
    mean_P = sum_per_prompt(reward_B, prompt_index_B, num_prompts) / rows_P
    centred_B = reward_B - mean_P[prompt_index_B]
    return ADVANTAGES[cfg.type](cfg, centred_B, prompt_index_B, num_prompts)


def group_std(cfg: GroupStdAdvantage, centred_B: Tensor, prompt_index_B: Tensor, num_prompts: int) -> Tensor:
    """Centred reward over its group's standard deviation: c_i / (sd_p + eps).

    sd_p is the unbiased one, sqrt(sum c^2 / (G - 1)), as in torch.std.
    Worked number: rewards (1, -1, -1, -1) have mean -0.5 and sd 1: A = (1.5, -0.5, -0.5, -0.5).
    Source: GRPO (arXiv 2402.03300); ScaleRL section 2 ("prompt level").
    """
    freedom_P = (rows_per_prompt(prompt_index_B, num_prompts) - 1).clamp(min=1)
    sd_P = (sum_per_prompt(centred_B.square(), prompt_index_B, num_prompts) / freedom_P).sqrt()
    return centred_B / (sd_P[prompt_index_B] + cfg.eps)


def batch(cfg: BatchAdvantage, centred_B: Tensor, prompt_index_B: Tensor, num_prompts: int) -> Tensor:
    """Centred reward over its standard deviation in the whole batch: c_i / (sd + eps).

    sd is the population one, sqrt(mean c^2): centred rewards have mean 0 by construction, and so the
    advantages of a batch have mean square 1. The paper does not say which it uses; at 768 completions
    the sample one differs by 0.07 %.
    Worked number: prompts (1, -1) and (1, -1, -1, -1): mean c^2 = (2 + 3) / 6, sd 0.912871:
    A = (1.095445, -1.095445, 1.643168, -0.547723, -0.547723, -0.547723).
    Source: ScaleRL section 3.2 ("batch level") and J_ScaleRL, where A_std is of the centred rewards.
    """
    sd = (centred_B.square().sum() / max(len(centred_B), 1)).sqrt()
    return centred_B / (sd + cfg.eps)


def none(cfg: CentredAdvantage, centred_B: Tensor, prompt_index_B: Tensor, num_prompts: int) -> Tensor:
    """Centred reward as it is: c_i.

    Worked number: rewards (1, -1, -1, -1): A = (1.5, -0.5, -0.5, -0.5).
    Source: Dr. GRPO (arXiv 2503.20783); ScaleRL section 3.2 ("no normalisation").
    """
    return centred_B


ADVANTAGES: Mapping[str, Callable[[Any, Tensor, Tensor, int], Tensor]] = MappingProxyType(
    {"group_std": group_std, "batch": batch, "none": none}
)
"""``advantage.type`` of a recipe -> (cfg, centred_B, prompt_index_B, num_prompts) -> advantage_B."""
