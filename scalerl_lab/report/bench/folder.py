"""A folder of real curves: one CSV file per group, and where there is one an index with their bounds.

Every file has a row per point with run, compute and value (``run_id``, ``compute``, ``reward``; other names
are guessed), and may have a column ``source``. ``index.csv`` has a row per run with ``run_id``, ``group``
(the stem of its file), and may have ``slug`` (its source), ``task``, ``lo`` and ``hi`` (bounds; empty: none);
only files that it names are read, and only runs in it. Without an index every file is a group, a file
without a column ``source`` is a source, whose bounds are 0 and 1 where all its values lie there.

The unit of account of a curve's scores, its scale: where there are bounds, the distance between them, but
for sources whose values span less than a tenth of it, that span; where there are none, the range of the
whole curve.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

import numpy as np

from scalerl_lab.config.problems import nearest
from scalerl_lab.errors import DataError, NotFound
from scalerl_lab.fit.curve import Curve, natural_bounds
from scalerl_lab.report.forecasts.columns import Asked
from scalerl_lab.report.forecasts.reading import RunPoints, read_points
from scalerl_lab.report.forecasts.sheet import Sheet, read_sheet

INDEX = "index.csv"
_SMALL_SPAN = 0.1
_COLUMNS = {"run": "run_id", "x": "compute", "y": "reward", "arm": "source"}


@dataclass(frozen=True, slots=True)
class RealCurve:
    """One whole curve with its place in the weighting."""

    group: str
    source: str
    curve: Curve
    scale: float
    task: str = ""
    """What is learned: curves of one task are alike, and stay in one half."""


class Half(StrEnum):
    """Halves of the tasks, by the first byte of the SHA-256 of group and task."""

    EVEN = "even"
    ODD = "odd"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A run's row of the index."""

    group: str
    source: str | None
    bounds: tuple[float, float] | None
    task: str


def read_folder(folder: Path) -> tuple[RealCurve, ...]:
    """All curves of a folder, in the order of groups and rows.

    Raises:
        NotFound: there is no such folder, or no CSV file in it.
        DataError: a file is not what is needed.
    """
    if not folder.is_dir():
        raise NotFound(f"no folder {folder}; a folder with one CSV file of curves per group is expected")
    index = _read_index(folder / INDEX) if (folder / INDEX).exists() else None
    if index is None:
        files = sorted(folder.glob("*.csv"))
        if not files:
            raise NotFound(f"no CSV file in {folder}; one per group of curves is expected")
    else:
        files = [folder / f"{group}.csv" for group in dict.fromkeys(entry.group for entry in index.values())]
    curves: list[RealCurve] = []
    for file in files:
        curves += _read_group(file, index)
    return tuple(curves)


def choose_groups(curves: tuple[RealCurve, ...], groups: tuple[str, ...]) -> tuple[RealCurve, ...]:
    """The curves of some groups; all for none.

    Raises:
        NotFound: there is no such group.
    """
    there = list(dict.fromkeys(curve.group for curve in curves))
    for group in groups:
        if group not in there:
            raise NotFound(f"no group {group!r}{nearest(group, there)}; there are: {', '.join(there)}")
    return tuple(curve for curve in curves if not groups or curve.group in groups)


def half_of(curves: tuple[RealCurve, ...], half: Half) -> tuple[RealCurve, ...]:
    """The curves of half of the tasks; a curve without a task is one of its own."""

    def checksum(one: RealCurve) -> int:
        return sha256((one.group + (one.task or one.curve.name)).encode()).digest()[0]

    return tuple(one for one in curves if checksum(one) % 2 == (half is Half.ODD))


