"""What becomes of a run: continue, kill, extend or finish, with the reason as a sentence."""

from __future__ import annotations

from scalerl_lab.config.sweep import Sweep
from scalerl_lab.decide.compare import Comparison, compare
from scalerl_lab.decide.divergence import find_divergence
from scalerl_lab.decide.looks import ROUNDING, at_grant, look_gpu_hours
from scalerl_lab.decide.wording import hours, midpoints, probability, spent, with_range
from scalerl_lab.fit import FittedCurve, PooledCeiling
from scalerl_lab.records import (
    Action,
    Cause,
    Decision,
    EndReason,
    Evidence,
    Role,
    RunState,
    TrialEnded,
)

_NO_EVIDENCE = Evidence(None, None, None, None, None, None)


def decide(
    run: RunState,
    fitted: FittedCurve,
    arm: PooledCeiling | None,
    control: PooledCeiling | None,
    *,
    sweep: Sweep,
    free_gpu_hours: float,
) -> Decision:
    """The decision on one run by the sweep's rule.

    Args:
        run: its points, role, budget and the compute granted to it so far.
        fitted: its fit.
        arm: the ceiling of its arm over the seeds that have not diverged; None while none has a fit.
        control: the same of the control, from the same fit of the sweep.
        sweep: the question, with fit start, margin and probabilities.
        free_gpu_hours: what the sweep's cap leaves beyond all compute used and granted.

    Returns:
        In this order: a kill for divergence; below the grant, a kill where the ceiling of the arm lies
        below the control's by more than the margin with the demanded probability, both being
        identified; at the grant, an extension or the finish; else continue.
    """
    seen = compare(run, fitted, arm, control, sweep)
    diverged = find_divergence(run.points, sweep.rule.divergence)
    if diverged is not None:
        reason = f"Diverged: {diverged.why}; after {_spent(run)}."
        return _decision(run, Action.KILL, diverged.cause, reason, seen.evidence)
    if at_grant(run):
        return _at_the_grant(run, seen, sweep, free_gpu_hours)
    return _below_the_grant(run, seen, sweep)


def decide_between_looks(run: RunState, alone: FittedCurve, *, sweep: Sweep) -> Decision:
    """The decision on a run below its grant at a point that is no look: it goes on.

    Args:
        run: the run; it has not diverged.
        alone: its fit without its siblings.
        sweep: the question, with its rule.
    """
    evidence = Evidence(
        fit=alone.fit,
        forecast=alone.forecast(run.planned.budget_gpu_hours),
        control_ceiling=None,
        difference=None,
        probability_below=None,
        margin=sweep.rule.margin,
    )
    every = f"looks at the whole sweep, one every {hours(look_gpu_hours(run))} GPU-hours"
    if not alone.identified:
        cause = Cause.NOT_IDENTIFIED
        state = f"by its own fit the ceiling is not identified: {_clause(alone.fit.why)}"
    else:
        cause = Cause.IS_CONTROL if run.planned.role is Role.CONTROL else Cause.WITHIN_MARGIN
        assert alone.fit.ceiling is not None
        state = f"by its own fit the ceiling is {with_range(alone.fit.ceiling)}"
    reason = f"Between {every}, after {_spent(run)}; {state}."
    return _decision(run, Action.CONTINUE, cause, reason, evidence)


def decide_ended(run: RunState, ended: TrialEnded) -> Decision:
    """The decision on a run whose trial ended by itself, for a reason that no retry cures.

    Args:
        run: the run.
        ended: its trial's end; the reason is ``NON_FINITE`` or ``NO_PROMPTS``.

    Raises:
        ValueError: the trial ended for another reason, which is for ``decide`` or for a retry.
    """
    used = max(run.gpu_hours, ended.gpu_hours)
    after = f"at step {ended.step:,}, after {spent(used, run.granted_gpu_hours)}"
    detail = f" ({ended.detail.strip().rstrip('.')})" if ended.detail.strip() else ""
    if ended.reason is EndReason.NON_FINITE:
        action, cause = Action.KILL, Cause.NON_FINITE
        reason = f"Diverged: a loss, gradient or weight became infinite or not a number{detail} {after}."
    elif ended.reason is EndReason.NO_PROMPTS:
        action, cause = Action.FINISH, Cause.PROMPTS_EXHAUSTED
        reason = f"The curriculum retired so many prompts that no batch can be filled{detail} {after}."
    else:
        raise ValueError(f"a trial that ended by {ended.reason} is not decided on here")
    return Decision(
        run_id=run.planned.run_id,
        step=ended.step,
        gpu_hours=used,
        action=action,
        cause=cause,
        reason=reason,
        granted_gpu_hours=run.granted_gpu_hours,
        evidence=_NO_EVIDENCE,
    )


