"""Plans and facts to remember, and the databases to remember them in."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from scalerl_lab.plan import SweepPlan
from scalerl_lab.store import Store
from tests.store import story


def _server_binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server of this session's own; yields its URL without a database name."""
    binaries = _server_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server on this machine; on Debian: apt-get install postgresql")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="lab-postgres-")
    # The server ends with this process, however that ends.
    as_user = ["setpriv", "--pdeathsig", "QUIT"]
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        as_user += ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data = f"{folder}/data"
    initdb = (str(binaries / "initdb"), "-D", data, "-U", "scalerl", "--auth=trust", "-N", "--no-locale")
    subprocess.run([*as_user, *initdb, "-E", "UTF8"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    settings = ("listen_addresses=127.0.0.1", "fsync=off", "synchronous_commit=off")
    options = ("-D", data, "-p", str(port), "-k", folder, *(word for s in settings for word in ("-c", s)))
    with Path(folder, "log").open("wb") as log:
        server = subprocess.Popen(
            [*as_user, str(binaries / "postgres"), *options], stdout=log, stderr=log, cwd=folder
        )
    try:
        ready = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        deadline = time.monotonic() + 60.0
        while subprocess.run(ready, check=False).returncode:
            assert server.poll() is None, Path(folder, "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"postgresql+psycopg://scalerl@127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait(30.0)
        shutil.rmtree(folder)


def new_database(kind: str, folder: Path, request: pytest.FixtureRequest) -> str:
    """The URL of an empty database of a kind."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'lab.db'}"
    server: str = request.getfixturevalue("postgres")
    name = f"lab_{abs(hash(str(folder))):x}"
    admin = create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return f"{server}/{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, of each kind that the store promises."""
    return new_database(request.param, tmp_path, request)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """A store on an empty database."""
    opened = Store.open(url)
    yield opened
    opened.close()


@pytest.fixture
def plan() -> SweepPlan:
    """A control with two seeds and two arms."""
    return story.plan()
