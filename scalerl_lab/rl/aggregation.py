"""Aggregations: how much each loss token weighs in the loss of one optimiser step.

Shape letters: P prompts, B rows (completions), T tokens.

The weights are computed once, on the whole batch of an optimiser step, before it is split: then
``(weight_BT * loss_BT).sum()`` adds up over any micro-batches to the same number. A completion (or a
prompt) without any loss token contributes nothing, and still counts in the number of completions (prompts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from scalerl_lab.config.objective import Aggregation
from scalerl_lab.rl.groups import sum_per_prompt


def weights(
    agg_cfg: Aggregation, mask_BT: Tensor, prompt_index_B: Tensor, num_prompts: int, max_response_tokens: int
) -> Tensor:
    """Weight of every token (B, T) under the recipe's choice; 0 where the mask is 0.

    Args:
        agg_cfg: the recipe's ``aggregation``.
        mask_BT: 1 at loss tokens, 0 elsewhere; floating point, and the weights have its type.
        prompt_index_B: prompt of each completion, 0 .. num_prompts - 1.
        num_prompts: prompts that are trained on (after the zero-variance filter).
        max_response_tokens: the recipe's response limit.
    """
    row_weight_B = AGGREGATIONS[agg_cfg.type](
        mask_BT.sum(dim=1), prompt_index_B, num_prompts, max_response_tokens
    )
    return mask_BT * row_weight_B[:, None]


def sample(length_B: Tensor, prompt_index_B: Tensor, num_prompts: int, max_response_tokens: int) -> Tensor:
    """Mean over completions of each one's token mean: 1 / (N T_i).

    Worked number: lengths (1, 3 | 10) of two prompts weigh 1/3, 1/9, 1/30 per token.
    Source: GRPO; ScaleRL Eq. 3 and "sample average".
    """
    return 1.0 / (max(len(length_B), 1) * length_B.clamp(min=1))


def prompt(length_B: Tensor, prompt_index_B: Tensor, num_prompts: int, max_response_tokens: int) -> Tensor:
    """Mean over prompts of the token mean over all of a prompt's completions: 1 / (P sum_{i in p} T_i).

    Worked number: lengths (1, 3 | 10) of two prompts weigh 1/8, 1/8, 1/20 per token.
    Source: ScaleRL Eq. 8 and "prompt average"; the DAPO equation read literally.
    """
    tokens_P = sum_per_prompt(length_B, prompt_index_B, num_prompts).clamp(min=1)
    return 1.0 / (max(num_prompts, 1) * tokens_P[prompt_index_B])


def token(length_B: Tensor, prompt_index_B: Tensor, num_prompts: int, max_response_tokens: int) -> Tensor:
    """Mean over all tokens of the batch: 1 / sum_i T_i.

    Worked number: lengths (1, 3 | 10) weigh 1/14 per token.
    Source: ScaleRL "token average"; DAPO as most code bases have it.
    """
    return (1.0 / length_B.sum().clamp(min=1)).expand_as(length_B)


def const(length_B: Tensor, prompt_index_B: Tensor, num_prompts: int, max_response_tokens: int) -> Tensor:
    """Sum over a constant, completions times the response limit: 1 / (N L_max).

    The limit is the recipe's, not the width to which the batch happens to be padded.
    Worked number: three completions under a limit of 20 weigh 1/60 per token, whatever their lengths.
    Source: Dr. GRPO (arXiv 2503.20783).
    """
    return length_B.new_full(length_B.shape, 1.0 / (max(len(length_B), 1) * max_response_tokens))


AGGREGATIONS: Mapping[str, Callable[[Tensor, Tensor, int, int], Tensor]] = MappingProxyType(
    {"sample": sample, "prompt": prompt, "token": token, "const": const}
)
"""``aggregation.type`` -> (length_B, prompt_index_B, num_prompts, max_response_tokens) -> row weight (B,)."""
