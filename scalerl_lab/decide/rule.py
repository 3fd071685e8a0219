"""What becomes of a run: continue, kill, extend or finish, with the reason as a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scalerl_lab.config.sweep import Compare, GpuHours, Rule, Sweep, ToControl
from scalerl_lab.decide.compare import Comparison, compare
from scalerl_lab.decide.divergence import find_divergence
from scalerl_lab.decide.extension import next_step
from scalerl_lab.decide.looks import ROUNDING, at_grant
from scalerl_lab.decide.wording import hours, midpoints, probability, spent, with_range
from scalerl_lab.fit import FittedCurve, PooledCeiling
from scalerl_lab.records import (
    Action,
    Cause,
    Decision,
    EndReason,
    Evidence,
    Interval,
    Role,
    RunState,
    TrialEnded,
)

_AT_ONCE = 0.25
"""Share of the free hours that is out on steps at a time: the rest waits for what those tell."""
_LEAST_GAIN = 1e-3
"""Expected gain of the chosen arm, over the margin, for which a step is made in a comparison."""
_LEAST_TAKEN = 0.1
"""Standard deviation, over the margin, that a step is at least expected to take from the open answers."""
_MOST_TO_COME = 0.125
"""Of a resolved run: 80 % half-width, over the margin, of what its rest would change of the difference."""
_HALF80 = 1.2816
_LEAST_MARGIN = 1e-3
"""Steps are judged by at least this margin: with a smaller one any would be worth its hours."""
_NO_EVIDENCE = Evidence(None, None, None, None, None, None)


@dataclass(frozen=True, slots=True)
class Prospects:
    """What more compute could be paid from, and what it would tell."""

    free_gpu_hours: float
    """What the sweep's cap leaves beyond all compute used and granted."""
    worthier: int = 0
    """Runs of which a next step of compute says more about the sweep's question (``worth``)."""
    worth: float = 0.0
    """Of a step of this run, as ``worth`` counts it: the regret saved, or the variance taken."""
    to_come: float | None = None
    """Standard deviation of what the rest of the budget will change of the arm's difference to the reference,
    of the control the most over all arms; None: not asked."""


def decide(
    run: RunState,
    fitted: FittedCurve,
    arms: Mapping[str, PooledCeiling],
    *,
    control: str,
    sweep: Sweep,
    prospects: Prospects,
) -> Decision:
    """The decision on one run by the sweep's rule.

    Args:
        run: its points, role, budget and the compute granted to it so far.
        fitted: its fit.
        arms: the sweep's arms that have not diverged, from the same joint fit.
        control: name of the control's arm.
        sweep: the question, with fit start, margin and probabilities.
        prospects: what an extension can be paid from, and what more compute would tell.

    Returns:
        In this order: a kill for divergence; below the budget, a kill where the arm lies below the
        reference by more than the margin with the demanded probability, or the end of a run whose answer
        is known; at the grant, an extension or the finish; else continue.
    """
    seen = compare(run, fitted, arms, control, sweep)
    diverged = find_divergence(run.points, sweep.rule.divergence)
    if diverged is not None:
        reason = f"Diverged: {diverged.why}; after {_spent(run)}."
        return _decision(run, Action.KILL, diverged.cause, reason, seen.evidence)
    # With a first grant below the budget a run is judged by its forecast at its grants, too.
    forecast = _by_forecast(run, seen, sweep, prospects)
    if at_grant(run) and (forecast.action is Action.CONTINUE or not _is_below_budget(run)):
        return _at_the_grant(run, seen, sweep, prospects)
    return forecast


def _is_below_budget(run: RunState) -> bool:
    return run.gpu_hours < run.planned.budget_gpu_hours * (1.0 - ROUNDING)


