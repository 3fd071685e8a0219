"""JSON, CSV, table and picture of the same fits."""

from __future__ import annotations

import csv
import io
import json
import math
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from scalerl_lab import fit
from scalerl_lab.errors import UserError
from scalerl_lab.report.forecasts import (
    Asked,
    At,
    FittedRun,
    PointFile,
    Question,
    fit_runs,
    fits_csv,
    fits_json,
    fits_table,
    read_points,
    write_plot,
)
from scalerl_lab.report.forecasts.table import folded, shared_prefix
from scalerl_lab.report.words import amount, decimals, level
from tests.report.forecasts.files import two_runs, write
from tests.report.forecasts.test_fitting import Level

QUESTION = Question(method="least_squares", last=2500.0, at=(At(3000.0), At(16000.0)))
PARAMETER = ["median", "lo80", "hi80", "lo95", "hi95"]
BAND = ["compute", "median", "lo50", "hi50", "lo80", "hi80", "lo90", "hi90", "lo95", "hi95"]


@pytest.fixture(autouse=True)
def level_method() -> Iterator[None]:
    """A method whose midpoint is infinite."""
    fit.METHODS["level"] = Level
    yield
    del fit.METHODS["level"]


@pytest.fixture
def file(tmp_path: Path) -> PointFile:
    return read_points(write(tmp_path, two_runs()), Asked())


@pytest.fixture
def fitted(file: PointFile) -> tuple[FittedRun, ...]:
    return fit_runs(file, file.runs, QUESTION)[0]


def shown(file: PointFile, fitted: tuple[FittedRun, ...], question: Question = QUESTION) -> str:
    """The table as a pipe sees it."""
    console = Console(file=io.StringIO(), width=100, highlight=False)
    console.print(fits_table(file, fitted, question))
    out = console.file
    assert isinstance(out, io.StringIO)
    return out.getvalue()


def test_json_has_the_documented_shape(fitted: tuple[FittedRun, ...]) -> None:
    document = fits_json(fitted)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert [run["run"] for run in document] == ["a", "b"]
    for run in document:
        assert list(run) == [
            "run", "status", "shape", "why", "method", "n_points", "bounds", "r0", "asymptote", "efficiency",
            "midpoint", "residual_sd", "predictions", "predictions_mean", "held_out", "compute_to_level",
            "versus",
        ]  # fmt: skip
        assert run["status"] in ("identified", "not_identified", "too_few_points")
        assert (run["method"], run["n_points"], run["bounds"]) == ("least_squares", 12, [0.0, 1.0])
        for name in ("asymptote", "efficiency", "midpoint"):
            assert list(run[name]) == PARAMETER
            ordered = [run[name][key] for key in ("lo95", "lo80", "median", "hi80", "hi95")]
            assert ordered == sorted(ordered)
        for name in ("predictions", "predictions_mean"):
            assert [list(at) for at in run[name]] == [BAND, BAND]
            assert [at["compute"] for at in run[name]] == [3000.0, 16000.0]
            for at in run[name]:
                keys = ("lo95", "lo90", "lo80", "lo50", "median", "hi50", "hi80", "hi90", "hi95")
                ordered = [at[key] for key in keys]
                assert ordered == sorted(ordered)
        # A new point scatters about the curve.
        point, curve = run["predictions"][0], run["predictions_mean"][0]
        assert point["hi90"] - point["lo90"] > curve["hi90"] - curve["lo90"] > 0.0
        assert run["held_out"]["n_points"] == 8
        assert (run["held_out"]["first_compute"], run["held_out"]["last_compute"]) == (2600.0, 4000.0)
    # The truth: ceilings 0.6 and 0.5, and values at 3,000 by the law.
    for run, ceiling in zip(document, (0.6, 0.5), strict=True):
        truth = 0.3 + (ceiling - 0.3) / (1.0 + (900.0 / 3000.0) ** 1.8)
        assert run["predictions"][0]["median"] == pytest.approx(truth, abs=0.01)
        assert run["asymptote"]["lo95"] < ceiling < run["asymptote"]["hi95"]


