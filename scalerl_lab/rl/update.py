"""The optimiser steps on one rollout: from verified completions to new weights, and what was seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scalerl_lab.config.recipe import Recipe
from scalerl_lab.engines.learner import FrozenPolicy, TorchLearner
from scalerl_lab.rl.batch import Completions, Frozen, TrainBatch, assemble, mini_batches, split
from scalerl_lab.rl.kl import kl_terms
from scalerl_lab.rl.losses import token_loss
from scalerl_lab.rl.meter import ModelShape
from scalerl_lab.rl.off_policy import schedule_of
from scalerl_lab.rl.reference import ResetState, Seen
from scalerl_lab.rl.rollout import Verified

_MICRO_BATCH_TOKENS = 32768
"""Rows times width that one backward pass may hold."""


@dataclass(slots=True)
class Tally:
    """Sums over the training steps since the last evaluation on schedule."""

    steps: int = 0
    updates: int = 0
    rows: int = 0
    tokens: int = 0
    """Tokens that carry loss."""
    scored: int = 0
    """Those among them of rows that can move the policy: see ``_with_gradient``."""
    prompts: int = 0
    reward: float = 0.0
    grad_norm: float = 0.0
    clipped: int = 0
    mismatch: float = 0.0
    generated: int = 0
    lag: int = 0
    dropped: int = 0
    kl: float | None = None
    """Sum over trained tokens of the log-ratio to the reference; None without one."""

    def means(self) -> dict[str, float | None]:
        """The aggregate fields of a point; None where nothing was summed."""
        return {
            "train_reward": _ratio(self.reward, self.rows),
            "grad_norm": _ratio(self.grad_norm, self.updates),
            "ratio_clipped": _ratio(self.clipped, self.scored),
            "mismatch": _ratio(self.mismatch, self.scored),
            "lag": _ratio(self.lag, self.generated),
            "prompts_dropped": _ratio(self.dropped, self.prompts),
            "kl": None if self.kl is None else _ratio(self.kl, self.tokens),
        }


def _ratio(total: float, count: int) -> float | None:
    return total / count if count else None


class Trainer:
    """The policy's learner with the frozen policies that a recipe's objective asks for."""

    def __init__(self, recipe: Recipe, learner: TorchLearner, shape: ModelShape) -> None:
        """From the policy as it is: the reference is the start's weights.

        Args:
            recipe: the run's choices.
            learner: the policy and its optimiser.
            shape: of the policy, for the count of operations.
        """
        self._recipe = recipe
        self.learner = learner
        self._shape = shape
        self._rollouts_per_old = schedule_of(recipe.off_policy).rollouts_per_policy(recipe.off_policy)
        asks_old = recipe.anchor == "old" and self._rollouts_per_old > 1
        self._old = learner.frozen() if asks_old else None
        """The policy of the first of several rollouts that were generated together; else it is the policy."""
        self._reference = None if recipe.kl.type == "none" else learner.frozen()
        self._resets = ResetState()

    # ------------------------------------------------------------ steps

    def train_on(self, verified: Verified, step: int, tally: Tally) -> int | None:
        """All optimiser steps on one rollout; they change nothing when the filter drops every prompt.

        Args:
            verified: the rollout.
            step: optimiser steps taken so far.
            tally: gets what was seen.

        Returns:
            Counted operations, or None when the loss or a gradient is not finite: then that step changed
            nothing, and the run cannot go on.
        """
        completions, per_rollout = verified.completions, self._recipe.batch.steps_per_rollout
        tally.steps += per_rollout
        replaced = verified.replaced
        tally.rows += len(completions.raw_reward_B) + replaced.rows
        tally.reward += float(completions.raw_reward_B.sum()) + replaced.reward
        tally.prompts += completions.num_prompts + replaced.prompts
        tally.dropped += replaced.prompts
        # All generation is before the first step on a rollout: there a lag in rollouts is one in steps.
        tally.generated += int(completions.response_mask_BT.sum())
        tally.lag += int(verified.lag_BT.sum()) * per_rollout
        if self._old is not None and step // per_rollout % self._rollouts_per_old == 0:
            self._old.follow(self.learner.policy)
        asked = _Asked(self)
        batch = assemble(self._recipe, completions, asked)
        if batch is None:
            tally.dropped += completions.num_prompts
            return 0
        tally.dropped += completions.num_prompts - batch.num_prompts
        flops, kl = asked.flops, None
        for epoch in range(self._recipe.batch.epochs):
            first = step + 1 + epoch * self._recipe.batch.mini_batches
            for number, part in enumerate(mini_batches(self._recipe, batch), first):
                stepped = self._step(part, number, tally)
                if stepped is None:
                    return None
                trained, kl = stepped
                flops += trained
        self._maybe_reset(Seen(step, step + per_rollout, kl=kl))
        return flops

    def _step(self, batch: TrainBatch, number: int, tally: Tally) -> tuple[int, float | None] | None:
        """One optimiser step: its operations and its mean log-ratio to the reference."""
        lengths = row_lengths(batch.response_mask_BT)
        before_kl, before_tokens = tally.kl or 0.0, tally.tokens
        tally.tokens += int(batch.response_mask_BT.sum())
        asked = _with_gradient(self._recipe, batch)
        loss = sum(_backward(self.learner, self._recipe, part, tally) for part in _micro_batches(asked))
        norm = self.learner.apply_gradient(number) if math.isfinite(loss) else None
        if norm is None:
            return None
        tally.updates += 1
        tally.grad_norm += norm
        kl = None if tally.kl is None else (tally.kl - before_kl) / max(tally.tokens - before_tokens, 1)
        return self._shape.training_flops(lengths.tolist()), kl

    # ------------------------------------------------------------ frozen policies

    def measured(self, step: int, pass_rate: float) -> None:
        """Told after every evaluation on schedule, before its checkpoint."""
        self._resets.measured(pass_rate)
        self._maybe_reset(Seen(step, step, stalled=self._resets.stalled))

    def _maybe_reset(self, seen: Seen) -> None:
        cfg = self._recipe.reference
        if self._reference is not None and self._resets.asks(cfg, seen):
            self._reference.follow(self.learner.policy, cfg.new_share)
            if cfg.reset_optimizer:
                self.learner.reset_optimizer()

    def score(self, policy: TorchLearner | FrozenPolicy, completions: Completions) -> Tensor:
        """What a policy says of completions (B, T), without gradient; 0 past the end of each."""
        tokens_BT, lengths = completions.tokens_BT, row_lengths(completions.response_mask_BT)
        temperature = self._recipe.sampling.temperature_at(completions.step)
        logp_BT = torch.zeros_like(completions.gen_logp_BT)
        for rows in torch.arange(len(tokens_BT), device=tokens_BT.device).tensor_split(_num_parts(tokens_BT)):
            width = int(lengths[rows].max())
            with torch.no_grad():
                part_BT = tokens_BT[rows, :width]
                logp_BT[rows, :width] = policy.token_logprobs(part_BT, temperature, lengths[rows])
        return logp_BT

    # ------------------------------------------------------------ state

    def state(self) -> dict[str, Any]:
        """What resets remember, as plain JSON."""
        return self._resets.state()

    def tensors(self) -> dict[str, Tensor]:
        """Weights of the frozen policies, by name; empty where there are none."""
        return {
            f"{role}.{name}": value
            for role, frozen in self._frozen().items()
            for name, value in frozen.tensors().items()
        }

    def load(self, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Put back what ``state`` and ``tensors`` gave."""
        self._resets = ResetState(**state)
        for role, frozen in self._frozen().items():
            frozen.load_tensors(
                {
                    name.removeprefix(f"{role}."): v
                    for name, v in tensors.items()
                    if name.startswith(f"{role}.")
                }
            )

    def _frozen(self) -> dict[str, FrozenPolicy]:
        roles = {"old": self._old, "reference": self._reference}
        return {role: frozen for role, frozen in roles.items() if frozen is not None}


