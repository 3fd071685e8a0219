"""Held-out pass rate with its sampling error, and what else a recipe measures: the same problems every time.

Shapes: P prompts, K samples of each, B = P * K rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from scalerl_lab.config.evaluation import BoundaryEvaluation, DownstreamEvaluation, NgramOverlap
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.tasks import HELDOUT
from scalerl_lab.engines.rows import Decoding, Finished
from scalerl_lab.engines.sampler import TorchSampler, Work
from scalerl_lab.errors import ConfigError
from scalerl_lab.rl.lengths import thinking_budgets
from scalerl_lab.rl.overlap import Overlap, corpus_of, words_of
from scalerl_lab.rl.rollout import decoding_of, longest_prompt
from scalerl_lab.rl.streams import stream
from scalerl_lab.tasks import Problem, TaskSet

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

FIRST_POINT_FACTOR = 4
"""The point at step 0 fixes R0 in every fit of the run, so it gets this many times the samples."""
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Named:
    """A measurement without its place in the run."""

    problem_set: str
    domain: str
    metric: str
    value: float
    standard_error: float | None
    num_prompts: int
    num_samples: int


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts of passes without their place in the run."""

    problem_set: str
    domain: str
    samples_per_prompt: int
    max_k: int
    passed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What one evaluation found: the point, and what else was due."""

    pass_rate: float
    pass_rate_se: float
    num_prompts: int
    num_samples: int
    truncation_rate: float
    mean_tokens: float
    entropy: float
    work: Work
    """Of all that was measured."""
    named: tuple[Named, ...] = ()
    counted: tuple[Counted, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the samples of one set of problems came to."""

    problems: tuple[Problem, ...]
    passed_PK: torch.Tensor
    """Whether each sample passed, in float64."""
    tolerant_PK: torch.Tensor
    """The same with the answer found wherever it stands: a gain of the former alone is one in format."""
    truncation_rate: float
    mean_tokens: float
    entropy: float
    texts: list[list[str]]
    """Words of each completion, prompt by prompt; empty where nobody asked for them."""

    @property
    def samples(self) -> int:
        """K."""
        return self.passed_PK.shape[1]

    def of_domain(self, domain: str) -> torch.Tensor:
        """Rows of ``passed_PK`` whose problems are of one kind."""
        return self.passed_PK[self.are(domain)]

    def are(self, domain: str) -> list[bool]:
        """Which problems are of one kind."""
        return [problem.domain == domain for problem in self.problems]


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
    """Measures a policy on fixed problems, under the recipe's own length control."""

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
        self._sampler_shape: tuple[object, ...] = ()
        self._work = Work()
        self._corpus: Overlap | None = None

    def measure(self, step: int, *, last: bool = False) -> Evaluated:
        """Pass rate of the policy as it is, and whatever else the recipe asks for at this step.

        The draws depend on the run's seed and the step alone: what else is measured changes none of them.

        Args:
            step: optimiser steps taken.
            last: whether the run ends here for now, so that all that is ever measured is due.
        """
        cfg = self._recipe.evaluation
        self._work = Work()
        samples = cfg.samples_per_prompt * (FIRST_POINT_FACTOR if step == 0 else 1)
        overlap = cfg.ngram_overlap
        if overlap is not None and not _due(overlap.every_steps, step, last):
            overlap = None
        point = self._draw(
            self._problems,
            samples,
            "evaluate",
            step,
            cfg.temperature_at(step),
            None,
            with_texts=overlap is not None,
        )
        named = domain_rates(HELDOUT, point)
        counted: list[Counted] = []
        if cfg.downstream is not None and _due(cfg.downstream.every_steps, step, last):
            named += self._downstream(cfg.downstream, step)
        if cfg.boundary is not None and _due(cfg.boundary.every_steps, step, last):
            of_k, counted = self._boundary(cfg.boundary, step)
            named += of_k
        if overlap is not None:
            named += self._overlap(overlap, point)
        rate_P = point.passed_PK.mean(1)
        return Evaluated(
            pass_rate=float(rate_P.mean()),
            pass_rate_se=sampling_error(rate_P, samples),
            num_prompts=len(self._problems),
            num_samples=len(self._problems) * samples,
            truncation_rate=point.truncation_rate,
            mean_tokens=point.mean_tokens,
            entropy=point.entropy,
            work=self._work,
            named=tuple(named),
            counted=tuple(counted),
        )

    # ------------------------------------------------------------ what else is measured

    def _downstream(self, cfg: DownstreamEvaluation, step: int) -> list[Named]:
        found: list[Named] = []
        for name, problems in self._tasks.downstream.items():
            temperature = cfg.temperature or self._recipe.evaluation.temperature_at(step)
            limit = cfg.max_response_tokens
            drawn = self._draw(problems, cfg.samples_per_prompt, f"evaluate/{name}", step, temperature, limit)
            counts = (len(problems), len(problems) * cfg.samples_per_prompt)
            error = sampling_error(drawn.passed_PK.mean(1), cfg.samples_per_prompt)
            found.append(Named(name, "", "pass_rate", float(drawn.passed_PK.mean(1).mean()), error, *counts))
            for metric in ("truncation_rate", "mean_tokens", "entropy"):
                found.append(Named(name, "", metric, getattr(drawn, metric), None, *counts))
            found += domain_rates(name, drawn)
        return found

    def _boundary(self, cfg: BoundaryEvaluation, step: int) -> tuple[list[Named], list[Counted]]:
        named: list[Named] = []
        counted: list[Counted] = []
        temperature = cfg.temperature or self._recipe.evaluation.temperature_at(step)
        for name, problems in {HELDOUT: self._tasks.heldout, **self._tasks.downstream}.items():
            of_set = f"boundary/{name}"
            drawn = self._draw(
                problems[: cfg.num_prompts],
                cfg.samples_per_prompt,
                of_set,
                step,
                temperature,
                cfg.max_response_tokens,
            )
            parts = pass_counts(name, drawn, cfg.max_k)
            counted += parts
            named += pass_rates_at_k(name, parts)
        return named, counted

    def _overlap(self, cfg: NgramOverlap, point: Outcome) -> list[Named]:
        if self._corpus is None:
            self._corpus = corpus_of(cfg, self._recipe, self._tasks)
        texts, num, samples = point.texts, len(point.problems), point.samples
        shares = self._corpus.of([texts[first : first + samples] for first in range(0, len(texts), samples)])
        whole = Named(HELDOUT, "", "ngram_overlap", shares.mean, shares.standard_error, num, num * samples)
        return [whole] + [
            Named(HELDOUT, "", f"ngram_overlap_{n}", share, None, num, num * samples)
            for n, share in shares.by_length.items()
        ]

    # ------------------------------------------------------------ samples

    def _draw(
        self,
        problems: tuple[Problem, ...],
        samples: int,
        purpose: str,
        step: int,
        temperature: float,
        max_response_tokens: int | None,
        *,
        with_texts: bool = False,
    ) -> Outcome:
        """Samples of every problem, verified; what they cost joins ``_work``."""
        # Parts of one size keep one cache.
        num_parts = math.ceil(len(problems) * samples / _ROWS_AT_ONCE)
        at_once = math.ceil(len(problems) / num_parts)
        noise = stream(self._seed, purpose, step)
        decoding = decoding_of(self._recipe, self._tasks, temperature)
        limit = max_response_tokens or self._recipe.sampling.max_response_tokens_at(step)
        if limit > decoding.max_response_tokens:
            decoding = replace(decoding, max_response_tokens=limit)
        passed: list[torch.Tensor] = []
        tolerant: list[torch.Tensor] = []
        texts: list[list[str]] = []
        truncated = tokens = 0
        entropy = 0.0
        for first in range(0, len(problems), at_once):
            part = problems[first : first + at_once]
            sampler = self._sampler_for(len(part) * samples, samples, decoding, longest_prompt(problems))
            prompts = [p.prompt for p in part]
            finished = self._sample(sampler, prompts, samples, noise, step, temperature, limit)
            verdicts = self._tasks.verdicts([p for p in part for _ in range(samples)], finished.responses())
            for found, full in (
                (passed, [each.passed for each in verdicts]),
                (tolerant, [each.tolerant >= 1.0 for each in verdicts]),
            ):
                found.append(torch.tensor(full).view(len(part), samples).double())
            if with_texts:
                texts += [words_of(self._tasks, response) for response in finished.responses()]
            truncated += int(finished.truncated_B.sum())
            tokens += int(finished.mask_BT.sum())
            entropy += float(finished.entropy_BT.double().sum())
            self._work.tokens += sampler.work.tokens
            self._work.attended += sampler.work.attended
        return Outcome(
            problems=problems,
            passed_PK=torch.cat(passed),
            tolerant_PK=torch.cat(tolerant),
            truncation_rate=truncated / (len(problems) * samples),
            mean_tokens=tokens / (len(problems) * samples),
            entropy=entropy / max(tokens, 1),
            texts=texts,
        )

    def _sample(
        self,
        sampler: TorchSampler,
        prompts: list[tuple[int, ...]],
        samples: int,
        noise: torch.Generator,
        step: int,
        temperature: float,
        limit: int,
    ) -> Finished:
        sampler.work = Work()
        budgets = thinking_budgets(self._recipe.length_control, limit, len(prompts) * samples, noise)
        sampler.start(0, prompts, samples, budgets, limit=limit, temperature=temperature)
        sampler.advance({0: sampler.decoding.most_new_tokens}, noise, step)
        return sampler.take(0)

    def _sampler_for(
        self, rows: int, samples: int, decoding: Decoding, max_prompt_tokens: int
    ) -> TorchSampler:
        """One cache for all evaluations of the same shape."""
        shape = (rows, samples, decoding, max_prompt_tokens)
        if self._sampler is None or self._sampler_shape != shape:
            self._sampler_shape = shape
            self._sampler = TorchSampler(
                self._policy,
                decoding,
                self._recipe.numerics.generator_head,
                rows_per_block=rows,
                num_blocks=1,
                max_prompt_tokens=max_prompt_tokens,
                with_entropy=True,
            )
        return self._sampler