def test_what_is_not_finite_is_null(file: PointFile) -> None:
    (run, *_), _ = fit_runs(file, file.runs, Question(method="level"))
    (document,) = fits_json([run])
    assert (document["midpoint"], document["efficiency"]) == (None, None)
    nowhere = replace(run, forecasts=(replace(run.forecasts[0], point=None, curve=None),))
    (document,) = fits_json([nowhere])
    assert document["predictions"] == [{"compute": 8000.0, **dict.fromkeys(BAND[1:])}]
    rows = list(csv.DictReader(io.StringIO(fits_csv([nowhere, replace(run, forecasts=())]))))
    assert [(row["compute"], row["median"], row["midpoint_median"]) for row in rows] == [
        ("8000.0", "", ""), ("", "", ""),
    ]  # fmt: skip


def test_csv_has_a_line_per_run_and_forecast_with_the_same_numbers(fitted: tuple[FittedRun, ...]) -> None:
    rows = list(csv.DictReader(io.StringIO(fits_csv(fitted))))
    assert [(row["run"], float(row["compute"])) for row in rows] == [
        ("a", 3000.0), ("a", 16000.0), ("b", 3000.0), ("b", 16000.0),
    ]  # fmt: skip
    document = fits_json(fitted)
    assert float(rows[3]["lo90"]) == document[1]["predictions"][1]["lo90"]
    assert float(rows[3]["mean_lo90"]) == document[1]["predictions_mean"][1]["lo90"]
    assert float(rows[0]["asymptote_hi80"]) == document[0]["asymptote"]["hi80"]
    assert rows[0]["why"] == document[0]["why"]


def test_the_table(file: PointFile, fitted: tuple[FittedRun, ...]) -> None:
    text = shown(file, fitted)
    assert "Columns guessed: run = run_id, compute = gpu_hours, value = pass_rate" in text
    assert "2 runs, 24 points in the fit up to 2,500; method least_squares." in text
    assert max(map(len, text.splitlines())) <= 100
    (line,) = [line for line in text.splitlines() if " 3,000 " in line and " a " in line]
    measured = fitted[0].later.value[np.flatnonzero(fitted[0].later.compute == 3000.0)[0]]
    point = fitted[0].forecasts[0].point
    assert point is not None
    assert f"{point.median:.3f}" in line
    assert f"[{point.low80:.3f}, {point.high80:.3f}]" in line
    assert f"{measured:.3f}" in line
    assert " mean " in text
    assert "Forecast by default" not in text
    assert "Forecast by default: the last point held out, and 2 times" in shown(
        file, fitted, replace(QUESTION, at=())
    )


def test_the_table_says_why_and_takes_names_as_they_are(tmp_path: Path) -> None:
    text = "run,step,reward\n" + "".join(f"[bold]{name}[/x],{k},{k}\n" for name in "ab" for k in (1, 2))
    file = read_points(write(tmp_path, text), Asked())
    fitted, _ = fit_runs(file, file.runs, Question(method="last_value"))
    table = shown(file, fitted, Question(method="last_value"))
    assert "[bold]a[/x]" in table
    assert fitted[0].fit.why in " ".join(table.split())


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["short_a", "short_b"], ""),
        (["a_rather_long_beginning/of_names_a", "a_rather_long_beginning/of_names_b"],
         "a_rather_long_beginning/of_names_"),
        (["a_rather_long_beginning/of_names_a", "x"], ""),
        (["a_rather_long_beginning_of_names_", "a_rather_long_beginning_of_names_b"],
         "a_rather_long_beginning_of_"),
        (["a_name_of_more_than_15_letters"], ""),
    ],
)  # fmt: skip
def test_what_long_names_share_is_said_once(names: list[str], prefix: str) -> None:
    assert shared_prefix(names) == prefix
    assert all(name.removeprefix(prefix) for name in names)


def test_long_names_are_broken_at_words_and_lose_nothing() -> None:
    assert folded("short") == "short"
    assert folded("textcraft_clip-gp6_val") == "textcraft_\nclip-gp6_val"
    assert folded("HalfCheetah-v1_0") == "HalfCheetah-\nv1_0"
    assert folded("InvertedPendulum-v1_0") == "Inverted\nPendulum-v1_0"
    assert folded("a" * 35) == "\n".join(["a" * 12, "a" * 12, "a" * 11])
    assert folded("x_" + "a" * 25).replace("\n", "") == "x_" + "a" * 25


