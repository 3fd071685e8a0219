"""A driver goes on whatever becomes of fits, pictures and proposals in their own process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scalerl_lab.decide import AnalysisJob, analyse
from scalerl_lab.launch.analysis import Analyst, Failure, analyst, answer_of
from scalerl_lab.launch.locking import try_exclusive
from scalerl_lab.launch.run_folder import Orders, RunFolder
from scalerl_lab.records import Action, Cause, OrderKind, RunState, RunStatus
from tests.decide.test_analysis import LOOK, job
from tests.launch.fake_trainer import FakeTrainer
from tests.launch.test_orders_driven import Ordered, Rule, Scripted


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalerl_lab.launch.driver._TURN_S", 0.0)
    monkeypatch.setattr("scalerl_lab.launch.driver._WORK_S", float("inf"))
    monkeypatch.setattr("scalerl_lab.launch.driver._ORDERS_S", 0.0)


class FailingOn(Scripted):
    """An analyst that fails on one arm from a compute on, as often as it is told."""

    def __init__(self, arm: str, error: Exception, after: float, times: float, rule: Rule) -> None:
        super().__init__(rule)
        self._arm, self._error, self._after, self.left = arm, error, after, times

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        run = next(a for a in args if isinstance(a, AnalysisJob)).run
        if run.planned.arm == self._arm and run.gpu_hours >= self._after and self.left > 0:
            self.left -= 1
            failed: Future[Any] = Future()
            failed.set_exception(self._error)
            return failed
        return super().submit(fn, *args, **kwargs)


def _never(_: RunState) -> None:
    return None


def test_a_fit_that_fails_is_on_record_and_the_sweep_goes_on(tmp_path: Path) -> None:
    bench = Ordered(tmp_path)
    bench.analyst = FailingOn("low", ZeroDivisionError("division by zero"), 2000.0, float("inf"), _never)
    runs = bench.go()
    assert {run.status for run in runs.values()} == {RunStatus.FINISHED}
    assert {run.gpu_hours for run in runs.values()} == {4000.0}
    last = runs["low:0"].last_decision
    assert last is not None
    assert (last.action, last.cause) == (Action.FINISH, Cause.NO_FIT)
    assert "failed after 4,000 of 4,000 GPU-hours (ZeroDivisionError: division by zero)" in last.reason
    told = [r.decision.cause for r in bench.store.decisions(bench.plan.sweep_id, bench.run_id("low:0"))]
    # Each look that failed is one decision, and none is asked again.
    assert told == [Cause.BUDGET_REACHED] * 3 + [Cause.NO_FIT] * 3
    assert bench.go() == runs


@pytest.mark.parametrize(("deaths", "unfitted"), [(2, 0), (3, 1)])
def test_a_verdict_is_asked_again_when_its_process_died(tmp_path: Path, deaths: int, unfitted: int) -> None:
    def stop(run: RunState) -> tuple[Action, float] | None:
        late = run.planned.arm == "low" and run.gpu_hours >= 2000.0
        return (Action.KILL, run.granted_gpu_hours) if late else None

    bench = Ordered(tmp_path)
    bench.analyst = FailingOn("low", BrokenExecutor("it died"), 2000.0, deaths, stop)
    assert bench.go()["low:0"].status is RunStatus.KILLED
    told = [r.decision.cause for r in bench.store.decisions(bench.plan.sweep_id, bench.run_id("low:0"))]
    assert told.count(Cause.NO_FIT) == unfitted


def _kill_itself(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_another_process_takes_the_place_of_one_that_died() -> None:
    with analyst() as first:
        whole = Analyst(first)
        asked = job(LOOK)
        assert whole.analyse(asked).result() == analyse(asked)
        died = whole.ask(_kill_itself, asked.runs, None)
        died.exception(timeout=60.0)
        failure = answer_of(died)
        assert isinstance(failure, Failure)
        assert failure.lost
        # The new one is told all curves, not what the old one lacked.
        later = job(LOOK + 1)
        assert whole.analyse(later).result() == analyse(later)
        assert whole.executor is not first
        assert isinstance(whole.executor, ProcessPoolExecutor)
        whole.close()


def test_a_picture_that_fails_is_said_and_left_out(tmp_path: Path) -> None:
    class NoPictures(Scripted):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            if any(isinstance(a, AnalysisJob) for a in args):
                return super().submit(fn, *args, **kwargs)
            failed: Future[Any] = Future()
            failed.set_exception(MemoryError())
            return failed

    bench = Ordered(tmp_path)
    bench.analyst = NoPictures()
    bench.plot = lambda *_: b"png"
    assert {run.status for run in bench.go().values()} == {RunStatus.FINISHED}
    assert "tied:0: fit.png could not be drawn (MemoryError)" in bench.watcher.sentences


def test_a_kill_leaves_the_trial_of_another_sweep_alone(tmp_path: Path) -> None:
    bench = Ordered(tmp_path)
    bench.store.record_plan(bench.plan)
    folder = RunFolder(bench.home.run_folder(bench.run_id("tied:0")))
    folder.create(next(r.spec for r in bench.plan.runs if r.run_id == bench.run_id("tied:0")))
    folder.write_orders(Orders(16000.0))
    lock = try_exclusive(folder.driver_lock)
    assert lock is not None
    bench.on_turn[3] = lambda: bench.order("tied:0", OrderKind.KILL)
    runs = bench.drive(FakeTrainer(lambda spec: 0.7))
    lock.close()
    assert runs["tied:0"].status is RunStatus.KILLED
    assert folder.orders() == Orders(16000.0)
