"""What MLflow is told, that it is told once, and that its outages reach nobody."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scalerl_lab.errors import LabError, NotFound, StoreError
from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import SPEED_FIELDS, Action, RunStatus
from scalerl_lab.store import Store, charts_url, outbox, sweep_pages, ui_command, ui_server
from scalerl_lab.store.mirror import EXIT_BEHIND, Mirror
from tests.store import story
from tests.store.processes import fork

SWEEP = "5feeb0000001"
CONTROL, DAPO = story.run_id("control", 0), story.run_id("dapo", 0)


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database, made once: its migrations take many seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_uri(empty_mlflow: Path, tmp_path: Path) -> str:
    """An empty MLflow of the test's own."""
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def lab(tmp_path: Path, plan: SweepPlan) -> Iterator[Store]:
    """A store with a plan on record."""
    store = Store.open(f"sqlite:///{tmp_path / 'lab.db'}")
    store.record_plan(plan)
    yield store
    store.close()


def seen(mlflow_uri: str) -> dict[str, Any]:
    """MLflow's runs of the sweep by run id; a run that is there twice fails."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mlflow_uri)
    experiment = client.get_experiment_by_name(SWEEP)
    runs = client.search_runs([experiment.experiment_id])
    assert len({run.data.tags["run_id"] for run in runs}) == len(runs)
    return {run.data.tags["run_id"]: run for run in runs}


def history(mlflow_uri: str, mlflow_id: str, key: str) -> list[tuple[int, float]]:
    """(step, value) of a metric in the order in which MLflow gives it."""
    from mlflow import MlflowClient

    told = MlflowClient(tracking_uri=mlflow_uri).get_metric_history(mlflow_id, key)
    return sorted((metric.step, metric.value) for metric in told)


def mirror_command(store: Store, mlflow_uri: str, *more: str) -> list[str]:
    """The command of the mirror's process."""
    where = ["--database", str(store.database.url), "--mlflow", mlflow_uri, "--sweep", SWEEP]
    return [sys.executable, "-m", "scalerl_lab.store.mirror", *where, *more]


def await_(truth: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.1)


def test_a_run_is_told_whole(lab: Store, mlflow_uri: str, tmp_path: Path) -> None:
    lab.ingest(DAPO, 0, story.facts())
    lab.set_status(SWEEP, DAPO, RunStatus.RUNNING)
    lab.record_decision(SWEEP, story.decision(DAPO, Action.KILL), None)
    lab.set_status(SWEEP, DAPO, RunStatus.KILLED)
    lab.record_fit(SWEEP, story.fit(DAPO), story.FORECASTS)
    lab.queue_artifact(SWEEP, DAPO, "fit.png", b"\x89PNG first")
    lab.queue_artifact(SWEEP, DAPO, "fit.png", b"\x89PNG second")
    assert Mirror(lab, mlflow_uri, SWEEP).send() == 4 + 4 + 3 + 1 + 1
    assert lab.num_unsent(SWEEP) == 0
    run = seen(mlflow_uri)[DAPO]
    assert (run.info.run_name, run.info.status) == ("dapo s0", "KILLED")
    assert run.info.end_time >= run.info.start_time
    tags = run.data.tags
    assert tags["arm"] == "dapo"
    assert tags["seed"] == "0"
    assert tags["role"] == "arm"
    assert tags["changed"] == "loss.type: cispo -> ppo_clip; loss.ratio_cap: 5.0 -> -"
    assert tags["code_version"] == "abc1234"
    assert tags["status"] == "killed"
    assert tags["decision"].startswith("kill: ceiling 0.55 lies 0.06 below")
    assert run.data.params["loss.type"] == "ppo_clip"
    assert run.data.params["optimizer.lr"] == "5e-07"
    assert run.data.params["meter.type"] == "flops"
    assert run.data.params["tasks.operations"] == '["+", "-", "*"]'
    mlflow_id = run.info.run_id
    assert history(mlflow_uri, mlflow_id, "pass_rate") == [(0, 0.2), (30, 0.23), (60, 0.26)]
    assert history(mlflow_uri, mlflow_id, "gpu_hours") == [(0, 0.0), (30, 10.0), (60, 20.0)]
    assert history(mlflow_uri, mlflow_id, "log10_gpu_hours") == [(30, 1.0), (60, math.log10(20.0))]
    assert history(mlflow_uri, mlflow_id, "ceiling") == [(60, 0.61)]
    assert history(mlflow_uri, mlflow_id, "midpoint_high95") == [(60, 7.0 / 3 + 0.02)]
    assert "grad_norm" not in run.data.metrics
    for name in SPEED_FIELDS:
        told = history(mlflow_uri, mlflow_id, name)
        assert told == [(step, story.speed(step)[name]) for step in (30, 60)]
    files = tmp_path / "mlartifacts" / SWEEP / mlflow_id / "artifacts"
    assert (files / "fit.png").read_bytes() == b"\x89PNG second"
    assert json.loads((files / "fit.json").read_text())["fit"]["ceiling"]["median"] == 0.61


