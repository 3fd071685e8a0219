"""What one run's points say of its shape, and how its cells weigh under a population.

Notation: Q cells of a run, K populations (or arms) that weigh them, M draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalerl_lab.fit.law import Floats, Integers
from scalerl_lab.fit.population import CASE_LOG_WEIGHTS, ODD_FACTOR

_BLOCK = 128
"""Populations weighed at a time: what they need stays in a processor's own memory."""
_GROUP = 16
"""Cells whose weights are added up before one of them is looked for."""
_LEAST_WEIGHT = 1e-28
"""Below it single precision may have lost cells that count."""
_SHARES = np.exp(CASE_LOG_WEIGHTS)
_Singles = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Table:
    """What one run's points say of its shape: a normal of A in each cell of (log B, log C_mid)."""

    log_weight: Floats
    """[Q] evidence of the cell with a flat density of A, the area of the cell included; 0 for the best."""
    log_scale: float
    """Evidence of the best cell."""
    A: Floats
    """[Q] mean of A in units of value."""
    var_A: Floats
    """[Q]"""
    log_B: Floats
    """[Q]"""
    log_C: Floats
    """[Q] absolute."""
    axis_B: Floats
    """Distinct values of ``log_B``."""
    axis_C: Floats
    """The same of ``log_C``."""
    at_B: Integers
    """[Q] index of each cell's B in them."""
    at_C: Integers
    """[Q]"""
    step: tuple[float, float]
    """Cell size in log B and log C_mid."""
    log_other: float
    """Evidence that the run follows no law."""
    place: Integers
    """[Q] of the cells among those of the run's axes."""
    log_share: Floats
    """[Q] log share of the whole gain that each cell gains within the run's window."""
    size: float
    """Noise of a point, in units of value: what A is counted in where digits are few."""
    lawful: float = 0.0
    """Probability by the run's own points that it follows the law."""

    @cached_property
    def singles(self) -> _Cells:
        """The cells in single precision."""
        return _Cells.of(self)

    def log_evidence(self, log_law: Floats) -> Floats:
        """[K] of the points, lawful or not, from that under the law."""
        both: Floats = np.logaddexp(log_law, self.log_other)
        return both


@dataclass(frozen=True, slots=True)
class Weighed:
    """What K populations make of a run's points, and M cells drawn."""

    log_law: Floats
    """[K] log evidence under the law."""
    cell: Integers
    """[M]"""


def weigh(
    table: Table, mean: Floats, seed_var: Floats, arm_var: Floats | None, owner: Integers, uniform: Floats
) -> Weighed:
    """Weigh a run's cells under each population, or each arm, and draw from them.

    A cell's weight is the density of its shape and ceiling, the ceiling integrated out.

    Args:
        table: of the run.
        mean: [K, 3] mean of theta: mu with ``arm_var``, else that of an arm.
        seed_var: [K, 3] variance of seeds about their arm.
        arm_var: [K, 3] of arms about mu, before any is odd; None: the arm is given.
        owner: [M] under which of the K each cell is drawn, in increasing order.
        uniform: [M] numbers in [0, 1) by which cells are drawn, in the order of the cells.
    """
    variances = _variances(table, seed_var, arm_var)
    log_law, cell = np.empty(mean.shape[0]), np.empty(owner.size, np.int64)
    for first in range(0, mean.shape[0], _BLOCK):
        k = slice(first, first + _BLOCK)
        here = slice(*np.searchsorted(owner, (first, first + _BLOCK)))
        log_law[k], cell[here] = _weigh_block(
            table, mean[k], [var[k] for var in variances], owner[here] - first, uniform[here]
        )
    norm = table.log_scale - math.log(table.size) - 1.5 * math.log(2.0 * math.pi)
    return Weighed(log_law + norm, cell)