def _below_the_grant(run: RunState, seen: Comparison, sweep: Sweep) -> Decision:
    rule = sweep.rule
    if not seen.fitted.identified:
        reason = f"The ceiling is not identified after {_spent(run)}: {_clause(seen.fitted.fit.why)}."
        return _decision(run, Action.CONTINUE, Cause.NOT_IDENTIFIED, reason, seen.evidence)
    if run.planned.role is Role.CONTROL:
        reason = f"The control is never killed for its ceiling, {_ceiling(seen)}, after {_spent(run, seen)}."
        return _decision(run, Action.CONTINUE, Cause.IS_CONTROL, reason, seen.evidence)
    if not seen.identified or seen.probability_below is None:
        reason = (
            f"The control's ceiling is not identified yet; this run's is {_ceiling(seen)}, "
            f"after {_spent(run, seen)}."
        )
        return _decision(run, Action.CONTINUE, Cause.NOT_IDENTIFIED, reason, seen.evidence)
    demanded = f"({rule.kill_probability:g} demanded), after {_spent(run, seen)}"
    if seen.probability_below >= rule.kill_probability:
        return _decision(
            run, Action.KILL, Cause.CEILING_BELOW, f"{_versus(seen, rule.margin)} {demanded}.", seen.evidence
        )
    reason = f"{_versus(seen, rule.margin)} {demanded}."
    return _decision(run, Action.CONTINUE, Cause.WITHIN_MARGIN, reason, seen.evidence)


def _at_the_grant(run: RunState, seen: Comparison, sweep: Sweep, free_gpu_hours: float) -> Decision:
    """Extend while the answer is open and hours are left, else finish."""
    open_cause, state = _what_is_open(run, seen, sweep)
    reached = f"The budget is reached ({_spent(run, seen)})"
    if open_cause is None:
        return _decision(run, Action.FINISH, Cause.BUDGET_REACHED, f"{reached}; {state}.", seen.evidence)
    extension = sweep.rule.extension
    step = extension.step_fraction * run.planned.budget_gpu_hours
    most = extension.max_factor * run.planned.budget_gpu_hours
    granted = run.granted_gpu_hours + step
    if granted > most * (1.0 + ROUNDING):
        obstacle = f"no run gets more than {extension.max_factor:g} times its budget"
    elif free_gpu_hours < step * (1.0 - ROUNDING):
        left = hours(max(free_gpu_hours, 0.0))
        obstacle = f"an extension takes {hours(step)} GPU-hours and the sweep has {left} free"
    else:
        reason = (
            f"{reached}; {state}; extended by {hours(step)} of the sweep's "
            f"{hours(free_gpu_hours)} free GPU-hours."
        )
        return _decision(run, Action.EXTEND, open_cause, reason, seen.evidence, granted)
    return _decision(
        run, Action.FINISH, Cause.BUDGET_REACHED, f"{reached}; {state}, but {obstacle}.", seen.evidence
    )


def _what_is_open(run: RunState, seen: Comparison, sweep: Sweep) -> tuple[Cause | None, str]:
    """(cause for an extension or None, a clause on what is known)."""
    rule = sweep.rule
    if not seen.fitted.identified:
        return Cause.QUESTION_OPEN, f"the ceiling is not identified: {_clause(seen.fitted.fit.why)}"
    if run.planned.role is Role.CONTROL:
        return None, f"the control's ceiling is identified at {_ceiling(seen)}"
    if not seen.identified or seen.probability_below is None:
        known: tuple[Cause | None, str] = (
            None,
            f"the ceiling is {_ceiling(seen)} and the control's is not identified",
        )
    else:
        least = rule.extension.open_probability
        versus = _clause(_versus(seen, rule.margin))
        if least <= seen.probability_below <= 1.0 - least:
            return Cause.QUESTION_OPEN, f"{versus}, so the question is open"
        known = None, versus
    gain = _gain_of_extension(run, seen, sweep)
    if gain is not None and gain > rule.margin:
        return Cause.STILL_RISING, f"{known[1]}; an extension is forecast to add {gain:.3f} to the pass rate"
    return known


def _gain_of_extension(run: RunState, seen: Comparison, sweep: Sweep) -> float | None:
    """Forecast rise of the pass rate over one extension (medians of the latent curve)."""
    now = seen.fitted.forecast(run.gpu_hours)
    step = sweep.rule.extension.step_fraction * run.planned.budget_gpu_hours
    then = seen.fitted.forecast(run.gpu_hours + step)
    return None if now is None or then is None else then.pass_rate.median - now.pass_rate.median


def _versus(seen: Comparison, margin: float) -> str:
    """The comparison as the head of a sentence."""
    assert seen.control is not None
    assert seen.difference is not None
    assert seen.probability_below is not None
    assert seen.arm is not None
    own, control = with_range(seen.arm.interval), with_range(seen.control.interval)
    seeds = f" over {seen.arm.num_seeds} seeds" if seen.arm.num_seeds > 1 else ""
    return (
        f"The ceiling {own}{seeds} lies below the control's {control} by more than {margin:g} "
        f"with probability {probability(seen.probability_below)}"
    )


def _ceiling(seen: Comparison) -> str:
    ceiling = seen.fitted.fit.ceiling
    assert ceiling is not None
    return with_range(ceiling)


def _spent(run: RunState, seen: Comparison | None = None) -> str:
    used = spent(run.gpu_hours, run.granted_gpu_hours)
    reach = midpoints(run.gpu_hours, seen.fitted.fit.midpoint) if seen is not None else ""
    return f"{used}, {reach}" if reach else used


def _clause(sentence: str) -> str:
    """A sentence as a part of another."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _decision(
    run: RunState,
    action: Action,
    cause: Cause,
    reason: str,
    evidence: Evidence,
    granted_gpu_hours: float | None = None,
) -> Decision:
    return Decision(
        run_id=run.planned.run_id,
        step=run.points[-1].step if run.points else 0,
        gpu_hours=run.gpu_hours,
        action=action,
        cause=cause,
        reason=reason,
        granted_gpu_hours=run.granted_gpu_hours if granted_gpu_hours is None else granted_gpu_hours,
        evidence=evidence,
    )
