"""A file of points, read: the runs in it with their points, and what was left out."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from scalerl_lab.config.problems import nearest
from scalerl_lab.errors import DataError, NotFound
from scalerl_lab.fit.law import Floats
from scalerl_lab.report.forecasts.columns import Asked, Columns, find_columns, is_missing
from scalerl_lab.report.forecasts.sheet import Sheet, raise_all, read_sheet
from scalerl_lab.report.words import listed, num

LARGEST = 1e100
"""Numbers beyond this are mistakes, and their squares would overflow."""


@dataclass(frozen=True, slots=True)
class RunPoints:
    """N points of one run, in the file's order."""

    name: str
    arm: str | None
    compute: Floats
    """[N] >= 0."""
    value: Floats
    """[N] finite."""
    se: Floats | None
    """[N] standard errors; NaN where the file says none. None: the file has no such column."""
    lines: tuple[int, ...]
    """Where each point stands in the file."""


@dataclass(frozen=True, slots=True)
class PointFile:
    """The runs of a file, in the order of their first rows."""

    source: str
    columns: Columns
    runs: tuple[RunPoints, ...]
    notes: tuple[str, ...]
    """What was left out or put together, a sentence each."""


def read_points(path: str, asked: Asked) -> PointFile:
    """The points of a file; ``-`` is the standard input.

    Rows without a value (empty, NaN, infinite) are left out and counted.

    Raises:
        NotFound: there is no such file.
        DataError: the file, its columns or its cells are not what is needed.
    """
    sheet = read_sheet(path)
    columns = find_columns(sheet, asked)
    problems: list[str] = []
    if columns.wide:
        return _read_wide(sheet, columns)
    value = _numbers(sheet, columns.y, problems, missing=True, infinite=True)
    measured = np.isfinite(value)
    compute = _numbers(sheet, columns.x, problems, needed=measured, least=0.0)
    se = None if columns.se is None else _numbers(sheet, columns.se, problems, missing=True, least=0.0)
    names = _names(sheet, columns.run, problems)
    raise_all(sheet.source, problems)
    if not measured.any():
        raise DataError(f"{sheet.source}: no row has a value in column {columns.y}")
    arms = None if columns.arm is None else sheet.column(columns.arm)
    first: dict[str, int] = {}
    rows: dict[str, list[int]] = {}
    for row, has_value in enumerate(measured.tolist()):
        first.setdefault(names[row], row)
        kept = rows.setdefault(names[row], [])
        if has_value:
            kept.append(row)
    runs = tuple(
        RunPoints(
            name,
            None if arms is None else arms[first[name]].strip(),
            compute[chosen],
            value[chosen],
            None if se is None else se[chosen],
            tuple(sheet.lines[row] for row in chosen),
        )
        for name, chosen in rows.items()
    )
    return PointFile(sheet.source, columns, runs, tuple(_notes(sheet, columns, measured, names, runs)))


def _read_wide(sheet: Sheet, columns: Columns) -> PointFile:
    """The runs of a file in which each has a column; an empty cell is no point."""
    problems: list[str] = []
    values = [_numbers(sheet, column, problems, missing=True, infinite=True) for column, _ in columns.wide]
    measured = np.isfinite(values)
    compute = _numbers(sheet, columns.x, problems, needed=np.any(measured, axis=0), least=0.0)
    raise_all(sheet.source, problems)
    if not measured.any():
        raise DataError(f"{sheet.source}: no row has a value in columns {columns.sentence}")
    runs = tuple(
        RunPoints(
            name,
            None,
            compute[there],
            value[there],
            None,
            tuple(sheet.lines[row] for row in np.flatnonzero(there).tolist()),
        )
        for (_, name), value, there in zip(columns.wide, values, measured, strict=True)
    )
    return PointFile(sheet.source, columns, runs, tuple(_notes_on(runs)))


def choose(file: PointFile, only: Sequence[str]) -> tuple[RunPoints, ...]:
    """The runs of these names, or of names that match these patterns (``td3_*``); all for none.

    Raises:
        NotFound: a name or a pattern fits no run.
    """
    if not only:
        return file.runs
    names = [run.name for run in file.runs]
    wanted: set[str] = set()
    for text in only:
        found = {text} & set(names) or {name for name in names if fnmatchcase(name, text)}
        if not found:
            close = nearest(text, names)
            raise NotFound(
                f"no run {text!r} in {file.source}{close or '; there are: ' + listed(names)} (--only)"
            )
        wanted |= found
    return tuple(run for run in file.runs if run.name in wanted)


