"""Batches and choices for the tests of the algorithm's tables.

Shape letters: P prompts, G completions each, B = P * G rows, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor

from scalerl_lab.config import curriculum, objective, rewards, sampling, stages
from scalerl_lab.config.objective import Aggregation, Loss
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.strict import Strict
from scalerl_lab.rl.advantages import ADVANTAGES
from scalerl_lab.rl.aggregation import AGGREGATIONS, weights
from scalerl_lab.rl.curriculum import CURRICULA
from scalerl_lab.rl.difficulty import DIFFICULTY_FILTERS
from scalerl_lab.rl.filters import FILTERS
from scalerl_lab.rl.kl import KL_ESTIMATORS
from scalerl_lab.rl.lengths import LENGTH_CONTROLS
from scalerl_lab.rl.losses import LOSSES, token_loss
from scalerl_lab.rl.mismatch import ANCHORS, MISMATCH_WEIGHTS
from scalerl_lab.rl.off_policy import SCHEDULES
from scalerl_lab.rl.reference import RESET_TRIGGERS
from scalerl_lab.rl.rewards import LENGTH_REWARDS, TRUNCATIONS, WHENS

LIMIT = 20


def choices(union: Any) -> dict[str, type[Strict]]:
    """``type`` literal -> model, of a tagged union."""
    return {model.model_fields["type"].default: model for model in get_args(get_args(union)[0])}


LOSS_CHOICES = choices(objective.Loss)
AGGREGATION_CHOICES = choices(objective.Aggregation)
ADVANTAGE_CHOICES = choices(objective.Advantage)
LENGTH_CHOICES = choices(rewards.LengthControl)
CURRICULUM_CHOICES = choices(curriculum.Curriculum)
OFF_POLICY_CHOICES = choices(sampling.OffPolicy)
MISMATCH_CHOICES = choices(objective.MismatchWeight)
KL_CHOICES = get_args(objective.KLLoss.model_fields["estimator"].annotation)
TRIGGER_CHOICES = tuple(
    n for n in objective.Reference.model_fields if n not in ("new_share", "reset_optimizer")
)
FILTER_CHOICES = get_args(Recipe.model_fields["zero_variance"].annotation)

TABLES = {
    "loss": (LOSSES, LOSS_CHOICES),
    "aggregation": (AGGREGATIONS, AGGREGATION_CHOICES),
    "advantage": (ADVANTAGES, ADVANTAGE_CHOICES),
    "length_control": (LENGTH_CONTROLS, LENGTH_CHOICES),
    "curriculum": (CURRICULA, CURRICULUM_CHOICES),
    "off_policy": (SCHEDULES, OFF_POLICY_CHOICES),
    "zero_variance": (FILTERS, FILTER_CHOICES),
    "length_reward": (LENGTH_REWARDS, choices(rewards.LengthReward)),
    "truncated": (TRUNCATIONS, choices(rewards.TruncatedCompletions)),
    "difficulty_filter": (DIFFICULTY_FILTERS, choices(curriculum.DifficultyFilter)),
    "when": (WHENS, choices(stages.When)),
    "anchor": (ANCHORS, get_args(objective.Anchor)),
    "mismatch_weight": (MISMATCH_WEIGHTS, MISMATCH_CHOICES),
    "kl.estimator": (KL_ESTIMATORS, KL_CHOICES),
    "reference": (RESET_TRIGGERS, TRIGGER_CHOICES),
}


def floats(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@dataclass(frozen=True)
class Rows:
    """What a loss needs; ``logp_BT`` is a leaf without gradient."""

    logp_BT: Tensor
    gen_logp_BT: Tensor
    advantage_B: Tensor
    mask_BT: Tensor
    prompt_index_B: Tensor
    num_prompts: int

    def take(self, order: Tensor) -> Rows:
        """The rows in another order."""
        return replace(
            self,
            logp_BT=self.logp_BT[order],
            gen_logp_BT=self.gen_logp_BT[order],
            advantage_B=self.advantage_B[order],
            mask_BT=self.mask_BT[order],
            prompt_index_B=self.prompt_index_B[order],
        )


def random_rows(seed: int, prompts: int = 4, generations: int = 2, tokens: int = 6, off: float = 0.5) -> Rows:
    """Ragged masks with holes, ratios within and outside every default bound (``off`` = 0: on-policy)."""
    generator = torch.Generator().manual_seed(seed)
    rows = prompts * generations
    logp_BT = -3.0 * torch.rand(rows, tokens, generator=generator, dtype=torch.float64) - 0.01
    shift_BT = off * torch.randn(rows, tokens, generator=generator, dtype=torch.float64)
    mask_BT = (torch.rand(rows, tokens, generator=generator, dtype=torch.float64) < 0.7).double()
    mask_BT[torch.arange(rows), torch.randint(tokens, (rows,), generator=generator)] = 1.0
    return Rows(
        logp_BT=logp_BT,
        gen_logp_BT=logp_BT - shift_BT,
        advantage_B=torch.randn(rows, generator=generator, dtype=torch.float64),
        mask_BT=mask_BT,
        prompt_index_B=torch.arange(prompts).repeat_interleave(generations),
        num_prompts=prompts,
    )


def value_and_grad(loss: Loss, aggregation: Aggregation, rows: Rows) -> tuple[Tensor, Tensor]:
    """Loss of the batch, and its gradient with respect to each row's log-probabilities."""
    logp_BT = rows.logp_BT.clone().requires_grad_()
    weight_BT = weights(aggregation, rows.mask_BT, rows.prompt_index_B, rows.num_prompts, LIMIT)
    terms = token_loss(loss, logp_BT, rows.gen_logp_BT, rows.advantage_B, rows.mask_BT)
    total = (weight_BT * terms.loss_BT).sum()
    (grad_BT,) = torch.autograd.grad(total, logp_BT)
    return total.detach(), grad_BT
