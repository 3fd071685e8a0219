"""Rank correlation of a few pairs, with an interval that is honest when there are few.

Shapes: N pairs, D simulated sets of pairs, G correlations on a grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from scalerl_lab.records import Interval

Floats = npt.NDArray[np.float64]

MIN_PAIRS = 3
_DRAWS = 4000
_GRID = np.linspace(-0.99, 0.99, 100)


def rank_correlation(x_N: Sequence[float], y_N: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties sharing their mean rank; None where a side has no variety.

    Worked number: ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6.
    """
    if len(x_N) < 2:
        return None
    x, y = _ranks(x_N), _ranks(y_N)
    spread = math.sqrt(float(((x - x.mean()) ** 2).sum() * ((y - y.mean()) ** 2).sum()))
    if spread == 0.0:
        return None
    return float(((x - x.mean()) * (y - y.mean())).sum()) / spread


def rank_correlation_interval(correlation: float, num_pairs: int) -> Interval | None:
    """Central 80 % and 95 % intervals of the population's rank correlation, by inverting the test.

    An end of the interval is the correlation of a bivariate normal at which a sample of as many pairs
    shows a rank correlation this high (this low) with half of the remaining probability. It is not
    degenerate at +1 and -1, as the bootstrap and Fisher's transformation are, and it is wide for few
    pairs. A normal with correlation r has rank correlation 6 / pi * asin(r / 2).

    Args:
        correlation: what the pairs show.
        num_pairs: how many there are.

    Returns:
        The interval around ``correlation``; None for fewer than three pairs.
    """
    if num_pairs < MIN_PAIRS:
        return None
    above, below = _tails(correlation, num_pairs)
    ends = [_lowest(above, tail) for tail in (0.1, 0.025)] + [_highest(below, tail) for tail in (0.1, 0.025)]
    low80, low95, high80, high95 = ends
    return Interval(correlation, low80, high80, low95, high95)


def _ranks(value_N: Sequence[float]) -> Floats:
    value = np.asarray(value_N, dtype=np.float64)
    below = (value[:, None] > value[None]).sum(1)
    equal = (value[:, None] == value[None]).sum(1)
    return np.asarray(below + (equal + 1) / 2.0)


def _tails(correlation: float, num: int) -> tuple[Floats, Floats]:
    """Along the grid: shares of simulated sets that show at least, and at most, this rank correlation."""
    shown_GD = _simulated(num)
    return (shown_GD >= correlation - 1e-9).mean(1), (shown_GD <= correlation + 1e-9).mean(1)


@lru_cache(maxsize=8)
def _simulated(num: int) -> Floats:
    """Rank correlations of simulated sets of pairs, from one draw for all of the grid."""
    rng = np.random.default_rng([num, 20252])
    x_DN, noise_DN = rng.standard_normal((2, _DRAWS, num))
    rank_x_DN = x_DN.argsort(1).argsort(1)
    shown_GD = np.empty((len(_GRID), _DRAWS))
    for place, r in enumerate(_GRID):
        rank_y_DN = (r * x_DN + math.sqrt(1.0 - r * r) * noise_DN).argsort(1).argsort(1)
        squares_D = ((rank_x_DN - rank_y_DN) ** 2).sum(1)
        shown_GD[place] = 1.0 - 6.0 * squares_D / (num * (num * num - 1))
    return shown_GD


def _lowest(above: Floats, tail: float) -> float:
    reached = np.flatnonzero(above >= tail)
    return -1.0 if len(reached) == 0 or reached[0] == 0 else _of_ranks(float(_GRID[reached[0]]))


def _highest(below: Floats, tail: float) -> float:
    reached = np.flatnonzero(below >= tail)
    return 1.0 if len(reached) == 0 or reached[-1] == len(_GRID) - 1 else _of_ranks(float(_GRID[reached[-1]]))


def _of_ranks(r: float) -> float:
    return 6.0 / math.pi * math.asin(r / 2.0)
