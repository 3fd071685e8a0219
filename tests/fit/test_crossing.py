"""Where one arm overtakes another, on draws whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from scalerl_lab.fit import ArmDraws, crossing, crossing_of_curves
from scalerl_lab.fit.published import LARGE_SCALE, PublishedRun

RUNS = {run.name: run for run in LARGE_SCALE}
HOURS = np.geomspace(1.0, 100.0, 41)


def certain(run: PublishedRun, num: int = 3) -> ArmDraws:
    """A published run as draws that are all alike."""
    ones = np.ones(num)
    return ArmDraws(run.r0 * ones, run.A * ones, run.B * ones, run.C_mid * ones)


def lines(starts: list[float], slopes: list[float]) -> np.ndarray:
    """[K, M] straight lines in log compute."""
    values: np.ndarray = np.array(starts)[:, None] + np.array(slopes)[:, None] * np.log(HOURS)
    return values


@pytest.mark.parametrize(
    ("late", "about"),
    [
        # Facts of the paper: 2048 prompts overtake 768 at about 31k, 34k tokens 14k at about 28k.
        ("ScaleRL-bs2048", 31_000.0),
        ("ScaleRL-32k", 28_000.0),
    ],
)
def test_the_published_late_bloomers_overtake_where_the_paper_says(late: str, about: float) -> None:
    arm, other = RUNS[late], RUNS["ScaleRL"]
    found = crossing(certain(arm), certain(other), 1000.0, 100_000.0)
    by_root = brentq(lambda c: float(arm.pass_rate(c) - other.pass_rate(c)), 15_000.0, 90_000.0)
    assert (found.probability, found.ahead, found.behind) == (1.0, 0.0, 0.0)
    assert found.gpu_hours is not None
    assert found.gpu_hours.median == pytest.approx(by_root, rel=1e-3)
    assert found.gpu_hours.median == pytest.approx(about, rel=0.05)
    # Not yet by 16,000 GPU-hours; and the other way round it never happens.
    assert crossing(certain(arm), certain(other), 1000.0, 16_000.0).behind == 1.0
    back = crossing(certain(other), certain(arm), 5000.0, 100_000.0)
    assert (back.probability, back.ahead, back.behind) == (0.0, 0.0, 1.0)


def test_straight_lines_cross_where_algebra_says() -> None:
    # -0.2 + 0.1 log C, -0.3 + 0.1 log C and -0.4 + 0.1 log C pass 0 at e^2, e^3 and e^4.
    found = crossing_of_curves(HOURS, lines([-0.2, -0.3, -0.4], [0.1] * 3), np.zeros((3, 41)))
    assert found.probability == 1.0
    assert found.drawn == pytest.approx(np.exp([2.0, 3.0, 4.0]))
    assert found.gpu_hours is not None
    assert found.gpu_hours.median == pytest.approx(math.exp(3.0))


def test_probabilities_count_draws() -> None:
    # Crosses at e^2; ahead throughout; behind throughout; ahead at first and behind at the end.
    arm = lines([-0.2, 0.1, -0.9, 0.1], [0.1, 0.0, 0.1, -0.1])
    found = crossing_of_curves(HOURS, arm, np.zeros((4, 41)))
    assert (found.probability, found.ahead, found.behind) == (0.25, 0.25, 0.5)
    assert found.drawn == pytest.approx([math.exp(2.0)])
    assert found.probability_by(100.0) == pytest.approx(0.5)
    assert found.probability_by(2.0) == pytest.approx(0.25)


def test_of_several_crossings_the_last_counts() -> None:
    # sin(2 log C) rises through 0 at C = e^pi, after it fell at e^(pi / 2); at 40 it is still above 0.
    hours = np.geomspace(1.5, 40.0, 2001)
    found = crossing_of_curves(hours, np.sin(2.0 * np.log(hours))[None, :], np.zeros((1, 2001)))
    assert found.drawn == pytest.approx([math.exp(math.pi)], rel=1e-5)


def test_level_arms_do_not_overtake_each_other() -> None:
    found = crossing_of_curves(HOURS, np.zeros((2, 41)), np.zeros((2, 41)))
    assert (found.probability, found.behind, found.gpu_hours) == (0.0, 1.0, None)
    assert found.probability_by(50.0) == 0.0


def test_the_range_must_ascend() -> None:
    arm = certain(RUNS["ScaleRL"])
    for after, until in ((0.0, 10.0), (10.0, 10.0), (20.0, 10.0)):
        with pytest.raises(ValueError, match="the range must ascend"):
            crossing(arm, arm, after, until)


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-3, 1e6), st.integers(0, 1000))
def test_rescaling_compute_moves_the_crossing_alone(scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)

    def drawn(A: float, C_mid: float, unit: float) -> ArmDraws:
        spread = np.random.default_rng(seed)
        return ArmDraws(
            np.full(50, 0.4),
            A + 0.01 * spread.normal(size=50),
            np.exp(0.6 + 0.1 * spread.normal(size=50)),
            unit * C_mid * np.exp(0.1 * spread.normal(size=50)),
        )

    late = float(rng.uniform(2.0, 5.0))
    here, there = (
        crossing(drawn(0.64, 2500.0 * late, unit), drawn(0.61, 2500.0, unit), 500.0 * unit, 1e5 * unit)
        for unit in (1.0, scale)
    )
    assert here.probability + here.ahead + here.behind == pytest.approx(1.0)
    assert (there.probability, there.ahead) == pytest.approx((here.probability, here.ahead))
    assert there.drawn == pytest.approx(scale * here.drawn, rel=1e-6)
