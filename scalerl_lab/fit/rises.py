"""Descriptions of a curve by none, one or two rises, compared by penalised least squares.

Notation: N points, M rows of a basis.

A row of the basis is a straight line in compute, a level that a straight line leaves at a knot, or a
rise 1 / (1 + (mid / C)^B) from a fixed table of (mid, B); the values are a constant plus one or two rows
with gains above 0. With residuals taken as AR(1), everything follows from inner products of rows, so all
pairs are tried at once. The correlation is profiled over a few values with the prior N(0.3, 0.2^2): what
slow noise explains is no rise. The best single rise is refined about its place in the table.

These are descriptions for naming a shape. They give no parameters, no errors and no forecast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scalerl_lab.fit.law import Floats

MOST_POINTS = 80
_CORRELATIONS = (0.0, 0.3, 0.6)
_PAIR_CORRELATION = 0.3
_PRIOR_MEAN, _PRIOR_SD = 0.3, 0.2
_STEEPNESS = (1.0, 1.8, 3.2, 5.6, 10.0)
_PAIR_STEEPNESS = (1.8, 3.2, 10.0)
_MID_STEP, _STEEPNESS_STEP = 0.2, 0.3
_MIDS_BEYOND = (1.3, 2.0, 4.0)
_KNOTS = np.linspace(0.1, 0.9, 25)
"""Shares of the window at which a level turns into a line."""
_NUM_MIDS = 18
_FLOOR = 0.005
"""Deviations below this share of the range of values are evidence for nothing."""
_LEAST_RISE = 1e-6
_DISTINCT = 1e-3
"""Rows whose squared correlation is above 1 less this are one row."""
_CONSTANT, _LINE, _UNBENT, _ONE_RISE, _TWO_RISES = "constant", "line", "unbent", "one rise", "two rises"


@dataclass(frozen=True, slots=True)
class Description:
    """The best curve of one kind."""

    deviance: float
    """-2 log likelihood, up to a constant common to all kinds of one curve."""
    mean: Floats
    """[N]"""


@dataclass(frozen=True, slots=True)
class Descriptions:
    """The best curve of every kind."""

    constant: float
    """The deviance of no rise at all."""
    line: Description
    unbent: Description
    """A line, also from a knot on, or a rise that nowhere in the window grows slower than before."""
    one_rise: Description
    """Any row of the basis."""
    two_rises: Description | None
    """None where no pair is better than ``one_rise``."""


def describe(compute: Floats, value: Floats, *, with_pairs: bool) -> Descriptions:
    """The best curves of every kind, by least squares.

    Args:
        compute: [N] >= 0, increasing; the last is above 0.
        value: [N].
        with_pairs: whether two rises are tried.
    """
    x = compute / compute[-1]
    basis = _Basis.over(x)
    found: dict[str, _Candidate] = {}
    for rho in _CORRELATIONS:
        products = _Products.of(basis, value, rho)
        for kind, candidate in products.candidates(basis, with_pairs and rho == _PAIR_CORRELATION):
            if kind not in found or candidate.deviance < found[kind].deviance:
                found[kind] = candidate
    best = {kind: candidate.described(basis, value) for kind, candidate in found.items() if candidate.rows}
    one = found[_ONE_RISE]
    number = one.rows[0] - basis.num_lines
    if number >= 0:
        near = _Basis.near(x, basis.mid[number], basis.steepness[number])
        closer = dict(_Products.of(near, value, one.rho).candidates(near, False))[_ONE_RISE]
        if closer.deviance < one.deviance:
            best[_ONE_RISE] = closer.described(near, value)
    return Descriptions(
        found[_CONSTANT].deviance, best[_LINE], best[_UNBENT], best[_ONE_RISE], best.get(_TWO_RISES)
    )


def thinned(compute: Floats, value: Floats) -> tuple[Floats, Floats]:
    """Means of equal numbers of successive points, so that at most ``MOST_POINTS`` are left."""
    if value.size <= MOST_POINTS:
        return compute, value
    each = -(-value.size // MOST_POINTS)
    first = np.arange(0, value.size, each)
    count = np.diff(np.append(first, value.size))
    return np.add.reduceat(compute, first) / count, np.add.reduceat(value, first) / count


@dataclass(frozen=True, slots=True)
class _Basis:
    rows: Floats
    """[M, N]; the line, the lines from a knot on, the rises."""
    num_lines: int
    mid: Floats
    """[M - num_lines] of the rises, in units of the last compute."""
    steepness: Floats
    """[M - num_lines] B of the rises."""
    unbent: NDArray[np.bool_]
    """[M] whether the row nowhere grows slower than before."""
    paired: NDArray[np.intp]
    """Indices of the rows that pairs are made of."""

    @classmethod
    def over(cls, x: Floats) -> _Basis:
        """Rises all over the window and some beyond it."""
        mids = np.append(np.interp(_places(x.size), np.arange(x.size), x), _MIDS_BEYOND)
        return cls._of(x, np.repeat(mids, len(_STEEPNESS)), np.tile(_STEEPNESS, mids.size), _KNOTS)

    @classmethod
    def near(cls, x: Floats, mid: float, steepness: float) -> _Basis:
        """Rises like one."""
        step = np.linspace(-1.0, 1.0, 7)
        mids, steepnesses = mid * np.exp(_MID_STEP * step), steepness * np.exp(_STEEPNESS_STEP * step)
        return cls._of(x, np.repeat(mids, 7), np.tile(steepnesses, 7), _KNOTS[:0])

    @classmethod
    def _of(cls, x: Floats, mid: Floats, steepness: Floats, knots: Floats) -> _Basis:
        # The first compute may be 0: the share of the gain is 0 there.
        log_x = np.log(np.maximum(x, 1e-12))
        ratio = np.exp(steepness[:, None] * (np.log(mid)[:, None] - log_x))
        turn = mid * (np.maximum(steepness - 1.0, 0.0) / (steepness + 1.0)) ** (1.0 / steepness)
        lines = np.maximum(x - (x[0] + np.append(0.0, knots)[:, None] * (x[-1] - x[0])), 0.0)
        num = lines.shape[0]
        paired = np.flatnonzero((steepness[:, None] == _PAIR_STEEPNESS).any(axis=1)) + num
        return cls(
            rows=np.concatenate([lines, 1.0 / (1.0 + ratio)]),
            num_lines=num,
            mid=mid,
            steepness=steepness,
            unbent=np.append(np.ones(num, dtype=bool), turn >= 1.0),
            paired=np.append(0, paired),
        )


@lru_cache(maxsize=256)
def _places(num: int) -> Floats:
    """Places of the midpoints among the points, denser at the start."""
    step, place, places = max(num / _NUM_MIDS, 1.0), 0.5, []
    while place < num - 0.5:
        places.append(place)
        place += max(1.0, min(step, 0.3 * place + 0.5))
    return np.array([*places, num - 1.0])


def _whitened(rows: Floats, rho: float) -> Floats:
    """[M, N] rows such that AR(1) residuals become independent."""
    white = rows.copy()
    white[:, 1:] -= rho * rows[:, :-1]
    white[:, 1:] /= math.sqrt(1.0 - rho * rho)
    return white


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A description before its curve is drawn."""

    deviance: float
    rho: float
    rows: tuple[int, ...]

    def described(self, basis: _Basis, value: Floats) -> Description:
        design = np.concatenate([np.ones((1, value.size)), basis.rows[list(self.rows)]])
        white = _whitened(np.concatenate([design, value[None]]), self.rho)
        products = white @ white.T
        weights = np.linalg.solve(products[:-1, :-1], products[:-1, -1])
        return Description(self.deviance, weights @ design)


