"""Environment of every test: one thread each, nothing fetched, nothing phoned home."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

for name, value in {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ.setdefault(name, value)

# Examples are the same in every run of the gate, and a busy machine is no failure.
settings.register_profile("gate", deadline=None, derandomize=True, database=None)
settings.load_profile("gate")

_WITH_RAY = ("tests/cli/test_commands.py", "tests/e2e/", "tests/launch/test_launchers.py", "tests/plugins/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests share a process, and so its fixtures; those that start Ray come one after the other."""
    for item in items:
        file = item.nodeid.partition("::")[0]
        group = "ray" if file.startswith(_WITH_RAY) else file
        item.add_marker(pytest.mark.xdist_group(group))
