"""Many symmetric 3 x 3 matrices at once, each by its six numbers.

Arrays are [6, K] in the order 00, 11, 22, 01, 02, 12, vectors [3, K]; what is common to all may be [6, 1]. A
library's solvers go through such small systems one by one; so each step is one sweep over all of them.
"""

from __future__ import annotations

import numpy as np

from scalerl_lab.fit.law import Floats

_ROWS, _COLUMNS = np.array([0, 1, 2, 0, 0, 1]), np.array([0, 1, 2, 1, 2, 2])


def packed(matrix: Floats) -> Floats:
    """[6, K] of [K, 3, 3]; [6, 1] of one [3, 3]."""
    six: Floats = matrix.reshape(-1, 9).T[3 * _ROWS + _COLUMNS]
    return six


def inverse(six: Floats) -> tuple[Floats, Floats]:
    """([6, K] inverses, [K] determinants)."""
    a, b, c, d, e, f = six
    of_a, of_d, of_e = b * c - f * f, e * f - d * c, d * f - e * b
    determinant: Floats = a * of_a + d * of_d + e * of_e
    adjugate = np.stack([of_a, a * c - e * e, a * b - d * d, of_d, of_e, d * e - a * f])
    adjugate /= determinant
    return adjugate, determinant


def times(six: Floats, vector: Floats) -> Floats:
    """[3, K] products with vectors."""
    a, b, c, d, e, f = six
    x, y, z = vector
    return np.stack([a * x + d * y + e * z, d * x + b * y + f * z, e * x + f * y + c * z])


def root(six: Floats) -> Floats:
    """[6, K] lower triangular roots: 00, 11, 22, 10, 20, 21."""
    a, b, c, d, e, f = six
    first = np.sqrt(a)
    under, last = d / first, e / first
    second = np.sqrt(b - under * under)
    beside = (f - last * under) / second
    third = np.sqrt(c - last * last - beside * beside)
    return np.stack([first, second, third, under, last, beside])


def solve_lower(lower: Floats, vector: Floats) -> Floats:
    """[3, K] x of L x = vector, L from ``root``."""
    a, b, c, d, e, f = lower
    x = vector[0] / a
    y = (vector[1] - d * x) / b
    return np.stack([x, y, (vector[2] - e * x - f * y) / c])


def solve_upper(lower: Floats, vector: Floats) -> Floats:
    """[3, K] x of L' x = vector, L from ``root``."""
    a, b, c, d, e, f = lower
    z = vector[2] / c
    y = (vector[1] - f * z) / b
    return np.stack([(vector[0] - d * y - e * z) / a, y, z])


def times_upper(lower: Floats, vector: Floats) -> Floats:
    """[3, K] L' vector, L from ``root``."""
    a, b, c, d, e, f = lower
    x, y, z = vector
    return np.stack([a * x + d * y + e * z, b * y + f * z, c * z])
