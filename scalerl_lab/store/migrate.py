"""Bring a database to this version's schema, through Alembic and under an exclusive lock."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import inspect, text

import scalerl_lab
from scalerl_lab.errors import LockHeld, StoreError
from scalerl_lab.store.database import Database
from scalerl_lab.store.tables import HEAD, VERSION_TABLE

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
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
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


def _use_write_ahead_log(database: Database) -> None:
    # Readers and a writer do not wait for each other then. The mode stays with the file; changing it
    # needs the file alone and no transaction, hence here under the lock.
    raw = database.engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA journal_mode = WAL")
    finally:
        raw.close()
