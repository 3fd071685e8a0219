"""The difficulty filter: which training prompts the starting policy solves sometimes, but not always.

Shapes: P prompts, K samples of each, B = P * K rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from scalerl_lab.config.curriculum import NoDifficultyFilter, PassRateBand
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.engines.sampler import TorchSampler, Work
from scalerl_lab.rl.lengths import thinking_budgets
from scalerl_lab.rl.rollout import decoding_of, longest_prompt, rewards
from scalerl_lab.rl.streams import stream
from scalerl_lab.tasks import TaskSet

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

_ROWS_AT_ONCE = 1024
_ROUNDING = 1e-9
"""Shares of whole numbers of samples are never this near to a bound that they do not equal."""


def left_out(
    recipe: Recipe, tasks: TaskSet, policy: LlamaForCausalLM, seed: int
) -> tuple[frozenset[int], Work]:
    """Training prompts that the recipe's ``difficulty_filter`` leaves out, and what finding them took.

    Args:
        recipe: its filter, and how completions are drawn at step 0.
        tasks: the training prompts and their verifier.
        policy: the policy that RL starts from.
        seed: of the run.
    """
    cfg = recipe.difficulty_filter
    if cfg.type == "none":
        return frozenset(), Work()
    rates, work = pass_rates(recipe, tasks, policy, seed, cfg.samples)
    return frozenset(p for p, rate in enumerate(rates) if not DIFFICULTY_FILTERS[cfg.type](cfg, rate)), work


def pass_rates(
    recipe: Recipe, tasks: TaskSet, policy: LlamaForCausalLM, seed: int, samples: int
) -> tuple[list[float], Work]:
    """Share of correct completions of every training prompt, in order, and the sampler's work."""
    at_once = max(1, min(_ROWS_AT_ONCE // samples, len(tasks.train)))
    sampling, noise = recipe.sampling, stream(seed, "difficulty", 0)
    limit = sampling.max_response_tokens_at(0)
    sampler = TorchSampler(
        policy,
        decoding_of(recipe, tasks, sampling.temperature_at(0)),
        recipe.numerics.generator_head,
        rows_per_block=at_once * samples,
        num_blocks=1,
        max_prompt_tokens=longest_prompt(tasks.train),
    )
    found: list[float] = []
    for part in range(math.ceil(len(tasks.train) / at_once)):
        # The last part is filled up from the start, so that one cache fits all; those are not counted.
        numbers = [(part * at_once + place) % len(tasks.train) for place in range(at_once)]
        problems = [tasks.train[number] for number in numbers]
        budgets = thinking_budgets(recipe.length_control, limit, at_once * samples, noise)
        sampler.start(0, [problem.prompt for problem in problems], samples, budgets, limit=limit)
        sampler.advance({0: sampler.decoding.most_new_tokens}, noise, 0)
        reward_B = rewards(tasks, [each for each in problems for _ in range(samples)], sampler.take(0))
        passed_P = (reward_B.view(at_once, samples) >= 1.0).double().mean(1).tolist()
        found += passed_P[: len(tasks.train) - len(found)]
    return found, sampler.work


def none(cfg: NoDifficultyFilter, pass_rate: float) -> bool:
    """Every prompt stays.

    Worked number: pass rates 0, 0.5 and 1 stay.
    Source: ScaleRL section 2.
    """
    return True


def pass_rate_band(cfg: PassRateBand, pass_rate: float) -> bool:
    """A prompt stays if its pass rate lies strictly between the bounds.

    Worked number: between 0 and 0.9, of 10 samples: 1 to 8 correct ones keep a prompt, 0, 9 and 10 do not.
    Source: MiniMax-M1 (pass@10 within (0, 0.9)); Magistral section 4 (16 samples, neither 0 nor 1).
    """
    return cfg.above + _ROUNDING < pass_rate < cfg.below - _ROUNDING


DIFFICULTY_FILTERS: Mapping[str, Callable[[Any, float], bool]] = MappingProxyType(
    {"none": none, "pass_rate_band": pass_rate_band}
)
"""``difficulty_filter.type`` -> (cfg, pass_rate) -> whether the prompt stays."""
