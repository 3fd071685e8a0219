"""Rows of a batch grouped by prompt: sums and extremes in a fixed order, on any device.

Shape letters: P prompts, B rows (completions).
"""

from __future__ import annotations

import torch
from torch import Tensor


def members(prompt_index_B: Tensor, num_prompts: int) -> Tensor:
    """Which rows belong to which prompt: bool (P, B)."""
    # A dense table, not index_add: on CUDA the latter adds in a random order, and curves must repeat
    # bit for bit. P x B is at most a few ten thousand.
    prompts_P = torch.arange(num_prompts, device=prompt_index_B.device)
    return prompts_P[:, None] == prompt_index_B[None, :]


def sum_per_prompt(value_B: Tensor, prompt_index_B: Tensor, num_prompts: int) -> Tensor:
    """Sum of a value over each prompt's rows: (P,).

    Worked number: values (1, 2, 4) of prompts (0, 1, 1) give (1, 6).
    """
    zero = value_B.new_zeros(())
    return torch.where(members(prompt_index_B, num_prompts), value_B[None, :], zero).sum(dim=1)


def rows_per_prompt(prompt_index_B: Tensor, num_prompts: int) -> Tensor:
    """Number of rows of each prompt: long (P,)."""
    return members(prompt_index_B, num_prompts).sum(dim=1)
