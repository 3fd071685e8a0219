"""The scheduler in the installed Ray Tune: a driver that is killed with a trial paused, and restored."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from scalerl_lab.plugins.trial_log import Order, OrderLine, TrialLog

ROOT = Path(__file__).parents[2]
SECONDS = 120.0


def driver(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.plugins.driven", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def orders(log: TrialLog) -> list[OrderLine]:
    return [line for line in log.read() if isinstance(line, OrderLine)]


def test_a_paused_trial_stays_paused_over_a_kill_of_the_driver_and_is_settled(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "x" / "forecast_scheduler.jsonl")
    first = driver(tmp_path)
    try:
        until = time.monotonic() + SECONDS
        while not orders(log):
            assert first.poll() is None, first.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        first.kill()
        first.communicate()
    (paused,) = orders(log)
    assert paused.order is Order.PAUSE
    assert paused.verdict.probability is not None
    assert paused.verdict.probability < 0.02
    assert "gpu_hours it is forecast at 2.5" in paused.verdict.reason

    (tmp_path / "go").touch()
    second = driver(tmp_path)
    said, wrong = second.communicate(timeout=SECONDS)
    assert second.returncode == 0, wrong
    found = json.loads(said.splitlines()[-1])
    assert found["errors"] == 0
    assert found["reached"]["0.6"] == [40]
    assert found["starts"]["starts-0.45-2"] == 1
    assert [line.order for line in orders(log)] == [Order.PAUSE, Order.STOP]
    assert orders(log)[-1].trial == paused.trial
