"""Predictive checks: worked numbers, probabilities that are probabilities, and what each one sees."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from scalerl_lab.fit.checks import PredictiveChecks, predictive_checks
from scalerl_lab.fit.curve import Curve
from tests.fit.curves import correlated_noise


def checks(residuals: np.ndarray, **options: float) -> PredictiveChecks:
    num = len(residuals)
    mean = np.linspace(0.2, 0.7, num)
    return predictive_checks(Curve.of("run", np.arange(1, num + 1), mean + residuals), mean, 1.0, **options)


def test_by_hand_without_correlation() -> None:
    z = np.array([0.5, -1.0, 0.25, -0.5, 1.5, 1.0, -2.0, 0.5, 1.0, 1.5])
    found = checks(z, correlation=0.0)
    # Signs + - + - + + - + + +: 6 changes in 9 steps.
    assert found.runs == pytest.approx(stats.norm.cdf((6.5 - 4.5) / 1.5))
    # The last three have mean 1 and slope 1/2: 3 + (1/2)^2 * 2 = 3.5.
    assert found.end == pytest.approx(math.exp(-3.5 / 2.0))
    assert found.largest == pytest.approx(1.0 - (1.0 - 2.0 * stats.norm.sf(2.0)) ** 10)
    assert found.scale == pytest.approx(stats.chi2.sf(float((z**2).sum()), 10))
    assert found.smallest == pytest.approx(min(4.0 * found.largest, 4.0 * found.end, 1.0))


def test_by_hand_with_a_noise_that_is_not_known() -> None:
    z = np.array([0.5, -1.0, 0.25, -0.5, 1.5, 1.0, -2.0, 0.5, 1.0, 1.5])
    found = checks(z, correlation=0.5, noise_degrees=6.0)
    assert found.scale == pytest.approx(stats.f.sf(float((z**2).mean()), 10 * 0.75 / 1.25, 6.0))
    assert found.largest == pytest.approx(1.0 - (1.0 - 2.0 * stats.t.sf(2.0, 6.0)) ** 10)
    # The mean of three: (3 + 4 rho + 2 rho^2) / 9; the slope's variance 3 times the independent one.
    assert found.end == pytest.approx(stats.f.sf((1.0 / (5.5 / 9.0) + 0.25 * 2.0 / 3.0) / 2.0, 2.0, 6.0))


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("num", [12, 60])
def test_noise_seldom_fails(num: int, correlation: float) -> None:
    rng, runs = np.random.default_rng(2), 1000
    found = [
        checks(correlated_noise(rng, num, 1.0, correlation), correlation=correlation) for _ in range(runs)
    ]
    for name in ("runs", "end", "largest", "scale"):
        values = np.array([getattr(f, name) for f in found])
        assert np.all((values >= 0.0) & (values <= 1.0))
        # Binomial with 1,000 trials: 0.1 +- 0.0095, 0.01 +- 0.0031; rarer failures are allowed.
        assert np.mean(values < 0.1) <= 0.1 + 3.5 * 0.0095
        assert np.mean(values < 0.01) <= 0.01 + 3.5 * 0.0031


def test_each_sees_its_own() -> None:
    noise = np.random.default_rng(2).normal(size=50)
    assert checks(noise).smallest > 0.05
    outlier, drifting = noise.copy(), noise.copy()
    outlier[20] = 6.0
    drifting[-10:] += np.linspace(0.0, 6.0, 10)
    assert checks(outlier).largest < 1e-4
    assert checks(drifting).end < 1e-4  # type: ignore[operator]
    assert checks(2.5 * noise).scale < 1e-6
    assert checks(np.abs(noise)).runs < 1e-6  # type: ignore[operator]


def test_few_points_have_fewer_checks() -> None:
    found = checks(np.array([0.1, -0.2, 0.3]))
    assert (found.runs, found.end) == (None, None)
    assert 0.0 < found.scale <= 1.0
    assert found.smallest <= 1.0