def test_statuses_agree_on_every_path(lab: Store, mlflow_uri: str) -> None:
    paths = {
        CONTROL: [RunStatus.RUNNING, RunStatus.FINISHED],
        story.run_id("control", 1): [RunStatus.RUNNING, RunStatus.FAILED],
        DAPO: [RunStatus.RUNNING, RunStatus.KILLED],
        story.run_id("token", 0): [],
    }
    mirror = Mirror(lab, mlflow_uri, SWEEP)
    said = {}
    for length in range(3):
        for run_id, path in paths.items():
            if length and length <= len(path):
                lab.set_status(SWEEP, run_id, path[length - 1])
        mirror.send()
        said[length] = [seen(mlflow_uri)[run_id].info.status for run_id in paths]
    assert said[0] == ["SCHEDULED"] * 4
    assert said[1] == ["RUNNING", "RUNNING", "RUNNING", "SCHEDULED"]
    assert said[2] == ["FINISHED", "FAILED", "KILLED", "SCHEDULED"]
    assert [s.status.name for s in lab.run_states(SWEEP)] == ["FINISHED", "FAILED", "KILLED", "PLANNED"]
    lab.set_status(SWEEP, DAPO, RunStatus.RUNNING)
    mirror.send()
    assert seen(mlflow_uri)[DAPO].info.status == "RUNNING"
    lab.set_status(SWEEP, DAPO, RunStatus.FINISHED)
    mirror.send()
    assert seen(mlflow_uri)[DAPO].info.status == "FINISHED"


def test_a_failure_between_sending_and_taking_off_tells_nothing_twice(
    lab: Store, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.ingest(CONTROL, 0, story.facts())
    lab.record_fit(SWEEP, story.fit(CONTROL), story.FORECASTS)

    def fail(*_: object) -> None:
        raise StoreError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "mark_sent", fail)
        first = Mirror(lab, mlflow_uri, SWEEP)
        with pytest.raises(StoreError):
            first.send()
    waiting = lab.num_unsent(SWEEP)
    assert waiting == 4 + 1 + 3 + 1
    from mlflow import MlflowClient

    told: list[Any] = []
    log_batch = MlflowClient.log_batch

    def watch(self: Any, run_id: str, metrics: Any = (), **rest: Any) -> Any:
        told.extend(metrics)
        return log_batch(self, run_id, metrics=metrics, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", watch)
        assert Mirror(lab, mlflow_uri, SWEEP).send() == waiting
        assert told == []
        lab.ingest(CONTROL, len(story.facts()), [story.point(90)])
        assert first.send() == 1
    assert {metric.step for metric in told} == {90}
    mlflow_id = seen(mlflow_uri)[CONTROL].info.run_id
    assert [step for step, _ in history(mlflow_uri, mlflow_id, "pass_rate")] == [0, 30, 60, 90]
    assert history(mlflow_uri, mlflow_id, "ceiling") == [(60, 0.61)]


def test_a_kill_between_sending_and_taking_off_tells_nothing_twice(lab: Store, mlflow_uri: str) -> None:
    lab.ingest(CONTROL, 0, story.facts())

    def send_and_die(_: int) -> None:
        outbox.mark_sent = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        own = Store.open(str(lab.database.url))
        Mirror(own, mlflow_uri, SWEEP).send()

    assert fork(1, send_and_die) == [-signal.SIGKILL]
    assert set(seen(mlflow_uri)) == {CONTROL}
    assert Mirror(lab, mlflow_uri, SWEEP).send() == 4 + 1 + 3
    runs = seen(mlflow_uri)
    assert len(runs) == 4
    told = history(mlflow_uri, runs[CONTROL].info.run_id, "pass_rate")
    assert told == [(0, 0.2), (30, 0.23), (60, 0.26)]


def test_a_lost_mlflow_can_be_told_again(lab: Store, mlflow_uri: str, empty_mlflow: Path) -> None:
    lab.ingest(CONTROL, 0, story.facts())
    lab.queue_artifact(SWEEP, CONTROL, "fit.png", b"\x89PNG")
    Mirror(lab, mlflow_uri, SWEEP).send()
    lab.queue_again(SWEEP)
    other = f"{mlflow_uri}.other"
    shutil.copy(empty_mlflow, other.removeprefix("sqlite:///"))
    assert Mirror(lab, other, SWEEP).send() == 4 + 3 + 1
    assert len(history(other, seen(other)[CONTROL].info.run_id, "pass_rate")) == 3


def test_the_mirror_sends_what_is_left_when_its_parent_is_killed(lab: Store, mlflow_uri: str) -> None:
    command = mirror_command(lab, mlflow_uri)
    script = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([*sys.argv[1:], '--parent', str(os.getpid())])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(120)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, *command], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    mirror = int(parent.stdout.readline())
    await_(lambda: lab.num_unsent(SWEEP) == 0, "the plan in MLflow")
    lab.ingest(CONTROL, 0, story.facts())
    parent.kill()
    parent.communicate()
    await_(lambda: not Path(f"/proc/{mirror}").exists(), "the mirror's end", 20.0)
    assert lab.num_unsent(SWEEP) == 0
    assert len(history(mlflow_uri, seen(mlflow_uri)[CONTROL].info.run_id, "pass_rate")) == 3


