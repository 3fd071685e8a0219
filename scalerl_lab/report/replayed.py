"""A replay as a table and as JSON: what became of each run, what it cost, and what is said in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.config.sweep import Compare, Rule, ToBest
from scalerl_lab.decide.conclude import Conclusion
from scalerl_lab.decide.recorded import Recorded
from scalerl_lab.decide.replay import Asked, Move, Order, Outcome, Policy, Replayed
from scalerl_lab.records import Interval, RunStatus
from scalerl_lab.report.held_against import cause_text
from scalerl_lab.report.words import ABSENT, bare, hours, percent, rate, signed

GPU_HOURS = "GPU-hours"


_NO_CAUSE = frozenset({"", "stop", "prune", "pause"})
"""Other tools' rules say what is to be done, and not why."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """One rule's replay and its conclusion."""

    rule: str
    recorded: Recorded
    replayed: Replayed
    conclusion: Conclusion
    chosen: str
    judged_by: Rule
    """The sweep's, with what was asked to be changed in it."""
    unit: str = GPU_HOURS
    """What compute is counted in."""

    @property
    def difference_name(self) -> str | None:
        """What the differences are to: the control; None where there is none, as of curves side by side."""
        sweep = self.recorded.sweep
        if isinstance(sweep.question, Compare) and isinstance(sweep.rule.reference, ToBest):
            return None
        return self.recorded.control


class Watched:
    """A policy that tells of each point that is reported, out of all on record."""

    def __init__(self, policy: Policy, recorded: Recorded, done: Callable[[int, int], None]) -> None:
        self._policy, self._done = policy, done
        self._told, self._total = 0, sum(len(run.points) for run in recorded.runs)
        self.promises, self.first_share = policy.promises, policy.first_share

    def answer(self, asked: Asked) -> Sequence[Order]:
        """The policy's, after it was told how far the replay is."""
        reported = sum(len(run.points) for run in asked.runs)
        while self._told < reported:
            self._told += 1
            self._done(self._told, self._total)
        return self._policy.answer(asked)

    def choose(self, waiting: Sequence[str], paused: Sequence[str]) -> str | None:
        """The policy's."""
        return self._policy.choose(waiting, paused)

    def over(self, run_id: str) -> Sequence[Order]:
        """The policy's."""
        return self._policy.over(run_id)


def replay_table(report: ReplayReport, truth: Mapping[str, float] | None = None) -> RenderableType:
    """What a rule cost, a line for each run, and its orders; ``truth`` is by arm, where it is known."""
    names = {o.state.planned.run_id: run_name(o) for o in report.replayed.outcomes}
    orders = [
        Text(f"{names[event.order.run_id]}, {event.order.move}: {_in_unit(event.order.reason, report)}")
        for event in report.replayed.events
        if event.order.decision is not None and event.order.move in (Move.KILL, Move.EXTEND)
    ]
    return Group(Text(headline(report)), _runs(report, truth), *orders)


def headline(report: ReplayReport) -> str:
    """What a rule cost and chose, in a sentence."""
    full, spent = report.recorded.full_gpu_hours, report.replayed.spent_gpu_hours
    killed = sum(outcome.killed for outcome in report.replayed.outcomes)
    return (
        f"{report.rule}: {hours(spent)} of {hours(full)} {report.unit} spent ({percent(spent / full)}), "
        f"{killed} of {len(report.replayed.outcomes)} runs stopped, the last ended at "
        f"{hours(report.replayed.clock)} on the clock; best: {report.chosen}"
    )


def _runs(report: ReplayReport, truth: Mapping[str, float] | None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    # In a narrow terminal names and fates are folded, and no digit is lost.
    table.add_column("run", overflow="fold", min_width=12, max_width=30)
    for column in ("used", "last") if truth is None else ("used", "last", "true"):
        table.add_column(column, justify="right", no_wrap=True)
    control = report.difference_name
    if control is not None:
        table.add_column(f"minus {control}", justify="right", no_wrap=True)
    table.add_column("what became of it", min_width=14)
    for outcome in report.replayed.outcomes:
        planned, points = outcome.state.planned, outcome.state.points
        difference = report.conclusion.differences.get(planned.arm)
        table.add_row(
            run_name(outcome),
            hours(outcome.state.gpu_hours),
            rate(points[-1].pass_rate if points else None),
            *([] if truth is None else [rate(truth.get(planned.arm))]),
            *([] if control is None else [_interval(None if difference is None else difference.interval)]),
            fate(outcome, report.judged_by),
        )
    return table


def run_name(outcome: Outcome) -> str:
    """How people name the run: as its file does, or by arm and seed where its id is a hash."""
    planned = outcome.state.planned
    return planned.run_id if planned.sweep_id == "recorded" else f"{planned.arm}:{planned.spec.seed}"


def _in_unit(reason: str, report: ReplayReport) -> str:
    """A reason in the unit of the record: rules speak of GPU-hours, whatever a file counts compute in."""
    return reason.replace(GPU_HOURS, report.unit)


def fate(outcome: Outcome, rule: Rule) -> str:
    """What became of a run, with the cause of what stopped it."""
    if outcome.move is not None:
        word = {Move.KILL: "killed", Move.FINISH: "finished", Move.PAUSE: "paused for good"}[outcome.move]
        return word if outcome.cause in _NO_CAUSE else f"{word}: {cause_text(outcome.cause, rule)}"
    if outcome.state.status is RunStatus.PLANNED:
        return "never started: not covered by the budget"
    return "cut off by the budget" if outcome.cause else "ran to its budget"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return ABSENT
    low, high = bare(interval.low95, sign=True), bare(interval.high95, sign=True)
    return f"{signed(interval.median)} [{low}, {high}]"


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
                "fate": fate(outcome, report.judged_by),
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
                "reason": _in_unit(event.order.reason, report),
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
