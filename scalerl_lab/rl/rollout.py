"""From the curriculum's prompts to verified completions, under the recipe's off-policy schedule.

Shapes: P prompts, G generations of each, B = P * G rows, T tokens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import torch

from scalerl_lab.config.recipe import Recipe
from scalerl_lab.engines.rows import Decoding, Finished
from scalerl_lab.engines.sampler import TorchSampler
from scalerl_lab.records import EndReason
from scalerl_lab.rl.batch import Completions
from scalerl_lab.rl.curriculum import OrderState, PromptOrder, prompt_order
from scalerl_lab.rl.filters import judge
from scalerl_lab.rl.lengths import interruption_phrase, thinking_budgets
from scalerl_lab.rl.off_policy import schedule_of
from scalerl_lab.rl.streams import stream
from scalerl_lab.tasks import Problem, TaskSet

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM


class RolloutState(TypedDict):
    """What is in flight, as plain JSON; the tensors are apart."""

    prompts: dict[str, list[int]]
    """Number of a batch (JSON keys are text) -> its training prompts."""
    curriculum: OrderState
    refilled: NotRequired[dict[str, dict[str, Any]]]
    """Number of a batch that is written and refilled, but not consumed -> its ``Refilled``."""


@dataclass(slots=True)
class Replaced:
    """Prompts of a batch whose completions were dropped, and others generated in their place."""

    prompts: int = 0
    rows: int = 0
    reward: float = 0.0
    """Sum of their raw rewards."""


@dataclass(slots=True)
class Refilled:
    """What is known of a batch once its prompts without variance were replaced."""

    raw_reward: list[float] = field(default_factory=list)
    """Row by row, of the prompts it now holds."""
    replaced: Replaced = field(default_factory=Replaced)
    short: tuple[str, str] | None = None
    """Why no more could be replaced, though some have no variance: end reason and its detail."""


@dataclass(frozen=True, slots=True)
class NoBatch:
    """Why a step has nothing to consume."""

    reason: EndReason
    detail: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The completions of one batch with their rewards."""

    finished: Finished
    completions: Completions
    lag_BT: torch.Tensor
    """Optimiser steps between writing and consuming a token; 0 where the mask is 0."""
    replaced: Replaced
    """What was generated for this batch and dropped before it was full."""


def decoding_of(recipe: Recipe, tasks: TaskSet, temperature: float) -> Decoding:
    """How completions are written under a recipe.

    Raises:
        ConfigError: the interruption phrase has words that the tasks' vocabulary lacks.
    """
    tokenizer = tasks.tokenizer
    return Decoding(
        max_response_tokens=recipe.sampling.longest_response_tokens,
        temperature=temperature,
        pad_id=tokenizer.pad_id,
        end_id=tokenizer.end_id,
        marker_id=tokenizer.marker_id,
        phrase=tokenizer.encode(interruption_phrase(recipe.length_control) or ""),
    )


def curriculum_of(recipe: Recipe, tasks: TaskSet, seed: int) -> PromptOrder:
    """The order of a run's training prompts, at its start.

    Raises:
        ConfigError: a stage of it cannot be filled from these prompts.
    """
    return prompt_order(
        recipe.curriculum, len(tasks.train), seed, tasks.train, recipe.batch.prompts_per_rollout
    )


def longest_prompt(problems: tuple[Problem, ...]) -> int:
    """Tokens of the longest prompt."""
    return max(len(problem.prompt) for problem in problems)


def rewards(tasks: TaskSet, problems: list[Problem], finished: Finished) -> torch.Tensor:
    """+1 for a full score, -1 for none, linear between; ``problems`` has one entry a row."""
    found = tasks.verdicts(problems, finished.responses())
    return torch.tensor([2.0 * verdict.score - 1.0 for verdict in found])


