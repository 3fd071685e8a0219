"""Fits of a file's runs as text, for a terminal of 100 columns and for a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.fit.score import BANDS
from scalerl_lab.records import Interval, Shape
from scalerl_lab.report.forecasts.compared import compared_tables
from scalerl_lab.report.forecasts.fitting import FittedRun, interval
from scalerl_lab.report.forecasts.question import AHEAD, Question
from scalerl_lab.report.forecasts.reading import PointFile
from scalerl_lab.report.forecasts.rows import (
    MOST_DECIMALS,
    NAME_WIDTH,
    empty_table,
    level,
    run_decimals,
    span,
    to_the_right,
)
from scalerl_lab.report.words import ABSENT, amount, num, percent


def fits_table(file: PointFile, fitted: Sequence[FittedRun], question: Question) -> RenderableType:
    """Fits first, then forecasts, then how they did at points held out, then what the words mean."""
    held_out = any(run.held_out is not None for run in fitted)
    prefix = shared_prefix([run.run for run in fitted])
    names = {run.run: folded(run.run.removeprefix(prefix)) for run in fitted}
    return Group(
        *(Text(line) for line in headline(file, fitted, question)),
        *([Text(f"The names of the runs begin with {prefix}")] if prefix else []),
        _fits(fitted, names),
        _reasons(fitted, names),
        _forecasts(fitted, names),
        *([_held_out(fitted, names)] if held_out else []),
        *compared_tables(fitted, names),
        *(Text(line) for line in footnotes(fitted, question)),
    )


def headline(file: PointFile, fitted: Sequence[FittedRun], question: Question) -> list[str]:
    """What was read, and what was fitted of it."""
    points = sum(run.curve.compute.size for run in fitted)
    start = "" if question.first is None else f" from {amount(question.first)}"
    end = "" if question.last is None else f" up to {amount(question.last)}"
    pooled = ", pooled" if question.pool else ""
    return [
        file.source,
        f"{'Columns guessed' if file.columns.guessed else 'Columns'}: {file.columns.sentence}.",
        f"{num(len(fitted), 'run')}, {num(points, 'point')} in the fit{start}{end}; "
        f"method {question.method}{pooled}.",
    ]


def footnotes(fitted: Sequence[FittedRun], question: Question) -> list[str]:
    """What the columns mean, and where the forecasts are."""
    lines = ["A, B, midpoint: 80 % intervals. Bands are of a new measured point, its noise included."]
    if not question.at:
        last = "the last point held out, and " if any(run.held_out is not None for run in fitted) else ""
        lines.append(
            f"Forecast by default: {last}{AHEAD:g} times the last compute in the fit; others with --at."
        )
    return lines


def shared_prefix(names: Sequence[str]) -> str:
    """What all names begin with, up to the end of a word, where names are too long for a column."""
    if len(names) < 2 or max(map(len, names)) <= NAME_WIDTH:
        return ""
    alike = [len(set(letters)) == 1 for letters in zip(*names, strict=False)]
    # A name that is the beginning of the others must not be left with nothing.
    shared = names[0][: [*alike[:-1], False].index(False)]
    return shared[: max((k + 1 for k, letter in enumerate(shared) if not letter.isalnum()), default=0)]


def folded(name: str) -> str:
    """A name on as few lines of ``NAME_WIDTH`` letters as it takes, broken after a mark or a word."""
    num_lines = -(-len(name) // NAME_WIDTH)
    if num_lines <= 1:
        return name
    even = -(-len(name) // num_lines)
    ends = range(len(name) - NAME_WIDTH * (num_lines - 1), NAME_WIDTH + 1)
    marks = [end for end in ends if not name[end - 1].isalnum()]
    capitals = [end for end in ends if name[end - 1].islower() and name[end].isupper()]
    end = min(marks or capitals, key=lambda end: abs(end - even), default=even)
    return f"{name[:end]}\n{folded(name[end:])}"


def _fits(fitted: Sequence[FittedRun], names: Mapping[str, str]) -> Table:
    table = empty_table("n", "status", "ceiling A", "efficiency B", "midpoint", "noise")
    to_the_right(table, "n", "midpoint", "noise")
    for run in fitted:
        fit, digits = run.fit, run_decimals(run)
        style = "" if run.identified else "dim"
        efficiency, midpoint = interval(fit.efficiency), interval(fit.midpoint)
        table.add_row(
            Text(names[run.run]),
            f"{run.curve.compute.size:,}",
            Text(_spaced(fit.status), style=style),
            Text(_parameter(interval(fit.asymptote), digits), style=style),
            Text(_parameter(efficiency, 1 if efficiency and efficiency.high80 >= 9.95 else 2), style=style),
            Text(ABSENT if midpoint is None else amount(midpoint.median), style=style),
            level(fit.residual_sd, digits),
        )
    return table


def _reasons(fitted: Sequence[FittedRun], names: Mapping[str, str]) -> Table:
    """Why a ceiling is not identified, and what a curve is that the law does not describe."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(overflow="fold", max_width=NAME_WIDTH)
    grid.add_column(overflow="fold")
    for run in fitted:
        shape = None if run.fit.shape is Shape.LAW else run.fit.shape
        if run.fit.why and not (run.identified and shape is None):
            kind = "" if shape is None else f"{_spaced(shape)}: "
            grid.add_row(Text(names[run.run]), Text(kind + run.fit.why))
    return grid


