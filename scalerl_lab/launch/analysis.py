"""Fits and verdicts in a process of their own, so that the driver's loop never waits for one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor

from scalerl_lab.config.sweep import Sweep
from scalerl_lab.decide import fit_together
from scalerl_lab.fit import FittedCurve, SweepRun
from scalerl_lab.launch.locking import serve_parent
from scalerl_lab.records import EvalPoint

Plot = Callable[[FittedCurve, tuple[EvalPoint, ...], float, str], bytes]
"""Draws a fitted curve up to a compute, under a title; returns a PNG."""


def draw(
    plot: Plot, run_id: str, runs: Sequence[SweepRun], sweep: Sweep, up_to_gpu_hours: float, title: str
) -> bytes:
    """Draw a run's points, and its fit and bands by the fit of the whole sweep."""
    fitted = fit_together(runs, sweep).runs[run_id]
    return plot(fitted, fitted.points, up_to_gpu_hours, title)


def analyst() -> Executor:
    """One process that does the analyses in turn and dies with the driver."""
    return ProcessPoolExecutor(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=serve_parent,
    )
