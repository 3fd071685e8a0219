"""A sweep whose truth is known: curves drawn from the law, with the records a real one would leave."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from scalerl_lab.decide import ledger_of
from scalerl_lab.fit import Difference, fit_curve, interval_of, pass_rate
from scalerl_lab.plan import SweepPlan, plan_file
from scalerl_lab.records import (
    Action,
    Cause,
    Decision,
    EvalPoint,
    Evidence,
    LedgerEntry,
    LedgerKind,
    PlannedRun,
    Role,
    RunState,
    RunStatus,
)
from scalerl_lab.report.view import SweepView, assemble
from scalerl_lab.store import DecisionRow

R0 = 0.20
SE = 0.008
EVERY = 800.0
_DRAWS = 1024


@dataclass(frozen=True)
class Truth:
    """What an arm really is, and what becomes of it."""

    A: float = 0.60
    B: float = 1.9
    C_mid: float = 2600.0
    until: float = 16000.0
    """Compute at which it stops."""
    status: RunStatus = RunStatus.FINISHED
    cause: Cause = Cause.BUDGET_REACHED
    granted: float = 16000.0
    collapse_at: float | None = None
    reused: bool = False


@dataclass
class Sim:
    """Records of one simulated sweep."""

    plan: SweepPlan
    states: list[RunState] = field(default_factory=list)
    decisions: list[DecisionRow] = field(default_factory=list)
    ledger: dict[str, list[LedgerEntry]] = field(default_factory=dict)

    def view(self) -> SweepView:
        """As a report sees it."""
        entries = [(run_id, entry) for run_id, held in self.ledger.items() for entry in held]
        budget = ledger_of(self.plan.sweep_gpu_hours, self.states, entries)
        return assemble(self.plan, self.states, self.decisions, self.ledger, budget)


DEFAULT = {
    "control": Truth(),
    "ppo_off_policy_8": Truth(C_mid=3600.0, B=1.8),
    "dapo_loss": Truth(A=0.50, until=7200.0, status=RunStatus.KILLED, cause=Cause.CEILING_BELOW),
    "bf16_head": Truth(A=0.535, B=1.7, until=8800.0, status=RunStatus.KILLED, cause=Cause.CEILING_BELOW),
    "sample_average": Truth(A=0.595, C_mid=2700.0, granted=18400.0, until=18400.0),
    "group_advantage": Truth(A=0.60, C_mid=1900.0, B=2.0),
    "keep_zero_variance": Truth(A=0.66, C_mid=2700.0),
    "uniform_sampling": Truth(A=0.60, C_mid=11000.0, B=1.3),
    "length_penalty": Truth(until=5600.0, status=RunStatus.KILLED, cause=Cause.COLLAPSED, collapse_at=3200.0),
}


def points(truth: Truth, seed: int) -> tuple[EvalPoint, ...]:
    """Noisy measurements of the law every ``EVERY`` GPU-hours, from step 0 on."""
    rng = np.random.default_rng(seed)
    found = []
    for step in range(round(truth.until / EVERY) + 1):
        at = step * EVERY
        value = float(pass_rate(at, R0, truth.A, truth.B, truth.C_mid)) if at else R0
        if truth.collapse_at is not None and at > truth.collapse_at:
            value -= 0.06 * (at - truth.collapse_at) / EVERY
        found.append(
            EvalPoint(
                trial=1,
                at=1_790_000_000.0 + 60 * step,
                step=step * 20,
                gpu_hours=at,
                pass_rate=min(1.0, max(0.0, value + SE * float(rng.standard_normal()))),
                pass_rate_se=SE,
                num_prompts=256,
                num_samples=2048,
                truncation_rate=0.02,
                mean_tokens=61.0,
                entropy=0.4,
                flops=int(at * 4.4e7),
            )
        )
    return tuple(found)


def simulate(
    truths: Mapping[str, Truth] = DEFAULT, *, sweep: str = "loo_16k", profile: str = "laptop"
) -> Sim:
    """A whole sweep by the truths given; arms that are not named get the control's."""
    sim = Sim(plan_file(sweep, profile))
    for run in sim.plan.runs:
        truth = truths.get("control" if run.role is Role.CONTROL else run.arm, Truth())
        # A recorded spread between seeds: ceilings differ by a few thousandths.
        shifted = math.sin(17.0 * run.order) * 0.004
        curve = points(Truth(**{**truth.__dict__, "A": truth.A + shifted}), 1000 + run.order)
        _decide(sim, run, truth, curve)
        last = next((d.decision for d in reversed(sim.decisions) if d.decision.run_id == run.run_id), None)
        sim.states.append(RunState(run, truth.status, truth.granted, curve, 1, 0, last, reused=truth.reused))
        sim.ledger[run.run_id] = [
            LedgerEntry(1, 0.0, kind, share * truth.until, 1.0, 0, 0, 0)
            for kind, share in (
                (LedgerKind.TRAIN, 1.0),
                (LedgerKind.EVALUATE, 0.2),
                (LedgerKind.CHECKPOINT, 0.01),
            )
        ]
    return sim


