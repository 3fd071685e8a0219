"""The zero-variance filter: what becomes of prompts whose completions all have the same reward.

Shape letters: P prompts, B rows (completions). Such prompts have advantage 0 and so no gradient; to drop
them shrinks the batch and every denominator of the aggregation with it. They are not replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from scalerl_lab.rl.groups import members


def kept_prompts(mode: str, raw_reward_B: Tensor, prompt_index_B: Tensor, num_prompts: int) -> Tensor:
    """Which prompts are trained on: bool (P,).

    Args:
        mode: the recipe's ``zero_variance``.
        raw_reward_B: verified rewards before length shaping, which would give variance to prompts that
            are solved always.
        prompt_index_B: prompt of each completion, 0 .. num_prompts - 1.
        num_prompts: number of prompts.
    """
    return FILTERS[mode](raw_reward_B, prompt_index_B, num_prompts)


def drop(raw_reward_B: Tensor, prompt_index_B: Tensor, num_prompts: int) -> Tensor:
    """Keep a prompt if its largest raw reward differs from its smallest, exactly.

    Worked number: rewards (1, -1 | 1, 1 | -1, -1) keep (true, false, false).
    Source: ScaleRL section 3.2 and J_ScaleRL (0 < pass mean < 1).
    """
    rows_PB = members(prompt_index_B, num_prompts)
    infinity = raw_reward_B.new_full((), torch.inf)
    high_P = torch.where(rows_PB, raw_reward_B[None, :], -infinity).amax(dim=1)
    low_P = torch.where(rows_PB, raw_reward_B[None, :], infinity).amin(dim=1)
    return high_P > low_P


def keep(raw_reward_B: Tensor, prompt_index_B: Tensor, num_prompts: int) -> Tensor:
    """Keep every prompt.

    Worked number: rewards (1, -1 | 1, 1 | -1, -1) keep (true, true, true).
    Source: ScaleRL section 3.2 ("full batch").
    """
    return torch.ones(num_prompts, dtype=torch.bool, device=raw_reward_B.device)


FILTERS: Mapping[str, Callable[[Tensor, Tensor, int], Tensor]] = MappingProxyType(
    {"drop": drop, "keep": keep}
)
"""``zero_variance`` of a recipe -> (raw_reward_B, prompt_index_B, num_prompts) -> kept prompts, bool (P,)."""
