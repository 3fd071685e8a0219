"""The sigmoid law of pass rate against compute, and its inverse."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def gain_share(gpu_hours: ArrayLike, B: ArrayLike, C_mid: ArrayLike) -> Floats:
    """Share of the whole gain that is reached at a compute: 1 / (1 + (C_mid / C)^B).

    Args:
        gpu_hours: compute C >= 0; the share at 0 is 0.
        B: efficiency, > 0.
        C_mid: compute at half of the gain, in the unit of ``gpu_hours``, > 0.

    Returns:
        Values in [0, 1], in the broadcast shape.

    Worked number: C = 2 C_mid, B = 1 gives 2/3.
    """
    from scipy import special

    with np.errstate(divide="ignore"):
        log_ratio = np.log(np.asarray(gpu_hours, dtype=np.float64)) - np.log(
            np.asarray(C_mid, dtype=np.float64)
        )
    # The logistic function keeps its digits where (C_mid / C)^B would overflow.
    share: Floats = special.expit(np.asarray(B, dtype=np.float64) * log_ratio)
    return share


def pass_rate(gpu_hours: ArrayLike, r0: ArrayLike, A: ArrayLike, B: ArrayLike, C_mid: ArrayLike) -> Floats:
    """Pass rate at a compute: R(C) = R0 + (A - R0) / (1 + (C_mid / C)^B).

    Args:
        gpu_hours: compute C >= 0.
        r0: pass rate before training.
        A: ceiling; below ``r0`` the curve falls.
        B: efficiency, > 0.
        C_mid: midpoint, in the unit of ``gpu_hours``, > 0.

    Returns:
        Pass rates in the broadcast shape.

    Source: ScaleRL (arXiv 2510.13786) equation 1.

    Worked number: R0 = 0.4, A = 0.6, C = C_mid gives 0.5 for every B.
    """
    start = np.asarray(r0, dtype=np.float64)
    rate: Floats = start + (np.asarray(A, dtype=np.float64) - start) * gain_share(gpu_hours, B, C_mid)
    return rate


def hours_to_reach(level: ArrayLike, r0: ArrayLike, A: ArrayLike, B: ArrayLike, C_mid: ArrayLike) -> Floats:
    """Compute at which the law reaches a level: C_mid ((A - R0) / (level - R0) - 1)^(-1/B).

    Returns:
        Compute in the unit of ``C_mid``: 0 where the run starts at or above the level, infinity where
        the ceiling is not above it.

    Worked number: the level (A + R0) / 2 is reached at C_mid.
    """
    aim, start, ceiling, efficiency, midpoint = (
        np.asarray(value, dtype=np.float64) for value in np.broadcast_arrays(level, r0, A, B, C_mid)
    )
    reached = start >= aim
    reachable = ~reached & (ceiling > aim)
    missing: Any = np.where(reachable, ceiling - aim, 1.0)
    gained: Any = np.where(reachable, aim - start, 1.0)
    hours = midpoint * np.exp(-np.log(missing / gained) / efficiency)
    out: Floats = np.where(reached, 0.0, np.where(reachable, hours, np.inf))
    return out
