"""The process of the fits: it answers, dies with its parent, and is given up when it keeps failing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scalerl_lab.plugins import forecaster as forecaster_module
from scalerl_lab.plugins.forecaster import Answer, Forecaster, Job
from scalerl_lab.plugins.verdict import ForecastRule, History

RULE = ForecastRule(margin=0.02, target=40.0)
SECONDS = 60.0
PARENT = """
from scalerl_lab.plugins.forecaster import Forecaster, Job
from scalerl_lab.plugins.verdict import ForecastRule, History
forecaster = Forecaster()
forecaster.submit(Job((History("a", ((1.0,), (0.5,))),), ("a",), ForecastRule(margin=0.02), 0))
print(forecaster._process.pid, flush=True)
input()
"""


@contextmanager
def opened() -> Iterator[Forecaster]:
    forecaster = Forecaster()
    try:
        yield forecaster
    finally:
        forecaster.close()


def answer(forecaster: Forecaster) -> Answer:
    until = time.monotonic() + SECONDS
    while (found := forecaster.answer()) is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


def job(due: str) -> Job:
    return Job((History("a", ((1.0, 2.0), (0.5, 0.6))),), (due,), RULE, 7)


def test_it_answers_in_turn_and_starts_again_after_its_end() -> None:
    with opened() as forecaster:
        forecaster.submit(job("a"))
        assert forecaster.busy
        assert forecaster.answer() is None
        found = answer(forecaster)
        assert not forecaster.busy
        assert found.job.version == 7
        assert found.verdicts["a"].reason == "2 points to fit, 6 demanded, after 2 steps."
        forecaster.close()
        forecaster.submit(job("a"))
        assert set(answer(forecaster).verdicts) == {"a"}


def test_after_failures_in_turn_it_gives_up(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forecaster_module, "_MOST_FAILURES", 2)
    with opened() as forecaster:
        for _ in range(2):
            assert not forecaster.gave_up
            forecaster.submit(job("nobody"))
            found = answer(forecaster)
            assert not found.verdicts
            assert "the process of the fits has died" in found.failure
        assert forecaster.gave_up
    assert "KeyError: 'nobody'" in capfd.readouterr().err


def test_it_dies_with_its_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    try:
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
    finally:
        parent.kill()
        parent.communicate()
    until = time.monotonic() + SECONDS
    while Path(f"/proc/{pid}").exists() and "zombie" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
