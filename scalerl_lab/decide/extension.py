"""Which runs may be given more compute, and by how much at a time."""

from __future__ import annotations

from dataclasses import dataclass

from scalerl_lab.config.sweep import Sweep
from scalerl_lab.decide.looks import ROUNDING, at_grant
from scalerl_lab.records import Cause, RunState, RunStatus


@dataclass(frozen=True, slots=True)
class Step:
    """A run's next step of compute."""

    run_id: str
    gpu_hours: float


def next_step(run: RunState, sweep: Sweep) -> float:
    """GPU-hours of the next step of a run; 0 where it has all that any run gets.

    A step adds a share of the run's budget; the last one ends at the most that the rule allows.
    """
    extension, budget = sweep.rule.extension, run.planned.budget_gpu_hours
    left = extension.max_factor * budget - run.granted_gpu_hours
    return min(extension.step_fraction * budget, left) if left > ROUNDING * budget else 0.0


def may_be_extended(run: RunState, sweep: Sweep) -> bool:
    """Whether the rule may still give a run more: it has trained, is not stopped, and below the most."""
    alive = run.status is RunStatus.RUNNING or (run.status is RunStatus.FINISHED and at_grant(run))
    # Of one that has trained nothing yet, no forecast says what more compute would tell.
    return alive and run.gpu_hours > 0.0 and next_step(run, sweep) > 0.0


def is_rival(run: RunState, sweep: Sweep, free_gpu_hours: float) -> bool:
    """Whether a run may ask for the hours that another would be extended by, and could be given them."""
    last = run.last_decision
    asks = run.status is RunStatus.RUNNING or (last is not None and last.cause is Cause.NO_HOURS)
    return asks and may_be_extended(run, sweep) and next_step(run, sweep) <= free_gpu_hours * (1.0 + ROUNDING)
