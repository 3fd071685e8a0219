"""The process that fits: one thread, and no longer alive than its parent."""

from __future__ import annotations

import os

import pytest

from scalerl_lab.launch.analysis import analyst


def threads() -> str | None:
    """What numpy is told when the analyst imports it."""
    return os.environ.get("OPENBLAS_NUM_THREADS")


def test_it_does_its_arithmetic_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with analyst() as process:
        assert process.submit(threads).result(timeout=60) == "1"
    assert "OPENBLAS_NUM_THREADS" not in os.environ
