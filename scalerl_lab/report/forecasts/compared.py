"""What ``--versus`` and ``--level`` add to the table of ``lab fit``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.records import Interval
from scalerl_lab.report.forecasts.fitting import FittedRun
from scalerl_lab.report.forecasts.rows import empty_table, level, run_decimals, span, to_the_right
from scalerl_lab.report.forecasts.versus import PaperVersus, Versus
from scalerl_lab.report.words import ABSENT, amount, num, probability

_NEVER = "never"


def compared_tables(fitted: Sequence[FittedRun], names: Mapping[str, str]) -> list[RenderableType]:
    """The tables of what was asked for beside fits and forecasts; none where nothing was."""
    tables: list[RenderableType] = []
    if any(run.to_level is not None for run in fitted):
        tables.append(_levels(fitted, names))
    if any(isinstance(run.versus, Versus) for run in fitted):
        tables.append(_by_posterior(fitted, names))
        tables.append(
            Text("P: that the difference is above 0, the ratio below 1, or that the run overtakes.")
        )
    papers = [run.versus for run in fitted if isinstance(run.versus, PaperVersus)]
    if papers:
        tables += [_by_paper(fitted, names), Text(_margin(papers[0]))]
    return tables


def _levels(fitted: Sequence[FittedRun], names: Mapping[str, str]) -> Table:
    wanted = next(run.to_level.level for run in fitted if run.to_level is not None)
    table = empty_table(f"compute to {wanted:g}", "80 %", "95 %")
    to_the_right(table, f"compute to {wanted:g}")
    for run in fitted:
        found = None if run.to_level is None else run.to_level.compute
        table.add_row(
            Text(names[run.run]),
            ABSENT if found is None else _compute(found.median),
            ABSENT if found is None else _computes(found.low80, found.high80),
            ABSENT if found is None else _computes(found.low95, found.high95),
        )
    return table


def _by_posterior(fitted: Sequence[FittedRun], names: Mapping[str, str]) -> Table:
    other = next(run.versus.other for run in fitted if run.versus is not None)
    table = empty_table(f"against {other}", "median", "80 %", "95 %", "P")
    to_the_right(table, "median", "P")
    for run in fitted:
        found = run.versus
        if not isinstance(found, Versus):
            continue
        digits, crossing = run_decimals(run), found.crossing
        rows: list[tuple[str, Interval | None, float | None, int]] = [
            ("ceiling A", found.asymptote.difference, found.asymptote.probability, digits),
            (
                f"B at A {level(found.ceiling, digits)}",
                None if found.efficiency is None else found.efficiency.difference,
                None if found.efficiency is None else found.efficiency.probability,
                2,
            ),
        ]
        rows += [
            (f"value at {amount(at.compute)}", at.value.difference, at.value.probability, digits)
            for at in found.at
        ]
        if found.level is not None:
            rows.append((f"compute to {found.level:g}, ratio", found.ratio, found.sooner, 2))
        for number, (what, interval, chance, places) in enumerate(rows):
            table.add_row(
                Text(names[run.run] if number == 0 else ""),
                what,
                ABSENT if interval is None else _level(interval.median, places),
                ABSENT if interval is None else _levels_of(interval.low80, interval.high80, places),
                ABSENT if interval is None else _levels_of(interval.low95, interval.high95, places),
                probability(chance),
            )
        place = crossing.compute
        table.add_row(
            "",
            f"overtakes by {amount(crossing.last)}, at",
            ABSENT if place is None else _compute(place.median),
            ABSENT if place is None else _computes(place.low80, place.high80),
            ABSENT if place is None else _computes(place.low95, place.high95),
            probability(crossing.probability),
        )
    return table


def _by_paper(fitted: Sequence[FittedRun], names: Mapping[str, str]) -> Table:
    other = next(run.versus.other for run in fitted if run.versus is not None)
    table = empty_table(f"ceiling, against {other}", "at common A", "B", f"B of {other}")
    to_the_right(table, *(str(column.header) for column in table.columns[1:]))
    for run in fitted:
        found = run.versus
        if not isinstance(found, PaperVersus):
            continue
        digits = run_decimals(run)
        table.add_row(
            Text(names[run.run]),
            level(found.asymptote, digits),
            level(found.ceiling, digits),
            level(found.efficiency, 2),
            level(found.other_efficiency, 2),
        )
    return table


def _margin(found: PaperVersus) -> str:
    source = f"from {num(found.replicates, 'seed')} of its arm" if found.replicates else "that of the paper"
    return f"B is compared where ceilings differ by at most {found.margin:g}: {source}."


def _compute(value: float) -> str:
    return _NEVER if math.isinf(value) else amount(value)


def _computes(low: float, high: float) -> str:
    return f"[{_compute(low)}, {_compute(high)}]"


def _level(value: float, digits: int) -> str:
    return _NEVER if math.isinf(value) else level(value, digits)


def _levels_of(low: float, high: float, digits: int) -> str:
    if math.isinf(low) or math.isinf(high):
        return f"[{_level(low, digits)}, {_level(high, digits)}]"
    return span((low, high), digits)