class _Asked:
    """What the frozen policies say of a rollout's kept rows, and what that cost."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.flops = 0

    def __call__(self, completions: Completions) -> Frozen:
        trainer = self._trainer
        old = (trainer._old or trainer.learner) if trainer._recipe.anchor == "old" else None
        asked = (old, trainer._reference)
        lengths = row_lengths(completions.response_mask_BT).tolist()
        # A pass forward is a third of one forward and backward.
        self.flops = sum(each is not None for each in asked) * trainer._shape.training_flops(lengths) // 3
        return Frozen(*(None if each is None else trainer.score(each, completions) for each in asked))


def row_lengths(mask_BT: Tensor) -> Tensor:
    """Tokens of each row (B,): the policy writes the last one, so the mask ends where the row does."""
    place_T = torch.arange(1, mask_BT.shape[1] + 1, device=mask_BT.device)
    return ((mask_BT > 0) * place_T).amax(1)


def _num_parts(tokens_BT: Tensor) -> int:
    return min(math.ceil(tokens_BT.numel() / _MICRO_BATCH_TOKENS), len(tokens_BT))


def _with_gradient(recipe: Recipe, batch: TrainBatch) -> TrainBatch:
    """The rows that move the policy; the gradient is the same without the others.

    With neither a KL nor an entropy bonus, a row whose advantage is 0 everywhere adds exactly nothing. One
    row is left at least: a gradient of 0 is an optimiser step too.
    """
    if recipe.kl.type != "none" or recipe.entropy_bonus:
        return batch
    moves_B = (batch.advantage_BT != 0).any(dim=1)
    moves_B[0] |= ~moves_B.any()
    return batch if bool(moves_B.all()) else batch.rows(moves_B.nonzero().squeeze(1))


def _micro_batches(batch: TrainBatch) -> list[TrainBatch]:
    """Rows in their order, so that those of one prompt stay together, each part cut to its longest row."""
    parts = split(batch, _num_parts(batch.tokens_BT))
    return [part.cut(int(row_lengths(part.response_mask_BT).max())) for part in parts]


def _backward(learner: TorchLearner, recipe: Recipe, micro: TrainBatch, tally: Tally) -> float:
    temperature, mask_BT = micro.temperature, micro.response_mask_BT
    lengths, entropy_BT = row_lengths(mask_BT), None
    if recipe.entropy_bonus:
        logp_BT, entropy_BT = learner.logprobs_and_entropy(micro.tokens_BT, temperature, lengths)
    else:
        logp_BT = learner.token_logprobs(micro.tokens_BT, temperature, lengths)
    loss, clipped_BT = objective(recipe, micro, logp_BT, entropy_BT)
    loss.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        tally.scored += int(mask_BT.sum())
        tally.clipped += int(clipped_BT.sum())
        tally.mismatch += float(((logp_BT - micro.gen_logp_BT).abs() * mask_BT).sum())
        if micro.ref_logp_BT is not None:
            tally.kl = (tally.kl or 0.0) + float(((logp_BT - micro.ref_logp_BT) * mask_BT).sum())
    return float(loss.detach())


def objective(
    recipe: Recipe, micro: TrainBatch, logp_BT: Tensor, entropy_BT: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The loss of some rows of a step, which adds up over any split of them, and where a bound acted (B, T).

    sum_t weight * (mismatch * policy loss + kl coef * kl - entropy bonus * entropy)

    Args:
        recipe: the run's choices.
        micro: the rows.
        logp_BT: the trainer's log-probabilities, with gradient.
        entropy_BT: entropy of each token's distribution, with gradient; asked for by an entropy bonus.
    """
    mask_BT = micro.response_mask_BT
    terms = token_loss(recipe.loss, logp_BT, micro.anchor_logp_BT, micro.advantage_BT, mask_BT)
    loss_BT, kl = terms.loss_BT * micro.mismatch_BT, recipe.kl
    if kl.type == "loss":
        if micro.ref_logp_BT is None:
            raise ValueError("kl.type=loss needs the reference's log-probabilities, and the batch has none")
        kl_BT = kl_terms(kl.estimator, kl.clamp, logp_BT, micro.ref_logp_BT, micro.anchor_logp_BT, mask_BT)
        loss_BT = loss_BT + kl.coef * kl_BT
    if recipe.entropy_bonus:
        if entropy_BT is None:
            raise ValueError("entropy_bonus needs the entropies of the tokens, and none were given")
        # Replaced, not multiplied by the mask: an entropy outside it may be anything.
        inside_BT = torch.where(mask_BT > 0, entropy_BT, entropy_BT.new_zeros(()))
        loss_BT = loss_BT - recipe.entropy_bonus * inside_BT
    return (micro.weight_BT * loss_BT).sum(), terms.clipped_BT
