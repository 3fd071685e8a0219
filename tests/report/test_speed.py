"""GPU-hours to a level and their comparison, against the law solved by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scalerl_lab.fit import CeilingRefit, FittedCurve, interval_of
from scalerl_lab.fit.posterior import Draws
from scalerl_lab.records import Fit, FitStatus
from scalerl_lab.report.speed import (
    SEED_LOG_SD,
    compare,
    hours_interval,
    log_hours,
    pooled_efficiency,
    pooled_midpoint,
)

K = 400


def curve(
    A: float = 0.6, B: float = 2.0, C_mid: float = 3000.0, *, ceilings: np.ndarray | None = None
) -> FittedCurve:
    """A fit that is certain of everything, or of everything but the ceiling."""
    ones = np.ones(K)
    drawn = A * ones if ceilings is None else ceilings
    draws = Draws(
        r0=0.2 * ones,
        A=drawn,
        B=B * ones,
        C_mid=C_mid * ones,
        sigma=0.01 * ones,
        kind=np.zeros(K, dtype=np.int64),
        lawful=np.ones(K, dtype=np.bool_),
        slope=0.0 * ones,
        edge_mass=0.0,
    )
    summary = Fit("r", FitStatus.IDENTIFIED, "", 9, 1500.0, 9000.0, 0.2, interval_of(drawn), None, None, 0.01)
    return FittedCurve(summary, (), draws)


def cdf(z: float) -> float:
    return 0.5 * (1.0 + math.erf(z / math.sqrt(2.0)))


def test_hours_to_the_level_by_hand() -> None:
    # (A - R0) / (level - R0) - 1 = 0.4 / 0.3 - 1 = 1/3, so C = C_mid (1/3)^(-1/2) = C_mid sqrt(3).
    draws = log_hours([curve()], 0.5)
    assert draws is not None
    reached = hours_interval(draws)
    assert reached.median == pytest.approx(3000.0 * math.sqrt(3.0))
    assert reached.low80 == pytest.approx(reached.high80)


def test_seeds_are_averaged_on_a_log_scale() -> None:
    draws = log_hours([curve(C_mid=1000.0), curve(C_mid=4000.0)], 0.4)
    assert draws is not None
    assert hours_interval(draws).median == pytest.approx(2000.0)


def test_what_is_not_reached_is_absent() -> None:
    ceilings = np.where(np.arange(K) < 0.8 * K, 0.6, 0.45)
    draws = log_hours([curve(ceilings=ceilings)], 0.5)
    assert draws is not None
    reached = hours_interval(draws)
    assert reached.median is not None
    assert reached.high80 is None
    never = log_hours([curve(A=0.45)], 0.5)
    assert never is not None
    assert hours_interval(never).median is None


def test_probabilities_follow_from_the_ratio_and_the_seed_spread() -> None:
    # One control seed: the spread is the assumed one, for one seed on either side.
    sd = SEED_LOG_SD * math.sqrt(2.0)
    speed = compare([curve(C_mid=2400.0)], [curve(C_mid=3000.0)], 0.5)
    assert speed is not None
    assert speed.factor == pytest.approx(0.8)
    assert speed.probability_faster == pytest.approx(cdf((-math.log(1.1) - math.log(0.8)) / sd))
    assert speed.probability_slower == pytest.approx(cdf((math.log(0.8) - math.log(1.1)) / sd))


def test_the_controls_own_seeds_widen_or_narrow_the_spread() -> None:
    tight = compare([curve(C_mid=2400.0)], [curve(C_mid=3000.0)] * 3, 0.5)
    loose = compare([curve(C_mid=2400.0)], [curve(C_mid=c) for c in (1500.0, 3000.0, 6000.0)], 0.5)
    assert tight is not None
    assert loose is not None
    # Three equal seeds: variance (2 * 0.1^2 + 0) / (2 + 2), times 1 + 1/3.
    sd = math.sqrt(0.02 / 4.0 * (4.0 / 3.0))
    assert tight.probability_faster == pytest.approx(cdf((-math.log(1.1) - math.log(0.8)) / sd))
    assert loose.factor == pytest.approx(0.8)
    assert loose.probability_faster < 0.7 < 0.9 < tight.probability_faster


def test_an_arm_that_never_arrives_is_slower() -> None:
    speed = compare([curve(A=0.45)], [curve()], 0.5)
    assert speed is not None
    assert math.isinf(speed.factor)
    assert (speed.probability_faster, speed.probability_slower) == (0.0, 1.0)
    assert compare([curve(A=0.45)], [curve(A=0.45)], 0.5) is None


def test_pooled_efficiency_and_midpoint_are_geometric_means() -> None:
    fits = [curve(B=1.0, C_mid=1000.0), curve(B=4.0, C_mid=9000.0)]
    refits = [
        CeilingRefit(0.6, interval_of(f.draws.B), interval_of(f.draws.C_mid), f.draws)
        for f in fits
        if f.draws is not None
    ]
    assert pooled_efficiency(refits).median == pytest.approx(2.0)
    assert pooled_midpoint(fits).median == pytest.approx(3000.0)