class Rollout:
    """Batches in flight, and the order in which prompts come."""

    def __init__(self, recipe: Recipe, tasks: TaskSet, policy: LlamaForCausalLM, seed: int) -> None:
        self._recipe = recipe
        self._tasks = tasks
        self._seed = seed
        self._schedule = schedule_of(recipe.off_policy)
        self._blocks = self._schedule.num_blocks(recipe.off_policy)
        self._generations = recipe.sampling.generations_per_prompt
        self._curriculum = curriculum_of(recipe, tasks, seed)
        self._prompts: dict[int, list[int]] = {}
        self._refilled: dict[int, Refilled] = {}
        decoding = decoding_of(recipe, tasks, recipe.sampling.temperature)
        early = recipe.early_truncation
        if early.type == "repetition":
            decoding = replace(
                decoding, certain_tokens=early.consecutive_tokens, certain_above=early.above_probability
            )
        self.reward_s = 0.0
        """Wall time in rewards so far, part of that in ``next_batch``."""
        self.sampler = TorchSampler(
            policy,
            decoding,
            recipe.numerics.generator_head,
            rows_per_block=recipe.batch.prompts_per_rollout * self._generations,
            num_blocks=self._blocks,
            max_prompt_tokens=longest_prompt(tasks.train),
        )

    def leave_out(self, prompts: Collection[int]) -> None:
        """Training prompts that are never to be drawn."""
        self._curriculum.leave_out(prompts)

    def next_batch(self, step: int) -> Verified | NoBatch:
        """Generate what the schedule asks for before step ``step``, and give the batch it consumes.

        Args:
            step: optimiser steps taken so far.

        Returns:
            The batch, or why there is none: the curriculum had too few prompts left to begin it, or too
            few prompts with variance were found to fill it.
        """
        schedule, cfg = self._schedule, self._recipe.off_policy
        for batch in range(step, schedule.last_batch(cfg, step) + 1):
            if batch not in self._prompts and not self._begin(batch):
                break
        if step not in self._prompts:
            needed, first = self._recipe.batch.prompts_per_rollout, self._step_of(step) + 1
            detail = f"the curriculum has fewer than {needed} prompts left for step {first}"
            return NoBatch(EndReason.NO_PROMPTS, detail)
        share_of = {batch: schedule.share(cfg, step, batch) for batch in self._prompts}
        targets = {
            batch % self._blocks: math.ceil(self._most_new_tokens(batch) * share)
            for batch, share in share_of.items()
        }
        noise = stream(self._seed, "sample", step)
        self.sampler.advance(targets, noise, step)
        if self._recipe.zero_variance == "refill":
            # As soon as a batch is written, so that one policy writes all of it where one is to.
            for batch in (b for b, share in share_of.items() if share == 1 and b not in self._refilled):
                self._refilled[batch] = self._refill(batch, noise, step)
        return self._verify(step)

    def _step_of(self, batch: int) -> int:
        """The optimiser steps before the first that consumes a batch: what schedules by step go by."""
        return batch * self._recipe.batch.steps_per_rollout

    def _most_new_tokens(self, batch: int) -> int:
        """Longest response of a batch, with its injected phrase."""
        return self._recipe.sampling.max_response_tokens_at(self._step_of(batch)) + len(
            self.sampler.decoding.phrase
        )

    def _begin(self, batch: int) -> bool:
        """Draw prompts for a batch and put them in flight."""
        needed = self._recipe.batch.prompts_per_rollout
        chosen = self._curriculum.next_prompts(needed, step=self._step_of(batch))
        if chosen is None:
            return False
        self._start(batch, chosen, None, "budget")
        self._prompts[batch] = chosen
        return True

    def _start(self, batch: int, chosen: list[int], places: list[int] | None, budgets: str) -> None:
        """Put prompts in flight, at places of their batch; None for all of it."""
        sampling = self._recipe.sampling
        limit = sampling.max_response_tokens_at(self._step_of(batch))
        num_rows = len(chosen) * self._generations
        self.sampler.start(
            batch % self._blocks,
            [self._tasks.train[each].prompt for each in chosen],
            self._generations,
            thinking_budgets(
                self._recipe.length_control, limit, num_rows, stream(self._seed, budgets, batch)
            ),
            places=places,
            limit=limit,
            temperature=sampling.temperature_at(self._step_of(batch)),
        )

    def _refill(self, batch: int, noise: torch.Generator, step: int) -> Refilled:
        """Replace prompts without variance by the curriculum's next, until none is left or it may not go on.

        A round generates as many prompts as are missing, from start to end under the present weights, so
        nothing is generated that is not used or dropped for want of variance. (DAPO's open code generates
        whole batches and throws away what is left over.) Every round sees only finished rows, and prompts
        come in the curriculum's order, so short answers have no head start.
        """
        chosen = self._prompts[batch]
        tried = set(chosen)
        most = self._recipe.refill.max_generated * len(chosen)
        found = Refilled([0.0] * (len(chosen) * self._generations))
        places = list(range(len(chosen)))
        num_round = 0
        while True:
            self._grade(batch, places, found)
            kept_P = judge(self._recipe, self._completions(batch, found.raw_reward)).kept_P
            places = [place for place, kept in enumerate(kept_P.tolist()) if not kept]
            num = min(len(places), most - len(tried))
            if not places:
                return found
            if not num:
                found.short = (
                    EndReason.NO_VARIANCE,
                    f"of {most} prompts generated for step {batch + 1}, {len(chosen) - len(places)} have "
                    f"completions of differing reward; {len(chosen)} are needed",
                )
                return found
            fresh = self._curriculum.next_prompts(num, tried, self._step_of(batch))
            if fresh is None:
                found.short = (
                    EndReason.NO_PROMPTS,
                    f"the curriculum has fewer than {num} prompts left to refill step {batch + 1}, after "
                    f"{len(tried)} were tried",
                )
                return found
            places = places[:num]
            for place, prompt in zip(places, fresh, strict=True):
                rows = found.raw_reward[place * self._generations : (place + 1) * self._generations]
                found.replaced.prompts += 1
                found.replaced.rows += len(rows)
                found.replaced.reward += sum(rows)
                chosen[place] = prompt
            tried.update(fresh)
            num_round += 1
            self._start(batch, fresh, places, f"budget/{num_round}")
            self.sampler.advance({batch % self._blocks: self._most_new_tokens(batch)}, noise, step)

    def _grade(self, batch: int, places: list[int], found: Refilled) -> None:
        """Verify the completions at some places of a batch, and tell the curriculum."""
        device = self.sampler.rows.done.device
        first_P = torch.tensor(places, device=device) * self._generations
        rows = (first_P[:, None] + torch.arange(self._generations, device=device)).flatten()
        chosen = [self._prompts[batch][place] for place in places]
        reward_B = self._verdicts(chosen, self.sampler.take(batch % self._blocks).of(rows))
        for row, reward in zip(rows.tolist(), reward_B.tolist(), strict=True):
            found.raw_reward[row] = reward

    def _verdicts(self, chosen: list[int], finished: Finished) -> torch.Tensor:
        """Raw rewards (B,) of the completions of some prompts, whose pass rates the curriculum notes."""
        problems = [self._tasks.train[each] for each in chosen for _ in range(self._generations)]
        began = time.perf_counter()
        reward_B = rewards(self._tasks, problems, finished)
        self.reward_s += time.perf_counter() - began
        passed_P = (reward_B.view(len(chosen), self._generations) >= 1.0).double().mean(1)
        for prompt, share in zip(chosen, passed_P.tolist(), strict=True):
            self._curriculum.record(prompt, share)
        return reward_B

    def _completions(self, batch: int, raw_reward: list[float]) -> Completions:
        """The completions of a batch that is written, with rewards that are known."""
        finished = self.sampler.take(batch % self._blocks)
        return self._verified(batch, finished, torch.tensor(raw_reward)).completions

    def _verify(self, step: int) -> Verified | NoBatch:
        refilled = self._refilled.get(step)
        if refilled is not None and refilled.short and self._recipe.refill.when_short == "end":
            reason, detail = refilled.short
            return NoBatch(EndReason(reason), detail)
        finished = self.sampler.take(step % self._blocks)
        if refilled is None:
            verified = self._verified(step, finished, self._verdicts(self._prompts[step], finished))
        else:
            verified = self._verified(step, finished, torch.tensor(refilled.raw_reward), refilled.replaced)
        del self._prompts[step]
        self._refilled.pop(step, None)
        return verified

    def _verified(
        self, batch: int, finished: Finished, reward_B: torch.Tensor, replaced: Replaced | None = None
    ) -> Verified:
        num_prompts = len(self._prompts[batch])
        device = finished.tokens_BT.device
        completions = Completions(
            tokens_BT=finished.tokens_BT,
            response_mask_BT=finished.mask_BT,
            gen_logp_BT=finished.logp_BT,
            prompt_index_B=torch.arange(num_prompts, device=device).repeat_interleave(self._generations),
            raw_reward_B=reward_B.to(device),
            num_tokens_B=finished.num_written.long(),
            truncated_B=finished.truncated_B,
            num_prompts=num_prompts,
            step=self._step_of(batch),
        )
        lag_BT = (batch - finished.version_BT) * finished.mask_BT.long()
        return Verified(finished, completions, lag_BT, replaced or Replaced())

    # ------------------------------------------------------------ state

    def state(self) -> RolloutState:
        """What is in flight and what came before, as plain JSON."""
        return {
            "prompts": {str(batch): chosen for batch, chosen in self._prompts.items()},
            "curriculum": self._curriculum.state(),
            "refilled": {str(batch): asdict(found) for batch, found in self._refilled.items()},
        }

    def load(self, state: RolloutState, tensors: dict[str, torch.Tensor]) -> None:
        """Go on exactly from ``state`` and the sampler's tensors of the same moment."""
        self._prompts = {int(batch): list(chosen) for batch, chosen in state["prompts"].items()}
        self._refilled = {
            int(batch): Refilled(found["raw_reward"], Replaced(**found["replaced"]), found["short"])
            for batch, found in state.get("refilled", {}).items()
        }
        self._curriculum.load(state["curriculum"])
        self.sampler.load_tensors(tensors)
