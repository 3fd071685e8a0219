"""One trial: take the run's lock, resume, train, and leave every fact in the run's folder.

The worker knows neither Ray nor SQL nor MLflow. It can be killed at any instruction: the lock goes
with the process, facts are on disk before they count, and the next trial books what was lost.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scalerl_lab.launch.locking import exclusive
from scalerl_lab.launch.run_folder import FactWriter, Orders, Progress, RunFolder
from scalerl_lab.records import (
    EndReason,
    EvalPoint,
    Fact,
    LedgerEntry,
    LedgerKind,
    RunSpec,
    TrialEnded,
    TrialStarted,
)

_PROGRESS_EVERY_S = 0.25


class FolderSupervisor:
    """The trainer's supervisor, backed by the files of a run's folder."""

    def __init__(self, folder: RunFolder, trial: int, on_point: Callable[[EvalPoint], None] | None) -> None:
        self._folder = folder
        self._trial = trial
        self._on_point = on_point
        self._writer = FactWriter(folder)
        self._orders = folder.orders()
        self._stamp = folder.orders_stamp()
        self._started = time.monotonic()
        self._last_progress = 0.0

    def emit(self, fact: Fact) -> None:
        """Put a fact on file, once."""
        self._writer.append(fact)
        if isinstance(fact, EvalPoint) and self._on_point is not None:
            self._on_point(fact)

    def granted_gpu_hours(self) -> float:
        """Compute this run may use, as the driver said last."""
        return self._newest_orders().granted_gpu_hours

    def stop_requested(self) -> bool:
        """Whether the driver wants the run to stop."""
        return self._newest_orders().stop

    def beat(self, step: int, gpu_hours: float, flops: int) -> None:
        """Note a finished step, so that a crash can be billed."""
        now = time.monotonic()
        if now - self._last_progress >= _PROGRESS_EVERY_S:
            self._last_progress = now
            wall_s = now - self._started
            self._folder.write_progress(Progress(self._trial, step, gpu_hours, flops, wall_s))

    def close(self) -> None:
        """Close the facts file."""
        self._writer.close()

    def _newest_orders(self) -> Orders:
        stamp = self._folder.orders_stamp()
        if stamp != self._stamp:
            self._orders, self._stamp = self._folder.orders(), stamp
        return self._orders


def lost_work(
    before: Progress | None, resumed_step: int, resumed_gpu_hours: float, resumed_flops: int, trial: int
) -> LedgerEntry | None:
    """What an earlier trial computed after the checkpoint that this one resumes from.

    Args:
        before: the last progress on file.
        resumed_step: optimiser step of the checkpoint; 0 for a fresh start.
        resumed_gpu_hours: training compute at that step.
        resumed_flops: counted operations at that step.
        trial: number of the trial that starts now.

    Returns:
        A LOST entry, or None when nothing was lost.
    """
    if before is None or before.trial == trial or before.step <= resumed_step:
        return None
    return LedgerEntry(
        trial=before.trial,
        at=time.time(),
        kind=LedgerKind.LOST,
        gpu_hours=before.gpu_hours - resumed_gpu_hours,
        wall_s=0.0,
        flops=before.flops - resumed_flops,
        from_step=resumed_step,
        to_step=before.step,
    )


@dataclass(frozen=True, slots=True)
class Trainer:
    """What executes a run: the real one, or a stand-in for tests of everything around it."""

    train: Callable[[RunSpec, Path, Path, int, FolderSupervisor], TrialEnded]
    resumable_step: Callable[[Path], int]


def real_trainer() -> Trainer:
    """The lab's own trainer; imports torch."""
    from scalerl_lab.rl import train
    from scalerl_lab.rl.checkpoint_index import resumable_step

    return Trainer(train, resumable_step)


def execute(
    folder_path: Path,
    cache: Path,
    trial: int,
    *,
    code_version: str,
    on_point: Callable[[EvalPoint], None] | None = None,
    trainer: Trainer | None = None,
) -> TrialEnded:
    """Execute one trial of the run in ``folder_path``, from its newest checkpoint to its grant.

    Args:
        folder_path: the run's folder, with its spec and orders.
        cache: shared warm starts.
        trial: number of this attempt, from 1.
        code_version: written into the trial's first fact.
        on_point: told of every point as it is measured.
        trainer: what executes the run; the lab's own when absent.

    Returns:
        How the trial ended. A failure is put on file as a fact and raised again.

    Raises:
        LockHeld: another worker holds this run's folder.
    """
    began = time.monotonic()
    folder = RunFolder(folder_path)
    with exclusive(folder.lock, wait_s=60.0, what=f"run {folder_path.name}"):
        supervisor = FolderSupervisor(folder, trial, on_point)
        try:
            spec = folder.spec()
            trainer = trainer or real_trainer()
            step = trainer.resumable_step(folder_path)
            point = _point_at(folder, step)
            supervisor.emit(
                TrialStarted(trial, time.time(), step, socket.gethostname(), os.getpid(), code_version)
            )
            lost = lost_work(
                folder.progress(),
                step,
                point.gpu_hours if point else 0.0,
                point.flops if point else 0,
                trial,
            )
            if lost is not None:
                supervisor.emit(lost)
            supervisor.emit(_overhead(trial, step, time.monotonic() - began, spec))
            return trainer.train(spec, folder_path, cache, trial, supervisor)
        # The one catch-all of the project: a failure of any kind becomes a fact, then goes on its way.
        except BaseException as error:
            point = _point_at(folder, None)
            supervisor.emit(
                TrialEnded(
                    trial,
                    time.time(),
                    point.step if point else 0,
                    point.gpu_hours if point else 0.0,
                    EndReason.FAILED,
                    "".join(traceback.format_exception_only(error)).strip(),
                )
            )
            raise
        finally:
            supervisor.close()


def _point_at(folder: RunFolder, step: int | None) -> EvalPoint | None:
    points = [f for f in folder.read_facts() if isinstance(f, EvalPoint) and (step is None or f.step <= step)]
    return points[-1] if points else None


def _overhead(trial: int, step: int, wall_s: float, spec: RunSpec) -> LedgerEntry:
    gpu_hours = 0.0
    if spec.meter.type == "wall":
        gpu_hours = wall_s / 3600 * max(spec.recipe.resources.gpus, 1)
    return LedgerEntry(trial, time.time(), LedgerKind.OVERHEAD, gpu_hours, wall_s, 0, step, step)