def sample(curves: tuple[RealCurve, ...], per_source: int) -> tuple[RealCurve, ...]:
    """At most so many curves of each source; which ones depends on nothing but their names."""
    taken: set[tuple[str, str, str]] = set()
    by_source: dict[tuple[str, str], list[str]] = {}
    for one in curves:
        by_source.setdefault((one.group, one.source), []).append(one.curve.name)
    for (group, source), names in by_source.items():
        mixed = sorted(names, key=lambda name: sha256(name.encode()).hexdigest())
        taken |= {(group, source, name) for name in mixed[:per_source]}
    return tuple(one for one in curves if (one.group, one.source, one.curve.name) in taken)


def _read_index(file: Path) -> dict[tuple[str, str], _Entry]:
    """(group, run) -> entry."""
    sheet = read_sheet(str(file))
    for name in ("run_id", "group"):
        if name not in sheet.header:
            raise DataError(f"{file} has no column {name!r}; there are: {', '.join(sheet.header)}")
    runs, groups = sheet.column("run_id"), sheet.column("group")
    sources = sheet.column("slug") if "slug" in sheet.header else [None] * len(runs)
    lows, highs = _bounds_column(sheet, "lo"), _bounds_column(sheet, "hi")
    tasks = sheet.column("task") if "task" in sheet.header else [""] * len(runs)
    index = {}
    for run, group, source, low, high, task in zip(runs, groups, sources, lows, highs, tasks, strict=True):
        if low is not None and high is not None and not low < high:
            raise DataError(f"{file}: the bounds of {run} are not in order: lo {low:g}, hi {high:g}")
        bounds = None if low is None or high is None else (low, high)
        index[group.strip(), run.strip()] = _Entry(
            group.strip(), source and source.strip(), bounds, task.strip()
        )
    return index


def _bounds_column(sheet: Sheet, name: str) -> list[float | None]:
    if name not in sheet.header:
        return [None] * len(sheet.rows)
    found = []
    for line, cell in zip(sheet.lines, sheet.column(name), strict=True):
        try:
            found.append(float(cell) if cell.strip() else None)
        except ValueError:
            raise DataError(
                f"{sheet.source}, line {line}, column {name}: found {cell!r}, a number or nothing is expected"
            ) from None
    return found


def _read_group(file: Path, index: dict[tuple[str, str], _Entry] | None) -> list[RealCurve]:
    there = read_sheet(str(file)).header
    named = {key: column for key, column in _COLUMNS.items() if column in there}
    asked = Asked(
        run=(named["run"],) if "run" in named else (),
        x=named.get("x"),
        y=named.get("y"),
        arm=named.get("arm"),
    )
    group = file.stem
    entries: list[tuple[str, Curve]] = []
    tasks: dict[str, str] = {}
    for run in read_points(str(file), asked).runs:
        entry = None if index is None else index.get((group, run.name))
        if index is not None and entry is None:
            continue
        curve = _curve(run, None if entry is None else entry.bounds)
        tasks[run.name] = "" if entry is None else entry.task
        if curve.compute.size:
            source = (entry.source if entry is not None else None) or (run.arm if "arm" in named else None)
            entries.append((source or group, curve))
    curves: list[RealCurve] = []
    for source in dict.fromkeys(source for source, _ in entries):
        own = [curve for name, curve in entries if name == source]
        if index is None:
            bounds = natural_bounds(own)
            own = [replace(curve, bounds=bounds) for curve in own]
        span = max(curve.value.max() for curve in own) - min(curve.value.min() for curve in own)
        curves += [
            RealCurve(group, source, curve, _scale(curve, float(span)), tasks[curve.name]) for curve in own
        ]
    return curves


def _curve(run: RunPoints, bounds: tuple[float, float] | None) -> Curve:
    return Curve.of(run.name, run.compute, run.value, se=run.se, bounds=bounds)


def _scale(curve: Curve, span: float) -> float:
    if curve.bounds is not None:
        width = curve.bounds[1] - curve.bounds[0]
        return span if 0.0 < span < _SMALL_SPAN * width else width
    own = float(np.ptp(curve.value))
    return own or span or 1.0
