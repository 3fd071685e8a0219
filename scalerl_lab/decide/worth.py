"""What the next GPU-hours of a run would say about the sweep's question.

The worth of a step of compute is the variance that it is expected to take from the answers. From joint draws
of an answer q_j and of the run's mean m over the step, measured with noise of variance s^2,

    worth = sum over open answers j of cov(q_j, m)^2 / (var(m) + s^2),

exact where all is normal. The answers are, for an axis, each arm's pass rate less the control's where the two
are forecast to cross; else each arm's quantity less the reference's.

A comparison of recipes asks for the best arm only. There the worth of a step is the regret that it is
expected to save: with q_j the quantity of arm j, mu_j its mean, Z a standard normal number and
b_j = cov(q_j, m) / sqrt(var(m) + s^2) how far the step moves that mean,

    worth = E max_j (mu_j + b_j Z) - max_j mu_j.

One step may move no mean enough to change the choice where several would; so the best of 1, 2, 4 and 8 steps
counts, per step.

Sources: the preposterior variance of a linear normal model (Raiffa and Schlaifer, Applied Statistical
Decision Theory, 1961); the knowledge gradient for correlated normal beliefs (Frazier, Powell and Dayanik,
INFORMS Journal on Computing 21, 2009), over several steps (Frazier and Powell, Decision Analysis 7, 2010).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scalerl_lab.config.sweep import Axis, Compare, Sweep
from scalerl_lab.decide.divergence import find_divergence
from scalerl_lab.decide.extension import Step
from scalerl_lab.decide.quantity import Measure
from scalerl_lab.fit import FittedCurve, PooledCeiling, SweepFit, SweepRun, crossing, drawn_curves
from scalerl_lab.fit.law import Floats
from scalerl_lab.records import PlannedRun

_LEAST_CROSSING = 0.05
_FAR = 4.0
"""Times the budget up to which a crossing is looked for."""
_TINY = 1e-30
_NOTHING = 1e-9
"""What is worth less is rounding, of regret and of variance."""
_STEPS = (1, 2, 4, 8)
"""How many steps ahead a comparison looks."""
_Z = np.linspace(-6.0, 6.0, 241)
_WEIGHT = np.exp(-0.5 * _Z**2) / np.exp(-0.5 * _Z**2).sum()


@dataclass(frozen=True, slots=True)
class Ranked:
    """What the next step of each run is worth."""

    worth: dict[str, float]
    """Run id -> regret saved or variance taken; infinite of a run of which nothing can be said yet."""
    per_hour: dict[str, float]
    """The same per GPU-hour; in a comparison also what breaks a tie."""
    level: dict[str, float]
    """In a comparison, run id -> forecast at the budget, or last value; else empty."""

    def num_before(self, run_id: str) -> int:
        """How many other runs' steps are worth more per GPU-hour; in a comparison the higher level decides
        between equals, so that of many unknown runs the best go first."""
        own = self._key(run_id)
        return sum(self._key(other) > own for other in self.worth if other != run_id)

    def _key(self, run_id: str) -> tuple[float, float]:
        return self.per_hour[run_id], self.level.get(run_id, 0.0)


def rank(found: SweepFit, steps: Sequence[Step], sweep: Sweep, control: str) -> Ranked:
    """What the next step of each run is worth, by the answers at the sweep's budget for a run."""
    budget = sweep.budget.run_gpu_hours
    comparison = isinstance(sweep.question, Compare)
    measure = Measure(sweep.rule, budget)
    every = np.array([measure.draws(arm) for arm in found.arms.values()])
    answers = [] if comparison else open_answers(found.arms, sweep, control, budget)
    worth, per_hour, level = {}, {}, {}
    for step in steps:
        fitted = found.runs.get(step.run_id)
        if fitted is None or step.gpu_hours <= 0.0:
            gain = 0.0
        elif comparison:
            gain = regret_saved(fitted, step.gpu_hours, every)
        else:
            gain = variance_taken(fitted, step.gpu_hours, answers)
        worth[step.run_id] = gain if gain > _NOTHING else 0.0
        per_hour[step.run_id] = worth[step.run_id] / max(step.gpu_hours, _TINY)
        if comparison:
            level[step.run_id] = _level(fitted, budget)
    return Ranked(worth, per_hour, level)


def _level(fitted: FittedCurve | None, gpu_hours: float) -> float:
    forecast = fitted.forecast(gpu_hours) if fitted is not None else None
    if forecast is not None:
        return forecast.pass_rate.median
    return fitted.points[-1].pass_rate if fitted is not None and fitted.points else -math.inf


