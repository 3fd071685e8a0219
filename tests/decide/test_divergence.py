"""Divergence by hand, and how seldom noise looks like it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from scalerl_lab.config.sweep import Divergence
from scalerl_lab.decide import find_divergence
from scalerl_lab.fit import pass_rate
from scalerl_lab.records import Cause
from tests.fit.curves import correlated_noise, point, points_of, simulate

LIMITS = Divergence(collapse_drop=0.10, truncation_rate=0.5)


def curve(*rates: float, se: float = 0.003, truncated: tuple[float, ...] = ()) -> list:  # type: ignore[type-arg]
    shares = truncated or (0.02,) * len(rates)
    return [
        point(i, 100.0 * i, rate, se, truncated=share)
        for i, (rate, share) in enumerate(zip(rates, shares, strict=True))
    ]


def test_a_fall_seen_twice_is_a_collapse() -> None:
    found = find_divergence(curve(0.40, 0.50, 0.55, 0.56, 0.44, 0.42), LIMITS)
    assert found is not None
    assert found.cause is Cause.COLLAPSED
    # The peak is the mean of 0.55 and 0.56. For the test it is 0.55, and the level 0.44; six points have
    # too few second differences, so the noise of one is sqrt(2) 0.003, and of the mean of two at
    # correlation 0.5 sqrt(3/4) times that: 0.11 / (sqrt(2) 0.003 sqrt(3/2)) = 21.2.
    assert found.why == (
        "the pass rate fell from 0.555 at 300 GPU-hours to 0.440 and 0.420 at the last two points, "
        "more than 0.1 beyond noise (21.2 standard deviations)"
    )


def test_a_fall_seen_once_or_recovered_from_is_none() -> None:
    assert find_divergence(curve(0.40, 0.50, 0.55, 0.56, 0.55, 0.42), LIMITS) is None
    assert find_divergence(curve(0.40, 0.50, 0.55, 0.56, 0.40, 0.55), LIMITS) is None
    assert find_divergence(curve(0.40, 0.55, 0.56, 0.40, 0.41, 0.52, 0.54), LIMITS) is None


def test_a_fall_must_exceed_the_drop_by_its_noise() -> None:
    # 0.555 - 0.45 = 0.105; the noise of that difference is sqrt(1.5) sqrt(2) se.
    assert find_divergence(curve(0.40, 0.50, 0.55, 0.56, 0.45, 0.45, se=0.0028), LIMITS) is not None
    assert find_divergence(curve(0.40, 0.50, 0.55, 0.56, 0.45, 0.45, se=0.003), LIMITS) is None


def test_a_lucky_point_is_no_peak() -> None:
    assert find_divergence(curve(0.40, 0.41, 0.55, 0.41, 0.41, 0.41), LIMITS) is None


def test_a_jittery_curve_needs_a_deeper_fall() -> None:
    rng = np.random.default_rng(0)
    level = (0.5 + 0.05 * rng.normal(size=20)).tolist()
    peak = max((a + b) / 2.0 for a, b in pairwise(level))
    assert find_divergence(curve(*level, peak - 0.12, peak - 0.12), LIMITS) is None
    assert find_divergence(curve(*level, peak - 0.25, peak - 0.25), LIMITS) is not None


def test_a_run_that_fell_from_its_start_has_collapsed() -> None:
    assert find_divergence(curve(0.50, 0.30, 0.30), LIMITS) is not None


@pytest.mark.parametrize("num", [0, 1, 2])
def test_three_points_are_the_least(num: int) -> None:
    assert find_divergence(curve(*[0.5, 0.1][:num]), LIMITS) is None


def test_truncation_above_the_threshold_twice_and_risen_is_divergence() -> None:
    level = (0.5,) * 4
    found = find_divergence(curve(*level, truncated=(0.05, 0.2, 0.55, 0.62)), LIMITS)
    assert found is not None
    assert found.cause is Cause.TRUNCATED
    assert found.why == (
        "55% and 62% of completions ended at the limit at the last two points, "
        "up from 5% at the start and above 50%"
    )
    assert find_divergence(curve(*level, truncated=(0.05, 0.2, 0.45, 0.62)), LIMITS) is None
    assert find_divergence(curve(*level, truncated=(0.05, 0.55, 0.62, 0.45)), LIMITS) is None


def test_a_task_that_truncates_from_the_start_is_no_divergence() -> None:
    level = (0.5,) * 4
    assert find_divergence(curve(*level, truncated=(0.52, 0.55, 0.58, 0.59)), LIMITS) is None
    assert find_divergence(curve(*level, truncated=(0.52, 0.55, 0.63, 0.64)), LIMITS) is not None


def test_a_collapse_is_named_before_truncation() -> None:
    rates, shares = (0.4, 0.5, 0.5, 0.2, 0.1), (0.0, 0.0, 0.1, 0.7, 0.8)
    found = find_divergence(curve(*rates, truncated=shares), LIMITS)
    assert found is not None
    assert found.cause is Cause.COLLAPSED


def test_the_answer_depends_on_the_points_alone() -> None:
    points = curve(0.40, 0.50, 0.55, 0.56, 0.40, 0.39, 0.41, 0.57, 0.56)
    answers = [find_divergence(points[:num], LIMITS) is not None for num in range(len(points) + 1)]
    # Found after two low points, and again after a third; a run that came back has not collapsed.
    assert [num for num, found in enumerate(answers) if found] == [6, 7]
    assert answers == [find_divergence(points[:num], LIMITS) is not None for num in range(len(points) + 1)]


def test_a_small_drop_is_found_when_it_is_asked_for_and_lasts() -> None:
    # GRPO of the paper: 0.475 up to 8,000 GPU-hours, 0.445 from 10,000 on.
    rng = np.random.default_rng(3)
    num_hits, points_needed = 0, []
    for _ in range(20):
        hours = 257.0 * np.arange(63)
        rates = np.minimum(pass_rate(hours, 0.4, 0.49, 1.17, 1735.0), 0.4771)
        rates = rates - 0.03 * np.clip((hours - 8000.0) / 2000.0, 0.0, 1.0)
        points = points_of(hours, rates + correlated_noise(rng, hours.size, 0.0045), se=0.0027)
        limits = Divergence(collapse_drop=0.01, truncation_rate=0.5)
        first = next((n for n in range(64) if find_divergence(points[:n], limits)), None)
        assert all(find_divergence(points[:n], LIMITS) is None for n in range(64))
        if first is not None and hours[first - 1] > 8000.0:
            num_hits += 1
            points_needed.append(int((hours[:first] > 8000.0).sum()))
    assert num_hits == 20
    # The fall itself takes 8 points.
    assert np.median(points_needed) <= 11


@pytest.mark.parametrize("sd", [0.0045, 0.012, 0.03])
def test_noise_is_not_taken_for_a_collapse(sd: float) -> None:
    rng, alarms = np.random.default_rng(1), 0
    for _ in range(60):
        points = simulate(rng, sd=sd, A=0.81, B=1.9, C_mid=4400.0, r0=0.2, spacing=16000.0 / 30)
        alarms += any(find_divergence(points[: end + 1], LIMITS) for end in range(len(points)))
    assert alarms == 0
