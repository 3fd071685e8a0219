"""The measures of forecasts, on stand-in fits whose calibration and gain are known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike
from rich.console import Console, RenderableType
from scipy.stats import norm

from scalerl_lab.errors import DataError
from scalerl_lab.fit import paper_fit
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.methods import METHODS
from scalerl_lab.fit.prediction import CurveFit, Prediction
from scalerl_lab.fit.published import FIT_START_GPU_HOURS, FORWARD, LEAVE_ONE_OUT
from scalerl_lab.fit.score import BANDS
from scalerl_lab.fit.simulate import SweepKind, Truth
from scalerl_lab.records import FitStatus, Shape
from scalerl_lab.report.bench.coverage import (
    NINETY,
    CoverageRow,
    Judged,
    Pooling,
    Quantity,
    coverage_rows,
    judge_sweep,
    measure_coverage,
)
from scalerl_lab.report.bench.digitised import (
    PublishedCurve,
    leave_one_out_curves,
    merge_points,
)
from scalerl_lab.report.bench.fitting import Fitters, SweepTask, for_each
from scalerl_lab.report.bench.passes import time_pass
from scalerl_lab.report.bench.pooling import (
    YOUNG,
    Member,
    Siblings,
    gains_of,
    measure_pooling,
    measure_published_pooling,
    worst,
)
from scalerl_lab.report.bench.published import half_budget_means, measure_half_budget
from scalerl_lab.report.bench.speed import Timing, growth, measure_speed
from scalerl_lab.report.bench.tables import (
    coverage_tables,
    gain_tables,
    half_budget_json,
    half_budget_tables,
    speed_json,
    speed_tables,
    sweeps_json,
)
from tests.fit.curves import GOLDEN_HOURS, GOLDEN_RATES
from tests.report.drawn import draw_points

NUM_DRAWS = 400
EVEN: Floats = norm.ppf((np.arange(NUM_DRAWS) + 0.5) / NUM_DRAWS)
BUDGET = 16_000.0


@dataclass(frozen=True)
class Known:
    """A fit with the draws it was given; the curve is flat at its draws."""

    curve: Curve
    asymptote: Floats | None
    level: Floats
    method: str = "stand-in"
    status: FitStatus = FitStatus.IDENTIFIED
    shape: Shape | None = None
    why: str = ""
    r0: float | None = None
    efficiency: Floats | None = None
    midpoint: Floats | None = None
    residual_sd: float | None = None

    def predict(self, compute: ArrayLike) -> Prediction:
        asked = np.atleast_1d(np.asarray(compute, dtype=np.float64))
        mean = np.repeat(self.level[:, None], asked.size, axis=1)
        return Prediction(asked, mean, np.full_like(mean, 1e-6), None)


@dataclass(frozen=True)
class KnownArm:
    A: Floats


@dataclass(frozen=True)
class Together:
    fits: Sequence[CurveFit]
    arms: Mapping[str, KnownArm] = field(default_factory=dict)


def nobody(curves: Sequence[Curve], arms: Sequence[str]) -> Together:
    """Siblings that say nothing of the ceiling."""
    return Together([Known(curve, None, np.zeros(NUM_DRAWS)) for curve in curves])


def apart(curves: Sequence[Curve], arms: Sequence[str]) -> Together:
    """Siblings that are not pooled."""
    return Together([last_level(curve) for curve in curves])


def last_level(curve: Curve) -> CurveFit:
    return METHODS["last_level"](curve)


APART = Fitters(last_level, apart)


def oracle(task: SweepTask, sd: float, claimed: float) -> Fitters:
    """Fits that miss the truth by ``sd`` and claim to miss it by ``claimed``.

    Fitted together, all ceilings of a cut are off by the same amount and their draws move together;
    arms are off one by one.
    """
    runs = task.sweep().runs
    truths = {run.curve.name: run.truth for run in runs}
    ceilings = {run.arm.name: run.arm.truth.A for run in runs}
    rng = np.random.default_rng(task.number)

    def fit(curve: Curve, off: float) -> CurveFit:
        truth: Truth = truths[curve.name]
        at_budget = float(truth.mean(BUDGET))
        level = at_budget + sd * float(rng.standard_normal()) + claimed * EVEN
        return Known(curve, truth.A + off + claimed * EVEN, level)

    def together(curves: Sequence[Curve], arms: Sequence[str]) -> Together:
        off = sd * float(rng.standard_normal())
        shuffled = {arm: A + sd * float(rng.standard_normal()) for arm, A in ceilings.items()}
        known = {arm: KnownArm(A + claimed * rng.permutation(EVEN)) for arm, A in shuffled.items()}
        return Together([fit(curve, off) for curve in curves], known)

    return Fitters(lambda curve: fit(curve, sd * float(rng.standard_normal())), together)


def judged(sd: float, claimed: float, sweeps: int = 60) -> dict[tuple[Pooling, Quantity], CoverageRow]:
    tasks = [SweepTask(SweepKind.LEAVE_ONE_OUT, 0, number, BUDGET) for number in range(sweeps)]
    found = [one for task in tasks for one in judge_sweep(task, oracle(task, sd, claimed), (0.5,))]
    rows = coverage_rows(SweepKind.LEAVE_ONE_OUT, found)
    return {(row.pooling, row.quantity): row for row in rows}


@pytest.fixture(scope="module")
def calibrated() -> dict[tuple[Pooling, Quantity], CoverageRow]:
    return judged(sd=0.01, claimed=0.01)


def test_calibrated_fits_cover_as_they_claim(
    calibrated: dict[tuple[Pooling, Quantity], CoverageRow],
) -> None:
    for quantity, runs in ((Quantity.CEILING, 660), (Quantity.AT_BUDGET, 660), (Quantity.DIFFERENCE, 480)):
        row = calibrated[Pooling.ALONE, quantity]
        assert (row.runs, row.absent) == (runs, 0)
        np.testing.assert_allclose(row.coverage, BANDS, atol=0.055)
    ceiling = calibrated[Pooling.ALONE, Quantity.CEILING]
    # 2 x 1.645 x 0.01.
    assert ceiling.width[NINETY] == pytest.approx(0.0329, rel=0.01)
    assert ceiling.mean_absolute_error == pytest.approx(0.01 * math.sqrt(2.0 / math.pi), rel=0.08)
    assert ceiling.bias == pytest.approx(0.0, abs=0.0015)


def test_draws_of_runs_fitted_alone_are_independent(
    calibrated: dict[tuple[Pooling, Quantity], CoverageRow],
) -> None:
    # Variance of a run and of the mean of three seeds.
    width = 2.0 * 1.645 * 0.01 * math.sqrt(1.0 + 1.0 / 3.0)
    alone = calibrated[Pooling.ALONE, Quantity.DIFFERENCE]
    assert alone.width[NINETY] == pytest.approx(width, rel=0.05)


def test_draws_of_siblings_are_joint(calibrated: dict[tuple[Pooling, Quantity], CoverageRow]) -> None:
    # What is common to all runs of a draw is no part of a difference.
    pooled = calibrated[Pooling.POOLED, Quantity.DIFFERENCE]
    assert pooled.width[NINETY] == pytest.approx(0.0, abs=1e-12)
    assert pooled.mean_absolute_error == pytest.approx(0.0, abs=1e-12)
    assert calibrated[Pooling.POOLED, Quantity.CEILING].width[NINETY] == pytest.approx(0.0329, rel=0.01)


def test_arms_are_judged_by_what_they_are_over_seeds(
    calibrated: dict[tuple[Pooling, Quantity], CoverageRow],
) -> None:
    row = calibrated[Pooling.POOLED, Quantity.ARM_DIFFERENCE]
    assert row.runs == 480
    assert (Pooling.ALONE, Quantity.ARM_DIFFERENCE) not in calibrated
    assert row.width[NINETY] == pytest.approx(2.0 * 1.645 * 0.01 * math.sqrt(2.0), rel=0.05)
    # Arms of a sweep share the control's error: fewer independent errors than rows.
    np.testing.assert_allclose(row.coverage, BANDS, atol=0.09)


def test_the_error_of_a_coverage_counts_sweeps(
    calibrated: dict[tuple[Pooling, Quantity], CoverageRow],
) -> None:
    # Alone, runs err one by one: sqrt(0.9 x 0.1 / 660). Together, a sweep errs as one: sqrt(0.09 / 60).
    assert calibrated[Pooling.ALONE, Quantity.CEILING].coverage90_se == pytest.approx(0.0117, rel=0.35)
    assert calibrated[Pooling.POOLED, Quantity.CEILING].coverage90_se == pytest.approx(0.0387, rel=0.35)


def test_overconfident_fits_are_found_out() -> None:
    row = judged(sd=0.02, claimed=0.01, sweeps=20)[Pooling.ALONE, Quantity.CEILING]
    # P(|z| < 1.645 / 2) = 0.589.
    assert row.coverage[NINETY] == pytest.approx(0.589, abs=0.08)
    assert abs(row.worst_arm_coverage90 - 0.9) >= abs(row.coverage[NINETY] - 0.9)


def test_fits_without_a_ceiling_are_absent_not_wrong() -> None:
    task = SweepTask(SweepKind.LEAVE_ONE_OUT, 0, 0, BUDGET)
    known = oracle(task, 0.01, 0.01)
    mute = "LOO-dapo:0"

    def alone(curve: Curve) -> CurveFit:
        return Known(curve, None, np.zeros(NUM_DRAWS)) if curve.name == mute else known.alone(curve)

    rows = coverage_rows(task.kind, judge_sweep(task, Fitters(alone, nobody), (0.5,)))
    by = {(row.pooling, row.quantity): row for row in rows}
    assert by[Pooling.ALONE, Quantity.CEILING].absent == 1
    assert by[Pooling.ALONE, Quantity.DIFFERENCE].absent == 1
    assert by[Pooling.ALONE, Quantity.AT_BUDGET].absent == 0
    # Nothing told of by any run is no row.
    assert (Pooling.POOLED, Quantity.CEILING) not in by
    assert by[Pooling.POOLED, Quantity.AT_BUDGET].coverage == (0.0, 0.0, 0.0, 0.0)


def test_runs_off_the_law_have_no_ceiling_to_cover() -> None:
    task = SweepTask(SweepKind.MISFITS, 0, 0, BUDGET)
    found = judge_sweep(task, APART, (0.5,))
    arms = {quantity: {one.arm for one in found if one.quantity is quantity} for quantity in Quantity}
    assert arms[Quantity.CEILING] == {"ScaleRL"}
    assert arms[Quantity.DIFFERENCE] == set()
    assert arms[Quantity.AT_BUDGET_OFF_LAW] == {"collapsing", "late_blooming", "two_phase", "linear", "flat"}


def test_fits_are_given_the_points_of_their_window() -> None:
    seen: list[Curve] = []

    def alone(curve: Curve) -> CurveFit:
        seen.append(curve)
        return last_level(curve)

    task = SweepTask(SweepKind.LEAVE_ONE_OUT, 0, 0, BUDGET)
    judge_sweep(task, Fitters(alone, apart), (0.2, 1.0))
    first, last = seen[0], seen[11]
    # 257 x 6 = 1,542 and 257 x 12 = 3,084; 257 x 62 = 15,934.
    assert (first.compute[0], first.compute[-1], first.compute.size) == (1542.0, 3084.0, 7)
    assert (last.compute[0], last.compute[-1]) == (1542.0, 15_934.0)
    assert first.r0 is not None
    assert first.r0_se == 0.0027


def test_coverage_rests_on_as_many_runs_as_asked() -> None:
    def alone(curve: Curve) -> CurveFit:
        return Known(curve, curve.value[-1] + 0.01 * EVEN, 0.5 + 0.1 * EVEN)

    fitters = Fitters(alone, lambda curves, arms: Together([alone(curve) for curve in curves]))
    rows = measure_coverage(
        SweepKind.LEAVE_ONE_OUT, fitters, runs=17, budget_gpu_hours=BUDGET, fractions=(1.0,)
    )
    difference = [row for row in rows if row.quantity is Quantity.DIFFERENCE]
    # Eight arms a sweep besides the control: three sweeps.
    assert [row.runs for row in difference] == [24, 24]


def test_processes_change_nothing() -> None:
    measure = partial(
        measure_coverage, SweepKind.COMPARE, APART, runs=8, budget_gpu_hours=BUDGET, fractions=(0.5,)
    )
    assert measure(jobs=1) == measure(jobs=2)
    assert measure(seed=1) != measure(seed=2)


def test_results_come_in_the_order_of_tasks() -> None:
    told: list[int] = []
    assert for_each(abs, [-3, -1, -2], 1, told.append) == [3, 1, 2]
    assert told == [1, 2, 3]


def test_markers_of_one_point_are_merged() -> None:
    hours = np.array([2004.0, 1000.0, 1009.0, 1018.0, 1030.0, 2000.0])
    rates = np.array([0.6, 0.1, 0.2, 0.3, 0.4, 0.5])
    compute, value = merge_points(hours, rates)
    # 1,009 and 1,018 follow within 1 % each, 1,030 is 1.2 % on.
    np.testing.assert_allclose(compute, [1009.0, 1030.0, 2002.0])
    np.testing.assert_allclose(value, [0.2, 0.4, 0.55])


@pytest.fixture
def points_file(tmp_path: Path) -> Path:
    return draw_points(tmp_path / "points.csv")


def test_the_published_control_has_32_points(points_file: Path) -> None:
    curves = leave_one_out_curves(str(points_file))
    assert [one.run.name for one in curves] == [run.name for run in LEAVE_ONE_OUT]
    control = curves[0].curve
    assert control.compute.size == 32
    assert (control.r0, control.bounds) == (0.400, (0.0, 1.0))
    fit = paper_fit(control.compute, control.value, 0.400)
    assert (f"{fit.A:.3f}", f"{fit.B:.2f}", f"{fit.C_mid:.0f}") == ("0.610", "1.92", "2542")


def test_a_file_without_a_run_of_the_study_is_refused(points_file: Path) -> None:
    text = points_file.read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if "LOO-dapo" not in line]
    points_file.write_text("\n".join(kept), encoding="utf-8")
    with pytest.raises(DataError, match="no points of LOO-dapo; all runs of figA_loo_1, figA_loo_2"):
        leave_one_out_curves(str(points_file))


def test_half_of_the_budget_is_given(points_file: Path) -> None:
    given: list[Curve] = []

    def fit(curve: Curve) -> CurveFit:
        given.append(curve)
        return Known(curve, np.full(NUM_DRAWS, 0.6), np.full(NUM_DRAWS, curve.value[-1]))

    found = measure_half_budget(str(points_file), lambda curves: [fit(curve) for curve in curves])
    assert [one.study for one in found] == ["leave one out"] * 9 + ["forward"] * len(FORWARD)
    control, left_out, forward = (given[k].compute for k in (0, 1, 9))
    assert (control.size, control[0], control[-1]) == (20, 1543.0, 7692.0)
    assert (left_out[0], left_out[-1]) == (1500.0, 8000.0)
    assert forward.tolist() == [1600.0, 1800.0, 2000.0]
    assert (found[0].score.points, found[9].score.points) == (10, 10)


def test_half_budget_errors_by_hand(points_file: Path) -> None:
    def fit(curve: Curve) -> CurveFit:
        # Sure of 0.58 later on; the ceiling 0.63 is off by 0.02 from 0.61, and by more from others.
        status = FitStatus.TOO_FEW_POINTS if curve.compute.size < 4 else FitStatus.IDENTIFIED
        return Known(curve, np.full(NUM_DRAWS, 0.63), np.full(NUM_DRAWS, 0.58), status=status)

    found = measure_half_budget(str(points_file), lambda curves: [fit(curve) for curve in curves])
    later = GOLDEN_RATES[GOLDEN_HOURS > 8000.0]
    assert found[0].score.mae == pytest.approx(float(np.mean(later - 0.58)), rel=1e-4)
    assert found[0].ceiling_error == pytest.approx(0.02)
    means = {mean.study: mean for mean in half_budget_means(found)}
    study = means["leave one out"]
    assert (study.runs, study.identified) == (9, 9)
    # 0.605, 0.600, 0.590, 0.595 and 0.605 are further than 0.02 from 0.63; the four at 0.610 are not.
    assert study.ceiling_off == 5
    assert study.largest_ceiling_error == pytest.approx(0.04)
    assert study.points == sum(one.score.points for one in found[:9])
    by_point = sum(one.score.mae * one.score.points for one in found[:9]) / study.points
    assert study.mean_absolute_error_by_point == pytest.approx(by_point)
    assert means["forward"].identified == 0
    assert means["forward"].largest_ceiling_error is None
    assert means["all"].runs == 9 + len(FORWARD)
    text = printed(half_budget_tables(found))
    assert "prompt-lvl-adv-norm" in text
    # Of a hundred columns no figure is cut, only the longest name of a study.
    assert [line.split()[:2] for line in text.splitlines() if "…" in line] == [
        [run.name, "advantage"] for run in FORWARD if "normalisation" in run.table.name
    ]
    document = json.loads(json.dumps(half_budget_json(found, method="x"), allow_nan=False))
    assert document["runs"][0]["ceiling_error"] == pytest.approx(0.02)


def members(num: int = 3) -> list[Member]:
    hours = np.linspace(1000.0, 10_000.0, 10)
    curves = [Curve.of(f"run{k}", hours, np.full(10, 0.5 + 0.1 * k), r0=0.4) for k in range(num)]
    return [Member(f"arm{k}", curve, 3000.0 + 1000.0 * k) for k, curve in enumerate(curves)]


def test_a_run_is_left_out_in_its_turn() -> None:
    calls: list[list[float]] = []

    def together(curves: Sequence[Curve], arms: Sequence[str]) -> Together:
        assert list(arms) == ["arm0", "arm1", "arm2"]
        calls.append([float(curve.compute[-1]) for curve in curves])
        assert {float(curve.compute[0]) for curve in curves} == {2000.0}
        return apart(curves, arms)

    gains_of(0, members(), Fitters(last_level, together))
    assert calls == [
        [3000.0, 4000.0, 5000.0],
        [3000.0, 10_000.0, 10_000.0],
        [10_000.0, 4000.0, 10_000.0],
        [10_000.0, 10_000.0, 5000.0],
    ]


def off_by(distance: float) -> Callable[[Curve], CurveFit]:
    """A forecast that is sure of a value so far from the run's own."""
    return lambda curve: Known(curve, None, np.full(NUM_DRAWS, curve.value[-1] + distance))


