"""The scheduler against a stand-in for Tune's controller: what it notes, orders, and takes up again."""

from __future__ import annotations

import json
import logging
import pickle
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scalerl_lab.fit.law import pass_rate
from scalerl_lab.plugins import ForecastScheduler
from scalerl_lab.plugins.forecaster import Answer, Forecaster, Job
from scalerl_lab.plugins.ray_tune import LOG_NAME
from scalerl_lab.plugins.verdict import Verdict, judge


class Told:
    """A forecaster that says what it is told to: ``losers`` stop, the others go on."""

    def __init__(self) -> None:
        self.losers: set[str] = set()
        self.reference: str | None = None
        self.job: Job | None = None
        self.jobs: list[Job] = []
        self.ready, self.failure, self.gave_up, self.closed = True, "", False, 0

    @property
    def busy(self) -> bool:
        return self.job is not None

    def submit(self, job: Job) -> None:
        assert not self.busy
        self.job = job
        self.jobs.append(job)

    def answer(self) -> Answer | None:
        if self.job is None or not self.ready:
            return None
        job, self.job = self.job, None
        if self.failure:
            return Answer(job, {}, self.failure)
        compute = {history.name: history.points[0][-1] for history in job.histories}
        return Answer(
            job,
            {
                name: Verdict(name in self.losers, compute[name], f"{name} by order.", 0.01, self.reference)
                for name in job.due
            },
        )

    def close(self) -> None:
        self.closed += 1


class Controller:
    """What a scheduler may ask of Tune's controller."""

    def __init__(self, scheduler: ForecastScheduler, folder: Path, kind: str = "local") -> None:
        self.scheduler, self.trials, self.folder, self.kind = scheduler, [], folder, kind

    def add(self, name: str, status: str = "RUNNING", **config: Any) -> Any:
        storage = SimpleNamespace(
            storage_filesystem=SimpleNamespace(type_name=self.kind), experiment_fs_path=str(self.folder)
        )
        trial = SimpleNamespace(trial_id=name, status=status, config=config, storage=storage, is_saving=False)
        self.trials.append(trial)
        self.scheduler.on_trial_add(self, trial)
        return trial

    def report(self, trial: Any, compute: Any, value: Any, **more: Any) -> str:
        result = {"training_iteration": compute, "acc": value, **more}
        return str(self.scheduler.on_trial_result(self, trial, result))

    def get_trials(self) -> list[Any]:
        return self.trials

    def get_live_trials(self) -> set[Any]:
        return [trial for trial in self.trials if trial.status not in ("TERMINATED", "ERROR")]  # type: ignore[return-value]

    def stop_trial(self, trial: Any) -> None:
        was, trial.status = trial.status, "TERMINATED"
        if was == "RUNNING":
            self.scheduler.on_trial_complete(self, trial, {})
        else:
            self.scheduler.on_trial_remove(self, trial)

    def _set_trial_status(self, trial: Any, status: str) -> None:
        trial.status = status

    def step(self) -> Any:
        """As Tune does: the chosen trial runs, and so does every pending one."""
        chosen = self.scheduler.choose_trial_to_run(self)
        for trial in self.trials:
            if trial.status == "PENDING" or trial is chosen:
                trial.status = "RUNNING"
        return chosen


def prepared(tmp_path: Path, **arguments: Any) -> tuple[ForecastScheduler, Told, Controller]:
    scheduler = ForecastScheduler(**({"margin": 0.02, "metric": "acc", "mode": "max"} | arguments))
    scheduler._forecaster = told = Told()  # type: ignore[assignment]
    return scheduler, told, Controller(scheduler, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "up"},
        {"action": "kill"},
        {"reference": {}},
        {"reference": "control2"},
        {"margin": -1},
        {"on_nan": "pause"},
    ],
)
def test_wrong_arguments_are_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed is"):
        ForecastScheduler(**({"margin": 0.02} | wrong))


def test_metric_and_mode_may_come_from_tune_once() -> None:
    scheduler = ForecastScheduler(margin=0.02)
    assert scheduler.set_search_properties("acc", "max")
    assert scheduler.metric == "acc"
    assert not scheduler.set_search_properties("loss", None)
    assert not scheduler.set_search_properties(None, "min")


