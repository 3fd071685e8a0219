"""The objective against TRL's GRPO loss on the same random tensors, values and gradients to 1e-5.

Skipped where TRL is not installed (``pip install scalerl-lab[trl]``). What is called is TRL 1.16's own
``GRPOTrainer._compute_loss``, on a stand-in for the trainer that holds its settings.

Deliberate differences, and why:

- Anchor. TRL's ratios are against its own old log-probabilities; ours by default against the sampler's, as
  ScaleRL and PipelineRL have it. Here ``anchor: old`` is compared.
- CISPO's cap. Both are absolute; ours is 5 by default, TRL's falls back to its ``epsilon`` of 0.2 where
  ``epsilon_high`` is not given, which shrinks every token's gradient to a fifth.
- Log-ratios. Ours are clamped to +-20 before exp, TRL's are not: there a ratio of e^50 makes a loss of
  5e21. At |log-ratio| below 20 there is no difference.
- Dual clip. TRL's ``delta`` also binds where the advantage is positive; where it is above 1 + epsilon_high,
  as in every published use, the upper clip binds first, and the two are the same function.
- Sequence ratios. TRL gives one loss to each sequence; ours is the token form, in which each token carries
  the sequence's ratio. Under ``sample`` aggregation value and gradient are the same; of sequence ratios with
  another loss type TRL itself warns, and they are not compared.
- Constant denominator. TRL's ``dr_grpo`` divides by the completions of a *device's micro-batch* and leaves
  the rest to gradient accumulation; ours divides by those of the step, so that splits change nothing. One
  micro-batch is compared.
- Entropy bonus. TRL's is a mean over tokens whatever the loss type; ours is aggregated as the loss is, as in
  verl. They agree under ``token``, which is compared.
- KL. TRL's only estimator is k3, by default weighted by the ratio (ours: ``k3_weighted``); with sequence
  ratios it weighs by the sequence's, which is not compared.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from scalerl_lab.config.recipe import Recipe
from scalerl_lab.rl.aggregation import weights
from scalerl_lab.rl.batch import TrainBatch
from scalerl_lab.rl.mismatch import mismatch_weights
from scalerl_lab.rl.update import objective
from tests.rl.batches import LIMIT, Rows, random_rows
from tests.rl.tiny import tiny_recipe

pytestmark = pytest.mark.peer
grpo_trainer = pytest.importorskip("trl.trainer.grpo_trainer", reason="TRL is not installed")

CLIP = {"type": "ppo_clip", "clip_low": 0.2, "clip_high": 0.28}
TRL_CLIP = {"epsilon_low": 0.2, "epsilon_high": 0.28}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "grpo": ({"loss": CLIP, "aggregation": {"type": "sample"}}, {"loss_type": "grpo", **TRL_CLIP}),
    "dapo": ({"loss": CLIP, "aggregation": {"type": "token"}}, {"loss_type": "dapo", **TRL_CLIP}),
    "dr_grpo": ({"loss": CLIP, "aggregation": {"type": "const"}}, {"loss_type": "dr_grpo", **TRL_CLIP}),
    "cispo": (
        {"loss": {"type": "cispo", "ratio_cap": 1.3}, "aggregation": {"type": "token"}},
        {"loss_type": "cispo", "epsilon_low": 0.2, "epsilon_high": 1.3},
    ),
    "gspo": (
        {
            "loss": {"type": "gspo", "clip_low": 0.05, "clip_high": 0.08},
            "aggregation": {"type": "sample"},
        },
        {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon_low": 0.05,
            "epsilon_high": 0.08,
        },
    ),
    "dual_clip": (
        {"loss": {**CLIP, "dual_clip": 1.5}, "aggregation": {"type": "sample"}},
        {"loss_type": "grpo", **TRL_CLIP, "delta": 1.5},
    ),
    "k3": (
        {
            "loss": CLIP,
            "aggregation": {"type": "sample"},
            "kl": {"type": "loss", "estimator": "k3", "coef": 0.7},
        },
        {"loss_type": "grpo", **TRL_CLIP, "beta": 0.7},
    ),
    "k3_weighted": (
        {
            "loss": CLIP,
            "aggregation": {"type": "token"},
            "kl": {"type": "loss", "estimator": "k3_weighted", "coef": 0.7},
        },
        {"loss_type": "dapo", **TRL_CLIP, "beta": 0.7, "use_bias_correction_kl": True},
    ),
    "truncated": (
        {
            "loss": CLIP,
            "aggregation": {"type": "token"},
            "mismatch_weight": {"type": "truncated", "cap": 1.2},
            "kl": {"type": "loss", "estimator": "k3", "coef": 0.7},
        },
        {"loss_type": "dapo", **TRL_CLIP, "beta": 0.7, "use_vllm": True},
    ),
    "entropy_bonus": (
        {"loss": CLIP, "aggregation": {"type": "token"}, "entropy_bonus": 0.4},
        {"loss_type": "dapo", **TRL_CLIP, "entropy_coef": 0.4},
    ),
}


def recipe_of(changes: dict[str, Any]) -> Recipe:
    return tiny_recipe(
        **{"anchor": "old", "batch": {"prompts_per_step": 4, "mini_batches": 2}, **changes},
        sampling={"generations_per_prompt": 2, "max_response_tokens": LIMIT},
    )


class Random:
    """One step's tensors; gen, old and reference differ from the policy by tenths."""

    def __init__(self, seed: int) -> None:
        self.rows: Rows = random_rows(seed, tokens=9, off=0.3)
        self.old_BT = self.rows.gen_logp_BT
        noise_BT = random_rows(seed + 100, tokens=9, off=0.0).logp_BT
        self.gen_BT = self.old_BT + 0.2 * (noise_BT + 1.5)
        self.ref_BT = self.rows.logp_BT + 0.3 * (noise_BT + 1.5)
        self.entropy_BT = -noise_BT


