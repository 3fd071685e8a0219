"""What MLflow is told of a run, in plain values: names, tags, params and metrics."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import (
    SPEED_FIELDS,
    Change,
    Decision,
    EvalPoint,
    Fit,
    FitStatus,
    Interval,
    Measurement,
    PlannedRun,
    RunStatus,
    to_json,
)
from scalerl_lab.store import charts, conclusions, facts
from scalerl_lab.store.conclusions import Concluded
from scalerl_lab.store.tables import FitTable, SweepRunTable

MLFLOW_STATUS = {
    RunStatus.PLANNED: "SCHEDULED",
    RunStatus.RUNNING: "RUNNING",
    RunStatus.FINISHED: "FINISHED",
    RunStatus.KILLED: "KILLED",
    RunStatus.FAILED: "FAILED",
}
_POINT_METRICS = (
    "gpu_hours",
    "pass_rate",
    "pass_rate_se",
    "truncation_rate",
    "mean_tokens",
    "entropy",
    "train_reward",
    "grad_norm",
    "ratio_clipped",
    "mismatch",
    "lag",
    "prompts_dropped",
    "kl",
    *SPEED_FIELDS,
)
_MAX_PARAM, _MAX_TAG = 6000, 5000


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands, for its tags and status."""

    status: RunStatus
    status_at: float
    decision: Decision | None
    code_version: str | None
    sandbox: str | None
    """Kind of isolation of the newest trial."""


def standing(session: Session, sweep_id: str, run_id: str) -> Standing:
    """Read where a run stands now."""
    place = session.scalars(select(SweepRunTable).filter_by(sweep_id=sweep_id, run_id=run_id)).one()
    decision = conclusions.last_decisions(session, sweep_id).get(run_id)
    trials = facts.trials(session, [run_id])
    code_version = trials[-1][1].started.code_version if trials else None
    used = trials[-1][1].sandbox if trials else None
    sandbox = used.kind if used else None
    return Standing(RunStatus(place.status), place.status_at, decision, code_version, sandbox)


def fits(session: Session, fit_ids: Sequence[int]) -> list[tuple[float, Concluded]]:
    """Fits by id, oldest first, with the time of each."""
    rows = session.scalars(select(FitTable).where(FitTable.fit_id.in_(fit_ids)).order_by(FitTable.fit_id))
    return [(row.at, conclusions.read_fit(row)) for row in rows]


def run_name(run: PlannedRun) -> str:
    """Arm and seed, for people."""
    return f"{run.arm} s{run.spec.seed}"


def experiment_tags(plan: SweepPlan) -> dict[str, str]:
    """What the experiment of a sweep says of it, and how its Charts page looks."""
    return {
        "sweep_id": plan.sweep_id,
        "sweep": plan.sweep.name,
        "profile": plan.profile.name,
        "mlflow.note.content": _cut(plan.sweep.about or f"Sweep {plan.sweep.name}", _MAX_TAG),
        # Without it the page asks which kind of experiment this is.
        "mlflow.experimentKind": "custom_model_development",
        charts.VIEW_TAG: charts.shared_view(),
    }


def fixed_tags(plan: SweepPlan, run: PlannedRun) -> dict[str, str]:
    """Tags that never change; ``run_id`` finds the MLflow run again."""
    return {
        "sweep_id": plan.sweep_id,
        "sweep": plan.sweep.name,
        "profile": plan.profile.name,
        "run_id": run.run_id,
        "arm": run.arm,
        "seed": str(run.spec.seed),
        "role": run.role.value,
        "changed": _cut("; ".join(map(_changed, run.changes)) or "nothing", _MAX_TAG),
        "mlflow.runColor": charts.colour(plan.arms.index(run.arm)),
    }


def _changed(change: Change) -> str:
    return f"{change.path}: {change.before} -> {change.after}"


def standing_tags(now: Standing) -> dict[str, str]:
    """Tags that follow the run."""
    tags = {"status": now.status.value}
    if now.code_version is not None:
        tags["code_version"] = _cut(now.code_version, _MAX_TAG)
    if now.sandbox is not None:
        tags["sandbox"] = now.sandbox
    if now.decision is not None:
        tags["decision"] = _cut(f"{now.decision.action}: {now.decision.reason}", _MAX_TAG)
        tags["decision_cause"] = now.decision.cause.value
    return tags


def params(run: PlannedRun) -> dict[str, str]:
    """The resolved recipe, flattened to dotted paths, with the seed, the meter and the budget."""
    flat: dict[str, str] = {}
    _flatten("", to_json(run.spec.recipe), flat)
    _flatten("meter", to_json(run.spec.meter), flat)
    flat["seed"] = str(run.spec.seed)
    flat["budget_gpu_hours"] = repr(run.budget_gpu_hours)
    return {path: _cut(value, _MAX_PARAM) for path, value in flat.items() if value}


def _flatten(path: str, value: Any, into: dict[str, str]) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            _flatten(f"{path}.{name}" if path else name, item, into)
    else:
        into[path] = value if isinstance(value, str) else json.dumps(value)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 4] + " ..."


def point_metrics(point: EvalPoint) -> dict[str, float]:
    """A point's metrics; compute is one of them, so that a chart can have it on its x-axis."""
    told = {name: getattr(point, name) for name in _POINT_METRICS}
    metrics = {name: float(value) for name, value in told.items() if value is not None}
    if point.gpu_hours > 0.0:
        metrics["log10_gpu_hours"] = math.log10(point.gpu_hours)
    return metrics


def measurement_key(told: Measurement) -> str:
    """Name of a measurement's metric: ``longer/pass_rate``, ``heldout/code/pass_at_8``; a group per set."""
    return "/".join(part for part in (told.problem_set, told.domain, told.metric) if part)


def measurement_metrics(told: Measurement) -> dict[str, float]:
    """A measurement's metrics: its value, and its standard error where it has one."""
    key = measurement_key(told)
    metrics = {key: told.value}
    if told.standard_error is not None:
        metrics[f"{key}_se"] = told.standard_error
    return metrics


def fit_metrics(fit: Fit) -> dict[str, float]:
    """A fit's metrics: medians and the ends of their intervals."""
    metrics = {
        "fit_points": float(fit.num_points),
        "identified": float(fit.status is FitStatus.IDENTIFIED),
    }
    for name, interval in (
        ("ceiling", fit.ceiling),
        ("efficiency", fit.efficiency),
        ("midpoint", fit.midpoint),
    ):
        if interval is not None:
            metrics |= _interval_metrics(name, interval)
    return metrics


def _interval_metrics(name: str, interval: Interval) -> dict[str, float]:
    return {
        name: interval.median,
        f"{name}_low80": interval.low80,
        f"{name}_high80": interval.high80,
        f"{name}_low95": interval.low95,
        f"{name}_high95": interval.high95,
    }


def fit_step(fit: Fit, points: Sequence[EvalPoint]) -> int:
    """The step of the newest point that a fit saw, so that it shares the x-axis of the points."""
    last = fit.last_gpu_hours
    seen = [point.step for point in points if last is None or point.gpu_hours <= last]
    return seen[-1] if seen else 0


def fit_document(concluded: Concluded) -> str:
    """A fit and its forecasts as a JSON file."""
    fit, forecasts = concluded
    return json.dumps({"fit": to_json(fit), "forecasts": to_json(forecasts)}, indent=2)
