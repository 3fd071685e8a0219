"""What every task family offers: problems in two splits, a verifier, and demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from scalerl_lab.config.recipe import Demonstrations
from scalerl_lab.tasks.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Problem:
    """A prompt and the answer by which its completions are verified."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    domain: str = ""
    """What kind of problem it is, where a family mixes several; each has a pass rate of its own."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt with a written response, right or wrong, for supervised training."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    """Ends with the tokenizer's end token."""


class TaskSet(Protocol):
    """Problems of one family: train, held-out, downstream, and how a completion is verified."""

    tokenizer: Tokenizer
    train: tuple[Problem, ...]
    heldout: tuple[Problem, ...]
    downstream: Mapping[str, tuple[Problem, ...]]
    """Further sets by name, measured and never trained on; no prompt is in two sets."""

    def verify(self, problem: Problem, response: Sequence[int]) -> bool:
        """Whether the response's final answer is the problem's."""
        ...

    def demonstrations(self, warm_start: Demonstrations, num: int) -> list[Demonstration]:
        """``num`` demonstrations on prompts of the train side, of the warm start's reliability."""
        ...