def log_cases(table: Table, cell: Integers, mean: Floats, seed_var: Floats, arm_var: Floats) -> Floats:
    """[M, 3] log weights, given the cell drawn [M], of the cases in which an arm may be odd.

    Args:
        mean: [M, 3] mu, as in ``weigh``, as the variances.
    """
    of_A, of_shape = [], []
    off = np.stack([table.A[cell], table.log_B[cell], table.log_C[cell]], axis=1) - mean
    for var in _variances(table, seed_var, arm_var):
        wide = var.copy()
        wide[:, 0] += table.var_A[cell]
        log_density = -0.5 * (np.log(wide) + off**2 / wide)
        of_A.append(log_density[:, 0])
        of_shape.append(log_density[:, 1] + log_density[:, 2])
    cases = np.stack([of_A[0] + of_shape[0], of_A[1] + of_shape[0], of_A[1] + of_shape[1]], axis=1)
    return cases + CASE_LOG_WEIGHTS


def _variances(table: Table, seed_var: Floats, arm_var: Floats | None) -> list[Floats]:
    """[K, 3] variances of theta in an arm like others and in an odd one; within the arm where it is given."""
    # Cells stand for all shapes within them: their width smooths a population narrower than they are.
    seed = seed_var + np.array([0.0, *table.step]) ** 2 / 12.0
    return [seed] if arm_var is None else [arm_var + seed, ODD_FACTOR**2 * arm_var + seed]