def decide_ended(run: RunState, ended: TrialEnded) -> Decision:
    """The decision on a run whose trial ended by itself, for a reason that no retry cures.

    Args:
        run: the run.
        ended: its trial's end; the reason is ``NON_FINITE``, ``NO_PROMPTS`` or ``NO_VARIANCE``.

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
    elif ended.reason is EndReason.NO_VARIANCE:
        action, cause = Action.FINISH, Cause.PROMPTS_EXHAUSTED
        reason = f"Too few prompts have completions of differing reward to fill a batch{detail} {after}."
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


def decide_unfitted(run: RunState, error: str) -> Decision:
    """The decision on a run whose fit failed: it goes on to its next look; at its grant it ends.

    Args:
        run: the run.
        error: what the fit failed with.
    """
    ends = at_grant(run)
    action, then = (Action.FINISH, "its grant is used") if ends else (Action.CONTINUE, "it goes on")
    reason = f"The fit of its sweep failed after {_spent(run)} ({error}); {then}."
    return _decision(run, action, Cause.NO_FIT, reason, _NO_EVIDENCE)


def _by_forecast(run: RunState, seen: Comparison, sweep: Sweep, prospects: Prospects) -> Decision:
    rule = sweep.rule
    resolved = _resolved(run, seen, rule, prospects.to_come) if rule.stop_resolved else None
    if not seen.fitted.identified:
        reason = f"The ceiling is not identified after {_spent(run)}: {_clause(seen.fitted.fit.why)}."
        return _decision(run, Action.CONTINUE, Cause.NOT_IDENTIFIED, reason, seen.evidence)
    if _is_protected(run, rule):
        if resolved is not None:
            return _decision(run, Action.FINISH, Cause.RESOLVED, resolved, seen.evidence)
        reason = (
            f"The control is never killed for its forecast; its {seen.measure.name} is {_value(seen)}, "
            f"after {_spent(run, seen)}."
        )
        return _decision(run, Action.CONTINUE, Cause.IS_CONTROL, reason, seen.evidence)
    if not seen.known or seen.below is None:
        reason = (
            f"{_capital(seen.whose)} {seen.measure.name} is not identified yet; "
            f"this run's is {_value(seen)}, after {_spent(run, seen)}."
        )
        return _decision(run, Action.CONTINUE, Cause.NOT_IDENTIFIED, reason, seen.evidence)
    demanded = f"({rule.kill_probability:g} demanded), after {_spent(run, seen)}"
    reason = f"{_versus(seen, rule)} {demanded}."
    if seen.below >= rule.kill_probability:
        return _decision(run, Action.KILL, Cause.CEILING_BELOW, reason, seen.evidence)
    if resolved is not None:
        return _decision(run, Action.FINISH, Cause.RESOLVED, resolved, seen.evidence)
    return _decision(run, Action.CONTINUE, Cause.WITHIN_MARGIN, reason, seen.evidence)


def _is_protected(run: RunState, rule: Rule) -> bool:
    return run.planned.role is Role.CONTROL and isinstance(rule.reference, ToControl)


def _resolved(run: RunState, seen: Comparison, rule: Rule, to_come: float | None) -> str | None:
    """The sentence that says that more compute is not needed, or None.

    An arm's answer is known when its difference to the reference has an 80 % interval of at most a margin to
    either side, and the rest of its budget would move it by at most an eighth of a margin (80 %); the
    control's, when its rest would move no difference by more.
    """
    if to_come is None or not seen.fitted.identified or seen.own is None:
        return None
    moves = _HALF80 * to_come / seen.measure.margin if seen.measure.margin > 0.0 else math.inf
    if moves > _MOST_TO_COME:
        return None
    after = f"after {_spent(run, seen)}"
    rest = f"the rest of the budget would move {{}} {moves:.2f} margins ({_MOST_TO_COME:g} allowed)"
    if _is_protected(run, rule):
        differences = rest.format("no difference to it by more than")
        return f"Resolved: the control's {seen.measure.name} is {_value(seen)}; {differences}, {after}."
    if not seen.known or seen.half_width is None or seen.half_width > 1.0 or seen.difference is None:
        return None
    return (
        f"Resolved: the {seen.measure.name} {_range(seen, seen.own)} differs from {seen.whose} by "
        f"{with_range(seen.difference)}; {rest.format('that by')}, {after}."
    )


def _at_the_grant(run: RunState, seen: Comparison, sweep: Sweep, prospects: Prospects) -> Decision:
    """Extend while the answer is open, hours are left and few others need them more; else finish."""
    open_cause, state = _what_is_open(run, seen, sweep, prospects)
    what = "grant is used" if _is_below_budget(run) else "budget is reached"
    reached = f"The {what} ({_spent(run, seen)})"
    if open_cause is None:
        return _decision(run, Action.FINISH, Cause.BUDGET_REACHED, f"{reached}; {state}.", seen.evidence)
    step = next_step(run, sweep)
    granted = run.granted_gpu_hours + step
    free = prospects.free_gpu_hours
    if step <= 0.0:
        obstacle = f"no run gets more than {sweep.rule.extension.max_factor:g} times its budget"
    elif free < step * (1.0 - ROUNDING):
        obstacle = (
            f"an extension takes {hours(step)} GPU-hours and the sweep has {hours(max(free, 0.0))} free"
        )
    elif prospects.worthier >= max(int(_AT_ONCE * free / step), 1):
        others = "another run" if prospects.worthier == 1 else f"{prospects.worthier} other runs"
        obstacle = f"the sweep's {hours(free)} free GPU-hours say more of its question with {others}"
    else:
        reason = f"{reached}; {state}; extended by {hours(step)} of the sweep's {hours(free)} free GPU-hours."
        return _decision(run, Action.EXTEND, open_cause, reason, seen.evidence, granted)
    reason = f"{reached}; {state}, but {obstacle}."
    return _decision(run, Action.FINISH, Cause.NO_HOURS, reason, seen.evidence)


def _what_is_open(
    run: RunState, seen: Comparison, sweep: Sweep, prospects: Prospects
) -> tuple[Cause | None, str]:
    """(cause for an extension or None, a clause on what is known)."""
    rule = sweep.rule
    # Up to its budget a run has its share unless it is clearly worse; beyond, it must be worth it.
    not_worse = seen.below is None or seen.below < rule.kill_probability
    in_budget = _is_below_budget(run) and not_worse
    if isinstance(sweep.question, Compare) and seen.own is not None:
        state = f"its {seen.measure.name} is {_value(seen)}"
        if math.isfinite(prospects.worth):
            better = f"{prospects.worth:.2g}" if prospects.worth > 0.0 else "nothing"
            state += f", and a step is expected to better the arm that is chosen by {better}"
        is_open = in_budget or prospects.worth >= _LEAST_GAIN * max(seen.measure.margin, _LEAST_MARGIN)
        return (Cause.QUESTION_OPEN if is_open else None), state
    if not seen.fitted.identified:
        return Cause.QUESTION_OPEN, f"the ceiling is not identified: {_clause(seen.fitted.fit.why)}"
    telling = (_LEAST_TAKEN * max(seen.measure.margin, _LEAST_MARGIN)) ** 2
    if _is_protected(run, rule):
        state = f"the control's {seen.measure.name} is {_value(seen)}"
        if in_budget:
            return Cause.QUESTION_OPEN, state
        if prospects.worth < telling:
            return None, state
        return Cause.QUESTION_OPEN, f"{state}, and differences to it are open"
    if not seen.known or seen.below is None:
        name = seen.measure.name
        unknown = f"the {name} is {_value(seen)}, and {seen.whose} {name} is not identified"
        known: tuple[Cause | None, str] = (None, unknown)
    else:
        least = rule.extension.open_probability
        versus = _clause(_versus(seen, rule))
        if least <= seen.below <= 1.0 - least and prospects.worth >= telling:
            return Cause.QUESTION_OPEN, f"{versus}, so the question is open"
        known = None, versus
    if in_budget:
        return Cause.QUESTION_OPEN, known[1]
    gain = _gain_of_extension(run, seen, sweep)
    if gain is not None and gain > rule.margin and not_worse:
        return Cause.STILL_RISING, f"{known[1]}; an extension is forecast to add {gain:.3f} to the pass rate"
    return known


def _gain_of_extension(run: RunState, seen: Comparison, sweep: Sweep) -> float | None:
    """Forecast rise of the pass rate over one extension (medians of the latent curve)."""
    now = seen.fitted.forecast(run.gpu_hours)
    step = sweep.rule.extension.step_fraction * run.planned.budget_gpu_hours
    then = seen.fitted.forecast(run.gpu_hours + step)
    return None if now is None or then is None else then.pass_rate.median - now.pass_rate.median


def _versus(seen: Comparison, rule: Rule) -> str:
    """The comparison as the head of a sentence."""
    assert seen.own is not None
    assert seen.reference is not None
    assert seen.below is not None
    seeds = f" over {seen.num_seeds} seeds" if seen.num_seeds > 1 else ""
    name = seen.measure.name
    worse = "is longer than" if isinstance(rule.quantity, GpuHours) else "lies below"
    return (
        f"The {name} {_range(seen, seen.own)}{seeds} {worse} {seen.whose} {_range(seen, seen.reference)} "
        f"by more than {_margin(rule)} with probability {probability(seen.below)}"
    )


def _margin(rule: Rule) -> str:
    return f"{rule.margin:.0%}" if isinstance(rule.quantity, GpuHours) else f"{rule.margin:g}"


def _value(seen: Comparison) -> str:
    """The quantity of the run's arm; while the arm has none, the run's own ceiling."""
    if seen.own is not None:
        return _range(seen, seen.own)
    ceiling = seen.fitted.fit.ceiling
    assert ceiling is not None
    return with_range(ceiling)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _range(seen: Comparison, interval: Interval) -> str:
    """A value of the quantity with its 80 % interval; a known level without."""
    if isinstance(seen.measure.rule.quantity, GpuHours):
        if interval.low80 == interval.high80:
            return f"of {hours(interval.median)} GPU-hours"
        return f"of {hours(interval.median)} [{hours(interval.low80)}, {hours(interval.high80)}] GPU-hours"
    if interval.low95 == interval.high95:
        return f"{interval.median:g}"
    return with_range(interval)


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
