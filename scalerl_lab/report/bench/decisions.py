"""Rules of stopping measured: each replayed on each sweep, and held against what came of it.

    saved         share of the GPU-hours of all budgets that were not spent (below 0: extensions)
    false kill    an arm within the margin of the reference at the target, one of whose runs was killed
    missed kill   an arm worse than that, none of whose runs was killed; its cost: the hours that it took
    regret        level at the budget of the best arm, minus that of the arm that is chosen in the end: by the
                  rule's forecast for the lab's own, by the last value for the others, as their tools do
    difference    ceiling of an arm minus the control's as reported in the end, against the truth

Runs that collapse are no arm of either kind: of them it is told how long after the peak they were stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from scalerl_lab.config.sweep import Rule
from scalerl_lab.decide.analysis import forget_fits
from scalerl_lab.decide.conclude import chosen_by_forecast, chosen_by_value, conclude
from scalerl_lab.decide.policies import forget_ceilings
from scalerl_lab.decide.recorded import Recorded
from scalerl_lab.decide.replay import Asked, Order, Outcome, Policy, Replayed, replay
from scalerl_lab.fit import Difference
from scalerl_lab.report.bench.decision_cases import Case, SimulatedTask
from scalerl_lab.report.bench.fitting import for_each


@dataclass(frozen=True, slots=True)
class Contender:
    """A rule with its settings."""

    family: str
    """The rule's name: what a curve of savings against false kills is drawn for."""
    settings: str
    """As given: ``eta=3,grace=0.1``; empty for the defaults."""
    make: Callable[[Recorded], Policy]
    """A new policy for one replay; it can be sent to another process."""
    forecasts: bool = False
    """Whether it chooses an arm by forecast."""

    @property
    def name(self) -> str:
        """Family and settings."""
        return f"{self.family}:{self.settings}" if self.settings else self.family


@dataclass(frozen=True, slots=True)
class Judged:
    """One rule on one sweep."""

    kind: str
    case: str
    contender: str
    family: str
    slots: int | None
    budget_share: float | None
    """The cap as a share of all budgets; None: no cap."""
    spent: float
    """Share of the GPU-hours of all budgets."""
    tied: int
    """Arms within the margin; the control is none of them."""
    tied_killed: int
    worse: int
    worse_killed: int
    killed_at: tuple[float, ...]
    """Of worse arms, the share of their budget at which they were killed."""
    missed_gpu_hours: float
    """Spent on worse arms that were not killed."""
    collapsed: int
    collapses_stopped_after: tuple[float, ...]
    """Share of the budget between the peak and the stop, of those that were stopped."""
    chosen: str
    regret: float
    differences: tuple[float, ...]
    """Reported minus true difference to the control, of arms that were not killed and did not collapse."""
    difference_within95: tuple[bool, ...]
    reported: dict[str, float]
    """Arm -> median difference to the control as reported in the end, of arms that were not killed."""
    verdicts: dict[str, int]
    """Arm -> -1: its ceiling is said to be lower than the control's by more than the margin; 1: higher; 0: no
    such answer has the probability that a kill demands."""
    margin: float
    asked: int
    seconds: float
    """In the policy's answers."""
    slowest_s: float
    """The slowest single answer."""


