"""Curricula: which training prompts come next, from which step on, and which never come again.

Epochs visit every prompt of a queue once, in an order drawn from the seed and the number of the epoch. There
is one queue of all prompts, and for each stage of the recipe queues of its own. Every curriculum keeps the
history of pass rates; they differ in the pass rate that retires a prompt. Nothing here imports torch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NotRequired, TypedDict

from scalerl_lab.config.curriculum import Curriculum, NoPositiveResampling, PromptStage, UniformCurriculum
from scalerl_lab.config.problems import nearest
from scalerl_lab.errors import CheckpointError, ConfigError
from scalerl_lab.tasks import Problem


class QueueState(TypedDict):
    """Where a queue is."""

    epoch: int
    queue: list[int]
    """What is left of the epoch, next first."""


class StageState(TypedDict):
    """Where a stage is."""

    queues: list[QueueState]
    drawn: list[int]
    """Prompts drawn from each queue so far."""


class OrderState(QueueState):
    """All that a ``PromptOrder`` needs to go on, as plain JSON; epoch and queue are those of all prompts."""

    num_prompts: int
    history: dict[str, list[float]]
    """Prompt (JSON keys are text) -> its pass rates, oldest first."""
    left_out: NotRequired[list[int]]
    """Prompts that never come at all."""
    stages: NotRequired[list[StageState]]


class Queue:
    """Some prompts in epochs.

    Args:
        prompts: their numbers.
        key: what the orders are drawn from, together with the number of the epoch.
    """

    def __init__(self, prompts: Sequence[int], key: str) -> None:
        self.prompts = prompts
        self._members = frozenset(prompts)
        self._key = key
        self.epoch = 0
        """Number of the epoch that the next prompt comes from, from 0."""
        self._queue = self._order_of(0)

    def left(self, gone: frozenset[int]) -> int:
        """How many of its prompts are not gone."""
        return len(self._members) - len(self._members & gone)

    def take(self, num: int, without: Collection[int], retired: Collection[int]) -> list[int]:
        """The next ``num`` distinct prompts, of which there must be enough.

        They may span two epochs; one that is taken already then waits for the next call.
        """
        taken: list[int] = []
        while True:
            # Retirement is looked up when a prompt is drawn: in a pipeline its pass rate may arrive
            # after the next epoch's order was made.
            waiting: list[int] = []
            for place, prompt in enumerate(self._queue):
                if len(taken) == num:
                    waiting.extend(self._queue[place:])
                    break
                if prompt in retired:
                    continue
                (waiting if prompt in taken or prompt in without else taken).append(prompt)
            self._queue = waiting
            if len(taken) == num:
                return taken
            self.epoch += 1
            self._queue = self._order_of(self.epoch)

    def state(self) -> QueueState:
        """Where it is."""
        return {"epoch": self.epoch, "queue": list(self._queue)}

    def load(self, state: QueueState) -> None:
        """Go on from there."""
        self.epoch, self._queue = state["epoch"], list(state["queue"])

    def _order_of(self, epoch: int) -> list[int]:
        order = list(self.prompts)
        random.Random(f"{self._key}/{epoch}").shuffle(order)
        return order


class Stage:
    """What prompts are drawn from between two steps: queues, each with the weight of its share.

    Args:
        from_step: its first step.
        queues: no prompt is in two of them.
        weights: one a queue.
    """

    def __init__(self, from_step: int, queues: Sequence[Queue], weights: Sequence[float] = (1.0,)) -> None:
        self.from_step = from_step
        self.queues = queues
        self._weights = weights
        self._drawn = [0] * len(queues)

    def take(self, num: int, without: Collection[int], retired: Collection[int]) -> list[int] | None:
        """The next ``num`` distinct prompts, or None when fewer may come.

        Each comes from the queue with the largest weight / (2 drawn + 1), the first of equals, so that any
        first part of a stage has the shares of the weights (Sainte-Lague); a queue with nothing left is
        passed over. Worked number: weights 2 and 1: A B A A B A.
        """
        gone = frozenset(without).union(retired)
        left = [queue.left(gone) for queue in self.queues]
        if num > sum(left):
            return None
        if len(self.queues) == 1:
            return self.queues[0].take(num, without, retired)
        places: list[int] = []
        for _ in range(num):
            place = max(
                (place for place, there in enumerate(left) if there),
                key=lambda place: self._weights[place] / (2 * self._drawn[place] + 1),
            )
            places.append(place)
            self._drawn[place] += 1
            left[place] -= 1
        taken = [
            iter(queue.take(places.count(place), without, retired)) for place, queue in enumerate(self.queues)
        ]
        return [next(taken[place]) for place in places]

    def state(self) -> StageState:
        """Where it is."""
        return {"queues": [queue.state() for queue in self.queues], "drawn": list(self._drawn)}

    def load(self, state: StageState) -> None:
        """Go on from there."""
        for queue, held in zip(self.queues, state["queues"], strict=True):
            queue.load(held)
        self._drawn = list(state["drawn"])


class PromptOrder:
    """Prompts in seeded epochs, without those that are retired.

    Args:
        num_prompts: prompts are numbered 0 .. num_prompts - 1.
        seed: seed of the orders.
        retire_at: a recorded pass rate of at least this retires the prompt for good; infinity for never.
        stages: what prompts are drawn from later on, in the order of their steps.
    """

    def __init__(self, num_prompts: int, seed: int, retire_at: float, stages: Sequence[Stage] = ()) -> None:
        self._num_prompts = num_prompts
        self._retire_at = retire_at
        self._all = Queue(range(num_prompts), str(seed))
        self._stages = (Stage(0, [self._all]), *stages)
        self._history: dict[int, list[float]] = {}
        self._left_out: frozenset[int] = frozenset()
        self._retired: set[int] = set()
        """Prompts that come no more, those left out among them."""

    @property
    def pool_size(self) -> int:
        """Prompts that may still come, in one stage or another."""
        return self._num_prompts - len(self._retired)

    @property
    def epoch(self) -> int:
        """Number of the epoch of all prompts, from 0."""
        return self._all.epoch

    def leave_out(self, prompts: Collection[int]) -> None:
        """Prompts that are never to come: the difficulty filter's."""
        self._left_out |= frozenset(prompts)
        self._retired |= self._left_out

    def next_prompts(self, num: int, without: Collection[int] = (), step: int = 0) -> list[int] | None:
        """The next distinct prompts of a batch, or None when its stage has fewer.

        A batch may span two epochs; a prompt that it already holds then waits for the next batch. A batch of
        an earlier stage may ask for more when one of a later stage has begun.

        Args:
            num: how many.
            without: prompts that the batch holds or held.
            step: optimiser step that consumes the batch, from 0.
        """
        stage = [each for each in self._stages if each.from_step <= step][-1]
        return stage.take(num, frozenset(without), self._retired)

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
        now = self._all.state()
        state: OrderState = {
            "num_prompts": self._num_prompts,
            "epoch": now["epoch"],
            "queue": now["queue"],
            "history": {str(prompt): list(rates) for prompt, rates in self._history.items()},
        }
        if self._left_out:
            state["left_out"] = sorted(self._left_out)
        if later := self._stages[1:]:
            state["stages"] = [stage.state() for stage in later]
        return state

    def load(self, state: OrderState) -> None:
        """Go on exactly from where ``state`` was taken.

        Raises:
            CheckpointError: the state is of another set of prompts, or of other stages.
        """
        if state["num_prompts"] != self._num_prompts:
            raise CheckpointError(
                f"the curriculum's state is of {state['num_prompts']} prompts, "
                f"this run has {self._num_prompts}"
            )
        stages, held = self._stages[1:], state.get("stages", [])
        if [len(stage.queues) for stage in stages] != [len(one["queues"]) for one in held]:
            raise CheckpointError(
                f"the curriculum's state is of {len(held)} stages, this run has {len(stages)}, or of others"
            )
        self._all.load(state)
        for stage, one in zip(stages, held, strict=True):
            stage.load(one)
        self._history = {int(prompt): list(rates) for prompt, rates in state["history"].items()}
        self._left_out = frozenset(state.get("left_out", ()))
        solved = {p for p, rates in self._history.items() if any(map(self._retires, rates))}
        self._retired = solved | self._left_out

    def _retires(self, pass_rate: float) -> bool:
        # 9 of 10 correct is 0.89999998 in float32; shares of real group sizes never come this near
        # to a threshold that they do not reach.
        return pass_rate >= self._retire_at - 1e-6


