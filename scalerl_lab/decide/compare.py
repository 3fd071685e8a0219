"""A run's arm against the control: the numbers that a decision about money rests on."""

from __future__ import annotations

from dataclasses import dataclass

from scalerl_lab.config.sweep import Sweep
from scalerl_lab.fit import FittedCurve, PooledCeiling, ceiling_difference
from scalerl_lab.records import Evidence, Interval, Role, RunState


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is known of a run's ceiling and of the control's."""

    fitted: FittedCurve
    arm: PooledCeiling | None
    """The arm's ceiling over its seeds that have not diverged; None for the control."""
    control: PooledCeiling | None
    """The control's ceiling over its seeds that have not diverged."""
    difference: Interval | None
    """Ceiling of the arm minus the control's; None for the control itself."""
    probability_below: float | None
    evidence: Evidence

    @property
    def identified(self) -> bool:
        """Whether the run's own ceiling and the control's are identified."""
        return self.fitted.identified and self.control is not None and self.control.identified


def compare(
    run: RunState,
    fitted: FittedCurve,
    arm: PooledCeiling | None,
    control: PooledCeiling | None,
    sweep: Sweep,
) -> Comparison:
    """The difference of the arm's ceiling to the control's, and all else that a decision cites.

    Args:
        run: the run to be decided on.
        fitted: its fit.
        arm: the ceiling of its arm, from the same fit of the sweep; of a control run it is not used.
        control: the control's ceiling.
        sweep: the question, with its rule.
    """
    if run.planned.role is Role.CONTROL:
        arm = None
    difference = ceiling_difference(arm, control) if arm is not None and control is not None else None
    margin = sweep.rule.margin
    below = difference.probability_below(-margin) if difference is not None else None
    evidence = Evidence(
        fit=fitted.fit,
        forecast=fitted.forecast(run.planned.budget_gpu_hours),
        control_ceiling=control.interval if control is not None else None,
        difference=difference.interval if difference is not None else None,
        probability_below=below,
        margin=margin,
    )
    return Comparison(fitted, arm, control, evidence.difference, below, evidence)