def _decide(sim: Sim, run: PlannedRun, truth: Truth, curve: tuple[EvalPoint, ...]) -> None:
    """Decisions as a sweep would have left them, each on fits of single curves: that is quick."""
    sweep = sim.plan.sweep
    controls = [
        ceiling_draws
        for s in sim.states
        if s.planned.role is Role.CONTROL
        and (ceiling_draws := _ceilings(sim, s.planned.run_id, s.points)) is not None
    ]
    base = np.mean(controls, axis=0) if controls else None
    for num in _decided_at(run, truth, curve):
        seen = curve[:num]
        last = num == len(curve)
        fitted = fit_curve(run.run_id, seen, fit_start_gpu_hours=sweep.fit_start_gpu_hours, rule=sweep.rule)
        own = fitted.ceiling_draws(_DRAWS, seed=1)
        difference = Difference(own - base) if own is not None and base is not None else None
        action, cause = Action.CONTINUE, Cause.WITHIN_MARGIN if fitted.identified else Cause.NOT_IDENTIFIED
        if last and truth.status is RunStatus.KILLED:
            action, cause = Action.KILL, truth.cause
        elif last and truth.status is RunStatus.FINISHED:
            action, cause = Action.FINISH, Cause.BUDGET_REACHED
        elif seen[-1].gpu_hours == run.budget_gpu_hours:
            action, cause = Action.EXTEND, Cause.QUESTION_OPEN
        below = difference.probability_below(-sweep.rule.margin) if difference else None
        reason = f"{fitted.fit.why} "
        if difference is not None and below is not None:
            reason += (
                f"The ceiling is {difference.interval.median:+.3f} from the control's; below it by more than "
                f"{sweep.rule.margin:g} with probability {below:.2f}."
            )
        decision = Decision(
            run_id=run.run_id,
            step=seen[-1].step,
            gpu_hours=seen[-1].gpu_hours,
            action=action,
            cause=cause,
            reason=reason.strip(),
            granted_gpu_hours=run.budget_gpu_hours if action is Action.CONTINUE else truth.granted,
            evidence=Evidence(
                fit=fitted.fit,
                forecast=fitted.forecast(run.budget_gpu_hours),
                control_ceiling=interval_of(base) if base is not None else None,
                difference=difference.interval if difference else None,
                probability_below=below,
                margin=sweep.rule.margin,
            ),
        )
        number = len(sim.decisions) + 1
        sim.decisions.append(
            DecisionRow(number, sim.plan.sweep_id, seen[-1].at + 1.0, decision, seen[-1].at + 2.0)
        )


def _ceilings(sim: Sim, run_id: str, curve: tuple[EvalPoint, ...]) -> np.ndarray | None:
    sweep = sim.plan.sweep
    fitted = fit_curve(run_id, curve, fit_start_gpu_hours=sweep.fit_start_gpu_hours, rule=sweep.rule)
    return fitted.ceiling_draws(_DRAWS)


def _decided_at(run: PlannedRun, truth: Truth, curve: tuple[EvalPoint, ...]) -> list[int]:
    """After how many points a decision is taken: every third, at the budget, and the last."""
    at_budget = round(run.budget_gpu_hours / EVERY) + 1
    numbers = {*range(3, len(curve), 3), len(curve)}
    return sorted(numbers | ({at_budget} if at_budget <= len(curve) else set()))
