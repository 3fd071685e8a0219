"""Scores on numbers by hand and against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from scalerl_lab.fit.baselines import BaselineFit
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.prediction import Prediction
from scalerl_lab.fit.score import (
    BANDS,
    MIXED_IN,
    RESOLUTION,
    Score,
    Scored,
    group_score,
    log_scores,
    mean_score,
    sample_crps,
    score_fit,
)
from scalerl_lab.records import FitStatus

NORMAL = NormalDist()


def fit_of(mean: float, sd: float, bounds: tuple[float, float] | None = None) -> BaselineFit:
    """A forecast of N(mean, sd^2) at every compute."""
    given = Curve.of("c", [1.0, 2.0], [mean, mean], bounds=bounds)
    return BaselineFit(
        curve=given,
        method="normal",
        status=FitStatus.IDENTIFIED,
        why="",
        r0=None,
        asymptote=None,
        efficiency=None,
        midpoint=None,
        residual_sd=sd,
        curves_at=lambda compute: np.full((1, compute.size), mean),
        noise_sd=np.array([sd]),
    )


def held_out(*values: float) -> Curve:
    return Curve.of("c", np.arange(3.0, 3.0 + len(values)), values)


def test_crps_of_a_normal() -> None:
    """sd (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)), Gneiting and Raftery (2007)."""
    mean, sd = 0.5, 0.02
    values = [0.5, 0.51, 0.47, 0.6]
    z = [(value - mean) / sd for value in values]
    expected = [
        sd * (x * (2.0 * NORMAL.cdf(x) - 1.0) + 2.0 * NORMAL.pdf(x) - 1.0 / math.sqrt(math.pi)) for x in z
    ]
    drawn = np.sort(fit_of(mean, sd).predict([3.0, 4.0, 5.0, 6.0]).points(4000), axis=0)
    assert sample_crps(drawn, values) == pytest.approx(expected, rel=5e-3)
    score = score_fit(fit_of(mean, sd), held_out(*values), scale=2.0)
    assert score.crps == pytest.approx(np.mean(expected) / 2.0, rel=5e-3)


def test_crps_of_few_values_by_hand() -> None:
    # X in {0, 1, 5}, y = 2: E|X - y| = (2 + 1 + 3) / 3 = 2; E|X - X'| = 2 (1 + 5 + 4) / 9 = 20 / 9.
    drawn = np.array([[0.0], [1.0], [5.0]])
    assert sample_crps(drawn, [2.0]) == pytest.approx([2.0 - 10.0 / 9.0])


def test_error_coverage_and_width_by_hand() -> None:
    # Half widths of 50, 80, 90, 95 %: 0.674, 1.282, 1.645, 1.960 sd.
    values = (0.50, 0.55, 0.61, 0.69, 0.71, 0.31, 0.2)
    score = score_fit(fit_of(0.5, 0.1), held_out(*values), scale=1.0)
    assert score.points == 7
    assert score.coverage == pytest.approx((2 / 7, 3 / 7, 3 / 7, 5 / 7))
    widths = [2.0 * 0.1 * NORMAL.inv_cdf(0.5 + band / 2.0) for band in BANDS]
    assert score.width == pytest.approx(widths, rel=0.01)
    assert score.mae == pytest.approx((0.05 + 0.11 + 0.19 + 0.21 + 0.19 + 0.3) / 7, rel=1e-3)
    assert score.not_identified == 0.0


def test_log_score_is_the_log_density_where_that_is_smooth() -> None:
    prediction = fit_of(0.5, 0.1).predict([3.0, 4.0])
    values = [0.5, 0.65]
    density = np.array([NORMAL.pdf((value - 0.5) / 0.1) / 0.1 for value in values])
    expected = np.log((1.0 - MIXED_IN) * density + MIXED_IN)
    assert log_scores(prediction, values, scale=1.0) == pytest.approx(expected, abs=1e-3)
    # In units of a scale of 10 the density is ten times as high.
    ten = log_scores(replace(prediction, mean=10.0 * prediction.mean, noise_sd=10.0 * prediction.noise_sd),
                     [5.0, 6.5], scale=10.0)  # fmt: skip
    assert ten == pytest.approx(log_scores(prediction, values, scale=1.0))


def test_log_score_has_a_floor_and_a_ceiling() -> None:
    sure = Prediction(np.array([1.0]), np.array([[0.5]]), np.array([[0.0]]), (0.0, 1.0))
    assert log_scores(sure, [0.9], scale=1.0)[0] == pytest.approx(math.log(MIXED_IN))
    assert log_scores(sure, [0.5], scale=1.0)[0] == pytest.approx(math.log(0.999 / RESOLUTION + MIXED_IN))


def test_what_lies_beyond_a_bound_is_on_it() -> None:
    """N(1, 0.1^2) cut at 1 has half of its mass on 1."""
    bounded = fit_of(1.0, 0.1, (0.0, 1.0)).predict([3.0])
    half = NORMAL.cdf(0.0) + NORMAL.cdf(RESOLUTION / 2.0 / 0.1) - 0.5
    assert log_scores(bounded, [1.0], scale=1.0)[0] == pytest.approx(
        math.log((1.0 - MIXED_IN) * half / RESOLUTION + MIXED_IN)
    )
    score = score_fit(fit_of(1.0, 0.1, (0.0, 1.0)), held_out(1.0, 1.0), scale=1.0)
    assert score.coverage == (1.0, 1.0, 1.0, 1.0)
    assert score.mae == pytest.approx(0.0, abs=1e-3)


def test_the_true_forecast_has_the_best_scores() -> None:
    rng = np.random.default_rng(0)
    later = held_out(*rng.normal(0.5, 0.05, 4000))
    scores = {sd: score_fit(fit_of(0.5, sd), later, scale=1.0) for sd in (0.02, 0.05, 0.12)}
    assert min(scores, key=lambda sd: scores[sd].crps) == 0.05
    assert max(scores, key=lambda sd: scores[sd].log_score) == 0.05
    assert scores[0.05].coverage == pytest.approx(BANDS, abs=0.02)


def _score(crps: float, points: int = 1) -> Score:
    return Score(1, points, crps, crps, -crps, (crps,) * 4, (crps,) * 4, 0.0)


def test_means_weigh_groups_then_sources_then_curves() -> None:
    def scored(group: str, source: str, crps: float, points: int = 1) -> Scored:
        return Scored(group, source, "c", 0.5, "m", _score(crps, points))

    found = group_score(
        [
            scored("g", "a", 1.0, points=100),
            scored("g", "a", 3.0),
            scored("g", "b", 6.0),
            scored("h", "c", 10.0),
        ]
    )
    # Source a: 2; b: 6; group g: 4; h: 10; all: 7. Points of a curve do not count.
    assert (found.crps, found.log_score, found.coverage[0]) == (7.0, -7.0, 7.0)
    assert (found.forecasts, found.points) == (4, 103)
    with pytest.raises(ValueError, match="no scores"):
        mean_score([])
