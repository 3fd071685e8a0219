"""A sweep's runs fitted together: arms, runs apart, and what siblings do for a young run."""

from __future__ import annotations

import numpy as np
import pytest

from scalerl_lab.config.sweep import Rule
from scalerl_lab.fit import (
    Lines,
    SweepFit,
    SweepRun,
    ceiling_difference,
    drawn_curves,
    fit_curve,
    fit_sweep,
)
from scalerl_lab.fit.posterior import Draws
from scalerl_lab.fit.sweep_fit import _of_arm
from scalerl_lab.records import FitStatus
from tests.fit.curves import point, simulate

TRUTH = {"control": 0.61, "tied": 0.605, "worse": 0.55}
YOUNG = 16
"""Points: 3,855 GPU-hours, 1.5 midpoints."""


def swept(runs: list[SweepRun], apart: tuple[str, ...] = ()) -> SweepFit:
    return fit_sweep(runs, fit_start_gpu_hours=1500.0, rule=Rule(), apart=apart)


@pytest.fixture(scope="module")
def runs() -> list[SweepRun]:
    """Three seeds of a control, a tied and a worse arm, a young run, one that fell, and one just begun."""
    rng = np.random.default_rng(5)
    found = [SweepRun(f"control-{seed}", "control", simulate(rng, A=0.61)) for seed in range(3)]
    found += [SweepRun(f"{arm}-0", arm, simulate(rng, A=TRUTH[arm])) for arm in ("tied", "worse")]
    found.append(SweepRun("young-0", "young", simulate(rng)[:YOUNG]))
    high = simulate(rng, A=0.61)
    fell = tuple(point(p.step, p.gpu_hours, p.pass_rate - 1e-5 * max(p.gpu_hours - 5e3, 0.0)) for p in high)
    found.append(SweepRun("fell-0", "fell", fell))
    found.append(SweepRun("begun-0", "begun", simulate(rng)[:3]))
    return found


@pytest.fixture(scope="module")
def fitted(runs: list[SweepRun]) -> SweepFit:
    return swept(runs, ("fell-0",))


def test_every_run_has_a_fit_and_every_arm_with_one_a_ceiling(runs: list[SweepRun], fitted: SweepFit) -> None:
    assert list(fitted.runs) == [run.run_id for run in runs]
    assert all(fitted.runs[run.run_id].fit.run_id == run.run_id for run in runs)
    assert set(fitted.arms) == {"control", "tied", "worse", "young"}
    assert fitted.arms["control"].num_seeds == 3
    assert fitted.arms["control"].identified
    assert fitted.runs["begun-0"].fit.status is FitStatus.TOO_FEW_POINTS
    assert fitted.runs["begun-0"].draws is None


def test_ceilings_and_differences_hold_the_truth(fitted: SweepFit) -> None:
    for arm, truth in TRUTH.items():
        interval = fitted.arms[arm].interval
        assert interval.low95 <= truth <= interval.high95
    difference = ceiling_difference(fitted.arms["worse"], fitted.arms["control"])
    assert difference.interval.low95 <= -0.06 <= difference.interval.high95
    assert difference.probability_below(-0.02) > 0.95
    tied = ceiling_difference(fitted.arms["tied"], fitted.arms["control"])
    assert tied.probability_below(-0.02) < 0.2


def test_a_run_apart_is_fitted_alone_and_says_nothing_of_others(
    runs: list[SweepRun], fitted: SweepFit
) -> None:
    fell = next(run for run in runs if run.run_id == "fell-0")
    alone = fit_curve("fell-0", fell.points, fit_start_gpu_hours=1500.0, rule=Rule())
    assert fitted.runs["fell-0"].fit == alone.fit
    without = swept([run for run in runs if run.run_id != "fell-0"])
    assert {name: arm.interval for name, arm in without.arms.items()} == {
        name: arm.interval for name, arm in fitted.arms.items()
    }


def test_the_order_of_runs_changes_nothing(runs: list[SweepRun], fitted: SweepFit) -> None:
    again = swept(runs[::-1], ("fell-0",))
    assert {name: run.fit for name, run in again.runs.items()} == {
        name: run.fit for name, run in fitted.runs.items()
    }
    for name, arm in fitted.arms.items():
        assert np.array_equal(again.arms[name].draws, arm.draws)


def test_a_young_run_borrows_from_its_siblings(runs: list[SweepRun], fitted: SweepFit) -> None:
    young = next(run for run in runs if run.run_id == "young-0")
    alone = fit_curve("young-0", young.points, fit_start_gpu_hours=1500.0, rule=Rule())
    together = fitted.runs["young-0"]
    assert alone.fit.ceiling is not None
    assert together.fit.ceiling is not None
    wide, narrow = (fit.ceiling.high80 - fit.ceiling.low80 for fit in (alone.fit, together.fit))  # type: ignore[union-attr]
    assert narrow < 0.7 * wide


def test_nothing_to_fit_gives_no_arms() -> None:
    assert swept([]) == SweepFit({}, {})
    started = swept([SweepRun("a", "a", (point(0, 0.0, 0.4),)), SweepRun("b", "b", ())], ("b",))
    assert started.arms == {}
    assert {run.fit.status for run in started.runs.values()} == {FitStatus.TOO_FEW_POINTS}


def test_an_arm_follows_its_seeds_where_none_follows_the_law() -> None:
    def seed(A: float, r0: list[float], lawful: list[bool]) -> Draws:
        ones = np.ones(3)
        return Draws(
            r0=np.array(r0),
            A=A * ones,
            B=ones,
            C_mid=ones,
            sigma=ones,
            kind=np.zeros(3, dtype=np.int64),
            lawful=np.array(lawful),
            slope=0.0 * ones,
            edge_mass=0.0,
            lines=Lines(np.array(lawful), A - 0.1 * ones, 0.05 * ones, 1000.0, (0.0, 1.0)),
        )

    population = np.array([0.6, 0.6, 1.3]), np.ones(3), np.ones(3)
    seeds = [
        seed(0.4, [0.2, 0.2, 0.5], [True, True, False]),
        seed(0.5, [0.3, 0.45, 0.1], [True, False, False]),
    ]
    found = _of_arm(*population, seeds)
    # Draw 0: the arm's; draw 1: too, with the start of the seed that follows the law; draw 2: the seeds'.
    assert list(found.A) == pytest.approx([0.6, 0.6, 0.45])
    assert found.r0 == pytest.approx([0.25, 0.2, 0.3])
    # At 1,000 the seeds' lines are at 0.3 and 0.4, with slopes of 0.05: draw 2 goes on from 0.35.
    assert drawn_curves(found, [1000.0, 1000.0 * np.e])[2] == pytest.approx([0.35, 0.40])
    # The law of draws 0 and 1 at a midpoint of 1 with B = 1: R0 + (0.6 - R0) 1000 / 1001.
    law = np.array([0.25, 0.2]) + np.array([0.35, 0.4]) * 1000.0 / 1001.0
    assert drawn_curves(found, 1000.0)[:2, 0] == pytest.approx(law)
    # A ceiling is a pass rate.
    beyond = _of_arm(*population, [seed(0.4, [0.2, 0.2, 0.2], [True, True, True])])
    assert beyond.A.max() == 1.0
