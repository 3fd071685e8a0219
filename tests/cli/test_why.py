"""``lab why`` and ``lab decisions`` where the terminal is not one of today."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from scalerl_lab.cli import lab


@pytest.mark.parametrize("arguments", [("why", "dapo_loss:0"), ("decisions",)])
@pytest.mark.parametrize("charset", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_gets_plain_signs(
    arguments: tuple[str, ...], charset: str, full_home: Path
) -> None:
    environment = {"LAB_HOME": str(full_home), "LAB_DATABASE_URL": ""}
    plain = CliRunner(charset=charset).invoke(lab, arguments, env=environment)
    assert plain.exception is None
    assert plain.stdout.isascii()
    assert "?" not in plain.stdout
    rich = CliRunner().invoke(lab, arguments, env=environment).stdout
    if arguments[0] == "why":
        assert "difference −0.1" in rich
        assert "difference -0.1" in plain.stdout
        assert "***" in plain.stdout
        assert "***" not in rich
