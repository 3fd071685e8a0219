"""The table of arms: ceiling, difference to the control, efficiency, compute, and a verdict in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from scalerl_lab.fit import (
    BetweenSeeds,
    CeilingRefit,
    Difference,
    PooledCeiling,
    between_seeds,
    ceiling_difference,
    interval_of,
    refit_at_ceiling,
)
from scalerl_lab.plan import describe
from scalerl_lab.records import SPEED_FIELDS, Change, EvalPoint, Interval, LedgerKind, Role, RunStatus
from scalerl_lab.report.speed import (
    Hours,
    compare,
    hours_to_level,
    pooled_efficiency,
)
from scalerl_lab.report.verdict import Finding, Verdict, judge
from scalerl_lab.report.view import RunView, SweepView

AT_BUDGET = 0.99
"""A point counts as measured at the budget from this share of it on."""
_CLOCK = {"trial", "at", "gpu_hours", *SPEED_FIELDS}
"""Fields of a point in which two equal runs may differ: GPU-hours by a meter of the clock."""
_Z80 = 1.2815515655446004


@dataclass(frozen=True, slots=True)
class BudgetRate:
    """Pass rate at the budget, mean over seeds, with its central 80 % interval.

    It has the evaluation's noise and, where that is known, the spread of seeds (``Ceilings.between_seeds``).
    """

    value: float
    low80: float
    high80: float
    measured: bool
    """False where at least one seed's value is a forecast."""


@dataclass(frozen=True, slots=True)
class ArmRow:
    """One arm's line of the table."""

    arm: str
    role: Role
    about: str
    """What the sweep's author says of it."""
    changes: tuple[Change, ...]
    seeds: tuple[int, ...]
    run_ids: tuple[str, ...]
    status: str
    identified: bool
    ceiling: Interval | None
    difference: Interval | None
    """Ceiling minus the control's."""
    probability_below: float | None
    """P(difference < -margin)."""
    probability_above: float | None
    """P(difference > margin)."""
    efficiency: Interval | None
    """B, refitted at ``efficiency_ceiling``."""
    efficiency_ceiling: float | None
    own_ceiling: bool
    """The ceiling lies off the pooled one by more than the margin: B is at its own, and not comparable."""
    midpoint: Interval | None
    at_budget: BudgetRate | None
    to_level: Hours | None
    budget_gpu_hours: float
    used_gpu_hours: float
    saved_gpu_hours: float
    extended_gpu_hours: float
    verdict: Verdict
    detail: str


@dataclass(frozen=True, slots=True)
class Totals:
    """Compute of the whole sweep, in GPU-hours."""

    runs: int
    full_budget: float
    """What all runs would use without killing and extending."""
    cap: float
    used: float
    """Training compute: the x-axis of the curves."""
    billed: float
    """All that was held: training, evaluation, checkpoints, warm start, overhead, loss."""
    lost: float
    saved: float
    extended: float
    reused_runs: int
    """Runs whose points another sweep, or an earlier start, had already left on record."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a sweep found."""

    sweep_id: str
    name: str
    profile_name: str
    meter: str
    flops_per_gpu_hour: float | None
    fit_start_gpu_hours: float
    margin: float
    demanded: float
    pooled_ceiling: float | None
    """Mean ceiling of the identified arms that lie within the margin of the control."""
    common_level: float | None
    """Highest pass rate that every identified arm reaches by its budget with the demanded probability; arms
    whose ceiling is lower do not set it."""
    arms: tuple[ArmRow, ...]
    totals: Totals
    between_seeds: BetweenSeeds | None = None
    """Of pass rates measured at the budget, pooled over arms; None where no arm has two such seeds."""

    @property
    def single_seed_arms(self) -> tuple[str, ...]:
        """Arms with one seed."""
        return tuple(row.arm for row in self.arms if len(row.seeds) == 1)


@dataclass(frozen=True, slots=True)
class _Arm:
    """An arm's runs, and what their fits say together."""

    name: str
    about: str
    runs: tuple[RunView, ...]
    sound: tuple[RunView, ...]
    """Runs that the law describes: all but the diverged."""
    pooled: PooledCeiling | None
    difference: Difference | None

    @property
    def identified(self) -> bool:
        return self.pooled is not None and self.pooled.identified

    @property
    def diverged(self) -> tuple[str, ...]:
        """How each run diverged that did."""
        return tuple(text for run in self.runs if (text := run.divergence) is not None)

    @property
    def chosen(self) -> tuple[RunView, ...]:
        """Sound runs with a posterior; only the identified ones where there are any."""
        usable = tuple(run for run in self.sound if run.fitted.draws is not None)
        return tuple(run for run in usable if run.fitted.identified) or usable


