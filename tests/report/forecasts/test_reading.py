"""Files are read whatever program wrote them; what cannot be read is named by line and column."""

from __future__ import annotations

import gzip
import io
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from scalerl_lab.errors import DataError, NotFound
from scalerl_lab.report.forecasts import Asked, PointFile, choose, read_points
from tests.report.forecasts.files import write

PLAIN = "run_id,step,reward\na,1,0.1\na,2,0.25\nb,1,0.5\n"


def read(folder: Path, text: str | bytes, name: str = "points.csv", **asked: str) -> PointFile:
    """The points of a file with this text."""
    return read_points(write(folder, text, name), Asked(**asked))


def values(file: PointFile) -> dict[str, list[tuple[float, float]]]:
    """Run -> its points."""
    return {run.name: list(zip(run.compute.tolist(), run.value.tolist(), strict=True)) for run in file.runs}


EXPECTED = {"a": [(1.0, 0.1), (2.0, 0.25)], "b": [(1.0, 0.5)]}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (PLAIN, "points.csv"),
        (PLAIN.replace("\n", "\r\n"), "crlf.csv"),
        (PLAIN.replace("\n", "\r"), "old_mac.csv"),
        (PLAIN.removesuffix("\n"), "no_end.csv"),
        ("\n\n" + PLAIN.replace("\n", "\n\n"), "blank_lines.csv"),
        (PLAIN.replace(",", "\t"), "points.tsv"),
        (PLAIN.replace(",", ";").replace("0.", "0,"), "decimal_comma.csv"),
        (PLAIN.replace(",", " | "), "pipes.txt"),
        (PLAIN.replace(",", "  "), "spaces.txt"),
        (PLAIN.replace(",", ", "), "spaced.csv"),
        ("# " + PLAIN, "hash.csv"),
        ("# made by hand, twice\n#\n" + PLAIN, "commented.csv"),
        (PLAIN.replace("\n", ",\n"), "trailing_commas.csv"),
        ('"run_id","step","reward"\n"a","1","0.1"\n"a","2","0.25"\n"b","1","0.5"\n', "quoted.csv"),
        (b"\xef\xbb\xbf" + PLAIN.encode(), "bom.csv"),
        (PLAIN.encode("utf-16"), "utf16.csv"),
        (gzip.compress(PLAIN.encode(), mtime=0), "points.csv.gz"),
        ("run_id,step,reward\na,2,2.5e-1\nb,1,.5\na,1, 0.10 \n", "unsorted.csv"),
    ],
)
def test_the_same_points_in_many_dialects(text: str | bytes, name: str, tmp_path: Path) -> None:
    file = read(tmp_path, text, name)
    assert {run: sorted(points) for run, points in values(file).items()} == EXPECTED
    assert file.notes == ()


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PLAIN.encode())))
    file = read_points("-", Asked())
    assert (file.source, values(file)) == ("standard input", EXPECTED)


def test_latin_1_and_commas_in_quoted_names(tmp_path: Path) -> None:
    text = 'run_id,step,reward\n"größe, 7B",1,0.5\n'
    assert values(read(tmp_path, text.encode("latin-1"))) == {"größe, 7B": [(1.0, 0.5)]}


def test_runs_stand_in_the_order_of_their_first_rows(tmp_path: Path) -> None:
    file = read(tmp_path, "run,step,reward\nz,1,0.1\na,1,0.2\nz,2,0.3\nm,1,\n")
    assert [run.name for run in file.runs] == ["z", "a", "m"]
    assert [run.lines for run in file.runs] == [(2, 4), (3,), ()]


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    text = 'run,step,reward,note\na,1,0.1,"two\nlines"\n\na,2,0.2,\n'
    assert read(tmp_path, text).runs[0].lines == (3, 5)


