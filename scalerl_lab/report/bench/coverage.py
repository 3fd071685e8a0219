"""How often intervals hold the truth: simulated sweeps, cut at fractions of their budget.

At each cut every run is fitted alone, and all runs are fitted together, to the points from the fit start
on and R0 as measured. Judged are the intervals of

- the ceiling A of the run,
- the pass rate at the budget, of the curve itself, without noise,
- the run's A minus the control's (the mean over the control's seeds), for runs that are not the control,
- the arm's A minus the control arm's, what many seeds of both would show, where runs are fitted together.

The first three are about the runs as they are, seed and all. For runs that leave the law only the pass
rate is judged, apart from the others. Fits without an asymptote are counted as absent, not as wrong.

In a fit of siblings draw k of every fit belongs together; of two runs fitted alone the draws are
independent, so one of them is shuffled.

Notation: K draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import numpy as np

from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.prediction import CurveFit
from scalerl_lab.fit.published import FIT_START_GPU_HOURS
from scalerl_lab.fit.score import BANDS
from scalerl_lab.fit.simulate import SimulatedRun, SimulatedSweep, SweepKind, arms_of
from scalerl_lab.records import FitStatus, Shape
from scalerl_lab.report.bench.fitting import FittedTogether, Fitters, SweepTask, for_each

FRACTIONS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0)
"""Of the budget, at which the sweeps are cut."""
NINETY = BANDS.index(0.9)


class Pooling(StrEnum):
    """How a run was fitted."""

    ALONE = "alone"
    POOLED = "pooled"


class Quantity(StrEnum):
    """What an interval is of."""

    CEILING = "ceiling"
    AT_BUDGET = "pass_rate_at_budget"
    DIFFERENCE = "difference_to_control"
    ARM_DIFFERENCE = "arm_difference_to_control"
    AT_BUDGET_OFF_LAW = "pass_rate_at_budget_off_law"
    """Of runs that do not follow the law."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The intervals of one quantity of one run against the truth."""

    sweep: int
    pooling: Pooling
    fraction: float
    quantity: Quantity
    arm: str
    identified: bool
    error: float | None
    """Median minus truth; None where the fit says nothing of the quantity."""
    inside: tuple[bool, ...]
    """Whether each of ``BANDS`` holds the truth."""
    width: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """One quantity at one cut, over all runs."""

    kind: SweepKind
    pooling: Pooling
    fraction: float
    quantity: Quantity
    runs: int
    absent: int
    """Of these, how many fits said nothing of the quantity; they are in no other number."""
    identified: float
    coverage: tuple[float, ...]
    """Share of intervals that hold the truth, for each of ``BANDS``."""
    coverage90_se: float | None
    """Standard error of the 90 % one, sweeps being independent and runs of one not; None for one sweep."""
    width: tuple[float, ...]
    mean_absolute_error: float
    bias: float
    worst_arm: str
    """The arm whose 90 % coverage is furthest from 90 %."""
    worst_arm_coverage90: float


_Judge = Callable[[Quantity, SimulatedRun, CurveFit, Floats | None, float], Judged]


