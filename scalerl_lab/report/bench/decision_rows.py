"""The findings on rules of stopping put together: a row for each rule, and rules at equal cost.

Two rules are compared at equal GPU-hours, or at equal regret, along the frontier of each family: the settings
that no mixture of two others beats (the lower convex hull of mean cost against mean GPU-hours), with straight
lines between, since to draw one of two settings for each sweep is a rule too. That favours the family with
more settings, so peers are given at least as many as the lab's own rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from scalerl_lab.report.bench.decisions import Judged

_FULL = "none"
"""The family that stops no run."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over sweeps with its standard error."""

    value: float
    se: float | None
    """None for one sweep."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a rule changes of the reported differences: beside those of the same sweep with no run stopped."""

    differences: int
    """Of arms that it did not kill."""
    rms: float
    largest: float
    within_half_margin: float
    """Share that moved by at most half a margin."""
    verdicts_changed: int
    """Said to have a lower ceiling than the control by more than the margin, a higher one, or neither."""


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One rule over all sweeps of a kind, under one cap."""

    kind: str
    budget_share: float | None
    contender: str
    family: str
    sweeps: int
    spent: Mean
    tied: int
    tied_killed: int
    false_kills: Mean | None
    """Share of the tied arms; sweeps being independent. None: there are none."""
    worse: int
    worse_killed: int
    kills: Mean | None
    """Share of the worse arms that were killed."""
    killed_at: float | None
    """Median share of its budget at which a worse arm was killed."""
    missed_gpu_hours: float
    """Spent on worse arms that were not killed, mean over sweeps."""
    collapsed: int
    collapses_stopped: int
    stopped_after: float | None
    """Longest share of the budget between a peak and the stop."""
    stopped_within_tenth: int
    """Collapses stopped within a tenth of the budget after their peak."""
    regret: Mean
    differences: int
    difference_error: float | None
    """Mean absolute error of the reported differences."""
    difference_bias: float | None
    covered95: float | None
    moved: Moved | None
    """The reported differences beside those of full runs; None where none went to their ends."""
    asked: int
    mean_ms: float
    slowest_ms: float


def decision_rows(found: Iterable[Judged]) -> list[DecisionRow]:
    """A row for each kind, cap and rule, in the order in which they first appear."""
    groups: dict[tuple[str, float | None, str], list[Judged]] = {}
    full: dict[str, Judged] = {}
    for one in found:
        groups.setdefault((one.kind, one.budget_share, one.contender), []).append(one)
        if one.family == _FULL and one.budget_share is None:
            full[one.case] = one
    return [_row(group, full) for group in groups.values()]


def _row(group: Sequence[Judged], full: Mapping[str, Judged]) -> DecisionRow:
    first = group[0]
    errors = [error for one in group for error in one.differences]
    within = [inside for one in group for inside in one.difference_within95]
    after = [share for one in group for share in one.collapses_stopped_after]
    killed_at = [share for one in group for share in one.killed_at]
    asked = sum(one.asked for one in group)
    return DecisionRow(
        kind=first.kind,
        budget_share=first.budget_share,
        contender=first.contender,
        family=first.family,
        sweeps=len(group),
        spent=mean_over([one.spent for one in group]),
        tied=sum(one.tied for one in group),
        tied_killed=sum(one.tied_killed for one in group),
        false_kills=share_over([(one.tied_killed, one.tied) for one in group]),
        worse=sum(one.worse for one in group),
        worse_killed=sum(one.worse_killed for one in group),
        kills=share_over([(one.worse_killed, one.worse) for one in group]),
        killed_at=median(killed_at) if killed_at else None,
        missed_gpu_hours=sum(one.missed_gpu_hours for one in group) / len(group),
        collapsed=sum(one.collapsed for one in group),
        collapses_stopped=len(after),
        stopped_after=max(after) if after else None,
        stopped_within_tenth=sum(share <= 0.1 for share in after),
        regret=mean_over([one.regret for one in group]),
        differences=len(errors),
        difference_error=sum(map(abs, errors)) / len(errors) if errors else None,
        difference_bias=sum(errors) / len(errors) if errors else None,
        covered95=sum(within) / len(within) if within else None,
        moved=None if first.family == _FULL else moved_from(group, full),
        asked=asked,
        mean_ms=1e3 * sum(one.seconds for one in group) / max(asked, 1),
        slowest_ms=1e3 * max(one.slowest_s for one in group),
    )


def moved_from(group: Sequence[Judged], full: Mapping[str, Judged]) -> Moved | None:
    """One rule's reported differences beside those of the same cases without any stop.

    Args:
        group: the rule on its cases.
        full: case -> with no run stopped.
    """
    pairs = [
        (one, full[one.case], arm)
        for one in group
        if one.case in full
        for arm in one.reported
        if arm in full[one.case].reported
    ]
    if not pairs:
        return None
    by = [abs(own.reported[arm] - whole.reported[arm]) for own, whole, arm in pairs]
    return Moved(
        differences=len(pairs),
        rms=math.sqrt(sum(each**2 for each in by) / len(by)),
        largest=max(by),
        within_half_margin=sum(m <= 0.5 * own.margin for m, (own, _, _) in zip(by, pairs, strict=True))
        / len(by),
        verdicts_changed=sum(own.verdicts[arm] != whole.verdicts[arm] for own, whole, arm in pairs),
    )


def mean_over(values: Sequence[float]) -> Mean:
    """The mean of independent values, with its standard error."""
    num = len(values)
    mean = sum(values) / num
    if num < 2:
        return Mean(mean, None)
    return Mean(mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (num - 1) / num))


def share_over(counts: Sequence[tuple[int, int]]) -> Mean | None:
    """Successes over trials, trials of one sweep hanging together; None without a trial.

    The standard error is that of a ratio of means over sweeps; where no or all trials succeed, that of
    one success more, and one fewer, of two trials more: an unbroken row is not certainty.
    """
    trials = sum(of for _, of in counts)
    if not trials:
        return None
    share, num = sum(done for done, _ in counts) / trials, len(counts)
    if share in (0.0, 1.0) or num < 2:
        smooth = (share * trials + 1.0) / (trials + 2.0)
        return Mean(share, math.sqrt(smooth * (1.0 - smooth) / (trials + 2.0)))
    spread = sum((done - share * of) ** 2 for done, of in counts) * num / (num - 1.0)
    return Mean(share, math.sqrt(spread) / trials)


# ---------------------------------------------------------------- at equal cost


@dataclass(frozen=True, slots=True)
class EqualCost:
    """The lab's rule beside the frontier of another family."""

    kind: str
    budget_share: float | None
    contender: str
    family: str
    """The other."""
    measure: str
    """``regret`` or ``false_kills``."""
    own: float
    own_spent: float
    at_equal_spent: float | None
    """The other's measure at the same GPU-hours; None: its cheapest setting costs more."""
    spent_at_equal: float | None
    """The other's GPU-hours, as a share of all budgets, at the same measure; None: it never gets there."""


