"""Scores of forecasts against what was measured later, and their means over curves.

All numbers are in units of a curve's ``scale``, so that curves of different metrics can be averaged.
Means are taken over the held-out points of a curve, then over the curves of a source, then over the
sources of a group, then over groups: a source with many curves, or a curve with many points, counts no
more than another. Curves that a method could not fit count like all others, with the forecast it made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.prediction import CurveFit, Prediction
from scalerl_lab.records import FitStatus

BANDS = (0.5, 0.8, 0.9, 0.95)
"""The central intervals whose coverage and width are scored."""
RESOLUTION = 0.005
"""Width, in units of the scale, of the cell whose probability is the log score."""
MIXED_IN = 0.001
"""Share of an even density over one scale that is mixed into a forecast before its log score."""


@dataclass(frozen=True, slots=True)
class Score:
    """How well forecasts did: one curve's held-out points, or the mean over curves."""

    forecasts: int
    """Of one curve at one cut each."""
    points: int
    mae: float
    """Mean absolute error of the median."""
    crps: float
    """Continuous ranked probability score; lower is better."""
    log_score: float
    """Nats per point of the density of the measured value, per unit of the scale; higher is better."""
    coverage: tuple[float, ...]
    """Share of points inside each of ``BANDS``."""
    width: tuple[float, ...]
    """Mean width of each of ``BANDS``."""
    not_identified: float
    """Share of curves whose ceiling the method calls not identified, or that have too few points."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The score of one method on one curve at one cut."""

    group: str
    source: str
    curve: str
    cut: float
    method: str
    score: Score


def score_fit(fit: CurveFit, held_out: Curve, scale: float) -> Score:
    """The score of a fit's forecast of points that it was not given.

    Args:
        fit: of the earlier points.
        held_out: at least one later point.
        scale: unit of account, > 0, in the unit of the values.
    """
    prediction = fit.predict(held_out.compute)
    drawn = np.sort(prediction.points(), axis=0)
    value = held_out.value
    low = _sorted_quantiles(drawn, [0.5 - band / 2.0 for band in BANDS])
    high = _sorted_quantiles(drawn, [0.5 + band / 2.0 for band in BANDS])
    # Rounding of a value on a bound must not push it out of a band that ends there.
    slack = 1e-9 * scale
    inside = (low - slack <= value) & (value <= high + slack)
    median = _sorted_quantiles(drawn, [0.5])[0]
    return Score(
        forecasts=1,
        points=value.size,
        mae=float(np.abs(median - value).mean() / scale),
        crps=float(sample_crps(drawn, value).mean() / scale),
        log_score=float(log_scores(prediction, value, scale).mean()),
        coverage=tuple(float(share) for share in inside.mean(axis=1)),
        width=tuple(float(width) for width in (high - low).mean(axis=1) / scale),
        not_identified=float(fit.status is not FitStatus.IDENTIFIED),
    )


def sample_crps(drawn: Floats, value: ArrayLike) -> Floats:
    """CRPS [M] of M measured values under K equally probable values each, sorted along the first axis.

    E|X - y| - E|X - X'| / 2, the second with both drawn from the K values.

    Source: Gneiting and Raftery (2007), equation 21.
    """
    num = drawn.shape[0]
    rank = (2.0 * np.arange(1, num + 1) - num - 1.0) / num**2
    score: Floats = np.abs(drawn - np.asarray(value, dtype=np.float64)).mean(axis=0) - rank @ drawn
    return score


def log_scores(prediction: Prediction, value: ArrayLike, scale: float) -> Floats:
    """Log score [M] of M measured values, in nats per unit of the scale.

    log(0.999 P / w + 0.001) with P the probability of the cell of width w = 0.005 scales around the value.
    A cell instead of a point, so that a value that repeats exactly is worth no more than the measurement
    resolves, and what lies beyond a bound counts as being on it. The even density mixed in keeps one
    forecast that was sure and wrong from deciding a mean. Both leave the score proper. It lies between
    -6.9 and 5.3.
    """
    from scipy import special

    measured = np.asarray(value, dtype=np.float64)
    half = 0.5 * RESOLUTION * scale
    low, high = measured - half, measured + half
    if prediction.bounds is not None:
        low = np.where(low <= prediction.bounds[0], -np.inf, low)
        high = np.where(high >= prediction.bounds[1], np.inf, high)
    sd = np.maximum(prediction.noise_sd, 1e-3 * half)
    upper, lower = (high - prediction.centre) / sd, (low - prediction.centre) / sd
    # The same tail on both sides keeps the digits of small probabilities.
    flip = lower > 0.0
    cell = special.ndtr(np.where(flip, -lower, upper)) - special.ndtr(np.where(flip, -upper, lower))
    scores: Floats = np.log((1.0 - MIXED_IN) * cell.mean(axis=0) / RESOLUTION + MIXED_IN)
    return scores


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean of scores, each with the same weight; counts are added up.

    Raises:
        ValueError: there is none.
    """
    if not scores:
        raise ValueError("no scores to average")

    def mean(values: Iterable[float]) -> float:
        return float(np.mean(list(values)))

    return Score(
        forecasts=sum(s.forecasts for s in scores),
        points=sum(s.points for s in scores),
        mae=mean(s.mae for s in scores),
        crps=mean(s.crps for s in scores),
        log_score=mean(s.log_score for s in scores),
        coverage=tuple(mean(s.coverage[i] for s in scores) for i in range(len(BANDS))),
        width=tuple(mean(s.width[i] for s in scores) for i in range(len(BANDS))),
        not_identified=mean(s.not_identified for s in scores),
    )


def group_score(scored: Sequence[Scored]) -> Score:
    """The mean over curves of a source, then over sources, then over groups.

    Curves are alike at all cuts that are handed in.

    Raises:
        ValueError: there is none.
    """
    by_group: dict[str, dict[str, list[Score]]] = {}
    for one in scored:
        by_group.setdefault(one.group, {}).setdefault(one.source, []).append(one.score)
    return mean_score(
        [mean_score([mean_score(curves) for curves in sources.values()]) for sources in by_group.values()]
    )


def _sorted_quantiles(drawn: Floats, levels: Sequence[float]) -> Floats:
    """[L, M] quantiles of columns sorted upwards, interpolated between neighbours."""
    place = np.asarray(levels) * (drawn.shape[0] - 1)
    below = np.minimum(place.astype(np.int64), max(drawn.shape[0] - 2, 0))
    above = np.minimum(below + 1, drawn.shape[0] - 1)
    share = (place - below)[:, None]
    quantiles: Floats = drawn[below] * (1.0 - share) + drawn[above] * share
    return quantiles