def test_the_ratio_is_that_of_the_scores() -> None:
    def together(curves: Sequence[Curve], arms: Sequence[str]) -> Together:
        # Siblings halve the error where they are older, and do nothing where they are young.
        old = max(curve.compute[-1] for curve in curves) == 10_000.0
        return Together([off_by(0.01 if old else 0.02)(curve) for curve in curves])

    curves = [
        PublishedCurve(run, Curve.of(run.name, np.linspace(1000.0, 10_000.0, 10), np.full(10, 0.5), r0=0.4))
        for run in LEAVE_ONE_OUT[:3]
    ]
    rows = measure_published_pooling(curves, Fitters(off_by(0.02), together))
    overall = {row.siblings: row for row in rows if row.arm is None}
    # A sure forecast's CRPS is its distance.
    assert overall[Siblings.OLDER].crps_alone == pytest.approx(0.02, rel=1e-3)
    assert overall[Siblings.OLDER].ratio == pytest.approx(0.5, rel=1e-3)
    assert overall[Siblings.EQUALLY_YOUNG].ratio == pytest.approx(1.0, rel=1e-6)
    assert overall[Siblings.OLDER].ratio_se is None
    assert len(rows) == 8
    assert overall[Siblings.OLDER].coverage90_alone == 0.0


def test_the_worst_arm_is_the_one_that_pooling_harms() -> None:
    def together(curves: Sequence[Curve], arms: Sequence[str]) -> Together:
        return Together(
            [off_by(0.03 if arm == arms[1] else 0.01)(c) for c, arm in zip(curves, arms, strict=True)]
        )

    curves = [
        PublishedCurve(run, Curve.of(run.name, np.linspace(1000.0, 10_000.0, 10), np.full(10, 0.5), r0=0.4))
        for run in LEAVE_ONE_OUT[:3]
    ]
    rows = measure_published_pooling(curves, Fitters(off_by(0.02), together))
    least = worst(rows)
    assert (least.arm, least.ratio) == (LEAVE_ONE_OUT[1].name, pytest.approx(1.5, rel=1e-3))


