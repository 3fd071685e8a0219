"""A verdict on one run from the points of its whole sweep: which fit it rests on, and the rule; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from scalerl_lab.config.sweep import Rule, Sweep
from scalerl_lab.decide.divergence import find_divergence
from scalerl_lab.decide.extension import Step, next_step
from scalerl_lab.decide.looks import at_grant
from scalerl_lab.decide.rule import Prospects, decide
from scalerl_lab.decide.worth import Ranked, rank, to_come
from scalerl_lab.fit import FittedCurve, SweepFit, SweepRun, fit_curve, fit_sweep
from scalerl_lab.records import Decision, EvalPoint, Fit, Forecast, RunState


@dataclass(frozen=True, slots=True)
class AnalysisJob:
    """All that the verdict on one run rests on, at one moment."""

    sweep: Sweep
    run: RunState
    runs: tuple[SweepRun, ...]
    """All runs of the sweep but those that ended at a number that is not finite; the run included."""
    control: str
    """Name of the control's arm."""
    free_gpu_hours: float
    rivals: tuple[Step, ...] = ()
    """Next steps of other runs that may ask for hours (``is_rival``): those that say more come first."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """A run's fit, what it says of the budget, and the verdict."""

    fit: Fit
    forecasts: tuple[Forecast, ...]
    decision: Decision


@lru_cache(maxsize=32)
def _swept(runs: tuple[SweepRun, ...], fit_start_gpu_hours: float, rule_json: str) -> SweepFit:
    rule = Rule.model_validate_json(rule_json)
    apart = [run.run_id for run in runs if find_divergence(run.points, rule.divergence) is not None]
    return fit_sweep(runs, fit_start_gpu_hours=fit_start_gpu_hours, rule=rule, apart=apart)


@lru_cache(maxsize=8)
def _ranked(runs: tuple[SweepRun, ...], steps: tuple[Step, ...], sweep_json: str, control: str) -> Ranked:
    """Once for all runs that are asked about at one moment."""
    sweep = Sweep.model_validate_json(sweep_json)
    return rank(fit_together(runs, sweep), steps, sweep, control)


def forget_fits() -> None:
    """Forget the joint fits made so far, so that the next verdict takes as long as it would on its own."""
    _swept.cache_clear()
    _ranked.cache_clear()


def _in_order(runs: Sequence[SweepRun]) -> tuple[SweepRun, ...]:
    return tuple(sorted(runs, key=lambda run: run.run_id))


def _of_fits(rule: Rule) -> str:
    """What fits depend on: rules that differ otherwise share them."""
    return rule.model_dump_json(
        include={"min_points", "min_window_midpoints", "max_ceiling_width", "divergence"}
    )


def _fit_alone(run_id: str, points: tuple[EvalPoint, ...], sweep: Sweep) -> FittedCurve:
    return fit_curve(run_id, points, fit_start_gpu_hours=sweep.fit_start_gpu_hours, rule=sweep.rule)


def fit_together(runs: Sequence[SweepRun], sweep: Sweep) -> SweepFit:
    """Fit a sweep's runs together, the diverged ones apart; the same points once per process."""
    return _swept(_in_order(runs), sweep.fit_start_gpu_hours, _of_fits(sweep.rule))


def analyse(job: AnalysisJob) -> Analysis:
    """Decide on a run by the fit of the whole sweep; one that has diverged by its own points; pure."""
    run, sweep = job.run, job.sweep
    prospects = Prospects(job.free_gpu_hours)
    if find_divergence(run.points, sweep.rule.divergence) is not None:
        fitted = _fit_alone(run.planned.run_id, run.points, sweep)
        verdict = decide(run, fitted, {}, control=job.control, sweep=sweep, prospects=prospects)
    else:
        found = fit_together(job.runs, sweep)
        fitted = found.runs[run.planned.run_id]
        if at_grant(run):
            own = Step(run.planned.run_id, next_step(run, sweep))
            every = tuple(sorted({own, *job.rivals}, key=lambda step: step.run_id))
            ranked = _ranked(_in_order(job.runs), every, sweep.model_dump_json(), job.control)
            prospects = Prospects(job.free_gpu_hours, ranked.num_before(own.run_id), ranked.worth[own.run_id])
        if sweep.rule.stop_resolved:
            changes = to_come(found, job.runs, run.planned, sweep, job.control)
            prospects = replace(prospects, to_come=changes)
        verdict = decide(run, fitted, found.arms, control=job.control, sweep=sweep, prospects=prospects)
    forecast = fitted.forecast(run.planned.budget_gpu_hours)
    return Analysis(fitted.fit, (forecast,) if forecast is not None else (), verdict)
