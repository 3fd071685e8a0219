"""A sweep while it runs: a live table in a terminal, one plain line per event elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TextIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import Decision, ProgressRow, ProgressView, RunStatus
from scalerl_lab.report.plan_table import plan_lines
from scalerl_lab.report.words import ABSENT, clock, hours, percent, rate, span80

__all__ = ["ProgressConsole", "ProgressRow", "ProgressView", "plain_lines", "renderable"]

STATUS_STYLE = {
    RunStatus.PLANNED: "dim",
    RunStatus.RUNNING: "bold",
    RunStatus.FINISHED: "green",
    RunStatus.KILLED: "yellow",
    RunStatus.FAILED: "red",
}
BAR_CELLS = 10
SHARE_PER_LINE = 0.10
"""Without a terminal, the totals are said each time another such share of the budget is used."""


def renderable(view: ProgressView, width: int = 100) -> RenderableType:
    """The state of a sweep as a table with its totals, with as many columns as the terminal is wide for."""
    with_bar, with_cause, with_interval = width >= 112, width >= 100, width >= 84
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("run", no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column("status", no_wrap=True)
    table.add_column("GPU-hours", no_wrap=True, justify="right")
    if with_bar:
        table.add_column("", no_wrap=True)
    table.add_column("rate", no_wrap=True, justify="right")
    table.add_column("ceiling, 80 %" if with_interval else "ceiling", no_wrap=True)
    table.add_column("decision", no_wrap=True, overflow="ellipsis")
    for row in view.rows:
        last = row.last_decision
        table.add_row(
            _label(row),
            Text(row.status.value, style=STATUS_STYLE[row.status]),
            f"{hours(row.gpu_hours)}/{hours(row.granted_gpu_hours)}",
            *([_bar(row)] if with_bar else []),
            rate(row.pass_rate),
            _ceiling(row, with_interval),
            _decision(last) if with_cause or last is None else last.action.value,
        )
    return Group(table, Text(totals_line(view)))


def totals_line(view: ProgressView) -> str:
    """Compute used against the budget, runs at work, time gone and left."""
    running = sum(row.status is RunStatus.RUNNING for row in view.rows)
    over = sum(row.status not in (RunStatus.RUNNING, RunStatus.PLANNED) for row in view.rows)
    left = "time left not known yet" if view.wall_left_s is None else f"about {clock(view.wall_left_s)} left"
    return (
        f"{hours(view.used_gpu_hours)} of {hours(view.budget_gpu_hours)} GPU-hours "
        f"({percent(_share(view.used_gpu_hours, view.budget_gpu_hours))}), "
        f"{running} running, {over} of {len(view.rows)} runs over, {clock(view.wall_s)} gone, {left}"
    )


def plain_lines(previous: ProgressView | None, current: ProgressView) -> list[str]:
    """One line for each thing that happened between two views; none when nothing did.

    Said are: each new decision in two words, with the pass rate and the forecast it followed (its sentence
    is told as it is taken, through ``ProgressConsole.said``), a change of status, and the totals at each
    further tenth of the budget.
    """
    stamp = f"[{clock(current.wall_s)}]"
    lines = []
    for before, row in _pairs(previous, current):
        happened = [_verdict(before, row), _status_change(before, row)]
        lines += [f"{stamp} {_label(row)}: {text}" for text in happened if text]
    if _tenths(current) > (_tenths(previous) if previous else 0):
        lines.append(f"{stamp} {totals_line(current)}")
    return lines


def _pairs(
    previous: ProgressView | None, current: ProgressView
) -> list[tuple[ProgressRow | None, ProgressRow]]:
    known = {row.run_id: row for row in previous.rows} if previous else {}
    return [(known.get(row.run_id), row) for row in current.rows]


def _verdict(before: ProgressRow | None, row: ProgressRow) -> str:
    decision = row.last_decision
    if decision is None or decision == (before.last_decision if before else None):
        return ""
    text = f"{hours(decision.gpu_hours)} of {hours(row.granted_gpu_hours)} GPU-hours"
    if row.pass_rate is not None:
        text += f", pass rate {rate(row.pass_rate)}"
    if row.ceiling is not None:
        text += f", ceiling {rate(row.ceiling.median)} {span80(row.ceiling)}"
    return f"{text}, {_decision(decision)}"


def _status_change(before: ProgressRow | None, row: ProgressRow) -> str:
    if row.status is (before.status if before else RunStatus.PLANNED):
        return ""
    return f"{row.status.value} at {hours(row.gpu_hours)} GPU-hours"


def _label(row: ProgressRow) -> str:
    return f"{row.arm}:{row.seed}"


def _bar(row: ProgressRow) -> Text:
    filled = round(BAR_CELLS * _share(row.gpu_hours, row.granted_gpu_hours))
    return Text("━" * filled, style=STATUS_STYLE[row.status]) + Text("─" * (BAR_CELLS - filled), style="dim")


def _ceiling(row: ProgressRow, with_interval: bool) -> Text:
    if row.ceiling is None:
        return Text(ABSENT, style="dim")
    text = rate(row.ceiling.median) + (f" {span80(row.ceiling)}" if with_interval else "")
    return Text(text, style="" if row.identified else "dim italic")


def _decision(decision: Decision | None) -> str:
    if decision is None:
        return ABSENT
    return f"{decision.action.value}: {decision.cause.value.replace('_', ' ')}"


def _share(part: float, whole: float) -> float:
    return min(1.0, max(0.0, part / whole)) if whole > 0 else 0.0


def _tenths(view: ProgressView) -> int:
    return int(_share(view.used_gpu_hours, view.budget_gpu_hours) / SHARE_PER_LINE + 1e-9)


class ProgressConsole:
    """Shows views as they come: a table that is redrawn in a terminal, plain lines elsewhere.

    Cheap enough to be called twice a second. Use as a context manager, so that the terminal is given
    back whatever happens.
    """

    def __init__(self, file: TextIO | None = None, *, force_terminal: bool | None = None) -> None:
        self._console = Console(file=file or sys.stdout, force_terminal=force_terminal, highlight=False)
        self._live: Live | None = None
        self._shown: ProgressView | None = None

    def __enter__(self) -> ProgressConsole:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def started(self, plan: SweepPlan, headline: list[str]) -> None:
        """Say what is going to run, under which profile, and for how much, before it does."""
        for line in [*headline, *plan_lines(plan)]:
            self.said(line)

    def said(self, sentence: str) -> None:
        """Print one line of prose; above the table where there is one."""
        self._console.print(Text(sentence), soft_wrap=True)
        if not self._console.is_terminal:
            self._console.file.flush()

    def update(self, view: ProgressView) -> None:
        """Show where the sweep stands now."""
        if self._console.is_terminal:
            self._draw(view)
        else:
            for line in plain_lines(self._shown, view):
                self.said(line)
        self._shown = view

    def close(self) -> None:
        """Leave the last table on the screen and give the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self, view: ProgressView) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="visible")
            self._live.start()
        self._live.update(renderable(view, self._console.width), refresh=True)