def _due(every_steps: int, step: int, last: bool) -> bool:
    return last or step % every_steps == 0


def domain_rates(problem_set: str, drawn: Outcome) -> list[Named]:
    """Pass rate of each kind of problem in a set, where there are several, and of text the tolerant ones."""
    found = []
    kinds = _domains(drawn.problems)
    for domain in kinds:
        found.append(_rate(problem_set, domain, "pass_rate", drawn.of_domain(domain)))
    if any(problem.item is not None for problem in drawn.problems):
        found.append(_rate(problem_set, "", "tolerant_pass_rate", drawn.tolerant_PK))
        for domain in kinds:
            of_kind = drawn.tolerant_PK[drawn.are(domain)]
            found.append(_rate(problem_set, domain, "tolerant_pass_rate", of_kind))
    return found


def _rate(problem_set: str, domain: str, metric: str, passed_PK: torch.Tensor) -> Named:
    rate_P, samples = passed_PK.mean(1), passed_PK.shape[1]
    error = sampling_error(rate_P, samples)
    return Named(problem_set, domain, metric, float(rate_P.mean()), error, len(rate_P), passed_PK.numel())


def pass_counts(problem_set: str, drawn: Outcome, max_k: int) -> list[Counted]:
    """How often each problem passed, kind by kind."""
    parts = {domain: drawn.of_domain(domain) for domain in _domains(drawn.problems)}
    return [
        Counted(problem_set, domain, drawn.samples, max_k, tuple(passed_PK.sum(1).long().tolist()))
        for domain, passed_PK in (parts or {"": drawn.passed_PK}).items()
    ]


def pass_rates_at_k(problem_set: str, parts: list[Counted]) -> list[Named]:
    """pass@k of a set, and of each kind of problem where there are several."""
    # numpy and scipy, which only this needs here.
    from scalerl_lab.fit import mean_error, pass_at_k, powers_of_two

    samples, ks = parts[0].samples_per_prompt, powers_of_two(parts[0].max_k)
    groups = {part.domain: part.passed for part in parts}
    if len(parts) > 1:
        groups[""] = tuple(count for part in parts for count in part.passed)
    found = []
    for domain, passed in groups.items():
        value_PK = pass_at_k(samples, passed, ks)
        for place, k in enumerate(ks):
            value_P, num = value_PK[:, place], len(passed)
            found.append(
                Named(
                    problem_set,
                    domain,
                    f"pass_at_{k}",
                    float(value_P.mean()),
                    mean_error(value_P),
                    num,
                    num * samples,
                )
            )
    return found


def _domains(problems: tuple[Problem, ...]) -> list[str]:
    """Kinds of problems, where there are several."""
    kinds = sorted({problem.domain for problem in problems})
    return kinds if len(kinds) > 1 else []