def ours(recipe: Recipe, random: Random) -> tuple[Tensor, Tensor, Tensor]:
    """Value, and gradients by log-probabilities and by entropies."""
    rows = random.rows
    logp_BT, entropy_BT = rows.logp_BT.clone().requires_grad_(), random.entropy_BT.clone().requires_grad_()
    batch = TrainBatch(
        tokens_BT=torch.zeros_like(rows.mask_BT, dtype=torch.long),
        response_mask_BT=rows.mask_BT,
        gen_logp_BT=random.gen_BT,
        prompt_index_B=rows.prompt_index_B,
        advantage_BT=rows.advantage_B[:, None].expand_as(rows.mask_BT),
        weight_BT=weights(recipe.aggregation, rows.mask_BT, rows.prompt_index_B, rows.num_prompts, LIMIT),
        num_prompts=rows.num_prompts,
        anchor_logp_BT=random.old_BT,
        mismatch_BT=mismatch_weights(recipe.mismatch_weight, random.old_BT, random.gen_BT, rows.mask_BT),
        limit=LIMIT,
        temperature=1.0,
        ref_logp_BT=random.ref_BT,
    )
    value, _ = objective(recipe, batch, logp_BT, entropy_BT)
    return value.detach(), *gradients(value, logp_BT, entropy_BT)


def gradients(value: Tensor, logp_BT: Tensor, entropy_BT: Tensor) -> tuple[Tensor, Tensor]:
    found = torch.autograd.grad(value, (logp_BT, entropy_BT), allow_unused=True)
    one, two = (torch.zeros_like(logp_BT) if each is None else each for each in found)
    return one, two


def theirs(settings: dict[str, Any], random: Random) -> tuple[Tensor, Tensor, Tensor]:
    """The same of TRL's trainer, as it computes it in training on one process, in one micro-batch."""
    rows = random.rows
    logp_BT, entropy_BT = rows.logp_BT.clone().requires_grad_(), random.entropy_BT.clone().requires_grad_()
    trainer = SimpleNamespace(
        **{
            "aux_loss_enabled": False,
            "top_entropy_quantile": 1.0,
            "off_policy_mask_threshold": None,
            "importance_sampling_level": "token",
            "beta": 0.0,
            "use_vllm": False,
            "vllm_importance_sampling_correction": True,
            "current_gradient_accumulation_steps": 1,
            "max_completion_length": LIMIT,
            "use_adaptive_entropy": False,
            "_entropy_bonus_enabled": "entropy_coef" in settings,
            "_metrics": {"train": defaultdict(list)},
            "model": SimpleNamespace(training=True),
            "accelerator": SimpleNamespace(
                num_processes=1,
                sync_gradients=True,
                gather=lambda value: value,
                reduce=lambda value, reduction: value,
            ),
            "args": SimpleNamespace(
                use_bias_correction_kl=settings.get("use_bias_correction_kl", False),
                delta=settings.get("delta"),
                steps_per_generation=1,
            ),
            "_get_per_token_logps_and_entropies": lambda *args, **kwargs: (logp_BT, entropy_BT, None),
            **settings,
        }
    )
    nothing = torch.zeros(len(logp_BT), 1, dtype=torch.long)
    inputs = {
        "prompt_ids": nothing,
        "prompt_mask": nothing,
        "completion_ids": torch.zeros_like(rows.mask_BT, dtype=torch.long),
        "completion_mask": rows.mask_BT,
        "advantages": rows.advantage_B,
        "old_per_token_logps": random.old_BT,
        "ref_per_token_logps": random.ref_BT,
        "importance_sampling_ratio": ((random.old_BT - random.gen_BT) * rows.mask_BT).exp().clamp(max=1.2),
        "num_items_in_batch": rows.mask_BT.sum(),
    }
    value = grpo_trainer.GRPOTrainer._compute_loss(trainer, trainer.model, inputs)
    return value.detach(), *gradients(value, logp_BT, entropy_BT)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_are_the_peers(case: str, seed: int) -> None:
    changes, settings = CASES[case]
    random = Random(seed)
    got, want = ours(recipe_of(changes), random), theirs(settings, random)
    assert want[1].abs().sum() > 1e-3
    for mine, other in zip(got, want, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_the_comparison_can_fail(case: str) -> None:
    """Each case tells its own choice from the others': no other's recipe has the peer's gradient."""
    random = Random(0)
    want = theirs(CASES[case][1], random)
    for other, (changes, _) in CASES.items():
        got = ours(recipe_of(changes), random)
        same = all(torch.allclose(a, b, rtol=1e-5, atol=1e-8) for a, b in zip(got, want, strict=True))
        assert same is (other == case), other


def test_group_and_batch_deviations_are_the_peers() -> None:
    """TRL's ``nanstd``, which its advantages divide by, is the unbiased one, as in our rows of that name."""
    from trl.trainer.utils import nanstd

    from scalerl_lab.config.objective import BatchRawAdvantage, GroupStdAdvantage
    from scalerl_lab.rl.advantages import advantages

    reward_B = torch.randn(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    index_B = torch.arange(3).repeat_interleave(4)
    grouped = reward_B.view(3, 4)
    centred = (grouped - grouped.mean(dim=1, keepdim=True)).flatten()
    for cfg, deviation in (
        (GroupStdAdvantage(eps=1e-4), nanstd(grouped, dim=1).repeat_interleave(4)),
        (BatchRawAdvantage(eps=1e-4), nanstd(reward_B)),
    ):
        got = advantages(cfg, reward_B, index_B, 3)
        torch.testing.assert_close(got, centred / (deviation + 1e-4), rtol=1e-5, atol=1e-8)
