"""The findings on rules of stopping as tables, as JSON and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.errors import UserError
from scalerl_lab.report.bench.decision_rows import DecisionRow, EqualCost, Mean, frontier
from scalerl_lab.report.words import ABSENT, num, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"forecast": "#0072b2", "none": "#1f2430"}
_OTHERS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8f98", "#7a5230", "#b0a000")


def decision_tables(rows: Sequence[DecisionRow], equal: Sequence[EqualCost]) -> RenderableType:
    """A table for each kind of sweep and cap; below, the lab's rule at equal cost with the others."""
    parts: list[RenderableType] = []
    for kind, share in dict.fromkeys((row.kind, row.budget_share) for row in rows):
        chosen = [row for row in rows if (row.kind, row.budget_share) == (kind, share)]
        cap = "" if share is None else f", at most {percent(share)} of all budgets"
        first = chosen[0]
        counted = f"{num(first.sweeps, 'sweep')}, {num(first.tied, 'arm')} tied, {first.worse:,} worse"
        parts += [Text(f"{kind}: {counted}{cap}"), _table_of(chosen)]
        moved = [row for row in chosen if row.moved is not None and row.family == "forecast"]
        if moved:
            parts.append(_moved_table(moved))
        beside = [one for one in equal if (one.kind, one.budget_share) == (kind, share)]
        if beside:
            parts.append(_equal_table(beside))
    parts.append(
        Text(
            "In %: spent, of the GPU-hours of all budgets; false kills, of the arms within the margin of "
            "the reference; kills, of the arms worse than that; at, their median share of the budget; "
            "in 95, of the reported differences. Stopped: collapses, within a tenth of the budget after "
            "the peak. In 1/1000: regret; error of the reported differences; how far these moved from what "
            "the same sweep says with no run stopped. ms: of an answer. ± is a standard error over sweeps. "
            "Of other rules the settings are shown that none of theirs beats; all are in the JSON."
        )
    )
    return Group(*parts)


def _table_of(rows: Sequence[DecisionRow]) -> Table:
    table = _table("rule", "spent", "false kills", "kills", "at", "stopped", "regret", "error", "in 95", "ms")
    for row in shown(rows):
        table.add_row(
            row.contender,
            _percent(row.spent),
            _percent(row.false_kills),
            _percent(row.kills),
            ABSENT if row.killed_at is None else f"{100 * row.killed_at:.0f}",
            f"{row.stopped_within_tenth}/{row.collapsed}" if row.collapsed else ABSENT,
            _thousandths(row.regret),
            ABSENT if row.difference_error is None else f"{1e3 * row.difference_error:.1f}",
            ABSENT if row.covered95 is None else f"{100 * row.covered95:.0f}",
            f"{row.mean_ms:.1f}",
        )
    return table


def _moved_table(rows: Sequence[DecisionRow]) -> Table:
    table = _table(
        "rule", "beside full runs", "moved, rms", "most", "by half a margin at most", "verdicts turned"
    )
    for row in rows:
        assert row.moved is not None
        table.add_row(
            row.contender,
            num(row.moved.differences, "difference"),
            f"{1e3 * row.moved.rms:.1f}",
            f"{1e3 * row.moved.largest:.1f}",
            percent(row.moved.within_half_margin),
            f"{row.moved.verdicts_changed:,}",
        )
    return table


def shown(rows: Sequence[DecisionRow]) -> list[DecisionRow]:
    """The rows of a table: of a family with many settings those that no other of them beats.

    A setting is beaten if another spends no more and is no worse in regret and in false kills.
    """
    found = []
    for row in rows:
        rivals = [r for r in rows if r.family == row.family and r is not row]
        if row.family == "forecast" or not any(_beats(rival, row) for rival in rivals):
            found.append(row)
    return found


def _beats(a: DecisionRow, b: DecisionRow) -> bool:
    first, second = (
        (r.spent.value, r.regret.value, 0.0 if r.false_kills is None else r.false_kills.value) for r in (a, b)
    )
    return first != second and all(x <= y for x, y in zip(first, second, strict=True))


