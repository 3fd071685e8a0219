"""What is said of an arm in words, and the probabilities from which it follows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from scalerl_lab.report.words import hours, probability, rate

SPEED_FACTOR = 1.10
"""A difference in compute to the common level counts from this factor on: 10 % fewer, or more, GPU-hours."""


class Verdict(StrEnum):
    """The answer for one arm against the control."""

    CONTROL = "control"
    RAISES = "raises the ceiling"
    """P(difference > margin) reaches the demanded probability."""
    LOWERS = "lowers the ceiling"
    """P(difference < -margin) reaches the demanded probability."""
    FASTER = "faster"
    """No such difference in ceiling; reaches the common level with at most 1/1.1 of its GPU-hours."""
    SLOWER = "slower"
    """No such difference in ceiling; needs at least 1.1 times the control's GPU-hours."""
    NO_DIFFERENCE = "no difference seen"
    """Ceilings are identified, and none of the above reaches the demanded probability."""
    NO_EFFECT = "no effect so far"
    """Its runs are the control's, point for point: what it changes has not come into play."""
    NOT_IDENTIFIED = "not identified yet"
    """The arm's ceiling, or the control's, cannot be told from the points so far."""
    DIVERGED = "diverged"
    """Stopped for non-finite numbers, collapse or truncation: the law does not describe it."""
    FAILED = "failed"
    """Its worker failed more often than is allowed."""


@dataclass(frozen=True, slots=True)
class Speed:
    """An arm's GPU-hours to the common level against the control's."""

    factor: float
    """Median of (arm's hours / control's hours); infinite where the arm is not seen to reach the level."""
    probability_faster: float
    """P(the arm needs at most 1/1.1 of the control's GPU-hours)."""
    probability_slower: float
    """P(the arm needs at least 1.1 times the control's GPU-hours)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """All that a verdict rests on."""

    is_control: bool
    identified: bool
    control_identified: bool
    failed: bool
    diverged: str | None
    """How, for people: ``collapsed at 4,100 GPU-hours``."""
    probability_below: float | None
    probability_above: float | None
    speed: Speed | None
    level: float | None
    killed_at: tuple[float, ...]
    """GPU-hours at which runs of the arm were killed."""
    at_budget: float | None
    """Pass rate at the budget, measured or forecast; so is the control's."""
    control_at_budget: float | None
    equals_control: bool = False
    """Whether every point of its runs equals that of the control's run with the same seed."""


def judge(finding: Finding, *, margin: float, demanded: float) -> tuple[Verdict, str]:
    """A verdict and one sentence of detail; ``demanded`` is the rule's answer_probability.

    In this order: control, failed, diverged, no effect, not identified, ceiling raised or lowered, faster or
    slower, no difference seen. A difference short of the demanded probability is told in the detail only.
    """
    killed = f"Killed at {_listed(finding.killed_at)} GPU-hours. " if finding.killed_at else ""
    if finding.is_control:
        detail = (
            ""
            if finding.identified
            else "The control's ceiling is not identified: no arm can be judged on it."
        )
        return Verdict.CONTROL, detail
    if finding.failed:
        return Verdict.FAILED, "The worker failed more often than the profile allows."
    if finding.diverged is not None:
        return Verdict.DIVERGED, f"{finding.diverged[:1].upper()}{finding.diverged[1:]}."
    if finding.equals_control:
        detail = "Every point equals the control's with the same seed: what it changes has not come into play"
        return Verdict.NO_EFFECT, f"{killed}{detail} within these GPU-hours."
    below, above = finding.probability_below, finding.probability_above
    if not finding.identified or not finding.control_identified or below is None or above is None:
        which = "its own" if not finding.identified else "the control's"
        return Verdict.NOT_IDENTIFIED, f"{killed}What is open: {which} ceiling.{_budget_clause(finding)}"
    speed = _speed_clause(finding)
    if above >= demanded:
        return Verdict.RAISES, f"{killed}{_off('Higher', margin, above)}{speed}."
    if below >= demanded:
        return Verdict.LOWERS, f"{killed}{_off('Lower', margin, below)}{speed}."
    ceiling = _ceiling_clause(below, above, margin)
    if finding.speed is not None and finding.speed.probability_faster >= demanded:
        return Verdict.FASTER, f"{killed}{ceiling}{speed}."
    if finding.speed is not None and finding.speed.probability_slower >= demanded:
        return Verdict.SLOWER, f"{killed}{ceiling}{speed}."
    return Verdict.NO_DIFFERENCE, f"{killed}{ceiling}{speed}."


def _ceiling_clause(below: float, above: float, margin: float) -> str:
    within = max(0.0, 1.0 - below - above)
    if within >= max(below, above):
        return f"Ceilings within {margin:g} with probability {probability(within)}"
    side, p = ("lower", below) if below > above else ("higher", above)
    return f"Leans {side}, by more than {margin:g} with probability {probability(p)}"


def _off(side: str, margin: float, p: float) -> str:
    return f"{side} by more than {margin:g} with probability {probability(p)}"


def _speed_clause(finding: Finding) -> str:
    if finding.speed is None or finding.level is None:
        return ""
    if math.isinf(finding.speed.factor):
        return f"; not seen to reach {rate(finding.level)}"
    return f"; reaches {rate(finding.level)} in {finding.speed.factor:.2f} times the control's GPU-hours"


def _budget_clause(finding: Finding) -> str:
    if finding.at_budget is None or finding.control_at_budget is None:
        return ""
    return f" At the budget {rate(finding.at_budget)}, the control {rate(finding.control_at_budget)}."


def _listed(values: tuple[float, ...]) -> str:
    return " and ".join(hours(value) for value in values)