def _numbers(
    sheet: Sheet,
    column: str,
    problems: list[str],
    *,
    missing: bool = False,
    infinite: bool = False,
    needed: np.ndarray | None = None,
    least: float = -LARGEST,
) -> Floats:
    """A column's cells as numbers, NaN where there is none; what is wrong is appended to ``problems``.

    Args:
        sheet: the file.
        column: its name.
        problems: what is wrong so far.
        missing: whether a cell may be empty or NaN.
        infinite: whether a cell may be infinite.
        needed: [N] rows that must have a number where ``missing`` is not allowed; None: all.
        least: the smallest number allowed.
    """
    cells = sheet.column(column)
    numbers = np.array([_number(cell, sheet.decimal_comma) for cell in cells])
    with np.errstate(invalid="ignore"):
        suspect = ~((numbers >= least) & (numbers <= LARGEST))
    allowed = f"a number from {least:g}" if math.isclose(least, 0.0) else "a number"
    for row in np.flatnonzero(suspect).tolist():
        cell, number = cells[row].strip(), float(numbers[row])
        if is_missing(cell):
            if missing or not (needed is None or needed[row]):
                continue
            what = "the cell is empty" if not cell else f"found {cell}"
        elif math.isinf(number) and infinite:
            continue
        else:
            what = f"found {cell!r}"
        allowed_here = allowed + _without(cell)
        over = f" up to {LARGEST:g}" if math.isfinite(number) and abs(number) > LARGEST else ""
        problems.append(f"line {sheet.lines[row]}, column {column}: {what}, {allowed_here}{over} is expected")
    return numbers


def _without(cell: str) -> str:
    """What a cell has that a number has not."""
    if re.fullmatch(r"[-+]?\d{1,3}([, '_\u00a0\u202f]\d{3})+(\.\d+)?", cell):
        return " without marks between its thousands"
    return " without a per cent sign" if re.fullmatch(r"[-+]?[\d.,]+ ?%", cell) else ""


def _number(cell: str, decimal_comma: bool) -> float:
    """The cell's number; NaN where it is none."""
    try:
        return float(cell.replace(",", ".") if decimal_comma else cell)
    except ValueError:
        return math.nan


def _names(sheet: Sheet, columns: Sequence[str], problems: list[str]) -> list[str]:
    """The run of each row; the file's name where no column says it."""
    if not columns:
        return [sheet.stem] * len(sheet.rows)
    cells = [[cell.strip() for cell in sheet.column(column)] for column in columns]
    for column, told in zip(columns, cells, strict=True):
        problems += [
            f"line {sheet.lines[row]}, column {column}: the cell is empty, the name of a run is expected"
            for row, cell in enumerate(told)
            if not cell
        ]
    return [":".join(parts) for parts in zip(*cells, strict=True)]


def _notes(
    sheet: Sheet, columns: Columns, measured: np.ndarray, names: Sequence[str], runs: Sequence[RunPoints]
) -> list[str]:
    """What was left out of the file, and what was averaged."""
    notes = []
    if not measured.all():
        cells = sheet.column(columns.y)
        kinds = Counter((cells[row].strip().lower() or "empty") for row in np.flatnonzero(~measured).tolist())
        told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        total = num(int((~measured).sum()), "row")
        notes.append(f"{total} without a value in column {columns.y} left out ({told})")
    return notes + _notes_on(runs)


def _notes_on(runs: Sequence[RunPoints]) -> list[str]:
    """Runs without a value, and points that were averaged."""
    notes = []
    empty = [run.name for run in runs if not run.lines]
    if empty:
        notes.append(f"{num(len(empty), 'run')} without any value: {listed(empty)}")
    repeated = sum(run.compute.size - np.unique(run.compute).size for run in runs)
    if repeated:
        notes.append(
            f"{num(int(repeated), 'point')} at a compute where the run has another: averaged "
            "(if these are several runs, say which columns tell them apart: --run)"
        )
    return notes
