"""Where sweeps and runs stand, from what is on record; nothing is fitted anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.config.sweep import Rule
from scalerl_lab.records import Fit, FitStatus, RunState, RunStatus
from scalerl_lab.report.budget import budget_line
from scalerl_lab.report.export import interval_json
from scalerl_lab.report.held_against import cause_text
from scalerl_lab.report.plan_table import profile_line
from scalerl_lab.report.words import ABSENT, hours, num, rate, span80
from scalerl_lab.store import Store, SweepRow


def when(at: float) -> str:
    """A moment, in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def sweeps_table(rows: Sequence[SweepRow]) -> RenderableType:
    """The sweeps on record."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("sweep", "profile", "created (UTC)", "runs"):
        table.add_column(column, no_wrap=True)
    table.add_column("where they stand")
    for row in rows:
        stand = ", ".join(f"{row.statuses[s]} {s.value}" for s in RunStatus if row.statuses.get(s))
        table.add_row(row.sweep_id, row.profile_name, when(row.created_at), str(row.num_runs), stand)
    return table


def sweeps_json(rows: Sequence[SweepRow]) -> list[dict[str, Any]]:
    """The sweeps on record, for machines."""
    return [
        {
            "sweep_id": row.sweep_id,
            "name": row.name,
            "profile": row.profile_name,
            "created_at": row.created_at,
            "num_runs": row.num_runs,
            "statuses": {status.value: row.statuses.get(status, 0) for status in RunStatus},
        }
        for row in rows
    ]


def status_table(store: Store, sweep_id: str) -> RenderableType:
    """Each run of a sweep with its newest point, fit and decision."""
    plan, budget = store.plan(sweep_id), store.budget(sweep_id)
    fits = store.latest_fits(sweep_id)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("run", "status"):
        table.add_column(column, no_wrap=True, overflow="ellipsis", max_width=26)
    for column in ("GPU-hours", "rate"):
        table.add_column(column, no_wrap=True, justify="right")
    table.add_column("ceiling, 80 %", no_wrap=True)
    table.add_column("last decision", overflow="ellipsis", no_wrap=True, min_width=8)
    states = store.run_states(sweep_id)
    force, waiting = store.force(sweep_id), store.waiting_orders(sweep_id)
    for state in states:
        fit = fits[state.planned.run_id][0] if state.planned.run_id in fits else None
        table.add_row(*_cells(state, fit, plan.sweep.rule, pinned=state.planned.run_id in force.pins))
    orders = []
    if force.paused is not None:
        orders.append(Text(f"Paused by {force.paused.by} at {when(force.paused.at)}: {force.paused.why}."))
    if waiting:
        orders.append(Text(f"{num(len(waiting), 'order')} for the driver to carry out."))
    return Group(
        Text(f"Sweep {plan.sweep.name} ({sweep_id})"),
        Text(profile_line(plan)),
        table,
        Text(budget_line(budget)),
        Text(
            "Ceilings are as fitted at each run's last verdict; lab report ceilings refits all runs together "
            "now."
        ),
        Text(f"{num(len(plan.runs), 'run')}, {sum(state.reused for state in states)} of them reused."),
        *orders,
    )


def _cells(state: RunState, fit: Fit | None, rule: Rule, *, pinned: bool) -> tuple[RenderableType, ...]:
    last = state.last_decision
    ceiling = fit.ceiling if fit is not None else None
    dim = "" if fit is not None and fit.status is FitStatus.IDENTIFIED else "dim italic"
    return (
        f"{state.planned.arm}:{state.planned.spec.seed}",
        f"{state.status.value}, pinned" if pinned else state.status.value,
        f"{hours(state.gpu_hours)}/{hours(state.granted_gpu_hours)}",
        rate(state.points[-1].pass_rate if state.points else None),
        Text(ABSENT if ceiling is None else f"{rate(ceiling.median)} {span80(ceiling)}", style=dim),
        ABSENT if last is None else f"{last.action.value}: {cause_text(last.cause, rule)}",
    )


def status_json(store: Store, sweep_id: str) -> dict[str, Any]:
    """Where a sweep stands, for machines."""
    plan, budget, fits = store.plan(sweep_id), store.budget(sweep_id), store.latest_fits(sweep_id)
    force = store.force(sweep_id)
    return {
        "sweep_id": sweep_id,
        "name": plan.sweep.name,
        "profile": plan.profile.name,
        "used_gpu_hours": budget.total.used,
        "cap_gpu_hours": budget.cap,
        "billed_gpu_hours": budget.total.held,
        "lost_gpu_hours": budget.total.lost,
        "saved_gpu_hours": budget.total.saved,
        "free_gpu_hours": budget.free,
        "paused": force.paused is not None,
        "waiting_orders": len(store.waiting_orders(sweep_id)),
        "runs": [
            {
                **_run_json(state, fits[state.planned.run_id][0] if state.planned.run_id in fits else None),
                "pinned": state.planned.run_id in force.pins,
            }
            for state in store.run_states(sweep_id)
        ],
    }


def _run_json(state: RunState, fit: Fit | None) -> dict[str, Any]:
    last = state.last_decision
    return {
        "run_id": state.planned.run_id,
        "arm": state.planned.arm,
        "seed": state.planned.spec.seed,
        "role": state.planned.role.value,
        "status": state.status.value,
        "reused": state.reused,
        "gpu_hours": state.gpu_hours,
        "granted_gpu_hours": state.granted_gpu_hours,
        "budget_gpu_hours": state.planned.budget_gpu_hours,
        "trials": state.trials,
        "failures": state.failures,
        "num_points": len(state.points),
        "pass_rate": state.points[-1].pass_rate if state.points else None,
        "ceiling": interval_json(fit.ceiling) if fit is not None else None,
        "identified": fit is not None and fit.status is FitStatus.IDENTIFIED,
        "last_decision": None
        if last is None
        else {
            "action": last.action.value,
            "cause": last.cause.value,
            "reason": last.reason,
            "step": last.step,
        },
    }
