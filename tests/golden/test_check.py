"""A golden file that differs fails with the diff and the command that accepts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import check as golden


def test_a_difference_shows_the_diff_and_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "FOLDER", tmp_path)
    monkeypatch.delenv(golden.ACCEPT, raising=False)
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    golden.check("a.txt", "one\ntwo\n", "tests/x.py")
    with pytest.raises(pytest.fail.Exception) as failure:
        golden.check("a.txt", "one\nthree\n", "tests/x.py")
    assert "-two\n+three" in str(failure.value)
    assert str(failure.value).endswith("LAB_ACCEPT_GOLDEN=1 python -m pytest tests/x.py")
    with pytest.raises(pytest.fail.Exception):
        golden.check("missing.txt", "one\n", "tests/x.py")
    monkeypatch.setenv(golden.ACCEPT, "1")
    golden.check("a.txt", "one\nthree\n", "tests/x.py")
    assert (tmp_path / "a.txt").read_text() == "one\nthree\n"
