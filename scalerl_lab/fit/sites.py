"""Normal approximations to what each run's points say of it, and of a centre that it scatters about."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit import symmetric
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.population import Unit
from scalerl_lab.fit.weighing import Table


@dataclass(frozen=True, slots=True)
class Sites:
    """Normal approximations to what each of R runs says of theta, in the unit: exp(-x'Px/2 + h'x)."""

    precision: Floats
    """[R, 3, 3] P"""
    shift: Floats
    """[R, 3] h"""


def sites_of(tables: list[Table], unit: Unit, mean: Floats, covariance: Floats) -> Sites:
    """The approximation that has the right mean and covariance where the references lie.

    Args:
        tables: of R runs.
        unit: of the coordinates.
        mean: [R, 3] centres of the references, in the unit.
        covariance: [R, 3, 3] of the references.
    """
    precision, shift = [], []
    for table, centre, spread in zip(tables, mean, covariance, strict=True):
        inner = np.linalg.inv(spread)
        found_mean, found = _tilted(table, unit, centre, inner)
        outer = np.linalg.inv(found + 1e-10 * np.eye(3))
        values, vectors = np.linalg.eigh(outer - inner)
        # Where a run says nothing, rounding must not make it repel.
        site = (vectors * np.maximum(values, 1e-6)) @ vectors.T
        precision.append(site)
        shift.append((site + inner) @ found_mean - inner @ centre)
    return Sites(np.array(precision), np.array(shift))


def _tilted(table: Table, unit: Unit, centre: Floats, precision: Floats) -> tuple[Floats, Floats]:
    """Mean [3] and covariance [3, 3] of theta under a run's points and a normal."""
    A, var_A = table.A / unit.value, table.var_A / unit.value**2
    rest = np.stack([table.log_B, table.log_C - math.log(unit.last)]) - centre[1:, None]
    # Given the cell, A is normal under both.
    own = 1.0 / var_A + precision[0, 0]
    pull = A / var_A + precision[0, 0] * centre[0] - precision[0, 1:] @ rest
    best = pull / own
    log_weight = table.log_weight - 0.5 * np.log(var_A * own)
    log_weight += -0.5 * (A**2 / var_A - pull**2 / own)
    log_weight += -0.5 * np.einsum("iq,ij,jq->q", rest, precision[1:, 1:], rest)
    log_weight += centre[0] * (precision[0, 1:] @ rest)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    shape = np.concatenate([best[None], rest + centre[1:, None]])
    mean = shape @ weight
    off = shape - mean[:, None]
    covariance = (off * weight) @ off.T
    covariance[0, 0] += weight @ (1.0 / own)
    covariance[1, 1] += table.step[0] ** 2 / 12.0
    covariance[2, 2] += table.step[1] ** 2 / 12.0
    return mean, covariance


def blur(precision: Floats, shift: Floats, variance: Floats) -> tuple[Floats, Floats, Floats]:
    """What exp(-x'Px/2 + h'x) says of a centre about which x scatters: ([6, K], [3, K], [K] log constant).

    Args:
        precision: [6, K] P as in ``symmetric``, or [6, 1].
        shift: [3, K] h, or [3, 1].
        variance: [3, K] of that scatter.
    """
    # 1 + S P S with S the root of the variance: its eigenvalues are at least 1.
    x, y, z = sd = np.sqrt(variance)
    products = np.stack([x * x, y * y, z * z, x * y, x * z, y * z])
    widened = precision * products
    widened[:3] += 1.0
    inverse, determinant = symmetric.inverse(widened)
    scaled = shift * sd
    moved = symmetric.times(inverse, scaled)
    log_const: Floats = 0.5 * (scaled * moved).sum(axis=0) - 0.5 * np.log(determinant)
    left = -inverse
    left[:3] += 1.0
    return left / products, moved / sd, log_const