class Timed:
    """A policy whose answers are timed."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.promises, self.first_share = policy.promises, policy.first_share
        self.seconds = self.slowest_s = 0.0

    def answer(self, asked: Asked) -> Sequence[Order]:
        """The policy's, timed."""
        began = time.perf_counter()
        orders = self._policy.answer(asked)
        took = time.perf_counter() - began
        self.seconds += took
        self.slowest_s = max(self.slowest_s, took)
        return orders

    def choose(self, waiting: Sequence[str], paused: Sequence[str]) -> str | None:
        """The policy's."""
        return self._policy.choose(waiting, paused)

    def over(self, run_id: str) -> Sequence[Order]:
        """The policy's."""
        return self._policy.over(run_id)


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which replays are made."""

    slots: int | None = None
    budget_shares: tuple[float, ...] = ()
    """Caps as shares of all budgets, each a replay of its own; none: one replay without a cap."""
    differences: bool = True
    """Whether differences are reported: a joint fit for each replay."""


def measure_decisions(
    cases: Sequence[Case | SimulatedTask],
    contenders: Sequence[Contender],
    terms: Terms,
    *,
    jobs: int = 1,
    done: Callable[[int, int], None] | None = None,
) -> list[Judged]:
    """Every rule on every sweep, under all terms; the findings do not depend on ``jobs``, seconds do."""
    found = for_each(
        partial(judge_case, contenders=tuple(contenders), terms=terms),
        cases,
        jobs,
        None if done is None else lambda count: done(count, len(cases)),
    )
    return [one for case in found for one in case]


def judge_case(task: Case | SimulatedTask, contenders: Sequence[Contender], terms: Terms) -> list[Judged]:
    """All rules on one sweep, in one process."""
    case = task.case() if isinstance(task, SimulatedTask) else task
    shares: tuple[float | None, ...] = terms.budget_shares or (None,)
    return [judge(case, contender, terms, share) for share in shares for contender in contenders]


def judge(case: Case, contender: Contender, terms: Terms, budget_share: float | None) -> Judged:
    """One rule on one sweep, with fits of its own: one that found those of others would seem fast."""
    forget_fits()
    forget_ceilings()
    recorded = case.recorded
    cap = None if budget_share is None else budget_share * recorded.full_gpu_hours
    policy = Timed(contender.make(recorded if budget_share is None else _under_cap(recorded, budget_share)))
    found = replay(recorded, policy, slots=terms.slots, cap_gpu_hours=cap)
    return scored(case, contender, found, policy, terms, budget_share)


def _under_cap(recorded: Recorded, budget_share: float) -> Recorded:
    """With the rule's first grants and steps made to fit the cap; a contender's own settings go before."""
    sweep = recorded.sweep
    steps = {"first_share": 0.5 * budget_share, "step_fraction": min(0.25 * budget_share, 0.125)}
    extension = sweep.rule.extension.model_copy(update=steps)
    rule = sweep.rule.model_copy(update={"extension": extension})
    return recorded.under(sweep.model_copy(update={"rule": rule}))


def scored(
    case: Case,
    contender: Contender,
    found: Replayed,
    timed: Timed,
    terms: Terms,
    budget_share: float | None,
) -> Judged:
    """A replay held against the truth."""
    recorded = case.recorded
    by_arm: dict[str, list[Outcome]] = {}
    for outcome in found.outcomes:
        if outcome.state.planned.run_id not in case.collapse_gpu_hours:
            by_arm.setdefault(outcome.state.planned.arm, []).append(outcome)
    judged_arms = [arm for arm in by_arm if case.against_best or arm != recorded.control]
    killed = {arm for arm in judged_arms if any(outcome.killed for outcome in by_arm[arm])}
    tied = {arm for arm in judged_arms if case.is_tied(arm)}
    worse = set(judged_arms) - tied
    conclusion = conclude(recorded, found) if terms.differences or contender.forecasts else None
    said = {} if conclusion is None or not terms.differences else conclusion.differences
    compared = {arm: each for arm, each in said.items() if arm in by_arm and arm not in killed}
    reported = {arm: each.interval for arm, each in compared.items()}
    # What is reported are ceilings; where the truth is another quantity, nothing is held against them.
    true = {} if case.against_best else case.truth
    errors = {arm: true[arm] - true[recorded.control] for arm in compared if arm in true}
    chosen = (
        chosen_by_forecast(found, conclusion)
        if contender.forecasts and conclusion is not None
        else chosen_by_value(found)
    )
    return Judged(
        kind=case.kind,
        case=case.name,
        contender=contender.name,
        family=contender.family,
        slots=terms.slots,
        budget_share=budget_share,
        spent=found.spent_gpu_hours / recorded.full_gpu_hours,
        tied=len(tied),
        tied_killed=len(tied & killed),
        worse=len(worse),
        worse_killed=len(worse & killed),
        killed_at=tuple(_killed_at(by_arm[arm]) for arm in sorted(worse & killed)),
        missed_gpu_hours=sum(o.state.gpu_hours for arm in worse - killed for o in by_arm[arm]),
        collapsed=len(case.collapse_gpu_hours),
        collapses_stopped_after=_stopped_after(case, found),
        chosen=chosen,
        regret=max(case.at_budget.values()) - case.at_budget[chosen],
        differences=tuple(reported[arm].median - errors[arm] for arm in errors),
        difference_within95=tuple(
            reported[arm].low95 <= errors[arm] <= reported[arm].high95 for arm in errors
        ),
        reported={arm: interval.median for arm, interval in reported.items()},
        verdicts={arm: _verdict(each, recorded.sweep.rule) for arm, each in compared.items()},
        margin=recorded.sweep.rule.margin,
        asked=found.asked,
        seconds=timed.seconds,
        slowest_s=timed.slowest_s,
    )


def _verdict(difference: Difference, rule: Rule) -> int:
    if difference.probability_below(-rule.margin) >= rule.kill_probability:
        return -1
    return int(difference.probability_above(rule.margin) >= rule.kill_probability)


def _killed_at(outcomes: Sequence[Outcome]) -> float:
    """Share of its budget that the first killed run of an arm used."""
    return min(o.state.gpu_hours / o.budget_gpu_hours for o in outcomes if o.killed)


def _stopped_after(case: Case, found: Replayed) -> tuple[float, ...]:
    """Of killed runs that collapse: compute since the peak, as a share of the budget."""
    after = []
    for outcome in found.outcomes:
        peak = case.collapse_gpu_hours.get(outcome.state.planned.run_id)
        if peak is not None and outcome.killed:
            after.append((outcome.state.gpu_hours - peak) / outcome.budget_gpu_hours)
    return tuple(after)
