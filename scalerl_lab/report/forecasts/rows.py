"""Numbers and rows of the tables of ``lab fit``: decimals for any scale, names that are never cut."""

from __future__ import annotations

import numpy as np
from rich import box
from rich.table import Table

from scalerl_lab.report.forecasts.fitting import FittedRun
from scalerl_lab.report.words import ABSENT, MINUS, decimals
from scalerl_lab.report.words import level as in_decimals

NAME_WIDTH = 15
MOST_DECIMALS = 6


def run_decimals(run: FittedRun) -> int:
    """Decimals for the values of a run, by how far they range; ``MOST_DECIMALS`` + 1: powers of ten."""
    parts = [run.curve.value, run.later.value, [] if run.curve.r0 is None else [run.curve.r0]]
    values = np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])
    span = float(np.ptp(values)) if values.size else 0.0
    # Pass rates look alike in all rows, unless they are so small that three decimals hide them.
    if run.curve.bounds == (0.0, 1.0) and span >= 0.02:
        return 3
    largest = float(np.abs(values).max(initial=0.0))
    return MOST_DECIMALS + 1 if 0.0 < largest < 1e-4 else min(decimals(span), MOST_DECIMALS)


def level(value: float | None, digits: int) -> str:
    """A value with so many decimals; small ones in three digits and a power of ten."""
    if value is None or value == 0.0 or digits <= MOST_DECIMALS:
        return in_decimals(value, digits)
    return f"{value:.2e}".replace("e-0", "e-").replace("-", MINUS, 1 if value < 0.0 else 0)


def span(ends: tuple[float, float] | None, digits: int) -> str:
    """An interval: ``[0.402, 0.431]``."""
    return ABSENT if ends is None else f"[{level(ends[0], digits)}, {level(ends[1], digits)}]"


def empty_table(*columns: str) -> Table:
    """A table of runs with these columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    # Names are broken, not cut: they have to be found again in the file.
    table.add_column("run", overflow="fold", min_width=8, max_width=NAME_WIDTH)
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    return table


def to_the_right(table: Table, *headers: str) -> None:
    """Set columns of numbers to the right."""
    for column in table.columns:
        if column.header in headers:
            column.justify = "right"
