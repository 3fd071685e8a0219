"""A run written by hand, so that its story and its picture can be checked with pencil and paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scalerl_lab.config.sweep import Rule
from scalerl_lab.plan import plan_file
from scalerl_lab.records import (
    Action,
    Cause,
    Change,
    Decision,
    EvalPoint,
    Evidence,
    Fit,
    FitStatus,
    Forecast,
    Interval,
    Order,
    OrderKind,
    PlannedRun,
    Role,
    RunState,
    RunStatus,
    TrialEnded,
    TrialStarted,
)
from scalerl_lab.store import DecisionRow, OrderRow, TrialRow
from tests.report.handmade import around

BEGAN = 1_790_000_000.0
"""2026-09-21 14:13:20 UTC."""
BUDGET = 16_000.0
RULE = Rule(kill_probability=0.95)
RATES = {0: 0.20, 1000: 0.29, 2000: 0.34, 4000: 0.40, 6000: 0.43, 8000: 0.46}
"""GPU-hours -> pass rate; a point comes every minute, step 10 for each 1,000 GPU-hours."""
FIT = Fit(
    run_id="d0",
    status=FitStatus.IDENTIFIED,
    why="The window ends at 2.0 midpoints.",
    num_points=5,
    first_gpu_hours=1000.0,
    last_gpu_hours=8000.0,
    r0=0.20,
    ceiling=around(0.60, 0.02),
    efficiency=around(1.0, 0.1),
    midpoint=around(4000.0, 500.0),
    residual_sd=0.01,
)
FORECAST = Forecast(BUDGET, Interval(0.53, 0.50, 0.57, 0.48, 0.60))
EVIDENCE = Evidence(FIT, FORECAST, around(0.66, 0.01), around(-0.06, 0.02), 0.97, 0.02)
NOTHING = Evidence(None, None, None, None, None, None)


def point(gpu_hours: float, pass_rate: float) -> EvalPoint:
    """A measurement; its time and step follow from its compute."""
    at = BEGAN + 60.0 * gpu_hours / 1000.0
    return EvalPoint(
        1,
        at,
        round(gpu_hours / 100),
        gpu_hours,
        pass_rate,
        0.008,
        256,
        2048,
        0.02,
        61.0,
        0.4,
        round(gpu_hours),
    )


def run(
    status: RunStatus = RunStatus.KILLED,
    *,
    granted: float = BUDGET,
    until: float = 8000.0,
    reused: bool = False,
) -> RunState:
    """The run, with its points up to a compute."""
    spec = replace(plan_file("loo_16k", "laptop").runs[0].spec, run_id="d0", seed=0)
    changes = (Change("loss", "cispo", "ppo_clip"),)
    planned = PlannedRun("loo-1", "dapo_loss", Role.ARM, changes, BUDGET, spec, 3)
    points = tuple(point(float(hours), rate) for hours, rate in RATES.items() if hours <= until)
    return RunState(planned, status, granted, points, 1, 0, None, reused)


def decided(
    number: int,
    gpu_hours: float,
    action: Action = Action.CONTINUE,
    cause: Cause = Cause.NOT_IDENTIFIED,
    *,
    granted: float = BUDGET,
    evidence: Evidence = NOTHING,
    reason: str = "",
    acted: bool = True,
) -> DecisionRow:
    """A decision, half a minute after the point it rests on."""
    at = BEGAN + 60.0 * gpu_hours / 1000.0 + 30.0
    said = reason or f"Sentence {number}."
    decision = Decision("d0", round(gpu_hours / 100), gpu_hours, action, cause, said, granted, evidence)
    return DecisionRow(number, "loo-1", at, decision, at + 1.0 if acted else None)


def looks_and_kill() -> list[DecisionRow]:
    """Three decisions to go on, then the kill."""
    return [
        decided(1, 1000.0),
        decided(2, 2000.0),
        decided(3, 4000.0, cause=Cause.WITHIN_MARGIN, evidence=replace(EVIDENCE, probability_below=0.5)),
        decided(
            4,
            8000.0,
            Action.KILL,
            Cause.CEILING_BELOW,
            evidence=EVIDENCE,
            reason="The ceiling 0.600 lies below the control's by more than 0.02 with probability 0.970.",
        ),
    ]


def trial(number: int, at: float, *, resumed_step: int = 0, ended: TrialEnded | None = None) -> TrialRow:
    """An attempt on the machine ``host``."""
    return TrialRow(TrialStarted(number, at, resumed_step, "host", 1, "v"), ended)


def ordered(
    kind: OrderKind,
    *,
    run_id: str | None = "d0",
    settled: bool = True,
    refused: str | None = None,
    at: float = BEGAN + 300.0,
) -> OrderRow:
    """An order five minutes after the beginning."""
    order = Order("loo-1", run_id, kind, None, "ada@lab", "a hunch.", at)
    return OrderRow(7, order, at + 1.0 if settled else None, refused)


def acts(rows: Sequence[DecisionRow]) -> list[str]:
    """What decisions do, for comparison."""
    return [row.decision.action.value for row in rows]
