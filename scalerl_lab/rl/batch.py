"""What one optimiser step consumes, and the order in which it is made from completions.

Shape letters: P prompts, B rows (completions), T tokens. Position t of every (B, T) tensor speaks of token
``tokens_BT[:, t]``: whether it carries loss, and its log-probability given the tokens before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scalerl_lab.config.recipe import Recipe
from scalerl_lab.rl.advantages import advantages
from scalerl_lab.rl.aggregation import weights
from scalerl_lab.rl.filters import judge
from scalerl_lab.rl.rewards import with_loss


@dataclass(frozen=True, slots=True)
class Completions:
    """Verified completions of P prompts, as they come from generation."""

    tokens_BT: Tensor
    """Prompt, response and padding; long."""
    response_mask_BT: Tensor
    """1 at sampled response tokens; 0 at prompt, padding and injected tokens; floating point."""
    gen_logp_BT: Tensor
    """Generator's log-probability when the token was sampled; anything where the mask is 0."""
    prompt_index_B: Tensor
    """Prompt of each row, 0 .. P - 1; long. It numbers the prompts of this batch, not of the data."""
    raw_reward_B: Tensor
    """+1 for a verified answer, -1 otherwise; floating point."""
    num_tokens_B: Tensor
    """All response tokens of each row, injected ones included; long."""
    truncated_B: Tensor
    """Whether a row was cut before it ended; bool."""
    num_prompts: int
    """P; each prompt has at least one row."""
    step: int
    """Number of the batch: optimiser steps before the one that consumes it."""


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """What one optimiser step consumes: its loss is ``(weight_BT * token loss).sum()``."""

    tokens_BT: Tensor
    response_mask_BT: Tensor
    gen_logp_BT: Tensor
    prompt_index_B: Tensor
    advantage_B: Tensor
    weight_BT: Tensor
    """Aggregation weights, computed on the whole batch; 0 where the mask is 0."""
    num_prompts: int
    """Prompts of the whole batch that are trained on."""
    temperature: float
    """Of the distribution that the tokens were drawn from."""

    def __post_init__(self) -> None:
        rows, width = self.tokens_BT.shape
        for name in ("response_mask_BT", "gen_logp_BT", "weight_BT"):
            if getattr(self, name).shape != (rows, width):
                raise ValueError(f"{name} has shape {tuple(getattr(self, name).shape)}, not {(rows, width)}")
        for name in ("prompt_index_B", "advantage_B"):
            if getattr(self, name).shape != (rows,):
                raise ValueError(f"{name} has shape {tuple(getattr(self, name).shape)}, not {(rows,)}")

    @property
    def num_rows(self) -> int:
        """B."""
        return self.tokens_BT.shape[0]


def assemble(recipe: Recipe, completions: Completions) -> TrainBatch | None:
    """The training batch of a step, or None when the filter leaves no prompt.

    The order matters: rewards are shaped, then prompts are kept by their raw or shaped rewards, then
    advantages and weights are computed over the kept rows alone; rows that carry no loss leave last.
    Kept prompts are renumbered from 0.
    """
    judged = judge(recipe, completions)
    num_prompts = int(judged.kept_P.sum())
    if num_prompts == 0:
        return None
    rows_B = judged.kept_P[completions.prompt_index_B] & judged.counted_B
    prompt_index_B = (judged.kept_P.long().cumsum(dim=0) - 1)[completions.prompt_index_B[rows_B]]
    limit = recipe.sampling.max_response_tokens_at(completions.step)
    reward_B = judged.reward_B[rows_B]
    with_loss_B = with_loss(recipe.truncated, completions.truncated_B[rows_B])
    if not bool(with_loss_B.any()):
        return None
    # Rows without loss count in means, deviations and numbers of rows, and then need no pass of the model.
    mask_BT = completions.response_mask_BT[rows_B] * with_loss_B[:, None]
    advantage_B = advantages(recipe.advantage, reward_B, prompt_index_B, num_prompts)
    weight_BT = weights(recipe.aggregation, mask_BT, prompt_index_B, num_prompts, limit)
    return TrainBatch(
        tokens_BT=completions.tokens_BT[rows_B][with_loss_B],
        response_mask_BT=mask_BT[with_loss_B],
        gen_logp_BT=completions.gen_logp_BT[rows_B][with_loss_B],
        prompt_index_B=prompt_index_B[with_loss_B],
        advantage_B=advantage_B[with_loss_B],
        weight_BT=weight_BT[with_loss_B],
        num_prompts=num_prompts,
        temperature=recipe.sampling.temperature_at(completions.step),
    )


def split(batch: TrainBatch, num_micro: int) -> list[TrainBatch]:
    """Micro-batches of nearly equal numbers of rows; their losses and gradients just add up.

    Raises:
        ValueError: ``num_micro`` is not between 1 and the number of rows.
    """
    if not 1 <= num_micro <= batch.num_rows:
        raise ValueError(f"num_micro must be between 1 and the {batch.num_rows} rows, got {num_micro}")
    rows_of = torch.arange(batch.num_rows, device=batch.tokens_BT.device).tensor_split(num_micro)
    return [
        replace(
            batch,
            tokens_BT=batch.tokens_BT[rows],
            response_mask_BT=batch.response_mask_BT[rows],
            gen_logp_BT=batch.gen_logp_BT[rows],
            prompt_index_B=batch.prompt_index_B[rows],
            advantage_B=batch.advantage_B[rows],
            weight_BT=batch.weight_BT[rows],
        )
        for rows in rows_of
    ]
