"""``lab fit``: what it prints, and what it says of files and options that are wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalerl_lab import fit
from scalerl_lab.cli.fit import METHODS, fit_command
from tests.cli.conftest import Lab
from tests.cli.test_commands import _documented
from tests.report.forecasts.files import two_runs, write

GOOD = two_runs()


@pytest.fixture
def points(tmp_path: Path) -> str:
    """A file of two runs."""
    return write(tmp_path, GOOD)


@pytest.mark.parametrize("method", sorted(fit.METHODS))
def test_every_method_prints_a_table_json_csv_and_a_picture(
    method: str, points: str, tmp_path: Path, empty: Lab
) -> None:
    asked = ("fit", points, "--method", method, "--until", "2500", "--at", "4000", "--at", "2x")
    table = empty(*asked)
    assert table.exit_code == 0
    assert table.stderr == ""
    assert "Columns guessed: run = run_id, compute = gpu_hours, value = pass_rate." in table.stdout
    assert max(map(len, table.stdout.splitlines())) <= 100
    document = json.loads(empty(*asked, "--json").stdout)
    assert [(run["run"], run["method"], run["n_points"]) for run in document] == [
        ("a", method, 12), ("b", method, 12),
    ]  # fmt: skip
    first = document[0]
    parts = [first[name] for name in ("asymptote", "efficiency", "midpoint") if first[name] is not None]
    _documented(
        fit_command, first, *parts, first["predictions"][0], first["predictions_mean"][0], first["held_out"]
    )
    for run in document:
        # 4,000 is measured at 0.58 and 0.49, and 2x is twice the last compute in the fit, 2,400.
        assert [at["compute"] for at in run["predictions"]] == [4000.0, 4800.0]
        assert run["predictions"][0]["median"] == pytest.approx(
            0.582 if run["run"] == "a" else 0.488, abs=0.05
        )
    rows = list(csv.DictReader(io.StringIO(empty(*asked, "--csv").stdout)))
    assert [float(row["hi95"]) for row in rows] == [
        at["hi95"] for run in document for at in run["predictions"]
    ]
    picture = tmp_path / "curves.svg"
    drawn = empty(*asked, "--plot", str(picture), "--json")
    assert (json.loads(drawn.stdout), drawn.stderr) == (document, f"Wrote {picture}\n")
    assert picture.read_bytes().startswith(b"<?xml")


def test_pooled_runs_print_the_same_documents(points: str, tmp_path: Path, empty: Lab) -> None:
    asked = ("fit", points, "--pool", "--until", "2500", "--at", "4000")
    table = empty(*asked, "--plot", str(tmp_path / "curves.png"))
    assert (table.exit_code, table.stderr) == (0, "")
    assert "method posterior, pooled." in table.stdout
    pooled = json.loads(empty(*asked, "--json").stdout)
    alone = json.loads(empty("fit", points, *asked[3:], "--json").stdout)
    assert [set(run) for run in pooled] == [set(run) for run in alone]
    for run, measured in zip(pooled, (0.582, 0.488), strict=True):
        assert run["n_points"] == 12
        assert run["predictions"][0]["median"] == pytest.approx(measured, abs=0.02)
    assert pooled != alone


def test_the_methods_are_those_of_the_room() -> None:
    assert sorted(fit.METHODS) == sorted(METHODS)


def test_it_needs_no_home_and_makes_none(points: str, empty: Lab) -> None:
    assert empty("fit", points, "--method", "last_value").exit_code == 0
    assert not empty.home.exists()


def test_standard_input(points: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from scalerl_lab.cli import main; main()",
         "fit", "-", "--method", "last_value", "--json", "--only", "b"],
        input=GOOD.encode(), capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert [run["run"] for run in json.loads(done.stdout)] == ["b"]


def test_what_is_left_out_is_noted_on_stderr(tmp_path: Path, empty: Lab) -> None:
    path = write(tmp_path, "run,step,reward\na,1,0.1\na,2,\na,3,0.3\na,3,0.5\nb,9,0.5\n")
    result = empty("fit", path, "--method", "last_value", "--until", "5", "--json")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "lab: 1 row without a value in column reward left out (1 empty)",
        "lab: 1 point at a compute where the run has another: averaged "
        "(if these are several runs, say which columns tell them apart: --run)",
        "lab: 1 run without a point in the fit: b",
    ]
    document = json.loads(result.stdout)
    assert [(run["run"], run["n_points"]) for run in document] == [("a", 2), ("b", 0)]
    assert document[1]["status"] == "too_few_points"


@pytest.mark.parametrize("method", sorted(fit.METHODS))
@pytest.mark.parametrize(
    "rows",
    [
        "1,0.5",
        "0,0.5",
        "1,0.5/2,0.5",
        "1,0.5/2,0.5/3,0.5/4,0.5/5,0.5/6,0.5/7,0.5",
        "1,0/2,1/3,0/4,1/5,0/6,1/7,0/8,1",
        "1,0.9/2,0.8/3,0.7/4,0.6/5,0.5/6,0.4/7,0.3",
        "1e-12,1e-9/2e-12,2e-9/3e-12,2e-9/4e-12,3e-9/5e-12,3e-9/6e-12,3e-9",
        "1e20,-5e12/2e20,1e12/3e20,3e12/4e20,5e12/5e20,5.5e12/6e20,5.6e12",
        "1,0/1e6,0.2/1e12,0.9/1e13,0.9/1e14,0.9/1e15,0.9",
    ],
)
def test_no_curve_is_too_odd(method: str, rows: str, tmp_path: Path, empty: Lab) -> None:
    """Also where nothing can be said there is a document of finite numbers and nulls."""
    path = write(tmp_path, "step,reward\n" + rows.replace("/", "\n"))
    result = empty("fit", path, "--method", method, "--at", "1", "--at", "1e16", "--json")
    if rows == "0,0.5":
        assert (result.exit_code, result.stdout) == (2, "")
        assert "points at 0 only say where a run starts" in result.stderr
        return
    assert result.exit_code == 0
    (run,) = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert [at["compute"] for at in run["predictions"]] == [1.0, 1e16]
    assert empty("fit", path, "--method", method).exit_code == 0


def test_scale_of_compute_moves_the_midpoint_only(tmp_path: Path, empty: Lab) -> None:
    """Hours, tokens or FLOPs: the same curve, the same forecast."""

    def ask(factor: float) -> dict[str, object]:
        lines = [line.split(",") for line in GOOD.splitlines()[1:]]
        text = "".join(f"{name},{float(c) * factor!r},{v}\n" for name, c, v in lines)
        path = write(tmp_path, "run,compute,reward\n" + text)
        (run,) = json.loads(
            empty("fit", path, "--method", "least_squares", "--at", "2x", "--only", "a", "--json").stdout
        )
        assert isinstance(run, dict)
        return run

    hours, flops = ask(1.0), ask(2.0**70)
    assert hours["asymptote"] == pytest.approx(flops["asymptote"], rel=1e-6)
    assert isinstance(hours["midpoint"], dict)
    assert isinstance(flops["midpoint"], dict)
    assert flops["midpoint"]["median"] == pytest.approx(hours["midpoint"]["median"] * 2.0**70, rel=1e-6)


def test_the_order_of_rows_changes_nothing(points: str, tmp_path: Path, empty: Lab) -> None:
    head, *rows = GOOD.splitlines()
    turned = write(tmp_path, "\n".join([head, *reversed(rows)]), "turned.csv")
    for method in ("posterior", "least_squares", "last_value"):
        asked = ("--method", method, "--until", "2000", "--json")
        document = json.loads(empty("fit", points, *asked).stdout)
        assert json.loads(empty("fit", turned, *asked).stdout) == document[::-1]


WHOLE = b"run,step,reward,reward_se\na,0,0.1,0.01\na,1,0.2,0.01\na,2,0.3,0.02\nb,1,0.4,0.01\nb,2,0.5,0.01\n"


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(
        st.tuples(
            st.integers(0, len(WHOLE)),
            st.integers(0, 6),
            st.one_of(
                st.sampled_from([b",", b"\n", b'"', b"-", b"nan", b"1e999", b";", b"\xff"]),
                st.binary(max_size=4),
            ),
        ),
        max_size=4,
    )
)
def test_no_file_shows_a_traceback(cuts: list[tuple[int, int, bytes]], tmp_path: Path, empty: Lab) -> None:
    text = WHOLE
    for start, length, put in cuts:
        text = text[:start] + put + text[start + length :]
    result = empty("fit", write(tmp_path, text), "--method", "last_value", "--json")
    assert result.exit_code in (0, 2)
    if result.exit_code == 0:
        json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    else:
        assert result.stderr.startswith("lab: ")


def test_columns_named(tmp_path: Path, empty: Lab) -> None:
    path = write(tmp_path, "who,hours,steps,good,bad,sd\nx,1,10,0.5,9,0.1\nx,2,20,0.6,9,0.1\n")
    shown = empty(
        "fit", path, "--run", "who", "--x", "steps", "--y", "good", "--se", "sd", "--method", "last_value"
    )
    assert "Columns: run = who, compute = steps, value = good, standard error = sd." in shown.stdout


HEAD = "run,step,reward,reward_se\n"
ROWS = "a,1,0.1,0.01\na,2,0.2,0.01\na,3,0.3,0.01\n"


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        # The file.
        ("", (), "points.csv is empty; a line with the names of columns and rows of points are needed"),
        (HEAD, (), "points.csv holds a header (run, step, reward, reward_se) and no rows"),
        (ROWS.replace("a,", ""), (), "line 1: found 1, 0.1, 0.01 where the names of columns are expected"),
        (b"PK\x03\x04\x14\x00\x06\x00", (), "is no text (it begins with b'PK"),
        (b"\x1f\x8b\x08\x00", (), "begins like a gzip file and cannot be unpacked"),
        (HEAD + 'a,1,"0.1,0.01\n', (), "line 2: unexpected end of data"),
        # Its rows.
        (HEAD + ROWS + "a,4\n", (), "line 5: 2 cells, the header names 4 columns"),
        (HEAD + ROWS + "a,4,0.4,0.01,7\n", (), "line 5: 5 cells, the header names 4 columns"),
        (HEAD + ROWS + "a,4,oops,0.01\n", (), "line 5, column reward: found 'oops', a number is expected"),
        (HEAD + ROWS + "a,4,0.4.1,0.01\n", (), "line 5, column reward: found '0.4.1', a number is expected"),
        (HEAD + ROWS + "a,4,1e300,0.01\n", (), "found '1e300', a number up to 1e+100 is expected"),
        (HEAD + ROWS + "a,four,0.4,0.01\n", (), "line 5, column step: found 'four', a number from 0"),
        (HEAD + ROWS + "a,-4,0.4,0.01\n", (), "line 5, column step: found '-4', a number from 0"),
        (HEAD + ROWS + "a,,0.4,0.01\n", (), "line 5, column step: the cell is empty, a number from 0"),
        (HEAD + ROWS + "a,inf,0.4,0.01\n", (), "line 5, column step: found 'inf', a number from 0"),
        (HEAD + ROWS + "a,4,0.4,-1\n", (), "line 5, column reward_se: found '-1', a number from 0"),
        (HEAD + ROWS + ",4,0.4,0.01\n", (), "line 5, column run: the cell is empty, the name of a run"),
        (HEAD + "a,1,,\na,2,nan,\n", (), "points.csv: no row has a value in column reward"),
        (HEAD + "a,1,x,\n", (), "line 2, column reward: found 'x', a number is expected"),
        # Its columns.
        ("run,step\na,1\n", (), "looks like the value among run, step; name it: --y COLUMN"),
        ("reward\n0.1\n", (), "looks like compute among reward; name it: --x COLUMN"),
        ("step,reward,accuracy\n1,2,3\n", (), "the value could be any of the columns reward, accuracy"),
        ("step,tokens,reward\n1,2,3\n", (), "compute could be any of the columns step, tokens; say"),
        ("step,loss\n1,2\n", (), "loss: forecasts are of values that rise as a run gets better"),
        ("a,b,c\n1,2,3\n", (), "cannot tell compute and value"),
        (HEAD + ROWS, ("--y", "rewards"), "has no column 'rewards' (--y); there are: run, step,"),
        (HEAD + ROWS, ("--x", "hours"), "has no column 'hours' (--x)"),
        (HEAD + ROWS, ("--run", "seed"), "has no column 'seed' (--run)"),
        (HEAD + ROWS, ("--se", "sem"), "has no column 'sem' (--se)"),
        (HEAD + ROWS, ("--x", "reward", "--y", "reward"), "--x and --y both name the column 'reward'"),
        (HEAD + ROWS, ("--y", "run"), "line 2, column run: found 'a', a number is expected"),
        # What is asked of it.
        (HEAD + ROWS, ("--only", "b"), "no run 'b' in"),
        (HEAD + ROWS, ("--from", "2", "--until", "2"), "--from 2 is not below --until 2"),
        (HEAD + ROWS, ("--from", "9"), "no point to fit from --from 9: column step goes from 1 to 3"),
        (HEAD + ROWS, ("--until", "0.5"), "no point to fit to --until 0.5: column step goes from 1 to 3"),
        (HEAD + ROWS, ("--bounds", "1", "0"), "--bounds 1 0: the first has to be below the second"),
        (HEAD + ROWS, ("--bounds", "0", "0.25"),
         "line 4, column reward: found 0.3, a value within --bounds 0 0.25 is expected"),
        (HEAD + ROWS, ("--bounds", "0", "1", "--unbounded"), "give --bounds or --unbounded, not both"),
        (HEAD + ROWS, ("--bounds", "0", "1", "--r0", "2"), "--r0 2 lies outside --bounds 0 1"),
        (HEAD + ROWS, ("--r0-se", "0.1"), "--r0-se is the standard error of a number given by --r0"),
        (HEAD + ROWS, ("--r0", "first", "--r0-se", "0.1"), "--r0-se is the standard error of a number"),
        (HEAD + ROWS, ("--pool",), "--pool works with --method posterior, not with last_value"),
        (HEAD + ROWS, ("--json", "--csv"), "give --json or --csv, not both"),
        (HEAD + ROWS, ("--plot", "curves.gif"), "the name has to end in .png, .svg, .pdf (--plot)"),
        (HEAD + ROWS, ("--plot", "no/such/folder/curves.png"), "cannot write no/such/folder/curves.png"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_and_exit_code_2(
    text: str | bytes, options: tuple[str, ...], said: str, tmp_path: Path, empty: Lab
) -> None:
    result = empty("fit", write(tmp_path, text), "--method", "last_value", *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output
    if "--plot" not in options:
        assert result.stdout == ""
    assert result.stderr.startswith("lab: ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--at", "soon"), "found 'soon', a compute above 0 or a multiple such as 2x is expected"),
        (("--at", "-3"), "found '-3', a compute above 0 or a multiple such as 2x is expected"),
        (("--at", "infx"), "found 'infx', a compute above 0"),
        (("--from", "early"), "found 'early', a number from 0 is expected"),
        (("--until", "0"), "found '0', a number above 0 is expected"),
        (("--r0", "low"), "found 'low', a number or the word first is expected"),
        (("--bounds", "0", "nan"), "found 'nan', a number is expected"),
        (("--bounds", "0"), "Option '--bounds' requires 2 arguments"),
        (("--method", "oracle"), "'oracle' is not one of 'posterior'"),
    ],
)
def test_options_that_are_no_numbers(options: tuple[str, ...], said: str, points: str, empty: Lab) -> None:
    result = empty("fit", points, *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_a_file_that_is_not_there(points: str, empty: Lab) -> None:
    result = empty("fit", points.replace("points", "point"))
    assert result.exit_code == 2
    assert f"did you mean '{points}'?" in result.stderr


def test_runs_against_one_of_them(points: str, empty: Lab) -> None:
    asked = ("fit", points, "--pool", "--versus", "a", "--level", "0.45", "--at", "8000")
    table = empty(*asked)
    assert table.exit_code == 0
    assert max(map(len, table.stdout.splitlines())) <= 100
    assert "against a" in table.stdout
    assert "compute to 0.45, ratio" in table.stdout
    a, b = json.loads(empty(*asked, "--json").stdout)
    assert a["versus"] is None
    against = b["versus"]
    _documented(fit_command, b, against, b["compute_to_level"], against["crossing"], against["efficiency"])
    # Ceilings of 0.6 and 0.5.
    assert against["asymptote"]["lo95"] - 0.01 <= -0.1 <= against["asymptote"]["hi95"] + 0.01
    assert against["asymptote"]["probability_above"] < 0.01
    assert [at["compute"] for at in against["values"]] == [8000.0]
    # 900 (0.15 / 0.05)^(1 / 1.8) and 900 (0.15 / 0.15)^(1 / 1.8): 3^(1 / 1.8) = 1.841 times as much.
    assert against["compute_to_level_ratio"]["median"] == pytest.approx(1.841, abs=0.15)
    paper = json.loads(empty("fit", points, "--method", "paper", "--versus", "a", "--json").stdout)[1][
        "versus"
    ]
    _documented(fit_command, paper)
    assert (paper["margin"], paper["replicates"], paper["common_asymptote"]) == (0.02, 0, None)
    assert paper["asymptote"] == pytest.approx(-0.1, abs=0.02)


def test_a_column_for_each_run(tmp_path: Path, empty: Lab) -> None:
    rows = [line.split(",") for line in GOOD.splitlines()[1:]]
    a, b = ([value for run, _, value in rows if run == name] for name in "ab")
    computes = [compute for run, compute, _ in rows if run == "a"]
    body = "\n".join(f"{c},{x},{y}" for c, x, y in zip(computes, a, b, strict=True))
    long = json.loads(empty("fit", write(tmp_path, GOOD), "--json").stdout)
    wide = write(tmp_path, f"gpu_hours,a,b\n{body}\n", "wide.csv")
    assert "or, where each is a run: --y a --y b" in empty("fit", wide).stderr
    assert json.loads(empty("fit", wide, "--y", "a", "--y", "b", "--json").stdout) == long
    exported = write(tmp_path, f'"Step","a - eval/pass","b - eval/pass"\n{body}\n', "exported.csv")
    assert json.loads(empty("fit", exported, "--json").stdout) == long


def test_an_arm_without_runs_to_pool_is_refused(points: str, empty: Lab) -> None:
    refused = empty("fit", points, "--arm", "run_id")
    assert refused.exit_code == 2
    assert "that counts with --pool" in refused.stderr


def test_arithmetic_has_one_thread(points: str, empty: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert empty("fit", points, "--method", "last_value").exit_code == 0
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"


@pytest.mark.parametrize("factor", [1e-9, 1e-3, 1.0, 1e3, 1e9])
def test_no_number_and_no_name_is_cut(factor: float, tmp_path: Path, empty: Lab) -> None:
    rows = [line.split(",") for line in GOOD.splitlines()[1:]]
    body = "\n".join(f"{run}_of_a_sweep,{c},{factor * float(v):.9g}" for run, c, v in rows)
    table = empty("fit", write(tmp_path, f"run_id,step,reward\n{body}\n"), "--until", "2000").stdout
    assert "…" not in table
    assert "a_of_a_sweep" in table
    assert max(map(len, table.splitlines())) <= 100
