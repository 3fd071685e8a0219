"""What a rollout and each of its optimiser steps consume, and the order in which it is made from completions.

Shape letters: P prompts, B rows (completions), T tokens. Position t of every (B, T) tensor speaks of token
``tokens_BT[:, t]``: whether it carries loss, and its log-probability given the tokens before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scalerl_lab.config.recipe import Recipe
from scalerl_lab.rl.advantages import advantages, of_one_step
from scalerl_lab.rl.aggregation import weights
from scalerl_lab.rl.filters import judge
from scalerl_lab.rl.kl import kl_terms
from scalerl_lab.rl.mismatch import ANCHORS, mismatch_weights
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
    """Optimiser steps before the first one that consumes them."""

    def rows(self, rows_B: Tensor) -> Completions:
        """Some rows, by a mask or by their numbers; prompts keep theirs."""
        chosen: dict[str, Any] = {name: getattr(self, name)[rows_B] for name in _OF_COMPLETIONS}
        return replace(self, **chosen)


_OF_COMPLETIONS = (
    "tokens_BT", "response_mask_BT", "gen_logp_BT", "prompt_index_B", "raw_reward_B", "num_tokens_B",
    "truncated_B",
)  # fmt: skip


class Frozen(NamedTuple):
    """What weights that stand still during a rollout's updates say of its tokens; None where not asked."""

    old_logp_BT: Tensor | None = None
    """Trainer's log-probability before its first step on the rollout."""
    ref_logp_BT: Tensor | None = None
    """The reference policy's."""


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """What a rollout or one of its steps consumes; its policy loss is ``(weight_BT * token loss).sum()``."""

    tokens_BT: Tensor
    response_mask_BT: Tensor
    gen_logp_BT: Tensor
    prompt_index_B: Tensor
    advantage_BT: Tensor
    """Advantage of each token; the same along a row, unless tokens have returns of their own."""
    weight_BT: Tensor
    """Aggregation weights, computed on the whole batch of a step; 0 where the mask is 0."""
    num_prompts: int
    """Prompts of the whole batch that are trained on."""
    anchor_logp_BT: Tensor
    """What ratios are against."""
    mismatch_BT: Tensor
    """Weight of each token by the sampler's mismatch; 1 without."""
    limit: int
    """Response tokens that a row could have."""
    temperature: float
    """Of the distribution that the tokens were drawn from."""
    ref_logp_BT: Tensor | None = None
    """The reference policy's log-probabilities, where there is a KL."""

    def __post_init__(self) -> None:
        shape = tuple(self.tokens_BT.shape)
        for name in (*_BY_TOKEN, *_BY_ROW):
            value, want = getattr(self, name), shape if name in _BY_TOKEN else shape[:1]
            if value is not None and value.shape != want:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, not {want}")

    @property
    def num_rows(self) -> int:
        """B."""
        return self.tokens_BT.shape[0]

    def rows(self, rows: Tensor) -> TrainBatch:
        """Some rows, in the order given; weights stay those of the whole."""
        return self._each((*_BY_TOKEN, *_BY_ROW), lambda value: value[rows])

    def cut(self, width: int) -> TrainBatch:
        """The first ``width`` tokens of every row."""
        return self._each(_BY_TOKEN, lambda value: value[:, :width])

    def _each(self, names: tuple[str, ...], change: Callable[[Tensor], Tensor]) -> TrainBatch:
        given: dict[str, Any] = {name: getattr(self, name) for name in names}
        changed: dict[str, Any] = {name: change(value) for name, value in given.items() if value is not None}
        return replace(self, **changed)


_BY_TOKEN = (
    "tokens_BT", "response_mask_BT", "gen_logp_BT", "advantage_BT", "weight_BT", "anchor_logp_BT",
    "mismatch_BT", "ref_logp_BT",
)  # fmt: skip
_BY_ROW = ("prompt_index_B",)