def prompt_order(
    cfg: Curriculum, num_prompts: int, seed: int, problems: Sequence[Problem] = (), needed: int = 1
) -> PromptOrder:
    """The recipe's curriculum over its training prompts.

    Args:
        cfg: what the recipe says.
        num_prompts: training prompts.
        seed: of the run.
        problems: the training prompts, which stages choose from.
        needed: prompts that a rollout holds.

    Raises:
        ConfigError: a stage names a domain or a difficulty that the prompts do not have, or is too small.
    """
    stages = [
        stage_of(stage, f"curriculum.stages.{number}", f"{seed}/stage {number}", problems, needed)
        for number, stage in enumerate(cfg.stages)
    ]
    return CURRICULA[cfg.type](cfg, num_prompts, seed, stages)


def uniform(cfg: UniformCurriculum, num_prompts: int, seed: int, stages: Sequence[Stage] = ()) -> PromptOrder:
    """Every training prompt once per epoch, for ever.

    Worked number: 4 prompts, batches of 2: batches 1 and 2 hold all four, so do batches 3 and 4.
    Source: ScaleRL section 3.2 ("uniform sampling").
    """
    return PromptOrder(num_prompts, seed, math.inf, stages)


def no_positive_resampling(
    cfg: NoPositiveResampling, num_prompts: int, seed: int, stages: Sequence[Stage] = ()
) -> PromptOrder:
    """A prompt whose pass rate reaches the threshold never comes back in a later epoch.

    The pass rate is that of its latest group of completions; a later, lower one does not bring it back.
    Worked number: threshold 0.9, groups of 16: 15 correct (0.9375) retire a prompt, 14 (0.875) do not.
    Source: ScaleRL section 3.2 and A.3; J_ScaleRL (pass_rate(x) < 0.9).
    """
    return PromptOrder(num_prompts, seed, cfg.threshold, stages)


