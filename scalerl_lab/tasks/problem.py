"""What every task family offers: problems in two splits, verdicts, and demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from scalerl_lab.config.start import Demonstrations
from scalerl_lab.tasks.item import Item
from scalerl_lab.tasks.sandbox import Isolation
from scalerl_lab.tasks.tokenizer import Vocabulary


@dataclass(frozen=True, slots=True)
class Problem:
    """A prompt and that by which its completions are verified."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...] = ()
    """Tokens of the answer, where the family verifies tokens."""
    domain: str = "chain_arithmetic"
    """Whose curve it belongs to."""
    item: Item | None = None
    """The row of text behind it, where the family verifies text."""
    difficulty: float | None = None
    """What a curriculum may choose by; larger is harder. None where the family or the row does not say."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one completion is worth, in [0, 1]; 1 is a pass."""

    score: float
    """Under the format that the recipe asks for: what is rewarded, and what the pass rate counts."""
    tolerant: float
    """With the answer found wherever it stands. It never enters a reward; a gain in ``score`` without one
    here is a gain in format."""

    @property
    def passed(self) -> bool:
        """Whether the score is full."""
        return self.score >= 1.0


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt with a written response, right or wrong, for supervised training."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    """Ends with the tokenizer's end token."""


class TaskSet(Protocol):
    """Problems of one family or a mixture: train, held-out, downstream, and how completions are verified."""

    @property
    def tokenizer(self) -> Vocabulary:
        """Of prompts and responses."""
        ...

    @property
    def train(self) -> tuple[Problem, ...]:
        """What the curriculum draws from."""
        ...

    @property
    def heldout(self) -> tuple[Problem, ...]:
        """What is measured at every evaluation; any first part has the domains in the shares of the whole."""
        ...

    @property
    def downstream(self) -> Mapping[str, tuple[Problem, ...]]:
        """Further sets that are only measured, by name."""
        ...

    @property
    def isolation(self) -> Isolation | None:
        """How code in responses is kept from the machine; None where none is run."""
        ...

    def verdicts(self, problems: Sequence[Problem], responses: Sequence[Sequence[int]]) -> list[Verdict]:
        """One verdict a row; ``problems`` has one entry a response. Never raises for what a model wrote."""
        ...

    def demonstrations(self, warm_start: Demonstrations, num: int) -> list[Demonstration]:
        """``num`` demonstrations on prompts of the train side, of the warm start's reliability."""
        ...