def test_without_metric_or_a_disk_the_first_trial_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="metric=None and mode=None; give both"):
        Controller(ForecastScheduler(margin=0.02), tmp_path).add("a")
    scheduler = ForecastScheduler(margin=0.02, metric="acc", mode="max")
    with pytest.raises(ValueError, match=r"s3 storage.*give ForecastScheduler\(log="):
        Controller(scheduler, tmp_path, "s3").add("a")
    named = ForecastScheduler(margin=0.02, metric="acc", mode="max", log=tmp_path / "own" / "file.jsonl")
    named._forecaster = Told()  # type: ignore[assignment]
    controller = Controller(named, tmp_path, "s3")
    controller.report(controller.add("a"), 1, 0.5)
    assert (tmp_path / "own" / "file.jsonl").exists()


def test_an_order_waits_for_nothing_and_is_written_before_it_is_given(tmp_path: Path) -> None:
    scheduler, told, controller = prepared(tmp_path)
    told.ready, told.losers = False, {"b"}
    a, b = controller.add("a"), controller.add("b")
    assert controller.report(a, 1, 0.5) == "CONTINUE"
    assert controller.report(b, 1, 0.4) == "CONTINUE"
    told.ready = True
    assert controller.report(a, 2, 0.5) == "CONTINUE"
    # The first look was at a alone; the second, at both, is answered at the next result.
    assert [job.due for job in told.jobs] == [("a",), ("a", "b")]
    assert controller.report(b, 2, 0.4) == "STOP"
    lines = [json.loads(text) for text in (tmp_path / LOG_NAME).read_text().splitlines() if text]
    assert lines[-1]["order"] == "stop"
    assert lines[-1]["reason"] == "b by order."
    assert "b stop: b by order." in scheduler.debug_string()
    assert "1 stopped" in scheduler.debug_string()


def test_a_running_trial_is_stopped_between_its_results(tmp_path: Path) -> None:
    _, told, controller = prepared(tmp_path)
    told.losers = {"b"}
    controller.add("a")
    b = controller.add("b")
    controller.report(b, 1, 0.4)
    b.is_saving = True
    controller.step()
    assert b.status == "RUNNING"
    b.is_saving = False
    controller.step()
    assert b.status == "TERMINATED"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "high", [1.0, 2.0]])
def test_what_is_no_number_is_left_out_and_counted(tmp_path: Path, value: Any) -> None:
    scheduler, told, controller = prepared(tmp_path)
    a = controller.add("a")
    assert controller.report(a, 1, value) == "CONTINUE"
    assert controller.report(a, value, 0.5) == "CONTINUE"
    assert controller.report(a, -1, 0.5) == "CONTINUE"
    assert not told.jobs
    assert "1 results left out: no finite number under acc" in scheduler.debug_string()
    assert "2 results left out: no number >= 0 under training_iteration" in scheduler.debug_string()


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("action", ["stop", "pause"])
def test_a_diverged_trial_is_stopped_at_once_with_its_reason(tmp_path: Path, action: str) -> None:
    """Two results in turn that are no numbers, the control's too, however long the warm-up."""
    scheduler, _, controller = prepared(tmp_path, action=action, reference={"k": 1}, warm_up=100)
    for name, config in (("control", {"k": 1}), ("other", {"k": 2})):
        trial = controller.add(name, **config)
        said = [controller.report(trial, *point) for point in ((1, 0.5), (2, NAN), (3, 0.4), (4, INF))]
        assert said == ["CONTINUE"] * 4
        # The same result once more, or one without the metric, is no second one.
        assert controller.report(trial, 4, INF) == "CONTINUE"
        assert controller.report(trial, 5, None) == "CONTINUE"
        assert controller.report(trial, 6, NAN) == "STOP"
    lines = [json.loads(text) for text in (tmp_path / LOG_NAME).read_text().splitlines() if text]
    assert [line["value"] for line in lines[:5]] == [0.5, "nan", 0.4, "inf", "nan"]
    assert (lines[5]["trial"], lines[5]["order"]) == ("control", "stop")
    assert lines[5]["reason"] == (
        "Diverged: the last 2 values are no finite numbers (inf, nan), "
        "since 4 training_iteration, after 6 training_iteration."
    )
    assert "other stop: Diverged" in scheduler.debug_string()


