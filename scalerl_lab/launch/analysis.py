"""Fits and verdicts in a process of their own, so that the driver's loop never waits for one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from scalerl_lab.config.sweep import Rule, Sweep
from scalerl_lab.decide import decide
from scalerl_lab.fit import FittedCurve, fit_curve
from scalerl_lab.launch.locking import die_with_parent
from scalerl_lab.records import Decision, EvalPoint, Fit, Forecast, RunState

Curve = tuple[str, tuple[EvalPoint, ...]]
"""A run's id and its points."""
Plot = Callable[[FittedCurve, tuple[EvalPoint, ...], float, str], bytes]
"""Draws a fitted curve up to a compute, under a title; returns a PNG."""


@dataclass(frozen=True, slots=True)
class AnalysisJob:
    """All that the verdict on one run rests on, at one moment."""

    sweep: Sweep
    run: RunState
    siblings: tuple[Curve, ...]
    """The other seeds of the run's arm."""
    controls: tuple[Curve, ...]
    free_gpu_hours: float


@dataclass(frozen=True, slots=True)
class Analysis:
    """A run's fit, what it says of the budget, and the verdict."""

    fit: Fit
    forecasts: tuple[Forecast, ...]
    decision: Decision


@lru_cache(maxsize=256)
def _fitted(
    run_id: str, points: tuple[EvalPoint, ...], fit_start_gpu_hours: float, rule_json: str
) -> FittedCurve:
    rule = Rule.model_validate_json(rule_json)
    return fit_curve(run_id, points, fit_start_gpu_hours=fit_start_gpu_hours, rule=rule)


def fit_one(curve: Curve, sweep: Sweep) -> FittedCurve:
    """Fit one curve by the sweep's rule; the same points are fitted once per process."""
    run_id, points = curve
    return _fitted(run_id, points, sweep.fit_start_gpu_hours, sweep.rule.model_dump_json())


def analyse(job: AnalysisJob) -> Analysis:
    """Fit the run and everything it is compared with, and decide; pure."""
    fitted = fit_one((job.run.planned.run_id, job.run.points), job.sweep)
    verdict = decide(
        job.run,
        fitted,
        [fit_one(curve, job.sweep) for curve in job.siblings],
        [fit_one(curve, job.sweep) for curve in job.controls],
        sweep=job.sweep,
        free_gpu_hours=job.free_gpu_hours,
    )
    budget = job.run.planned.budget_gpu_hours
    forecast = fitted.forecast(budget)
    return Analysis(fitted.fit, (forecast,) if forecast is not None else (), verdict)


def draw(plot: Plot, curve: Curve, sweep: Sweep, up_to_gpu_hours: float, title: str) -> bytes:
    """Draw a run's points, fit and bands."""
    return plot(fit_one(curve, sweep), curve[1], up_to_gpu_hours, title)


def analyst() -> Executor:
    """One process that does the analyses in turn and dies with the driver."""
    return ProcessPoolExecutor(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=die_with_parent,
    )
