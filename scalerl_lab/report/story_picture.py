"""What was known of a run when it was decided on, as numbers to draw; read, not fitted anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scalerl_lab.config.sweep import Rule
from scalerl_lab.fit import pass_rate
from scalerl_lab.records import Decision, EvalPoint, Fit, FitStatus, Forecast, Interval
from scalerl_lab.report.held_against import is_in_pass_rates, reference_words

NUM_AHEAD = 64
_LEAST_AHEAD = 0.1
"""Of a picture's width: less than this of a forecast is not seen."""
Spot = tuple[float, float]
"""GPU-hours and pass rate."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """The forecast at one compute not yet spent when it was made."""

    gpu_hours: float
    median: float
    low80: float | None
    """None beyond the compute that the recorded forecast is for."""
    high80: float | None


@dataclass(frozen=True, slots=True)
class Picture:
    """A run's points, its forecast and what it is held against, at the time of one decision."""

    gpu_hours: float
    """Compute used when it was decided."""
    budget: float
    last: float
    """Right edge, in GPU-hours; the left edge is 0."""
    low: float
    """Pass rate at the lower edge."""
    high: float
    seen: tuple[Spot, ...]
    """Points that the decision rests on."""
    later: tuple[Spot, ...]
    """Points measured since."""
    ahead: tuple[Ahead, ...]
    ceiling: Interval | None
    identified: bool
    reference: float | None
    """The reference less the margin: an arm that surely ends below it is a reason to stop.
    None where there is none, or where it lies far outside of the picture."""
    reference_name: str

    @property
    def shows_ahead(self) -> bool:
        """Whether there is a forecast wide enough to be seen."""
        return len(self.ahead) > 1 and self.last - self.gpu_hours >= _LEAST_AHEAD * self.last


def picture(
    decision: Decision, points: Sequence[EvalPoint], budget_gpu_hours: float, rule: Rule
) -> Picture | None:
    """The picture of one decision; None where the run had no points then.

    Ceiling, reference and the 80 % interval at the budget are those on record. The line to it is the law
    at the medians on record, led to the recorded median; the band opens evenly in log compute.

    Args:
        decision: what was decided, with its evidence.
        points: the run's curve, all of it.
        budget_gpu_hours: compute that the plan gives the run.
        rule: the sweep's rule: by what arms are compared, and with what.
    """
    seen = tuple((p.gpu_hours, p.pass_rate) for p in points if p.step <= decision.step)
    if not any(gpu_hours > 0.0 for gpu_hours, _ in seen):
        return None
    later = tuple((p.gpu_hours, p.pass_rate) for p in points if p.step > decision.step)
    evidence = decision.evidence
    last = max(budget_gpu_hours, decision.granted_gpu_hours, *(h for h, _ in (*seen, *later)))
    ahead = _ahead(evidence.fit, evidence.forecast, seen[-1], last)
    identified = evidence.fit is not None and evidence.fit.status is FitStatus.IDENTIFIED
    ceiling = evidence.fit.ceiling if evidence.fit is not None else None
    reference = None
    if evidence.control_ceiling is not None and evidence.difference is not None and is_in_pass_rates(rule):
        reference = evidence.control_ceiling.median - (evidence.margin or 0.0)
    first = evidence.fit.first_gpu_hours if evidence.fit is not None else None
    shown = [value for gpu_hours, value in (*seen, *later) if gpu_hours >= (first or 0.0)]
    shown += [value for a in ahead for value in (a.median, a.low80, a.high80) if value is not None]
    shown += [ceiling.low80, ceiling.high80] if ceiling is not None and identified else []
    low, high = min(shown), max(shown)
    if reference is not None and not 2.0 * low - high <= reference <= 2.0 * high - low:
        # So far off that the curve would be a flat line beside it: the sentence says it better.
        reference = None
    low, high = (low, high) if reference is None else (min(low, reference), max(high, reference))
    pad = max(0.01, 0.06 * (high - low))
    return Picture(
        gpu_hours=decision.gpu_hours,
        budget=budget_gpu_hours,
        last=last,
        low=max(0.0, low - pad),
        high=min(1.0, high + pad),
        seen=seen,
        later=later,
        ahead=ahead,
        ceiling=ceiling,
        identified=identified,
        reference=reference,
        reference_name=f"{reference_words(rule)}{f' less {evidence.margin:g}' if evidence.margin else ''}",
    )


def _ahead(fit: Fit | None, forecast: Forecast | None, now: Spot, last: float) -> tuple[Ahead, ...]:
    """The way from the last point to the recorded forecast and on, at even steps of compute."""
    start, value = now
    if forecast is None or fit is None or start <= 0.0 or last <= start:
        return ()
    end = forecast.gpu_hours
    target = forecast.pass_rate
    lead = target.median - _law(fit, end, value)
    even = {start + (last - start) * step / NUM_AHEAD for step in range(NUM_AHEAD + 1)}
    found = []
    for at in sorted(even | ({end} if start < end < last else set())):
        share = min(1.0, math.log(at / start) / math.log(end / start)) if end > start else 1.0
        median = _law(fit, at, value) + share * lead
        on_record = end > start and at <= end * (1.0 + 1e-9)
        low80 = median - share * (target.median - target.low80) if on_record else None
        high80 = median + share * (target.high80 - target.median) if on_record else None
        found.append(Ahead(at, median, low80, high80))
    return tuple(found)


def _law(fit: Fit, gpu_hours: float, otherwise: float) -> float:
    """The law at the recorded medians; without a law, the value that was measured last."""
    if fit.ceiling is None or fit.efficiency is None or fit.midpoint is None or fit.r0 is None:
        return otherwise
    return float(pass_rate(gpu_hours, fit.r0, fit.ceiling.median, fit.efficiency.median, fit.midpoint.median))
