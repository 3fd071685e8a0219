"""Runs against one of them: by joint draws made by hand, by truth that is known, and as the paper does it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scalerl_lab.errors import LabError
from scalerl_lab.fit import LawFit, fit_posterior
from scalerl_lab.fit.paper_compare import ceiling_margin
from scalerl_lab.fit.paper_method import paper_at_ceiling
from scalerl_lab.report.forecasts import Asked, At, FittedRun, Question, fit_runs, fits_json, read_points
from scalerl_lab.report.forecasts.versus import PaperVersus, Versus
from tests.report.forecasts.files import sigmoid, write

SEEDS = {"control:0": 0.600, "control:1": 0.612, "control:2": 0.606, "late": 0.66, "worse": 0.50}
MIDPOINTS = {"late": 2400.0}
SHAPES = {name: (0.3, ceiling, MIDPOINTS.get(name, 900.0), 1.8) for name, ceiling in SEEDS.items()}
Fitted = Callable[[Question], dict[str, FittedRun]]


@pytest.fixture(scope="module")
def rows() -> list[str]:
    """Five runs of 24 points up to 6,000; ``late`` starts slower and ends higher."""
    rng = np.random.default_rng(5)
    lines = []
    at = np.arange(1, 25) * 250.0
    for name, shape in SHAPES.items():
        value = sigmoid(at, *shape) + 0.003 * rng.standard_normal(at.size)
        arm = name.split(":")[0]
        lines += [f"{name},{arm},{c:g},{v:.5f}" for c, v in zip(at, value, strict=True)]
        lines.append(f"{name},{arm},0,0.3")
    return lines


@pytest.fixture
def ask(rows: list[str], tmp_path: Path) -> Fitted:
    """Fits of the file by run."""
    file = read_points(write(tmp_path, "\n".join(["run_id,arm,gpu_hours,pass_rate", *rows])), Asked())

    def fits(question: Question) -> dict[str, FittedRun]:
        fitted, _ = fit_runs(file, file.runs, question)
        return {run.run: run for run in fitted}

    return fits


def test_differences_hold_the_truth(ask: Fitted) -> None:
    question = Question(pool=True, versus="control:0", level=0.45, at=(At(3000.0), At(20_000.0)))
    found = ask(question)
    assert found["control:0"].versus is None
    for name in ("control:1", "late", "worse"):
        against = found[name].versus
        assert isinstance(against, Versus)
        mine, its = SHAPES[name], SHAPES["control:0"]
        ceiling = against.asymptote.difference
        assert ceiling.low95 <= mine[1] - its[1] <= ceiling.high95
        assert ceiling.low95 < ceiling.low80 < ceiling.median < ceiling.high80 < ceiling.high95
        for at in against.at:
            gap = float(sigmoid(np.array([at.compute]), *mine)[0] - sigmoid(np.array([at.compute]), *its)[0])
            assert at.value.difference.low95 - 0.003 <= gap <= at.value.difference.high95 + 0.003
        # C_mid (0.15 / (A - 0.45))^(1 / B) on both sides.
        hours = [s[2] * (0.15 / (s[1] - 0.45)) ** (1.0 / 1.8) for s in (mine, its)]
        assert against.ratio is not None
        assert against.ratio.low95 * 0.97 <= hours[0] / hours[1] <= against.ratio.high95 * 1.03
    # B at a common ceiling, against least squares with the ceiling held there.
    same = found["control:1"].versus
    assert isinstance(same, Versus)
    held = [paper_at_ceiling(found[name].curve, same.ceiling).B for name in ("control:1", "control:0")]
    assert same.efficiency is not None
    assert same.efficiency.difference.median == pytest.approx(float(held[0] - held[1]), abs=0.05)
    assert same.ceiling == pytest.approx(0.606, abs=0.004)
    late, worse = found["late"].versus, found["worse"].versus
    assert isinstance(late, Versus)
    assert isinstance(worse, Versus)
    assert [at.value.probability > 0.9 for at in late.at] == [False, True]
    assert worse.asymptote.probability < 0.01
    assert late.sooner is not None
    assert late.sooner < 0.05
    # The laws cross where 0.36 / (1 + (2400 / C)^1.8) = 0.30 / (1 + (900 / C)^1.8).
    hours = np.linspace(250.0, 40_000.0, 400_000)
    crossing = float(hours[np.argmax(sigmoid(hours, *SHAPES["late"]) > sigmoid(hours, *SHAPES["control:0"]))])
    assert late.crossing.probability > 0.9
    assert late.crossing.compute is not None
    assert late.crossing.compute.low95 <= crossing <= late.crossing.compute.high95
    parts = late.crossing.probability, late.crossing.ahead, late.crossing.behind
    assert sum(parts) == pytest.approx(1.0)
    assert worse.crossing.behind > 0.95


def test_the_compute_to_a_level(ask: Fitted) -> None:
    found = {name: run.to_level for name, run in ask(Question(level=0.45)).items()}
    for name, reach in found.items():
        _, ceiling, midpoint, efficiency = SHAPES[name]
        truth = midpoint * (0.15 / (ceiling - 0.45)) ** (1.0 / efficiency)
        assert reach is not None
        assert reach.level == 0.45
        assert reach.compute.low95 * 0.97 <= truth <= reach.compute.high95 * 1.03
    never = ask(Question(level=0.9))["worse"].to_level
    assert never is not None
    assert math.isinf(never.compute.median)
    document = fits_json([ask(Question(level=0.9))["worse"]])[0]
    assert document["compute_to_level"]["median"] is None
    assert document["versus"] is None


def test_the_papers_way(ask: Fitted) -> None:
    found = ask(Question(method="paper", versus="control:0"))
    ceilings = {name: float(np.median(run.fit.asymptote)) for name, run in found.items()}  # type: ignore[arg-type]
    margin = ceiling_margin([ceilings[f"control:{seed}"] for seed in range(3)]).margin
    for name in ("control:1", "control:2", "late", "worse"):
        against = found[name].versus
        assert isinstance(against, PaperVersus)
        assert (against.margin, against.replicates) == (margin, 3)
        assert against.asymptote == pytest.approx(ceilings[name] - ceilings["control:0"])
        alike = abs(against.asymptote) <= margin + 1e-9
        assert (against.ceiling is not None) == alike
        if alike:
            assert against.ceiling == pytest.approx((ceilings[name] + ceilings["control:0"]) / 2.0)
            assert against.efficiency == pytest.approx(1.8, abs=0.25)
    for name in ("late", "worse"):
        against = found[name].versus
        assert isinstance(against, PaperVersus)
        assert against.efficiency is None


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question(versus="control:0"), "give --pool too"),
        (Question(versus="contrl:0", pool=True), "no run 'contrl:0' (--versus); did you mean 'control:0'?"),
        (Question(versus="late", method="power_law"), "--versus works with --method posterior or paper"),
        (Question(level=0.5, method="paper"), "--level works with --method posterior, not with paper"),
    ],
)
def test_what_cannot_be_compared(question: Question, said: str, ask: Fitted) -> None:
    with pytest.raises(LabError) as caught:
        ask(question)
    assert said in str(caught.value)


def test_the_order_of_rows_changes_no_pooled_fit(rows: list[str], tmp_path: Path) -> None:
    def fits(lines: list[str]) -> list[dict[str, object]]:
        file = read_points(write(tmp_path, "\n".join(["run_id,arm,gpu_hours,pass_rate", *lines])), Asked())
        fitted, _ = fit_runs(file, file.runs[:3] if lines is rows else file.runs[-3:], Question(pool=True))
        return fits_json(fitted)

    names = [f"control:{seed}" for seed in range(3)]
    assert [run["run"] for run in fits(rows)] == names
    assert fits(rows[::-1]) == fits(rows)[::-1]


def test_runs_in_other_units_are_told(rows: list[str], tmp_path: Path) -> None:
    other = [line.split(",") for line in rows if line.startswith("worse")]
    moved = [f"other,other,{float(c) * 1e6:g},{100 * float(v):g}" for _, _, c, v in other]
    file = read_points(write(tmp_path, "\n".join(["run_id,arm,gpu_hours,pass_rate", *rows, *moved])), Asked())
    runs = file.runs[-2:]
    _, notes = fit_runs(file, runs, Question(pool=True))
    assert len(notes) == 2
    assert notes[0].startswith("the computes of other (from 2.5e+08) and of worse (up to 6e+03) do not look")
    assert notes[1].startswith("the values of other")
    assert fit_runs(file, runs, Question())[1] == ()
    assert fit_runs(file, file.runs[:2], Question(pool=True))[1] == ()


def test_a_run_without_a_fit_is_compared_with_nothing(tmp_path: Path) -> None:
    text = "run,step,reward\na,1,0.5\na,2,0.55\na,3,0.6\nb,9,0.6\n"
    file = read_points(write(tmp_path, text), Asked())
    fitted, _ = fit_runs(file, file.runs, Question(pool=True, versus="a", last=5.0))
    assert [run.versus for run in fitted] == [None, None]
    assert isinstance(fitted[0].fit, LawFit)
    assert fit_posterior(fitted[1].curve).draws is None
