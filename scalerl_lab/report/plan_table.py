"""A sweep before it starts: arms, what each changes, runs, GPU-hours and money."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.config.sweep import Knob
from scalerl_lab.plan import SweepPlan, describe
from scalerl_lab.records import Change
from scalerl_lab.report.words import flops, hours, num


def profile_line(plan: SweepPlan) -> str:
    """Under which profile the numbers hold, and what a GPU-hour means there."""
    profile = plan.profile
    if profile.meter.type == "flops":
        rate = f"1 lab GPU-hour = {flops(profile.meter.flops_per_gpu_hour)} counted floating-point operations"
        scale = "" if profile.scale == "full" else f", recipes at scale {profile.scale}"
        return f"Profile {profile.name}{scale}: {rate}."
    return f"Profile {profile.name}: GPU-hours are hours held times devices."


def plan_lines(plan: SweepPlan) -> list[str]:
    """What is going to run, and under which profile, in plain lines."""
    lines = [
        f"Sweep {plan.sweep.name} ({plan.sweep_id}): {num(plan.num_arms, 'arm')}, "
        f"{num(plan.num_runs, 'run')}, {hours(plan.total_gpu_hours)} GPU-hours at full budget, "
        f"cap {hours(plan.sweep_gpu_hours)}.",
        profile_line(plan),
    ]
    if plan.stand_in is not None:
        lines.append(
            f"Recipe {plan.stand_in} stands in for {plan.sweep.recipe}: the same question on a small scale."
        )
    return lines


def change_text(change: Change) -> str:
    """``loss.type: cispo -> ppo_clip``."""
    return f"{change.path}: {change.before} → {change.after}"


def range_text(path: str, knob: Knob) -> str:
    """``optimizer.lr: 1e-06 … 0.001 (log)``: what a search may choose."""
    how = f" in steps of {knob.step:g}" if knob.step is not None else " (log)" if knob.scale == "log" else ""
    return f"{path}: {knob.low:g} … {knob.high:g}{how}"


def plan_table(plan: SweepPlan, price: float | None) -> RenderableType:
    """Arms with their changes and costs, and the totals; readable at 100 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("arm", no_wrap=True, overflow="ellipsis", max_width=30)
    table.add_column("changes", overflow="fold")
    table.add_column("seeds", no_wrap=True)
    table.add_column("GPU-hours", justify="right", no_wrap=True)
    if price is not None:
        table.add_column("money", justify="right", no_wrap=True)
    for row in describe(plan, price):
        changes = "\n".join(change_text(change) for change in row.changes) or "(the untouched recipe)"
        cells = [row.arm, changes, ", ".join(map(str, row.seeds)), hours(row.gpu_hours)]
        table.add_row(*cells, *([f"{row.money:,.0f}"] if row.money is not None else []))
    to_come = plan.num_arms - len(plan.arms)
    if plan.search is not None and to_come > 0:
        ranges = "\n".join(range_text(path, knob) for path, knob in sorted(plan.search.over.items()))
        gpu_hours = to_come * plan.proposal_gpu_hours
        name = f"{num(to_come, 'proposal')} to come"
        cells = [name, ranges, ", ".join(map(str, plan.proposal_seeds)), hours(gpu_hours)]
        table.add_row(*cells, *([f"{gpu_hours * price:,.0f}"] if price is not None else []))
    return Group(table, *(Text(line) for line in total_lines(plan, price)))


def total_lines(plan: SweepPlan, price: float | None) -> list[str]:
    """Runs, hours and money of the whole plan, and what no number here includes."""
    runs = f"{num(plan.num_arms, 'arm')}, {num(plan.num_runs, 'run')}"
    total = f"Total: {runs}, {hours(plan.total_gpu_hours)} GPU-hours"
    if price is not None:
        total += f", {plan.cost(price):,.0f} at {price:,g} per GPU-hour"
    start = hours(plan.sweep.fit_start_gpu_hours)
    extension = plan.sweep.rule.extension
    first = ""
    if extension.first_share < 1.0:
        first = (
            f" Each run is granted {extension.first_share:.3g} of its budget at first, the rest in steps of "
            f"{extension.step_fraction:.3g} as far as they tell something."
        )
    return [
        f"{total}. Cap of the sweep, extensions included: {hours(plan.sweep_gpu_hours)} GPU-hours.{first}",
        f"Fits start at {start} GPU-hours; margin {plan.sweep.rule.margin:g}, a run is killed at probability "
        f"{plan.sweep.rule.kill_probability:g}. Evaluation and checkpoints are billed on top.",
        "Nothing was started.",
    ]


def plan_json(plan: SweepPlan, price: float | None) -> dict[str, Any]:
    """The plan for machines; keys are stable."""
    profile = plan.profile
    flops = profile.meter.flops_per_gpu_hour if profile.meter.type == "flops" else None
    return {
        "sweep_id": plan.sweep_id,
        "name": plan.sweep.name,
        "profile": profile.name,
        "meter": profile.meter.type,
        "flops_per_gpu_hour": flops,
        "total_gpu_hours": plan.total_gpu_hours,
        "sweep_gpu_hours": plan.sweep_gpu_hours,
        "price_per_gpu_hour": price,
        "cost": None if price is None else plan.cost(price),
        "arms": [
            {
                "arm": row.arm,
                "role": row.role.value,
                "about": row.about,
                "changes": [{"path": c.path, "before": c.before, "after": c.after} for c in row.changes],
                "seeds": list(row.seeds),
                "run_ids": list(row.run_ids),
                "gpu_hours": row.gpu_hours,
                "cost": row.money,
            }
            for row in describe(plan, price)
        ],
        "runs": [
            {
                "run_id": run.run_id,
                "arm": run.arm,
                "seed": run.spec.seed,
                "budget_gpu_hours": run.budget_gpu_hours,
                "order": run.order,
            }
            for run in plan.runs
        ],
    }