def test_an_mlflow_that_never_answers_holds_nobody_up(lab: Store) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        uri = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        mirror = subprocess.Popen(mirror_command(lab, uri, "--last-try", "1"))
        connection, _ = deaf.accept()
        lab.ingest(CONTROL, 0, story.facts())
        began = time.monotonic()
        mirror.terminate()
        assert mirror.wait(20.0) == EXIT_BEHIND
        assert time.monotonic() - began < 6.0
        connection.close()
    assert lab.num_unsent(SWEEP) == 4 + 1 + 3


def test_an_outage_is_waited_out(lab: Store, mlflow_uri: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = f"http://127.0.0.1:{port}"
    log = tmp_path / "mirror.log"
    with log.open("w") as output:
        mirror = subprocess.Popen(mirror_command(lab, server), stderr=output)
    try:
        await_(lambda: "trying again in 2 s" in log.read_text(), "two attempts")
        lab.ingest(CONTROL, 0, story.facts())
        assert mirror.poll() is None
        with ui_server(mlflow_uri, tmp_path / "mlartifacts", port=port) as address:
            await_(lambda: lab.num_unsent(SWEEP) == 0, "the outbox to be empty")
            ((name, page),) = sweep_pages(address)
            assert name == f"loo ({SWEEP})"
            assert page == charts_url(server, seen(mlflow_uri)[CONTROL].info.experiment_id)
            group = subprocess.run(["pgrep", "-f", f"[-]-port {port}"], capture_output=True, check=False)
            assert group.stdout.split()
        left = subprocess.run(["pgrep", "-f", f"[-]-port {port}"], capture_output=True, check=False)
        assert left.stdout == b""
        lab.ingest(CONTROL, len(story.facts()), [story.point(90)])
        time.sleep(1.5)
    finally:
        mirror.terminate()
        assert mirror.wait(30.0) == EXIT_BEHIND
    assert "mirror: reached again" in log.read_text()
    assert Mirror(lab, mlflow_uri, SWEEP).send() == 1
    told = history(mlflow_uri, seen(mlflow_uri)[CONTROL].info.run_id, "pass_rate")
    assert [step for step, _ in told] == [0, 30, 60, 90]


def test_once_with_nothing_to_send_does_not_load_mlflow(lab: Store, mlflow_uri: str) -> None:
    Mirror(lab, mlflow_uri, SWEEP).send()
    script = (
        "import sys; from scalerl_lab.store.mirror import main; "
        "code = main(sys.argv[1:]); sys.exit(50 if 'mlflow' in sys.modules else code)"
    )
    command = [sys.executable, "-c", script, *mirror_command(lab, mlflow_uri, "--once")[3:]]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0


def test_the_charts_page_is_described_in_the_experiment(lab: Store, mlflow_uri: str) -> None:
    from mlflow import MlflowClient

    Mirror(lab, mlflow_uri, SWEEP).send()
    tags = MlflowClient(tracking_uri=mlflow_uri).get_experiment_by_name(SWEEP).tags
    view = json.loads(tags["mlflow.sharedViewState.scalerl"])
    first = view["compareRunCharts"][0]
    assert (first["type"], first["metricKey"], first["selectedXAxisMetricKey"]) == (
        "LINE",
        "pass_rate",
        "gpu_hours",
    )
    sections = {section["uuid"] for section in view["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in view["compareRunCharts"]} == sections
    assert tags["sweep"] == "loo"
    colours = {run.data.tags["arm"]: run.data.tags["mlflow.runColor"] for run in seen(mlflow_uri).values()}
    assert len(set(colours.values())) == 3


def test_pages_need_something_mirrored(tmp_path: Path) -> None:
    nothing = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with pytest.raises(NotFound, match="lab sweep run"), ui_server(nothing, tmp_path / "mlartifacts"):
        pass
    with pytest.raises(LabError, match="does not answer"):
        sweep_pages("http://127.0.0.1:1")
    assert "mlflow" in ui_command(nothing, tmp_path, host="h", port=1)
    assert os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
