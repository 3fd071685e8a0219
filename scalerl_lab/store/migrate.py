"""Bring a database to this version's schema, through Alembic and under an exclusive lock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

import scalerl_lab
from scalerl_lab.errors import LockHeld, StoreError
from scalerl_lab.store.database import Database
from scalerl_lab.store.tables import HEAD, VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config

_WAIT_S = 60.0


def scripts() -> Path:
    """The folder of migrations: ``db/`` of a checkout, or its copy inside an installed package."""
    package = Path(scalerl_lab.__file__).parent
    for folder in (package / "shipped" / "db", package.parent / "db"):
        if (folder / "env.py").exists():
            return folder
    raise StoreError(f"the migrations are missing: no {package}/shipped/db and no {package.parent}/db")


def schema_version(database: Database) -> str | None:
    """The schema version of a database; None when the lab has not used it yet.

    Raises:
        StoreError: the database cannot be reached.
    """
    with database.read() as session:
        if not inspect(session.connection()).has_table(VERSION_TABLE):
            return None
        found: str | None = session.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
        return found


@dataclass(frozen=True, slots=True)
class SchemaSeen:
    """What a database holds of the lab."""

    shown: str
    """Its address, without a password."""
    version: str | None
    """Schema; None where the lab has not used it yet."""
    head: str
    """Schema of this version of the lab."""
    known: bool
    """Whether this version of the lab can bring it forward; True for its own."""


def look_at_database(url: str) -> SchemaSeen:
    """Look at a database without changing it; a SQLite file must exist.

    Raises:
        StoreError: the address is wrong, its driver is not installed, or the database cannot be reached.
    """
    database = Database(url)
    try:
        version = schema_version(database)
    finally:
        database.engine.dispose()
    return SchemaSeen(database.shown, version, HEAD, version is None or version in _revisions(_config()))


def migrate(database: Database) -> None:
    """Create the schema, or bring it forward; several processes may ask for it at once.

    Raises:
        StoreError: the database cannot be reached, or a newer version of the lab has been here.
    """
    if schema_version(database) == HEAD:
        return
    try:
        with database.lock("schema", wait_s=_WAIT_S):
            found = schema_version(database)
            if found != HEAD:
                _upgrade(database, found)
    except LockHeld as error:
        raise StoreError(f"another process has been migrating for {_WAIT_S:.0f} s: {error}") from error


def _upgrade(database: Database, found: str | None) -> None:
    from alembic import command

    config = _config()
    if found is not None and found not in _revisions(config):
        raise StoreError(
            f"the database {database.shown} has schema {found}, this version of the lab knows up to {HEAD}; "
            "upgrade scalerl-lab, or give another LAB_DATABASE_URL"
        )
    with database.told():
        if database.is_sqlite:
            _use_write_ahead_log(database)
        with database.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    return config


def _revisions(config: Config) -> set[str]:
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}


def _use_write_ahead_log(database: Database) -> None:
    # Readers and a writer do not wait for each other then. The mode stays with the file; changing it
    # needs the file alone and no transaction, hence here under the lock.
    raw = database.engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA journal_mode = WAL")
    finally:
        raw.close()
