"""The table of arms as text, for a terminal of 100 columns and for a pipe."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.records import Interval
from scalerl_lab.report.ceilings import ArmRow, Ceilings
from scalerl_lab.report.speed import Hours
from scalerl_lab.report.verdict import Verdict
from scalerl_lab.report.words import (
    ABSENT,
    bare,
    flops,
    hours,
    num,
    percent,
    probability,
    rate,
    short_hours,
    signed,
    span80,
)

ARM_WIDTH = 20
VERDICT_STYLE = {
    Verdict.CONTROL: "bold",
    Verdict.RAISES: "bold green",
    Verdict.LOWERS: "bold red",
    Verdict.FASTER: "green",
    Verdict.SLOWER: "yellow",
    Verdict.NO_DIFFERENCE: "",
    Verdict.NO_EFFECT: "",
    Verdict.NOT_IDENTIFIED: "dim",
    Verdict.DIVERGED: "bold red",
    Verdict.FAILED: "bold red",
}


def ceilings_table(found: Ceilings) -> RenderableType:
    """Verdicts first, then efficiency and compute, then what the numbers rest on."""
    return Group(
        *(Text(line) for line in headline(found)),
        _verdicts(found),
        _details(found),
        _speed(found),
        _compute(found),
        *(Text(line) for line in [*footnotes(found), totals_line(found)]),
    )


def headline(found: Ceilings) -> list[str]:
    """Which sweep, under which profile, and what one of its GPU-hours is."""
    return [f"Sweep {found.name} ({found.sweep_id})", meter_line(found)]


def meter_line(found: Ceilings) -> str:
    """The profile, and what a GPU-hour means under it."""
    if found.flops_per_gpu_hour is not None:
        meaning = f"1 lab GPU-hour = {flops(found.flops_per_gpu_hour)} counted floating-point operations"
        return f"Profile {found.profile_name}: {meaning}, not an hour of a GPU."
    return f"Profile {found.profile_name}: GPU-hours are hours held times devices."


def totals_line(found: Ceilings) -> str:
    """Compute of the sweep in one sentence."""
    t = found.totals
    share = percent(t.used / t.full_budget) if t.full_budget else ABSENT
    return (
        f"Compute: {hours(t.used)} GPU-hours used of {hours(t.full_budget)} at full budget ({share}); "
        f"saved by ending runs early {hours(t.saved)}, used for extensions {hours(t.extended)}; "
        f"billed with evaluation and checkpoints {hours(t.billed)}, of it lost {hours(t.lost)}; "
        f"{num(t.reused_runs, 'run')} reused."
    )


def footnotes(found: Ceilings) -> list[str]:
    """What the columns mean in this sweep."""
    lines = [
        "Ceilings: all runs refitted together now; lab sweep status and lab why show them as fitted at a "
        "verdict.",
        f"Intervals are 80 %. Margin {found.margin:g}; a verdict needs probability {found.demanded:g}. "
        f"P< (P lower): the ceiling is lower than the control's by more than the margin; P>: higher.",
    ]
    if found.pooled_ceiling is not None:
        text = f"B is refitted at the pooled ceiling {rate(found.pooled_ceiling)}"
        if any(row.own_ceiling and row.efficiency is not None for row in found.arms):
            text += "; * at the arm's own ceiling, which is off by more than the margin: not comparable"
        lines.append(text + ".")
    if found.common_level is not None:
        lines.append(
            f"To level: GPU-hours to pass rate {rate(found.common_level)}, the highest that all identified "
            f"arms whose ceiling is not lower reach by their budgets with probability {found.demanded:g}."
        )
    if any(row.at_budget is not None for row in found.arms):
        spread = found.between_seeds
        lines.append(
            "Pass rate at budget: evaluation noise only, as no arm has two seeds measured there; seeds of a "
            "recipe differ by more."
            if spread is None
            else "Pass rate at budget: evaluation noise and the spread between seeds, whose sd is "
            f"{spread.sd:.4f} by {num(spread.num_values, 'seed')} of {num(spread.num_groups, 'arm')}."
        )
    if any(row.at_budget is not None and not row.at_budget.measured for row in found.arms):
        lines.append("~ is a forecast, not a measurement.")
    return lines


def _verdicts(found: Ceilings) -> Table:
    table = _table(found, "ceiling A", "difference to control", "P<", "P>", "verdict")
    for row in found.arms:
        style = "" if row.identified else "dim"
        table.add_row(
            row.arm,
            Text(_interval(row.ceiling), style=style),
            Text(_difference(row.difference), style=style),
            probability(row.probability_below),
            probability(row.probability_above),
            Text(row.verdict.value, style=VERDICT_STYLE[row.verdict]),
        )
    return table


def _details(found: Ceilings) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=ARM_WIDTH, min_width=_arm_width(found))
    grid.add_column(overflow="fold")
    for row in found.arms:
        if row.detail:
            grid.add_row(row.arm, row.detail)
    return grid


def _speed(found: Ceilings) -> Table:
    table = _table(found, "efficiency B", "midpoint", "pass rate at budget", "GPU-hours to level")
    table.columns[2].justify = "right"
    for row in found.arms:
        midpoint = hours(row.midpoint.median) if row.midpoint is not None else ABSENT
        table.add_row(
            row.arm, efficiency_text(row), midpoint, at_budget_text(row), to_level_text(row.to_level)
        )
    return table


def _compute(found: Ceilings) -> Table:
    table = _table(found, "status", "budget", "used", "saved", "extended")
    for column in table.columns[2:]:
        column.justify = "right"
    for row in found.arms:
        spent = (row.budget_gpu_hours, row.used_gpu_hours, row.saved_gpu_hours, row.extended_gpu_hours)
        table.add_row(row.arm, row.status, *(hours(value) for value in spent))
    return table


def _table(found: Ceilings, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(
        "arm", no_wrap=True, overflow="ellipsis", max_width=ARM_WIDTH, min_width=_arm_width(found)
    )
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    return table


def _arm_width(found: Ceilings) -> int:
    return min(ARM_WIDTH, max(len(row.arm) for row in found.arms))


def _interval(interval: Interval | None) -> str:
    return ABSENT if interval is None else f"{rate(interval.median)} {span80(interval)}"


def _difference(interval: Interval | None) -> str:
    if interval is None:
        return ABSENT
    low, high = bare(interval.low80, sign=True), bare(interval.high80, sign=True)
    return f"{signed(interval.median)} [{low}, {high}]"


def efficiency_text(row: ArmRow) -> str:
    """B with its interval; ``*`` marks one at the arm's own ceiling."""
    if row.efficiency is None:
        return ABSENT
    b = row.efficiency
    return f"{'*' if row.own_ceiling else ''}{b.median:.2f} [{b.low80:.2f}, {b.high80:.2f}]"


def at_budget_text(row: ArmRow) -> str:
    """Pass rate at the budget; ``~`` marks a forecast."""
    if row.at_budget is None:
        return ABSENT
    value = row.at_budget
    return f"{'' if value.measured else '~'}{rate(value.value)} [{bare(value.low80)}, {bare(value.high80)}]"


def to_level_text(reached: Hours | None) -> str:
    """GPU-hours to the common level, with the interval's open end where it is not reached."""
    if reached is None:
        return ABSENT
    if reached.median is None:
        return "not reached"
    low = short_hours(reached.low80) if reached.low80 is not None else "∞"
    high = short_hours(reached.high80) if reached.high80 is not None else "∞"
    return f"{hours(reached.median)} [{low}, {high}]"
