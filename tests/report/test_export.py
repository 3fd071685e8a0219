"""JSON and CSV say the same as the table, under stable keys."""

from __future__ import annotations

import csv
import io
import json

from scalerl_lab.report.ceilings import Ceilings
from scalerl_lab.report.export import ceilings_csv, ceilings_json
from tests.report.handmade import FOUND

ARM_KEYS = [
    "arm", "role", "about", "changes", "seeds", "run_ids", "status", "verdict", "detail", "identified",
    "ceiling", "difference", "probability_below_margin", "probability_above_margin", "efficiency",
    "efficiency_ceiling", "efficiency_at_own_ceiling", "midpoint_gpu_hours", "pass_rate_at_budget",
    "pass_rate_at_budget_low80", "pass_rate_at_budget_high80", "pass_rate_at_budget_measured",
    "gpu_hours_to_level", "gpu_hours_to_level_low80", "gpu_hours_to_level_high80", "budget_gpu_hours",
    "used_gpu_hours", "saved_gpu_hours", "extended_gpu_hours",
]  # fmt: skip


def test_json_is_strict_and_has_stable_keys(found: Ceilings) -> None:
    document = json.loads(json.dumps(ceilings_json(found), allow_nan=False))
    assert list(document) == ["sweep", "arms", "totals"]
    assert all(list(arm) == ARM_KEYS for arm in document["arms"])
    assert [arm["verdict"] for arm in document["arms"]] == [row.verdict.value for row in found.arms]


def test_json_numbers_by_hand() -> None:
    document = ceilings_json(FOUND)
    killed = document["arms"][1]
    assert killed["ceiling"]["median"] == 0.484
    assert killed["difference"]["low80"] == -0.118 - 0.032
    assert killed["gpu_hours_to_level"] is None
    assert killed["changes"] == [{"path": "loss.type", "before": "cispo", "after": "ppo_clip"}]
    assert document["totals"]["saved_gpu_hours"] == 8800.0
    assert document["arms"][0]["difference"] is None


def test_csv_has_a_line_per_arm_and_a_column_per_number() -> None:
    rows = list(csv.DictReader(io.StringIO(ceilings_csv(FOUND))))
    assert [row["arm"] for row in rows] == [row.arm for row in FOUND.arms]
    assert rows[0]["seeds"] == "0 1 2"
    assert float(rows[1]["ceiling_low80"]) == 0.484 - 0.03
    assert rows[1]["changes"] == "loss.type: cispo -> ppo_clip"
    assert rows[0]["difference_median"] == ""
    assert len(rows[0]) == len(ARM_KEYS) - 4 + 4 * 5
