"""A run small enough to be trained many times in a test, and a supervisor that remembers."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scalerl_lab.config.profile import FlopsMeter
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.records import (
    SPEED_FIELDS,
    EvalPoint,
    Fact,
    LedgerEntry,
    LedgerKind,
    Measurement,
    PassCounts,
    RunSpec,
    TrialEnded,
)
from scalerl_lab.rl import train

FLOPS_PER_GPU_HOUR = 1e6


def tiny_recipe(**changes: Any) -> Recipe:
    """A recipe of every choice of ScaleRL, at the smallest size."""
    settings: dict[str, Any] = {
        "name": "tiny",
        "model": {"type": "llama", "layers": 1, "width": 16, "heads": 2, "mlp_width": 16},
        "tasks": {
            "type": "chain_arithmetic",
            "modulus": 3,
            "operations": ["+"],
            "min_steps": 1,
            "max_steps": 6,
            "num_train": 64,
            "num_heldout": 16,
        },
        "warm_start": {
            "type": "demonstrations",
            "steps": 60,
            "demonstrations_per_step": 16,
            "lr": 1e-2,
        },
        "sampling": {"generations_per_prompt": 4, "max_response_tokens": 10},
        "batch": {"prompts_per_step": 4},
        "off_policy": {"type": "pipeline", "max_lag": 3},
        "length_control": {
            "type": "interruption",
            "low_fraction": 0.6,
            "high_fraction": 0.8,
            "phrase": "#",
        },
        "optimizer": {"lr": 1e-3, "warmup_steps": 2},
        "evaluation": {"every_steps": 4, "num_prompts": 8, "samples_per_prompt": 2},
    }
    return Recipe.model_validate(settings | changes)


def spec_of(recipe: Recipe, seed: int = 0, run_id: str = "cafe") -> RunSpec:
    """A run of it under a flops meter."""
    return RunSpec(run_id, recipe, seed, FlopsMeter(flops_per_gpu_hour=FLOPS_PER_GPU_HOUR))


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


class Recorder:
    """A supervisor that keeps facts once, as a run's folder does."""

    def __init__(self, granted: float, stop_at: int | None = None, kill_at: int | None = None) -> None:
        self.granted = granted
        self.stop_at = stop_at
        self.kill_at = kill_at
        self.facts: list[Fact] = []
        self.steps: list[int] = []
        self.on_emit: Callable[[Fact], None] = lambda fact: None

    def emit(self, fact: Fact) -> None:
        """Keep a fact unless it is there."""
        if key_of(fact) not in {key_of(each) for each in self.facts}:
            self.facts.append(fact)
        self.on_emit(fact)

    def granted_gpu_hours(self) -> float:
        """As set."""
        return self.granted

    def stop_requested(self) -> bool:
        """From the step that was set."""
        return self.stop_at is not None and bool(self.steps) and self.steps[-1] >= self.stop_at

    def beat(self, step: int, gpu_hours: float, flops: int) -> None:
        """Note the step, and die where told to."""
        self.steps.append(step)
        if step == self.kill_at:
            self.kill_at = None
            raise Killed

    @property
    def points(self) -> list[EvalPoint]:
        """Points on file."""
        return [fact for fact in self.facts if isinstance(fact, EvalPoint)]

    def entries(self, kind: LedgerKind) -> list[LedgerEntry]:
        """Ledger entries of a kind."""
        return [f for f in self.facts if isinstance(f, LedgerEntry) and f.kind is kind]


def key_of(fact: Fact) -> tuple[object, ...]:
    """What makes two facts the same, as the supervisor's contract says."""
    if isinstance(fact, LedgerEntry):
        return ("ledger", fact.kind, fact.from_step, fact.to_step)
    if isinstance(fact, TrialEnded):
        return ("ended", fact.trial, fact.step)
    if isinstance(fact, Measurement):
        return ("measurement", fact.step, fact.problem_set, fact.domain, fact.metric)
    if isinstance(fact, PassCounts):
        return ("counts", fact.step, fact.problem_set, fact.domain)
    return (type(fact).__name__, getattr(fact, "step", None))


def numbers_of(points: list[EvalPoint]) -> list[EvalPoint]:
    """Points without the attempt, the time they were measured in, and the speed of the machine."""
    return [dataclasses.replace(p, trial=0, at=0.0, **dict.fromkeys(SPEED_FIELDS)) for p in points]


_SHARED_CACHE = tempfile.TemporaryDirectory()
"""Warm starts of all tests: the same content is built once a session."""


def run_to(recorder: Recorder, root: Path, recipe: Recipe, trial: int = 1, seed: int = 0) -> TrialEnded:
    """Train in ``root / run``."""
    return train(spec_of(recipe, seed), root / "run", Path(_SHARED_CACHE.name), trial, recorder)
