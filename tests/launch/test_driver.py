"""The driver's loop over a fake trainer whose curves are the law, on a real store."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

from scalerl_lab.config.curriculum import UniformCurriculum
from scalerl_lab.config.profile import FlopsMeter, Profile
from scalerl_lab.config.sweep import Sweep
from scalerl_lab.launch.analysis import Plot
from scalerl_lab.launch.driver import Driver, slots
from scalerl_lab.launch.home import Home
from scalerl_lab.launch.locking import try_exclusive
from scalerl_lab.launch.run_folder import Orders, RunFolder
from scalerl_lab.launch.worker import execute
from scalerl_lab.plan import SweepPlan, expand
from scalerl_lab.records import (
    Action,
    Cause,
    EndReason,
    ProgressView,
    Role,
    RunSpec,
    RunState,
    RunStatus,
)
from scalerl_lab.store import Store
from tests.launch.fake_trainer import FakeTrainer, point, trainer
from tests.launch.lockstep import AtOnce, LockstepLauncher
from tests.launch.specs import RECIPE

PROFILE = Profile(name="test", meter=FlopsMeter(flops_per_gpu_hour=1e3))


def sweep(**changes: Any) -> Sweep:
    """A control with two seeds, an arm with a low ceiling and one that ties."""
    base: dict[str, Any] = {
        "name": "two_arms",
        "recipe": "small",
        "question": {
            "type": "leave_one_out",
            "arms": {
                "low": {"set": {"curriculum": {"type": "uniform"}}},
                "tied": {"set": {"zero_variance": "keep"}},
            },
        },
        "seeds": {"control": 2, "arm": 1},
        "budget": {"run_gpu_hours": 16000},
    }
    return Sweep.model_validate(base | changes)


def ceiling(spec: RunSpec) -> float:
    return 0.5 if spec.recipe.curriculum.type == "uniform" else 0.7


class Silent:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.views: list[ProgressView] = []

    def started(self, plan: SweepPlan, headline: list[str]) -> None:
        """Nothing to show."""

    def update(self, view: ProgressView) -> None:
        self.views.append(view)

    def said(self, sentence: str) -> None:
        self.sentences.append(sentence)


class Bench:
    """A sweep on a store in a folder, driven as often as wanted."""

    def __init__(self, folder: Path, question: Sweep) -> None:
        self.home = Home(folder, f"sqlite:///{folder / 'lab.db'}", "")
        self.plan = expand(question, PROFILE, {"small": RECIPE}.__getitem__)
        self.store = Store.open(self.home.database_url)
        self.watcher = Silent()
        self.analyst: Executor = AtOnce()
        self.on_turn: dict[int, Callable[[], object]] = {}
        self.slots = 2
        self.plot: Plot | None = None
        self.launcher = LockstepLauncher(trainer(FakeTrainer(ceiling)))

    def drive(self, fake: FakeTrainer | None = None, crash_at_turn: int | None = None) -> dict[str, RunState]:
        self.store.record_plan(self.plan)
        self.launcher = LockstepLauncher(trainer(fake or FakeTrainer(ceiling)), self.slots)
        self.launcher.crash_at_turn = crash_at_turn
        self.launcher.on_turn = self.on_turn
        runs = Driver(
            plan=self.plan,
            store=self.store,
            launcher=self.launcher,
            analyst=self.analyst,
            home=self.home,
            watcher=self.watcher,
            code_version="test",
            max_live=3,
            plot=self.plot,
        ).drive()
        return {f"{run.planned.arm}:{run.planned.spec.seed}": run for run in runs}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalerl_lab.launch.driver._TURN_S", 0.0)
    monkeypatch.setattr("scalerl_lab.launch.driver._WORK_S", float("inf"))
    # A joint fit takes a good part of a second: looks at quarters of the budget are enough here.
    monkeypatch.setattr("scalerl_lab.decide.looks.LOOK_FRACTION", 0.25)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, sweep())


def test_the_low_arm_is_killed_and_the_tie_runs_to_its_budget(bench: Bench) -> None:
    runs = bench.drive()
    assert {label: run.status for label, run in runs.items()} == {
        "control:0": RunStatus.FINISHED,
        "control:1": RunStatus.FINISHED,
        "low:0": RunStatus.KILLED,
        "tied:0": RunStatus.FINISHED,
    }
    low = runs["low:0"]
    assert low.last_decision is not None
    assert low.last_decision.cause is Cause.CEILING_BELOW
    assert low.gpu_hours < 12000
    assert runs["tied:0"].gpu_hours >= 16000
    assert any(sentence.startswith("low:0: kill") for sentence in bench.watcher.sentences)


def test_every_look_has_a_decision_and_every_decision_is_acted_on(bench: Bench) -> None:
    runs = bench.drive()
    for run in runs.values():
        rows = bench.store.decisions(bench.plan.sweep_id, run.planned.run_id)
        decided = [row.decision.step for row in rows]
        # Looks are a quarter of the budget, 4,000 GPU-hours or 40 steps, apart.
        assert decided == [40, 80, 120, 160][: len(decided)]
        # A condemned run may measure one more point before it heeds its orders.
        assert run.points[-1].step - decided[-1] <= (5 if run.status is RunStatus.KILLED else 0)
    acted = [r for r in bench.store.decisions(bench.plan.sweep_id) if r.decision.action is Action.KILL]
    assert acted
    assert all(row.acted_at is not None for row in acted)


def test_running_again_starts_nothing(bench: Bench) -> None:
    first = bench.drive()
    again = bench.drive()
    assert bench.launcher.started == []
    assert {k: v.points for k, v in again.items()} == {k: v.points for k, v in first.items()}


@pytest.mark.parametrize("crash_at_turn", [1, 3, 15, 33, 45])
def test_a_driver_that_dies_loses_and_repeats_nothing(
    bench: Bench, tmp_path: Path, crash_at_turn: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench.drive(crash_at_turn=crash_at_turn)
    runs = bench.drive()
    undisturbed = Bench(tmp_path / "other", sweep()).drive()
    assert {k: v.status for k, v in runs.items()} == {k: v.status for k, v in undisturbed.items()}
    for label, run in runs.items():
        steps = [p.step for p in run.points]
        assert steps == sorted(set(steps))
        other = {p.step: p.pass_rate for p in undisturbed[label].points}
        assert all(other.get(p.step, p.pass_rate) == p.pass_rate for p in run.points)


def test_a_worker_that_dies_is_tried_again_from_its_checkpoint(bench: Bench) -> None:
    fake = FakeTrainer(ceiling, die_at=(57,))
    runs = bench.drive(fake)
    assert all(run.status in {RunStatus.FINISHED, RunStatus.KILLED} for run in runs.values())
    assert ("control:0", 2) in bench.launcher.started or ("control:1", 2) in bench.launcher.started
    assert any("trying again" in sentence for sentence in bench.watcher.sentences)


def test_a_run_that_keeps_dying_fails_and_the_others_go_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sweep())

    class Cursed(FakeTrainer):
        def __call__(self, spec: RunSpec, *rest: Any) -> Any:
            if spec.recipe.zero_variance == "keep":
                raise RuntimeError("out of memory")
            return super().__call__(spec, *rest)

    runs = bench.drive(Cursed(ceiling))
    assert runs["tied:0"].status is RunStatus.FAILED
    assert bench.launcher.started.count(("tied:0", 3)) == 1
    assert ("tied:0", 4) not in bench.launcher.started
    assert runs["control:0"].status is RunStatus.FINISHED


def test_a_collapse_is_killed_for_what_it_is(bench: Bench) -> None:
    class Collapsing(FakeTrainer):
        def __call__(self, spec: RunSpec, *rest: Any) -> Any:
            self._collapse_after = 40 if spec.recipe.zero_variance == "keep" else None
            return super().__call__(spec, *rest)

    tied = bench.drive(Collapsing(ceiling))["tied:0"]
    assert tied.status is RunStatus.KILLED
    assert tied.last_decision is not None
    assert tied.last_decision.cause is Cause.COLLAPSED
    assert tied.gpu_hours <= 5500


def test_what_the_budget_does_not_cover_is_not_started(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sweep(budget={"run_gpu_hours": 16000, "sweep_gpu_hours": 40000}))
    runs = bench.drive()
    assert sum(run.gpu_hours for run in runs.values()) <= 40000 + 100
    assert [run.status for run in runs.values()].count(RunStatus.PLANNED) >= 1


def test_orders_on_file_are_the_grant_in_sql(bench: Bench) -> None:
    for run in bench.drive().values():
        orders = RunFolder(bench.home.run_folder(run.planned.run_id)).orders()
        assert orders.stop is (run.status is RunStatus.KILLED)
        if not orders.stop:
            assert orders.granted_gpu_hours == run.granted_gpu_hours


def test_progress_ends_where_the_runs_end(bench: Bench) -> None:
    runs = bench.drive()
    last = bench.watcher.views[-1]
    assert [row.gpu_hours for row in last.rows] == [run.gpu_hours for run in runs.values()]
    assert last.budget_gpu_hours == 64000


def test_slots_follow_the_scarcest_resource() -> None:
    plan = expand(sweep(), PROFILE, {"small": RECIPE}.__getitem__)
    assert slots(2, 0, plan) == 2
    assert slots(0.5, 0, plan) == 1


class Slow(AtOnce):
    """Answers a few questions later, as a busy analyst does."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        answer = super().submit(fn, *args, **kwargs)
        asked = iter(range(6))
        done = answer.done
        answer.done = lambda: next(asked, None) is None and done()  # type: ignore[method-assign]
        return answer


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (EndReason.NON_FINITE, RunStatus.KILLED),
        (EndReason.NO_PROMPTS, RunStatus.FINISHED),
        (EndReason.NO_VARIANCE, RunStatus.FINISHED),
    ],
)
def test_a_late_verdict_on_an_earlier_point_does_not_bring_an_ended_run_back(
    bench: Bench, reason: EndReason, status: RunStatus
) -> None:
    class Ending(FakeTrainer):
        def __call__(self, spec: RunSpec, folder: Path, cache: Path, trial: int, supervisor: Any) -> Any:
            if spec.recipe.zero_variance == "drop":
                return super().__call__(spec, folder, cache, trial, supervisor)
            for step in (0, 5):
                supervisor.emit(point(trial, step, 0.2))
            return self._end(supervisor, trial, 5, reason)

    bench.analyst = Slow()
    tied = bench.drive(Ending(ceiling))["tied:0"]
    assert tied.status is status
    assert [label for label, _ in bench.launcher.started].count("tied:0") == 1


