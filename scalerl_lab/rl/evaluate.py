"""Held-out pass rate with its sampling error: the same prompts every time.

Shapes: P prompts, K samples of each, B = P * K rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from scalerl_lab.config.recipe import Recipe
from scalerl_lab.engines.rows import Finished
from scalerl_lab.engines.sampler import TorchSampler, Work
from scalerl_lab.rl.lengths import thinking_budgets
from scalerl_lab.rl.rollout import decoding_of, longest_prompt, rewards
from scalerl_lab.rl.streams import stream
from scalerl_lab.tasks import TaskSet

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

FIRST_POINT_FACTOR = 4
"""The point at step 0 fixes R0 in every fit of the run, so it gets this many times the samples."""
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one evaluation found."""

    pass_rate: float
    pass_rate_se: float
    num_prompts: int
    num_samples: int
    truncation_rate: float
    mean_tokens: float
    entropy: float
    work: Work


def sampling_error(pass_rate_P: torch.Tensor, samples: int) -> float:
    """Standard error of the mean pass rate over fixed prompts.

    sqrt(sum_p p (1 - p) / (K - 1)) / P: each prompt's variance of the mean, estimated without bias.
    With one sample a prompt it is bounded by the binomial sqrt(p (1 - p) / P) of the mean.

    Args:
        pass_rate_P: share of correct samples of each prompt.
        samples: K.

    Worked number: two prompts with 1 and 2 of 4 correct: sqrt((0.1875 + 0.25) / 3) / 2 = 0.190941.
    """
    rate_P = pass_rate_P.double()
    if samples < 2:
        mean = float(rate_P.mean())
        return math.sqrt(mean * (1 - mean) / len(rate_P))
    return math.sqrt(float((rate_P * (1 - rate_P)).sum()) / (samples - 1)) / len(rate_P)


class Evaluator:
    """Measures a policy on the first held-out prompts, under the recipe's own length control."""

    def __init__(self, recipe: Recipe, tasks: TaskSet, policy: LlamaForCausalLM, seed: int) -> None:
        self._recipe = recipe
        self._tasks = tasks
        self._policy = policy
        self._seed = seed
        self._problems = tasks.heldout[: recipe.evaluation.num_prompts]
        self._sampler: TorchSampler | None = None
        self._sampler_shape = (0, 0)

    def measure(self, step: int) -> Measurement:
        """Pass rate of the policy as it is; the draws depend on the run's seed and the step alone."""
        samples = self._recipe.evaluation.samples_per_prompt * (FIRST_POINT_FACTOR if step == 0 else 1)
        # Parts of one size keep one cache.
        num_parts = math.ceil(len(self._problems) * samples / _ROWS_AT_ONCE)
        at_once = math.ceil(len(self._problems) / num_parts)
        noise = stream(self._seed, "evaluate", step)
        passed: list[torch.Tensor] = []
        truncated = tokens = 0
        entropy = 0.0
        work = Work()
        for first in range(0, len(self._problems), at_once):
            problems = self._problems[first : first + at_once]
            sampler = self._sampler_for(len(problems) * samples, samples)
            finished = self._sample(sampler, [p.prompt for p in problems], samples, noise, step)
            reward_B = rewards(self._tasks, [p for p in problems for _ in range(samples)], finished)
            passed.append((reward_B.view(len(problems), samples) > 0).double().mean(1))
            truncated += int(finished.truncated_B.sum())
            tokens += int(finished.mask_BT.sum())
            entropy += float(finished.entropy_BT.double().sum())
            work.tokens += sampler.work.tokens
            work.attended += sampler.work.attended
        pass_rate_P = torch.cat(passed)
        num_samples = len(self._problems) * samples
        return Measurement(
            pass_rate=float(pass_rate_P.mean()),
            pass_rate_se=sampling_error(pass_rate_P, samples),
            num_prompts=len(self._problems),
            num_samples=num_samples,
            truncation_rate=truncated / num_samples,
            mean_tokens=tokens / num_samples,
            entropy=entropy / max(tokens, 1),
            work=work,
        )

    def _sample(
        self,
        sampler: TorchSampler,
        prompts: list[tuple[int, ...]],
        samples: int,
        noise: torch.Generator,
        step: int,
    ) -> Finished:
        sampler.work = Work()
        limit = self._recipe.sampling.max_response_tokens_at(step)
        budgets = thinking_budgets(self._recipe.length_control, limit, len(prompts) * samples, noise)
        temperature = self._recipe.evaluation.temperature_at(step)
        sampler.start(0, prompts, samples, budgets, limit=limit, temperature=temperature)
        sampler.advance({0: sampler.decoding.most_new_tokens}, noise, step)
        return sampler.take(0)

    def _sampler_for(self, rows: int, samples: int) -> TorchSampler:
        """One cache for all evaluations of the same shape."""
        if self._sampler is None or self._sampler_shape != (rows, samples):
            self._sampler_shape = (rows, samples)
            self._sampler = TorchSampler(
                self._policy,
                decoding_of(self._recipe, self._tasks, self._recipe.evaluation.temperature),
                self._recipe.numerics.generator_head,
                rows_per_block=rows,
                num_blocks=1,
                max_prompt_tokens=longest_prompt(self._problems),
                with_entropy=True,
            )
        return self._sampler