CURRICULA: Mapping[str, Callable[[Any, int, int, Sequence[Stage]], PromptOrder]] = MappingProxyType(
    {"uniform": uniform, "no_positive_resampling": no_positive_resampling}
)
"""``curriculum.type`` of a recipe -> (cfg, num_prompts, seed, stages) -> PromptOrder."""


def stage_of(cfg: PromptStage, path: str, key: str, problems: Sequence[Problem], needed: int) -> Stage:
    """A stage with the numbers of the training prompts that it chooses.

    Worked number: difficulties 1, 2, 3 of domain a and 2 of b; at least 2, {a: 1, b: 1}: queues (1, 2), (3).

    Raises:
        ConfigError: it names a domain or a difficulty that the prompts do not have, or has too few of them.
    """
    known = sorted({problem.domain for problem in problems})
    for domain in cfg.domains:
        if domain not in known:
            raise ConfigError(
                f"{path}.domains: no training prompt is of the domain {domain!r}{nearest(domain, known)}; "
                f"allowed: {', '.join(known)}"
            )
    of_domain: dict[str, list[int]] = {}
    for number, problem in enumerate(problems):
        if (not cfg.domains or problem.domain in cfg.domains) and _within(cfg, problem, path):
            of_domain.setdefault(problem.domain if cfg.domains else "", []).append(number)
    for domain in cfg.domains:
        if domain not in of_domain:
            raise ConfigError(f"{path}: no training prompt of the domain {domain} has such a difficulty")
    num = sum(map(len, of_domain.values()))
    if num < needed:
        raise ConfigError(
            f"{path} has {num} training prompts, but a rollout needs {needed}; widen the stage, or lower "
            "batch.prompts_per_step"
        )
    whole = sum(cfg.domains.values())
    for domain, share in cfg.domains.items():
        due = math.ceil(share / whole * needed - 1e-9)
        if len(of_domain[domain]) < due:
            raise ConfigError(
                f"{path}.domains: {domain} has {len(of_domain[domain])} training prompts, but its share of a "
                f"rollout of {needed} is {due}; lower the share, widen the stage, or lower "
                "batch.prompts_per_step"
            )
    domains = sorted(of_domain)
    queues = [Queue(of_domain[domain], f"{key}/{domain}") for domain in domains]
    return Stage(cfg.from_step, queues, [cfg.domains.get(domain, 1.0) for domain in domains])


def _within(cfg: PromptStage, problem: Problem, path: str) -> bool:
    low, high, difficulty = cfg.min_difficulty, cfg.max_difficulty, problem.difficulty
    if low is None and high is None:
        return True
    if difficulty is None:
        where = problem.item.place if problem.item else problem.domain
        raise ConfigError(
            f"{path} chooses by difficulty, but the training prompt {where} has none; write a number in "
            "metadata.difficulty of every row, or choose by domains alone"
        )
    return (low is None or difficulty >= low) and (high is None or difficulty <= high)
