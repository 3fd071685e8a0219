"""Methods on a folder of curves: what is read, given, held out, weighed and shown."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from scalerl_lab.errors import DataError, NotFound
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.methods import fit_with
from scalerl_lab.fit.score import score_fit
from scalerl_lab.report.bench.folder import Half, RealCurve, choose_groups, half_of, read_folder, sample
from scalerl_lab.report.bench.forecast_tables import forecast_csv, forecast_json, forecast_tables
from scalerl_lab.report.bench.forecasts import CUTS, cut_at, known_methods, measure_forecasts

METHODS = ("log_linear", "last_value", "last_level")


def write(file: Path, header: str, *rows: str) -> None:
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def points(run: str, values: list[float], source: str = "", start: float = 1.0) -> list[str]:
    tail = f",{source}" if source else ""
    return [f"{run},{start + step},{value}{tail}" for step, value in enumerate(values)]


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    """Two groups with an index, and a file that the index does not name."""
    header = "run_id,compute,reward,source"
    rising = [0.1, 0.3, 0.4, 0.45, 0.5, 0.52, 0.54, 0.55]
    write(
        tmp_path / "easy.csv",
        header,
        *points("a", rising, "left"),
        *points("b", [10.0 * value for value in rising], "right", start=0.0),
        *points("not in the index", rising, "left"),
    )
    write(tmp_path / "hard.csv", header, *points("c", [0.01, 0.02, 0.03, 0.02], "low"))
    write(tmp_path / "map.csv", "run_id,step,tokens", "a,1,17")
    write(
        tmp_path / "index.csv",
        "run_id,group,slug,lo,hi",
        "a,easy,left,0.0,1.0",
        "b,easy,right,,",
        "c,hard,low,0,1",
    )
    return tmp_path


def test_a_folder_with_an_index(indexed: Path) -> None:
    a, b, c = read_folder(indexed)
    assert [(one.group, one.source, one.curve.name) for one in (a, b, c)] == [
        ("easy", "left", "a"),
        ("easy", "right", "b"),
        ("hard", "low", "c"),
    ]
    assert (a.curve.bounds, b.curve.bounds, c.curve.bounds) == ((0.0, 1.0), None, (0.0, 1.0))
    # Bounds 0 and 1; the range of the points; values that span less than a tenth of the bounds.
    assert (a.scale, b.scale, c.scale) == pytest.approx((1.0, 2.5, 0.02))
    # The point at compute 0 is the start.
    assert (b.curve.r0, b.curve.compute.size) == (1.0, 7)
    assert a.curve.r0 is None


def test_a_folder_without_an_index(tmp_path: Path) -> None:
    write(tmp_path / "rates.csv", "run_id,compute,reward", *points("a", [0.1, 0.2, 0.9]))
    write(
        tmp_path / "returns.csv",
        "run,step,return,source",
        *points("d", [-50.0, 300.0, 400.0], "gym"),
        *points("e", [0.2, 0.3, 0.35], "dm"),
    )
    found = {one.curve.name: one for one in read_folder(tmp_path)}
    assert [(one.group, one.source) for one in found.values()] == [
        ("rates", "rates"),
        ("returns", "gym"),
        ("returns", "dm"),
    ]
    assert [one.curve.bounds for one in found.values()] == [(0.0, 1.0), None, (0.0, 1.0)]
    assert found["d"].scale == 450.0


def test_wrong_folders_are_named(tmp_path: Path, indexed: Path) -> None:
    with pytest.raises(NotFound, match="no folder"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="no CSV file"):
        read_folder(tmp_path / "empty")
    with pytest.raises(NotFound, match="no group 'esay'; did you mean 'easy'"):
        choose_groups(read_folder(indexed), ("esay",))
    write(indexed / "index.csv", "run_id,group,lo,hi", "a,easy,zero,1")
    with pytest.raises(DataError, match=r"index.csv, line 2, column lo: found 'zero'"):
        read_folder(indexed)
    write(indexed / "index.csv", "run_id,group,lo,hi", "a,easy,1,0")
    with pytest.raises(DataError, match="bounds of a are not in order"):
        read_folder(indexed)
    write(indexed / "index.csv", "name,group", "a,easy")
    with pytest.raises(DataError, match="no column 'run_id'"):
        read_folder(indexed)


def test_cuts_by_compute() -> None:
    curve = Curve.of("c", [0.0, 1.0, 2.0, 4.0, 8.0], [0.1, 0.2, 0.3, 0.4, 0.5])
    for share, num in ((0.25, 2), (0.5, 3), (0.75, 3)):
        early, late = cut_at(curve, share)
        assert (early.compute.size, late.compute.size) == (num, 4 - num)
        assert early.r0 == 0.1
    # A curve that starts late: one point is given all the same.
    early, late = cut_at(Curve.of("c", [90.0, 95.0, 100.0], [0.1, 0.2, 0.3]), 0.25)
    assert (early.compute.size, late.compute.size) == (1, 2)


def real_curves() -> list[RealCurve]:
    """Two groups; of the first a source of three curves and one of one, all of seeded noise."""
    rng = np.random.default_rng(0)
    hours = np.arange(1.0, 21.0)

    def curve(group: str, source: str, name: str, level: float) -> RealCurve:
        values = np.clip(level + 0.1 * np.log(hours) + rng.normal(0.0, 0.02, 20), 0.0, 1.0)
        return RealCurve(group, source, Curve.of(name, hours, values, bounds=(0.0, 1.0)), 1.0)

    return [
        curve("g", "many", "1", 0.1),
        curve("g", "many", "2", 0.2),
        curve("g", "many", "3", 0.3),
        curve("g", "one", "4", 0.4),
        curve("h", "other", "5", 0.5),
        RealCurve("h", "other", Curve.of("point", [1.0], [0.5], bounds=(0.0, 1.0)), 1.0),
    ]


def test_scores_are_those_of_each_curve_averaged_by_source() -> None:
    curves = real_curves()
    bench = measure_forecasts(curves, METHODS)
    assert (bench.num_curves, len(bench.scored)) == (5, 5 * 3 * 3)

    def crps(one: RealCurve, cut: float) -> float:
        early, late = cut_at(one.curve, cut)
        return score_fit(fit_with("log_linear", early), late, 1.0).crps

    rows = {(row.group, row.cut, row.method): row for row in bench.rows}
    assert len(rows) == 3 * 4 * 3
    for cut in CUTS:
        one, two, three, four, five = (crps(curve, cut) for curve in curves[:5])
        group = ((one + two + three) / 3.0 + four) / 2.0
        assert rows["g", cut, "log_linear"].score.crps == pytest.approx(group)
        assert rows[None, cut, "log_linear"].score.crps == pytest.approx((group + five) / 2.0)
    everything = rows[None, None, "log_linear"].score
    assert everything.crps == pytest.approx(np.mean([rows[None, c, "log_linear"].score.crps for c in CUTS]))
    assert everything.forecasts == 15
    # The ratio is to the best of the others.
    others = [rows["g", 0.5, name].score.crps for name in ("last_value", "last_level")]
    best = rows["g", 0.5, "log_linear"]
    assert best.ratio == pytest.approx(best.score.crps / min(others))


def test_processes_do_not_change_the_numbers() -> None:
    curves = [*real_curves(), *(RealCurve("k", "s", one.curve, 1.0) for one in real_curves())]
    counted: list[tuple[int, int]] = []
    alone = measure_forecasts(curves, ("last_value",), cuts=(0.5,))
    spread = measure_forecasts(
        curves, ("last_value",), cuts=(0.5,), jobs=2, done=lambda done, total: counted.append((done, total))
    )
    assert spread == alone
    assert counted == [(8, 10), (10, 10)]


def test_a_sample_depends_on_names_only() -> None:
    curves = tuple(real_curves())
    first = sample(curves, 2)
    assert [one.source for one in first].count("many") == 2
    assert {one.curve.name for one in sample(curves[::-1], 2)} == {one.curve.name for one in first}
    assert sample(curves, 100) == curves


def test_halves_part_the_tasks() -> None:
    hours, values = [1.0, 2.0], [0.5, 0.6]
    curves = tuple(
        RealCurve("g", "s", Curve.of(f"{task}{seed}", hours, values), 1.0, task)
        for task in ("maze", "chess", "go", "sums")
        for seed in range(3)
    )
    even, odd = half_of(curves, Half.EVEN), half_of(curves, Half.ODD)
    # The first bytes that sha256sum has for gmaze, gchess, ggo and gsums: 75, 3b, cc, aa.
    assert {one.task for one in even} == {"sums", "go"}
    assert {one.task for one in odd} == {"chess", "maze"}
    assert len(even) + len(odd) == 12
    # Without a task a curve stands for itself.
    alone = RealCurve("g", "s", Curve.of("maze", hours, values), 1.0)
    assert bool(half_of((alone,), Half.EVEN)) == ("maze" in {one.task for one in even})


def test_methods_keep_the_order_of_the_table() -> None:
    assert known_methods(("last_value", "paper")) == ("paper", "last_value")
    assert set(METHODS) < set(known_methods(()))
    with pytest.raises(NotFound, match="no method 'papre'; did you mean 'paper'"):
        known_methods(("papre",))


def test_output() -> None:
    bench = measure_forecasts(real_curves(), METHODS, cuts=(0.25, 0.5))
    document = json.loads(json.dumps(forecast_json(bench, date="2026-11-21"), allow_nan=False))
    assert (document["date"], document["methods"], document["curves"]) == ("2026-11-21", list(METHODS), 5)
    assert len(document["rows"]) == 3 * 3 * 3
    first = document["rows"][0]
    assert (first["group"], first["cut"], first["method"]) == ("g", 0.25, "log_linear")
    assert 0.0 <= first["coverage50"] <= first["coverage95"] <= 1.0
    assert first["width50"] < first["width95"]
    lines = list(csv.DictReader(io.StringIO(forecast_csv(bench))))
    assert len(lines) == 5 * 2 * 3
    assert {line["run"] for line in lines} == {"1", "2", "3", "4", "5"}
    text = io.StringIO()
    Console(file=text, width=100).print(forecast_tables(bench))
    shown = text.getvalue()
    assert max(len(line) for line in shown.splitlines()) <= 100
    assert "…" not in shown
    assert "g (4 curves, 2 sources)" in shown
    assert "all groups (5 curves)" in shown
    row = next(row for row in bench.rows if row.group is None and row.cut is None)
    assert f"{row.score.crps:.4f}" in shown
