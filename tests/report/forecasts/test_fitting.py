"""What the fit is given, what it is not, and where it forecasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from scalerl_lab import fit
from scalerl_lab.errors import DataError, NotSupported, UserError
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.prediction import Prediction
from scalerl_lab.records import FitStatus, Shape
from scalerl_lab.report.forecasts import Asked, At, FittedRun, Question, fit_runs, read_points
from tests.report.forecasts.files import write

NUM = 101


@dataclass(frozen=True)
class Level:
    """Forecasts the curve's mean, give or take a quarter evenly, without noise: bands by hand."""

    curve: Curve
    method: str = "level"
    status: FitStatus = FitStatus.IDENTIFIED
    shape: Shape | None = None
    why: str = "By hand."
    r0: float | None = None
    efficiency: Floats | None = None
    residual_sd: float | None = 0.0

    @property
    def level(self) -> Floats:
        return float(self.curve.value.mean()) + np.linspace(-0.25, 0.25, NUM)

    @property
    def asymptote(self) -> Floats | None:
        return self.level if self.curve.compute.size else None

    @property
    def midpoint(self) -> Floats | None:
        return np.full(NUM, np.inf)

    def predict(self, compute: ArrayLike) -> Prediction:
        at = np.asarray(compute, dtype=np.float64)
        mean = np.repeat(self.level[:, None], at.size, axis=1)
        return Prediction(at, mean, np.zeros_like(mean), None)


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    """The method above, by name."""
    fit.METHODS["level"] = Level
    yield
    del fit.METHODS["level"]