def test_numbers_in_any_unit() -> None:
    assert [amount(v) for v in (16000.0, 842.3, 9.6, 0.42, 0.0042, 3.2e21, 0.0, None)] == [
        "16,000", "842", "9.60", "0.42", "0.0042", "3.2e+21", "0", "–",
    ]  # fmt: skip
    assert [decimals(span) for span in (0.25, 0.9, 1.5, 12.0, 3000.0, 0.004, 0.0)] == [3, 3, 2, 1, 0, 5, 3]
    assert [level(v, d) for v, d in ((0.6104, 3), (-4.217, 2), (12636.2, 0), (2.5e12, 0), (None, 3))] == [
        "0.610", "−4.22", "12,636", "2.5e+12", "–",
    ]  # fmt: skip


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    ("name", "begins"), [("p.png", b"\x89PNG\r\n\x1a\n"), ("p.SVG", b"<?xml"), ("p.pdf", b"%PDF")]
)
def test_pictures_in_three_formats(
    name: str, begins: bytes, tmp_path: Path, file: PointFile, fitted: tuple[FittedRun, ...]
) -> None:
    path = tmp_path / name
    assert write_plot(path, file, fitted) is None
    assert path.read_bytes().startswith(begins)


def test_a_picture_says_what_it_shows(tmp_path: Path, file: PointFile, fitted: tuple[FittedRun, ...]) -> None:
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        write_plot(tmp_path / "p.svg", file, fitted)
    text = (tmp_path / "p.svg").read_text(encoding="utf-8")
    for said in (
        "50 %",
        "80 %",
        "95 %",
        "in the fit",
        "held out",
        "forecast",
        "gpu_hours (log scale)",
        "pass_rate",
    ):
        assert f">{said}<" in text


def test_a_linear_axis_where_points_are_even_and_forecasts_near(tmp_path: Path, file: PointFile) -> None:
    import matplotlib

    near, _ = fit_runs(file, file.runs, replace(QUESTION, last=None, at=(At(4200.0),)))
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        write_plot(tmp_path / "p.svg", file, near)
    text = (tmp_path / "p.svg").read_text(encoding="utf-8")
    assert ">gpu_hours<" in text
    assert "held out" not in text


def test_many_runs_share_a_picture_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalerl_lab.report.forecasts.plot.MOST_PANELS", 5)
    lines = [f"run{r},{k},{0.1 * k}" for r in range(7) for k in range(1, 7)]
    file = read_points(write(tmp_path, "run,step,reward\n" + "\n".join(lines)), Asked())
    fitted, _ = fit_runs(file, file.runs, Question(method="last_value"))
    note = write_plot(tmp_path / "p.png", file, fitted)
    assert note is not None
    assert note.endswith("p.png: the first 5 of 7 runs drawn; choose others with --only")
    # Five panels stand in two rows of three.
    width, height = struct.unpack(">II", (tmp_path / "p.png").read_bytes()[16:24])
    assert (width, height) == (round(4.1 * 3 * 110), round((3.1 * 2 + 0.5) * 110))


@pytest.mark.parametrize(
    "text",
    [
        "run,step,reward\n$a_{,1,0.5\n$a_{,2,0.5\n\\frac,1,3\n",
        "step,reward\n1,5\n",
        "step,reward\n1e-9,1e-12\n2e-9,2e-12\n",
        "step,reward\n1e20,-1e30\n2e20,5e30\n3e20,5e30\n",
        "run,step,reward\n実験,1,0.5\n実験,2,0.5\n",
    ],
)
def test_any_file_can_be_drawn(text: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    file = read_points(write(tmp_path, text), Asked())
    for method in ("last_value", "least_squares"):
        fitted, _ = fit_runs(file, file.runs, Question(method=method))
        write_plot(tmp_path / "p.png", file, fitted)
        for run in fits_json(fitted):
            assert all(math.isfinite(at["median"]) for at in run["predictions"])
        assert shown(file, fitted, Question(method=method))
    assert not recwarn.list


def test_what_cannot_be_drawn(tmp_path: Path, file: PointFile, fitted: tuple[FittedRun, ...]) -> None:
    with pytest.raises(UserError, match=r"the name has to end in \.png, \.svg, \.pdf \(--plot\)"):
        write_plot(tmp_path / "p.jpeg", file, fitted)
    with pytest.raises(UserError, match="cannot write"):
        write_plot(tmp_path / "no" / "p.png", file, fitted)
