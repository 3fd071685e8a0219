"""The paper's procedure for any curve, with bands that the paper does not draw.

The grids. Ceilings: bounds in 200 steps, 0.005 apart for pass rates, of which the paper's 0.450 to 0.800
are a part; without bounds 200 steps from three ranges of the points below the last value to three above.
Midpoints: the paper's own linspace(100, 4000, 100) for curves like the published ones (bounds 0 and 1, R0
known and between 0.3 and 0.6, last compute between 1,500 and 200,000), and the same times last compute /
16,000 for all others. Where the best midpoint is the last of its grid, linspace(4000, 40000, 100), scaled
alike, is tried as well: the published midpoints of long runs lie on it, as ranges were set by hand.

R0 is held where it is known; else the first value takes its place. Bands: the normal of the covariance
of A, log B and log C_mid about the point of the grid, as in ``least_squares``.

Source: ScaleRL (arXiv 2510.13786) A.5.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scalerl_lab.fit.baselines import BaselineFit, computes, levelled
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.least_squares import around, few_points, fit_of
from scalerl_lab.fit.models import sigmoid
from scalerl_lab.fit.paper import PAPER_LONG_MIDPOINTS, PAPER_MIDPOINTS, PaperFit, paper_fit

_NUM_CEILINGS = 201
_MIDPOINTS_FOR = 16_000.0
"""The last compute that the paper's grid of midpoints is meant for."""
_LEAST_POINTS = 4


def paper(curve: Curve) -> BaselineFit:
    """The law by least squares on the grid; at least four points are needed, else the last value stays."""
    if curve.compute.size < _LEAST_POINTS:
        return few_points(curve, "paper", _LEAST_POINTS)
    levels, shares = levelled(curve), computes(curve)
    r0 = levels.r0 if levels.r0 is not None else float(levels.value[0])
    held = replace(levels, r0=r0)
    model = sigmoid(shares, held)
    ceilings = np.linspace(model.low[0], model.high[0], _NUM_CEILINGS)
    found = _on_grids(shares, levels.value, r0, ceilings, _grid_unit(curve))
    point = np.clip(np.array([found.A, np.log(found.B), np.log(found.C_mid)]), model.low, model.high)
    solved = around(model, shares, levels.value, point)
    fit = fit_of(curve, "paper", held, replace(solved, at_edge=found.at_edge), model)
    with np.errstate(over="ignore"):
        midpoint = np.exp(solved.draws[:, 2]) * curve.compute[-1]
    return replace(
        fit,
        r0=curve.r0 if curve.r0 is not None else float(curve.value[0]),
        efficiency=np.exp(solved.draws[:, 1]),
        midpoint=np.minimum(midpoint, np.finfo(np.float64).max),
    )


def paper_at_ceiling(curve: Curve, ceiling: float) -> PaperFit:
    """B and C_mid of a curve with at least one point, the ceiling held, on the same grids of midpoints.

    Source: ScaleRL (arXiv 2510.13786) A.5: B is compared at the mean of ceilings that are alike.
    """
    r0 = curve.r0 if curve.r0 is not None else float(curve.value[0])
    last = float(curve.compute[-1])
    found = _on_grids(computes(curve), curve.value, r0, np.array([ceiling]), _grid_unit(curve))
    return replace(found, C_mid=found.C_mid * last)


def _grid_unit(curve: Curve) -> float:
    """The compute that the paper's midpoints are in units of, as a share of the last compute."""
    last = float(curve.compute[-1])
    published = curve.bounds == (0.0, 1.0) and curve.r0 is not None and 0.3 <= curve.r0 <= 0.6
    if published and 1_500.0 <= last <= 200_000.0:
        return 1.0 / last
    return 1.0 / _MIDPOINTS_FOR


def _on_grids(shares: Floats, value: Floats, r0: float, ceilings: Floats, unit: float) -> PaperFit:
    """The best pair on the first grid of midpoints, and on the second where the first cuts it off."""
    tops = [float(A) for A in ceilings]
    short = [C * unit for C in PAPER_MIDPOINTS]
    found = paper_fit(shares, value, r0, ceilings=tops, midpoints=short)
    if found.C_mid != short[-1]:
        return found
    longer = [C * unit for C in PAPER_LONG_MIDPOINTS]
    further = paper_fit(shares, value, r0, ceilings=tops, midpoints=longer)
    return further if further.rmse < found.rmse else found
