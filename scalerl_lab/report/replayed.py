"""A replay as a table and as JSON: what became of each run, what it cost, and what is said in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.decide.conclude import Conclusion
from scalerl_lab.decide.recorded import Recorded
from scalerl_lab.decide.replay import Move, Outcome, Replayed
from scalerl_lab.records import Interval, RunStatus
from scalerl_lab.report.words import ABSENT, hours, percent, rate, signed


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """One rule's replay and its conclusion."""

    rule: str
    recorded: Recorded
    replayed: Replayed
    conclusion: Conclusion
    chosen: str


def replay_tables(
    reports: Sequence[ReplayReport], truth: Mapping[str, float] | None = None
) -> RenderableType:
    """For each rule what it cost, then a line for each run; ``truth`` is by arm, where it is known."""
    parts: list[RenderableType] = []
    for report in reports:
        parts += [Text(headline(report)), _runs(report, truth)]
        names = {o.state.planned.run_id: run_name(o) for o in report.replayed.outcomes}
        parts += [
            Text(f"{names[event.order.run_id]}, {event.order.move}: {event.order.reason}")
            for event in report.replayed.events
            if event.order.decision is not None and event.order.move in (Move.KILL, Move.EXTEND)
        ]
    return Group(*parts)


def headline(report: ReplayReport) -> str:
    """What a rule cost and chose, in a sentence."""
    full, spent = report.recorded.full_gpu_hours, report.replayed.spent_gpu_hours
    killed = sum(outcome.killed for outcome in report.replayed.outcomes)
    return (
        f"{report.rule}: {hours(spent)} of {hours(full)} spent ({percent(spent / full)}), "
        f"{killed} of {len(report.replayed.outcomes)} runs stopped, the last ended at "
        f"{hours(report.replayed.clock)} on the clock; best: {report.chosen}"
    )


def _runs(report: ReplayReport, truth: Mapping[str, float] | None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("run", no_wrap=True, max_width=26)
    table.add_column("used", justify="right")
    table.add_column("last", justify="right")
    if truth is not None:
        table.add_column("true", justify="right")
    table.add_column("minus control", justify="right", no_wrap=True)
    table.add_column("what became of it")
    for outcome in report.replayed.outcomes:
        planned, points = outcome.state.planned, outcome.state.points
        difference = report.conclusion.differences.get(planned.arm)
        table.add_row(
            run_name(outcome),
            hours(outcome.state.gpu_hours),
            rate(points[-1].pass_rate if points else None),
            *([] if truth is None else [rate(truth.get(planned.arm))]),
            _interval(None if difference is None else difference.interval),
            fate(outcome),
        )
    return table


def run_name(outcome: Outcome) -> str:
    """How people name the run: as its file does, or by arm and seed where its id is a hash."""
    planned = outcome.state.planned
    return planned.run_id if planned.sweep_id == "recorded" else f"{planned.arm}:{planned.spec.seed}"


def fate(outcome: Outcome) -> str:
    """What became of a run, with the cause of what stopped it."""
    if outcome.move is not None:
        word = {Move.KILL: "killed", Move.FINISH: "finished", Move.PAUSE: "paused for good"}[outcome.move]
        return f"{word}: {outcome.cause}" if outcome.cause else word
    if outcome.state.status is RunStatus.PLANNED:
        return "never started: not covered by the budget"
    return "cut off by the budget" if outcome.cause else "ran to its budget"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return ABSENT
    return f"{signed(interval.median)} [{signed(interval.low95)}, {signed(interval.high95)}]"


def replay_json(
    reports: Sequence[ReplayReport], truth: Mapping[str, float] | None = None, **asked: object
) -> dict[str, Any]:
    """What was asked; for each rule its cost, runs, orders and differences."""
    return {**asked, "rules": [_report_json(report, truth) for report in reports]}


def _report_json(report: ReplayReport, truth: Mapping[str, float] | None) -> dict[str, Any]:
    full, found = report.recorded.full_gpu_hours, report.replayed
    names = {outcome.state.planned.run_id: run_name(outcome) for outcome in found.outcomes}
    return {
        "rule": report.rule,
        "spent_gpu_hours": found.spent_gpu_hours,
        "full_gpu_hours": full,
        "saved": 1.0 - found.spent_gpu_hours / full,
        "clock_gpu_hours": found.clock,
        "asked": found.asked,
        "chosen": report.chosen,
        "runs": [
            {
                "run": run_name(outcome),
                "arm": outcome.state.planned.arm,
                "seed": outcome.state.planned.spec.seed,
                "role": outcome.state.planned.role.value,
                "used_gpu_hours": outcome.state.gpu_hours,
                "granted_gpu_hours": outcome.state.granted_gpu_hours,
                "last_value": outcome.state.points[-1].pass_rate if outcome.state.points else None,
                "true": None if truth is None else truth.get(outcome.state.planned.arm),
                "killed": outcome.killed,
                "cause": outcome.cause or None,
                "fate": fate(outcome),
            }
            for outcome in found.outcomes
        ],
        "orders": [
            {
                "clock_gpu_hours": event.clock,
                "spent_gpu_hours": event.spent_gpu_hours,
                "run": names[event.order.run_id],
                "gpu_hours": event.gpu_hours,
                "move": event.order.move.value,
                "cause": event.order.cause,
                "reason": event.order.reason,
            }
            for event in found.events
        ],
        "differences": {
            arm: {"median": each.median, "low95": each.low95, "high95": each.high95}
            for arm, each in (
                (arm, difference.interval) for arm, difference in report.conclusion.differences.items()
            )
        },
        "forecasts": report.conclusion.forecasts,
    }


def curves_csv(recorded: Recorded) -> str:
    """All points on record, one a line: run, arm, gpu_hours, pass_rate, pass_rate_se."""
    lines = ["run,arm,gpu_hours,pass_rate,pass_rate_se"]
    for run in recorded.runs:
        lines += [
            f"{run.run_id},{run.planned.arm},{p.gpu_hours:.10g},{p.pass_rate:.10g},{p.pass_rate_se:.6g}"
            for p in run.points
        ]
    return "\n".join(lines) + "\n"
