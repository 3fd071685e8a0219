"""Runs of a file against one of them: by their joint posterior, or as the ScaleRL paper compares them.

By the posterior every difference is taken draw by draw, so that what runs share does not widen it. The
paper's way: ceilings within a margin count as alike, and B is then compared at their mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalerl_lab import fit
from scalerl_lab.fit.differences import Difference
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.paper_compare import PUBLISHED_MARGIN, ceiling_margin, common_ceiling
from scalerl_lab.fit.paper_method import paper_at_ceiling
from scalerl_lab.fit.prediction import CurveFit
from scalerl_lab.records import Interval
from scalerl_lab.report.forecasts.question import AHEAD, PAPER, Question

_FEWEST_CROSSINGS = 0.025
"""Least probability of a crossing whose place is told."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The compute at which a curve reaches a level; an end is infinite where as many draws never do."""

    level: float
    compute: Interval


@dataclass(frozen=True, slots=True)
class Compared:
    """A quantity of a run less that of the other, and the probability that it is the larger."""

    difference: Interval
    probability: float


@dataclass(frozen=True, slots=True)
class ComparedAt:
    """The same of the curves at a compute."""

    compute: float
    value: Compared


@dataclass(frozen=True, slots=True)
class Overtaking:
    """Where a run gets ahead of the other for good, between two computes."""

    first: float
    last: float
    probability: float
    """That it gets ahead within the range; ``ahead`` and ``behind`` are the other two outcomes."""
    ahead: float
    behind: float
    compute: Interval | None
    """Where it does, if it does; None where that is hardly ever."""


@dataclass(frozen=True, slots=True)
class Versus:
    """A run against another of the same joint fit."""

    other: str
    asymptote: Compared
    ceiling: float
    """The mean of the two median ceilings, at which B is compared."""
    efficiency: Compared | None
    """Of B, both curves refitted with their ceiling there."""
    at: tuple[ComparedAt, ...]
    crossing: Overtaking
    level: float | None
    ratio: Interval | None
    """Compute to the level over that of the other; None where no level was asked for, or neither arrives."""
    sooner: float | None
    """Probability that the ratio is below 1."""


@dataclass(frozen=True, slots=True)
class PaperVersus:
    """A run against another by the paper's procedure; numbers without intervals, as the paper gives them."""

    other: str
    asymptote: float
    """Difference of the ceilings."""
    margin: float
    replicates: int
    """Seeds of the other's arm that the margin is from; 0: it is the published one."""
    ceiling: float | None
    """The mean of the two ceilings; None where they differ by more than the margin."""
    efficiency: float | None
    """B of the run at that ceiling."""
    other_efficiency: float | None


def reach_of(fitted: CurveFit, level: float) -> Reach | None:
    """The compute to a level by a fit's posterior; None where the fit has none."""
    if not isinstance(fitted, fit.LawFit) or fitted.draws is None:
        return None
    return Reach(level, Difference(fit.reached_hours(fitted.draws, level, [fitted])).interval)


def compare(
    names: Sequence[str], arms: Sequence[str] | None, fits: Sequence[CurveFit], question: Question
) -> list[Versus | PaperVersus | None]:
    """Each run against ``question.versus``; None for that run itself, and where one has no fit."""
    place = list(names).index(question.versus or "")
    reference = fits[place]
    found: list[Versus | PaperVersus | None] = []
    replicates = _replicates(place, arms, fits) if question.method == PAPER else []
    for number, fitted in enumerate(fits):
        if number == place:
            found.append(None)
        elif question.method == PAPER:
            found.append(_by_paper(names[place], fitted, reference, replicates))
        else:
            found.append(_by_posterior(names[place], fitted, reference, question))
    return found


def _by_posterior(other: str, fitted: CurveFit, reference: CurveFit, question: Question) -> Versus | None:
    if not isinstance(fitted, fit.LawFit) or not isinstance(reference, fit.LawFit):
        return None
    mine, its = fitted.draws, reference.draws
    if mine is None or its is None:
        return None
    ceiling = 0.5 * float(np.median(mine.A) + np.median(its.A))
    efficiency = fit.efficiency_difference(fitted, reference, ceiling)
    asked = [at.of(fitted.curve) for at in question.at]
    last = max(float(fitted.curve.compute[-1]), float(reference.curve.compute[-1]))
    computes = sorted({c for c in asked if c is not None}) or [AHEAD * last]
    curves, others = fitted.predict(computes).mean, reference.predict(computes).mean
    first = max(float(fitted.curve.compute[0]), float(reference.curve.compute[0]))
    until = max(AHEAD * last, computes[-1])
    where = fit.crossing(mine, its, first, until)
    ratio = None
    if question.level is not None:
        mine_hours, its_hours = (
            fit.reached_hours(draws, question.level, [run])
            for draws, run in ((mine, fitted), (its, reference))
        )
        ratio = fit.log_hours_ratio(mine_hours, its_hours)
    return Versus(
        other=other,
        asymptote=_compared(mine.A - its.A),
        ceiling=ceiling,
        efficiency=None if efficiency is None else _of(efficiency),
        at=tuple(
            ComparedAt(compute, _compared(gap))
            for compute, gap in zip(computes, (curves - others).T, strict=True)
        ),
        crossing=Overtaking(
            first=first,
            last=until,
            probability=where.probability,
            ahead=where.ahead,
            behind=where.behind,
            compute=where.gpu_hours if where.probability >= _FEWEST_CROSSINGS else None,
        ),
        level=question.level,
        ratio=None if ratio is None else _exp(ratio.interval),
        sooner=None if ratio is None else ratio.probability_below(0.0),
    )


def _compared(draws: Floats) -> Compared:
    return _of(Difference(draws))


def _of(difference: Difference) -> Compared:
    return Compared(difference.interval, difference.probability_above(0.0))


def _exp(logs: Interval) -> Interval:
    def back(value: float) -> float:
        return math.exp(min(value, 700.0)) if value < math.inf else math.inf

    return Interval(
        median=back(logs.median),
        low80=back(logs.low80),
        high80=back(logs.high80),
        low95=back(logs.low95),
        high95=back(logs.high95),
    )


def _ceiling(fitted: CurveFit) -> float | None:
    """The point on the grid that the paper's procedure ends at."""
    return None if fitted.asymptote is None else float(np.median(fitted.asymptote))


def _replicates(place: int, arms: Sequence[str] | None, fits: Sequence[CurveFit]) -> list[float]:
    """Ceilings of the seeds of a run's arm."""
    if arms is None:
        return []
    found = [_ceiling(fitted) for fitted, arm in zip(fits, arms, strict=True) if arm == arms[place]]
    return [ceiling for ceiling in found if ceiling is not None]


def _by_paper(
    other: str, fitted: CurveFit, reference: CurveFit, replicates: Sequence[float]
) -> PaperVersus | None:
    mine, its = _ceiling(fitted), _ceiling(reference)
    if mine is None or its is None:
        return None
    enough = len(replicates) > 1
    margin = ceiling_margin(replicates).margin if enough else PUBLISHED_MARGIN
    ceiling = common_ceiling(mine, its, margin)
    return PaperVersus(
        other=other,
        asymptote=mine - its,
        margin=margin,
        replicates=len(replicates) if enough else 0,
        ceiling=ceiling,
        efficiency=None if ceiling is None else paper_at_ceiling(fitted.curve, ceiling).B,
        other_efficiency=None if ceiling is None else paper_at_ceiling(reference.curve, ceiling).B,
    )
