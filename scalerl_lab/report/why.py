"""Why a run was continued, killed, extended or finished: its decisions, and what each rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from scalerl_lab.records import Evidence, Fit, FitStatus, RunState
from scalerl_lab.report.export import interval_json
from scalerl_lab.report.status import when
from scalerl_lab.report.words import hours, num, probability, rate, signed, span80
from scalerl_lab.store import DecisionRow, Store

ACTION_STYLE = {"kill": "bold red", "extend": "bold green", "finish": "green", "continue": "bold"}


@dataclass(frozen=True, slots=True)
class Case:
    """A run in one sweep, with all that was decided on it there."""

    sweep_id: str
    sweep_name: str
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
        for state in store.run_states(row.sweep_id):
            if state.planned.run_id == run_id:
                decisions = tuple(store.decisions(sweep_id=row.sweep_id, run_id=run_id))
                found.append(Case(row.sweep_id, row.name, state, decisions))
    return found


def why_text(store: Store, run: str, sweep: str | None) -> list[RenderableType]:
    """The decisions as sentences, each followed by the forecast it rests on."""
    out: list[RenderableType] = []
    for case in cases(store, run, sweep):
        planned, state = case.state.planned, case.state
        used = f"{hours(state.gpu_hours)} of {hours(state.granted_gpu_hours)} GPU-hours used"
        out.append(
            Text(
                f"{planned.arm}:{planned.spec.seed}, run {planned.run_id} of sweep {case.sweep_id}: "
                f"{state.status.value}, {used} (budget {hours(planned.budget_gpu_hours)}), "
                f"{num(len(state.points), 'point')}, "
                f"{num(state.trials, 'trial')}.",
                style="bold",
            )
        )
        if not case.decisions:
            out.append(Text("Nothing has been decided on it yet."))
        for row in case.decisions:
            out += _decision(row)
        out.append(Text(""))
    return out


def _decision(row: DecisionRow) -> list[RenderableType]:
    decision = row.decision
    head = Text(f"{hours(decision.gpu_hours)} GPU-hours, step {decision.step:,}: ")
    head.append(decision.action.value, style=ACTION_STYLE.get(decision.action.value, ""))
    head.append(f" ({decision.cause.value.replace('_', ' ')})  {when(row.at)} UTC", style="dim")
    lines: list[RenderableType] = [Text(""), head, Padding(Text(decision.reason), (0, 0, 0, 2))]
    lines += [Padding(Text(text, style="dim"), (0, 0, 0, 2)) for text in evidence_lines(decision.evidence)]
    if row.acted_at is None:
        lines.append(Padding(Text("Not carried out yet."), (0, 0, 0, 2)))
    return lines


def evidence_lines(evidence: Evidence) -> list[str]:
    """What a decision rests on, in plain lines: fit, forecast, comparison with the control.

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
    if evidence.control_ceiling is not None:
        text = (
            f"Control's ceiling: {rate(evidence.control_ceiling.median)} {span80(evidence.control_ceiling)}"
        )
        if evidence.difference is not None:
            text += f"; difference {signed(evidence.difference.median)}"
        if evidence.probability_below is not None and evidence.margin is not None:
            text += f", P(below by more than {evidence.margin:g}) {probability(evidence.probability_below)}"
        lines.append(text + ".")
    return lines


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
    """The decisions for machines; keys are stable."""
    return [
        {
            "run_id": case.state.planned.run_id,
            "sweep_id": case.sweep_id,
            "arm": case.state.planned.arm,
            "seed": case.state.planned.spec.seed,
            "status": case.state.status.value,
            "gpu_hours": case.state.gpu_hours,
            "granted_gpu_hours": case.state.granted_gpu_hours,
            "decisions": [_decision_json(row) for row in case.decisions],
        }
        for case in cases(store, run, sweep)
    ]


def _decision_json(row: DecisionRow) -> dict[str, Any]:
    decision, evidence = row.decision, row.decision.evidence
    return {
        "decision_id": row.decision_id,
        "at": row.at,
        "acted_at": row.acted_at,
        "step": decision.step,
        "gpu_hours": decision.gpu_hours,
        "action": decision.action.value,
        "cause": decision.cause.value,
        "reason": decision.reason,
        "granted_gpu_hours": decision.granted_gpu_hours,
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