TEXT = "step,reward\n0,0.1\n1,0.2\n2,0.3\n3,0.4\n4,0.6\n6,0.8\n"
Ask = Callable[..., FittedRun]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Fits the only run of a file."""

    def one(text: str = TEXT, **question: object) -> FittedRun:
        file = read_points(write(tmp_path, text), Asked())
        asked = Question(**{"method": "level", **question})  # type: ignore[arg-type]
        ((run,), _) = fit_runs(file, file.runs, asked)
        return run

    return one


def points(curve: Curve) -> list[tuple[float, float]]:
    return list(zip(curve.compute.tolist(), curve.value.tolist(), strict=True))


def test_all_points_but_the_start_are_in_the_fit(ask: Ask) -> None:
    run = ask()
    assert points(run.curve) == [(1, 0.2), (2, 0.3), (3, 0.4), (4, 0.6), (6, 0.8)]
    assert (run.curve.r0, run.curve.r0_se, run.curve.bounds) == (0.1, None, (0.0, 1.0))
    assert (points(run.earlier), points(run.later), run.held_out) == ([], [], None)
    assert [at.compute for at in run.forecasts] == [12.0]


def test_the_window_parts_the_points(ask: Ask) -> None:
    run = ask(first=2.0, last=3.0)
    assert points(run.earlier) == [(1, 0.2)]
    assert points(run.curve) == [(2, 0.3), (3, 0.4)]
    assert points(run.later) == [(4, 0.6), (6, 0.8)]
    assert run.curve.r0 == 0.1
    # By default the last point held out, and twice the window's end: here both are 6.
    assert [at.compute for at in run.forecasts] == [6.0]
    assert [at.compute for at in ask(last=2.0).forecasts] == [4.0, 6.0]


def test_bands_and_scores_by_hand(ask: Ask) -> None:
    run = ask(first=2.0, last=3.0, at=(At(8.0),))
    (at,) = run.forecasts
    assert at.point is not None
    assert at.curve is not None
    # The fit has 0.3 and 0.4: a mean of 0.35, and an even spread from 0.10 to 0.60.
    for band in (at.point, at.curve):
        assert band.median == pytest.approx(0.35)
        assert (band.low50, band.high50) == pytest.approx((0.225, 0.475), abs=3e-3)
        assert (band.low80, band.high80) == pytest.approx((0.15, 0.55), abs=3e-3)
        assert (band.low90, band.high90) == pytest.approx((0.125, 0.575), abs=3e-3)
        assert (band.low95, band.high95) == pytest.approx((0.1125, 0.5875), abs=3e-3)
    score = run.held_out
    assert score is not None
    # Held out are 0.6 and 0.8: off by 0.25 and 0.45, in none of the bands.
    assert (score.points, score.mae, score.coverage) == (2, pytest.approx(0.35), (0.0, 0.0, 0.0, 0.0))
    # CRPS of an even spread of width 1/2 beyond its end: distance to the centre minus 1/12.
    assert score.crps == pytest.approx(0.35 - 0.5 / 6.0, abs=2e-3)


def test_points_held_out_change_nothing_but_the_score(ask: Ask) -> None:
    before = ask(last=3.0)
    after = ask(TEXT.replace("4,0.6", "4,70.5").replace("6,0.8", "6,-3"), last=3.0)
    assert after.forecasts == before.forecasts
    assert after.curve.bounds == (0.0, 1.0)
    assert after.held_out != before.held_out


@pytest.mark.parametrize(
    ("question", "start"),
    [
        ({}, (0.1, None)),
        ({"r0": 0.15}, (0.15, 0.0)),
        ({"r0": 0.15, "r0_se": 0.02}, (0.15, 0.02)),
        ({"r0_first": True}, (0.1, None)),
    ],
)
def test_the_start(question: dict[str, object], start: tuple[float, float | None], ask: Ask) -> None:
    run = ask(**question)
    assert (run.curve.r0, run.curve.r0_se) == start
    assert run.curve.compute.size == 5


def test_the_first_point_as_the_start(ask: Ask) -> None:
    run = ask(TEXT.replace("0,0.1\n", ""), r0_first=True, first=2.0)
    assert (run.curve.r0, run.curve.r0_se, run.curve.compute[0]) == (0.2, None, 2.0)
    with_se = ask("step,reward,se\n3,0.4,0.03\n1,0.2,0.01\n2,0.3,0.02\n", r0_first=True)
    assert (with_se.curve.r0, with_se.curve.r0_se) == (0.2, 0.01)
    assert points(with_se.curve) == [(2, 0.3), (3, 0.4)]
    unknown = ask(TEXT.replace("0,0.1\n", ""))
    assert (unknown.curve.r0, unknown.curve.r0_se) == (None, None)


@pytest.mark.parametrize(
    ("values", "question", "bounds"),
    [
        ((0.2, 1.0), {}, (0.0, 1.0)),
        ((0.2, 1.001), {}, None),
        ((-0.1, 0.5), {}, None),
        ((0.2, 0.9), {"unbounded": True}, None),
        ((0.2, 7.0), {"bounds": (-1.0, 9.0)}, (-1.0, 9.0)),
    ],
)
def test_bounds(values: tuple[float, float], question: dict[str, object], bounds: object, ask: Ask) -> None:
    assert ask("step,reward\n1,{}\n2,{}\n".format(*values), **question).curve.bounds == bounds


def test_bounds_are_each_runs_own_unless_they_are_pooled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = read_points(write(tmp_path, "run,step,reward\na,1,0.5\na,2,0.6\nb,1,5\nb,2,6\n"), Asked())
    fitted, _ = fit_runs(file, file.runs, Question(method="level"))
    assert [run.curve.bounds for run in fitted] == [(0.0, 1.0), None]

    @dataclass
    class Pooled:
        fits: tuple[Level, ...]

    given: list[object] = []

    def fit_siblings(curves: list[Curve], arms: list[str] | None = None) -> Pooled:
        given.append(arms)
        return Pooled(tuple(Level(curve, method="pooled") for curve in curves))

    monkeypatch.setattr(fit, "fit_siblings", fit_siblings, raising=False)
    fitted, _ = fit_runs(file, file.runs, Question(pool=True))
    assert [(run.run, run.curve.bounds, run.fit.method) for run in fitted] == [
        ("a", None, "pooled"), ("b", None, "pooled"),
    ]  # fmt: skip
    arms = read_points(write(tmp_path, "arm,seed,step,reward\nx,0,1,1\nx,1,1,2\ny,0,1,3\ny,1,1,3\n"), Asked())
    fit_runs(arms, arms.runs, Question(pool=True))
    assert given == [None, ["x", "x", "y", "y"]]
    with pytest.raises(NotSupported, match="--pool works with --method posterior, not with level"):
        fit_runs(file, file.runs, Question(method="level", pool=True))


@pytest.mark.parametrize(
    ("at", "computes"),
    [
        ((At(8.0), At(2.0), At(8.0)), [8.0, 2.0]),
        ((At(2.0, relative=True), At(12.0), At(0.5, relative=True)), [12.0, 3.0]),
    ],
)
def test_where_it_forecasts(at: tuple[At, ...], computes: list[float], ask: Ask) -> None:
    assert [forecast.compute for forecast in ask(at=at).forecasts] == computes


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"first": 7.0}, "no point to fit from --from 7: column step goes from 0 to 6"),
        ({"last": 0.5}, "no point to fit to --until 0.5: column step goes from 0 to 6"),
        ({"first": 4.5, "last": 5.5}, "no point to fit from --from 4.5 to --until 5.5"),
        (
            {"bounds": (0.0, 0.7)},
            "line 7, column reward: found 0.8, a value within --bounds 0 0.7 is expected",
        ),
        ({"bounds": (0.0, 1.0), "r0": 1.5}, "--r0 1.5 lies outside --bounds 0 1"),
    ],
)
def test_what_cannot_be(question: dict[str, object], said: str, ask: Ask) -> None:
    with pytest.raises(UserError) as caught:
        ask(**question)
    assert said in str(caught.value)


def test_a_run_without_a_point_in_the_window_stays_in_its_place(tmp_path: Path) -> None:
    file = read_points(write(tmp_path, "run,step,reward\na,9,0.5\nb,1,0.5\nb,9,0.6\n"), Asked())
    fitted, notes = fit_runs(file, file.runs, Question(method="last_value", last=5.0))
    assert [(run.run, run.fit.status) for run in fitted] == [
        ("a", FitStatus.TOO_FEW_POINTS), ("b", FitStatus.TOO_FEW_POINTS),
    ]  # fmt: skip
    assert notes == ("1 run without a point in the fit: a",)
    assert points(fitted[0].later) == [(9, 0.5)]
    empty = replace(file.runs[0], compute=np.empty(0), value=np.empty(0), lines=())
    with pytest.raises(DataError, match="no value to fit"):
        fit_runs(file, [empty], Question(method="last_value"))
