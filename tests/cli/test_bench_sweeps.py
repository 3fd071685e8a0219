"""``lab bench sweeps``, ``published`` and ``speed``: options, documents and failures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from scalerl_lab.cli.bench_sweeps import KINDS
from scalerl_lab.fit import METHODS
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.simulate import SweepKind
from scalerl_lab.report.bench.fitting import FittedTogether, Fitters
from tests.cli.conftest import Lab
from tests.report.drawn import draw_points


def together(curves: Sequence[Curve], arms: Sequence[str]) -> FittedTogether:
    return SimpleNamespace(fits=[METHODS["last_level"](curve) for curve in curves], arms={})


@pytest.fixture
def persistence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits that take no time."""
    monkeypatch.setattr(
        "scalerl_lab.cli.bench_sweeps._fitters", lambda: Fitters(METHODS["last_level"], together)
    )


@pytest.fixture
def points(tmp_path: Path) -> Path:
    return draw_points(tmp_path / "points.csv")


def test_the_kinds_are_those_of_the_simulation() -> None:
    assert tuple(kind.value for kind in SweepKind) == KINDS


@pytest.mark.usefixtures("persistence")
def test_sweeps(empty: Lab, points: Path) -> None:
    asked = ("bench", "sweeps", "--runs", "3", "--pooling-sweeps", "1", "--points", str(points))
    asked = (*asked, "--kind", "compare", "--fraction", "0.5", "--fraction", "1")
    shown = empty(*asked)
    assert shown.exit_code == 0
    assert "compare: pass rate at the budget" in shown.stdout
    assert "published: a run up to 1.5 midpoints, siblings older" in shown.stdout
    document = json.loads(empty(*asked, "--json", "--seed", "5").stdout)
    assert (document["kinds"], document["seed"], document["budget_gpu_hours"]) == (["compare"], 5, 16000.0)
    rows = document["coverage"]
    assert {row["fraction"] for row in rows} == {0.5, 1.0}
    # Five runs, one of which leaves the law.
    assert {row["quantity"]: row["runs"] for row in rows} == {
        "pass_rate_at_budget": 4,
        "pass_rate_at_budget_off_law": 1,
    }
    assert {row["sweep"] for row in document["pooling"]} == {"compare", "published"}
    assert not empty.home.exists()


@pytest.mark.usefixtures("persistence")
def test_what_is_not_wanted_is_left_out(empty: Lab) -> None:
    document = json.loads(
        empty("bench", "sweeps", "--runs", "0", "--pooling-sweeps", "1", "--kind", "misfits", "--json").stdout
    )
    assert document["coverage"] == []
    assert {row["siblings"] for row in document["pooling"]} == {"older", "equally_young"}


def test_published(empty: Lab, points: Path) -> None:
    asked = ("bench", "published", str(points), "--method", "paper", "--share", "0.6", "--from", "1000")
    shown = empty(*asked)
    assert shown.exit_code == 0
    assert "prompt-lvl-adv-norm" in shown.stdout
    document = json.loads(empty(*asked, "--json").stdout)
    assert (document["method"], document["share"], document["fit_start_gpu_hours"]) == ("paper", 0.6, 1000.0)
    control = document["runs"][0]
    # 1,027 to 9,467 of the 32 points.
    assert (control["run"], control["points"], control["score"]["points"]) == ("ScaleRL", 24, 8)
    assert [mean["study"] for mean in document["means"]] == ["leave one out", "forward", "all"]


def test_failures_say_what_is_wrong(empty: Lab, points: Path) -> None:
    unknown = empty("bench", "published", str(points), "--method", "laplace")
    assert unknown.exit_code == 2
    assert "laplace" in unknown.stderr
    points.write_text("figure_key,run,gpu_hours,pass_rate\nfig_adv,x,1000,oops\n", encoding="utf-8")
    malformed = empty("bench", "published", str(points))
    assert malformed.exit_code == 2
    assert "line 2, column pass_rate" in malformed.stderr
    assert empty("bench", "published", "nowhere.csv").exit_code == 2


@pytest.mark.usefixtures("persistence")
def test_speed(empty: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalerl_lab.report.bench.speed.paper_fit_literal", lambda *points: None)
    document = json.loads(empty("bench", "speed", "--quick", "--json").stdout)
    assert document["batch"]["runs"] == 100
    assert [timing["points"] for timing in document["by_points"]] == [10, 30, 100, 300, 1000]
