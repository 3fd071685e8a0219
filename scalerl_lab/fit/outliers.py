"""Single points that lie off their neighbours: they count less."""

from __future__ import annotations

import numpy as np

from scalerl_lab.fit.cells import Problem, law_forms
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.posterior import Axes, most_probable

_FAR = 3.5
"""Robust standard scores beyond which a point is an outlier."""
_LEAST_TYPICAL = 0.2
"""Residuals below this share of the noise's first guess are no measure of what is far."""
_LEAST_POINTS = 8
_MOST = 0.15
"""Share of points beyond which they are no outliers but the curve's nature."""


def inflation(problem: Problem, axes: Axes) -> Floats | None:
    """[N] factors on the noise of each point, or None where no point is an outlier.

    A point is judged by its distance from what all others say of it (leave-one-out residual) under the
    most probable shape and noise; its noise is inflated so that the distance is ordinary.
    """
    num = problem.points.y.size
    if num < _LEAST_POINTS:
        return None
    score = _leave_one_out(problem, axes)
    typical = max(float(np.median(np.abs(score))) / 0.6745, _LEAST_TYPICAL)
    far = np.where(np.abs(score) > _FAR * typical, np.sign(score), 0.0)
    beside = np.append(far[1:], 0.0), np.append(0.0, far[:-1])
    # Neighbours that lie off on the same side are a step of the curve.
    alone = (far != 0.0) & (far != beside[0]) & (far != beside[1])
    if not alone.any() or alone.mean() > _MOST:
        return None
    factors: Floats = np.where(alone, np.abs(score) / typical, 1.0)
    return factors


def _leave_one_out(problem: Problem, axes: Axes) -> Floats:
    """[N] leave-one-out residuals over their standard deviation, in units of the first guess of the noise."""
    component, cell = most_probable(problem, axes)
    log_C, log_B = axes.cells()
    form = law_forms(problem, log_C[cell : cell + 1], log_B[cell : cell + 1]).form[0]
    root = problem.root[problem.kind[component]]
    num = problem.points.y.size
    design = root @ np.stack([np.ones(num), form], axis=1)
    prior = np.diag([problem.start_precision[component], problem.gain_precision])
    hat = design @ np.linalg.solve(design.T @ design + prior, design.T)
    precision = root.T @ (np.eye(num) - hat) @ root
    y = (problem.points.y - problem.start) / problem.scale
    scores: Floats = (precision @ y) / np.sqrt(np.maximum(np.diag(precision), 1e-300))
    return scores
