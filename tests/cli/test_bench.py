"""``lab bench forecast``: options, files and failures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Lab


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    folder = tmp_path / "curves"
    folder.mkdir()
    hours = np.arange(1, 13)
    for group in ("one", "two"):
        rows = [
            f"r{run},{hour},{0.1 * run + 0.1 * np.log(hour):.6f},s{run % 2}"
            for run in range(4)
            for hour in hours
        ]
        text = "\n".join(["run_id,compute,reward,source", *rows])
        (folder / f"{group}.csv").write_text(text, encoding="utf-8")
    return folder


def test_table_json_and_details(empty: Lab, curves: Path, tmp_path: Path) -> None:
    asked = ("bench", "forecast", str(curves), "--method", "last_value", "--method", "log_linear")
    shown = empty(*asked)
    assert shown.exit_code == 0
    assert re.match(r"Forecasts of curves, \d{4}-\d\d-\d\d\n", shown.stdout)
    assert "all groups (8 curves)" in shown.stdout
    saved, details = tmp_path / "out.json", tmp_path / "out.csv"
    result = empty(*asked, "--json", "--save", str(saved), "--csv", str(details))
    document = json.loads(result.stdout)
    assert document == json.loads(saved.read_text(encoding="utf-8"))
    assert document["methods"] == ["log_linear", "last_value"]
    assert document["cuts"] == [0.25, 0.5, 0.75]
    assert len(details.read_text(encoding="utf-8").splitlines()) == 1 + 8 * 3 * 2
    assert not empty.home.exists()
    # The values are a line in log compute.
    crps = {row["method"]: row["crps"] for row in document["rows"] if row["group"] is row["cut"] is None}
    assert crps["log_linear"] < 0.01 < crps["last_value"]


def test_a_part_of_it(empty: Lab, curves: Path) -> None:
    result = empty(
        *("bench", "forecast", str(curves), "--json", "--method", "last_value"),
        *("--group", "two", "--limit", "1", "--cut", "0.5"),
    )
    document = json.loads(result.stdout)
    assert (document["curves"], document["limit"], document["cuts"]) == (2, 1, [0.5])
    assert [(row["group"], row["cut"]) for row in document["rows"]] == [("two", 0.5)]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--method", "paprika"), "no method 'paprika'"),
        (("--group", "three"), "no group 'three'"),
        (("--method", "last_value", "--save", "/no/such/folder/x.json"), "cannot write"),
    ],
)
def test_what_is_wrong_is_said(empty: Lab, curves: Path, more: tuple[str, ...], said: str) -> None:
    result = empty("bench", "forecast", str(curves), *more)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_no_folder(empty: Lab, tmp_path: Path) -> None:
    result = empty("bench", "forecast", str(tmp_path / "nowhere"))
    assert result.exit_code == 2
    assert "no folder" in result.stderr


@pytest.mark.parametrize("cut", ["0", "1", "1.5"])
def test_a_cut_is_a_share(empty: Lab, curves: Path, cut: str) -> None:
    assert empty("bench", "forecast", str(curves), "--cut", cut).exit_code == 2


def test_every_key_is_documented(empty: Lab, curves: Path) -> None:
    result = empty("bench", "forecast", str(curves), "--json", "--method", "last_value", "--cut", "0.5")
    document = json.loads(result.stdout)
    named = set(re.findall(r"\w+", empty("bench", "forecast", "--help").stdout))
    assert set(document) | set(document["rows"][0]) <= named
