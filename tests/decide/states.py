"""Runs, sweeps and hand-made fits to decide on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from scalerl_lab.config.evaluation import Evaluation
from scalerl_lab.config.profile import FlopsMeter
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.start import LlamaModel
from scalerl_lab.config.sweep import Arm, Budget, LeaveOneOut, Rule, Sweep
from scalerl_lab.config.tasks import ChainArithmetic
from scalerl_lab.decide import Prospects, decide
from scalerl_lab.fit import ArmDraws, FittedCurve, PooledCeiling, fit_curve, interval_of
from scalerl_lab.fit.posterior import Draws
from scalerl_lab.records import (
    Decision,
    EvalPoint,
    Fit,
    FitStatus,
    PlannedRun,
    Role,
    RunSpec,
    RunState,
    RunStatus,
)
from tests.fit.curves import point

RECIPE = Recipe(
    name="small", model=LlamaModel(), tasks=ChainArithmetic(), evaluation=Evaluation(num_prompts=256)
)
BUDGET = 16000.0
NORMAL = np.array([NormalDist().inv_cdf((k + 0.5) / 4096) for k in range(4096)])


def sweep(**rule: Any) -> Sweep:
    """The 16k leave-one-out question, with what is given changed in its rule."""
    return Sweep(
        name="loo",
        recipe="small",
        question=LeaveOneOut(arms={"reverted": Arm(set={"zero_variance": "keep"})}),
        budget=Budget(run_gpu_hours=BUDGET),
        rule=Rule.model_validate(rule),
    )


def curve_points(last: float = 9850.0, rate: float = 0.6, *, num: int = 12) -> tuple[EvalPoint, ...]:
    """A level curve of ``num`` points up to a compute."""
    return tuple(point(i, last * i / (num - 1), rate) for i in range(num))


def run_state(
    points: Sequence[EvalPoint],
    *,
    role: Role = Role.ARM,
    arm: str = "reverted",
    seed: int = 0,
    granted: float = BUDGET,
) -> RunState:
    """A run in its sweep."""
    run_id = f"{arm}-{seed}"
    return RunState(
        planned=PlannedRun(
            sweep_id="sweep",
            arm=arm,
            role=role,
            changes=(),
            budget_gpu_hours=BUDGET,
            spec=RunSpec(run_id, RECIPE, seed, FlopsMeter(flops_per_gpu_hour=1.0)),
            order=0,
        ),
        status=RunStatus.RUNNING,
        granted_gpu_hours=granted,
        points=tuple(points),
        trials=1,
        failures=0,
        last_decision=None,
        reused=False,
    )


def fit_with(
    ceiling: float,
    sd: float = 0.005,
    *,
    identified: bool = True,
    points: Sequence[EvalPoint] | None = None,
    efficiency: float = 1.9,
    midpoint: float = 3177.0,
) -> FittedCurve:
    """A fit whose ceiling is normal, with everything else known."""
    known = np.ones(NORMAL.size)
    draws = Draws(
        r0=0.4 * known,
        A=np.clip(ceiling + sd * NORMAL, 0.0, 1.0),
        B=efficiency * known,
        C_mid=midpoint * known,
        sigma=0.0045 * known,
        kind=np.zeros(NORMAL.size, dtype=np.int64),
        lawful=np.ones(NORMAL.size, dtype=np.bool_),
        slope=0.0 * known,
        edge_mass=0.0,
    )
    chosen = curve_points() if points is None else tuple(points)
    fit = Fit(
        run_id="run",
        status=FitStatus.IDENTIFIED if identified else FitStatus.NOT_IDENTIFIED,
        why="It reaches 3.1 midpoints." if identified else "The window ends at 1.2 midpoints, 2 demanded.",
        num_points=10,
        first_gpu_hours=1542.0,
        last_gpu_hours=chosen[-1].gpu_hours,
        r0=0.4,
        ceiling=interval_of(draws.A),
        efficiency=interval_of(draws.B),
        midpoint=interval_of(draws.C_mid),
        residual_sd=0.0045,
    )
    return FittedCurve(fit, chosen, draws)


def too_few() -> FittedCurve:
    """A fit of a run that has just begun."""
    return fit_curve("run", curve_points(num=2), fit_start_gpu_hours=1500.0, rule=Rule())


def with_points(fitted: FittedCurve, points: Sequence[EvalPoint]) -> FittedCurve:
    """The same fit over other points."""
    return dataclasses.replace(fitted, points=tuple(points))


def arm_of(seeds: Sequence[FittedCurve], shuffle: int) -> PooledCeiling | None:
    """An arm whose ceiling is the mean of its seeds', all of them independent."""
    drawn = [seed.draws for seed in seeds if seed.draws is not None]
    if not drawn:
        return None
    rng = np.random.default_rng(shuffle)
    A = np.mean([rng.permutation(draws.A) for draws in drawn], axis=0)
    law = ArmDraws(drawn[0].r0, A, drawn[0].B, drawn[0].C_mid)
    return PooledCeiling(law, len(drawn), any(seed.identified for seed in seeds))


def decide_on(
    run: RunState,
    fitted: FittedCurve,
    siblings: Sequence[FittedCurve],
    controls: Sequence[FittedCurve],
    *,
    sweep: Sweep,
    free_gpu_hours: float,
    worthier: int = 0,
    worth: float = 1.0,
) -> Decision:
    """The decision where the arm's ceiling is that of the run and its siblings."""
    found = {run.planned.arm: arm_of([fitted, *siblings], 1), "control": arm_of(controls, 2)}
    arms = {name: arm for name, arm in found.items() if arm is not None}
    prospects = Prospects(free_gpu_hours, worthier, worth)
    return decide(run, fitted, arms, control="control", sweep=sweep, prospects=prospects)
