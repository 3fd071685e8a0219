"""A sweep replayed from what full runs recorded is decided as the driver decided it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scalerl_lab.decide.policies import Forecast
from scalerl_lab.decide.replay import replay
from scalerl_lab.records import RunState, RunStatus
from scalerl_lab.report.replay_source import recorded_sweep
from tests.launch.test_driver import Bench, sweep


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalerl_lab.launch.driver._TURN_S", 0.0)
    monkeypatch.setattr("scalerl_lab.launch.driver._WORK_S", float("inf"))
    monkeypatch.setattr("scalerl_lab.decide.looks.LOOK_FRACTION", 0.25)


def rule(**changes: Any) -> dict[str, Any]:
    return {"kill_probability": 0.98, "extension": {"max_factor": 1.0}} | changes


@pytest.mark.parametrize("slots", [1, 2])
def test_a_replay_of_full_runs_decides_as_the_driver_did(tmp_path: Path, slots: int) -> None:
    driven = Bench(tmp_path / "driven", sweep(rule=rule()))
    full = Bench(tmp_path / "full", sweep(rule=rule(margin=0.9)))
    for bench in (driven, full):
        bench.slots = slots
        bench.drive()
    assert {run.status for run in full.store.run_states(full.plan.sweep_id)} == {RunStatus.FINISHED}
    recorded = recorded_sweep(full.store, full.plan.sweep_id, driven.plan.sweep.rule)
    replayed = replay(recorded, Forecast(recorded), slots=slots)
    verdicts = [last(run) for run in driven.store.run_states(driven.plan.sweep_id)]
    assert [last(outcome.state) for outcome in replayed.outcomes] == verdicts
    assert [status for _, _, status, *_ in verdicts].count(RunStatus.KILLED) == 1


def last(run: RunState) -> tuple[Any, ...]:
    """Who, where it stands, and the last verdict."""
    decision = run.last_decision
    assert decision is not None
    return (
        run.planned.arm,
        run.planned.spec.seed,
        run.status,
        decision.step,
        decision.action,
        decision.cause,
    )
