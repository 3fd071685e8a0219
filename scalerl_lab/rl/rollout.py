"""From the curriculum's prompts to verified completions, under the recipe's off-policy schedule.

Shapes: P prompts, G generations of each, B = P * G rows, T tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import torch

from scalerl_lab.config.recipe import Recipe
from scalerl_lab.engines.rows import Decoding, Finished
from scalerl_lab.engines.sampler import TorchSampler
from scalerl_lab.rl.batch import Completions
from scalerl_lab.rl.curriculum import OrderState, prompt_order
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


@dataclass(frozen=True, slots=True)
class Verified:
    """The completions of one batch with their rewards."""

    finished: Finished
    completions: Completions
    lag_BT: torch.Tensor
    """Optimiser steps between writing and consuming a token; 0 where the mask is 0."""


def decoding_of(recipe: Recipe, tasks: TaskSet, temperature: float) -> Decoding:
    """How completions are written under a recipe.

    Raises:
        ConfigError: the interruption phrase has words that the tasks' vocabulary lacks.
    """
    tokenizer = tasks.tokenizer
    return Decoding(
        max_response_tokens=recipe.sampling.max_response_tokens,
        temperature=temperature,
        pad_id=tokenizer.pad_id,
        end_id=tokenizer.end_id,
        marker_id=tokenizer.marker_id,
        phrase=tokenizer.encode(interruption_phrase(recipe.length_control) or ""),
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
        self._curriculum = prompt_order(recipe.curriculum, len(tasks.train), seed)
        self._prompts: dict[int, list[int]] = {}
        self.sampler = TorchSampler(
            policy,
            decoding_of(recipe, tasks, recipe.sampling.temperature),
            recipe.numerics.generator_head,
            rows_per_block=recipe.batch.prompts_per_step * self._generations,
            num_blocks=self._blocks,
            max_prompt_tokens=longest_prompt(tasks.train),
        )

    def next_batch(self, step: int) -> Verified | None:
        """Generate what the schedule asks for before step ``step``, and give the batch it consumes.

        Args:
            step: optimiser steps taken so far.

        Returns:
            The batch, or None when the curriculum had too few prompts left to begin it.
        """
        schedule, cfg = self._schedule, self._recipe.off_policy
        for batch in range(step, schedule.last_batch(cfg, step) + 1):
            if batch not in self._prompts and not self._begin(batch):
                break
        if step not in self._prompts:
            return None
        most = self.sampler.decoding.most_new_tokens
        targets = {
            batch % self._blocks: math.ceil(most * schedule.share(cfg, step, batch))
            for batch in self._prompts
        }
        self.sampler.advance(targets, stream(self._seed, "sample", step), step)
        return self._verify(step)

    def _begin(self, batch: int) -> bool:
        """Draw prompts for a batch and put them in flight."""
        num_prompts = self._recipe.batch.prompts_per_step
        chosen = self._curriculum.next_prompts(num_prompts)
        if chosen is None:
            return False
        budgets = thinking_budgets(
            self._recipe.length_control,
            self._recipe.sampling.max_response_tokens,
            num_prompts * self._generations,
            stream(self._seed, "budget", batch),
        )
        prompts = [self._tasks.train[each].prompt for each in chosen]
        self.sampler.start(batch % self._blocks, prompts, self._generations, budgets)
        self._prompts[batch] = chosen
        return True

    def _verify(self, step: int) -> Verified:
        chosen = self._prompts.pop(step)
        finished = self.sampler.take(step % self._blocks)
        device = finished.tokens_BT.device
        problems = [self._tasks.train[each] for each in chosen for _ in range(self._generations)]
        reward_B = rewards(self._tasks, problems, finished)
        passed_P = (reward_B.view(len(chosen), self._generations) >= 1.0).double().mean(1)
        for prompt, share in zip(chosen, passed_P.tolist(), strict=True):
            self._curriculum.record(prompt, share)
        completions = Completions(
            tokens_BT=finished.tokens_BT,
            response_mask_BT=finished.mask_BT,
            gen_logp_BT=finished.logp_BT,
            prompt_index_B=torch.arange(len(chosen), device=device).repeat_interleave(self._generations),
            raw_reward_B=reward_B.to(device),
            num_tokens_B=finished.num_written.long(),
            num_prompts=len(chosen),
        )
        return Verified(finished, completions, (step - finished.version_BT) * finished.mask_BT.long())

    # ------------------------------------------------------------ state

    def state(self) -> RolloutState:
        """What is in flight and what came before, as plain JSON."""
        prompts = {str(batch): chosen for batch, chosen in self._prompts.items()}
        return {"prompts": prompts, "curriculum": self._curriculum.state()}

    def load(self, state: RolloutState, tensors: dict[str, torch.Tensor]) -> None:
        """Go on exactly from ``state`` and the sampler's tensors of the same moment."""
        self._prompts = {int(batch): list(chosen) for batch, chosen in state["prompts"].items()}
        self._curriculum.load(state["curriculum"])
        self.sampler.load_tensors(tensors)
