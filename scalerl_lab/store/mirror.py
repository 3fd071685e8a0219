"""The process that tells MLflow what is on record: one experiment per sweep, one run per run.

    python -m scalerl_lab.store.mirror --database URL --mlflow URI --sweep ID [--once | --parent PID]

It reads the outbox, sends, and takes off what was sent. An outage makes it wait and try again; a death
between sending and taking off makes it ask MLflow what it has, so nothing is ever there twice. This is
the only file that imports mlflow.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from scalerl_lab.errors import LabError, StoreError
from scalerl_lab.parent import alive, signal_at_parents_death
from scalerl_lab.records import EvalPoint, PlannedRun
from scalerl_lab.store import facts, mirrored, outbox
from scalerl_lab.store.outbox import Kind, Message
from scalerl_lab.store.statuses import OVER
from scalerl_lab.store.store import Store

OUTAGES = (OSError, SQLAlchemyError, StoreError)
"""What sending raises when MLflow or the lab's database cannot be reached."""
EXIT_BEHIND = 3
"""Exit code when MLflow has not been told everything."""
_BATCH = 400
_MAX_RUNS, _MAX_METRICS, _MAX_PARAMS = 50_000, 1000, 100
_POLL_S = 1.0
_BACK_OFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0)
_LOCK_WAIT_S = 30.0
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Waiting is done here, where a signal ends it.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Mirror:
    """Sends one sweep's outbox to one MLflow."""

    def __init__(self, store: Store, mlflow_uri: str, sweep_id: str, artifacts: Path | None = None) -> None:
        self._store = store
        self._uri = mlflow_uri
        self._plan = store.plan(sweep_id)
        self._runs: dict[str, PlannedRun] = {run.run_id: run for run in self._plan.runs}
        self._artifacts = artifacts
        self._client: Any = None
        self._experiment_id = ""
        self._created_at = next(row.created_at for row in store.sweeps() if row.sweep_id == sweep_id)
        self._mlflow_ids: dict[str, str] = {}
        self._described: set[str] = set()
        self._sent: dict[tuple[str, str], set[tuple[int, int]]] = {}

    def send(self) -> int:
        """Send all that waits; returns how many messages that were.

        Raises:
            OSError, SQLAlchemyError, StoreError: an outage, of MLflow or of the lab's database.
        """
        num_sent = 0
        while True:
            with self._store.database.read() as session:
                batch = outbox.waiting(session, self._plan.sweep_id, _BATCH)
            if not batch:
                return num_sent
            if any(message.run_id not in self._runs for message in batch):
                # A search gets new runs while it runs.
                self._plan = self._store.plan(self._plan.sweep_id)
                self._runs = {run.run_id: run for run in self._plan.runs}
            with self._telling():
                for run_id in dict.fromkeys(message.run_id for message in batch):
                    messages = [message for message in batch if message.run_id == run_id]
                    self._send_run(run_id, messages)
                    with self._store.database.write() as session:
                        outbox.mark_sent(session, [message.outbox_id for message in messages])
            num_sent += len(batch)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Connect where needed; after a failure nothing is taken for known any more."""
        from alembic.util import CommandError
        from mlflow.exceptions import MlflowException

        told = False
        try:
            if self._client is None:
                self._connect()
            yield
            told = True
        except (MlflowException, CommandError) as error:
            raise OSError(f"MLflow at {_shown(self._uri)}: {error}") from error
        finally:
            if not told:
                self._client = None
                self._sent.clear()
                self._described.clear()

    def _connect(self) -> None:
        """Find the experiment and its runs, or create what is missing."""
        with _creation_lock(self._uri):
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri=self._uri)
            name = self._plan.sweep_id
            found = client.get_experiment_by_name(name)
            if found is None:
                location = self._artifact_location()
                self._experiment_id = client.create_experiment(name, artifact_location=location)
            else:
                self._experiment_id = found.experiment_id
                if found.lifecycle_stage == "deleted":
                    client.restore_experiment(found.experiment_id)
        for key, value in mirrored.experiment_tags(self._plan).items():
            client.set_experiment_tag(self._experiment_id, key, value)
        runs = client.search_runs([self._experiment_id], max_results=_MAX_RUNS)
        self._mlflow_ids = {run.data.tags.get("run_id", ""): run.info.run_id for run in runs}
        self._client = client

    def _artifact_location(self) -> str | None:
        if self._artifacts is not None:
            return (self._artifacts.resolve() / self._plan.sweep_id).as_uri()
        if self._uri.startswith("sqlite:///"):
            beside = Path(self._uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts"
            return (beside / self._plan.sweep_id).as_uri()
        return None

    # ------------------------------------------------------------ one run

    def _send_run(self, run_id: str, messages: Sequence[Message]) -> None:
        mlflow_id = self._mlflow_ids.get(run_id) or self._create(self._runs[run_id])
        with self._store.database.read() as session:
            curve = facts.points(session, [run_id]).get(run_id, ())
            beside = facts.measurements(session, [run_id]).get(run_id, ())
            now = mirrored.standing(session, self._plan.sweep_id, run_id)
            fit_ids = [m.ref for m in messages if m.kind is Kind.FIT and m.ref is not None]
            concluded = mirrored.fits(session, fit_ids)
        steps = {message.ref for message in messages if message.kind is Kind.POINT}
        self._send_points(mlflow_id, [point for point in curve if point.step in steps])
        steps = {message.ref for message in messages if message.kind is Kind.MEASUREMENTS}
        named = [
            (mirrored.measurement_key(m), m.step, m.at, mirrored.measurement_metrics(m))
            for m in beside
            if m.step in steps
        ]
        self._send_metrics(mlflow_id, named)
        entries = [
            ("fit_points", mirrored.fit_step(fit, curve), at, mirrored.fit_metrics(fit))
            for at, (fit, _) in concluded
        ]
        self._send_metrics(mlflow_id, entries)
        if concluded:
            self._client.log_text(mlflow_id, mirrored.fit_document(concluded[-1][1]), "fit.json")
        for message in messages:
            if message.kind is Kind.ARTIFACT and message.name is not None and message.data is not None:
                self._send_file(mlflow_id, message.name, message.data)
        if any(message.kind is Kind.RUN for message in messages):
            self._send_standing(mlflow_id, self._runs[run_id], now)

    def _create(self, run: PlannedRun) -> str:
        """A new MLflow run. Its start counts back from the sweep's, so that lists show the plan's order."""
        created: str = self._client.create_run(
            self._experiment_id,
            start_time=int(self._created_at * 1000) - run.order,
            run_name=mirrored.run_name(run),
            tags=mirrored.fixed_tags(self._plan, run),
        ).info.run_id
        self._mlflow_ids[run.run_id] = created
        return created

    def _send_points(self, mlflow_id: str, points: Sequence[EvalPoint]) -> None:
        entries = [("pass_rate", point.step, point.at, mirrored.point_metrics(point)) for point in points]
        self._send_metrics(mlflow_id, entries)

    def _send_metrics(
        self, mlflow_id: str, entries: Sequence[tuple[str, int, float, dict[str, float]]]
    ) -> None:
        """Log entries (key, step, time, metrics) that MLflow lacks; each has the metric that is its key."""
        from mlflow.entities import Metric

        waiting: list[Any] = []
        for key, step, at, metrics in entries:
            timestamp, sent = int(at * 1000), self._sent_of(mlflow_id, key)
            if (step, timestamp) in sent:
                continue
            sent.add((step, timestamp))
            # An entry travels in one piece, so that its key's presence says that all of it is there.
            if len(waiting) + len(metrics) > _MAX_METRICS:
                self._client.log_batch(mlflow_id, metrics=waiting)
                waiting = []
            waiting += [Metric(name, value, timestamp, step) for name, value in metrics.items()]
        if waiting:
            self._client.log_batch(mlflow_id, metrics=waiting)

    def _sent_of(self, mlflow_id: str, key: str) -> set[tuple[int, int]]:
        """Steps and times at which MLflow has a metric."""
        place = (mlflow_id, key)
        if place not in self._sent:
            history = self._client.get_metric_history(mlflow_id, key)
            self._sent[place] = {(metric.step, metric.timestamp) for metric in history}
        return self._sent[place]

    def _send_file(self, mlflow_id: str, name: str, data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            path.write_bytes(data)
            self._client.log_artifact(mlflow_id, str(path))

    def _send_standing(self, mlflow_id: str, run: PlannedRun, now: mirrored.Standing) -> None:
        from mlflow.entities import Param, RunTag

        if mlflow_id not in self._described:
            params = [Param(key, value) for key, value in mirrored.params(run).items()]
            for first in range(0, len(params), _MAX_PARAMS):
                self._client.log_batch(mlflow_id, params=params[first : first + _MAX_PARAMS])
            self._described.add(mlflow_id)
        tags = mirrored.fixed_tags(self._plan, run) | mirrored.standing_tags(now)
        self._client.log_batch(mlflow_id, tags=[RunTag(key, value) for key, value in tags.items()])
        status = mirrored.MLFLOW_STATUS[now.status]
        if now.status in OVER:
            self._client.set_terminated(mlflow_id, status, end_time=int(now.status_at * 1000))
        else:
            self._client.update_run(mlflow_id, status=status)


@contextlib.contextmanager
def _creation_lock(uri: str) -> Iterator[None]:
    """Two processes must not create or migrate MLflow's SQLite database at once."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _shown(uri: str) -> str:
    """An address without its password."""
    parts = urlsplit(uri)
    return uri if parts.password is None else uri.replace(f":{parts.password}@", ":***@")


