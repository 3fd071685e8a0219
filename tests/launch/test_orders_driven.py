"""Orders to a driver at work, over a fake trainer; what is counted is what the worker did."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from scalerl_lab.decide import Analysis, AnalysisJob
from scalerl_lab.errors import BudgetError, UserError
from scalerl_lab.launch.ordering import order_run, order_sweep
from scalerl_lab.launch.run_folder import RunFolder
from scalerl_lab.records import (
    Action,
    Cause,
    Decision,
    Evidence,
    Fit,
    FitStatus,
    LedgerKind,
    OrderKind,
    RunSpec,
    RunState,
    RunStatus,
    TrialStarted,
)
from scalerl_lab.store import Store
from tests.launch.fake_trainer import FakeTrainer
from tests.launch.test_driver import Bench, ceiling, sweep
from tests.store.processes import fork

NOTHING = Evidence(None, None, None, None, None, None)
Rule = Callable[[RunState], tuple[Action, float] | None]


class Scripted(Executor):
    """An analyst whose verdicts are written down: (action, grant) where the rule has one, else continue."""

    def __init__(self, rule: Rule = lambda run: None) -> None:
        self._rule = rule

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        answer.set_result(self._analysis(next(a for a in args if isinstance(a, AnalysisJob))))
        return answer

    def _analysis(self, job: AnalysisJob) -> Analysis:
        run = job.run
        run_id, last = run.planned.run_id, run.points[-1]
        action, granted = self._rule(run) or (Action.CONTINUE, run.granted_gpu_hours)
        if action is Action.CONTINUE and last.gpu_hours >= granted:
            action = Action.FINISH
        cause = Cause.CEILING_BELOW if action is Action.KILL else Cause.BUDGET_REACHED
        decision = Decision(
            run_id, last.step, last.gpu_hours, action, cause, "As scripted.", granted, NOTHING
        )
        fit = Fit(run_id, FitStatus.TOO_FEW_POINTS, "none made", len(run.points), *[None] * 7)
        return Analysis(fit, (), decision)


class Counting(FakeTrainer):
    """Writes every step it takes to a file that outlives its process."""

    def __init__(self, log: Path) -> None:
        super().__init__(ceiling)
        self._log = log

    def __call__(self, spec: RunSpec, folder: Path, cache: Path, trial: int, supervisor: Any) -> Any:
        beat = supervisor.beat

        def counted(step: int, gpu_hours: float, flops: int) -> None:
            with self._log.open("a") as log:
                log.write(f"{spec.run_id} {step}\n")
            beat(step, gpu_hours, flops)

        supervisor.beat = counted
        return super().__call__(spec, folder, cache, trial, supervisor)


class FailingFor(Counting):
    """Fails on one run, as soon as it begins."""

    def __init__(self, run_id: str, log: Path) -> None:
        super().__init__(log)
        self._failing = run_id

    def __call__(self, spec: RunSpec, folder: Path, cache: Path, trial: int, supervisor: Any) -> Any:
        if spec.run_id == self._failing:
            raise RuntimeError("no such data")
        return super().__call__(spec, folder, cache, trial, supervisor)


class Ordered(Bench):
    """The sweep of two arms with 4,000 GPU-hours a run (40 steps), and room for extensions."""

    def __init__(self, folder: Path, rule: Rule = lambda run: None, cap: float = 20000.0) -> None:
        budget = {"run_gpu_hours": 4000, "sweep_gpu_hours": cap}
        # Every point is a look: they lie an eighth of the budget apart.
        every = {"fit_start_gpu_hours": 0.0, "rule": {"min_points": 1}}
        super().__init__(folder, sweep(budget=budget, **every))
        self.analyst = Scripted(rule)
        self.log = folder / "steps"

    def go(self) -> dict[str, RunState]:
        return self.drive(Counting(self.log))

    def order(self, run: str, kind: OrderKind, to: float | None = None, **more: Any) -> None:
        order_run(self.store, run, kind, "a reason", to_gpu_hours=to, answer_s=0.0, **more)

    def run_id(self, label: str) -> str:
        return next(r.run_id for r in self.plan.runs if f"{r.arm}:{r.spec.seed}" == label)

    def steps(self, label: str) -> list[int]:
        """Every step that any trial of a run took, in the order of time."""
        wanted = self.run_id(label)
        lines = [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return [int(step) for run_id, step in lines if run_id == wanted]

    def num_trials(self, label: str) -> int:
        facts = RunFolder(self.home.run_folder(self.run_id(label))).read_facts()
        return sum(isinstance(fact, TrialStarted) for fact in facts)

    def actions(self, label: str) -> list[tuple[Action, Cause]]:
        rows = self.store.decisions(self.plan.sweep_id, self.run_id(label))
        assert all(row.acted_at is not None for row in rows)
        told = [(row.decision.action, row.decision.cause) for row in rows]
        return [each for each in told if each[0] is not Action.CONTINUE]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalerl_lab.launch.driver._TURN_S", 0.0)
    monkeypatch.setattr("scalerl_lab.launch.driver._WORK_S", float("inf"))
    monkeypatch.setattr("scalerl_lab.launch.driver._ORDERS_S", 0.0)


FINISHED = (Action.FINISH, Cause.BUDGET_REACHED)


def test_a_kill_stops_the_worker_and_frees_its_hours(tmp_path: Path) -> None:
    bench = Ordered(tmp_path)
    bench.on_turn[4] = lambda: bench.order("control:1", OrderKind.KILL)
    runs = bench.go()
    killed = runs["control:1"]
    assert killed.status is RunStatus.KILLED
    assert bench.actions("control:1") == [(Action.KILL, Cause.ORDERED)]
    assert killed.last_decision is not None
    assert killed.last_decision.reason.endswith(": a reason.")
    # Ordered at its third or fourth point, heeded one point later at most.
    assert max(bench.steps("control:1")) <= 20
    assert [r.status for label, r in runs.items() if label != "control:1"] == [RunStatus.FINISHED] * 3
    assert bench.store.budget(bench.plan.sweep_id).total.saved == 4000.0 - killed.gpu_hours


def test_an_extension_reaches_the_trial_that_is_at_work(tmp_path: Path) -> None:
    bench = Ordered(tmp_path)
    bench.on_turn[4] = lambda: bench.order("control:0", OrderKind.EXTEND, 5500.0)
    runs = bench.go()
    assert bench.steps("control:0") == list(range(1, 56))
    assert bench.num_trials("control:0") == 1
    assert runs["control:0"].granted_gpu_hours == 5500.0
    assert bench.actions("control:0") == [(Action.EXTEND, Cause.ORDERED), FINISHED]


def test_what_is_over_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    bench = Ordered(tmp_path, lambda run: (Action.KILL, 4000.0) if _is(run, "low", 20) else None)
    assert bench.go()["low:0"].status is RunStatus.KILLED
    at_kill = len(bench.steps("low:0"))
    # Nobody drives now: the orders wait for the next command.
    bench.order("low:0", OrderKind.REVIVE)
    bench.order("control:0", OrderKind.EXTEND, 4500.0)
    with pytest.raises(UserError, match="has used all 4,000"):
        bench.order("tied:0", OrderKind.REVIVE)
    runs = bench.go()
    assert runs["low:0"].status is runs["control:0"].status is RunStatus.FINISHED
    assert bench.steps("control:0") == list(range(1, 46))
    # Twenty steps and what it did before it heeded the kill; the checkpoint is the last one it measured.
    assert sorted(set(bench.steps("low:0"))) == list(range(1, 41))
    assert len(bench.steps("low:0")) - 40 <= at_kill % 5
    # It is pinned by its revival: the rule's kill at step 20 and later has no effect.
    told = bench.actions("low:0")
    assert told[:2] == [(Action.KILL, Cause.CEILING_BELOW), (Action.REVIVE, Cause.ORDERED)]
    # Once on the way down, once more at its last point.
    assert set(told[2:]) == {(Action.FINISH, Cause.PINNED)}
    pinned = [
        row.decision
        for row in bench.store.decisions(bench.plan.sweep_id, bench.run_id("low:0"))
        if row.decision.cause is Cause.PINNED
    ]
    assert pinned
    assert all("The rule says kill" in decision.reason for decision in pinned)


def test_a_pin_holds_until_it_is_taken_away(tmp_path: Path) -> None:
    bench = Ordered(tmp_path, lambda run: (Action.KILL, 4000.0) if _is(run, "control", 10) else None)
    bench.on_turn[1] = lambda: bench.order("control:0", OrderKind.PIN)
    bench.on_turn[7] = lambda: bench.order("control:0", OrderKind.UNPIN)
    runs = bench.go()
    assert {runs["control:0"].status, runs["control:1"].status} == {RunStatus.KILLED}
    assert runs["control:1"].gpu_hours <= 1500.0
    assert 2500.0 <= runs["control:0"].gpu_hours <= 4000.0


def test_a_paused_sweep_rests_at_its_checkpoints_and_goes_on_from_them(tmp_path: Path) -> None:
    bench = Ordered(tmp_path)
    sweep_id = bench.plan.sweep_id
    resting: list[int] = []
    bench.on_turn[4] = lambda: order_sweep(bench.store, sweep_id, OrderKind.PAUSE, "maintenance")
    bench.on_turn[9] = lambda: resting.append(len(bench.log.read_text().splitlines()))
    bench.on_turn[29] = lambda: resting.append(len(bench.log.read_text().splitlines()))
    bench.on_turn[30] = lambda: order_sweep(bench.store, sweep_id, OrderKind.RESUME, "done", answer_s=0.0)
    runs = bench.go()
    assert resting[0] == resting[1] < 60
    for label, run in runs.items():
        assert run.status is RunStatus.FINISHED
        assert bench.steps(label) == list(range(1, 41))
    assert {bench.num_trials("control:0"), bench.num_trials("control:1")} == {2}
    assert not [r for r in bench.store.ledger(sweep_id) if r.entry.kind is LedgerKind.LOST]


def test_a_pause_outlives_the_driver(tmp_path: Path) -> None:
    bench = Ordered(tmp_path)
    sweep_id = bench.plan.sweep_id
    bench.store.record_plan(bench.plan)
    order_sweep(bench.store, sweep_id, OrderKind.PAUSE, "not yet")
    bench.on_turn[20] = lambda: order_sweep(bench.store, sweep_id, OrderKind.RESUME, "now", answer_s=0.0)
    bench.on_turn[19] = lambda: bench.launcher.started and pytest.fail("started while paused")
    assert {run.status for run in bench.go().values()} == {RunStatus.FINISHED}
    assert any("lab sweep resume" in sentence for sentence in bench.watcher.sentences)


def test_a_cancelled_sweep_ends_and_keeps_what_it_measured(tmp_path: Path) -> None:
    bench = Ordered(tmp_path)
    bench.on_turn[5] = lambda: order_sweep(bench.store, bench.plan.sweep_id, OrderKind.CANCEL, "no use")
    runs = bench.go()
    assert {run.status for run in runs.values()} == {RunStatus.KILLED}
    assert runs["control:0"].points
    assert bench.steps("tied:0") == []
    assert bench.go() == runs
    assert bench.launcher.started == []


def test_the_driver_refuses_what_the_budget_does_not_cover_any_more(tmp_path: Path) -> None:
    bench = Ordered(tmp_path, cap=16500.0)
    bench.store.record_plan(bench.plan)
    with pytest.raises(BudgetError, match="takes 1,000 GPU-hours and the sweep has 500 to spare"):
        bench.order("control:0", OrderKind.EXTEND, 5000.0)
    # Each is covered as long as the other is not carried out.
    bench.order("control:0", OrderKind.EXTEND, 4400.0)
    bench.order("control:1", OrderKind.EXTEND, 4400.0)
    bench.order("tied:0", OrderKind.EXTEND, 4600.0, raise_cap=True)
    runs = bench.go()
    assert {label: run.granted_gpu_hours for label, run in runs.items()} == {
        "control:0": 4400.0,
        "control:1": 4000.0,
        "low:0": 4000.0,
        "tied:0": 4600.0,
    }
    rows = bench.store.orders(bench.plan.sweep_id)
    assert [row.order.kind for row in rows] == [OrderKind.EXTEND] * 3 + [OrderKind.RAISE_CAP]
    assert [row.refused is not None for row in rows] == [False, True, False, False]
    assert "100 to spare" in str(rows[1].refused)
    assert any("is refused" in sentence for sentence in bench.watcher.sentences)
    # 600 with 100 to spare: the cap rises by the 500 that lack when it is carried out.
    assert bench.store.budget(bench.plan.sweep_id).cap == 17000.0


def test_hours_that_no_planned_run_can_start_on_can_be_ordered(tmp_path: Path) -> None:
    bench = Ordered(tmp_path, cap=9000.0)
    assert [run.gpu_hours for run in bench.go().values()] == [4000.0, 4000.0, 0.0, 0.0]
    bench.order("control:0", OrderKind.EXTEND, 4500.0)
    bench.order("control:1", OrderKind.EXTEND, 5000.0, raise_cap=True)
    # The cap rises by 500, and those that it never covered do not start on it.
    assert [run.gpu_hours for run in bench.go().values()] == [4500.0, 5000.0, 0.0, 0.0]
    assert bench.store.budget(bench.plan.sweep_id).cap == 9500.0


def test_an_extension_that_is_ordered_is_not_undone_by_the_rule(tmp_path: Path) -> None:
    def stop(run: RunState) -> tuple[Action, float] | None:
        low = run.planned.arm == "low" and run.gpu_hours >= 2500.0
        return (Action.KILL, run.granted_gpu_hours) if low else None

    bench = Ordered(tmp_path, stop)
    before = bench.go()["low:0"]
    assert (before.status, before.gpu_hours < 4000.0) == (RunStatus.KILLED, True)
    bench.order("low:0", OrderKind.EXTEND, 5000.0)
    after = bench.go()["low:0"]
    assert (after.gpu_hours, after.status) == (5000.0, RunStatus.FINISHED)


def test_a_cancelled_sweep_does_not_try_failed_runs_again(tmp_path: Path) -> None:
    bench = Ordered(tmp_path)
    failing = FailingFor(bench.run_id("tied:0"), bench.log)
    assert bench.drive(failing)["tied:0"].status is RunStatus.FAILED
    # Given while nobody drives: it is settled before anything is tried again.
    order_sweep(bench.store, bench.plan.sweep_id, OrderKind.CANCEL, "no use", answer_s=0.0)
    assert bench.go()["tied:0"].status is RunStatus.FAILED
    assert bench.launcher.started == []


def test_turns_without_time_still_take_every_run_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalerl_lab.launch.driver._WORK_S", -1.0)
    runs = Ordered(tmp_path).go()
    assert {run.gpu_hours for run in runs.values()} == {4000.0}
    assert {run.status for run in runs.values()} == {RunStatus.FINISHED}


def test_a_run_whose_answer_is_known_gives_its_hours_back(tmp_path: Path) -> None:
    """Finished below its grant, while its trial is at work: down to a checkpoint, nothing lost."""
    bench = Ordered(tmp_path, lambda run: (Action.FINISH, 4000.0) if _is(run, "tied", 20) else None)
    tied = bench.go()["tied:0"]
    assert tied.status is RunStatus.FINISHED
    assert tied.gpu_hours <= 2500.0
    assert bench.actions("tied:0") == [FINISHED]
    assert bench.store.budget(bench.plan.sweep_id).total.saved == 4000.0 - tied.gpu_hours
    bench.order("tied:0", OrderKind.REVIVE)
    assert bench.go()["tied:0"].gpu_hours == 4000.0
    assert bench.steps("tied:0") == list(range(1, 41))


# ------------------------------------------------------------ kill -9 around an execution


def _is(run: RunState, arm: str, from_step: int) -> bool:
    return run.planned.arm == arm and run.points[-1].step >= from_step


def _dies(name: str, *, after: bool, when: Callable[..., bool]) -> None:
    """Have this process killed at the first call of a method of the store that is meant."""
    whole = getattr(Store, name)

    def deadly(self: Store, *args: Any, **more: Any) -> Any:
        meant = when(self, *args)
        done = whole(self, *args, **more) if after or not meant else None
        if meant:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(Store, name, deadly)


def _rule(run: RunState) -> tuple[Action, float] | None:
    if _is(run, "low", 20):
        return (Action.KILL, run.granted_gpu_hours)
    if _is(run, "tied", 40) and run.granted_gpu_hours == 4000.0:
        return (Action.EXTEND, 5000.0)
    return None


def _on(action: Action) -> Callable[..., bool]:
    """Whether a call records a decision with this action, of the rule or of an order."""

    def meant(_store: Store, _place: object, decided: Any, *_: object) -> bool:
        return action in ([decided.action] if isinstance(decided, Decision) else [d.action for d in decided])

    return meant


def _of(action: Action) -> Callable[..., bool]:
    """Whether a call marks a decision with this action as acted on."""

    def meant(store: Store, decision_id: int) -> bool:
        return any(r.decision_id == decision_id and r.decision.action is action for r in store.decisions())

    return meant


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("action", [Action.KILL, Action.EXTEND])
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_driver_killed_around_an_execution_carries_it_out_once(
    tmp_path: Path, action: Action, side: str, ordered: bool
) -> None:
    rule: Rule = (lambda run: None) if ordered else _rule
    bench = Ordered(tmp_path, rule)
    label, to = ("low:0", None) if action is Action.KILL else ("tied:0", 5000.0)
    if ordered:
        bench.on_turn[14] = lambda: bench.order(label, OrderKind(action.value), to)
    bench.store.close()

    def die(_: int) -> None:
        if side == "before":
            _dies("carry_out" if ordered else "record_decision", after=True, when=_on(action))
        else:
            _dies("mark_acted", after=False, when=_of(action))
        bench.go()

    assert fork(1, die) == [-signal.SIGKILL]
    waiting = [row.decision.action for row in bench.store.unacted(bench.plan.sweep_id)]
    assert waiting == [action]
    # The dead driver's last turn may not order anew.
    bench.on_turn.clear()
    runs = bench.go()
    cause = {False: {Action.KILL: Cause.CEILING_BELOW, Action.EXTEND: Cause.BUDGET_REACHED}}.get(ordered, {})
    told = [(action, cause.get(action, Cause.ORDERED))]
    steps, facts = bench.steps(label), Counter(bench.steps(label))
    assert max(facts.values()) == 1, "a step was taken twice"
    if action is Action.KILL:
        assert bench.actions(label) == told
        assert runs[label].status is RunStatus.KILLED
        # Nothing was trained after the death, and at most to the next point before it.
        assert len(steps) <= 25
        assert bench.num_trials(label) == 1
    else:
        assert bench.actions(label) == [*told, FINISHED]
        assert steps == list(range(1, 51))
        assert runs[label].granted_gpu_hours == runs[label].gpu_hours == 5000.0
        train = [r.entry.gpu_hours for r in bench.store.ledger(bench.plan.sweep_id) if r.arm == "tied"]
        assert sum(train) == 5000.0
    assert bench.go() == runs
    assert bench.steps(label) == steps
