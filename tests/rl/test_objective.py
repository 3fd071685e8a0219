"""The objective with every axis switched on: gradients, and any split of a step into parts.

Every row of every table enrols by being in the table. Shape letters: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scalerl_lab.config.objective import Reinforce
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.rl.batch import Completions, Frozen, TrainBatch, assemble, mini_batches, split
from scalerl_lab.rl.update import Tally, _with_gradient, objective
from tests.rl.batches import TABLES
from tests.rl.tiny import tiny_recipe

V, ROWS, WIDTH = 5, 12, 7
BOUNDS = {
    "truncated": {"cap": 1.2},
    "masked": {"cap": 1.2},
    "sequence_band": {"low": 0.7, "high": 1.4},
}


def axes() -> dict[str, dict[str, Any]]:
    """Name -> changes to a recipe that put one row of one table to use."""
    found: dict[str, dict[str, Any]] = {}
    for name in TABLES["loss"][0]:
        # The value of a sequence loss in token form is differentiable as such under this aggregation alone.
        found[f"loss {name}"] = {"loss": {"type": name}, "aggregation": {"type": "sample"}}
    found["dual_clip"] = {"loss": {"type": "ppo_clip", "dual_clip": 1.3}}
    for name in TABLES["advantage"][0]:
        found[f"advantage {name}"] = {"advantage": {"type": name}}
    for name in TABLES["aggregation"][0]:
        found[f"aggregation {name}"] = {"aggregation": {"type": name}}
    for name in TABLES["mismatch_weight"][0]:
        # Bounds that some weights here are within and some are not.
        bounds = BOUNDS.get(name, {})
        found[f"mismatch_weight {name}"] = {"anchor": "old", "mismatch_weight": {"type": name, **bounds}}
    for name in TABLES["anchor"][0]:
        found[f"anchor {name}"] = {"anchor": name, "kl": {"type": "loss", "estimator": "k3_weighted"}}
    for name in TABLES["kl.estimator"][0]:
        if name != "k1":  # refused as a loss: its gradient is 0
            found[f"kl loss {name}"] = {"kl": {"type": "loss", "estimator": name, "coef": 0.5}}
    for name in ("k1", "k2", "k3"):
        found[f"kl reward {name}"] = {
            "kl": {"type": "reward", "estimator": name, "coef": 0.5},
            "advantage": {"type": "reinforce_pp"},
        }
    found["entropy_bonus"] = {"entropy_bonus": 0.3}
    return found


AXES = axes()
EIGHT = {"evaluation": {"every_steps": 8, "num_prompts": 8}}


def recipe_of(changes: dict[str, Any], mini: int = 2) -> Recipe:
    """Two mini-batches, so that an old anchor and clips have something to do."""
    base = {
        "loss": {"type": "ppo_clip"},
        "batch": {"prompts_per_step": 3, "mini_batches": mini},
        "off_policy": {"type": "pipeline", "max_lag": 2},
        "length_control": {"type": "truncate"},
        "zero_variance": "keep",
    }
    return tiny_recipe(**{**base, **changes})


class Bigram:
    """A policy in float64 that is a table of logits: next token given this one."""

    def __init__(self, seed: int) -> None:
        self.table = torch.randn(V, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def __call__(self, tokens_BT: Tensor, table: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies (B, T); 0 for the first token."""
        logp = (self.table if table is None else table).log_softmax(dim=1)[tokens_BT[:, :-1]]
        taken = logp.gather(-1, tokens_BT[:, 1:, None]).squeeze(-1)
        entropy = -(logp.exp() * logp).sum(-1)
        pad = torch.nn.functional.pad
        return pad(taken, (1, 0)), pad(entropy, (1, 0))


NOW, OLD, GEN, REF = Bigram(0), Bigram(1), Bigram(2), Bigram(3)
for near, scale in ((OLD, 0.3), (GEN, 0.5), (REF, 0.7)):
    near.table = NOW.table + scale * near.table


def rollout() -> Completions:
    generator = torch.Generator().manual_seed(7)
    tokens_BT = torch.randint(V, (ROWS, WIDTH), generator=generator)
    length_B = torch.randint(2, WIDTH + 1, (ROWS,), generator=generator)
    mask_BT = ((torch.arange(WIDTH) >= 1) & (torch.arange(WIDTH) < length_B[:, None])).double()
    return Completions(
        tokens_BT=tokens_BT,
        response_mask_BT=mask_BT,
        gen_logp_BT=GEN(tokens_BT)[0],
        prompt_index_B=torch.arange(6).repeat_interleave(2),
        raw_reward_B=torch.tensor([1.0, -1.0, 1, 1, -1, 1, -1, -1, 1, -1, 0.5, -1]).double(),
        num_tokens_B=length_B - 1,
        truncated_B=torch.zeros(ROWS, dtype=torch.bool),
        num_prompts=6,
        step=0,
    )


