"""Forecasts of the published runs from the first half of their compute.

A run is fitted to its points from the fit start to half of its budget; forecast are the later ones. The
budget is 16,000 GPU-hours for the leave-one-out runs, as published, and the last drawn point for the
forward ablations, which ran until they were judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.prediction import CurveFit
from scalerl_lab.fit.published import CEILING_MARGIN, FIT_START_GPU_HOURS
from scalerl_lab.fit.score import BANDS, Score, mean_score, score_fit
from scalerl_lab.fit.simulate import BUDGET_GPU_HOURS
from scalerl_lab.records import FitStatus
from scalerl_lab.report.bench.digitised import PublishedCurve, forward_curves, leave_one_out_curves


@dataclass(frozen=True, slots=True)
class HalfBudget:
    """One published run forecast from its first half."""

    study: str
    run: str
    axis: str
    points: int
    """In the fit."""
    status: FitStatus
    published_ceiling: float
    ceiling: float | None
    """Median A of the fit; None where the fit has none."""
    score: Score
    """Of the later points."""

    @property
    def ceiling_error(self) -> float | None:
        """A of the half minus A as published."""
        return None if self.ceiling is None else self.ceiling - self.published_ceiling


@dataclass(frozen=True, slots=True)
class HalfBudgetMean:
    """All runs of a study."""

    study: str
    runs: int
    points: int
    """Forecast, in all."""
    by_run: Score
    """Every run counts the same."""
    coverage90_by_point: float
    mean_absolute_error_by_point: float
    identified: int
    """Runs whose ceiling the fit calls identified."""
    ceiling_off: int
    """Of these, runs whose A differs from the published one by more than 0.02."""
    largest_ceiling_error: float | None
    """Among the identified."""


def measure_half_budget(
    path: str,
    fit: Callable[[Sequence[Curve]], Sequence[CurveFit]],
    *,
    share: float = 0.5,
    fit_start_gpu_hours: float = FIT_START_GPU_HOURS,
) -> list[HalfBudget]:
    """Every run of both studies that has points in the fit and after it.

    Args:
        path: file of the digitised points.
        fit: fits the runs of one figure or table, one by one or together.
        share: of the budget up to which points are given.
        fit_start_gpu_hours: points before it are not.

    Raises:
        NotFound: there is no such file.
        DataError: it cannot be read, or lacks a run.
    """
    halves = [
        half
        for study, curves in (
            ("leave one out", leave_one_out_curves(path)),
            ("forward", forward_curves(path)),
        )
        for one in curves
        if (half := _Half.of(study, one, share, fit_start_gpu_hours)) is not None
    ]
    found: dict[int, HalfBudget] = {}
    for axis in dict.fromkeys(half.axis for half in halves):
        together = [place for place, half in enumerate(halves) if half.axis == axis]
        for place, fitted in zip(together, fit([halves[place].given for place in together]), strict=True):
            found[place] = halves[place].scored(fitted)
    return [found[place] for place in sorted(found)]


@dataclass(frozen=True, slots=True)
class _Half:
    """A published run cut in two."""

    study: str
    one: PublishedCurve
    given: Curve
    later: Curve

    @classmethod
    def of(cls, study: str, one: PublishedCurve, share: float, start: float) -> _Half | None:
        """None where one of the two has no point."""
        budget = BUDGET_GPU_HOURS if study == "leave one out" else float(one.curve.compute[-1])
        cut = share * budget
        given = one.curve.between(start, cut)
        later = one.curve.between(float(np.nextafter(max(cut, start), np.inf)), None)
        return cls(study, one, given, later) if given.compute.size and later.compute.size else None

    @property
    def axis(self) -> tuple[str, str]:
        """Runs of the same figure or table share it."""
        return self.study, self.one.run.table.name

    def scored(self, fitted: CurveFit) -> HalfBudget:
        """The fit of the first half against the second."""
        return HalfBudget(
            study=self.study,
            run=self.one.run.name,
            axis=self.one.run.table.name,
            points=self.given.compute.size,
            status=fitted.status,
            published_ceiling=self.one.run.A,
            ceiling=None if fitted.asymptote is None else float(np.median(fitted.asymptote)),
            score=score_fit(fitted, self.later, 1.0),
        )


def half_budget_means(found: Sequence[HalfBudget]) -> list[HalfBudgetMean]:
    """Each study, then all runs."""
    studies = list(dict.fromkeys(one.study for one in found))
    means = [_mean(study, [one for one in found if one.study == study]) for study in studies]
    return [*means, _mean("all", found)] if len(studies) > 1 else means


def _mean(study: str, found: Sequence[HalfBudget]) -> HalfBudgetMean:
    points = np.array([one.score.points for one in found], dtype=np.float64)
    ninety = BANDS.index(0.9)
    errors = [
        abs(one.ceiling_error)
        for one in found
        if one.status is FitStatus.IDENTIFIED and one.ceiling_error is not None
    ]
    return HalfBudgetMean(
        study=study,
        runs=len(found),
        points=int(points.sum()),
        by_run=mean_score([one.score for one in found]),
        coverage90_by_point=float(np.average([one.score.coverage[ninety] for one in found], weights=points)),
        mean_absolute_error_by_point=float(np.average([one.score.mae for one in found], weights=points)),
        identified=len(errors),
        # Published ceilings are printed in steps of 0.005; rounding must not decide.
        ceiling_off=sum(error > CEILING_MARGIN + 1e-9 for error in errors),
        largest_ceiling_error=max(errors, default=None),
    )
