"""Imports point one way."""

from __future__ import annotations

import subprocess
import sys
import tomllib

from tests.architecture.source import PACKAGE, ROOMS, ROOT


def lint_imports(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    return subprocess.run(
        [*command, "--no-cache", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_import_contracts_hold() -> None:
    done = lint_imports()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_contract_names_every_room_and_lets_none_slip_in() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = config["tool"]["importlinter"]["contracts"]
    named = [name.strip() for line in contract["layers"] for name in line.split("|")]
    modules = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"}
    assert contract["exhaustive"] is True
    assert sorted(named) == sorted({*ROOMS, *modules})
