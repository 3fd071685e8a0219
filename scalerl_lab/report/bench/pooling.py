"""What a young run gains from its siblings: forecasts of its later points, pooled against alone.

A run is young when it is observed up to 1.5 times its midpoint, where its own points do not say yet
where it will end. Its siblings are either

- older: observed up to the budget (each run of the sweep is left out in its turn), or
- equally young: observed up to 1.5 times their own midpoints.

Forecasts are of the points after the cut up to the budget. A run without such points, or without any
between the fit start and the cut, is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import numpy as np

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.published import FIT_START_GPU_HOURS
from scalerl_lab.fit.score import BANDS, Score, mean_score, score_fit
from scalerl_lab.fit.simulate import SweepKind
from scalerl_lab.report.bench.digitised import PublishedCurve
from scalerl_lab.report.bench.fitting import Fitters, SweepTask, for_each

YOUNG = 1.5
"""In midpoints."""
_NINETY = BANDS.index(0.9)


class Siblings(StrEnum):
    """How far the other runs of the sweep are observed."""

    OLDER = "older"
    EQUALLY_YOUNG = "equally_young"


@dataclass(frozen=True, slots=True)
class Member:
    """A run of a sweep that is left out in its turn."""

    arm: str
    curve: Curve
    """All its points."""
    cut: float
    """Compute up to which it is observed when it is young."""

    @property
    def young(self) -> Curve:
        """The points of the young run."""
        return self.curve.between(FIT_START_GPU_HOURS, self.cut)

    @property
    def old(self) -> Curve:
        """All points that a fit is given."""
        return self.curve.between(FIT_START_GPU_HOURS, None)

    @property
    def later(self) -> Curve:
        """The points to be forecast."""
        return self.curve.between(float(np.nextafter(self.cut, np.inf)), None)


@dataclass(frozen=True, slots=True)
class Gain:
    """One young run forecast alone and with its siblings."""

    sweep: int
    arm: str
    siblings: Siblings
    alone: Score
    pooled: Score


@dataclass(frozen=True, slots=True)
class GainRow:
    """Scores of young runs, pooled against alone: all of a sweep, or those of one arm."""

    sweep: str
    siblings: Siblings
    arm: str | None
    """None: all runs."""
    runs: int
    crps_alone: float
    crps_pooled: float
    ratio: float
    """Mean CRPS pooled over mean CRPS alone; below 1 pooling helps."""
    ratio_se: float | None
    """Sweeps being independent; None for one sweep."""
    coverage90_alone: float
    coverage90_pooled: float


def measure_pooling(
    kind: SweepKind,
    fitters: Fitters,
    *,
    sweeps: int,
    budget_gpu_hours: float,
    seed: int = 0,
    jobs: int = 1,
    done: Callable[[int, int], None] | None = None,
) -> list[GainRow]:
    """The gain over simulated sweeps, for each kind of siblings: over all runs, then by arm."""
    tasks = [SweepTask(kind, seed, number, budget_gpu_hours) for number in range(sweeps)]
    found = for_each(
        partial(gains_of_simulated, fitters=fitters),
        tasks,
        jobs,
        None if done is None else lambda count: done(count, sweeps),
    )
    return gain_rows(kind.value, [gain for sweep in found for gain in sweep])


def measure_published_pooling(curves: Sequence[PublishedCurve], fitters: Fitters) -> list[GainRow]:
    """The gain over a published sweep, cut at its published midpoints."""
    members = [Member(one.run.name, one.curve, YOUNG * one.run.C_mid) for one in curves]
    return gain_rows("published", gains_of(0, members, fitters))


def gains_of_simulated(task: SweepTask, fitters: Fitters) -> list[Gain]:
    """Every run of a simulated sweep in its turn."""
    runs = task.sweep().runs
    members = [Member(run.arm.name, run.curve, YOUNG * run.truth.C_mid) for run in runs]
    return gains_of(task.number, members, fitters)


def gains_of(sweep: int, members: Sequence[Member], fitters: Fitters) -> list[Gain]:
    """Every member in its turn, with siblings of both kinds."""
    arms = [member.arm for member in members]
    all_young = fitters.together([member.young for member in members], arms).fits
    gains = []
    for place, member in enumerate(members):
        if member.young.compute.size == 0 or member.later.compute.size == 0:
            continue
        alone = score_fit(fitters.alone(member.young), member.later, 1.0)
        curves = [other.young if k == place else other.old for k, other in enumerate(members)]
        among_older = fitters.together(curves, arms).fits
        for siblings, fits in ((Siblings.OLDER, among_older), (Siblings.EQUALLY_YOUNG, all_young)):
            pooled = score_fit(fits[place], member.later, 1.0)
            gains.append(Gain(sweep, member.arm, siblings, alone, pooled))
    return gains


def gain_rows(sweep: str, gains: Sequence[Gain]) -> list[GainRow]:
    """For each kind of siblings one row over all runs, then one for each arm."""
    rows = []
    for siblings in Siblings:
        chosen = [gain for gain in gains if gain.siblings is siblings]
        arms = list(dict.fromkeys(gain.arm for gain in chosen))
        if chosen:
            rows.append(_row(sweep, siblings, None, chosen))
            rows += [_row(sweep, siblings, arm, [g for g in chosen if g.arm == arm]) for arm in arms]
    return rows


def worst(rows: Sequence[GainRow]) -> GainRow:
    """The arm to which pooling did the least good."""
    return max((row for row in rows if row.arm is not None), key=lambda row: row.ratio)


def _row(sweep: str, siblings: Siblings, arm: str | None, gains: Sequence[Gain]) -> GainRow:
    alone, pooled = mean_score([g.alone for g in gains]), mean_score([g.pooled for g in gains])
    ratio = pooled.crps / alone.crps
    off: dict[int, float] = {}
    for gain in gains:
        off[gain.sweep] = off.get(gain.sweep, 0.0) + gain.pooled.crps - ratio * gain.alone.crps
    num = len(off)
    spread = np.sqrt(num / (num - 1.0) * np.sum(np.square(list(off.values())))) if num > 1 else None
    return GainRow(
        sweep=sweep,
        siblings=siblings,
        arm=arm,
        runs=len(gains),
        crps_alone=alone.crps,
        crps_pooled=pooled.crps,
        ratio=ratio,
        ratio_se=None if spread is None else float(spread) / (len(gains) * alone.crps),
        coverage90_alone=alone.coverage[_NINETY],
        coverage90_pooled=pooled.coverage[_NINETY],
    )
