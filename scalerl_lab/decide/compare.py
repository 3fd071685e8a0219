"""A run's arm against the control: the numbers that a decision about money rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scalerl_lab.config.sweep import Sweep
from scalerl_lab.decide.divergence import find_divergence
from scalerl_lab.fit import FittedCurve, PooledCeiling, ceiling_difference, pool
from scalerl_lab.records import Evidence, FitStatus, Interval, Role, RunState


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
    siblings: Sequence[FittedCurve],
    controls: Sequence[FittedCurve],
    sweep: Sweep,
) -> Comparison:
    """Pool the arm's seeds and the control's, and take the difference of their ceilings.

    Args:
        run: the run to be decided on.
        fitted: its fit.
        siblings: fits of its arm's other seeds.
        controls: fits of the control's seeds.
        sweep: the question, with its rule.

    Seeds that have diverged are left out: where a run collapsed says nothing of its arm's ceiling.
    """
    control = _pool_stable(controls, sweep)
    arm = _pool_stable([fitted, *siblings], sweep) if run.planned.role is Role.ARM else None
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


def _pool_stable(curves: Sequence[FittedCurve], sweep: Sweep) -> PooledCeiling | None:
    return pool(
        [
            curve
            for curve in curves
            if curve.fit.status is not FitStatus.TOO_FEW_POINTS
            and find_divergence(curve.points, sweep.rule.divergence) is None
        ]
    )
