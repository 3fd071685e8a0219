"""``lab tasks``: files of prompts and generators of puzzles."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from scalerl_lab.cli import lab


def test_files_are_counted_by_domain() -> None:
    done = CliRunner().invoke(
        lab, ["tasks", "check", "data/sample_math.jsonl", "data/sample_stem.jsonl", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "files": [
            {"file": "data/sample_math.jsonl", "rows": 12, "domains": {"math": 12}},
            {"file": "data/sample_stem.jsonl", "rows": 10, "domains": {"stem": 10}},
        ]
    }


def test_a_bad_file_is_named_with_its_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "1", "domain": "math", "prompt": "1 + 1?"}\n')
    done = CliRunner().invoke(lab, ["tasks", "check", str(bad)])
    assert done.exit_code == 2
    assert done.stderr == f"lab: {bad}:1: field 'answer' is missing; domain math needs answer\n"


def test_an_audit_as_a_table_and_as_json() -> None:
    done = CliRunner().invoke(lab, ["tasks", "audit", "survo", "rush_hour", "--items", "2"])
    assert done.exit_code == 0, done.output
    words = [line.split()[:3] for line in done.stdout.splitlines()]
    assert ["survo", "ok", "ok"] in words
    assert ["rush_hour", "excluded", "excluded"] in words
    done = CliRunner().invoke(lab, ["tasks", "audit", "survo", "rush_hour", "--items", "2", "--json"])
    rows = json.loads(done.stdout)["generators"]
    assert [(row["generator"], row["verdict"], row["listed"]) for row in rows] == [
        ("survo", "ok", "ok"),
        ("rush_hour", "excluded", "excluded"),
    ]


def test_an_audit_of_no_generator() -> None:
    done = CliRunner().invoke(lab, ["tasks", "audit", "surv"])
    assert done.exit_code == 2
    assert "did you mean 'survo'" in done.stderr
