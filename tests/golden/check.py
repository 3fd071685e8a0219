"""Comparing text with a golden file; a difference prints the diff and the command that accepts it."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
ACCEPT = "LAB_ACCEPT_GOLDEN"


def check(name: str, text: str, test_file: str) -> None:
    """Fails unless ``tests/golden/<name>`` holds exactly this text; with LAB_ACCEPT_GOLDEN=1 writes it."""
    path = FOLDER / name
    if os.environ.get(ACCEPT) == "1":
        path.write_text(text, encoding="utf-8")
        return
    known = path.read_text(encoding="utf-8") if path.exists() else ""
    if known != text:
        diff = difflib.unified_diff(known.splitlines(), text.splitlines(), str(path.name), "now", lineterm="")
        pytest.fail(
            "\n".join([*diff, "", f"If this is meant: {ACCEPT}=1 python -m pytest {test_file}"]),
            pytrace=False,
        )
