"""A population, and runs whose points say something exact of their shape."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from scalerl_lab.fit.population import Particles, Unit
from scalerl_lab.fit.sites import Sites
from scalerl_lab.fit.weighing import Table

Array = NDArray[np.float64]

# The population as its docstring states it.
CASES = (
    (np.array([1.0, 1.0, 1.0]), 0.78),
    (np.array([36.0, 1.0, 1.0]), 0.10),
    (np.array([36.0, 36.0, 36.0]), 0.12),
)
"""(Factors of the spread's square, probability) of an arm like others, one odd in its ceiling, one in all."""
SPREAD_MEDIAN = np.array([0.019, 0.12, 0.27])
SPREAD_COVARIANCE = 0.8**2 * (0.7 + 0.3 * np.eye(3))
SEED_SPREAD, SEED_LOG_SD = np.array([0.0075, 0.05, 0.06]), 0.5
UNIT = Unit(value=2.0, last=5000.0, bounds=(0.0, 2.0), level=(0.5, 1.0))
SCALE, OFFSET = np.array([2.0, 1.0, 1.0]), np.array([0.0, 0.0, math.log(5000.0)])


def table_of(
    centre: tuple[float, float, float],
    precision: Array,
    *,
    shape: tuple[int, int] = (14, 12),
    half: tuple[float, float] = (0.9, 0.7),
    log_other: float = -math.inf,
    bend: float = 0.0,
) -> Table:
    """Cells whose evidence of (A, log B, log C) is exactly normal, but for ``bend``."""
    axis_C = np.linspace(centre[2] - half[0], centre[2] + half[0], shape[0])
    axis_B = np.linspace(centre[1] - half[1], centre[1] + half[1], shape[1])
    log_C, log_B = np.meshgrid(axis_C, axis_B, indexing="ij")
    rest = np.stack([log_B.ravel() - centre[1], log_C.ravel() - centre[2]])
    var_A = 1.0 / precision[0, 0]
    A = centre[0] - var_A * precision[0, 1:] @ rest + bend * rest[1] ** 2
    slice_precision = precision[1:, 1:] - var_A * np.outer(precision[0, 1:], precision[0, 1:])
    log_weight = -0.5 * np.einsum("iq,ij,jq->q", rest, slice_precision, rest) + bend * rest[0] ** 3
    size = A.size
    return Table(
        log_weight=log_weight - log_weight.max(),
        log_scale=-1.5,
        A=A,
        var_A=np.full(size, var_A) * (1.0 + abs(bend) * rest[1] ** 2),
        log_B=log_B.ravel(),
        log_C=log_C.ravel(),
        axis_B=axis_B,
        axis_C=axis_C,
        at_B=np.tile(np.arange(shape[1]), shape[0]),
        at_C=np.repeat(np.arange(shape[0]), shape[1]),
        step=(2.0 * half[1] / (shape[1] - 1), 2.0 * half[0] / (shape[0] - 1)),
        log_other=log_other,
        place=np.arange(size),
        log_share=np.zeros(size),
        size=0.05,
    )


def correlated(sds: tuple[float, float, float], correlation: float) -> Array:
    """The precision of three normals that are equally correlated."""
    covariance = np.outer(sds, sds) * (correlation + (1.0 - correlation) * np.eye(3))
    inverse: Array = np.linalg.inv(covariance).astype(np.float64)
    return inverse


BENT = table_of((1.2, 0.5, 7.8), correlated((0.06, 0.2, 0.3), 0.6), bend=0.3, log_other=2.0)


def populations(num: int = 1, spread: float = 1.0) -> Particles:
    """The same population ``num`` times."""
    mean = np.array([1.15, 0.6, 7.7])
    return Particles(
        np.tile(mean, (num, 1)),
        np.tile(spread * np.array([0.05, 0.15, 0.25]), (num, 1)),
        np.tile(np.array([0.02, 0.06, 0.08]), (num, 1)),
    )


def log_cells(table: Table, mean: Array, var: Array) -> Array:
    """[Q] log of cell weight times its density under a normal, A integrated by scipy's normal."""
    wide = var + np.array([0.0, table.step[0] ** 2 / 12.0, table.step[1] ** 2 / 12.0])
    total: Array = table.log_scale + table.log_weight
    total = total + stats.norm.logpdf(table.A, mean[0], np.sqrt(wide[0] + table.var_A))
    total = total + stats.norm.logpdf(table.log_B, mean[1], math.sqrt(wide[1]))
    total += stats.norm.logpdf(table.log_C, mean[2], math.sqrt(wide[2]))
    return total


def normal_sites(num: int, sds: tuple[float, float, float] = (0.03, 0.15, 0.2)) -> Sites:
    """Sites in the unit about slightly different places."""
    rng = np.random.default_rng(5)
    at = np.array([0.58, 0.6, -0.8]) + rng.normal(size=(num, 3)) * np.array([0.02, 0.1, 0.15])
    precision = np.array([correlated(sds, 0.4)] * num)
    return Sites(precision, np.einsum("rij,rj->ri", precision, at))
