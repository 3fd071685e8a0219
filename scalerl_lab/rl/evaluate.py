"""Held-out pass rate with its sampling error: the same prompts every time.

Shapes: P prompts, K samples of each, B = P * K rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from scalerl_lab.config.recipe import Recipe
from scalerl_lab.engines.rows import Finished
from scalerl_lab.engines.sampler import TorchSampler, Work
from scalerl_lab.errors import ConfigError
from scalerl_lab.rl.lengths import thinking_budgets
from scalerl_lab.rl.rollout import decoding_of, longest_prompt
from scalerl_lab.rl.streams import stream
from scalerl_lab.tasks import TaskSet

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

FIRST_POINT_FACTOR = 4
"""The point at step 0 fixes R0 in every fit of the run, so it gets this many times the samples."""
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class DomainPassRate:
    """What one evaluation found of the prompts of one domain."""

    domain: str
    pass_rate: float
    pass_rate_se: float
    tolerant_pass_rate: float
    """With the answer found wherever it stands: what is not gained here is a gain in format."""
    tolerant_pass_rate_se: float
    num_prompts: int


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
    domains: tuple[DomainPassRate, ...] = ()
    """One a domain, by name."""


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


def by_domain(
    domains: Sequence[str], pass_rate_P: torch.Tensor, tolerant_P: torch.Tensor, samples: int
) -> tuple[DomainPassRate, ...]:
    """Means over the prompts of each domain, with the error that ``sampling_error`` gives for these prompts.

    Args:
        domains: domain of each prompt.
        pass_rate_P, tolerant_P: share of samples that passed, strictly and tolerantly.
        samples: K.
    """
    found = []
    for domain in sorted(set(domains)):
        chosen = torch.tensor([each == domain for each in domains])
        strict, tolerant = pass_rate_P[chosen], tolerant_P[chosen]
        found.append(
            DomainPassRate(
                domain,
                float(strict.mean()),
                sampling_error(strict, samples),
                float(tolerant.mean()),
                sampling_error(tolerant, samples),
                len(strict),
            )
        )
    return tuple(found)


class Evaluator:
    """Measures a policy on the first held-out prompts, under the recipe's own length control."""

    def __init__(self, recipe: Recipe, tasks: TaskSet, policy: LlamaForCausalLM, seed: int) -> None:
        self._recipe = recipe
        self._tasks = tasks
        self._policy = policy
        self._seed = seed
        self._problems = tasks.heldout[: recipe.evaluation.num_prompts]
        if len(self._problems) < recipe.evaluation.num_prompts:
            raise ConfigError(
                f"evaluation.num_prompts ({recipe.evaluation.num_prompts}) exceeds the held-out prompts of "
                f"tasks.type={recipe.tasks.type}, which are {len(tasks.heldout)}; lower it, or hold out more"
            )
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
        tolerant: list[torch.Tensor] = []
        truncated = tokens = 0
        entropy = 0.0
        work = Work()
        for first in range(0, len(self._problems), at_once):
            problems = self._problems[first : first + at_once]
            sampler = self._sampler_for(len(problems) * samples, samples)
            finished = self._sample(sampler, [p.prompt for p in problems], samples, noise, step)
            verdicts = self._tasks.verdicts(
                [p for p in problems for _ in range(samples)], finished.responses()
            )
            for shares, full in (
                (passed, [each.passed for each in verdicts]),
                (tolerant, [each.tolerant >= 1.0 for each in verdicts]),
            ):
                shares.append(torch.tensor(full).view(len(problems), samples).double().mean(1))
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
            domains=by_domain([p.domain for p in self._problems], pass_rate_P, torch.cat(tolerant), samples),
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
        limit = self._recipe.sampling.max_response_tokens
        budgets = thinking_budgets(self._recipe.length_control, limit, len(prompts) * samples, noise)
        sampler.start(0, prompts, samples, budgets)
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