def ceilings(view: SweepView) -> Ceilings:
    """The table of arms of a sweep; the same points give the same table."""
    rule = view.plan.sweep.rule
    control = _arm(view, view.plan.control, "", None)
    abouts = {planned.arm: planned.about for planned in describe(view.plan)}
    arms = [_arm(view, name, abouts[name], control.pooled) for name in view.arms]
    pooled = _pooled_ceiling(arms, control, rule.margin)
    level = _common_level(arms, rule.margin, rule.answer_probability)
    spread = between_seeds([_measured(arm) for arm in arms])
    meter = view.plan.profile.meter
    return Ceilings(
        sweep_id=view.plan.sweep_id,
        name=view.plan.sweep.name,
        profile_name=view.plan.profile.name,
        meter=meter.type,
        flops_per_gpu_hour=meter.flops_per_gpu_hour if meter.type == "flops" else None,
        fit_start_gpu_hours=view.plan.sweep.fit_start_gpu_hours,
        margin=rule.margin,
        demanded=rule.answer_probability,
        pooled_ceiling=pooled,
        common_level=level,
        arms=tuple(_row(view, arm, control, pooled, level, spread) for arm in arms),
        totals=_totals(view),
        between_seeds=spread,
    )


def _arm(view: SweepView, name: str, about: str, control: PooledCeiling | None) -> _Arm:
    runs = view.of_arm(name)
    sound = tuple(run for run in runs if run.divergence is None)
    pooled = view.pooled.get(name)
    difference = None if pooled is None or control is None else ceiling_difference(pooled, control)
    return _Arm(name, about, runs, sound, pooled, difference)


def _pooled_ceiling(arms: Sequence[_Arm], control: _Arm, margin: float) -> float | None:
    """ScaleRL's rule (A.5): the mean ceiling of arms that agree within the margin."""
    known = [arm.pooled.interval.median for arm in arms if arm.pooled is not None and arm.identified]
    if not known:
        return None
    centre = control.pooled.interval.median if control.pooled is not None and control.identified else None
    near = known if centre is None else [a for a in known if abs(a - centre) <= margin]
    return sum(near) / len(near)


def _common_level(arms: Sequence[_Arm], margin: float, demanded: float) -> float | None:
    """The highest level, in thousandths, that all arms that may set it reach by their budgets."""
    reached = []
    for arm in arms:
        lower = arm.difference is not None and arm.difference.probability_below(-margin) >= demanded
        if arm.pooled is None or not arm.identified or lower:
            continue
        rates = arm.pooled.curves(min(run.budget_gpu_hours for run in arm.chosen))[:, 0]
        reached.append(float(np.quantile(rates, 1.0 - demanded)))
    return math.floor(min(reached) * 1000.0) / 1000.0 if reached else None


def _row(
    view: SweepView,
    arm: _Arm,
    control: _Arm,
    pooled: float | None,
    level: float | None,
    spread: BetweenSeeds | None,
) -> ArmRow:
    rule = view.plan.sweep.rule
    first = arm.runs[0].state.planned
    is_control = first.role is Role.CONTROL
    ceiling = arm.pooled.interval if arm.pooled is not None else None
    difference = None if is_control else arm.difference
    below = difference.probability_below(-rule.margin) if difference is not None else None
    above = difference.probability_above(rule.margin) if difference is not None else None
    to_level = speed = None
    if level is not None and arm.pooled is not None and arm.identified:
        to_level = hours_to_level(arm.pooled, level)
        if control.pooled is not None and control.identified and not is_control:
            speed = compare(arm.pooled, control.pooled, level)
    own = ceiling is not None and pooled is not None and abs(ceiling.median - pooled) > rule.margin
    refits = _refits(view, arm, ceiling.median if own and ceiling is not None else pooled)
    at_budget = _at_budget(arm, spread)
    finding = Finding(
        is_control=is_control,
        identified=arm.identified,
        control_identified=control.identified,
        failed=all(run.state.status is RunStatus.FAILED for run in arm.runs),
        diverged="; ".join(arm.diverged) if not arm.sound else None,
        probability_below=below,
        probability_above=above,
        speed=speed,
        level=level,
        killed_at=tuple(kill.gpu_hours for run in arm.sound if (kill := run.kill) is not None),
        at_budget=_value(at_budget),
        control_at_budget=_value(_at_budget(control, spread)),
        equals_control=not is_control and _equals(arm, control),
    )
    verdict, detail = judge(finding, margin=rule.margin, demanded=rule.answer_probability)
    if arm.diverged and arm.sound:
        detail = (
            f"{len(arm.diverged)} of {len(arm.runs)} seeds diverged ({'; '.join(arm.diverged)}). {detail}"
        )
    return ArmRow(
        arm=arm.name,
        role=first.role,
        about=arm.about,
        changes=first.changes,
        seeds=tuple(run.state.planned.spec.seed for run in arm.runs),
        run_ids=tuple(run.run_id for run in arm.runs),
        status=_status(arm.runs),
        identified=arm.identified,
        ceiling=ceiling,
        difference=difference.interval if difference is not None else None,
        probability_below=below,
        probability_above=above,
        efficiency=pooled_efficiency(refits) if refits else None,
        efficiency_ceiling=refits[0].ceiling if refits else None,
        own_ceiling=own,
        midpoint=interval_of(arm.pooled.law.C_mid) if arm.pooled is not None else None,
        at_budget=at_budget,
        to_level=to_level,
        budget_gpu_hours=sum(run.budget_gpu_hours for run in arm.runs),
        used_gpu_hours=sum(run.used_gpu_hours for run in arm.runs),
        saved_gpu_hours=sum(run.saved_gpu_hours for run in arm.runs),
        extended_gpu_hours=sum(run.extended_gpu_hours for run in arm.runs),
        verdict=verdict,
        detail=detail,
    )


