"""The runs of a file fitted: which points the fit is given, which are held out, and where it forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scalerl_lab import fit
from scalerl_lab.errors import DataError, UserError
from scalerl_lab.fit.curve import Curve, natural_bounds
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.prediction import CurveFit
from scalerl_lab.fit.score import Score
from scalerl_lab.records import FitStatus, Interval
from scalerl_lab.report.forecasts.question import AHEAD, Question, check_question
from scalerl_lab.report.forecasts.reading import PointFile, RunPoints
from scalerl_lab.report.forecasts.sheet import raise_all
from scalerl_lab.report.forecasts.versus import PaperVersus, Reach, Versus, compare, reach_of
from scalerl_lab.report.words import listed, num

_OTHER_UNIT = 50.0
"""Runs of one sweep whose computes, or values, lie so far apart are hardly in one unit."""


@dataclass(frozen=True, slots=True)
class Band:
    """A forecast at one compute: median with central 50, 80, 90 and 95 % intervals."""

    median: float
    low50: float
    high50: float
    low80: float
    high80: float
    low90: float
    high90: float
    low95: float
    high95: float


@dataclass(frozen=True, slots=True)
class ForecastAt:
    """What a fit says of one compute; the bands are absent where it says nothing finite."""

    compute: float
    point: Band | None
    """Of a new measured point, its noise included."""
    curve: Band | None
    """Of the curve itself."""


@dataclass(frozen=True, slots=True)
class FittedRun:
    """One run's fit with its points and forecasts."""

    run: str
    fit: CurveFit
    earlier: Curve
    """The points before the fit's window."""
    later: Curve
    """The points held out."""
    forecasts: tuple[ForecastAt, ...]
    held_out: Score | None
    """How the forecast did at the points held out, in the unit of the values."""
    to_level: Reach | None = None
    """The compute to the level that was asked for."""
    versus: Versus | PaperVersus | None = None
    """How the run compares with the one that was named."""

    @property
    def curve(self) -> Curve:
        """The points in the fit."""
        return self.fit.curve

    @property
    def identified(self) -> bool:
        """Whether the fit says where the ceiling is."""
        return self.fit.status is FitStatus.IDENTIFIED


def fit_runs(
    file: PointFile, runs: Sequence[RunPoints], question: Question
) -> tuple[tuple[FittedRun, ...], tuple[str, ...]]:
    """Fit runs of a file and forecast them.

    Args:
        file: where they are from.
        runs: those that are asked for.
        question: what is asked.

    Returns:
        The fits in the order of the runs, and what has to be said about them, a sentence each.

    Raises:
        DataError: no point lies in the window, or a value lies outside the bounds.
        UserError: R_0 lies outside the bounds.
        NotSupported: the method cannot do what is asked.
        NotFound: the run to compare with is not there.
    """
    check_question(question, [run.name for run in runs])
    _check_bounds(file, runs, question)
    parts = [_parted(run, question) for run in runs]
    curves = _windowed([known for _, known, _ in parts], question)
    _check_window(file, runs, curves, question)
    fits: Sequence[CurveFit]
    if question.pool:
        fits = _together(curves, _arms(runs))
    else:
        fits = [fit.fit_with(question.method, curve) for curve in curves]
    names = [run.name for run in runs]
    compared: Sequence[Versus | PaperVersus | None] = [None] * len(names)
    if question.versus is not None:
        compared = compare(names, _arms(runs), fits, question)
    fitted = tuple(
        FittedRun(
            run.name,
            fitting,
            earlier,
            later,
            _forecasts(fitting, later, question),
            fit.score_fit(fitting, later, 1.0) if later.compute.size else None,
            None if question.level is None else reach_of(fitting, question.level),
            versus,
        )
        for run, fitting, (earlier, _, later), versus in zip(runs, fits, parts, compared, strict=True)
    )
    units = _units(curves) if question.pool else []
    return fitted, tuple(_notes(fitted) + units)


def _together(curves: Sequence[Curve], arms: Sequence[str] | None) -> Sequence[fit.LawFit]:
    """The joint fits of runs, in their order; the order of a file's rows changes nothing."""
    order = sorted(range(len(curves)), key=lambda k: ("" if arms is None else arms[k], curves[k].name))
    labels = None if arms is None else [arms[k] for k in order]
    found = fit.fit_siblings([curves[k] for k in order], labels).fits
    place = {k: number for number, k in enumerate(order)}
    return [found[place[k]] for k in range(len(curves))]


def _units(curves: Sequence[Curve]) -> list[str]:
    """What makes runs that are fitted together look as if they were not in the same units."""
    seen = [curve for curve in curves if curve.compute.size]
    notes = []
    largest = [float(np.abs(c.value).max()) for c in seen]
    firsts, lasts = [float(c.compute[0]) for c in seen], [float(c.compute[-1]) for c in seen]
    sizes = (("computes", firsts, lasts), ("values", largest, largest))
    for what, lows, highs in sizes:
        # Bounds say the values' unit.
        told = what == "values" and any(curve.bounds is not None for curve in seen)
        if not seen or told or not 0.0 < _OTHER_UNIT * min(highs) < max(lows):
            continue
        small, large = seen[int(np.argmin(highs))].name, seen[int(np.argmax(lows))].name
        notes.append(
            f"the {what} of {large} (from {max(lows):.3g}) and of {small} (up to {min(highs):.3g}) do not "
            "look like one unit; --pool is for runs that share it"
        )
    return notes


