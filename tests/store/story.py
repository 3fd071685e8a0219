"""A small sweep to remember: a control with two seeds, two arms, and what their workers saw."""

from __future__ import annotations

from dataclasses import replace

from scalerl_lab.config.evaluation import Evaluation
from scalerl_lab.config.objective import PPOClip, TokenAggregation
from scalerl_lab.config.profile import FlopsMeter, Profile
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.start import LlamaModel
from scalerl_lab.config.sweep import Sweep
from scalerl_lab.config.tasks import ChainArithmetic
from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import (
    SPEED_FIELDS,
    Action,
    Cause,
    Change,
    CheckpointSaved,
    Decision,
    EndReason,
    EvalPoint,
    Evidence,
    Fact,
    Fit,
    FitStatus,
    Forecast,
    Interval,
    LedgerEntry,
    LedgerKind,
    PlannedRun,
    Role,
    RunSpec,
    SandboxUsed,
    TrialEnded,
    TrialStarted,
)

METER = FlopsMeter(flops_per_gpu_hour=1e9 / 3)
CONTROL = Recipe(
    name="tiny",
    model=LlamaModel(),
    tasks=ChainArithmetic(num_heldout=64),
    evaluation=Evaluation(num_prompts=64, samples_per_prompt=4),
)
ARMS = {
    "control": (CONTROL, ()),
    "dapo": (
        CONTROL.model_copy(update={"loss": PPOClip()}),
        (Change("loss.type", "cispo", "ppo_clip"), Change("loss.ratio_cap", "5.0", "-")),
    ),
    "token": (
        CONTROL.model_copy(update={"aggregation": TokenAggregation()}),
        (Change("aggregation.type", "prompt", "token"),),
    ),
}


def run_id(arm: str, seed: int) -> str:
    """A stable id."""
    return f"{arm[:1]}{seed}" + "0" * 10


def plan(sweep_id: str = "5feeb0000001", name: str = "loo", arms: tuple[str, ...] = tuple(ARMS)) -> SweepPlan:
    """A plan over the arms given; the control runs with two seeds."""
    runs = []
    for arm in arms:
        recipe, changes = ARMS[arm]
        role = Role.CONTROL if arm == "control" else Role.ARM
        for seed in range(2 if role is Role.CONTROL else 1):
            spec = RunSpec(run_id(arm, seed), recipe, seed, METER)
            runs.append(PlannedRun(sweep_id, arm, role, changes, 100.0, spec, len(runs)))
    question = {
        "type": "leave_one_out",
        "arms": {arm: {"set": {"loss.type": arm}} for arm in arms[1:] or ["x"]},
    }
    sweep = Sweep.model_validate(
        {"name": name, "recipe": "tiny", "question": question, "budget": {"run_gpu_hours": 100.0}}
    )
    return SweepPlan(sweep_id, sweep, Profile(name="laptop", meter=METER), tuple(runs))


def started(trial: int = 1, step: int = 0) -> TrialStarted:
    """A trial's first fact."""
    return TrialStarted(trial, 1700000000.25 + trial, step, "host", 4711, "abc1234")


def point(step: int, pass_rate: float = 0.1 + 0.2, trial: int = 1) -> EvalPoint:
    """A point whose floats have no short decimal form."""
    return EvalPoint(
        trial=trial,
        at=1700000000.0 + step / 7,
        step=step,
        gpu_hours=step / 3,
        pass_rate=pass_rate,
        pass_rate_se=0.01 / 3,
        num_prompts=64,
        num_samples=256,
        truncation_rate=1e-17,
        mean_tokens=41.7,
        entropy=0.7 / 3,
        flops=step * 10**21 + 7,
        train_reward=-0.1,
        grad_norm=None,
        **(speed(step) if step else {}),
    )


def speed(step: int) -> dict[str, float]:
    """A value of its own for every field of a point that tells the machine's speed."""
    return {name: (place + 1) / 7 + step for place, name in enumerate(SPEED_FIELDS)}


def train_entry(step_before: int, step: int, trial: int = 1) -> LedgerEntry:
    """Training between two steps."""
    hours = (step - step_before) / 3
    return LedgerEntry(trial, 1700000000.0, LedgerKind.TRAIN, hours, 1.5, 10**21, step_before, step)


def checkpoint(step: int, trial: int = 1) -> CheckpointSaved:
    """A checkpoint at a step."""
    return CheckpointSaved(trial, 1700000000.0, step, step / 3, f"checkpoints/{step}", "d" * 64, 5 * 10**10)


def ended(step: int, reason: EndReason = EndReason.GRANT_REACHED, trial: int = 1) -> TrialEnded:
    """A trial's last fact."""
    return TrialEnded(trial, 1700000900.5, step, step / 3, reason, "detail, \u00e9 and 'quotes'")


def sandbox(trial: int = 1) -> SandboxUsed:
    """How a trial ran the code of responses."""
    return SandboxUsed(trial, 1700000000.5 + trial, "weak", True, False, "bubblewrap is not installed")


def facts(steps: tuple[int, ...] = (0, 30, 60), trial: int = 1) -> list[Fact]:
    """What a worker leaves that reaches the last of the steps."""
    told: list[Fact] = [started(trial)]
    before = 0
    for step in steps:
        if step > before:
            told.append(train_entry(before, step, trial))
        told += [point(step, 0.2 + step / 1000, trial), checkpoint(step, trial)]
        before = step
    return [*told, ended(before, trial=trial)]


def interval(median: float) -> Interval:
    """An interval around a median."""
    return Interval(median, median - 0.01, median + 0.01, median - 0.02, median + 0.02)


def fit(run: str, num_points: int = 6, ceiling: float = 0.61) -> Fit:
    """A fit that identified its ceiling."""
    return Fit(
        run_id=run,
        status=FitStatus.IDENTIFIED,
        why="the window reaches 3.1 midpoints",
        num_points=num_points,
        first_gpu_hours=1.0,
        last_gpu_hours=20.0,
        r0=0.1 + 0.2,
        ceiling=interval(ceiling),
        efficiency=interval(1.9),
        midpoint=interval(7.0 / 3),
        residual_sd=0.004,
    )


def too_few(run: str) -> Fit:
    """A fit that could not be made."""
    return Fit(run, FitStatus.TOO_FEW_POINTS, "2 of 6 points", 2, None, None, None, None, None, None, None)


FORECASTS = (Forecast(50.0, interval(0.5)), Forecast(100.0, interval(1 / 3)))


def decision(run: str, action: Action = Action.CONTINUE, step: int = 60, granted: float = 100.0) -> Decision:
    """A decision with all its evidence."""
    return Decision(
        run_id=run,
        step=step,
        gpu_hours=step / 3,
        action=action,
        cause=Cause.CEILING_BELOW if action is Action.KILL else Cause.WITHIN_MARGIN,
        reason="ceiling 0.55 lies 0.06 below the control's 0.61 with probability 0.97",
        granted_gpu_hours=granted,
        evidence=Evidence(fit(run), FORECASTS[1], interval(0.61), interval(-0.06), 0.97, 0.02),
    )


def wide_plan(arms: list[str]) -> SweepPlan:
    """A plan of many runs, one per arm."""
    one = plan().runs[0]
    runs = tuple(
        replace(one, arm=arm, order=order, spec=replace(one.spec, run_id=f"{arm:0<12}"))
        for order, arm in enumerate(arms)
    )
    return replace(plan(), runs=runs)