def steps_of(recipe: Recipe) -> list[TrainBatch]:
    def frozen(kept: Completions) -> Frozen:
        old = OLD(kept.tokens_BT)[0] if recipe.anchor == "old" else None
        return Frozen(old, None if recipe.kl.type == "none" else REF(kept.tokens_BT)[0])

    whole = assemble(recipe, rollout(), frozen)
    assert whole is not None
    return mini_batches(recipe, whole)


def value_and_grad(recipe: Recipe, parts: list[TrainBatch], table: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over parts of the objective, and its gradient by the policy's table."""
    leaf = table.clone().requires_grad_()
    total = leaf.new_zeros(())
    for part in parts:
        logp_BT, entropy_BT = NOW(part.tokens_BT, leaf)
        total = total + objective(recipe, part, logp_BT, entropy_BT)[0]
    (grad,) = torch.autograd.grad(total, leaf)
    return total.detach(), grad


def without_stop_gradients(recipe: Recipe, batch: TrainBatch) -> tuple[Recipe, TrainBatch]:
    """The function whose derivative the gradient is, where the objective's own value is not."""
    if recipe.loss.type == "cispo":
        ratio_BT = (NOW(batch.tokens_BT)[0] - batch.anchor_logp_BT).exp()
        weight_BT = batch.mismatch_BT * ratio_BT.clamp(max=recipe.loss.ratio_cap)
        return recipe.model_copy(update={"loss": Reinforce()}), replace(batch, mismatch_BT=weight_BT)
    if recipe.kl.type == "loss" and recipe.kl.estimator == "k3_straight_through":
        return recipe.model_copy(update={"kl": recipe.kl.model_copy(update={"estimator": "k2"})}), batch
    return recipe, batch


@pytest.mark.parametrize("axis", AXES)
def test_gradients_are_those_of_finite_differences(axis: str) -> None:
    recipe = recipe_of(AXES[axis])
    batch = steps_of(recipe)[0]
    _, grad = value_and_grad(recipe, [batch], NOW.table)
    assert grad.abs().max() > 1e-3
    free_recipe, free = without_stop_gradients(recipe, batch)
    step = 1e-6
    for row in range(V):
        for column in range(V):
            shift = torch.zeros(V, V, dtype=torch.float64)
            shift[row, column] = step
            up, _ = value_and_grad(free_recipe, [free], NOW.table + shift)
            down, _ = value_and_grad(free_recipe, [free], NOW.table - shift)
            assert grad[row, column].item() == pytest.approx(float(up - down) / (2 * step), abs=2e-8)


@pytest.mark.parametrize("axis", AXES)
def test_micro_batches_and_ranks_add_up(axis: str) -> None:
    """Rows of a step in 1 to 6 parts, or dealt out to 2 or 3 ranks and split again there: one gradient.

    Weights are of the whole step, so the sum over ranks is the gradient; engines that average over ranks
    multiply by their number.
    """
    recipe = recipe_of(AXES[axis])
    for batch in steps_of(recipe):
        value, grad = value_and_grad(recipe, [batch], NOW.table)
        divisions = [split(batch, num) for num in (2, 3, 6)]
        for ranks in (2, 3):
            dealt = [batch.rows(torch.arange(rank, batch.num_rows, ranks)) for rank in range(ranks)]
            divisions.append([part.cut(WIDTH) for rank in dealt for part in split(rank, 2)])
        for parts in divisions:
            split_value, split_grad = value_and_grad(recipe, parts, NOW.table)
            torch.testing.assert_close(split_value, value, rtol=1e-12, atol=1e-14)
            torch.testing.assert_close(split_grad, grad, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("axis", AXES)
def test_rows_that_are_not_passed_through_the_policy_add_nothing(axis: str) -> None:
    recipe = recipe_of(AXES[axis])
    acts_without_advantage = recipe.kl.type != "none" or recipe.entropy_bonus > 0
    for batch in steps_of(recipe):
        advantage_BT = batch.advantage_BT.clone()
        advantage_BT[::3] = 0.0
        batch = replace(batch, advantage_BT=advantage_BT)
        asked = _with_gradient(recipe, batch)
        moved = int((advantage_BT != 0).any(1).sum())
        assert asked.num_rows == (batch.num_rows if acts_without_advantage else moved)
        _, whole = value_and_grad(recipe, [batch], NOW.table)
        _, part = value_and_grad(recipe, [asked], NOW.table)
        assert torch.allclose(whole, part, rtol=1e-12, atol=1e-12)


def test_mismatch_and_clips_are_over_the_rows_that_were_passed() -> None:
    """By hand: of 10 tokens with loss, 4 were scored, 1 of them at a bound, with 0.2 of mismatch in all."""
    means = Tally(updates=1, tokens=10, scored=4, clipped=1, mismatch=0.2).means()
    assert (means["ratio_clipped"], means["mismatch"]) == (0.25, 0.05)


def test_a_step_without_any_gradient_still_passes_a_row() -> None:
    recipe = recipe_of({})
    batch = steps_of(recipe)[0]
    batch = replace(batch, advantage_BT=torch.zeros_like(batch.advantage_BT))
    assert _with_gradient(recipe, batch).num_rows == 1


def test_every_axis_changes_the_gradient() -> None:
    """No two of them are the same objective, but for those that are equal by what they mean."""
    seen: dict[str, str] = {}
    for axis, changes in AXES.items():
        recipe = recipe_of(changes)
        _, grad = value_and_grad(recipe, [steps_of(recipe)[0]], NOW.table)
        seen[axis] = repr([round(x, 12) for x in grad.flatten().tolist()])
    same = {frozenset((a, b)) for a in seen for b in seen if a < b and seen[a] == seen[b]}
    assert same == {
        # The base has these rows.
        frozenset(("advantage batch", "aggregation prompt")),
        frozenset(("loss ppo_clip", "aggregation sample")),
        # Equal gradients by definition.
        frozenset(("kl loss k2", "kl loss k3_straight_through")),
    }


# ---------------------------------------------------------------- mini-batches


def test_mini_batches_are_batches_of_their_own() -> None:
    """Six prompts in two parts of three: weights over each part's own tokens, prompts numbered from 0."""
    recipe = recipe_of({"aggregation": {"type": "token"}, "advantage": {"type": "none"}})
    whole = assemble(recipe, rollout())
    assert whole is not None
    parts = mini_batches(recipe, whole)
    assert [part.num_prompts for part in parts] == [3, 3]
    for part, rows in zip(parts, (slice(0, 6), slice(6, 12)), strict=True):
        assert part.prompt_index_B.tolist() == [0, 0, 1, 1, 2, 2]
        assert torch.equal(part.tokens_BT, whole.tokens_BT[rows])
        assert torch.equal(part.advantage_BT, whole.advantage_BT[rows])
        tokens = part.response_mask_BT.sum()
        assert torch.equal(part.weight_BT, part.response_mask_BT / tokens)


def test_one_mini_batch_is_the_rollout_and_few_prompts_make_few_parts() -> None:
    whole = assemble(recipe_of({}, mini=1), rollout())
    assert whole is not None
    (only,) = mini_batches(recipe_of({}, mini=1), whole)
    assert torch.equal(only.weight_BT, whole.weight_BT)
    assert torch.equal(only.advantage_BT, whole.advantage_BT)
    assert len(mini_batches(recipe_of(EIGHT, mini=8), whole)) == 6


def test_advantages_are_of_the_rollout_or_of_the_mini_batch() -> None:
    """Whitened over all 12 completions, or over the 6 of a step: mean 0 and unbiased variance 1 there."""
    for name, in_parts in (("reinforce_pp_baseline", False), ("magistral", True)):
        cfg = {"type": name} if in_parts else {"type": name, "weighting": "sequence"}
        parts = steps_of(recipe_of({"advantage": cfg}))
        each = [part.advantage_BT[:, 0] for part in parts]
        assert float(torch.cat(each).var()) == pytest.approx(1.0, abs=0.1 if in_parts else 1e-6)
        spread = [float(part.var()) for part in each]
        assert (spread == pytest.approx([1.0, 1.0], abs=1e-6)) is in_parts


def test_what_an_axis_needs_and_lacks_is_said() -> None:
    with pytest.raises(ValueError, match=r"kl\.type=reward needs the reference"):
        assemble(recipe_of({"kl": {"type": "reward"}}), rollout())
    with pytest.raises(ValueError, match="anchor=old needs"):
        assemble(recipe_of({"anchor": "old"}), rollout())
    held, bonus = recipe_of({"kl": {"type": "loss"}}), recipe_of({"entropy_bonus": 0.1})
    batch = assemble(recipe_of({}), rollout())
    assert batch is not None
    logp_BT, _ = NOW(batch.tokens_BT)
    with pytest.raises(ValueError, match=r"kl\.type=loss needs the reference"):
        objective(held, batch, logp_BT)
    with pytest.raises(ValueError, match="entropy_bonus needs"):
        objective(bonus, batch, logp_BT)