def test_a_run_that_failed_is_tried_again_by_the_next_command(bench: Bench) -> None:
    class Cursed(FakeTrainer):
        def __call__(self, spec: RunSpec, *rest: Any) -> Any:
            if spec.recipe.zero_variance == "keep":
                raise RuntimeError("disk full")
            return super().__call__(spec, *rest)

    assert bench.drive(Cursed(ceiling))["tied:0"].status is RunStatus.FAILED
    assert bench.drive()["tied:0"].status is RunStatus.FINISHED
    assert {label for label, _ in bench.launcher.started} == {"tied:0"}


def test_another_sweep_reuses_runs_up_to_its_own_budget(bench: Bench) -> None:
    first = bench.drive()
    bench.plan = expand(
        sweep(name="half", budget={"run_gpu_hours": 8000}), PROFILE, {"small": RECIPE}.__getitem__
    )
    again = bench.drive()
    assert bench.launcher.started == []
    for label, run in again.items():
        assert run.reused
        assert run.status in {RunStatus.FINISHED, RunStatus.KILLED}
        assert run.last_decision is not None
        assert run.last_decision.gpu_hours <= 8000
        assert run.points[-1].gpu_hours <= 8000
        assert run.points == first[label].points[: len(run.points)]


def test_a_run_that_was_killed_goes_on_for_a_sweep_that_has_no_control_above_it(bench: Bench) -> None:
    killed = bench.drive()["low:0"]
    assert killed.status is RunStatus.KILLED
    question = {"type": "compare", "recipes": ["low", "small"]}
    low = RECIPE.model_copy(update={"name": "low", "curriculum": UniformCurriculum()})
    bench.plan = expand(
        sweep(name="low_first", recipe="low", question=question),
        PROFILE,
        {"small": RECIPE, "low": low}.__getitem__,
    )
    runs = {run.planned.run_id: run for run in bench.drive().values()}
    revived = runs[killed.planned.run_id]
    assert revived.status is RunStatus.FINISHED
    assert revived.gpu_hours >= 16000
    assert revived.points[: len(killed.points)] == killed.points


