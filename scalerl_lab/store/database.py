"""The connection: SQLite so that many processes of one host may write at once, or PostgreSQL by URL."""

from __future__ import annotations

import fcntl
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from scalerl_lab.errors import LockHeld, StoreError

_BUSY_S = 60
_CONNECT_S = 10
_READS = "lab_reads"


class Database:
    """An engine with one way to write, one way to read, and locks that die with their holder."""

    def __init__(self, url: str) -> None:
        self.url = _parsed(url)
        self.shown = self.url.render_as_string(hide_password=True)
        if self.is_sqlite:
            Path(str(self.url.database)).expanduser().parent.mkdir(parents=True, exist_ok=True)
            self.engine = create_engine(self.url, connect_args={"timeout": _BUSY_S})
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
            self._reading = self.engine.execution_options(**{_READS: True})
        else:
            self.engine = create_engine(
                self.url, pool_pre_ping=True, connect_args={"connect_timeout": _CONNECT_S}
            )
            # One snapshot for all statements of a reading, as SQLite gives.
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ")

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file on this host."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that commits as a whole; SQLite takes the write lock at its start."""
        with self.told(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent snapshot; never waits for a writer."""
        with self.told(), Session(self._reading, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def told(self) -> Iterator[None]:
        """A failure of the database as a failure that the lab knows, without a password in it."""
        try:
            yield
        except DBAPIError as error:
            raise StoreError(f"the database {self.shown} failed: {_first_line(error.orig)}") from error
        except SQLAlchemyError as error:
            raise StoreError(f"the database {self.shown} failed: {_first_line(error)}") from error

    @contextmanager
    def lock(self, name: str, *, wait_s: float) -> Iterator[None]:
        """Hold a named lock among all processes on this database; a dead holder frees it.

        Raises:
            LockHeld: another process still holds it after ``wait_s``.
        """
        held = self._file_lock(name, wait_s) if self.is_sqlite else self._advisory_lock(name, wait_s)
        with held:
            yield

    @contextmanager
    def _file_lock(self, name: str, wait_s: float) -> Iterator[None]:
        path = Path(f"{self.url.database}.{name}.lock").expanduser()
        with path.open("a") as file:
            for _ in _attempts(wait_s, f"{self.shown} ({name})"):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    continue
            yield

    @contextmanager
    def _advisory_lock(self, name: str, wait_s: float) -> Iterator[None]:
        key = zlib.crc32(f"scalerl_lab.{name}".encode())
        with self.told():
            connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            for _ in _attempts(wait_s, f"{self.shown} ({name})"):
                if connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}):
                    break
            yield
        finally:
            # A session's locks end with the session, so the connection must not go back to the pool.
            connection.invalidate()
            connection.close()


def _attempts(wait_s: float, what: str) -> Iterator[None]:
    deadline = time.monotonic() + wait_s
    while True:
        yield
        if time.monotonic() >= deadline:
            raise LockHeld(f"{what} is held by another process; wait for it to end, or stop it")
        time.sleep(0.05)


def _parsed(text_url: str) -> URL:
    try:
        url = make_url(text_url)
    except ArgumentError:
        raise StoreError(
            "the database URL cannot be read; allowed: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        ) from None
    if url.drivername in {"postgresql", "postgres"}:
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite" and url.database in {None, "", ":memory:"}:
        raise StoreError("a SQLite database in memory cannot be shared; give a file: sqlite:///FILE")
    if url.drivername not in {"sqlite", "postgresql+psycopg"}:
        raise StoreError(
            f"database {url.render_as_string(hide_password=True)} is of an unknown kind; "
            "allowed: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        )
    return url


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver must not open transactions by itself: it would open them as readers, and two readers
    # that both turn writer fail at once, whatever the timeout.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    # With a write-ahead log this survives any death of a process. Power loss may take the last commits,
    # which the runs' files, written through to the disk, and a new fit bring back.
    connection.execute("PRAGMA synchronous = NORMAL")


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
