"""A run's arm against the reference: the numbers that a decision about money rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scalerl_lab.config.sweep import Sweep, ToBest, ToControl
from scalerl_lab.decide.quantity import Measure
from scalerl_lab.fit import Difference, FittedCurve, PooledCeiling
from scalerl_lab.records import Evidence, Interval, Role, RunState


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is known of a run's arm by the rule's quantity, and of the reference."""

    measure: Measure
    fitted: FittedCurve
    num_seeds: int
    """Of the arm, with points enough for a fit."""
    own: Interval | None
    """The quantity of the arm."""
    reference: Interval | None
    """That of the reference; None while it is unknown, and for the control against itself."""
    reference_known: bool
    """Whether the reference can be told: a level always, an arm once its ceiling is identified."""
    difference: Interval | None
    """The arm's quantity less the reference's; of GPU-hours the share of them that the arm saves."""
    below: float | None
    """P(the arm is worse than the reference by more than the margin)."""
    half_width: float | None
    """Half of the 80 % interval of the difference, over the margin."""
    evidence: Evidence

    @property
    def known(self) -> bool:
        """Whether a verdict may rest on it: the run's own ceiling and the reference are identified."""
        return self.fitted.identified and self.reference_known and self.below is not None

    @property
    def whose(self) -> str:
        """The reference as a possessive: the control's 0.610."""
        match self.measure.rule.reference:
            case ToControl():
                return "the control's"
            case ToBest():
                return "the best other arm's"
            case _:
                return "the level"


def compare(
    run: RunState, fitted: FittedCurve, arms: Mapping[str, PooledCeiling], control: str, sweep: Sweep
) -> Comparison:
    """The difference of the arm's quantity to the reference's, and all else that a decision cites.

    Args:
        run: the run to be decided on.
        fitted: its fit.
        arms: the sweep's arms from one joint fit, those that have not diverged.
        control: name of the control's arm.
        sweep: the question, with its rule.
    """
    planned, rule = run.planned, sweep.rule
    measure = Measure(rule, planned.budget_gpu_hours)
    arm = arms.get(planned.arm)
    protected = planned.role is Role.CONTROL and isinstance(rule.reference, ToControl)
    against = None if protected else measure.reference(planned.arm, arms, control)
    own = measure.shown(measure.draws(arm)) if arm is not None else None
    shown = own if protected else None
    if against is not None:
        shown = measure.shown(against)
    difference = None
    if arm is not None and against is not None:
        difference = Difference(measure.draws(arm) - against)
    below = half = None
    interval = None
    if difference is not None:
        below = difference.probability_below(-measure.margin)
        interval = measure.shown_difference(difference)
        raw = difference.interval
        half = 0.5 * (raw.high80 - raw.low80) / measure.margin if measure.margin > 0.0 else None
    evidence = Evidence(
        fit=fitted.fit,
        forecast=fitted.forecast(planned.budget_gpu_hours),
        control_ceiling=shown,
        difference=interval,
        probability_below=below,
        margin=rule.margin,
    )
    return Comparison(
        measure=measure,
        fitted=fitted,
        num_seeds=arm.num_seeds if arm is not None else 0,
        own=own,
        reference=shown,
        reference_known=measure.reference_known(planned.arm, arms, control),
        difference=interval,
        below=below,
        half_width=half,
        evidence=evidence,
    )
