"""Fits and verdicts in a process of their own, so that the driver's loop never waits for one.

That process keeps the curves: a job carries only the points that came since the job before, or a sweep of a
thousand runs would be packed and sent anew for each of its points.
"""

from __future__ import annotations

import multiprocessing
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from scalerl_lab.config.sweep import Sweep
from scalerl_lab.decide import Analysis, AnalysisJob, analyse, fit_together
from scalerl_lab.fit import FittedCurve, SweepRun
from scalerl_lab.parent import serve_parent
from scalerl_lab.records import EvalPoint

Plot = Callable[[FittedCurve, tuple[EvalPoint, ...], float, str], bytes]
"""Draws a fitted curve up to a compute, under a title; returns a PNG."""

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")

_LONGEST = 200
_known: dict[str, dict[str, SweepRun]] = {}
"""In the process of the analyses: sender -> run id -> its curve, as told so far."""


@dataclass(frozen=True, slots=True)
class News:
    """What a job adds to the curves that are known."""

    sender: str
    changed: tuple[tuple[SweepRun, int], ...]
    """Runs with only their new points, and how many of the known ones stay before them."""
    run_ids: tuple[str, ...]
    """All that the job is about, in its order."""

    def take(self) -> tuple[SweepRun, ...]:
        """Add the news to what is known; returns the curves of the job."""
        curves = _known.setdefault(self.sender, {})
        for run, num_kept in self.changed:
            kept = curves[run.run_id].points[:num_kept] if num_kept else ()
            curves[run.run_id] = replace(run, points=kept + run.points)
        return tuple(curves[run_id] for run_id in self.run_ids)


@dataclass(frozen=True, slots=True)
class Failure:
    """What stopped a job in its own process."""

    why: str
    lost: bool
    """Whether that process died, so that the same job may succeed in another."""


def answer_of(job: Future[_Answer]) -> _Answer | Failure:
    """What came of a job that is done; whatever stopped it there never stops who asked."""
    error = job.exception()
    if error is None:
        return job.result()
    said = " ".join(str(error).split())[:_LONGEST]
    return Failure(f"{type(error).__name__}: {said}" if said else type(error).__name__, _is_lost(error))


def _is_lost(error: BaseException) -> bool:
    return isinstance(error, BrokenExecutor)


@dataclass(slots=True)
class Analyst:
    """Has analyses and pictures made by an executor that does one after the other.

    Where its process has died, for want of memory say, another one takes its place.
    """

    executor: Executor
    _sender: str = field(default_factory=lambda: uuid.uuid4().hex)
    _told: dict[str, tuple[EvalPoint, ...]] = field(default_factory=dict)
    _own: list[Executor] = field(default_factory=list)

    def analyse(self, job: AnalysisJob) -> Future[Analysis]:
        """Ask for the verdict on a run."""
        return self.ask(_analyse, job.runs, replace(job, runs=()))

    def ask(
        self, question: Callable[[News, _Asked], _Answer], runs: Sequence[SweepRun], asked: _Asked
    ) -> Future[_Answer]:
        """Ask something else of the runs' curves; ``question`` is called where they are known."""
        return self._submit(question, runs, asked)

    def draw(
        self,
        plot: Plot,
        run_id: str,
        runs: Sequence[SweepRun],
        sweep: Sweep,
        up_to_gpu_hours: float,
        title: str,
    ) -> Future[bytes]:
        """Ask for a picture of a run's points, with its fit and bands by the fit of the whole sweep."""
        return self._submit(_draw, runs, plot, run_id, sweep, up_to_gpu_hours, title)

    def close(self) -> None:
        """End the processes that took another's place."""
        for executor in self._own:
            executor.shutdown(wait=False, cancel_futures=True)

    def _submit(
        self, job: Callable[..., _Answer], runs: Sequence[SweepRun], *asked: object
    ) -> Future[_Answer]:
        try:
            return self.executor.submit(job, self._news(runs), *asked)
        except BrokenExecutor:
            self.executor = analyst()
            self._own.append(self.executor)
            # The new process knows no curve yet.
            self._told.clear()
            return self.executor.submit(job, self._news(runs), *asked)

    def _news(self, runs: Sequence[SweepRun]) -> News:
        changed = []
        for run in runs:
            told = self._told.get(run.run_id)
            if told is run.points:
                continue
            self._told[run.run_id] = run.points
            if told == run.points:
                continue
            num_kept = len(told) if told is not None and run.points[: len(told)] == told else 0
            changed.append((replace(run, points=run.points[num_kept:]), num_kept))
        return News(self._sender, tuple(changed), tuple(run.run_id for run in runs))


def _analyse(news: News, job: AnalysisJob) -> Analysis:
    return analyse(replace(job, runs=news.take()))


def _draw(news: News, plot: Plot, run_id: str, sweep: Sweep, up_to_gpu_hours: float, title: str) -> bytes:
    fitted = fit_together(news.take(), sweep).runs[run_id]
    return plot(fitted, fitted.points, up_to_gpu_hours, title)


def analyst() -> Executor:
    """One process that does the analyses in turn and dies with the driver."""
    return ProcessPoolExecutor(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=serve_parent,
    )