def measure_coverage(
    kind: SweepKind,
    fitters: Fitters,
    *,
    runs: int,
    budget_gpu_hours: float,
    seed: int = 0,
    jobs: int = 1,
    fractions: Sequence[float] = FRACTIONS,
    done: Callable[[int, int], None] | None = None,
) -> list[CoverageRow]:
    """Coverage over as many sweeps as have at least ``runs`` runs besides their controls.

    Args:
        kind: of the sweeps.
        fitters: how to fit.
        runs: the least number of runs that each row of lawful arms rests on.
        budget_gpu_hours: of each run.
        seed: the same seed gives the same sweeps.
        jobs: processes.
        fractions: of the budget.
        done: called with sweeps done and sweeps in all.
    """
    _, *others = arms_of(kind)
    lawful = sum(arm.num_seeds for arm in others if arm.truth.shape is Shape.LAW)
    num = -(-runs // max(lawful, 1))
    tasks = [SweepTask(kind, seed, number, budget_gpu_hours) for number in range(num)]
    judge = partial(judge_sweep, fitters=fitters, fractions=tuple(fractions))
    found = for_each(judge, tasks, jobs, None if done is None else lambda count: done(count, num))
    return coverage_rows(kind, [judged for sweep in found for judged in sweep])


def judge_sweep(task: SweepTask, fitters: Fitters, fractions: Sequence[float]) -> list[Judged]:
    """All intervals of one simulated sweep."""
    sweep = task.sweep()
    judged = []
    for place, fraction in enumerate(fractions):
        # At the budget itself a point is inside in spite of rounding.
        until = fraction * sweep.budget_gpu_hours * (1.0 + 1e-9)
        curves = [curve.between(FIT_START_GPU_HOURS, until) for curve in sweep.curves]
        alone, together = [fitters.alone(curve) for curve in curves], fitters.together(curves, sweep.arms)
        judge = partial(_judge, task.number, Pooling.ALONE, fraction)
        judged += _judge_fits(sweep, alone, task.rng(1 + place), judge)
        judge = partial(_judge, task.number, Pooling.POOLED, fraction)
        judged += _judge_fits(sweep, together.fits, None, judge)
        judged += _judge_arms(sweep, together, judge)
    return judged


def _judge_fits(
    sweep: SimulatedSweep,
    fits: Sequence[CurveFit],
    shuffle: np.random.Generator | None,
    judge: _Judge,
) -> list[Judged]:
    """The intervals of one cut; ``shuffle`` where the draws of different fits are independent."""
    controls = [place for place, run in enumerate(sweep.runs) if run.arm.name == sweep.control]
    control_truth = float(np.mean([sweep.runs[place].truth.A for place in controls]))
    control = _mean_ceiling([fits[place] for place in controls], shuffle)
    judged = []
    for run, fit in zip(sweep.runs, fits, strict=True):
        at_budget = fit.predict([sweep.budget_gpu_hours]).mean[:, 0]
        truth = float(run.truth.mean(sweep.budget_gpu_hours))
        if run.truth.shape is not Shape.LAW:
            judged.append(judge(Quantity.AT_BUDGET_OFF_LAW, run, fit, at_budget, truth))
            continue
        judged.append(judge(Quantity.AT_BUDGET, run, fit, at_budget, truth))
        judged.append(judge(Quantity.CEILING, run, fit, fit.asymptote, run.truth.A))
        if run.arm.name != sweep.control:
            difference = _difference(fit.asymptote, control, shuffle)
            judged.append(judge(Quantity.DIFFERENCE, run, fit, difference, run.truth.A - control_truth))
    return judged


def _judge_arms(sweep: SimulatedSweep, together: FittedTogether, judge: _Judge) -> list[Judged]:
    """The intervals of differences between arms; each arm is named by its first seed."""
    judged = []
    control = together.arms.get(sweep.control)
    control_truth = sweep.runs[0].arm.truth.A
    for run, fit in zip(sweep.runs, together.fits, strict=True):
        arm = together.arms.get(run.arm.name)
        lawful = run.arm.truth.shape is Shape.LAW and run.arm.name != sweep.control
        if lawful and run.seed == 0 and arm is not None and control is not None:
            truth = run.arm.truth.A - control_truth
            judged.append(judge(Quantity.ARM_DIFFERENCE, run, fit, arm.A - control.A, truth))
    return judged


def _mean_ceiling(fits: Sequence[CurveFit], shuffle: np.random.Generator | None) -> Floats | None:
    """[K] mean ceiling of the control's seeds; None where a fit has no asymptote."""
    total: Floats | None = None
    for fit in fits:
        if fit.asymptote is None:
            return None
        total = fit.asymptote if total is None else _combined(total, fit.asymptote, 1.0, shuffle)
    return None if total is None else total / len(fits)


def _difference(
    ceiling: Floats | None, control: Floats | None, shuffle: np.random.Generator | None
) -> Floats | None:
    if ceiling is None or control is None:
        return None
    return _combined(ceiling, control, -1.0, shuffle)


def _combined(a: Floats, b: Floats, times: float, shuffle: np.random.Generator | None) -> Floats:
    """a + times b draw by draw; b shuffled where the draws are independent."""
    if shuffle is not None:
        num = min(a.size, b.size)
        a, b = shuffle.permutation(a)[:num], shuffle.permutation(b)[:num]
    combined: Floats = a + times * b
    return combined


def _judge(
    number: int,
    pooling: Pooling,
    fraction: float,
    quantity: Quantity,
    run: SimulatedRun,
    fit: CurveFit,
    draws: Floats | None,
    truth: float,
) -> Judged:
    identified = fit.status is FitStatus.IDENTIFIED
    judged = partial(Judged, number, pooling, fraction, quantity, run.arm.name, identified)
    if draws is None:
        return judged(None, (), ())
    low = np.quantile(draws, [0.5 - band / 2.0 for band in BANDS])
    high = np.quantile(draws, [0.5 + band / 2.0 for band in BANDS])
    return judged(
        float(np.median(draws)) - truth,
        tuple(bool(a <= truth <= b) for a, b in zip(low, high, strict=True)),
        tuple(float(width) for width in high - low),
    )


def coverage_rows(kind: SweepKind, judged: Iterable[Judged]) -> list[CoverageRow]:
    """One row for each way of fitting, fraction and quantity, in the order in which they come."""
    groups: dict[tuple[Pooling, float, Quantity], list[Judged]] = {}
    for one in judged:
        groups.setdefault((one.pooling, one.fraction, one.quantity), []).append(one)
    return [_row(kind, group) for group in groups.values() if any(one.inside for one in group)]


def _row(kind: SweepKind, group: Sequence[Judged]) -> CoverageRow:
    told = [one for one in group if one.error is not None]
    inside = np.array([one.inside for one in told], dtype=np.float64)
    errors = np.array([one.error for one in told], dtype=np.float64)
    arms: dict[str, list[float]] = {}
    sweeps: dict[int, list[float]] = {}
    for one in told:
        arms.setdefault(one.arm, []).append(one.inside[NINETY])
        sweeps.setdefault(one.sweep, []).append(one.inside[NINETY])
    by_arm = {arm: float(np.mean(held)) for arm, held in arms.items()}
    worst = max(by_arm, key=lambda arm: abs(by_arm[arm] - BANDS[NINETY]))
    return CoverageRow(
        kind=kind,
        pooling=group[0].pooling,
        fraction=group[0].fraction,
        quantity=group[0].quantity,
        runs=len(group),
        absent=len(group) - len(told),
        identified=float(np.mean([one.identified for one in group])),
        coverage=tuple(float(share) for share in inside.mean(axis=0)),
        coverage90_se=_clustered_se(list(sweeps.values())),
        width=tuple(float(width) for width in np.mean([one.width for one in told], axis=0)),
        mean_absolute_error=float(np.abs(errors).mean()),
        bias=float(errors.mean()),
        worst_arm=worst,
        worst_arm_coverage90=by_arm[worst],
    )


def _clustered_se(clusters: Sequence[Sequence[float]]) -> float | None:
    """Standard error of the mean over all values, clusters being independent of each other."""
    if len(clusters) < 2:
        return None
    values = np.concatenate([np.asarray(cluster, dtype=np.float64) for cluster in clusters])
    mean = float(values.mean())
    off = np.array([float(np.sum(np.asarray(cluster) - mean)) for cluster in clusters])
    num = len(clusters)
    return float(np.sqrt(num / (num - 1.0) * np.sum(off**2)) / values.size)
