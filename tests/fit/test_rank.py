"""Rank correlation against scipy, and its interval against simulated pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from scalerl_lab.fit import rank_correlation, rank_correlation_interval


def test_by_hand_and_against_scipy() -> None:
    assert rank_correlation([1, 2, 3, 4], [20, 10, 40, 30]) == pytest.approx(0.6)
    assert rank_correlation([0.1, 0.2, 0.3], [3, 2, 1]) == pytest.approx(-1.0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 5, (2, 9)).astype(float)
        assert rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)


def test_what_has_no_variety_has_no_correlation() -> None:
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert rank_correlation([1.0], [2.0]) is None
    assert rank_correlation_interval(1.0, 2) is None


def test_three_arms_in_perfect_order_prove_little() -> None:
    found = rank_correlation_interval(1.0, 3)
    assert found is not None
    # Under independence a sixth of all orders is perfect, so zero lies inside the 80 % interval.
    assert found.low80 < 0.0
    assert (found.high80, found.high95) == (1.0, 1.0)
    more = rank_correlation_interval(1.0, 9)
    assert more is not None
    assert 0.5 < more.low95 < more.low80 < 1.0


@pytest.mark.parametrize(("r", "num"), [(0.0, 9), (0.8, 9), (0.6, 5)])
def test_intervals_hold_the_truth_at_least_as_often_as_they_say(r: float, num: int) -> None:
    truth = 6 / math.pi * math.asin(r / 2)
    rng = np.random.default_rng(3)
    known: dict[float, tuple[bool, bool]] = {}
    held80 = held95 = 0
    sets = 1500
    for _ in range(sets):
        x, noise = rng.standard_normal((2, num))
        shown = rank_correlation(x, r * x + math.sqrt(1 - r * r) * noise)
        assert shown is not None
        key = round(shown, 6)
        if key not in known:
            found = rank_correlation_interval(shown, num)
            assert found is not None
            known[key] = (found.low80 <= truth <= found.high80, found.low95 <= truth <= found.high95)
        held80 += known[key][0]
        held95 += known[key][1]
    # Few pairs have few possible correlations, so the intervals are wider than they need be.
    assert 0.78 <= held80 / sets <= 0.93
    assert held95 / sets >= 0.94