def test_rows_without_a_value_are_left_out_and_counted(tmp_path: Path) -> None:
    text = "step,reward\n1,0.1\n2,\n3,NaN\n4,inf\n,\n5,N/A\n6,0.6\n"
    file = read(tmp_path, text)
    assert values(file) == {"points": [(1.0, 0.1), (6.0, 0.6)]}
    (note,) = file.notes
    # The row of commas only is blank.
    assert note == "4 rows without a value in column reward left out (1 empty, 1 nan, 1 inf, 1 n/a)"


def test_points_at_the_same_compute_are_told(tmp_path: Path) -> None:
    (note,) = read(tmp_path, "step,reward\n1,0.1\n1,0.3\n2,0.5\n").notes
    assert note.startswith("1 point at a compute where the run has another: averaged")


def test_a_run_without_any_value_is_told_and_stays(tmp_path: Path) -> None:
    file = read(tmp_path, "run,step,reward\na,1,0.5\na,2,0.6\nb,1,\nb,2,nan\n")
    assert values(file) == {"a": [(1.0, 0.5), (2.0, 0.6)], "b": []}
    assert "1 run without any value: b" in file.notes


def test_standard_errors(tmp_path: Path) -> None:
    file = read(tmp_path, "step,reward,reward_se\n1,0.1,0.02\n2,0.2,\n3,0.3,0\n")
    np.testing.assert_array_equal(file.runs[0].se, [0.02, np.nan, 0.0])
    assert read(tmp_path, "step,reward,reward_se\n1,0.1,0.02\n2,0.2,0.1\n", se="none").runs[0].se is None


def test_arms_go_with_runs(tmp_path: Path) -> None:
    file = read(tmp_path, "arm,seed,step,reward\nx,0,1,0.1\nx,1,1,0.2\ny,0,1,0.3\nx,0,2,0.4\n")
    assert [(run.name, run.arm) for run in file.runs] == [("x:0", "x"), ("x:1", "x"), ("y:0", "y")]


def test_choosing_runs(tmp_path: Path) -> None:
    file = read(tmp_path, "run,step,reward\ntd3_1,1,0.1\ntd3_2,1,0.2\nsac_1,1,0.3\ntd3_*,1,0.4\n")

    def chosen(*only: str) -> list[str]:
        return [run.name for run in choose(file, only)]

    assert chosen() == ["td3_1", "td3_2", "sac_1", "td3_*"]
    assert chosen("sac_1", "td3_1") == ["td3_1", "sac_1"]
    # A run of exactly that name goes before the pattern.
    assert chosen("td3_*") == ["td3_*"]
    assert chosen("td3_?", "sac*") == ["td3_1", "td3_2", "sac_1", "td3_*"]
    with pytest.raises(NotFound, match=r"no run 'sac_2' in .*; did you mean 'sac_1'\? \(--only\)"):
        chosen("sac_2")