@dataclass(frozen=True, slots=True)
class _Cells:
    """A table in single precision, far finer than the noise of K populations, and half the work.

    Cells are made up to whole groups by some without weight; values are in units of the noise.
    """

    centre: tuple[float, float, float]
    A: _Singles
    """[Q, 2] from the centre, as the axes; ones."""
    var_A: _Singles
    """[Q, 2]; ones."""
    weight: _Singles
    """[Q, 1]"""
    axes: tuple[_Singles, _Singles]
    """Of B and C_mid, with ones."""
    at_B: Integers
    """[Q]"""
    at_C: Integers
    """[Q]"""

    @classmethod
    def of(cls, table: Table) -> _Cells:
        centre = float(table.A[table.A.size // 2]), float(table.axis_B.mean()), float(table.axis_C.mean())
        return cls(
            centre=centre,
            A=_with_ones(_whole((table.A - centre[0]) / table.size, 0.0)),
            var_A=_with_ones(_whole(table.var_A / table.size**2, 1.0)),
            weight=_whole(np.exp(table.log_weight), 0.0).astype(np.float32)[:, None],
            axes=(_with_ones(table.axis_B - centre[1]), _with_ones(table.axis_C - centre[2])),
            at_B=_whole(table.at_B, 0),
            at_C=_whole(table.at_C, 0),
        )


def _weigh_block(
    table: Table, mean: Floats, variances: list[Floats], owner: Integers, uniform: Floats
) -> tuple[Floats, Integers]:
    """([K] log of the summed weights, [M] cells)."""
    weight, top = _weights(table, mean, variances)
    groups = weight.reshape(-1, _GROUP, weight.shape[1])
    by_group = groups.sum(axis=1)
    lost = by_group.sum(axis=0) < _LEAST_WEIGHT
    if lost.any():
        kept = slice(0, table.A.size)
        weight[kept, lost], top[lost] = _weights_by_logs(table, mean[lost], [var[lost] for var in variances])
        by_group = groups.sum(axis=1)
    cumulative = np.cumsum(by_group, axis=0, dtype=np.float64)
    total = cumulative[-1]
    log_law = top + np.log(total)
    if not owner.size:
        return log_law, owner
    target = uniform * total[owner]
    group = (cumulative[:, owner] < target).sum(axis=0)
    within = np.cumsum(groups[group, :, owner], axis=1, dtype=np.float64)
    left = target - np.where(group > 0, cumulative[group - 1, owner], 0.0)
    left = np.minimum(left, within[:, -1])
    return log_law, group * _GROUP + (within < left[:, None]).sum(axis=1)


def _weights(table: Table, mean: Floats, variances: list[Floats]) -> tuple[_Singles, Floats]:
    """([Q, K] weights over exp(top), [K] top): products of what A, B and C_mid say, so few exponentials."""
    single, cells = np.float32, table.singles
    off = _sums(cells.A, (cells.centre[0] - mean[:, 0]) / table.size)
    off *= off
    off *= single(-0.5)
    of_A = []
    for var in variances:
        var_A = _sums(cells.var_A, var[:, 0] / table.size**2)
        density = off / var_A
        np.exp(density, out=density)
        density /= np.sqrt(var_A, out=var_A)
        of_A.append(density)
    of_shape, top = _of_shape(table, mean, variances)
    weight = of_A[0]
    weight *= of_shape[0]
    if len(variances) > 1:
        odd = of_shape[0]
        odd *= single(_SHARES[1] / _SHARES[0])
        odd += of_shape[1]
        odd *= of_A[1]
        weight += odd
    weight *= cells.weight
    return weight, top


def _of_shape(table: Table, mean: Floats, variances: list[Floats]) -> tuple[list[_Singles], Floats]:
    """([Q, K] densities of (B, C_mid) over exp(top) for each variance, [K] top).

    With the weights of the cases: of that of an arm like others, and of one odd in all.
    """
    single, cells = np.float32, table.singles
    off = [_sums(axis, cells.centre[d] - mean[:, d]) for d, axis in enumerate(cells.axes, 1)]
    squares = [axis_off * axis_off for axis_off in off]
    logs = [
        [square * (-0.5 / var[:, d]).astype(single) for d, square in enumerate(squares, 1)]
        for var in variances
    ]
    norms = [-0.5 * np.log(var[:, 1] * var[:, 2]) for var in variances]
    if len(variances) > 1:
        norms = [norm + math.log(share) for norm, share in zip(norms, _SHARES[::2], strict=True)]
    tops = [[z.max(axis=0) for z in pair] for pair in logs]
    lifted = [norm + top_B + top_C for norm, (top_B, top_C) in zip(norms, tops, strict=True)]
    top = np.max(lifted, axis=0)
    of_shape = []
    for (log_B, log_C), (top_B, top_C), high in zip(logs, tops, lifted, strict=True):
        of_B, of_C = np.exp(log_B - top_B), np.exp(log_C + (high - top - top_C).astype(single))
        density = np.take(of_B, cells.at_B, axis=0, mode="clip")
        density *= np.take(of_C, cells.at_C, axis=0, mode="clip")
        of_shape.append(density)
    return of_shape, top


def _whole(values: NDArray[Any], fill: float) -> NDArray[Any]:
    """[Q] values made up to whole groups."""
    whole = np.full(values.size + -values.size % _GROUP, fill, values.dtype)
    whole[: values.size] = values
    return whole


def _with_ones(values: Floats) -> _Singles:
    """[Q, 2] values and ones, for ``_sums``."""
    return np.stack([values, np.ones(values.size)], axis=1).astype(np.float32)


def _sums(column: _Singles, row: Floats) -> _Singles:
    """[Q, K] sums of the first of [Q, 2] (the second is 1) and [K]: a product of matrices is the fastest."""
    pair = np.stack([np.ones(row.size), row]).astype(np.float32)
    sums: _Singles = column @ pair
    return sums


def _weights_by_logs(table: Table, mean: Floats, variances: list[Floats]) -> tuple[Floats, Floats]:
    """The same for populations so far from the points that a product of densities would be lost."""
    off = [values[:, None] - mean[:, d] for d, values in enumerate((table.A, table.log_B, table.log_C))]
    of_A, of_shape = [], []
    for var in variances:
        wide = var[:, 0] / table.size**2 + table.var_A[:, None] / table.size**2
        of_A.append(-0.5 * (np.log(wide) + (off[0] / table.size) ** 2 / wide))
        of_shape.append(sum(-0.5 * (np.log(var[:, d]) + off[d] ** 2 / var[:, d]) for d in (1, 2)))
    if len(variances) == 1:
        log_weight = of_A[0] + of_shape[0]
    else:
        cases = [of_A[0] + of_shape[0], of_A[1] + of_shape[0], of_A[1] + of_shape[1]]
        log_weight = np.logaddexp.reduce([case + w for case, w in zip(cases, CASE_LOG_WEIGHTS, strict=True)])
    log_weight += table.log_weight[:, None]
    top = log_weight.max(axis=0)
    return np.exp(log_weight - top), top
