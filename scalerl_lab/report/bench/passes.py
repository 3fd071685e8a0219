"""Seconds of a decision pass: verdicts on some runs of a large sweep, all of which has new points.

Verdicts are the driver's own (``analyse``), from the joint fit of all runs; only the control's seeds and the
arms that are asked about are fitted one by one, the others as far as they tell the population.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scalerl_lab.config.sweep import Rule
from scalerl_lab.decide.analysis import AnalysisJob, analyse
from scalerl_lab.decide.recorded import record
from scalerl_lab.fit import SweepRun
from scalerl_lab.fit.published import FIT_START_GPU_HOURS
from scalerl_lab.fit.simulate import BUDGET_GPU_HOURS, SweepKind, arms_of, simulate_run
from scalerl_lab.records import EvalPoint, PlannedRun, RunState, RunStatus
from scalerl_lab.report.bench.decision_cases import question_over

_CONTROL_SEEDS = 3
_AT_LEAST = 0.75
"""Share of its budget that the youngest run has used."""


@dataclass(frozen=True, slots=True)
class PassTiming:
    """Seconds of verdicts on ``due`` of ``runs`` runs of about ``points`` points each."""

    runs: int
    points: int
    due: int
    seconds: float
    slowest: float
    """Of one verdict: the first, with the population of all runs."""


def time_pass(
    runs: int, points: int, due: int, *, seed: int = 0, clock: Callable[[], float] = time.perf_counter
) -> PassTiming:
    """Time one pass of a leave-one-out sweep whose runs are between three quarters and the end of their way.

    Args:
        runs: of the sweep, three of them seeds of the control.
        points: of a run at its budget.
        due: how many runs a verdict is asked of.
        seed: of the curves.
        clock: seconds.
    """
    rng = np.random.default_rng(seed)
    truths = [arm.truth for arm in arms_of(SweepKind.LEAVE_ONE_OUT)]
    arms = ["control"] * _CONTROL_SEEDS + [f"arm{i}" for i in range(runs - _CONTROL_SEEDS)]
    spacing = BUDGET_GPU_HOURS / points
    curves = [
        simulate_run(
            truths[max(i - _CONTROL_SEEDS + 1, 0) % len(truths)],
            rng,
            name=f"run{i}",
            budget_gpu_hours=BUDGET_GPU_HOURS,
            spacing_gpu_hours=spacing,
        )
        for i in range(runs)
    ]
    sweep = question_over(
        list(dict.fromkeys(arms)),
        kind="leave_one_out",
        budget_gpu_hours=BUDGET_GPU_HOURS,
        fit_start_gpu_hours=FIT_START_GPU_HOURS,
        rule=Rule(),
    )
    recorded = record(sweep, curves, arms, "control")
    seen = [run.points[: _num_seen(len(run.points), rng)] for run in recorded.runs]
    told = tuple(
        SweepRun(run.run_id, run.planned.arm, so_far) for run, so_far in zip(recorded.runs, seen, strict=True)
    )
    places = np.linspace(_CONTROL_SEEDS, runs - 1, due).astype(int).tolist()
    jobs = [
        AnalysisJob(sweep, _running(recorded.runs[place].planned, seen[place]), told, "control", 0.0)
        for place in places
    ]
    took = []
    for job in jobs:
        began = clock()
        analyse(job)
        took.append(clock() - began)
    return PassTiming(runs, points, due, sum(took), max(took))


def _num_seen(points: int, rng: np.random.Generator) -> int:
    return max(int(points * rng.uniform(_AT_LEAST, 1.0)), 1)


def _running(planned: PlannedRun, points: tuple[EvalPoint, ...]) -> RunState:
    return RunState(
        planned=planned,
        status=RunStatus.RUNNING,
        granted_gpu_hours=planned.budget_gpu_hours,
        points=points,
        trials=1,
        failures=0,
        last_decision=None,
        reused=False,
    )
