"""Predictive distributions against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy import optimize, stats

from scalerl_lab.fit.prediction import LEVELS, Prediction
from scalerl_lab.fit.score import sample_crps

SCORES = stats.norm.ppf((np.arange(1000) + 0.5) / 1000.0)
"""A standard normal as equally probable values."""


def prediction(
    mean: object,
    noise_sd: object,
    bounds: tuple[float, float] | None = None,
    noise_mean: object = None,
) -> Prediction:
    """At as many computes as there are columns."""
    means = np.atleast_2d(np.asarray(mean, dtype=np.float64))
    return Prediction(
        np.arange(1.0, means.shape[1] + 1.0),
        means,
        np.broadcast_to(np.asarray(noise_sd, dtype=np.float64), means.shape),
        bounds,
        None if noise_mean is None else np.broadcast_to(np.asarray(noise_mean, np.float64), means.shape),
    )


def normal_crps(mean: float, sd: float, value: float) -> float:
    """Gneiting and Raftery (2007), equation 21, worked out for a normal."""
    z = (value - mean) / sd
    tails = z * (2.0 * stats.norm.cdf(z) - 1.0) + 2.0 * stats.norm.pdf(z)
    return float(sd * (tails - 1.0 / math.sqrt(math.pi)))


def crps(found: Prediction, value: ArrayLike) -> np.ndarray:
    """The score that forecasts are compared by."""
    return sample_crps(np.sort(found.points(), axis=0), value)


def test_one_curve_and_noise_are_a_normal() -> None:
    found = prediction(np.full((1024, 1), 0.5), 0.1).quantiles()[:, 0]
    assert found == pytest.approx(0.5 + 0.1 * stats.norm.ppf(LEVELS), abs=0.001)


def test_curves_and_noise_add_their_variances() -> None:
    found = prediction(0.5 + 0.03 * SCORES[:, None], 0.04).quantiles()[:, 0]
    assert found == pytest.approx(0.5 + 0.05 * stats.norm.ppf(LEVELS), abs=0.005)


def test_quantiles_of_a_mixture_of_two() -> None:
    mean = np.repeat([0.2, 0.6], 2000)[:, None]
    sd = np.repeat([0.05, 0.1], 2000)[:, None]

    def cdf(value: float, level: float) -> float:
        both = stats.norm.cdf(value, 0.2, 0.05) + stats.norm.cdf(value, 0.6, 0.1)
        return float(both / 2.0 - level)

    # Not the median, which lies where there is next to no density.
    levels = [level for level in LEVELS if level != 0.5]
    exact = [optimize.brentq(cdf, -1.0, 2.0, args=(level,)) for level in levels]
    assert prediction(mean, sd).quantiles(levels)[:, 0] == pytest.approx(exact, abs=0.005)


def test_the_curve_itself_has_no_noise() -> None:
    drawn = np.arange(11.0)[:, None] / 10.0
    found = prediction(drawn, 0.7, noise_mean=0.3).mean_quantiles((0.0, 0.25, 0.5, 1.0))[:, 0]
    assert found == pytest.approx([0.0, 0.25, 0.5, 1.0])


def test_columns_are_computes() -> None:
    two = prediction(np.array([[0.1, 0.9]]), np.array([[0.01, 0.02]]))
    found = two.quantiles((0.025, 0.5, 0.975))
    assert found.shape == (3, 2)
    assert found[:, 0] == pytest.approx([0.1 - 0.0196, 0.1, 0.1 + 0.0196], abs=0.0002)
    assert found[:, 1] == pytest.approx([0.9 - 0.0392, 0.9, 0.9 + 0.0392], abs=0.0004)


def test_noise_that_is_expected_moves_the_points_but_not_the_curve() -> None:
    moved = prediction(np.full((1024, 1), 0.5), 0.1, noise_mean=0.2)
    assert moved.quantiles((0.5,))[0, 0] == pytest.approx(0.7, abs=1e-6)
    assert moved.mean_quantiles((0.5,))[0, 0] == 0.5
    assert crps(moved, [0.7])[0] == pytest.approx(normal_crps(0.0, 0.1, 0.0), rel=0.01)


def test_points_outside_the_bounds_lie_on_them() -> None:
    clipped = prediction(np.full((1024, 1), 0.95), 0.1, bounds=(0.0, 1.0))
    found = clipped.quantiles((0.025, 0.5, 0.75, 0.975))[:, 0]
    # 0.05 is half a standard deviation: 31 % of the points would lie above 1.
    assert found[2:].tolist() == [1.0, 1.0]
    assert found[:2] == pytest.approx([0.95 - 0.196, 0.95], abs=0.002)
    points = clipped.points()
    assert points.max() == 1.0
    assert np.mean(points == 1.0) == pytest.approx(stats.norm.sf(0.5), abs=0.002)
    assert prediction(np.full((1, 1), 0.95), 0.1).points().max() > 1.0


@pytest.mark.parametrize(("mean", "sd", "value"), [(0.5, 0.1, 0.5), (0.5, 0.1, 0.73), (-20.0, 3.0, -26.0)])
def test_crps_of_a_normal(mean: float, sd: float, value: float) -> None:
    exact = normal_crps(mean, sd, value)
    assert crps(prediction(np.full((1000, 1), mean), sd), [value])[0] == pytest.approx(exact, rel=0.01)
    assert crps(prediction(mean + sd * SCORES[:, None], 0.0), [value])[0] == pytest.approx(exact, rel=0.01)


def test_crps_by_hand() -> None:
    # E|X - y| = (0.2 + 0.4) / 2 and E|X - X'| / 2 = 0.6 / 4 for X of 0 and 0.6, y = 0.2.
    assert crps(prediction([[0.0], [0.6]], 0.0), [0.2])[0] == pytest.approx(0.3 - 0.15)
    # Sure of one value: the absolute error.
    assert crps(prediction(np.full((7, 2), 0.5), 0.0), [0.2, 0.9]) == pytest.approx([0.3, 0.4])


def test_every_curve_has_as_many_points() -> None:
    drawn = np.arange(300.0)[:, None] * 100.0
    points = prediction(drawn, 1.0).points()
    assert points.shape == (1200, 1)
    assert np.all(np.bincount(np.rint(points[:, 0] / 100.0).astype(int)) == 4)
    assert prediction(np.zeros((2048, 2)), 1.0).points().shape == (2048, 2)


def test_the_noise_of_two_computes_is_not_the_same() -> None:
    points = prediction(np.zeros((1000, 3)), 1.0).points()
    together = np.corrcoef(points.T) - np.eye(3)
    assert np.abs(together).max() < 0.12


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num=st.integers(1, 40),
    width=st.integers(0, 4),
    scale=st.sampled_from([1e-12, 1.0, 1e12]),
    bounds=st.sampled_from([None, (-1.0, 1.0)]),
)
def test_bands_are_nested_and_within_the_bounds(
    seed: int, num: int, width: int, scale: float, bounds: tuple[float, float] | None
) -> None:
    rng = np.random.default_rng(seed)
    given_bounds = None if bounds is None else (scale * bounds[0], scale * bounds[1])
    mean = scale * np.clip(rng.normal(size=(num, width)), -1.0, 1.0)
    found = prediction(mean, scale * rng.random((num, width)), given_bounds, scale * rng.random((num, width)))
    for bands in (found.quantiles(), found.mean_quantiles()):
        assert bands.shape == (9, width)
        assert np.all(np.isfinite(bands))
        assert np.all(np.diff(bands, axis=0) >= 0.0)
        if given_bounds is not None:
            assert np.all((bands >= given_bounds[0]) & (bands <= given_bounds[1]))
    measured = scale * rng.normal(size=width)
    assert np.all(crps(found, measured) >= -1e-12 * scale)