def test_a_run_that_another_driver_holds_is_waited_for_and_its_points_are_used(bench: Bench) -> None:
    run_id = next(run.run_id for run in bench.plan.runs if run.arm == "tied")
    folder = RunFolder(bench.home.run_folder(run_id))
    lock = try_exclusive(folder.driver_lock)
    assert lock is not None
    bench.on_turn[60] = lock.close
    runs = bench.drive()
    assert bench.launcher.turns > 60
    assert ("tied:0", 1) in bench.launcher.started
    assert runs["tied:0"].status is RunStatus.FINISHED


def test_a_run_at_its_budget_is_extended_while_its_ceiling_is_open_and_hours_are_left(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sweep(budget={"run_gpu_hours": 4000, "sweep_gpu_hours": 64000}))
    runs = bench.drive()
    for run in runs.values():
        assert run.status is RunStatus.FINISHED
        assert run.granted_gpu_hours == 5000
        assert run.gpu_hours == 5000
        rows = bench.store.decisions(bench.plan.sweep_id, run.planned.run_id)
        extended = [row for row in rows if row.decision.action is Action.EXTEND]
        assert [row.decision.granted_gpu_hours for row in extended] == [4500, 5000]
        assert all(row.acted_at is not None for row in extended)
    assert bench.launcher.started.count(("tied:0", 3)) == 1


