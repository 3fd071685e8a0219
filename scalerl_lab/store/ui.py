"""MLflow's pages on what was mirrored; the server is a process group of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import text

from scalerl_lab.errors import LabError, NotFound
from scalerl_lab.parent import signal_at_parents_death
from scalerl_lab.store.charts import charts_url
from scalerl_lab.store.database import Database

_START_S = 90.0
_STOP_S = 10.0
_ENVIRONMENT = {
    # The job runner would start eight more processes.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def ui_command(mlflow_uri: str, artifacts: Path, *, host: str, port: int) -> list[str]:
    """The command that serves MLflow's pages on a database."""
    return [
        *(sys.executable, "-m", "mlflow", "ui"),
        *("--backend-store-uri", mlflow_uri),
        *("--default-artifact-root", artifacts.resolve().as_uri()),
        *("--host", host, "--port", str(port), "--workers", "1"),
    ]


@contextmanager
def ui_server(
    mlflow_uri: str, artifacts: Path, *, host: str = "127.0.0.1", port: int = 5000
) -> Iterator[str]:
    """Run MLflow's server while the block runs; yields its address once it answers.

    Raises:
        NotFound: nothing was mirrored yet.
        LabError: the server does not come up; the message ends with its last words.
    """
    if mlflow_uri.startswith("sqlite:///") and not Path(mlflow_uri.removeprefix("sqlite:///")).exists():
        raise NotFound(f"no MLflow database {mlflow_uri} yet; a sweep makes it: lab sweep run FILE")
    log = artifacts.resolve().parent / "logs" / "ui.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    address = f"http://{host}:{port}"
    with log.open("wb") as output:
        server = subprocess.Popen(
            ui_command(mlflow_uri, artifacts, host=host, port=port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | _ENVIRONMENT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    try:
        _await_health(address, server, log)
        yield address
    finally:
        _end_group(server)


def _end_with_parent() -> None:
    signal_at_parents_death(signal.SIGTERM)


def _await_health(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=2.0) as answer:
            if answer.status == 200 and server.poll() is None:
                return
        time.sleep(0.2)
    last = " | ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:])
    raise LabError(
        f"MLflow's server did not come up at {address}; another --port may help. {log} ends: {last}"
    )


def _end_group(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(_STOP_S)
            break
    # The leader may be gone before its workers are.
    deadline = time.monotonic() + _STOP_S
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(server.pid, 0)
            time.sleep(0.1)
        os.killpg(server.pid, signal.SIGKILL)


def look_at_mlflow(mlflow_uri: str) -> str:
    """What is at a tracking URI, in words and without a password; nothing is started or made.

    Raises:
        LabError: a server or a database does not answer.
    """
    if mlflow_uri.startswith(("http://", "https://")):
        num = len(sweep_pages(mlflow_uri))
        return f"{mlflow_uri} answers, with {num} sweep{'' if num == 1 else 's'} of the lab"
    if mlflow_uri.startswith("sqlite:///") and not Path(mlflow_uri.removeprefix("sqlite:///")).exists():
        return f"none yet at {mlflow_uri.removeprefix('sqlite:///')}; the first sweep makes it"
    if mlflow_uri.startswith("file:") or "://" not in mlflow_uri:
        return f"files at {mlflow_uri}"
    database = Database(mlflow_uri)
    try:
        with database.read() as session:
            session.execute(text("SELECT 1"))
    finally:
        database.engine.dispose()
    return f"{database.shown} answers"


def sweep_pages(address: str) -> list[tuple[str, str]]:
    """(sweep, page) of every sweep that an MLflow server has, newest first.

    Raises:
        LabError: the server does not answer.
    """
    query = json.dumps({"max_results": 1000, "order_by": ["creation_time DESC"]}).encode()
    request = urllib.request.Request(
        f"{address.rstrip('/')}/api/2.0/mlflow/experiments/search",
        data=query,
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30.0) as answer:
            experiments = json.load(answer).get("experiments", [])
    except (OSError, ValueError) as error:
        raise LabError(f"MLflow at {address} does not answer: {error}") from error
    pages = []
    for experiment in experiments:
        tags = {tag["key"]: tag["value"] for tag in experiment.get("tags", [])}
        if "sweep_id" in tags:
            name = f"{tags.get('sweep', '?')} ({tags['sweep_id']})"
            pages.append((name, charts_url(address, experiment["experiment_id"])))
    return pages


def serve_ui(
    mlflow_uri: str,
    artifacts: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 5000,
    open_browser: bool = False,
    say: Callable[[str], object] | None = None,
) -> None:
    """Serve MLflow's pages until interrupted, and say where each sweep's charts are.

    With the address of a server that runs elsewhere, nothing is started.

    Args:
        mlflow_uri: tracking URI: a database, or http(s)://...
        artifacts: folder of MLflow's files.
        host: address to listen on.
        port: port to listen on.
        open_browser: whether to open the newest sweep's page.
        say: takes each line of text; stdout when absent.

    Raises:
        NotFound: nothing was mirrored yet.
        LabError: the server does not come up.
    """
    tell = say or (lambda line: sys.stdout.write(line + "\n") and sys.stdout.flush())
    if mlflow_uri.startswith(("http://", "https://")):
        _tell_pages(mlflow_uri, open_browser, tell)
        return
    # A shell starts what runs in its background deaf to Ctrl-C's signal; a supervisor sends the other one.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt), ui_server(mlflow_uri, artifacts, host=host, port=port) as address:
        _tell_pages(address, open_browser, tell)
        tell("Ctrl-C ends it.")
        signal.pause()


def _tell_pages(address: str, open_browser: bool, tell: Callable[[str], object]) -> None:
    pages = sweep_pages(address)
    tell(f"MLflow: {address}")
    for name, page in pages:
        tell(f"  {name}: {page}")
    if open_browser:
        webbrowser.open(pages[0][1] if pages else address)
