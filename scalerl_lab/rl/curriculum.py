"""Curricula: which training prompts come next, and which never come again.

Epochs visit every prompt of the pool once, in an order drawn from the seed and the number of the epoch.
Every curriculum keeps the history of pass rates; they differ in the pass rate that retires a prompt.
Nothing here imports torch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NotRequired, TypedDict

from scalerl_lab.config.curriculum import Curriculum, NoPositiveResampling, UniformCurriculum
from scalerl_lab.errors import CheckpointError


class OrderState(TypedDict):
    """All that a ``PromptOrder`` needs to go on, as plain JSON."""

    num_prompts: int
    epoch: int
    queue: list[int]
    """What is left of the epoch, next first."""
    history: dict[str, list[float]]
    """Prompt (JSON keys are text) -> its pass rates, oldest first."""
    left_out: NotRequired[list[int]]
    """Prompts that never come at all."""


class PromptOrder:
    """Prompts in seeded epochs, without those that are retired.

    Args:
        num_prompts: prompts are numbered 0 .. num_prompts - 1.
        seed: seed of the orders.
        retire_at: a recorded pass rate of at least this retires the prompt for good; infinity for never.
    """

    def __init__(self, num_prompts: int, seed: int, retire_at: float) -> None:
        self._num_prompts = num_prompts
        self._seed = seed
        self._retire_at = retire_at
        self._epoch = 0
        self._queue = self._order_of(0)
        self._history: dict[int, list[float]] = {}
        self._left_out: frozenset[int] = frozenset()
        self._retired: set[int] = set()
        """Prompts that come no more, those left out among them."""

    @property
    def pool_size(self) -> int:
        """Prompts that may still come."""
        return self._num_prompts - len(self._retired)

    @property
    def epoch(self) -> int:
        """Number of the epoch that the next prompt comes from, from 0."""
        return self._epoch

    def leave_out(self, prompts: Collection[int]) -> None:
        """Prompts that are never to come: the difficulty filter's."""
        self._left_out |= frozenset(prompts)
        self._retired |= self._left_out

    def next_prompts(self, num: int, without: Collection[int] = ()) -> list[int] | None:
        """The next distinct prompts of a batch, or None when the pool has fewer.

        A batch may span two epochs; a prompt that it already holds then waits for the next batch.

        Args:
            num: how many.
            without: prompts that the batch holds or held.
        """
        if num > self.pool_size - len(set(without) - self._retired):
            return None
        batch: list[int] = []
        while True:
            # Retirement is looked up when a prompt is drawn: in a pipeline its pass rate may arrive
            # after the next epoch's order was made.
            waiting: list[int] = []
            for place, prompt in enumerate(self._queue):
                if len(batch) == num:
                    waiting.extend(self._queue[place:])
                    break
                if prompt in self._retired:
                    continue
                (waiting if prompt in batch or prompt in without else batch).append(prompt)
            self._queue = waiting
            if len(batch) == num:
                return batch
            self._epoch += 1
            self._queue = self._order_of(self._epoch)

    def record(self, prompt: int, pass_rate: float) -> None:
        """Note the share of correct completions of a prompt, before any prompt is dropped from the batch.

        Raises:
            ValueError: the prompt does not exist, or the pass rate lies outside [0, 1].
        """
        if not 0 <= prompt < self._num_prompts:
            raise ValueError(f"prompt {prompt} does not exist; there are {self._num_prompts}, from 0")
        if not 0.0 <= pass_rate <= 1.0:
            raise ValueError(f"the pass rate of prompt {prompt} must lie in [0, 1], got {pass_rate}")
        self._history.setdefault(prompt, []).append(float(pass_rate))
        if self._retires(pass_rate):
            self._retired.add(prompt)

    def state(self) -> OrderState:
        """All that is needed to go on, as plain JSON."""
        state: OrderState = {
            "num_prompts": self._num_prompts,
            "epoch": self._epoch,
            "queue": list(self._queue),
            "history": {str(prompt): list(rates) for prompt, rates in self._history.items()},
        }
        return state | {"left_out": sorted(self._left_out)} if self._left_out else state

    def load(self, state: OrderState) -> None:
        """Go on exactly from where ``state`` was taken.

        Raises:
            CheckpointError: the state is of another set of prompts.
        """
        if state["num_prompts"] != self._num_prompts:
            raise CheckpointError(
                f"the curriculum's state is of {state['num_prompts']} prompts, "
                f"this run has {self._num_prompts}"
            )
        self._epoch = state["epoch"]
        self._queue = list(state["queue"])
        self._history = {int(prompt): list(rates) for prompt, rates in state["history"].items()}
        self._left_out = frozenset(state.get("left_out", ()))
        solved = {p for p, rates in self._history.items() if any(map(self._retires, rates))}
        self._retired = solved | self._left_out

    def _retires(self, pass_rate: float) -> bool:
        # 9 of 10 correct is 0.89999998 in float32; shares of real group sizes never come this near
        # to a threshold that they do not reach.
        return pass_rate >= self._retire_at - 1e-6

    def _order_of(self, epoch: int) -> list[int]:
        order = list(range(self._num_prompts))
        random.Random(f"{self._seed}/{epoch}").shuffle(order)
        return order


def prompt_order(cfg: Curriculum, num_prompts: int, seed: int) -> PromptOrder:
    """The recipe's curriculum over its training prompts."""
    return CURRICULA[cfg.type](cfg, num_prompts, seed)


def uniform(cfg: UniformCurriculum, num_prompts: int, seed: int) -> PromptOrder:
    """Every training prompt once per epoch, for ever.

    Worked number: 4 prompts, batches of 2: batches 1 and 2 hold all four, so do batches 3 and 4.
    Source: ScaleRL section 3.2 ("uniform sampling").
    """
    return PromptOrder(num_prompts, seed, retire_at=math.inf)


def no_positive_resampling(cfg: NoPositiveResampling, num_prompts: int, seed: int) -> PromptOrder:
    """A prompt whose pass rate reaches the threshold never comes back in a later epoch.

    The pass rate is that of its latest group of completions; a later, lower one does not bring it back.
    Worked number: threshold 0.9, groups of 16: 15 correct (0.9375) retire a prompt, 14 (0.875) do not.
    Source: ScaleRL section 3.2 and A.3; J_ScaleRL (pass_rate(x) < 0.9).
    """
    return PromptOrder(num_prompts, seed, retire_at=cfg.threshold)


CURRICULA: Mapping[str, Callable[[Any, int, int], PromptOrder]] = MappingProxyType(
    {"uniform": uniform, "no_positive_resampling": no_positive_resampling}
)
"""``curriculum.type`` of a recipe -> (cfg, num_prompts, seed) -> PromptOrder."""