def test_a_diverged_trial_goes_on_where_that_is_wished_and_is_no_reference(tmp_path: Path) -> None:
    scheduler, told, controller = prepared(tmp_path, on_nan="ignore")
    launch = pickle.dumps(scheduler)
    a, b = controller.add("a"), controller.add("b")
    controller.report(b, 1, 0.4)
    controller.step()
    # A verdict under way that leans on what has diverged meanwhile is dropped.
    told.losers, told.reference, told.ready = {"b"}, "a", False
    controller.report(a, 1, 0.6)
    controller.report(b, 2, 0.4)
    assert [controller.report(a, step, NAN) for step in (2, 3, 4)] == ["CONTINUE"] * 3
    told.ready = True
    controller.step()
    assert controller.report(b, 3, 0.4) == "CONTINUE"
    assert {h.name: h.diverged for h in told.jobs[-1].histories} == {"a": True, "b": False}
    # So it is after a restore; a finite number, or a step back to a checkpoint, mends it.
    again = pickle.loads(launch)
    again._forecaster = Told()
    restored = Controller(again, tmp_path)
    a = restored.add("a")
    assert again._trials["a"].diverged
    restored.report(a, 4, NAN)
    assert again._trials["a"].history("a").points == ((1.0,), (0.6,))
    restored.report(a, 2, 0.65)
    assert not again._trials["a"].diverged
    assert again._trials["a"].history("a").points == ((1.0, 2.0), (0.6, 0.65))


def test_missing_keys_are_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scheduler, _, controller = prepared(tmp_path)
    a = controller.add("a")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert scheduler.on_trial_result(controller, a, {"acc": 0.5}) == "CONTINUE"
    assert len(caplog.records) == 1


def test_compute_that_does_not_grow_replaces_and_that_falls_voids_the_later_points(tmp_path: Path) -> None:
    scheduler, told, controller = prepared(tmp_path)
    a = controller.add("a")
    told.ready = False
    for compute, value in ((1, 0.1), (2, 0.2), (3, 0.3), (3, 0.35)):
        controller.report(a, compute, np.float32(value))
    assert scheduler._trials["a"].history("a").points[0] == (1.0, 2.0, 3.0)
    assert scheduler._trials["a"].value[-1] == pytest.approx(0.35)
    assert "has not grown" in scheduler.debug_string()
    controller.report(a, 2, 0.25)
    assert scheduler._trials["a"].history("a").points == ((1.0, 2.0), (pytest.approx(0.1), 0.25))
    before = (tmp_path / LOG_NAME).read_text()
    controller.report(a, 2, 0.25)
    assert (tmp_path / LOG_NAME).read_text() == before


def test_a_control_is_found_by_its_config_and_never_looked_at(tmp_path: Path) -> None:
    _, told, controller = prepared(tmp_path, reference={"loss/name": "cispo", "lr": 1e-3})
    control = controller.add("k", loss={"name": "cispo"}, lr=1e-3)
    other = controller.add("x", loss={"name": "dapo"}, lr=1e-3)
    flat = controller.add("y", loss="cispo", lr=1e-3)
    for trial in (control, other, flat):
        controller.report(trial, 1, 0.5)
    controller.step()
    controller.step()
    assert {name for job in told.jobs for name in job.due} == {"x", "y"}
    assert {h.name for job in told.jobs for h in job.histories if h.control} == {"k"}


def test_a_verdict_that_leans_on_a_trial_that_failed_is_dropped(tmp_path: Path) -> None:
    scheduler, told, controller = prepared(tmp_path)
    a, b = controller.add("a"), controller.add("b")
    told.losers, told.reference, told.ready = {"b"}, "a", False
    controller.report(b, 1, 0.4)
    a.status = "ERROR"
    scheduler.on_trial_error(controller, a)
    told.ready = True
    controller.step()
    assert b.status == "RUNNING"
    assert controller.report(b, 2, 0.4) == "CONTINUE"
    lost = {history.name: history.lost for history in told.jobs[-1].histories}
    assert lost == {"b": False}
    # A trial that Tune recovers is added again, and counts again.
    scheduler.on_trial_add(controller, SimpleNamespace(**(vars(a) | {"status": "PENDING"})))
    assert not scheduler._trials["a"].failed


