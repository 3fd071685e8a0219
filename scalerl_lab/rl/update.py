"""One optimiser step: from a verified batch to new weights, and what was seen on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from scalerl_lab.config.recipe import Recipe
from scalerl_lab.engines.learner import TorchLearner
from scalerl_lab.rl.batch import TrainBatch, assemble, split
from scalerl_lab.rl.losses import token_loss
from scalerl_lab.rl.meter import ModelShape
from scalerl_lab.rl.rollout import Verified

_MICRO_BATCH_TOKENS = 32768
"""Rows times width that one backward pass may hold."""
_PARTS = 3
"""Backward passes of a step; more would cost more in overhead than they save in padding."""
_BY_TOKEN = ("tokens_BT", "response_mask_BT", "gen_logp_BT", "weight_BT")
_BY_ROW = ("prompt_index_B", "advantage_B")


@dataclass(slots=True)
class Tally:
    """Sums over the training steps since the last evaluation on schedule."""

    steps: int = 0
    updates: int = 0
    rows: int = 0
    tokens: int = 0
    prompts: int = 0
    reward: float = 0.0
    grad_norm: float = 0.0
    clipped: int = 0
    mismatch: float = 0.0
    generated: int = 0
    lag: int = 0
    dropped: int = 0

    def means(self) -> dict[str, float | None]:
        """The aggregate fields of a point; None where nothing was summed."""
        return {
            "train_reward": _ratio(self.reward, self.rows),
            "grad_norm": _ratio(self.grad_norm, self.updates),
            "ratio_clipped": _ratio(self.clipped, self.tokens),
            "mismatch": _ratio(self.mismatch, self.tokens),
            "lag": _ratio(self.lag, self.generated),
            "prompts_dropped": _ratio(self.dropped, self.prompts),
        }


def _ratio(total: float, count: int) -> float | None:
    return total / count if count else None


def update(
    learner: TorchLearner, recipe: Recipe, shape: ModelShape, verified: Verified, step: int, tally: Tally
) -> int | None:
    """One optimiser step on a batch; none when the filter drops every prompt.

    Args:
        learner: the policy and its optimiser.
        recipe: the run's choices.
        shape: of the policy, for the count of operations.
        verified: the batch.
        step: number of this step, from 1.
        tally: gets what was seen.

    Returns:
        Counted operations, or None when the loss or a gradient is not finite: then nothing changed.
    """
    completions = verified.completions
    tally.steps += 1
    replaced = verified.replaced
    tally.rows += len(completions.raw_reward_B) + replaced.rows
    tally.reward += float(completions.raw_reward_B.sum()) + replaced.reward
    tally.prompts += completions.num_prompts + replaced.prompts
    tally.dropped += replaced.prompts
    tally.generated += int(completions.response_mask_BT.sum())
    tally.lag += int(verified.lag_BT.sum())
    batch = assemble(recipe, completions)
    if batch is None:
        tally.dropped += completions.num_prompts
        return 0
    tally.dropped += completions.num_prompts - batch.num_prompts
    lengths = _row_lengths(batch)
    loss = sum(_backward(learner, recipe, micro, tally) for micro in _micro_batches(batch, lengths))
    norm = learner.apply_gradient(step) if math.isfinite(loss) else None
    if norm is None:
        return None
    tally.updates += 1
    tally.grad_norm += norm
    return shape.training_flops(lengths.tolist())


def _row_lengths(batch: TrainBatch) -> torch.Tensor:
    """Tokens of each row (B,): the policy writes the last one, so the mask ends where the row does."""
    place_T = torch.arange(1, batch.tokens_BT.shape[1] + 1, device=batch.tokens_BT.device)
    return ((batch.response_mask_BT > 0) * place_T).amax(1)


def _micro_batches(batch: TrainBatch, lengths: torch.Tensor) -> list[TrainBatch]:
    """Rows of like length together, each part cut to its longest row: less padding to compute."""
    by_length = lengths.argsort(stable=True)
    num_micro = max(_PARTS, math.ceil(batch.tokens_BT.numel() / _MICRO_BATCH_TOKENS))
    parts = split(_rows_of(batch, by_length), min(num_micro, batch.num_rows))
    return [_cut(part, int(_row_lengths(part).max())) for part in parts]


def _rows_of(batch: TrainBatch, rows: torch.Tensor) -> TrainBatch:
    return replace(batch, **{name: getattr(batch, name)[rows] for name in (*_BY_TOKEN, *_BY_ROW)})


def _cut(batch: TrainBatch, width: int) -> TrainBatch:
    return replace(batch, **{name: getattr(batch, name)[:, :width] for name in _BY_TOKEN})


def _backward(learner: TorchLearner, recipe: Recipe, micro: TrainBatch, tally: Tally) -> float:
    logp_BT = learner.token_logprobs(micro.tokens_BT, micro.temperature)
    mask_BT = micro.response_mask_BT
    terms = token_loss(recipe.loss, logp_BT, micro.gen_logp_BT, micro.advantage_B, mask_BT)
    loss = (micro.weight_BT * terms.loss_BT).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        tally.tokens += int(mask_BT.sum())
        tally.clipped += int(terms.clipped_BT.sum())
        tally.mismatch += float(((logp_BT - micro.gen_logp_BT).abs() * mask_BT).sum())
    return float(loss.detach())
