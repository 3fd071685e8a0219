"""What the next GPU-hours of a run would say about the sweep's question.

The worth of a step of compute is the variance that it is expected to take from the answers. From joint draws
of an answer q_j and of the run's mean m over the step, measured with noise of variance s^2,

    worth = sum over open answers j of cov(q_j, m)^2 / (var(m) + s^2),

exact where all is normal. The answers are, for a comparison of recipes, how far each contender lies from the
best of the others; for an axis, each arm's pass rate less the control's where the two are forecast to cross;
else each arm's quantity less the reference's.

Source: the preposterior variance of a linear normal model (Raiffa and Schlaifer, Applied Statistical Decision
Theory, 1961).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scalerl_lab.config.sweep import Axis, Compare, Sweep
from scalerl_lab.decide.quantity import Measure
from scalerl_lab.fit import FittedCurve, PooledCeiling, SweepFit, crossing, drawn_curves
from scalerl_lab.fit.law import Floats

_CONTENDER = 0.05
"""Least probability of being the best that makes an arm a contender."""
_LEAST_CROSSING = 0.05
_FAR = 4.0
"""Times the budget up to which a crossing is looked for."""
_TINY = 1e-30


def worthiest(
    found: SweepFit, run_ids: Sequence[str], sweep: Sweep, control: str, budget_gpu_hours: float
) -> list[str]:
    """The runs in falling order of what their next extension would say, those alike in the order of ids."""
    answers = open_answers(found.arms, sweep, control, budget_gpu_hours)
    step = sweep.rule.extension.step_fraction * budget_gpu_hours

    def worth(run_id: str) -> float:
        return worth_of_step(found.runs[run_id], step, answers) if run_id in found.runs else 0.0

    return sorted(set(run_ids), key=lambda run_id: (-worth(run_id), run_id))


def worth_of_step(fitted: FittedCurve, step_gpu_hours: float, answers: Sequence[Floats]) -> float:
    """Variance that a step of compute is expected to take from the answers, in all.

    Args:
        fitted: the run, by the joint fit of the sweep.
        step_gpu_hours: how much further it would go.
        answers: [K] draws of each, joint with the run's.
    """
    last = fitted.points[-1].gpu_hours if fitted.points else 0.0
    if last <= 0.0:
        return 0.0
    spacing = last / max(sum(point.gpu_hours > 0.0 for point in fitted.points), 1)
    num = max(int(step_gpu_hours / max(spacing, _TINY)), 1)
    curves = fitted.curves(last + step_gpu_hours * (np.arange(num) + 1.0) / num)
    if curves is None or fitted.draws is None:
        return 0.0
    mean = curves.mean(axis=1)
    noise = float(np.mean(fitted.draws.sigma**2)) / num
    mean = mean - mean.mean()
    scale = float(np.mean(mean**2)) + noise
    return sum(float(np.mean((q - q.mean()) * mean)) ** 2 for q in answers) / max(scale, _TINY)


def open_answers(
    arms: Mapping[str, PooledCeiling], sweep: Sweep, control: str, budget_gpu_hours: float
) -> list[Floats]:
    """[K] joint draws of each answer that is still open."""
    measure = Measure(sweep.rule, budget_gpu_hours)
    if isinstance(sweep.question, Compare):
        return _to_the_best({name: measure.draws(arm) for name, arm in arms.items()})
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


def _to_the_best(draws: Mapping[str, Floats]) -> list[Floats]:
    """Each contender's quantity less that of the best other arm."""
    if len(draws) < 2:
        return []
    names = list(draws)
    every = np.array([draws[name] for name in names])
    best = np.argmax(every, axis=0)
    contenders = [i for i in range(len(names)) if np.mean(best == i) >= _CONTENDER]
    return [every[i] - np.delete(every, i, axis=0).max(axis=0) for i in contenders]


def _where_they_cross(arm: PooledCeiling, base: PooledCeiling, budget_gpu_hours: float) -> Floats:
    """Pass rate of an arm less the control's at the compute where the arm is forecast to get ahead."""
    found = crossing(arm.law, base.law, budget_gpu_hours / 100.0, _FAR * budget_gpu_hours)
    likely = found.gpu_hours is not None and found.probability >= _LEAST_CROSSING
    at = found.gpu_hours.median if likely and found.gpu_hours is not None else budget_gpu_hours
    gap: Floats = (drawn_curves(arm.law, at) - drawn_curves(base.law, at))[:, 0]
    return gap
