"""Why a run was continued, killed, extended or finished: its story as text, and its decisions as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.config.sweep import Rule
from scalerl_lab.records import Evidence, Fit, FitStatus, RunState, RunStatus
from scalerl_lab.report.export import interval_json
from scalerl_lab.report.held_against import reference_line
from scalerl_lab.report.status import when
from scalerl_lab.report.story import (
    Effect,
    Entry,
    Kind,
    Story,
    by_order,
    earlier_look,
    effect_text,
    effects,
    pictured,
    short_evidence,
    tell,
    untold_orders,
)
from scalerl_lab.report.story_plot import ForecastPlot
from scalerl_lab.report.words import hours, num, rate, span80
from scalerl_lab.store import DecisionRow, OrderRow, Store, TrialRow

ACTION_STYLE = {"kill": "bold red", "extend": "bold green", "revive": "bold green", "finish": "green"}


@dataclass(frozen=True, slots=True)
class Case:
    """A run in one sweep, with all that was decided on it there."""

    sweep_id: str
    rule: Rule
    state: RunState
    decisions: tuple[DecisionRow, ...]


def cases(store: Store, run: str, sweep: str | None) -> list[Case]:
    """The run that a person means, in each sweep that has it, newest sweep first.

    Raises:
        NotFound: no such run, or no such sweep.
    """
    only = store.find_sweep(sweep).sweep_id if sweep is not None else None
    run_id = store.find_run(run, only)[0]
    found = []
    for row in store.sweeps():
        if only is not None and row.sweep_id != only:
            continue
        rule = store.plan(row.sweep_id).sweep.rule
        for state in store.run_states(row.sweep_id, only=[run_id]):
            decisions = tuple(store.decisions(sweep_id=row.sweep_id, run_id=run_id))
            found.append(Case(row.sweep_id, rule, state, decisions))
    return found


def why_text(
    store: Store, run: str, sweep: str | None, *, every: bool = False, plots: bool = True
) -> list[RenderableType]:
    """A run's story in each sweep that has it, with a plot of the forecast at what changed its fate.

    Args:
        store: where it is on record.
        run: an id, the start of one, or arm:seed.
        sweep: only what this sweep decided.
        every: tell each decision to go on, instead of folding those that follow each other.
        plots: whether to draw.

    Raises:
        NotFound: no such run, or no such sweep.
    """
    out: list[RenderableType] = []
    for case in cases(store, run, sweep):
        trials = store.trials(case.state.planned.run_id)
        orders = store.orders(case.sweep_id)
        story = tell(case.sweep_id, case.rule, case.state, case.decisions, trials, orders, folded=not every)
        out += [*story_text(story, plots=plots), Text("")]
    return out


def story_text(story: Story, *, plots: bool = True) -> list[RenderableType]:
    """One story: where the run stands, then what happened, in the order of time."""
    return [*_header(story), *_entries(story, plots=plots)]


def _header(story: Story) -> list[RenderableType]:
    planned, state = story.state.planned, story.state
    used = f"{hours(state.gpu_hours)} of {hours(state.granted_gpu_hours)} GPU-hours used"
    title = Text(
        f"{story.label}, run {planned.run_id} of sweep {story.sweep_id}: "
        f"{state.status.value}, {used} (budget {hours(planned.budget_gpu_hours)}), "
        f"{num(len(state.points), 'point')}, {num(state.trials, 'trial')}.",
        style="bold",
    )
    lines: list[RenderableType] = [title]
    if planned.changes:
        changed = "; ".join(f"{c.path}: {c.before} -> {c.after}" for c in planned.changes)
        lines.append(Text(f"Differs from the control in {changed}."))
    lines += [Text(note) for note in story.notes]
    if not story.effects:
        lines.append(Text(_undecided(state)))
    return lines


def _undecided(state: RunState) -> str:
    """Why nothing is on record yet."""
    if state.status is RunStatus.PLANNED and not state.points:
        return "Nothing has been decided on it yet: it has not started. lab sweep status shows what has."
    if state.status is RunStatus.FAILED:
        return "Nothing was decided on it: it failed before its first point."
    return "Nothing has been decided on it yet: the first decision follows its first point."


def _entries(story: Story, *, plots: bool) -> list[RenderableType]:
    """Time, compute and what happened, in three columns; plots between them, as wide as there is room."""
    out: list[RenderableType] = []
    done = {effect.row.decision_id: effect for effect in story.effects}
    grid = _grid()
    for entry in story.entries:
        at, first, last = when(entry.at)[5:], hours(entry.gpu_hours[0]), hours(entry.gpu_hours[1])
        head = Text(entry.head, style=_style(entry))
        grid.add_row(at, first if first == last else f"{first} to {last}", head)
        for text in _under(entry, done, story):
            grid.add_row("", "", text)
        drawn = _plot(entry, story) if plots else []
        if drawn:
            out += [grid, Text(""), *drawn, Text("")]
            grid = _grid()
    if not story.entries:
        return []
    about = f"Times are UTC, from {when(story.entries[0].at)[:10]}."
    if story.effects:
        about += " Fits and forecasts are as at each verdict; lab report ceilings refits all runs now."
    return [Text(about, style="dim"), *out, grid]


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, min_width=14, style="dim")
    grid.add_column(no_wrap=True, min_width=15, justify="right")
    grid.add_column(overflow="fold")
    return grid


def _style(entry: Entry) -> str:
    if entry.kind is not Kind.DECISION:
        return "bold" if entry.kind is Kind.ORDER else ""
    return ACTION_STYLE.get(entry.rows[-1].decision.action.value, "bold")


def _under(entry: Entry, done: dict[int, Effect], story: Story) -> list[Text]:
    """What stands under an entry's head: the sentence, what it rests on, what it did."""
    lines = [Text(entry.text)]
    if not entry.rows:
        return lines
    row = entry.rows[-1]
    evidence = row.decision.evidence
    if len(entry.rows) > 1:
        short = short_evidence(evidence, story.rule)
        lines += [Text(f"The last: {short[:1].lower()}{short[1:]}", style="dim")] if short else []
    else:
        lines += [Text(line, style="dim") for line in evidence_lines(evidence, story.rule)]
    effect = effect_text(done[row.decision_id], story.state)
    lines += [Text(effect)] if effect else []
    lines += [Text("Not carried out yet.")] if row.acted_at is None else []
    return lines