def at_equal_cost(rows: Sequence[DecisionRow], own_family: str = "forecast") -> list[EqualCost]:
    """Every setting of the lab's own rule against every other family, by regret and by false kills."""
    found = []
    for own in rows:
        if own.family != own_family:
            continue
        beside = [r for r in rows if (r.kind, r.budget_share) == (own.kind, own.budget_share)]
        for family in dict.fromkeys(r.family for r in beside if r.family != own_family):
            members = [r for r in beside if r.family == family]
            for measure, read in _MEASURES.items():
                value = read(own)
                points = [(r.spent.value, known) for r in members if (known := read(r)) is not None]
                if value is None or not points:
                    continue
                hull = frontier(points)
                found.append(
                    EqualCost(
                        own.kind,
                        own.budget_share,
                        own.contender,
                        family,
                        measure,
                        value,
                        own.spent.value,
                        level_at(hull, own.spent.value),
                        cost_at(hull, value),
                    )
                )
    return found


_MEASURES: dict[str, Callable[[DecisionRow], float | None]] = {
    "regret": lambda row: row.regret.value,
    "false_kills": lambda row: None if row.false_kills is None else row.false_kills.value,
}


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The part of the lower convex hull of (cost, measure) on which the measure falls with cost."""
    hull: list[tuple[float, float]] = []
    for point in sorted(set(points)):
        if hull and point[1] >= hull[-1][1]:
            continue
        while len(hull) > 1 and _turns_up(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _turns_up(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])


def level_at(hull: Sequence[tuple[float, float]], cost: float) -> float | None:
    """The measure at a cost, along the frontier; the last setting's beyond it."""
    if not hull or cost < hull[0][0]:
        return None
    for (x0, y0), (x1, y1) in pairwise(hull):
        if cost <= x1:
            return y0 + (y1 - y0) * (cost - x0) / (x1 - x0)
    return hull[-1][1]


def cost_at(hull: Sequence[tuple[float, float]], level: float) -> float | None:
    """The smallest cost at which the measure is as low as a level."""
    if not hull or level < hull[-1][1]:
        return None
    if level >= hull[0][1]:
        return hull[0][0]
    for (x0, y0), (x1, y1) in pairwise(hull):
        if level >= y1:
            return x0 + (x1 - x0) * (y0 - level) / (y0 - y1)
    return hull[-1][0]