def test_gains_of_simulated_sweeps() -> None:
    rows = measure_pooling(SweepKind.LEAVE_ONE_OUT, APART, sweeps=2, budget_gpu_hours=BUDGET)
    overall = rows[0]
    assert (overall.arm, overall.runs, overall.ratio, overall.ratio_se) == (None, 22, 1.0, 0.0)
    assert [row.runs for row in rows[1:4]] == [6, 2, 2]
    task = SweepTask(SweepKind.LEAVE_ONE_OUT, 0, 0, BUDGET)
    run = task.sweep().runs[0]
    member = Member(run.arm.name, run.curve, YOUNG * run.truth.C_mid)
    assert member.young.compute[0] >= FIT_START_GPU_HOURS
    assert member.young.compute[-1] <= YOUNG * run.truth.C_mid < member.later.compute[0]
    assert member.young.compute.size + member.later.compute.size == member.old.compute.size


def test_a_run_without_later_points_is_passed_over() -> None:
    few = measure_pooling(SweepKind.AXIS, APART, sweeps=1, budget_gpu_hours=12_000.0)
    assert not {row.arm for row in few} & {"ScaleRL-32k", "ScaleRL-bs2048"}


def test_speed_is_of_what_was_timed() -> None:
    ticks = count()
    sizes: list[tuple[int, int]] = []

    def together(curves: Sequence[Curve], arms: Sequence[str]) -> Together:
        sizes.append((len(curves), curves[0].compute.size))
        return apart(curves, arms)

    fitted: list[int] = []

    def alone(curve: Curve) -> CurveFit:
        fitted.append(curve.compute.size)
        return last_level(curve)

    # Every look at the clock is a second later than the one before.
    speed = measure_speed(
        Fitters(alone, together),
        paper=lambda curve: next(ticks),
        quick=True,
        clock=lambda: float(next(ticks)),
    )
    assert speed.posterior.seconds == 1.0
    assert speed.times_faster == speed.paper.seconds == 2.0
    assert (speed.pooled.runs, speed.pooled.points) == (12, 60)
    assert sizes == [(12, 60), (3, 60), (6, 60), (12, 60)]
    assert [timing.points for timing in speed.by_points] == [10, 30, 100, 300, 1000]
    assert {10, 30, 100, 300, 1000, 60} == set(fitted)
    assert speed.batch.ms_per_curve == 10.0
    decided = time_pass(40, 30, 2, clock=lambda: float(next(ticks)))
    assert (decided.runs, decided.points, decided.due, decided.seconds, decided.slowest) == (
        40,
        30,
        2,
        2.0,
        1.0,
    )
    assert json.loads(json.dumps(speed_json(speed, decided)))["by_runs"][2]["runs"] == 100
    assert "2 times faster" in printed(speed_tables(speed, decided))
    assert "verdicts on 2 of 40 concurrent runs of 30 points: 2.00 s" in printed(speed_tables(speed, decided))


