"""A sweep before it starts: arms, what each changes, runs, GPU-hours and money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import Change, Role
from scalerl_lab.report.words import hours, num


@dataclass(frozen=True, slots=True)
class PlannedArm:
    """An arm's runs taken together."""

    arm: str
    role: Role
    changes: tuple[Change, ...]
    seeds: tuple[int, ...]
    gpu_hours: float


def planned_arms(plan: SweepPlan) -> tuple[PlannedArm, ...]:
    """The plan's runs grouped by arm, in the order in which they are queued."""
    names = list(dict.fromkeys(run.arm for run in plan.runs))
    by_arm = {name: [run for run in plan.runs if run.arm == name] for name in names}
    return tuple(
        PlannedArm(
            arm=name,
            role=runs[0].role,
            changes=runs[0].changes,
            seeds=tuple(run.spec.seed for run in runs),
            gpu_hours=sum(run.budget_gpu_hours for run in runs),
        )
        for name, runs in by_arm.items()
    )


def profile_line(plan: SweepPlan) -> str:
    """Under which profile the numbers hold, and what a GPU-hour means there."""
    profile = plan.profile
    if profile.meter.type == "flops":
        rate = f"1 lab GPU-hour = {profile.meter.flops_per_gpu_hour:.3g} counted floating-point operations"
        scale = "" if profile.scale == "full" else f", recipes at scale {profile.scale}"
        return f"Profile {profile.name}{scale}: {rate}."
    return f"Profile {profile.name}: GPU-hours are hours held times devices."


def plan_lines(plan: SweepPlan) -> list[str]:
    """What is going to run, in three plain lines."""
    arms = planned_arms(plan)
    return [
        f"Sweep {plan.sweep.name} ({plan.sweep_id}): {num(len(arms), 'arm')}, {num(len(plan.runs), 'run')}, "
        f"{hours(plan.total_gpu_hours)} GPU-hours at full budget, cap {hours(plan.sweep_gpu_hours)}.",
        profile_line(plan),
    ]


def change_text(change: Change) -> str:
    """``loss.type: cispo -> ppo_clip``."""
    return f"{change.path}: {change.before} → {change.after}"


def plan_table(plan: SweepPlan, price: float | None) -> RenderableType:
    """Arms with their changes and costs, and the totals; readable at 100 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("arm", no_wrap=True, overflow="ellipsis", max_width=30)
    table.add_column("changes", overflow="fold")
    table.add_column("seeds", no_wrap=True)
    table.add_column("GPU-hours", justify="right", no_wrap=True)
    if price is not None:
        table.add_column("money", justify="right", no_wrap=True)
    for arm in planned_arms(plan):
        changes = "\n".join(change_text(change) for change in arm.changes) or "(the untouched recipe)"
        cells = [arm.arm, changes, ", ".join(map(str, arm.seeds)), hours(arm.gpu_hours)]
        table.add_row(*cells, *([f"{arm.gpu_hours * price:,.0f}"] if price is not None else []))
    return Group(table, *(Text(line) for line in total_lines(plan, price)))


def total_lines(plan: SweepPlan, price: float | None) -> list[str]:
    """Runs, hours and money of the whole plan, and what no number here includes."""
    runs = f"{num(len(planned_arms(plan)), 'arm')}, {num(len(plan.runs), 'run')}"
    total = f"Total: {runs}, {hours(plan.total_gpu_hours)} GPU-hours"
    if price is not None:
        total += f", {plan.cost(price):,.0f} at {price:,g} per GPU-hour"
    start = hours(plan.sweep.fit_start_gpu_hours)
    return [
        f"{total}. Cap of the sweep, extensions included: {hours(plan.sweep_gpu_hours)} GPU-hours.",
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
                "arm": arm.arm,
                "role": arm.role.value,
                "changes": [{"path": c.path, "before": c.before, "after": c.after} for c in arm.changes],
                "seeds": list(arm.seeds),
                "gpu_hours": arm.gpu_hours,
            }
            for arm in planned_arms(plan)
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
