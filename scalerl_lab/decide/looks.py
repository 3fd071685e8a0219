"""When a run is looked at together with its whole sweep.

A joint fit of a sweep of twelve runs costs about a second, a run's own fit some milliseconds. So the joint
fit is made when a run passes a multiple of 5 % of its budget, at its grant, and at every point while its own
fit says that a kill is near (by ceilings against the control's, whatever the rule compares: it only adds
looks). Whether a point is a look follows from what is on record, not from when it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from scalerl_lab.config.sweep import Sweep
from scalerl_lab.fit import FittedCurve
from scalerl_lab.records import FitStatus, Role, RunState

LOOK_FRACTION = 0.05
"""Share of a run's budget from one look to the next."""
ROUNDING = 1e-9


def look_gpu_hours(run: RunState) -> float:
    """Compute from one look to the next."""
    return LOOK_FRACTION * run.planned.budget_gpu_hours


def at_grant(run: RunState) -> bool:
    """Whether a run has used the compute granted to it."""
    return run.gpu_hours >= run.granted_gpu_hours * (1.0 - ROUNDING)


def is_look(run: RunState, alone: FittedCurve) -> bool:
    """Whether a run's last point is at its grant or passes a multiple of the distance between looks.

    Points that another sweep left are looked at once, wherever they end: a trial may start on the answer.

    Args:
        run: the run.
        alone: its own fit; with too few points for one, only the grant is a look.
    """
    if at_grant(run):
        return True
    if alone.fit.status is FitStatus.TOO_FEW_POINTS:
        return False
    if run.reused and run.last_decision is None:
        return True
    step = look_gpu_hours(run)
    before = run.points[-2].gpu_hours if len(run.points) > 1 else 0.0
    return _looks_by(run.gpu_hours, step) > _looks_by(before, step)


def is_kill_near(run: RunState, alone: FittedCurve, controls: Sequence[FittedCurve], *, sweep: Sweep) -> bool:
    """Whether by own fits the 80 % interval of an arm's ceiling lies below the control's by the margin.

    Args:
        run: the run.
        alone: its own fit.
        controls: own fits of the control's seeds; those that are not identified say nothing.
        sweep: the question, with its margin.
    """
    known = [fit.fit.ceiling.median for fit in controls if fit.identified and fit.fit.ceiling is not None]
    ceiling = alone.fit.ceiling
    if run.planned.role is Role.CONTROL or not alone.identified or ceiling is None or not known:
        return False
    return ceiling.high80 < sum(known) / len(known) - sweep.rule.margin


def _looks_by(gpu_hours: float, step: float) -> int:
    return int(gpu_hours / step * (1.0 + ROUNDING))
