"""A LAB_HOME with one finished sweep in it, and one that is empty."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scalerl_lab.cli import lab
from scalerl_lab.records import Cause, RunStatus
from scalerl_lab.store import Store
from tests.report.simulate import Truth, simulate
from tests.report.stored import fill


@pytest.fixture(scope="package")
def full_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated sweep on record: one arm killed, all else like the control."""
    home = tmp_path_factory.mktemp("full")
    killed = Truth(A=0.48, until=8000.0, status=RunStatus.KILLED, cause=Cause.CEILING_BELOW)
    store = Store.open(f"sqlite:///{home / 'lab.db'}")
    fill(store, simulate({"dapo_loss": killed}))
    store.close()
    return home


class Lab:
    """Runs the command in a LAB_HOME."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *arguments: str) -> Result:
        """The command's result; nothing but SystemExit may come out of it."""
        result = CliRunner().invoke(
            lab, list(arguments), env={"LAB_HOME": str(self.home), "LAB_DATABASE_URL": ""}
        )
        assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
        return result


@pytest.fixture
def full(full_home: Path) -> Lab:
    """The command where a sweep is on record."""
    return Lab(full_home)


@pytest.fixture
def empty(tmp_path: Path) -> Lab:
    """The command where nothing was ever run."""
    return Lab(tmp_path / "nothing")