def interval(draws: Floats | None) -> Interval | None:
    """Median with 80 % and 95 % intervals; None where there are no draws or they are not finite."""
    return fit.interval_of(draws) if draws is not None and draws.size and np.isfinite(draws).all() else None


def bands(quantiles: Floats) -> tuple[Band | None, ...]:
    """A band for each of M columns of quantiles at ``LEVELS``; None for those that are not finite."""
    return tuple(_band(column) for column in quantiles.T)


def _band(quantiles: Floats) -> Band | None:
    if not np.isfinite(quantiles).all():
        return None
    low95, low90, low80, low50, median, high50, high80, high90, high95 = quantiles.tolist()
    return Band(median, low50, high50, low80, high80, low90, high90, low95, high95)


def _parted(run: RunPoints, question: Question) -> tuple[Curve, Curve, Curve]:
    """Points before the window, points up to its end with the start, points held out."""
    first = -np.inf if question.first is None else question.first
    last = np.inf if question.last is None else question.last
    known = run.compute <= last
    r0_se = None if question.r0 is None else question.r0_se
    seen = _curve(run, known, r0=question.r0, r0_se=r0_se)
    if question.r0_first and seen.r0 is None and seen.compute.size:
        seen = _started(seen)
    return _curve(run, known & (run.compute < first)), seen, _curve(run, ~known)


def _curve(
    run: RunPoints, chosen: NDArray[np.bool_], *, r0: float | None = None, r0_se: float | None = None
) -> Curve:
    se = None if run.se is None else run.se[chosen]
    return Curve.of(run.name, run.compute[chosen], run.value[chosen], se=se, r0=r0, r0_se=r0_se)


def _started(curve: Curve) -> Curve:
    """The curve with its first point as the start."""
    return replace(
        curve,
        compute=curve.compute[1:],
        value=curve.value[1:],
        se=None if curve.se is None else curve.se[1:],
        r0=float(curve.value[0]),
        r0_se=None if curve.se is None else float(curve.se[0]),
    )


def _windowed(known: Sequence[Curve], question: Question) -> list[Curve]:
    """The curves from the window's beginning on, with their bounds."""
    curves = []
    shared = natural_bounds(known)
    for seen in known:
        # Bounds are read off what the fit may know, not off points held out.
        found = shared if question.pool else natural_bounds([seen])
        bounds = None if question.unbounded else question.bounds or found
        curves.append(replace(seen.between(question.first, None), bounds=bounds))
    return curves


def _check_bounds(file: PointFile, runs: Sequence[RunPoints], question: Question) -> None:
    if question.bounds is None:
        return
    low, high = question.bounds
    if question.r0 is not None and not low <= question.r0 <= high:
        raise UserError(f"--r0 {question.r0:g} lies outside --bounds {low:g} {high:g}")
    column = file.columns.y
    wrong = sorted(
        (line, value)
        for run in runs
        for line, value in zip(run.lines, run.value.tolist(), strict=True)
        if not low <= value <= high
    )
    allowed = f"a value within --bounds {low:g} {high:g} is expected"
    problems = [f"line {line}, column {column}: found {value:g}, {allowed}" for line, value in wrong]
    raise_all(file.source, problems)


def _check_window(
    file: PointFile, runs: Sequence[RunPoints], curves: Sequence[Curve], question: Question
) -> None:
    if any(curve.compute.size for curve in curves):
        return
    computes = np.concatenate([run.compute for run in runs])
    if not computes.size:
        raise DataError(f"{file.source}: {listed([run.name for run in runs])}: no value to fit")
    low, high = computes.min(), computes.max()
    start = "" if question.first is None else f" from --from {question.first:g}"
    end = "" if question.last is None else f" to --until {question.last:g}"
    raise DataError(
        f"{file.source}: no point to fit{start}{end}: column {file.columns.x} goes from {low:g} to {high:g}, "
        "and points at 0 only say where a run starts"
    )


def _arms(runs: Sequence[RunPoints]) -> list[str] | None:
    """The arm of each run, where the file says it."""
    return None if any(run.arm is None for run in runs) else [run.arm or "" for run in runs]


def _forecasts(fitting: CurveFit, later: Curve, question: Question) -> tuple[ForecastAt, ...]:
    curve = fitting.curve
    asked = [place for at in question.at if (place := at.of(curve)) is not None]
    if not question.at:
        asked = [float(later.compute[-1])] if later.compute.size else []
        asked += [AHEAD * float(curve.compute[-1])] if curve.compute.size else []
        asked.sort()
    computes = list(dict.fromkeys(asked))
    if not computes:
        return ()
    prediction = fitting.predict(computes)
    points, curves = bands(prediction.quantiles()), bands(prediction.mean_quantiles())
    return tuple(ForecastAt(*row) for row in zip(computes, points, curves, strict=True))


def _notes(fitted: Sequence[FittedRun]) -> list[str]:
    empty = [run.run for run in fitted if not run.curve.compute.size]
    if not empty:
        return []
    return [f"{num(len(empty), 'run')} without a point in the fit: {listed(empty)}"]
