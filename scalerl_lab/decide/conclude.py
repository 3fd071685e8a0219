"""What a replayed sweep says in the end: differences to the control, and which arm to take."""

from __future__ import annotations

from dataclasses import dataclass

from scalerl_lab.decide.analysis import fit_together
from scalerl_lab.decide.recorded import Recorded
from scalerl_lab.decide.replay import Move, Replayed
from scalerl_lab.fit import Difference, SweepRun, ceiling_difference


@dataclass(frozen=True, slots=True)
class Conclusion:
    """By the joint fit of all points that were reported."""

    differences: dict[str, Difference]
    """Arm -> ceiling minus the control's; arms without a fit, or all of whose runs diverged, are left out."""
    forecasts: dict[str, float]
    """Arm -> median pass rate at the budget, mean over its runs."""


def conclude(recorded: Recorded, replayed: Replayed) -> Conclusion:
    """The joint fit of what a replay reported; the same points are fitted once per process."""
    sweep = recorded.sweep
    states = [outcome.state for outcome in replayed.outcomes if outcome.state.points]
    found = fit_together(
        [SweepRun(state.planned.run_id, state.planned.arm, state.points) for state in states], sweep
    )
    control = found.arms.get(recorded.control)
    differences = {
        arm: ceiling_difference(ceiling, control)
        for arm, ceiling in found.arms.items()
        if control is not None and arm != recorded.control
    }
    medians: dict[str, list[float]] = {}
    for state in states:
        forecast = found.runs[state.planned.run_id].forecast(sweep.budget.run_gpu_hours)
        if forecast is not None and state.planned.arm in found.arms:
            medians.setdefault(state.planned.arm, []).append(forecast.pass_rate.median)
    return Conclusion(differences, {arm: sum(each) / len(each) for arm, each in medians.items()})


def chosen_by_forecast(replayed: Replayed, conclusion: Conclusion) -> str:
    """The arm with the highest forecast among those with a run not killed; where none has one, by value."""
    alive = {outcome.state.planned.arm for outcome in replayed.outcomes if outcome.move is not Move.KILL}
    among = {arm: value for arm, value in conclusion.forecasts.items() if arm in alive}
    known = among or conclusion.forecasts
    return max(known, key=lambda arm: known[arm]) if known else chosen_by_value(replayed)


def chosen_by_value(replayed: Replayed) -> str:
    """The arm of the run whose last value is the highest, as tuners choose; the first of several."""
    last = [
        (outcome.state.points[-1].pass_rate, -place, outcome.state.planned.arm)
        for place, outcome in enumerate(replayed.outcomes)
        if outcome.state.points
    ]
    return max(last)[2]