def _plot(entry: Entry, story: Story) -> list[RenderableType]:
    """The picture of an entry, and of when it is, where it is not the entry's own."""
    found = pictured(story, entry)
    if found is None:
        return []
    decision, drawn = found
    said = earlier_look(entry, decision)
    return [*([Text(f"{said}:", style="dim")] if said else []), ForecastPlot(drawn)]


def evidence_lines(evidence: Evidence, rule: Rule) -> list[str]:
    """What a decision rests on, in plain lines: fit, forecast, comparison with the reference.

    Too few points for a fit are told by the decision's own sentence.
    """
    lines = []
    if evidence.fit is not None and evidence.fit.status is not FitStatus.TOO_FEW_POINTS:
        lines.append(fit_line(evidence.fit))
    if evidence.forecast is not None:
        forecast = evidence.forecast
        lines.append(
            f"Forecast at {hours(forecast.gpu_hours)} GPU-hours: {rate(forecast.pass_rate.median)} "
            f"{span80(forecast.pass_rate)} (80 %)."
        )
    against = reference_line(evidence, rule)
    return [*lines, against] if against else lines


def fit_line(fit: Fit) -> str:
    """A fit in one line."""
    if fit.ceiling is None or fit.efficiency is None or fit.midpoint is None:
        return f"Fit: {fit.why}"
    status = "identified" if fit.status is FitStatus.IDENTIFIED else "not identified"
    window = f"from {hours(fit.first_gpu_hours)} to {hours(fit.last_gpu_hours)} GPU-hours"
    return (
        f"Fit of {num(fit.num_points, 'point')} {window}: ceiling {rate(fit.ceiling.median)} "
        f"{span80(fit.ceiling)} (80 %), {status}; B {fit.efficiency.median:.2f}, "
        f"midpoint {hours(fit.midpoint.median)}."
    )