def test_paused_trials_are_settled_when_nothing_else_is_left(tmp_path: Path) -> None:
    _, told, controller = prepared(tmp_path, action="pause")
    a, b, c = controller.add("a"), controller.add("b"), controller.add("c")
    told.losers = {"b", "c"}
    for trial in (a, b, c):
        controller.report(trial, 1, 0.5)
        controller.step()
    for trial in (b, c):
        assert controller.report(trial, 2, 0.5) == "PAUSE"
        trial.status = "PAUSED"
    for _ in range(5):
        assert controller.step() is None
    assert (b.status, c.status) == ("PAUSED", "PAUSED")
    # The best has ended; b turns out to be fine, c does not.
    a.status = "TERMINATED"
    controller.scheduler.on_trial_complete(controller, a, {})
    told.losers = {"c"}
    for _ in range(4):
        controller.step()
    assert b.status == "RUNNING"
    assert c.status == "PAUSED"
    assert controller.report(b, 3, 0.6) == "CONTINUE"
    b.status = "TERMINATED"
    controller.scheduler.on_trial_complete(controller, b, {})
    for _ in range(4):
        controller.step()
    assert c.status == "TERMINATED"
    assert told.closed


def test_all_paused_and_no_forecasts_go_on(tmp_path: Path) -> None:
    """Liveness: with fits that fail for good, nothing stays paused."""
    scheduler, told, controller = prepared(tmp_path, action="pause", reference=0.9)
    a = controller.add("a")
    told.losers = {"a"}
    controller.report(a, 1, 0.5)
    assert controller.report(a, 2, 0.5) == "PAUSE"
    a.status = "PAUSED"
    told.failure = "it died"
    controller.step()
    controller.step()
    assert a.status == "PAUSED"
    assert "The last look failed: it died" in scheduler.debug_string()
    told.gave_up = True
    controller.step()
    assert controller.step() is a
    assert controller.report(a, 3, 0.5) == "CONTINUE"
    assert "No trial is stopped any more" in scheduler.debug_string()


def test_a_restored_scheduler_holds_to_what_it_ordered(tmp_path: Path) -> None:
    """Tune restores the copy from the launch, and brings stopped and paused trials back as pending."""
    scheduler, told, controller = prepared(tmp_path, action="pause")
    launch = pickle.dumps(scheduler)
    a, b = controller.add("a"), controller.add("b")
    told.losers = {"b"}
    controller.report(a, 1, 0.6)
    controller.report(b, 1, 0.5)
    controller.report(a, 2, 0.7)
    assert controller.report(b, 2, 0.5) == "PAUSE"
    with (tmp_path / LOG_NAME).open("a") as file:
        file.write('{"trial": "a", "compute": 3, "val')  # the driver died in the middle of a line

    again = pickle.loads(launch)
    again._forecaster = told = Told()
    restored = Controller(again, tmp_path)
    a, b = restored.add("a", "PENDING"), restored.add("b", "PENDING")
    restored.step()
    assert (a.status, b.status) == ("RUNNING", "PAUSED")
    assert again._trials["a"].history("a").points == ((1.0, 2.0), (0.6, 0.7))
    assert "b pause: b by order." in again.debug_string()
    # It goes on writing after the torn line, and a third life reads all of it.
    told.losers = {"a"}
    restored.report(a, 2, 0.7)
    assert restored.report(a, 3, 0.7) == "PAUSE"
    third = pickle.loads(launch)
    third._forecaster = Told()
    a = Controller(third, tmp_path).add("a", "PENDING")
    assert third._trials["a"].history("a").points[0] == (1.0, 2.0, 3.0)
    assert third._trials["a"].order == "pause"


def test_a_stopped_trial_that_a_restore_made_pending_never_starts(tmp_path: Path) -> None:
    scheduler, told, controller = prepared(tmp_path)
    launch = pickle.dumps(scheduler)
    b = controller.add("b")
    told.losers = {"b"}
    controller.report(b, 1, 0.5)
    assert controller.report(b, 2, 0.5) == "STOP"
    again = pickle.loads(launch)
    again._forecaster = Told()
    restored = Controller(again, tmp_path)
    b = restored.add("b", "PENDING")
    assert restored.step() is None
    assert b.status == "TERMINATED"