def test_growth() -> None:
    assert growth([Timing(1, 10, 1.0)]) is None
    assert growth([Timing(1, 10, 1.0), Timing(1, 100, 10.0)]) == pytest.approx(1.0)
    assert growth([Timing(2, 10, 1.0), Timing(4, 10, 4.0)]) == pytest.approx(2.0)


def printed(table: RenderableType) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_tables_say_what_was_found() -> None:
    inside = (False, True, True, True)
    found = [
        Judged(
            k, Pooling.ALONE, 0.5, Quantity.CEILING, "dapo", k > 0, -0.01, inside, (0.01, 0.02, 0.03, 0.04)
        )
        for k in range(4)
    ]
    rows = coverage_rows(SweepKind.LEAVE_ONE_OUT, found)
    text = printed(coverage_tables(rows))
    assert "leave_one_out: ceiling A" in text
    line = next(line for line in text.splitlines() if "dapo" in line).split()
    assert " ".join(line) == "alone 50 % 4 0.0 100.0 100.0 100.0 0.0 .030 .0100 25 % 100 dapo"
    gains = measure_pooling(SweepKind.COMPARE, APART, sweeps=1, budget_gpu_hours=BUDGET)
    assert "Least helped: ScaleRL, CRPS times 1.000." in printed(gain_tables(gains))
    document = json.loads(json.dumps(sweeps_json(rows, gains, seed=3), allow_nan=False))
    assert document["seed"] == 3
    assert document["coverage"][0]["quantity"] == "ceiling"
    assert document["pooling"][0]["arm"] is None