def _forecasts(fitted: Sequence[FittedRun], names: Mapping[str, str]) -> Table:
    table = empty_table("compute", "forecast", "80 %", "95 %", "measured", "the curve, 80 %")
    to_the_right(table, "compute", "forecast", "measured")
    for run in fitted:
        digits = run_decimals(run)
        for number, at in enumerate(run.forecasts):
            b, c = at.point, at.curve
            table.add_row(
                Text(names[run.run] if number == 0 else ""),
                amount(at.compute),
                level(None if b is None else b.median, digits),
                span(None if b is None else (b.low80, b.high80), digits),
                span(None if b is None else (b.low95, b.high95), digits),
                level(_measured(run, at.compute), digits),
                span(None if c is None else (c.low80, c.high80), digits),
            )
    return table


def _held_out(fitted: Sequence[FittedRun], names: Mapping[str, str]) -> Table:
    table = empty_table(
        "held out", "until", "mean abs. error", "CRPS", *(f"in {percent(band)}" for band in BANDS)
    )
    to_the_right(table, *(str(column.header) for column in table.columns[1:]))
    scores = [(run, run.held_out) for run in fitted if run.held_out is not None]
    for run, score in scores:
        digits = run_decimals(run)
        digits = digits if digits > MOST_DECIMALS else min(digits + 1, MOST_DECIMALS)
        table.add_row(
            Text(names[run.run]),
            f"{score.points:,}",
            amount(float(run.later.compute[-1])),
            level(score.mae, digits),
            level(score.crps, digits),
            *(percent(share) for share in score.coverage),
        )
    if len(scores) > 1:
        shares = [sum(score.coverage[k] for _, score in scores) / len(scores) for k in range(len(BANDS))]
        total = f"{sum(score.points for _, score in scores):,}"
        table.add_row("mean", total, "", "", "", *map(percent, shares), style="bold")
    return table


def _spaced(status: StrEnum) -> str:
    return status.value.replace("_", " ")


def _parameter(found: Interval | None, digits: int) -> str:
    """Median and interval; the median alone where a method gives no more than a number."""
    if found is None:
        return ABSENT
    if found.low95 == found.high95:
        return level(found.median, digits)
    return f"{level(found.median, digits)} {span((found.low80, found.high80), digits)}"


def _measured(run: FittedRun, compute: float) -> float | None:
    """The value of the run's point at a compute, if there is one."""
    for curve in (run.later, run.curve, run.earlier):
        at = np.flatnonzero(curve.compute == compute)
        if at.size:
            return float(curve.value[at[0]])
    return None
