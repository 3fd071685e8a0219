"""The population's priors against scipy's densities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from scalerl_lab.fit.population import Unit, log_prior, log_spread_prior, particles_of
from tests.fit.populations import (
    OFFSET,
    SCALE,
    SEED_LOG_SD,
    SEED_SPREAD,
    SPREAD_COVARIANCE,
    SPREAD_MEDIAN,
    UNIT,
)


def test_coordinates_are_in_units_and_come_back() -> None:
    coordinates = np.random.default_rng(0).normal(size=(5, 7))
    found = particles_of(coordinates, UNIT)
    back = np.concatenate(
        [
            (found.mean - OFFSET) / SCALE,
            np.log(found.spread / SCALE),
            np.log(found.seed_spread / SCALE / SEED_SPREAD)[:, :1],
        ],
        axis=1,
    )
    assert back == pytest.approx(coordinates, abs=1e-12)
    # All three spreads of seeds have one factor.
    assert np.ptp(found.seed_spread / SCALE / SEED_SPREAD, axis=1) == pytest.approx(0.0, abs=1e-12)


def test_prior_of_the_spreads_is_the_normal_that_is_stated() -> None:
    coordinates = np.zeros((20, 7))
    coordinates[:, 3:] = np.random.default_rng(1).normal(scale=0.5, size=(20, 4))
    coordinates[:, 3:6] += np.log(SPREAD_MEDIAN)
    expected = stats.multivariate_normal(np.log(SPREAD_MEDIAN), SPREAD_COVARIANCE).logpdf(coordinates[:, 3:6])
    expected += stats.norm(0.0, SEED_LOG_SD).logpdf(coordinates[:, 6])
    found = log_spread_prior(coordinates)
    # The constants are rounded.
    assert found - found[0] == pytest.approx(expected - expected[0], rel=0.02, abs=0.03)


def test_prior_of_the_mean_has_a_flat_gain_within_the_window() -> None:
    coordinates = np.zeros((3, 7))
    coordinates[:, 0] = 0.6
    coordinates[:, 1:3] = [[0.3, -1.0], [0.6, 0.5], [1.1, 2.0]]
    _, log_B, log_C = coordinates[:, :3].T
    expected = stats.norm(math.log(1.85), 0.35).logpdf(log_B) + stats.norm(math.log(0.5), 1.3).logpdf(log_C)
    expected += np.log(expit(-np.exp(log_B) * log_C))
    found = log_prior(coordinates, UNIT)
    assert np.diff(found) == pytest.approx(np.diff(expected), abs=1e-9)


def test_prior_of_the_ceiling_ends_at_the_bounds_or_is_the_level() -> None:
    coordinates = np.zeros((4, 7))
    coordinates[:, 0] = [0.1, 0.9, 1.1, -0.1]
    bounded = log_prior(coordinates, UNIT)
    assert bounded[0] == bounded[1]
    assert np.all(bounded[2:] < bounded[0] - 10.0)
    free = log_prior(coordinates, Unit(2.0, 5000.0, None, (0.5, 1.0)))
    expected = stats.norm(0.5, 1.0).logpdf(2.0 * coordinates[:, 0])
    assert np.diff(free) == pytest.approx(np.diff(expected), abs=1e-12)
