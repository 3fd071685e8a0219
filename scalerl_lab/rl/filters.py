"""The zero-variance filter: what becomes of prompts whose completions all have the same reward.

Shape letters: P prompts, B rows (completions). Such prompts have advantage 0 and so no gradient; to drop
them shrinks the batch and every denominator of the aggregation with it. ``refill`` has ``rollout`` replace
them before the batch is consumed, and drops those that are left when it may generate no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scalerl_lab.config.recipe import Recipe
from scalerl_lab.rl.groups import members
from scalerl_lab.rl.rewards import counted, shaped_rewards

if TYPE_CHECKING:
    from scalerl_lab.rl.batch import Completions


@dataclass(frozen=True, slots=True)
class Judged:
    """Which completions make up the batch, and their rewards."""

    reward_B: Tensor
    """Shaped rewards."""
    counted_B: Tensor
    """Rows that count in the filter and in means and deviations; bool."""
    kept_P: Tensor
    """Prompts that are trained on; bool."""


def judge(recipe: Recipe, completions: Completions) -> Judged:
    """Shape the rewards, and see which prompts have a gradient.

    The filter looks at verdicts or at shaped rewards (``filter_on``), of the rows that count. A prompt
    with none is not kept, whatever ``zero_variance`` says.
    """
    reward_B = shaped_rewards(
        recipe,
        completions.raw_reward_B,
        completions.num_tokens_B,
        completions.truncated_B,
        completions.step,
    )
    counted_B = counted(recipe.truncated, completions.truncated_B)
    looked_at_B = completions.raw_reward_B if recipe.filter_on == "raw" else reward_B
    index_B, num_prompts = completions.prompt_index_B[counted_B], completions.num_prompts
    kept_P = kept_prompts(recipe.zero_variance, looked_at_B[counted_B], index_B, num_prompts)
    return Judged(reward_B, counted_B, kept_P & members(index_B, num_prompts).any(dim=1))


def kept_prompts(mode: str, reward_B: Tensor, prompt_index_B: Tensor, num_prompts: int) -> Tensor:
    """Which prompts are trained on: bool (P,).

    Args:
        mode: the recipe's ``zero_variance``.
        reward_B: the rewards that must vary.
        prompt_index_B: prompt of each completion, 0 .. num_prompts - 1.
        num_prompts: number of prompts.
    """
    return FILTERS[mode](reward_B, prompt_index_B, num_prompts)


def drop(reward_B: Tensor, prompt_index_B: Tensor, num_prompts: int) -> Tensor:
    """Keep a prompt if its largest reward differs from its smallest, exactly.

    Worked number: rewards (1, -1 | 1, 1 | -1, -1) keep (true, false, false).
    Source: ScaleRL section 3.2 and J_ScaleRL (0 < pass mean < 1).
    """
    rows_PB = members(prompt_index_B, num_prompts)
    if not len(reward_B):
        return torch.zeros(num_prompts, dtype=torch.bool, device=reward_B.device)
    infinity = reward_B.new_full((), torch.inf)
    high_P = torch.where(rows_PB, reward_B[None, :], -infinity).amax(dim=1)
    low_P = torch.where(rows_PB, reward_B[None, :], infinity).amin(dim=1)
    return high_P > low_P


def refill(reward_B: Tensor, prompt_index_B: Tensor, num_prompts: int) -> Tensor:
    """Dynamic sampling: keep what ``drop`` keeps, and have the others replaced until the batch is full.

    Worked number: rewards (1, -1 | 1, 1 | -1, -1) keep (true, false, false): two prompts are generated anew.
    Source: DAPO (arXiv 2503.14476) section 3.2, Eq. 11.
    """
    return drop(reward_B, prompt_index_B, num_prompts)


def keep(reward_B: Tensor, prompt_index_B: Tensor, num_prompts: int) -> Tensor:
    """Keep every prompt.

    Worked number: rewards (1, -1 | 1, 1 | -1, -1) keep (true, true, true).
    Source: ScaleRL section 3.2 ("full batch").
    """
    return torch.ones(num_prompts, dtype=torch.bool, device=reward_B.device)


FILTERS: Mapping[str, Callable[[Tensor, Tensor, int], Tensor]] = MappingProxyType(
    {"drop": drop, "keep": keep, "refill": refill}
)
"""``zero_variance`` of a recipe -> (reward_B, prompt_index_B, num_prompts) -> kept prompts, bool (P,)."""