def test_another_experiments_lines_change_nothing(tmp_path: Path) -> None:
    (tmp_path / LOG_NAME).write_text(
        '{"trial": "old", "compute": 1, "value": 0.5}\n[]\n{"trial": "x", "order": "dance", "compute": 1}\n'
    )
    scheduler, _, controller = prepared(tmp_path)
    controller.report(controller.add("x"), 1, 0.5)
    assert set(scheduler._trials) == {"x"}


class InPlace(Told):
    """A forecaster that blocks: it fits where it is asked, as no driver should."""

    def submit(self, job: Job) -> None:
        super().submit(job)
        judge(job.histories, job.due, job.rule)


MEDIAN_S, LONGEST_S = 0.01, 0.1
"""By the wall clock, so that a wait for a pipe, a disk or a process counts; a blocking look takes seconds."""


def turns_beside_a_look(folder: Path, forecaster: Any) -> list[float]:
    """Seconds of each of the driver's turns among 200 trials of 200 points and more, until a look is over.

    A turn is a result and the choice of the next trial. Half of the trials seem to lose, so that a look is
    fits of 24 trials and one joint fit.
    """
    scheduler = ForecastScheduler(margin=0.02, metric="acc", mode="max", target=400, interval=1)
    scheduler._forecaster = forecaster
    controller = Controller(scheduler, folder)
    trials = [controller.add(f"{i:03}") for i in range(200)]
    steps = np.arange(1.0, 1000.0)
    noise = 0.006 * np.random.default_rng(0).standard_normal((200, steps.size))
    curves = pass_rate(steps, 0.3, 0.6, 2.0, 70.0) - 0.1 * (np.arange(200) % 2)[:, None] + noise
    for trial, curve in zip(trials, curves, strict=True):
        for step in range(1, 201):
            scheduler._trials[trial.trial_id].add(float(step), float(curve[step - 1]))
    took: list[float] = []
    until = time.monotonic() + 120.0
    for step in range(201, 999):
        for trial, curve in zip(trials, curves, strict=True):
            if trial.status != "RUNNING":
                continue
            began = time.perf_counter()
            controller.report(trial, step, float(curve[step - 1]))
            scheduler.choose_trial_to_run(controller)
            took.append(time.perf_counter() - began)
            if scheduler._num_looks > 0:
                return took
            assert time.monotonic() < until, "no look has come to an end"
            time.sleep(0.002)
    raise AssertionError("no look has come to an end")


def test_the_driver_waits_for_no_fit_no_pipe_and_no_disk(tmp_path: Path) -> None:
    """With the process that really fits. Best of three, for a busy machine takes turns of its own."""
    found = []
    for attempt in range(3):
        forecaster = Forecaster()
        try:
            took = turns_beside_a_look(tmp_path / str(attempt), forecaster)
        finally:
            forecaster.close()
        assert len(took) > 100
        found.append((float(np.median(took)), max(took)))
        if found[-1][0] < MEDIAN_S and found[-1][1] < LONGEST_S:
            return
    raise AssertionError(f"(median, longest) turn in seconds: {found}")


def test_those_bounds_would_catch_a_fit_that_blocks(tmp_path: Path) -> None:
    assert max(turns_beside_a_look(tmp_path, InPlace())) > LONGEST_S


def test_a_look_is_at_8_trials_and_24_siblings_among_200(tmp_path: Path) -> None:
    _, told, controller = prepared(tmp_path, target=400, interval=1)
    trials = [controller.add(f"{i:03}") for i in range(200)]
    for step in (1, 2):
        # During the first step one look is under way, so that all are due afterwards.
        told.ready = step == 2
        for trial in trials:
            controller.report(trial, step, step / 400)
    sizes = [(len(job.due), len(job.histories)) for job in told.jobs]
    assert len(sizes) > 100
    assert max(due for due, _ in sizes) == 8
    assert max(fitted for _, fitted in sizes) == 24
