"""The scheduler in the installed Ray Tune: a driver that is killed after an order, and restored."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from scalerl_lab.plugins.trial_log import Order, OrderLine, TrialLog

ROOT = Path(__file__).parents[2]
SECONDS = 240.0


def driver(folder: Path, action: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.plugins.driven", str(folder), action]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def orders(log: TrialLog) -> list[OrderLine]:
    return [line for line in log.read() if isinstance(line, OrderLine)]


def killed_and_restored(folder: Path, action: str) -> tuple[OrderLine, list[OrderLine], dict[str, Any]]:
    """(the order before the kill, all orders in the end, what the restored experiment says)."""
    log = TrialLog(folder / "x" / "forecast_scheduler.jsonl")
    first = driver(folder, action)
    try:
        until = time.monotonic() + SECONDS
        while not orders(log):
            assert first.poll() is None, first.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        first.kill()
        first.communicate()
    (before,) = orders(log)
    (folder / "go").touch()
    second = driver(folder, action)
    said, wrong = second.communicate(timeout=SECONDS)
    assert second.returncode == 0, wrong
    return before, orders(log), json.loads(said.splitlines()[-1])


def test_a_paused_trial_stays_paused_over_a_kill_of_the_driver_and_is_settled(tmp_path: Path) -> None:
    paused, in_the_end, found = killed_and_restored(tmp_path, "pause")
    assert paused.order is Order.PAUSE
    assert paused.verdict.probability is not None
    assert paused.verdict.probability < 0.05
    assert "gpu_hours it is forecast at 2.5" in paused.verdict.reason
    assert found["errors"] == 0
    assert found["reached"]["0.6"] == [40]
    assert found["starts"]["starts-0.45-2"] == 1
    assert [line.order for line in in_the_end] == [Order.PAUSE, Order.STOP]
    assert in_the_end[-1].trial == paused.trial


def test_a_stop_survives_tuner_restore(tmp_path: Path) -> None:
    """Tune's snapshot still has the trial as running, so a restore alone would start it again."""
    stopped, in_the_end, found = killed_and_restored(tmp_path, "stop")
    assert stopped.order is Order.STOP
    assert "gpu_hours it is forecast at 2.5" in stopped.verdict.reason
    assert found["errors"] == 0
    assert found["reached"]["0.6"] == [40]
    assert found["starts"]["starts-0.45-2"] == 1
    assert found["starts"]["starts-0.6-1"] == 2
    assert in_the_end == [stopped]