def _equal_table(rows: Sequence[EqualCost]) -> Table:
    table = _table("rule", "against", "measure", "own", "spent", "theirs, same hours", "their hours, same")
    for row in rows:
        scale = 1e3 if row.measure == "regret" else 1e2
        table.add_row(
            row.contender,
            row.family,
            "regret, 1/1000" if row.measure == "regret" else "false kills, %",
            f"{scale * row.own:.1f}",
            percent(row.own_spent),
            ABSENT if row.at_equal_spent is None else f"{scale * row.at_equal_spent:.1f}",
            ABSENT if row.spent_at_equal is None else percent(row.spent_at_equal),
        )
    return table


def decisions_json(
    rows: Sequence[DecisionRow], equal: Sequence[EqualCost], **asked: object
) -> dict[str, Any]:
    """What was asked, the rows, and the rules at equal cost."""
    return {
        **asked,
        "rows": [asdict(row) for row in rows],
        "equal_cost": [asdict(one) for one in equal],
    }


def write_decision_plot(path: Path, rows: Sequence[DecisionRow]) -> None:
    """Savings against false kills, and against regret: a curve for each family, panels for each kind.

    A curve is a family's frontier; its other settings are the faint dots.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys((row.kind, row.budget_share) for row in rows))
    families = list(dict.fromkeys(row.family for row in rows))
    colours = dict(_COLOURS)
    for family in families:
        if family not in colours:
            colours[family] = _OTHERS[(len(colours) - len(_COLOURS)) % len(_OTHERS)]
    figure = Figure(figsize=(9.0, 3.4 * len(kinds) + 0.5), dpi=130, layout="constrained")
    handles: dict[str, Any] = {}
    for place, (kind, share) in enumerate(kinds):
        chosen = [row for row in rows if (row.kind, row.budget_share) == (kind, share)]
        title = kind if share is None else f"{kind}, at most {percent(share)} of all budgets"
        for column, label in enumerate(("tied arms killed, %", "regret, thousandths")):
            axes = figure.add_subplot(len(kinds), 2, 2 * place + column + 1)
            for family in families:
                points = [
                    (row.spent.value, level)
                    for row in chosen
                    if row.family == family and (level := _levels(row)[column]) is not None
                ]
                if points:
                    handles[family] = _draw(axes, points, colours[family], own=family == "forecast")
            axes.set_title(title, fontsize=9)
            axes.set_xlabel("GPU-hours saved, %", fontsize=8)
            axes.set_ylabel(label, fontsize=8)
            axes.tick_params(labelsize=8)
            axes.grid(alpha=0.3)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=6, fontsize=8)
    try:
        figure.savefig(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def _draw(axes: Axes, points: Sequence[tuple[float, float]], colour: str, *, own: bool) -> Any:
    """All settings of a family as faint dots, and its frontier as a line."""
    axes.plot(
        [100.0 * (1.0 - spent) for spent, _ in points],
        [level for _, level in points],
        linestyle="",
        marker="o",
        markersize=3.0,
        alpha=0.35,
        color=colour,
    )
    best = frontier(points)
    (line,) = axes.plot(
        [100.0 * (1.0 - spent) for spent, _ in best],
        [level for _, level in best],
        marker="o",
        markersize=5.0 if own else 3.5,
        linewidth=2.2 if own else 1.2,
        color=colour,
    )
    return line


def _levels(row: DecisionRow) -> tuple[float | None, float]:
    false_kills = None if row.false_kills is None else 100.0 * row.false_kills.value
    return false_kills, 1e3 * row.regret.value


def _percent(mean: Mean | None) -> str:
    """In per cent, whole where there are many, with the standard error."""
    if mean is None:
        return ABSENT
    error = "" if mean.se is None else f"±{100 * mean.se:.1f}"
    return f"{100 * mean.value:.1f}{error}"


def _thousandths(mean: Mean) -> str:
    return f"{1e3 * mean.value:.1f}" + ("" if mean.se is None else f"±{1e3 * mean.se:.1f}")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, column in enumerate(columns):
        words = place == 0 or column in ("against", "measure")
        table.add_column(
            column, justify="left" if words else "right", no_wrap=place > 0, overflow="fold", max_width=32
        )
    return table