def assemble(
    recipe: Recipe, completions: Completions, frozen: Callable[[Completions], Frozen] = lambda _: Frozen()
) -> TrainBatch | None:
    """The training batch of a rollout, or None when nothing in it carries loss.

    The order matters: rewards are shaped, then prompts are kept by their raw or shaped rewards, then a KL in
    the reward is taken off, then advantages and weights are computed over the kept rows alone. Rows that
    carry no loss count there, and leave with the steps (``mini_batches``). Kept prompts are renumbered
    from 0.

    Args:
        recipe: the run's choices.
        completions: the whole rollout.
        frozen: asked once, for the rows that carry loss.
    """
    judged = judge(recipe, completions)
    num_prompts = int(judged.kept_P.sum())
    if num_prompts == 0:
        return None
    rows_B = judged.kept_P[completions.prompt_index_B] & judged.counted_B
    prompt_index_B = (judged.kept_P.long().cumsum(dim=0) - 1)[completions.prompt_index_B[rows_B]]
    kept = replace(completions.rows(rows_B), prompt_index_B=prompt_index_B, num_prompts=num_prompts)
    with_loss_B = with_loss(recipe.truncated, kept.truncated_B)
    if not bool(with_loss_B.any()):
        return None
    limit = recipe.sampling.max_response_tokens_at(completions.step)
    mask_BT = kept.response_mask_BT * with_loss_B[:, None]
    # Rows without loss need no pass of a model.
    old_logp_BT, ref_logp_BT = (
        None if said is None else _spread(said, with_loss_B) for said in frozen(kept.rows(with_loss_B))
    )
    anchor_logp_BT = ANCHORS[recipe.anchor](kept.gen_logp_BT, old_logp_BT)
    penalty_BT = _kl_in_reward(recipe, anchor_logp_BT, ref_logp_BT, mask_BT)
    reward_B = judged.reward_B[rows_B]
    advantage = advantages(recipe.advantage, reward_B, prompt_index_B, num_prompts, mask_BT, penalty_BT)
    return TrainBatch(
        tokens_BT=kept.tokens_BT,
        response_mask_BT=mask_BT,
        gen_logp_BT=kept.gen_logp_BT,
        prompt_index_B=prompt_index_B,
        advantage_BT=(advantage[:, None] if advantage.dim() == 1 else advantage).expand_as(mask_BT),
        weight_BT=weights(recipe.aggregation, mask_BT, prompt_index_B, num_prompts, limit),
        num_prompts=num_prompts,
        anchor_logp_BT=anchor_logp_BT,
        mismatch_BT=mismatch_weights(recipe.mismatch_weight, anchor_logp_BT, kept.gen_logp_BT, mask_BT),
        limit=limit,
        temperature=recipe.sampling.temperature_at(completions.step),
        ref_logp_BT=ref_logp_BT,
    )


def _spread(said_BT: Tensor, with_loss_B: Tensor) -> Tensor:
    """What was said of rows with loss, at their places among all; 0 elsewhere."""
    all_BT = said_BT.new_zeros((len(with_loss_B), said_BT.shape[1]))
    all_BT[with_loss_B] = said_BT
    return all_BT


def _kl_in_reward(
    recipe: Recipe, anchor_logp_BT: Tensor, ref_logp_BT: Tensor | None, mask_BT: Tensor
) -> Tensor | None:
    """What a KL takes off the reward at each token, by the anchor's log-probabilities; None without one."""
    kl = recipe.kl
    if kl.type != "reward":
        return None
    if ref_logp_BT is None:
        raise ValueError("kl.type=reward needs the reference's log-probabilities, and none were computed")
    return kl.coef * kl_terms(kl.estimator, kl.clamp, anchor_logp_BT, ref_logp_BT, anchor_logp_BT, mask_BT)


def mini_batches(recipe: Recipe, batch: TrainBatch) -> list[TrainBatch]:
    """What each optimiser step of one epoch consumes: prompts in order, in parts of nearly equal number.

    Each part is a batch of its own: prompts renumbered from 0, weights over its own tokens, and the
    advantages that ``advantages.of_one_step`` says. Fewer prompts than mini-batches make fewer parts, and
    so does a part in which no row carries loss; where some do, the others leave here.
    """
    num_parts = min(recipe.batch.mini_batches, batch.num_prompts)
    if num_parts == 1:
        whole = replace(batch, advantage_BT=of_one_step(recipe.advantage, batch.advantage_BT))
        return [_that_carry_loss(whole)]
    prompts = torch.arange(batch.num_prompts, device=batch.tokens_BT.device)
    parts = []
    for prompts_of in prompts.tensor_split(num_parts):
        first, num_prompts = int(prompts_of[0]), len(prompts_of)
        inside_B = (batch.prompt_index_B >= first) & (batch.prompt_index_B < first + num_prompts)
        part = batch.rows(inside_B.nonzero().squeeze(1))
        index_B, mask_BT = part.prompt_index_B - first, part.response_mask_BT
        parts.append(
            _that_carry_loss(
                replace(
                    part,
                    prompt_index_B=index_B,
                    num_prompts=num_prompts,
                    advantage_BT=of_one_step(recipe.advantage, part.advantage_BT),
                    weight_BT=weights(recipe.aggregation, mask_BT, index_B, num_prompts, batch.limit),
                )
            )
        )
    return [part for part in parts if part.num_rows]


def _that_carry_loss(batch: TrainBatch) -> TrainBatch:
    carry_B = (batch.response_mask_BT > 0).any(dim=1)
    return batch if bool(carry_B.all()) else batch.rows(carry_B.nonzero().squeeze(1))


def split(batch: TrainBatch, num_micro: int) -> list[TrainBatch]:
    """Micro-batches of nearly equal numbers of rows; their losses and gradients just add up.

    Raises:
        ValueError: ``num_micro`` is not between 1 and the number of rows.
    """
    if not 1 <= num_micro <= batch.num_rows:
        raise ValueError(f"num_micro must be between 1 and the {batch.num_rows} rows, got {num_micro}")
    rows_of = torch.arange(batch.num_rows, device=batch.tokens_BT.device).tensor_split(num_micro)
    return [batch.rows(rows) for rows in rows_of]
