"""When a run is looked at, together with its whole sweep.

A verdict rests on the joint fit of the sweep, which takes about a second for twelve runs. So a run is looked
at when it passes a multiple of 5 % of its budget, at its grant, and when it has diverged; between looks it
goes on, and its last verdict stands. Whether a look is due follows from the points and the last verdict on
record, not from when it is asked.
"""

from __future__ import annotations

from scalerl_lab.config.sweep import Sweep
from scalerl_lab.decide.divergence import find_divergence
from scalerl_lab.fit import num_in_window
from scalerl_lab.records import EvalPoint, RunState

LOOK_FRACTION = 0.05
"""Share of a run's budget from one look to the next."""
ROUNDING = 1e-9


def at_grant(run: RunState) -> bool:
    """Whether a run has used the compute granted to it."""
    return run.gpu_hours >= run.granted_gpu_hours * (1.0 - ROUNDING)


def is_look_due(run: RunState, sweep: Sweep, share: float | None = None) -> bool:
    """Whether a run's points since its last verdict call for another.

    Args:
        run: the run.
        sweep: the question; with fewer points in the window than its rule demands only the grant is a look.
        share: of the budget, from one look to the next; None: ``LOOK_FRACTION``.
    """
    last = run.last_decision
    new = [point for point in run.points if last is None or point.step > last.step]
    if not new:
        return False
    if at_grant(run) or find_divergence(run.points, sweep.rule.divergence) is not None:
        return True
    if num_in_window(run.points, sweep.fit_start_gpu_hours) < sweep.rule.min_points:
        return False
    return _passes_multiple(run.points, new, (share or LOOK_FRACTION) * run.planned.budget_gpu_hours)


def _passes_multiple(points: tuple[EvalPoint, ...], new: list[EvalPoint], step: float) -> bool:
    before = points[-len(new) - 1].gpu_hours if len(points) > len(new) else 0.0
    return _multiples(points[-1].gpu_hours, step) > _multiples(before, step)


def _multiples(gpu_hours: float, step: float) -> int:
    return int(gpu_hours / step * (1.0 + ROUNDING))