@dataclass(frozen=True, slots=True)
class _Products:
    """Inner products of whitened rows and values, the constant projected out."""

    white: Floats
    """[M, N]"""
    of_value: Floats
    """[M] with the values."""
    of_itself: Floats
    """[M]"""
    total: float
    """Of the values with themselves."""
    rho: float
    penalty: float
    floor: float

    @classmethod
    def of(cls, basis: _Basis, value: Floats, rho: float) -> _Products:
        num = value.size
        white = _whitened(np.concatenate([np.ones((1, num)), value[None], basis.rows]), rho)
        constant = white[0] / math.sqrt(float(white[0] @ white[0]))
        clean = white[1:] - np.outer(white[1:] @ constant, constant)
        whitened, rows = clean[0], clean[1:]
        log_det = (num - 1) * math.log(1.0 - rho * rho)
        return cls(
            white=rows,
            of_value=rows @ whitened,
            of_itself=np.maximum(np.einsum("ij,ij->i", rows, rows), 1e-12),
            total=float(whitened @ whitened),
            rho=rho,
            penalty=log_det + ((rho - _PRIOR_MEAN) / _PRIOR_SD) ** 2,
            floor=num * (_FLOOR * float(np.ptp(value))) ** 2 + 1e-300,
        )

    def candidates(self, basis: _Basis, with_pairs: bool) -> list[tuple[str, _Candidate]]:
        """The best of every kind at this correlation."""
        # A row that is nearly constant over the window is no rise.
        seen = self.of_itself > _LEAST_RISE
        explained = np.where(seen, np.maximum(self.of_value, 0.0) ** 2 / self.of_itself, 0.0)
        unbent, one = int(np.where(basis.unbent, explained, -1.0).argmax()), int(explained.argmax())
        out = [
            (_CONSTANT, self._candidate(0.0, ())),
            (_LINE, self._candidate(float(explained[0]), (0,))),
            (_UNBENT, self._candidate(float(explained[unbent]), (unbent,))),
            (_ONE_RISE, self._candidate(float(explained[one]), (one,))),
        ]
        if with_pairs:
            best, pair = self._best_pair(basis.paired)
            if best > explained[one]:
                out.append((_TWO_RISES, self._candidate(best, pair)))
        return out

    def _candidate(self, explained: float, rows: tuple[int, ...]) -> _Candidate:
        num = self.white.shape[1]
        left = max(self.total - explained, 0.0) + self.floor
        return _Candidate(num * math.log(left / num) + self.penalty, self.rho, rows)

    def _best_pair(self, paired: NDArray[np.intp]) -> tuple[float, tuple[int, int]]:
        """The sum of squares that two rows with gains above 0 explain at most, and these rows."""
        rows, b, g = self.white[paired], self.of_value[paired], self.of_itself[paired]
        gram = rows @ rows.T
        product = np.outer(g, g)
        determinant = product - gram * gram
        # Gains times the determinant, of the first row and (transposed) of the second.
        gain = np.outer(b, g) - gram * b
        usable = (gain > 0.0) & (gain.T > 0.0) & (determinant > _DISTINCT * product)
        usable &= np.minimum.outer(g, g) > _LEAST_RISE
        explained = np.where(usable, gain * b[:, None], 0.0)
        explained = (explained + explained.T) / np.where(usable, determinant, 1.0)
        first, second = divmod(int(explained.argmax()), b.size)
        return float(explained[first, second]), (int(paired[first]), int(paired[second]))
