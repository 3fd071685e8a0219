"""A trainer whose curve is the law itself: checkpoints, facts and grants as the real one, no model.

Its state is one number in ``checkpoints/step.json``, written before the facts of its step, so a crash
between the two is the same crash as the real trainer's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from scalerl_lab.launch.worker import FolderSupervisor, Trainer
from scalerl_lab.records import (
    CheckpointSaved,
    EndReason,
    EvalPoint,
    LedgerEntry,
    LedgerKind,
    RunSpec,
    TrialEnded,
)

GPU_HOURS_PER_STEP = 100.0
EVERY_STEPS = 5


class DiedError(RuntimeError):
    """Stands for a process that dies."""


def law(ceiling: float) -> Callable[[float], float]:
    """Pass rate against GPU-hours with start 0.2, exponent 2 and midpoint 2,500."""

    def pass_rate(gpu_hours: float) -> float:
        gain = 0.0 if gpu_hours == 0 else 1.0 / (1.0 + (2500.0 / gpu_hours) ** 2.0)
        return 0.2 + (ceiling - 0.2) * gain

    return pass_rate


def point(trial: int, step: int, pass_rate: float) -> EvalPoint:
    """A measurement of 256 prompts with 8 samples each."""
    hours = step * GPU_HOURS_PER_STEP
    return EvalPoint(trial, 0.0, step, hours, pass_rate, 0.006, 256, 2048, 0.05, 12.0, 0.5, step * 1000)


class FakeTrainer:
    """Walks along the law; dies at the steps it is told to, once each, before or after its facts."""

    def __init__(
        self,
        ceilings: Callable[[RunSpec], float],
        die_at: tuple[int, ...] = (),
        die_before_facts: bool = False,
        collapse_after: int | None = None,
    ) -> None:
        self._ceilings = ceilings
        self._die_at = set(die_at)
        self._die_before_facts = die_before_facts
        self._collapse_after = collapse_after
        self.steps_taken: list[int] = []

    def __call__(
        self, spec: RunSpec, folder: Path, cache: Path, trial: int, supervisor: FolderSupervisor
    ) -> TrialEnded:
        pass_rate = law(self._ceilings(spec))
        saved = folder / "checkpoints" / "step.json"
        saved.parent.mkdir(exist_ok=True)
        step = json.loads(saved.read_text()) if saved.exists() else None
        if step is None:
            step = 0
            saved.write_text("0")
        self._tell(step, trial, pass_rate, supervisor)
        while step * GPU_HOURS_PER_STEP < supervisor.granted_gpu_hours():
            if supervisor.stop_requested():
                return self._end(supervisor, trial, step, EndReason.STOPPED)
            step += 1
            self.steps_taken.append(step)
            supervisor.beat(step, step * GPU_HOURS_PER_STEP, step * 1000)
            at_grant = step * GPU_HOURS_PER_STEP >= supervisor.granted_gpu_hours()
            if step % EVERY_STEPS == 0 or at_grant:
                saved.write_text(str(step))
                if self._die_before_facts:
                    self._maybe_die(step)
                self._tell(step, trial, pass_rate, supervisor)
            self._maybe_die(step)
        return self._end(supervisor, trial, step, EndReason.GRANT_REACHED)

    def _tell(
        self, step: int, trial: int, pass_rate: Callable[[float], float], supervisor: FolderSupervisor
    ) -> None:
        hours = step * GPU_HOURS_PER_STEP
        rate = pass_rate(hours)
        if self._collapse_after is not None and step > self._collapse_after:
            rate = 0.1
        start = max(0, (step - 1) // EVERY_STEPS * EVERY_STEPS)
        supervisor.emit(point(trial, step, rate))
        supervisor.emit(
            LedgerEntry(
                trial,
                0.0,
                LedgerKind.TRAIN,
                hours - start * GPU_HOURS_PER_STEP,
                0.1,
                (step - start) * 1000,
                start,
                step,
            )
        )
        supervisor.emit(CheckpointSaved(trial, 0.0, step, hours, "checkpoints/step.json", "0", 1))

    def _maybe_die(self, step: int) -> None:
        if step in self._die_at:
            self._die_at.discard(step)
            raise DiedError(f"died at step {step}")

    @staticmethod
    def _end(supervisor: FolderSupervisor, trial: int, step: int, reason: EndReason) -> TrialEnded:
        ended = TrialEnded(trial, 0.0, step, step * GPU_HOURS_PER_STEP, reason)
        supervisor.emit(ended)
        return ended


def trainer(fake: FakeTrainer) -> Trainer:
    """The fake as the worker wants it."""

    def resumable_step(folder: Path) -> int:
        saved = folder / "checkpoints" / "step.json"
        return int(saved.read_text()) if saved.exists() else 0

    return Trainer(fake, resumable_step)
