"""The bill before anything runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from scalerl_lab.plan import plan_file
from scalerl_lab.report.plan_table import plan_json, plan_lines, plan_table, profile_line


def text(profile: str, price: float | None) -> str:
    out = io.StringIO()
    Console(file=out, width=100, highlight=False).print(plan_table(plan_file("loo_16k", profile), price))
    return out.getvalue()


def test_every_arm_with_its_change_and_its_money() -> None:
    written = text("laptop", 2.5)
    assert max(map(len, written.splitlines())) <= 100
    assert "zero_variance: drop → keep" in written
    # 3 control seeds of 16,000 GPU-hours at 2.5, and 11 runs in all.
    assert "120,000" in written
    assert "11 runs, 176,000 GPU-hours, 440,000 at 2.5 per GPU-hour" in written
    assert "Nothing was started." in written


def test_without_a_price_there_is_no_money() -> None:
    assert "money" not in text("laptop", None)


def test_the_profile_and_the_stand_in_are_said() -> None:
    lines = plan_lines(plan_file("loo_16k", "laptop"))
    assert "stands in for scalerl_8b" in lines[-1]
    assert profile_line(plan_file("loo_16k", "cluster")) == (
        "Profile cluster: GPU-hours are hours held times devices."
    )


@pytest.mark.parametrize("profile", ["laptop", "cluster"])
def test_json_adds_up(profile: str) -> None:
    document = plan_json(plan_file("loo_16k", profile), 2.0)
    assert sum(arm["gpu_hours"] for arm in document["arms"]) == document["total_gpu_hours"] == 176000.0
    assert sum(arm["cost"] for arm in document["arms"]) == document["cost"] == 352000.0
    assert [run["order"] for run in document["runs"]] == list(range(11))
    assert (document["flops_per_gpu_hour"] is None) is (profile == "cluster")