def test_a_hundred_thousand_rows_in_a_second(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [f"r{k % 10_000},a{k % 2500},{k // 10_000 + 1},{v:.6f}" for k, v in enumerate(rng.random(100_000))]
    path = write(tmp_path, "run_id,arm,step,reward\n" + "\n".join(rows) + "\n")
    took = []
    # The best of three: beside other work processor time grows, too.
    for _ in range(3):
        began = time.process_time()
        file = read_points(path, Asked())
        took.append(time.process_time() - began)
    assert min(took) < 2.0, took
    assert (len(file.runs), sum(run.value.size for run in file.runs)) == (10_000, 100_000)
    assert (file.runs[2503].name, file.runs[2503].arm) == ("r2503", "a3")


HEAD = "run_id,step,reward,reward_se\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "points.csv is empty"),
        (" \n\n", "points.csv is empty"),
        (HEAD, "points.csv holds a header (run_id, step, reward, reward_se) and no rows"),
        ("a,1,0.5\n", "points.csv holds a header (a, 1, 0.5) and no rows"),
        ("1,0.5\n2,0.6\n", "points.csv, line 1: found 1, 0.5 where the names of columns are expected"),
        (HEAD + "a,1,abc,0.1\na,2,0.5,0.1\n",
         "points.csv, line 2, column reward: found 'abc', a number is expected"),
        (HEAD + "a,1,0.5,0.1\na,2,45%,0.1\n",
         "line 3, column reward: found '45%', a number without a per cent sign is expected"),
        (HEAD + "a,'1,000',0.5,0.1\n".replace("'", '"'),
         "found '1,000', a number from 0 without marks between its thousands is expected"),
        ("# by hand\nstep,reward\n1,0.5\n2,x\n3,0.6\n",
         "line 4, column reward: found 'x', a number is expected"),
        (HEAD + "a,1,0.5,0.1\na,2,1e200,0.1\n",
         "line 3, column reward: found '1e200', a number up to 1e+100 is expected"),
        (HEAD + "a,one,0.5,0.1\na,2,0.5,0.1\n",
         "line 2, column step: found 'one', a number from 0 is expected"),
        (HEAD + "a,-1,0.5,0.1\na,2,0.5,0.1\n",
         "line 2, column step: found '-1', a number from 0 is expected"),
        (HEAD + "a,,0.5,0.1\na,2,0.5,0.1\n",
         "line 2, column step: the cell is empty, a number from 0 is expected"),
        (HEAD + "a,nan,0.5,0.1\na,2,0.5,0.1\n",
         "line 2, column step: found nan, a number from 0 is expected"),
        (HEAD + "a,inf,0.5,0.1\na,2,0.5,0.1\n",
         "line 2, column step: found 'inf', a number from 0 is expected"),
        (HEAD + "a,1,0.5,-0.1\na,2,0.5,0.1\n",
         "line 2, column reward_se: found '-0.1', a number from 0 is expected"),
        (HEAD + "a,1,0.5,x\na,2,0.5,0.1\n",
         "line 2, column reward_se: found 'x', a number from 0 is expected"),
        (HEAD + "a,1,0.5,inf\na,2,0.5,0.1\n",
         "line 2, column reward_se: found 'inf', a number from 0 is expected"),
        (HEAD + ",1,0.5,0.1\na,2,0.5,0.1\n",
         "line 2, column run_id: the cell is empty, the name of a run is expected"),
        (HEAD + "a,1\na,2,0.5,0.1\n", "line 2: 2 cells, the header names 4 columns"),
        (HEAD + "a,1,0.5,0.1,9\na,2,0.5,0.1\n", "line 2: 5 cells, the header names 4 columns"),
        (HEAD + 'a,1,"0.5,0.1\na,2,0.5,0.1\n', "points.csv, line 3: unexpected end of data"),
        (HEAD + "a,1,,\na,2,nan,\n", "points.csv: no row has a value in column reward"),
        (b"PK\x03\x04\x00\x00\x00\x00", "points.csv is no text"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "points.csv is no text"),
        (b"\x1f\x8b\x08\x00broken", "begins like a gzip file and cannot be unpacked"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str | bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)


def test_the_first_few_problems_are_listed(tmp_path: Path) -> None:
    text = (
        "step,reward\n"
        + "".join(f"{k},x\n" for k in range(1, 11))
        + "".join(f"{k},1\n" for k in range(11, 30))
    )
    with pytest.raises(DataError) as caught:
        read(tmp_path, text)
    lines = str(caught.value).splitlines()
    assert [line.split(", ")[1] for line in lines[:-1]] == [f"line {k}" for k in range(2, 7)]
    assert lines[-1] == "and 5 more"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path, PLAIN, "curves.csv")
    with pytest.raises(NotFound, match=r"no file .*curvs\.csv; did you mean .*curves\.csv"):
        read_points(path.replace("curves", "curvs"), Asked())
    with pytest.raises(DataError, match="is a folder; a file with one row per point is expected"):
        read_points(str(tmp_path), Asked())