def test_hours_that_a_killed_run_left_extend_a_run_that_had_finished(tmp_path: Path) -> None:
    question = {
        "type": "leave_one_out",
        "arms": {
            "early": {"set": {"zero_variance": "keep"}},
            "low": {"set": {"curriculum": {"type": "uniform"}}},
        },
    }
    extension = {"max_factor": 1.125, "open_probability": 0.01}
    # By so small a margin an eighth more still tells something.
    rule = {"extension": extension, "margin": 0.005}
    bench = Bench(tmp_path, sweep(question=question, rule=rule, budget={"run_gpu_hours": 8000}))
    bench.slots = 1

    def ceilings(spec: RunSpec) -> float:
        # Below the control by the margin exactly: that question stays open.
        return 0.695 if spec.recipe.zero_variance == "keep" else ceiling(spec)

    runs = bench.drive(FakeTrainer(ceilings))
    assert runs["low:0"].status is RunStatus.KILLED
    rows = [
        row.decision
        for row in bench.store.decisions(bench.plan.sweep_id)
        if row.decision.action is not Action.CONTINUE
    ]
    # The control's next hours tell most: of the difference, and of no other run's more.
    (extended,) = [one for one in rows if one.action is Action.EXTEND]
    run = next(run for run in runs.values() if run.planned.run_id == extended.run_id)
    assert run.planned.role is Role.CONTROL
    actions = [one.action for one in rows if one.run_id == extended.run_id]
    assert actions == [Action.FINISH, Action.EXTEND, Action.FINISH]
    assert run.gpu_hours == run.granted_gpu_hours == 9000
    assert run.status is RunStatus.FINISHED
    # The arm's question was open too, but there were hours for one step.
    (early,) = {one.cause for one in rows if one.run_id == runs["early:0"].planned.run_id}
    assert early is Cause.NO_HOURS


def test_a_run_that_another_driver_finishes_ends_the_waiting(bench: Bench) -> None:
    run_id = next(run.run_id for run in bench.plan.runs if run.arm == "tied")
    folder = RunFolder(bench.home.run_folder(run_id))
    lock = try_exclusive(folder.driver_lock)
    assert lock is not None

    def finish_elsewhere() -> None:
        folder.write_orders(Orders(16000.0))
        execute(folder.path, folder.path, 1, code_version="other", trainer=trainer(FakeTrainer(ceiling)))

    bench.on_turn[20] = finish_elsewhere
    runs = bench.drive()
    lock.close()
    assert "tied:0" not in {label for label, _ in bench.launcher.started}
    assert runs["tied:0"].status is RunStatus.FINISHED
    assert runs["tied:0"].gpu_hours == 16000
