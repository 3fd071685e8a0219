"""GPU-hours to a level and their comparison, against the law solved by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scalerl_lab.fit import ArmDraws, CeilingRefit, PooledCeiling, interval_of
from scalerl_lab.fit.posterior import Draws
from scalerl_lab.report.speed import compare, hours_to_level, pooled_efficiency

K = 400
RANKS = (np.arange(K) + 0.5) / K


def arm(
    A: float | np.ndarray = 0.6, B: float = 2.0, C_mid: float | np.ndarray = 3000.0, r0: float = 0.2
) -> PooledCeiling:
    """An arm; what is one number is certain."""
    ones = np.ones(K)
    return PooledCeiling(ArmDraws(r0 * ones, A * ones, B * ones, C_mid * ones), 1, True)


def test_hours_to_the_level_by_hand() -> None:
    # (A - R0) / (level - R0) - 1 = 0.4 / 0.3 - 1 = 1/3, so C = C_mid (1/3)^(-1/2) = C_mid sqrt(3).
    reached = hours_to_level(arm(), 0.5)
    assert reached.median == pytest.approx(3000.0 * math.sqrt(3.0))
    assert reached.low80 == pytest.approx(reached.high80)


def test_the_interval_is_that_of_the_draws() -> None:
    reached = hours_to_level(arm(C_mid=1000.0 + 1000.0 * RANKS), 0.4)
    assert (reached.low80, reached.median, reached.high80) == pytest.approx(
        (1100.0, 1500.0, 1900.0), rel=2e-3
    )


def test_what_is_not_reached_is_absent() -> None:
    reached = hours_to_level(arm(np.where(RANKS < 0.8, 0.6, 0.45)), 0.5)
    assert reached.median is not None
    assert reached.high80 is None
    assert hours_to_level(arm(0.45), 0.5).median is None


def test_probabilities_are_of_the_ratio_draw_by_draw() -> None:
    # The ratio is 0.8 in every draw, however uncertain the midpoints are.
    midpoints = 3000.0 * np.exp(RANKS)
    speed = compare(arm(C_mid=0.8 * midpoints), arm(C_mid=midpoints), 0.5)
    assert speed is not None
    assert speed.factor == pytest.approx(0.8)
    assert speed.probability_faster == pytest.approx(1.0)
    assert speed.probability_slower == pytest.approx(0.0)


def test_a_ratio_within_the_factor_is_neither() -> None:
    # log ratio ~ U(-0.25, 0.25) lies beyond log 1.1 = 0.0953 with probability 0.309 on either side.
    speed = compare(arm(C_mid=3000.0 * np.exp(0.5 * RANKS - 0.25)), arm(), 0.5)
    assert speed is not None
    assert speed.factor == pytest.approx(1.0, abs=0.01)
    assert speed.probability_faster == pytest.approx((0.25 - math.log(1.1)) / 0.5, abs=0.01)
    assert speed.probability_slower == pytest.approx((0.25 - math.log(1.1)) / 0.5, abs=0.01)


def test_an_arm_that_never_arrives_is_slower() -> None:
    speed = compare(arm(0.45), arm(), 0.5)
    assert speed is not None
    assert math.isinf(speed.factor)
    assert (speed.probability_faster, speed.probability_slower) == (0.0, 1.0)
    assert compare(arm(0.45), arm(0.45), 0.5) is None


def test_pooled_efficiency_is_the_geometric_mean() -> None:
    refits = []
    for B in (1.0, 4.0):
        law = arm(B=B).law
        draws = Draws(
            r0=law.r0,
            A=law.A,
            B=law.B,
            C_mid=law.C_mid,
            sigma=0.01 * np.ones(K),
            kind=np.zeros(K, dtype=np.int64),
            lawful=np.ones(K, dtype=np.bool_),
            slope=np.zeros(K),
            edge_mass=0.0,
        )
        refits.append(CeilingRefit(0.6, interval_of(law.B), interval_of(law.C_mid), draws))
    assert pooled_efficiency(refits).median == pytest.approx(2.0)
