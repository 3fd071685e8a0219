"""Hours that come free while a sweep is driven: who gets them, that none stay unused or are spent twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scalerl_lab.decide import Analysis, AnalysisJob
from scalerl_lab.launch.driver import Driver
from scalerl_lab.launch.ordering import order_sweep
from scalerl_lab.records import Action, Cause, OrderKind, RunState, RunStatus
from tests.launch.fake_trainer import FakeTrainer
from tests.launch.test_driver import ceiling
from tests.launch.test_orders_driven import Ordered, Scripted

CAP = 16000.0
"""Four runs of 4,000: nothing is free until a run leaves some."""


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalerl_lab.launch.driver._TURN_S", 0.0)
    monkeypatch.setattr("scalerl_lab.launch.driver._ORDERS_S", 0.0)
    monkeypatch.setattr("scalerl_lab.launch.driver._WORK_S", float("inf"))


def _wants_more(run: RunState) -> tuple[Action, float] | None:
    """The control's runs ask for a step once they are asked again."""
    asks = run.status is RunStatus.FINISHED and run.granted_gpu_hours == 4000.0
    return (Action.EXTEND, 4500.0) if asks and run.planned.arm == "control" else None


def _kills_tied(run: RunState) -> tuple[Action, float] | None:
    stops = run.planned.arm == "tied" and run.points[-1].step >= 20
    return (Action.KILL, 4000.0) if stops else _wants_more(run)


class Failing(FakeTrainer):
    """Every trial of the arm ``tied`` fails at its twelfth step."""

    def __init__(self) -> None:
        super().__init__(ceiling)

    def __call__(self, spec: Any, folder: Any, cache: Any, trial: int, supervisor: Any) -> Any:
        if spec.recipe.zero_variance == "keep":
            beat = supervisor.beat

            def failing(step: int, *rest: Any) -> None:
                if step >= 12:
                    raise RuntimeError("out of memory")
                beat(step, *rest)

            supervisor.beat = failing
        return super().__call__(spec, folder, cache, trial, supervisor)


class Rivals(Scripted):
    """``tied`` is killed; then control:0, worthier before, wants no more, and control:1 takes the rest."""

    def _analysis(self, job: AnalysisJob) -> Analysis:
        found, run = super()._analysis(job), job.run
        decision = found.decision
        label = f"{run.planned.arm}:{run.planned.spec.seed}"
        if run.gpu_hours < run.granted_gpu_hours:
            stops = run.planned.arm == "tied" and run.points[-1].step >= 20
            return replace(found, decision=replace(decision, action=Action.KILL)) if stops else found
        free, waits = job.free_gpu_hours >= 500.0, Cause.BUDGET_REACHED
        if label == "control:0" and not free:
            waits = Cause.NO_HOURS
        if label == "control:1":
            waits = Cause.NO_HOURS
            if free and not job.rivals and run.granted_gpu_hours == 4000.0:
                more = replace(
                    decision, action=Action.EXTEND, cause=Cause.QUESTION_OPEN, granted_gpu_hours=4500.0
                )
                return replace(found, decision=more)
        return replace(found, decision=replace(decision, action=Action.FINISH, cause=waits))


def test_a_cancelled_sweep_extends_nobody(tmp_path: Path) -> None:
    bench = Ordered(tmp_path, _wants_more, cap=CAP)

    def cancel() -> None:
        order_sweep(bench.store, bench.plan.sweep_id, OrderKind.CANCEL, "no use", answer_s=0.0)

    # By then both seeds of the control have finished.
    bench.on_turn[14] = cancel
    runs = bench.go()
    assert runs["control:0"].status is RunStatus.FINISHED
    assert RunStatus.KILLED in {run.status for run in runs.values()}
    assert {run.granted_gpu_hours for run in runs.values()} == {4000.0}


def test_what_a_failed_run_leaves_is_given_to_others(tmp_path: Path) -> None:
    bench = Ordered(tmp_path, _wants_more, cap=CAP)
    bench.slots = 1
    runs = bench.drive(Failing())
    assert runs["tied:0"].status is RunStatus.FAILED
    assert runs["control:0"].granted_gpu_hours == 4500.0


def test_a_failed_run_goes_on_only_with_hours_that_nobody_was_given(tmp_path: Path) -> None:
    bench = Ordered(tmp_path, _wants_more, cap=CAP)
    bench.drive(Failing())
    runs = bench.go()
    assert runs["tied:0"].status is RunStatus.FAILED
    assert sum(run.gpu_hours for run in runs.values()) <= CAP
    assert any("the hours that it had left were given to others" in said for said in bench.watcher.sentences)


@pytest.mark.parametrize("cap", [CAP, CAP + 4000.0])
def test_a_failed_run_whose_hours_are_still_there_is_tried_again(tmp_path: Path, cap: float) -> None:
    bench = Ordered(tmp_path, cap=cap)
    bench.drive(Failing())
    assert bench.go()["tied:0"].status is RunStatus.FINISHED


def test_a_run_that_waits_for_hours_is_asked_again_after_a_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Ordered(tmp_path, _kills_tied, cap=CAP)
    bench.slots = 1
    whole, closed = Driver._judge_finished_again, []

    def dies(driver: Driver) -> None:
        if any(run.status is RunStatus.KILLED for run in driver._states()):
            closed.append(driver)
            raise KeyboardInterrupt
        whole(driver)

    monkeypatch.setattr(Driver, "_judge_finished_again", dies)
    with pytest.raises(KeyboardInterrupt):
        bench.go()
    assert closed
    monkeypatch.setattr(Driver, "_judge_finished_again", whole)
    assert bench.go()["control:0"].granted_gpu_hours == 4500.0


def test_what_the_worthier_wants_no_more_is_another_s(tmp_path: Path) -> None:
    bench = Ordered(tmp_path, cap=CAP)
    bench.slots, bench.analyst = 1, Rivals()
    runs = bench.go()
    assert runs["control:0"].granted_gpu_hours == 4000.0
    assert runs["control:1"].granted_gpu_hours == 4500.0


def test_overshoot_of_others_does_not_keep_a_failed_run_from_its_own_hours(tmp_path: Path) -> None:
    # Steps take 100 GPU-hours: grants of 3,950 are overshot by 50 each, which extensions have to pay.
    bench = Ordered(tmp_path, cap=4 * 3950.0)
    budget = bench.plan.sweep.budget.model_copy(update={"run_gpu_hours": 3950.0})
    runs = tuple(replace(run, budget_gpu_hours=3950.0) for run in bench.plan.runs)
    sweep = bench.plan.sweep.model_copy(update={"budget": budget})
    bench.plan = replace(bench.plan, sweep=sweep, runs=runs)
    bench.drive(Failing())
    assert bench.store.budget(bench.plan.sweep_id).overshoot > 0.0
    assert bench.go()["tied:0"].status is RunStatus.FINISHED
