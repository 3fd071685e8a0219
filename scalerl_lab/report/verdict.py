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
    NOT_IDENTIFIED = "not identified yet"
    """The arm's ceiling, or the control's, cannot be told from the points so far."""
    DIVERGED = "diverged"
    """Stopped for non-finite numbers, collapse or truncation: the law does not describe it."""
    FAILED = "failed"
    """Its worker failed more often than is allowed."""


@dataclass(frozen=True, slots=True)
class Speed:
    """GPU-hours to the common level on a log scale, for the arm and for the control."""

    log_ratio: float
    """Mean of log(arm's hours) minus mean of log(control's)."""
    sd: float
    """Standard deviation of that difference, with the spread between seeds."""

    @property
    def faster(self) -> float:
        """P(the arm needs at most 1/1.1 of the control's GPU-hours)."""
        return normal_cdf((-math.log(SPEED_FACTOR) - self.log_ratio) / self.sd)

    @property
    def slower(self) -> float:
        """P(the arm needs at least 1.1 times the control's GPU-hours)."""
        return normal_cdf((self.log_ratio - math.log(SPEED_FACTOR)) / self.sd)


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


def judge(finding: Finding, *, margin: float, demanded: float) -> tuple[Verdict, str]:
    """A verdict and one sentence of detail; ``demanded`` is the sweep's own kill_probability.

    In this order: control, failed, diverged, not identified, ceiling raised or lowered, faster or slower,
    no difference seen. A difference short of the demanded probability is told in the detail only.
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
    below, above = finding.probability_below, finding.probability_above
    if not finding.identified or not finding.control_identified or below is None or above is None:
        which = "its own" if not finding.identified else "the control's"
        return Verdict.NOT_IDENTIFIED, f"{killed}What is open: {which} ceiling."
    speed = _speed_clause(finding)
    if above >= demanded:
        return Verdict.RAISES, f"{killed}P(higher by more than {margin:g}) {probability(above)}{speed}."
    if below >= demanded:
        return Verdict.LOWERS, f"{killed}P(lower by more than {margin:g}) {probability(below)}{speed}."
    ceiling = _ceiling_clause(below, above, margin)
    if finding.speed is not None and finding.speed.faster >= demanded:
        return Verdict.FASTER, f"{killed}{ceiling}{speed}."
    if finding.speed is not None and finding.speed.slower >= demanded:
        return Verdict.SLOWER, f"{killed}{ceiling}{speed}."
    return Verdict.NO_DIFFERENCE, f"{killed}{ceiling}{speed}."


def _ceiling_clause(below: float, above: float, margin: float) -> str:
    within = max(0.0, 1.0 - below - above)
    if within >= max(below, above):
        return f"P(ceilings within {margin:g}) {probability(within)}"
    side, p = ("lower", below) if below > above else ("higher", above)
    return f"Leans {side}: P(by more than {margin:g}) {probability(p)}"


def _speed_clause(finding: Finding) -> str:
    if finding.speed is None or finding.level is None:
        return ""
    factor = math.exp(finding.speed.log_ratio)
    return f"; {factor:.2f} times the control's GPU-hours to reach {rate(finding.level)}"


def _listed(values: tuple[float, ...]) -> str:
    return " and ".join(hours(value) for value in values)


def normal_cdf(z: float) -> float:
    """Standard normal distribution function."""
    return 0.5 * math.erfc(-z / math.sqrt(2.0))
