"""What rules of stopping are measured on: sweeps on record whose outcome is known.

Simulated sweeps know their truth: of an ablation the ceiling of each arm, of a comparison the level at the
budget that its runs, with the luck of their seeds, really have. Of real ones the truth of a run is the mean
of the last three points of its record within the budget, and which arms are tied or worse follows from that;
a sweep is then the runs of one source and task (``index.csv``: slug, task), at least eight, those left out
that do not reach half of the longest; the budget is what all the others reach. Of the published
leave-one-out study the truth is the published ceiling, and the budget is 16,000 GPU-hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scalerl_lab.config.sweep import (
    Arm,
    Axis,
    Budget,
    Compare,
    LeaveOneOut,
    PassRate,
    Rule,
    Seeds,
    Sweep,
    ToBest,
)
from scalerl_lab.decide.recorded import Recorded, record
from scalerl_lab.errors import DataError
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.drawn import DrawnKind, draw_sweep
from scalerl_lab.fit.published import FIT_START_GPU_HOURS
from scalerl_lab.fit.simulate import BUDGET_GPU_HOURS, Collapse, SimulatedSweep, SweepKind
from scalerl_lab.report.bench.digitised import leave_one_out_curves
from scalerl_lab.report.bench.folder import INDEX, RealCurve
from scalerl_lab.report.forecasts.sheet import read_sheet

PUBLISHED = "published"
LEAST_RUNS = 8
_LAST_POINTS = 3
_SPARE = 2.0
"""Simulated runs are longer than their budget by this many evaluations more than extensions may reach."""


@dataclass(frozen=True, slots=True)
class Case:
    """A sweep to be replayed, and what came, or would come, of it."""

    kind: str
    name: str
    recorded: Recorded
    truth: dict[str, float]
    """Arm -> what the rule compares: the ceiling, or the level at the budget."""
    at_budget: dict[str, float]
    """Arm -> the level at the budget, by which the choice of an arm is judged."""
    against_best: bool
    """Whether the reference is the best arm; else the control."""
    collapse_gpu_hours: dict[str, float] = field(default_factory=dict)
    """Run -> compute of its peak, for runs that collapse; nothing else is said of these."""

    @property
    def reference(self) -> float:
        """The truth of the reference."""
        return max(self.truth.values()) if self.against_best else self.truth[self.recorded.control]

    def is_tied(self, arm: str) -> bool:
        """Whether an arm lies within the margin of the reference, or above it."""
        return self.truth[arm] >= self.reference - self.recorded.sweep.rule.margin


@dataclass(frozen=True, slots=True)
class SimulatedTask:
    """One simulated sweep; the same task is the same case."""

    kind: DrawnKind | SweepKind
    seed: int
    number: int
    budget_gpu_hours: float
    rule: Rule

    def case(self) -> Case:
        """The sweep with its truth."""
        kinds = [kind.value for kind in (*SweepKind, *DrawnKind)]
        rng = np.random.default_rng([self.seed, kinds.index(self.kind.value), self.number])
        longest = self.budget_gpu_hours * self.rule.extension.max_factor + _SPARE * 257.0
        # Drawn kinds place a collapse by the budget: it is drawn for the budget, then followed further.
        simulated = draw_sweep(
            self.kind, rng, budget_gpu_hours=self.budget_gpu_hours, longest_gpu_hours=longest
        )
        return simulated_case(simulated, self.kind.value, self.number, self.budget_gpu_hours, self.rule)


def simulated_case(
    simulated: SimulatedSweep, kind: str, number: int, budget_gpu_hours: float, rule: Rule
) -> Case:
    """A simulated sweep as a case; the reference is the best arm for comparisons, else the control."""
    against_best = kind in (SweepKind.COMPARE.value, DrawnKind.TWELVE_RECIPES.value)
    arms = {run.arm.name: run.arm for run in simulated.runs}
    sweep = question_over(
        list(arms),
        kind="axis" if kind == SweepKind.AXIS.value else "compare" if against_best else "leave_one_out",
        budget_gpu_hours=budget_gpu_hours,
        fit_start_gpu_hours=FIT_START_GPU_HOURS,
        rule=best_at_budget(rule) if against_best else rule,
    )
    levels: dict[str, list[float]] = {}
    for run in simulated.runs:
        levels.setdefault(run.arm.name, []).append(float(run.truth.mean(budget_gpu_hours)))
    at_budget = {name: sum(each) / len(each) for name, each in levels.items()}
    return Case(
        kind=kind,
        name=f"{kind} {number}",
        recorded=record(sweep, simulated.curves, simulated.arms, simulated.control),
        truth=at_budget if against_best else {name: arm.truth.A for name, arm in arms.items()},
        at_budget=at_budget,
        against_best=against_best,
        collapse_gpu_hours={
            run.curve.name: run.truth.departure.at
            for run in simulated.runs
            if isinstance(run.truth.departure, Collapse) and run.truth.departure.at < budget_gpu_hours
        },
    )


def question_over(
    arms: Sequence[str], *, kind: str, budget_gpu_hours: float, fit_start_gpu_hours: float, rule: Rule
) -> Sweep:
    """A question over arms on record, the first of which is the control.

    Args:
        arms: their names.
        kind: ``leave_one_out``, ``compare`` or ``axis``; one arm alone is no question to compare.
        budget_gpu_hours: for each run.
        fit_start_gpu_hours: points before it are left out of fits.
        rule: when to stop and to extend.
    """
    question: LeaveOneOut | Compare | Axis
    if kind == "compare" and len(arms) > 1:
        question = Compare(recipes=tuple(arms))
    elif kind == "axis":
        question = Axis(path="recorded", values=tuple(arms))
    else:
        question = LeaveOneOut(arms={"recorded": Arm(set={})})
    return Sweep(
        name="recorded",
        recipe=arms[0],
        question=question,
        seeds=Seeds(),
        budget=Budget(run_gpu_hours=budget_gpu_hours),
        fit_start_gpu_hours=fit_start_gpu_hours,
        rule=rule,
    )


def best_at_budget(rule: Rule) -> Rule:
    """The rule that looks for the best arm at the budget."""
    return rule.model_copy(update={"quantity": PassRate(), "reference": ToBest()})


def published_case(points: str, rule: Rule) -> Case:
    """The published leave-one-out runs: one seed each, as drawn.

    Raises:
        NotFound: there is no such file.
        DataError: it cannot be read, or lacks a run of the study.
    """
    found = leave_one_out_curves(points)
    names = [one.run.name for one in found]
    sweep = question_over(
        names,
        kind="leave_one_out",
        budget_gpu_hours=BUDGET_GPU_HOURS,
        fit_start_gpu_hours=FIT_START_GPU_HOURS,
        rule=rule,
    )
    return Case(
        kind=PUBLISHED,
        name="leave-one-out, digitised",
        recorded=record(sweep, [one.curve for one in found], names, names[0]),
        truth={one.run.name: one.run.A for one in found},
        at_budget={one.run.name: float(one.run.pass_rate(BUDGET_GPU_HOURS)) for one in found},
        against_best=False,
    )


def folder_cases(folder: Path, curves: Sequence[RealCurve], rule: Rule) -> list[Case]:
    """The sweeps of a folder of curves whose values lie between 0 and 1; its index says the task of each run.

    Raises:
        DataError: the folder's index lacks a column.
    """
    tasks = _tasks(folder / INDEX)
    sets: dict[tuple[str, str], list[Curve]] = {}
    for one in curves:
        task = tasks.get((one.group, one.curve.name))
        if task is not None and one.curve.bounds == (0.0, 1.0) and one.curve.compute.size:
            sets.setdefault((one.source, task), []).append(one.curve)
    cases = []
    for (source, task), members in sets.items():
        longest = max(float(curve.compute[-1]) for curve in members)
        long = [curve for curve in members if curve.compute[-1] >= 0.5 * longest]
        if len(long) >= LEAST_RUNS:
            cases.append(real_case(source, task, long, rule))
    return cases


def real_case(kind: str, name: str, curves: Sequence[Curve], rule: Rule) -> Case:
    """Real runs side by side; the budget is what all reach, and the first is the control."""
    budget = min(float(curve.compute[-1]) for curve in curves)
    names = [curve.name for curve in curves]
    best = best_at_budget(rule)
    sweep = question_over(names, kind="compare", budget_gpu_hours=budget, fit_start_gpu_hours=0.0, rule=best)
    cut = [curve.between(None, budget) for curve in curves]
    level = {curve.name: float(np.mean(curve.value[-_LAST_POINTS:])) for curve in cut}
    return Case(
        kind=kind,
        name=name,
        recorded=record(sweep, cut, names, names[0]),
        truth=level,
        at_budget=level,
        against_best=True,
    )


def _tasks(index: Path) -> dict[tuple[str, str], str]:
    """(group, run) -> its task."""
    sheet = read_sheet(str(index))
    missing = [name for name in ("group", "run_id", "task") if name not in sheet.header]
    if missing:
        raise DataError(f"{index} has no column {', '.join(missing)}; it says which runs are of one task")
    columns = [[cell.strip() for cell in sheet.column(name)] for name in ("group", "run_id", "task")]
    return {(group, run): task for group, run, task in zip(*columns, strict=True)}
