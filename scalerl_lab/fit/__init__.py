"""fit: statistics of one curve and of several, in numpy; this room has no idea what training is.

From points (compute, held-out pass rate, its error) to the posterior of the sigmoid law
R(C) = R0 + (A - R0) / (1 + (C_mid / C)^B): ceiling A, efficiency B, midpoint C_mid, and the pass rate
at compute not yet spent.

    law.py        the law and its inverse
    courses.py    the curve of a draw: the law, or a line where the law does not hold
    curve.py      ``Curve``: points in any unit, and what is known of the start
    window.py     a run's measured points as a curve
    noise.py      kinds of noise and of discrepancy from the law
    cells.py      the law given (C_mid, B): all else in closed form
    posterior.py  grid over (C_mid, B), draws of all parameters; priors are stated there
    outliers.py   single points that count less
    paths.py      curves drawn from a posterior, at any compute
    prediction.py what every method of forecasting gives
    identify.py   whether the posterior says where the ceiling is
    law_fit.py    ``fit_posterior``: the Bayesian fit of one curve
    population.py what runs of one sweep have in common
    weighing.py   a run's cells, and how they weigh under a population
    sites.py      what runs say of their population, as normals
    symmetric.py  many symmetric 3 x 3 matrices at once
    absorb.py     runs and arms drawn given populations
    proposal.py   populations proposed
    sibling_run.py  a run of a sweep with its cells
    shared_noise.py  noise, and whether the law holds, over all runs
    shared_shape.py  the population inferred, and runs drawn given it
    on_demand.py  collections whose items are made when they are first asked for
    siblings.py   ``fit_siblings``: the runs of a sweep fitted together
    collapse.py   the change-point of a run that falls from its peak
    rises.py      none, one or two rises as descriptions of a curve
    checks.py     predictive checks of residuals
    shape.py      ``recognise``: what kind of curve it is, and whether its ceiling can be believed
    fitted.py     ``fit_curve``: a run's fit with forecast and bands
    differences.py  differences between arms, or runs, of one sweep
    reach.py      GPU-hours to a level, by the points and the law
    crossing.py   at which compute an arm overtakes another
    pool.py       the ceiling of an arm over its seeds, and refits at a common ceiling
    between_seeds.py  how far seeds of an arm lie apart beyond the noise of measuring them
    sweep_fit.py  ``fit_sweep``: a sweep's runs and arms from one joint posterior
    paper.py      the least-squares procedure of the ScaleRL paper, for comparison
    published.py  published parameters of ScaleRL, with where each is printed
    simulate.py   curves and sweeps whose truth is known
    drawn.py      sweeps whose arms are drawn too: worse arms, many recipes
    paper_compare.py  its margin from replicates, and B at a common ceiling
    paper_method.py  that procedure as a method of forecasting any curve
    baselines.py  what the simple methods of forecasting share
    models.py     laws as least squares sees them
    least_squares.py  sigmoid, power law and a line in log compute, fitted as people do
    persistence.py  the last value, or level, stays
    methods.py    ``METHODS``: every method of forecasting by name
    pass_at_k.py  pass@k of problems sampled many times, with its bootstrap over the problems
    boundary.py   what became of pass@k at the largest k: diminishing, plateau, sustained
    rank.py       rank correlation of few pairs with its interval
    score.py      forecasts against what came: errors, CRPS, log score, coverage

To add a statistic: a function on ``FittedCurve`` or on points, with a test that knows the answer
otherwise. Never raise on data: a curve that says nothing gets a status. Never read files, clocks or
global random state: the same points give the same numbers, bit for bit.
"""

from scalerl_lab.fit.between_seeds import BetweenSeeds, between_seeds
from scalerl_lab.fit.boundary import Boundary, Regime, boundary
from scalerl_lab.fit.courses import ArmDraws, LawDraws, Lines, drawn_curves, drawn_hours
from scalerl_lab.fit.crossing import Crossing, crossing, crossing_of_curves
from scalerl_lab.fit.differences import (
    Difference,
    log_hours_ratio,
    pass_rate_difference,
    probability_below,
    probability_ends_above,
)
from scalerl_lab.fit.fitted import QUANTILES, FittedCurve, fit_curve, interval_of
from scalerl_lab.fit.law import gain_share, hours_to_reach, pass_rate
from scalerl_lab.fit.law_fit import LawFit, fit_posterior
from scalerl_lab.fit.methods import METHODS, fit_with
from scalerl_lab.fit.paper import PaperFit, paper_fit
from scalerl_lab.fit.pass_at_k import mean_error, mean_interval, pass_at_k, powers_of_two
from scalerl_lab.fit.pool import (
    CeilingRefit,
    PooledCeiling,
    ceiling_difference,
    efficiency_difference,
    refit_at_ceiling,
)
from scalerl_lab.fit.rank import rank_correlation, rank_correlation_interval
from scalerl_lab.fit.reach import reached_hours
from scalerl_lab.fit.score import BANDS, Score, Scored, group_score, mean_score, score_fit
from scalerl_lab.fit.siblings import Siblings, fit_siblings
from scalerl_lab.fit.sweep_fit import SweepFit, SweepRun, fit_sweep
from scalerl_lab.fit.window import num_in_window

__all__ = [
    "BANDS",
    "METHODS",
    "QUANTILES",
    "ArmDraws",
    "BetweenSeeds",
    "Boundary",
    "CeilingRefit",
    "Crossing",
    "Difference",
    "FittedCurve",
    "LawDraws",
    "LawFit",
    "Lines",
    "PaperFit",
    "PooledCeiling",
    "Regime",
    "Score",
    "Scored",
    "Siblings",
    "SweepFit",
    "SweepRun",
    "between_seeds",
    "boundary",
    "ceiling_difference",
    "crossing",
    "crossing_of_curves",
    "drawn_curves",
    "drawn_hours",
    "efficiency_difference",
    "fit_curve",
    "fit_posterior",
    "fit_siblings",
    "fit_sweep",
    "fit_with",
    "gain_share",
    "group_score",
    "hours_to_reach",
    "interval_of",
    "log_hours_ratio",
    "mean_error",
    "mean_interval",
    "mean_score",
    "num_in_window",
    "paper_fit",
    "pass_at_k",
    "pass_rate",
    "pass_rate_difference",
    "powers_of_two",
    "probability_below",
    "probability_ends_above",
    "rank_correlation",
    "rank_correlation_interval",
    "reached_hours",
    "refit_at_ceiling",
    "score_fit",
]
