"""The table of arms for machines: JSON and CSV with stable keys."""

from __future__ import annotations

import csv
import io
from typing import Any

from scalerl_lab.records import Interval
from scalerl_lab.report.ceilings import ArmRow, Ceilings

INTERVAL_FIELDS = ("median", "low80", "high80", "low95", "high95")


def ceilings_json(found: Ceilings) -> dict[str, Any]:
    """The whole table; numbers that do not exist are None."""
    t = found.totals
    return {
        "sweep": {
            "sweep_id": found.sweep_id,
            "name": found.name,
            "profile": found.profile_name,
            "meter": found.meter,
            "flops_per_gpu_hour": found.flops_per_gpu_hour,
            "fit_start_gpu_hours": found.fit_start_gpu_hours,
            "margin": found.margin,
            "demanded_probability": found.demanded,
            "pooled_ceiling": found.pooled_ceiling,
            "common_level": found.common_level,
        },
        "arms": [_arm(row) for row in found.arms],
        "totals": {
            "runs": t.runs,
            "reused_runs": t.reused_runs,
            "full_budget_gpu_hours": t.full_budget,
            "cap_gpu_hours": t.cap,
            "used_gpu_hours": t.used,
            "billed_gpu_hours": t.billed,
            "lost_gpu_hours": t.lost,
            "saved_gpu_hours": t.saved,
            "extended_gpu_hours": t.extended,
        },
    }


def ceilings_csv(found: Ceilings) -> str:
    """One line per arm; an interval becomes a column for each of its five numbers."""
    rows = [_flat(_arm(row)) for row in found.arms]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def interval_json(interval: Interval | None) -> dict[str, float] | None:
    """An interval as its five numbers."""
    if interval is None:
        return None
    return {name: getattr(interval, name) for name in INTERVAL_FIELDS}


def _arm(row: ArmRow) -> dict[str, Any]:
    at, to = row.at_budget, row.to_level
    return {
        "arm": row.arm,
        "role": row.role.value,
        "about": row.about,
        "changes": [{"path": c.path, "before": c.before, "after": c.after} for c in row.changes],
        "seeds": list(row.seeds),
        "run_ids": list(row.run_ids),
        "status": row.status,
        "verdict": row.verdict.value,
        "detail": row.detail,
        "identified": row.identified,
        "ceiling": interval_json(row.ceiling),
        "difference": interval_json(row.difference),
        "probability_below_margin": row.probability_below,
        "probability_above_margin": row.probability_above,
        "efficiency": interval_json(row.efficiency),
        "efficiency_ceiling": row.efficiency_ceiling,
        "efficiency_at_own_ceiling": row.own_ceiling,
        "midpoint_gpu_hours": interval_json(row.midpoint),
        "pass_rate_at_budget": None if at is None else at.value,
        "pass_rate_at_budget_low80": None if at is None else at.low80,
        "pass_rate_at_budget_high80": None if at is None else at.high80,
        "pass_rate_at_budget_measured": None if at is None else at.measured,
        "gpu_hours_to_level": None if to is None else to.median,
        "gpu_hours_to_level_low80": None if to is None else to.low80,
        "gpu_hours_to_level_high80": None if to is None else to.high80,
        "budget_gpu_hours": row.budget_gpu_hours,
        "used_gpu_hours": row.used_gpu_hours,
        "saved_gpu_hours": row.saved_gpu_hours,
        "extended_gpu_hours": row.extended_gpu_hours,
    }


_INTERVALS = ("ceiling", "difference", "efficiency", "midpoint_gpu_hours")


def _flat(arm: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in arm.items():
        if key in _INTERVALS:
            for name in INTERVAL_FIELDS:
                flat[f"{key}_{name}"] = None if value is None else value[name]
        elif key == "changes":
            flat[key] = "; ".join(f"{c['path']}: {c['before']} -> {c['after']}" for c in value)
        elif isinstance(value, list):
            flat[key] = " ".join(str(item) for item in value)
        else:
            flat[key] = value
    return flat
