"""fit: statistics of one curve and of several, in numpy; this room has no idea what training is.

From points (compute, held-out pass rate, its error) to the posterior of the sigmoid law
R(C) = R0 + (A - R0) / (1 + (C_mid / C)^B): ceiling A, efficiency B, midpoint C_mid, and the pass rate
at compute not yet spent.

    law.py        the law and its inverse
    window.py     which points a fit is given, the noise expected of them, and R0
    posterior.py  grid over (C_mid, B), all else integrated; priors are stated there
    identify.py   whether the posterior says where the ceiling is
    fitted.py     ``fit_curve``: a run's fit with forecast and bands
    pool.py       ceilings of an arm's seeds pooled, differences between arms, refits at a common ceiling
    paper.py      the least-squares procedure of the ScaleRL paper, for comparison
    published.py  published parameters of ScaleRL, with where each is printed
    simulate.py   curves and sweeps whose truth is known
    paper_method.py  that procedure as a method of forecasting any curve
    baselines.py  what the simple methods of forecasting share
    models.py     laws as least squares sees them
    least_squares.py  sigmoid, power law and a line in log compute, fitted as people do
    persistence.py  the last value, or level, stays
    methods.py    ``METHODS``: every method of forecasting by name
    score.py      forecasts against what came: errors, CRPS, log score, coverage

To add a statistic: a function on ``FittedCurve`` or on points, with a test that knows the answer
otherwise. Never raise on data: a curve that says nothing gets a status. Never read files, clocks or
global random state: the same points give the same numbers, bit for bit.
"""

from scalerl_lab.fit.fitted import QUANTILES, FittedCurve, fit_curve, interval_of
from scalerl_lab.fit.law import gain_share, hours_to_reach, pass_rate
from scalerl_lab.fit.methods import METHODS, fit_with
from scalerl_lab.fit.paper import PaperFit, paper_fit
from scalerl_lab.fit.pool import (
    CeilingDifference,
    CeilingRefit,
    PooledCeiling,
    ceiling_difference,
    pool,
    refit_at_ceiling,
)
from scalerl_lab.fit.score import BANDS, Score, Scored, group_score, mean_score, score_fit

__all__ = [
    "BANDS",
    "METHODS",
    "QUANTILES",
    "CeilingDifference",
    "CeilingRefit",
    "FittedCurve",
    "PaperFit",
    "PooledCeiling",
    "Score",
    "Scored",
    "ceiling_difference",
    "fit_curve",
    "fit_with",
    "gain_share",
    "group_score",
    "hours_to_reach",
    "interval_of",
    "mean_score",
    "paper_fit",
    "pass_rate",
    "pool",
    "refit_at_ceiling",
    "score_fit",
]
