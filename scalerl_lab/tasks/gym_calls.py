"""reasoning-gym's generators and scorers; runs in a worker process only."""

from __future__ import annotations

import functools
import json
from typing import Any

import reasoning_gym
from reasoning_gym.factory import DATASETS, get_score_answer_fn


def names() -> list[str]:
    """All generators that draw items of their own."""
    return sorted(name for name in DATASETS if name != "composite")


def draw(generator: str, size: int, seed: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Items of one generator as plain JSON: question, answer, metadata.

    Tuples become lists and keys become text, as in a data file: what does not survive that, the audit finds.
    """
    found = reasoning_gym.create_dataset(generator, size=size, seed=seed, **options)
    return [json.loads(json.dumps(found[place])) for place in range(size)]


def score(generator: str, entry: dict[str, Any], answer: str) -> float:
    """The generator's own score of an answer, in [0, 1]."""
    found = float(_scorer(generator)(answer, entry=entry))
    return min(1.0, max(0.0, found))


@functools.lru_cache(maxsize=128)
def _scorer(generator: str) -> Any:
    """Built once a process: some read their data anew each time."""
    return get_score_answer_fn(generator)
