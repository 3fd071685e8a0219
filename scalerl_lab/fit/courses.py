"""The course of a draw: the law, or where the curve does not follow the law a line in log compute.

All that asks for the curve of a draw, or for the compute at which it reaches a level, asks here: the law's
formula says nothing of a draw that does not follow the law. Notation: K draws, M computes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scalerl_lab.fit.law import Floats, hours_to_reach, pass_rate


@dataclass(frozen=True, slots=True)
class Lines:
    """Which of K draws follow the law, and what the others do."""

    lawful: NDArray[np.bool_]
    """[K] whether the draw follows the law; else the rest says what it does."""
    end: Floats
    """[K] value at ``last``."""
    slope: Floats
    """[K] slope per unit of log compute."""
    last: float
    """A compute, > 0: the end of the window."""
    bounds: tuple[float, float] | None
    """No value lies outside."""

    @classmethod
    def mean(cls, lines: Sequence[Lines]) -> Lines:
        """Several seeds of an arm, draw by draw: lawful where any is; else the mean of their lines."""
        last = max(each.last for each in lines)
        end = np.mean([each.end + each.slope * math.log(last / each.last) for each in lines], axis=0)
        lawful = np.any([each.lawful for each in lines], axis=0)
        return cls(lawful, end, np.mean([each.slope for each in lines], axis=0), last, lines[0].bounds)

    def at(self, compute: Floats) -> Floats:
        """[K, M] values of the lines at M computes > 0."""
        values: Floats = self.end[:, None] + self.slope[:, None] * np.log(compute / self.last)
        return values if self.bounds is None else np.clip(values, *self.bounds)

    def hours_to_reach(self, level: Floats) -> Floats:
        """[K] compute at which the lines reach a level each: 0 where a line that does not rise lies there
        already, infinity where it lies below, or where the level is out of bounds."""
        rising = self.slope > 0.0
        ahead = (level - self.end) / np.where(rising, self.slope, 1.0)
        with np.errstate(over="ignore"):
            hours = np.where(rising, self.last * np.exp(ahead), np.where(self.end >= level, 0.0, np.inf))
        reached: Floats = hours if self.bounds is None else np.where(level <= self.bounds[1], hours, np.inf)
        return reached


class LawDraws(Protocol):
    """K joint draws of the law's parameters, of an arm or of a run."""

    @property
    def r0(self) -> Floats: ...

    @property
    def A(self) -> Floats: ...  # noqa: N802

    @property
    def B(self) -> Floats: ...  # noqa: N802

    @property
    def C_mid(self) -> Floats: ...  # noqa: N802

    @property
    def lines(self) -> Lines | None:
        """None: all draws follow the law."""


@dataclass(frozen=True, slots=True)
class ArmDraws:
    """K joint draws of an arm: what another seed of it would be expected to have."""

    r0: Floats
    A: Floats
    B: Floats
    C_mid: Floats
    lines: Lines | None = None
    """What draws in which no seed follows the law do; None: all follow it."""


def drawn_curves(draws: LawDraws, compute: ArrayLike) -> Floats:
    """[K, M] the curves of the draws at M computes >= 0, without noise."""
    at = np.atleast_1d(np.asarray(compute, dtype=np.float64))
    law = pass_rate(at, draws.r0[:, None], draws.A[:, None], draws.B[:, None], draws.C_mid[:, None])
    if draws.lines is None:
        return law
    # A line in log compute has no value at 0; below the smallest number nothing is measured.
    there = np.maximum(at, np.finfo(np.float64).tiny)
    return np.where(draws.lines.lawful[:, None], law, draws.lines.at(there))


def drawn_hours(draws: LawDraws, level: float, above: Floats | float = 0.0) -> Floats:
    """[K] compute at which the curves of the draws reach a level: 0 where a curve begins there, infinity
    where it never does. The curves lie ``above`` the draws' own, [K] or one value."""
    own = np.broadcast_to(level - np.asarray(above), draws.A.shape)
    law = hours_to_reach(own, draws.r0, draws.A, draws.B, draws.C_mid)
    if draws.lines is None:
        return law
    return np.where(draws.lines.lawful, law, draws.lines.hours_to_reach(own))
