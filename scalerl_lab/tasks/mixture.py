"""Prompts of several families in one run, over one vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scalerl_lab.config.start import Demonstrations
from scalerl_lab.errors import DataError
from scalerl_lab.tasks.data_files import refuse_overlap
from scalerl_lab.tasks.problem import Demonstration, Problem, TaskSet, Verdict
from scalerl_lab.tasks.sandbox import Isolation
from scalerl_lab.tasks.text_tasks import in_shares
from scalerl_lab.tasks.tokenizer import Vocabulary


class MixtureTasks:
    """Task sets of one vocabulary side by side, in the shares of their weights.

    Args:
        parts: built over ``tokenizer``.
        weights: one a part.

    Raises:
        DataError: two parts share a prompt as the model reads it; or a row of text, whatever the templates
            make of it, stands in two of training, held-out and downstream sets.
    """

    def __init__(self, parts: Sequence[TaskSet], weights: Sequence[float], tokenizer: Vocabulary) -> None:
        self._parts = parts
        self._weights = weights
        self.tokenizer = tokenizer
        self.train = tuple(in_shares([part.train for part in parts], weights))
        self.heldout = tuple(in_shares([part.heldout for part in parts], weights))
        self.downstream: dict[str, tuple[Problem, ...]] = {}
        for part in parts:
            self.downstream |= part.downstream
        self._part_of: dict[tuple[int, ...], int] = {}
        for number, part in enumerate(parts):
            for problem in (*part.train, *part.heldout, *(p for s in part.downstream.values() for p in s)):
                if self._part_of.setdefault(problem.prompt, number) != number:
                    raise DataError(
                        f"tasks.parts: parts {self._part_of[problem.prompt] + 1} and {number + 1} share "
                        f"the prompt {_shown(problem, tokenizer)!r}; take it out of one"
                    )
        self._refuse_overlap()

    def _refuse_overlap(self) -> None:
        whole = {
            "train": [problem for part in self._parts for problem in part.train],
            "heldout": [problem for part in self._parts for problem in part.heldout],
            **{f"downstream.{name}": problems for name, problems in self.downstream.items()},
        }
        refuse_overlap({name: [p.item for p in problems if p.item] for name, problems in whole.items()})

    @property
    def isolation(self) -> Isolation | None:
        """That of the parts that run code: one machine isolates them all alike."""
        return next((part.isolation for part in self._parts if part.isolation is not None), None)

    def verdicts(self, problems: Sequence[Problem], responses: Sequence[Sequence[int]]) -> list[Verdict]:
        """One verdict a row; each part judges its own rows together."""
        found: dict[int, Verdict] = {}
        owner = [self._part_of[problem.prompt] for problem in problems]
        for number, part in enumerate(self._parts):
            places = [place for place, of in enumerate(owner) if of == number]
            if places:
                judged = part.verdicts([problems[p] for p in places], [responses[p] for p in places])
                found |= dict(zip(places, judged, strict=True))
        return [found[place] for place in range(len(problems))]

    def demonstrations(self, warm_start: Demonstrations, num: int) -> list[Demonstration]:
        """Demonstrations of every part in the shares of the weights, in a seeded random order."""
        whole = sum(self._weights)
        counts = [round(num * weight / whole) for weight in self._weights]
        counts[-1] = num - sum(counts[:-1])
        made = [
            shown
            for part, count in zip(self._parts, counts, strict=True)
            for shown in part.demonstrations(warm_start, count)
        ]
        order = np.random.default_rng([warm_start.seed, 4]).permutation(len(made))
        return [made[place] for place in order]


def _shown(problem: Problem, tokenizer: Vocabulary) -> str:
    return problem.item.prompt if problem.item else tokenizer.decode(problem.prompt)
