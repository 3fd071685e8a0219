"""What a search knows when it proposes its next arm, and whether the next one is due; pure.

A proposal is a function of the question, of this history and of its number, so nothing of a sampler
needs to outlive the process that asked it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scalerl_lab.config.sweep import Search, Sweep
from scalerl_lab.decide.divergence import find_divergence
from scalerl_lab.decide.ledger import Ledger
from scalerl_lab.decide.quantity import Measure
from scalerl_lab.fit import PooledCeiling
from scalerl_lab.records import Cause, Proposal, RunState, RunStatus

CONTROL_NUMBER = -1
"""The control as an outcome: what was known before anything was proposed."""
_OVER = frozenset({RunStatus.FINISHED, RunStatus.KILLED, RunStatus.FAILED})
_DIVERGED = frozenset({Cause.COLLAPSED, Cause.NON_FINITE, Cause.TRUNCATED})
_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class Outcome:
    """Values that were tried, and what came of them."""

    number: int
    values: tuple[tuple[str, float], ...]
    """(key path, value), by path."""
    value: float | None
    """The rule's quantity, larger is better; None while it is not known."""


def outcomes(
    proposals: Sequence[Proposal],
    states: Sequence[RunState],
    arms: Mapping[str, PooledCeiling],
    *,
    sweep: Sweep,
    control: str,
    control_values: Mapping[str, float] | None,
) -> tuple[Outcome, ...]:
    """What is known of the control and of each proposal, in the order of their numbers.

    A value is the median of the arm's quantity as its rule compares it, over all seeds: known once the
    forecast is identified, or the arm is over. A run that was killed has one too, which is what the early
    stop bought. An arm of which a seed diverged counts as worse than all others by the margin: a sampler
    keeps away, and no outlier bends its model.

    Args:
        proposals: all that were made.
        states: every run of the sweep.
        arms: the arms that have not diverged, from a joint fit.
        sweep: the question, with its rule.
        control: name of the control's arm.
        control_values: the control's values of what is searched; None where they are not in the ranges.
    """
    runs: defaultdict[str, list[RunState]] = defaultdict(list)
    for state in states:
        runs[state.planned.arm].append(state)
    measure = Measure(sweep.rule, sweep.budget.run_gpu_hours)
    tried = [(p.number, p.arm, p.values) for p in sorted(proposals, key=lambda p: p.number)]
    if control_values is not None:
        tried.insert(0, (CONTROL_NUMBER, control, dict(control_values)))
    diverged = {arm for _, arm, _ in tried if any(_has_diverged(run, sweep) for run in runs[arm])}
    known = {
        arm: float(np.median(measure.draws(arms[arm])))
        for arm in dict.fromkeys(arm for _, arm, _ in tried)
        if arm in arms and arm not in diverged and (arms[arm].identified or _all_over(runs[arm]))
    }
    known = {arm: value for arm, value in known.items() if math.isfinite(value)}
    if known:
        known |= dict.fromkeys(diverged, min(known.values()) - measure.margin)
    return tuple(
        Outcome(number, tuple(sorted(values.items())), known.get(arm)) for number, arm, values in tried
    )


def _has_diverged(run: RunState, sweep: Sweep) -> bool:
    last = run.last_decision
    by_decision = last is not None and last.cause in _DIVERGED
    return by_decision or find_divergence(run.points, sweep.rule.divergence) is not None


def _all_over(runs: Sequence[RunState]) -> bool:
    return all(run.status in _OVER for run in runs)


def is_due(
    question: Search,
    proposals: Sequence[Proposal],
    states: Sequence[RunState],
    ledger: Ledger,
    *,
    cancelled: bool,
    proposal_gpu_hours: float,
) -> bool:
    """Whether another arm is to be proposed: some are left, few enough are open, and hours are there.

    Args:
        question: how many in all, and how many at a time.
        proposals: those made so far.
        states: every run of the sweep.
        ledger: its budget; what runs that wait will take is not there for new ones.
        cancelled: whether the sweep was cancelled.
        proposal_gpu_hours: budget of one proposal, all its seeds together.
    """
    if cancelled or len(proposals) >= question.arms:
        return False
    if ledger.left - ledger.waiting + _ROUNDING < proposal_gpu_hours:
        return False
    return num_open(proposals, states) < question.at_a_time


def num_open(proposals: Sequence[Proposal], states: Sequence[RunState]) -> int:
    """How many proposals have a run that is not over."""
    own = {proposal.arm for proposal in proposals}
    return len({run.planned.arm for run in states if run.status not in _OVER} & own)


def kept_back(
    question: Search,
    proposals: Sequence[Proposal],
    ledger: Ledger,
    *,
    cancelled: bool,
    proposal_gpu_hours: float,
) -> float:
    """Free GPU-hours that are meant for proposals to come, not for extensions by the rule."""
    to_come = 0 if cancelled else max(question.arms - len(proposals), 0)
    return min(to_come * proposal_gpu_hours, max(ledger.free, 0.0))
