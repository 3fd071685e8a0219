"""The bill of a plan, row by row."""

from __future__ import annotations

from dataclasses import dataclass

from scalerl_lab.config.sweep import AddOne, LeaveOneOut
from scalerl_lab.plan.sweep_plan import SweepPlan
from scalerl_lab.records import Change, Role


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One arm of a plan and what it costs if nothing is killed."""

    arm: str
    role: Role
    about: str
    changes: tuple[Change, ...]
    seeds: tuple[int, ...]
    run_ids: tuple[str, ...]
    gpu_hours: float
    """Of all its runs together."""
    money: float | None
    """None where no price is known."""

    @property
    def num_runs(self) -> int:
        """How many runs the arm has."""
        return len(self.run_ids)


def describe(plan: SweepPlan, price_per_gpu_hour: float | None = None) -> tuple[PlanRow, ...]:
    """One row per arm that is known, the control first.

    Args:
        plan: What is to be described.
        price_per_gpu_hour: Takes the place of the sweep's own price.
    """
    price = plan.sweep.price_per_gpu_hour if price_per_gpu_hour is None else price_per_gpu_hour
    question = plan.sweep.question
    written = question.arms if isinstance(question, LeaveOneOut | AddOne) else {}
    rows = []
    for arm in plan.arms:
        runs = plan.runs_of(arm)
        gpu_hours = sum(run.budget_gpu_hours for run in runs)
        rows.append(
            PlanRow(
                arm=arm,
                role=runs[0].role,
                about=written[arm].about if arm in written else "",
                changes=runs[0].changes,
                seeds=tuple(run.spec.seed for run in runs),
                run_ids=tuple(run.run_id for run in runs),
                gpu_hours=gpu_hours,
                money=None if price is None else gpu_hours * price,
            )
        )
    return tuple(rows)