def why_json(store: Store, run: str, sweep: str | None) -> list[dict[str, Any]]:
    """Every decision for machines; keys are stable."""
    found = []
    for case in cases(store, run, sweep):
        state = case.state
        trials = store.trials(state.planned.run_id)
        found.append(
            {
                "run_id": state.planned.run_id,
                "sweep_id": case.sweep_id,
                "arm": state.planned.arm,
                "seed": state.planned.spec.seed,
                "status": state.status.value,
                "gpu_hours": state.gpu_hours,
                "granted_gpu_hours": state.granted_gpu_hours,
                "budget_gpu_hours": state.planned.budget_gpu_hours,
                "demanded_probability": case.rule.kill_probability,
                "trials": [_trial_json(trial) for trial in trials],
                "orders": [
                    order_json(row)
                    for row in untold_orders(store.orders(case.sweep_id), state.planned.run_id)
                ],
                "decisions": [decision_json(effect) for effect in effects(case.rule, state, case.decisions)],
            }
        )
    return found


def _trial_json(trial: TrialRow) -> dict[str, Any]:
    ended = trial.ended
    return {
        "trial": trial.started.trial,
        "started_at": trial.started.at,
        "resumed_step": trial.started.resumed_step,
        "host": trial.started.host,
        "ended_at": ended.at if ended is not None else None,
        "end_reason": ended.reason.value if ended is not None else None,
        "sandbox": trial.sandbox.kind if trial.sandbox is not None else None,
    }


def order_json(row: OrderRow) -> dict[str, Any]:
    """An order that no decision tells of; ``run_id`` is None for one to the whole sweep."""
    order = row.order
    return {
        "order_id": row.order_id,
        "run_id": order.run_id,
        "kind": order.kind.value,
        "to_gpu_hours": order.to_gpu_hours,
        "by": order.by,
        "why": order.why,
        "at": order.at,
        "settled_at": row.settled_at,
        "refused": row.refused,
    }


def decision_json(effect: Effect) -> dict[str, Any]:
    """One decision with all it rests on and what it did to its run's hours."""
    row = effect.row
    decision, evidence = row.decision, row.decision.evidence
    return {
        "decision_id": row.decision_id,
        "at": row.at,
        "acted_at": row.acted_at,
        "step": decision.step,
        "gpu_hours": decision.gpu_hours,
        "action": decision.action.value,
        "cause": decision.cause.value,
        "by": "order" if by_order(decision) else "rule",
        "reason": decision.reason,
        "granted_gpu_hours": decision.granted_gpu_hours,
        "given_gpu_hours": effect.given_gpu_hours,
        "saved_gpu_hours": effect.saved_gpu_hours,
        "evidence": {
            "fit": None if evidence.fit is None else _fit_json(evidence.fit),
            "forecast_gpu_hours": evidence.forecast.gpu_hours if evidence.forecast else None,
            "forecast": interval_json(evidence.forecast.pass_rate) if evidence.forecast else None,
            "control_ceiling": interval_json(evidence.control_ceiling),
            "difference": interval_json(evidence.difference),
            "probability_below": evidence.probability_below,
            "margin": evidence.margin,
        },
    }


def _fit_json(fit: Fit) -> dict[str, Any]:
    return {
        "status": fit.status.value,
        "why": fit.why,
        "num_points": fit.num_points,
        "first_gpu_hours": fit.first_gpu_hours,
        "last_gpu_hours": fit.last_gpu_hours,
        "r0": fit.r0,
        "ceiling": interval_json(fit.ceiling),
        "efficiency": interval_json(fit.efficiency),
        "midpoint": interval_json(fit.midpoint),
        "residual_sd": fit.residual_sd,
    }