def to_come(
    found: SweepFit, runs: Sequence[SweepRun], planned: PlannedRun, sweep: Sweep, control: str
) -> float | None:
    """Standard deviation of what the rest of an arm's budget will change of its difference to the reference.

    All its seeds go on to the budget, and what they show is averaged, which tells no more than all of it
    would. Of a control that is the reference it is the largest change of another arm's difference. None where
    nothing can be said: of the arm, or of a seed of it that is still to come.

    Args:
        found: the joint fit.
        runs: of the sweep.
        planned: a run of the arm.
        sweep: the question.
        control: name of the control's arm.
    """
    arm, budget = planned.arm, planned.budget_gpu_hours
    measure = Measure(sweep.rule, budget)
    limits = sweep.rule.divergence
    seeds = [run for run in runs if run.arm == arm and find_divergence(run.points, limits) is None]
    left = {run.run_id: budget - (run.points[-1].gpu_hours if run.points else 0.0) for run in seeds}
    rests = [_seen_over(found.runs[run_id], rest) for run_id, rest in left.items() if rest > 0.0]
    seen = [rest for rest in rests if rest is not None]
    if arm not in found.arms or not seen or len(seen) < len(rests):
        return None
    own = measure.draws(found.arms[arm])
    reference = measure.reference(arm, found.arms, control)
    if reference is not None:
        differences = [own - reference]
    else:
        differences = [measure.draws(other) - own for name, other in found.arms.items() if name != arm]
    mean = np.mean([rest.mean for rest in seen], axis=0)
    noise = sum(rest.noise for rest in seen) / len(seen) ** 2
    variance = max(float(np.mean(mean**2)) + noise, _TINY)
    moved = [abs(float(np.mean((d - d.mean()) * mean))) / math.sqrt(variance) for d in differences]
    return max(moved, default=None)


def regret_saved(fitted: FittedCurve, step_gpu_hours: float, arms: Floats) -> float:
    """How much better the arm that is chosen in the end is expected to be, per step of compute; infinite of
    a run of which nothing can be said yet.

    Args:
        fitted: the run, by the joint fit of the sweep.
        step_gpu_hours: one step.
        arms: [arms, K] draws of the quantity, joint with the run's.
    """
    if fitted.draws is None:
        return math.inf
    if len(arms) < 2:
        return 0.0
    mean = arms.mean(axis=1)
    best = 0.0
    for steps in _STEPS:
        seen = _seen_over(fitted, steps * step_gpu_hours)
        if seen is None:
            return 0.0
        moved = ((arms - mean[:, None]) * seen.mean).mean(axis=1) / math.sqrt(max(seen.variance, _TINY))
        chosen = (mean[:, None] + moved[:, None] * _Z).max(axis=0) @ _WEIGHT
        best = max(best, (float(chosen) - float(mean.max())) / steps)
    return best


def variance_taken(fitted: FittedCurve, step_gpu_hours: float, answers: Sequence[Floats]) -> float:
    """Variance that a step of compute is expected to take from the answers, in all.

    Args:
        fitted: the run, by the joint fit of the sweep.
        step_gpu_hours: how much further it would go.
        answers: [K] draws of each, joint with the run's.
    """
    seen = _seen_over(fitted, step_gpu_hours)
    if seen is None:
        return 0.0
    moved = [float(np.mean((q - q.mean()) * seen.mean)) ** 2 for q in answers]
    return sum(moved) / max(seen.variance, _TINY)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What would be measured over a step: the mean of its points."""

    mean: Floats
    """[K] of the draws, less their mean."""
    noise: float
    """Variance of the measurement's own noise."""

    @property
    def variance(self) -> float:
        """Of the measurement: that of the draws and that of noise."""
        return float(np.mean(self.mean**2)) + self.noise


def _seen_over(fitted: FittedCurve, step_gpu_hours: float) -> _Seen | None:
    last = fitted.points[-1].gpu_hours if fitted.points else 0.0
    if last <= 0.0:
        return None
    spacing = last / max(sum(point.gpu_hours > 0.0 for point in fitted.points), 1)
    num = max(int(step_gpu_hours / max(spacing, _TINY)), 1)
    curves = fitted.curves(last + step_gpu_hours * (np.arange(num) + 1.0) / num)
    if curves is None or fitted.draws is None:
        return None
    mean = curves.mean(axis=1)
    noise = float(np.mean(fitted.draws.sigma**2)) / num
    mean = mean - mean.mean()
    return _Seen(mean, noise)


def open_answers(
    arms: Mapping[str, PooledCeiling], sweep: Sweep, control: str, budget_gpu_hours: float
) -> list[Floats]:
    """[K] joint draws of each answer that is still open."""
    measure = Measure(sweep.rule, budget_gpu_hours)
    if isinstance(sweep.question, Axis):
        base = arms.get(control)
        others = [arm for name, arm in arms.items() if name != control]
        return [] if base is None else [_where_they_cross(arm, base, budget_gpu_hours) for arm in others]
    answers = []
    for name, arm in arms.items():
        against = measure.reference(name, arms, control)
        if against is None:
            continue
        difference = measure.draws(arm) - against
        below, least = float(np.mean(difference < -measure.margin)), sweep.rule.extension.open_probability
        low, high = np.quantile(difference, (0.1, 0.9))
        if least <= below <= 1.0 - least or high - low > measure.margin:
            answers.append(difference)
    return answers


def _where_they_cross(arm: PooledCeiling, base: PooledCeiling, budget_gpu_hours: float) -> Floats:
    """Pass rate of an arm less the control's at the compute where the arm is forecast to get ahead."""
    found = crossing(arm.law, base.law, budget_gpu_hours / 100.0, _FAR * budget_gpu_hours)
    likely = found.gpu_hours is not None and found.probability >= _LEAST_CROSSING
    at = found.gpu_hours.median if likely and found.gpu_hours is not None else budget_gpu_hours
    gap: Floats = (drawn_curves(arm.law, at) - drawn_curves(base.law, at))[:, 0]
    return gap