# ---------------------------------------------------------------- the process


class _Stop:
    """Set by SIGTERM, SIGINT or the parent's death; from then on the process has bounded time left."""

    def __init__(self, parent: int | None, last_try_s: float) -> None:
        self.asked = False
        self._parent = parent
        self._last_try_s = last_try_s
        if parent is not None:
            signal_at_parents_death(signal.SIGTERM)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGALRM, _give_up)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.ask()

    def ask(self) -> None:
        """End after one last try."""
        if not self.asked:
            self.asked = True
            signal.setitimer(signal.ITIMER_REAL, self._last_try_s)

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than there is a reason to live."""
        deadline = time.monotonic() + seconds
        while not self.asked and time.monotonic() < deadline:
            if self._parent is not None and not alive(self._parent):
                self.ask()
            time.sleep(min(0.1, seconds))


def _give_up(_number: int, _frame: FrameType | None) -> None:
    # A call into MLflow cannot be interrupted otherwise; what it was sending is still in the outbox.
    os._exit(EXIT_BEHIND)


def _tell(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} mirror: {text}\n")
    sys.stderr.flush()


def _send_until_stopped(mirror: Mirror, store: Store, sweep_id: str, stop: _Stop) -> None:
    failures = 0
    while not stop.asked:
        try:
            if store.num_unsent(sweep_id):
                mirror.send()
            if failures:
                _tell("reached again")
            failures = 0
            stop.wait(_POLL_S)
        except OUTAGES as error:
            pause = _BACK_OFF_S[min(failures, len(_BACK_OFF_S) - 1)]
            failures += 1
            _tell(f"{_first_line(error)}; trying again in {pause:.0f} s")
            stop.wait(pause)


def _send_once(mirror: Mirror, store: Store, sweep_id: str) -> int:
    try:
        if store.num_unsent(sweep_id):
            mirror.send()
    except OUTAGES as error:
        _tell(_first_line(error))
        return EXIT_BEHIND
    return 0


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scalerl_lab.store.mirror", description="Tell MLflow.")
    parser.add_argument("--database", required=True, help="URL of the lab's database")
    parser.add_argument("--mlflow", required=True, help="MLflow's tracking URI")
    parser.add_argument("--sweep", required=True, help="id of the sweep")
    parser.add_argument("--artifacts", type=Path, help="folder of MLflow's files")
    parser.add_argument("--once", action="store_true", help="send what waits, then end")
    parser.add_argument("--again", action="store_true", help="first queue the whole sweep anew")
    parser.add_argument("--parent", type=int, help="end when this process is gone, after one last try")
    parser.add_argument("--last-try", type=float, default=8.0, help="seconds for that; default 8")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Send until stopped; see the module's docstring.

    Returns:
        0 when MLflow has been told everything, ``EXIT_BEHIND`` otherwise.
    """
    given = _arguments(argv)
    os.environ.update(_ENVIRONMENT)
    stop = _Stop(given.parent, given.last_try)
    try:
        store = Store.open(given.database)
        with store.database.lock(f"mirror.{given.sweep}", wait_s=_LOCK_WAIT_S):
            if given.again:
                store.queue_again(given.sweep)
            mirror = Mirror(store, given.mlflow, given.sweep, given.artifacts)
            if not given.once:
                _send_until_stopped(mirror, store, given.sweep, stop)
            return _send_once(mirror, store, given.sweep)
    except LabError as error:
        _tell(str(error))
        return EXIT_BEHIND


if __name__ == "__main__":
    sys.exit(main())