def _equals(arm: _Arm, control: _Arm) -> bool:
    """Whether every point of the arm's runs equals the control's with the same seed, but for the clock.

    A run with its start alone says nothing, nor one that is ahead of the control's.
    """
    controls = {run.state.planned.spec.seed: run.points for run in control.runs}
    pairs = [(run.points, controls.get(run.state.planned.spec.seed, ())) for run in arm.runs]
    return all(
        1 < len(own) <= len(other)
        and all(_measured_of(mine) == _measured_of(theirs) for mine, theirs in zip(own, other, strict=False))
        for own, other in pairs
    )


def _measured_of(point: EvalPoint) -> tuple[object, ...]:
    return tuple(getattr(point, each.name) for each in fields(point) if each.name not in _CLOCK)


def _refits(view: SweepView, arm: _Arm, ceiling: float | None) -> list[CeilingRefit]:
    if ceiling is None or not arm.identified:
        return []
    start = view.plan.sweep.fit_start_gpu_hours
    refits = [refit_at_ceiling(run.points, ceiling, fit_start_gpu_hours=start) for run in arm.chosen]
    return [refit for refit in refits if refit is not None]


def _at_budget(arm: _Arm, spread: BetweenSeeds | None) -> BudgetRate | None:
    """Measured where the run got there, else forecast; of the runs that have not diverged."""
    values = [rate for run in arm.sound if (rate := _run_at_budget(run)) is not None]
    if not values:
        return None
    num, among = len(values), spread.half80 if spread is not None else 0.0

    def half(low: bool) -> float:
        widths = [v.value - v.low80 if low else v.high80 - v.value for v in values]
        return math.sqrt(sum(w * w for w in widths) + num * among * among) / num

    mean = sum(v.value for v in values) / num
    return BudgetRate(mean, mean - half(True), mean + half(False), all(v.measured for v in values))


def _value(rate: BudgetRate | None) -> float | None:
    return None if rate is None else rate.value


def _measured(arm: _Arm) -> list[tuple[float, float]]:
    """(pass rate, standard error) at the budget of each seed that got there."""
    points = [point for run in arm.sound if (point := _point_at_budget(run)) is not None]
    return [(point.pass_rate, point.pass_rate_se) for point in points]


def _point_at_budget(run: RunView) -> EvalPoint | None:
    return next((p for p in run.points if p.gpu_hours >= AT_BUDGET * run.budget_gpu_hours), None)


def _run_at_budget(run: RunView) -> BudgetRate | None:
    point = _point_at_budget(run)
    if point is not None:
        width = _Z80 * point.pass_rate_se
        return BudgetRate(point.pass_rate, point.pass_rate - width, point.pass_rate + width, True)
    forecast = run.fitted.forecast(run.budget_gpu_hours)
    if forecast is None:
        return None
    rate = forecast.pass_rate
    return BudgetRate(rate.median, rate.low80, rate.high80, False)


def _status(runs: Sequence[RunView]) -> str:
    """``finished``, or ``2 finished, 1 killed``."""
    counts = Counter(run.state.status for run in runs)
    if len(runs) == 1:
        return runs[0].state.status.value
    return ", ".join(f"{counts[status]} {status.value}" for status in RunStatus if counts[status])


def _totals(view: SweepView) -> Totals:
    entries = [entry for run in view.runs for entry in run.ledger]
    return Totals(
        runs=len(view.runs),
        full_budget=sum(run.budget_gpu_hours for run in view.runs),
        cap=view.budget.cap,
        used=sum(run.used_gpu_hours for run in view.runs),
        billed=sum(entry.gpu_hours for entry in entries),
        lost=sum(entry.gpu_hours for entry in entries if entry.kind is LedgerKind.LOST),
        saved=sum(run.saved_gpu_hours for run in view.runs),
        extended=sum(run.extended_gpu_hours for run in view.runs),
        reused_runs=sum(run.state.reused for run in view.runs),
    )
