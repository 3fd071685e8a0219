"""All that a report is made from: a sweep read from the store, its fits recomputed from the points."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scalerl_lab.decide import Account, Ledger, account_of
from scalerl_lab.fit import FittedCurve, PooledCeiling, SweepRun, fit_sweep
from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import (
    Action,
    Cause,
    Decision,
    EvalPoint,
    LedgerEntry,
    Measurement,
    PassCounts,
    Role,
    RunState,
    RunStatus,
)
from scalerl_lab.report.words import hours
from scalerl_lab.store import DecisionRow, OrderRow, Store, TrialRow

DIVERGENCE = {
    Cause.NON_FINITE: "numbers became non-finite",
    Cause.COLLAPSED: "pass rate collapsed",
    Cause.TRUNCATED: "too many completions were truncated",
}


@dataclass(frozen=True, slots=True)
class RunView:
    """One run with everything known and concluded about it."""

    state: RunState
    fitted: FittedCurve
    decisions: tuple[DecisionRow, ...]
    """What this sweep decided on it, oldest first."""
    ledger: tuple[LedgerEntry, ...]
    trials: tuple[TrialRow, ...] = ()
    """Its attempts, in the order of their numbers."""
    measured: tuple[Measurement, ...] = ()
    """What was measured beside its points, by step."""
    counts: tuple[PassCounts, ...] = ()
    """How often each problem passed, where pass@k was measured, by step."""

    @property
    def run_id(self) -> str:
        """Identity of the run."""
        return self.state.planned.run_id

    @property
    def label(self) -> str:
        """Arm and seed, as people name a run."""
        return f"{self.state.planned.arm}:{self.state.planned.spec.seed}"

    @property
    def budget_gpu_hours(self) -> float:
        """Compute that the plan gave it."""
        return self.state.planned.budget_gpu_hours

    @property
    def points(self) -> tuple[EvalPoint, ...]:
        """Its curve."""
        return self.state.points

    @property
    def account(self) -> Account:
        """Its account in the sweep's ledger."""
        return account_of(self.state, self.ledger)

    @property
    def used_gpu_hours(self) -> float:
        """Training compute this sweep used on it; of a reused run, no more than this sweep grants."""
        return self.account.hours.used

    @property
    def kill(self) -> Decision | None:
        """The decision that killed it, if it is killed."""
        return _kill(self.state, self.decisions)

    @property
    def divergence(self) -> str | None:
        """How it diverged, for people, if that is why it was killed: the law then does not describe it."""
        return _divergence(self.kill)

    @property
    def saved_gpu_hours(self) -> float:
        """Granted compute that a run which was killed, or whose answer was known, did not use."""
        return self.account.hours.saved

    @property
    def extended_gpu_hours(self) -> float:
        """Compute used beyond the plan's budget by decision; the overshoot of a last step is not one."""
        if self.state.granted_gpu_hours <= self.budget_gpu_hours:
            return 0.0
        return max(0.0, self.used_gpu_hours - self.budget_gpu_hours)


@dataclass(frozen=True, slots=True)
class SweepView:
    """A sweep as reports see it; runs in the order of the plan."""

    plan: SweepPlan
    runs: tuple[RunView, ...]
    budget: Ledger
    pooled: Mapping[str, PooledCeiling]
    """Arm -> its ceiling over the seeds that have not diverged, from one joint fit; arms that have one."""
    orders: tuple[OrderRow, ...] = ()
    """What people ordered of it and its runs, oldest first."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms, the control first."""
        return tuple(dict.fromkeys(run.state.planned.arm for run in sorted(self.runs, key=_control_first)))

    def of_arm(self, arm: str) -> tuple[RunView, ...]:
        """The runs of one arm."""
        return tuple(run for run in self.runs if run.state.planned.arm == arm)

    @property
    def control(self) -> tuple[RunView, ...]:
        """The runs of the untouched recipe."""
        return tuple(run for run in self.runs if run.state.planned.role is Role.CONTROL)


def _control_first(run: RunView) -> int:
    return 0 if run.state.planned.role is Role.CONTROL else 1


def view(store: Store, sweep_id: str) -> SweepView:
    """Read a sweep and fit its curves anew, so that every number of a report can be traced to points.

    Raises:
        NotFound: there is no such sweep.
        StoreError: the database cannot be reached.
    """
    plan = store.plan(sweep_id)
    ledger: defaultdict[str, list[LedgerEntry]] = defaultdict(list)
    for row in store.ledger(sweep_id):
        ledger[row.run_id].append(row.entry)
    decisions, budget = store.decisions(sweep_id=sweep_id), store.budget(sweep_id)
    trials = {run.run_id: store.trials(run.run_id) for run in plan.runs}
    run_ids = list(trials)
    return assemble(
        plan,
        store.run_states(sweep_id),
        decisions,
        ledger,
        budget,
        trials,
        store.orders(sweep_id),
        store.measurements(run_ids),
        store.pass_counts(run_ids),
    )


def assemble(
    plan: SweepPlan,
    states: Sequence[RunState],
    decisions: Sequence[DecisionRow],
    ledger: Mapping[str, Sequence[LedgerEntry]],
    budget: Ledger,
    trials: Mapping[str, Sequence[TrialRow]] | None = None,
    orders: Sequence[OrderRow] = (),
    measured: Mapping[str, Sequence[Measurement]] | None = None,
    counts: Mapping[str, Sequence[PassCounts]] | None = None,
) -> SweepView:
    """A view of records, with the curves fitted together by the sweep's own rule, the diverged ones apart."""
    sweep = plan.sweep
    ordered = sorted(states, key=lambda s: s.planned.order)
    made: defaultdict[str, list[DecisionRow]] = defaultdict(list)
    for row in sorted(decisions, key=lambda d: d.decision_id):
        made[row.decision.run_id].append(row)
    found = fit_sweep(
        [SweepRun(s.planned.run_id, s.planned.arm, s.points) for s in ordered],
        fit_start_gpu_hours=sweep.fit_start_gpu_hours,
        rule=sweep.rule,
        apart=[s.planned.run_id for s in ordered if _divergence(_kill(s, made[s.planned.run_id]))],
    )
    runs = tuple(
        RunView(
            state=state,
            fitted=found.runs[state.planned.run_id],
            decisions=tuple(made[state.planned.run_id]),
            ledger=tuple(ledger.get(state.planned.run_id, ())),
            trials=tuple((trials or {}).get(state.planned.run_id, ())),
            measured=tuple((measured or {}).get(state.planned.run_id, ())),
            counts=tuple((counts or {}).get(state.planned.run_id, ())),
        )
        for state in ordered
    )
    return SweepView(plan, runs, budget, found.arms, tuple(orders))


def _kill(state: RunState, decisions: Sequence[DecisionRow]) -> Decision | None:
    """The decision that killed a run, if it is killed."""
    if state.status is not RunStatus.KILLED:
        return None
    kills = [row.decision for row in decisions if row.decision.action is Action.KILL]
    return kills[-1] if kills else None


def _divergence(kill: Decision | None) -> str | None:
    """How a run diverged, for people, if that is why it was killed."""
    if kill is None or kill.cause not in DIVERGENCE:
        return None
    return f"{DIVERGENCE[kill.cause]} at {hours(kill.gpu_hours)} GPU-hours"
