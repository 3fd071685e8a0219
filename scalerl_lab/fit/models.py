"""Laws as least squares sees them: a function of compute and parameters, its slopes, a box, starts.

Compute is in units of the last compute, values in units of their range (``Levelled``). The box: ceilings
lie within the bounds, or within three ranges of the last value where there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit.baselines import Levelled
from scalerl_lab.fit.law import Floats, gain_share

_UNBOUNDED = 3.0


@dataclass(frozen=True, slots=True)
class Model:
    """A curve with P parameters in a box, the first of them the ceiling."""

    low: Floats
    """[P]"""
    high: Floats
    """[P]"""
    starts: Callable[[], Floats]
    """[Q, P] points from which to look for the least squares, the most promising first."""
    curve: Callable[[Floats, Floats], Floats]
    """M computes and parameters [..., P] to values [..., M]."""
    slopes: Callable[[Floats, Floats], Floats]
    """M computes and parameters [P] to derivatives [M, P]."""
    linear: bool = False


def sigmoid(shares: Floats, levels: Levelled) -> Model:
    """R0 + (A - R0) / (1 + (C_mid / C)^B) in A, log B, log C_mid and, where it is not known, R0."""
    low, high = _ceiling_box(levels)
    first = float(np.log(shares[0]))
    box = [(low, high), (np.log(0.05), np.log(20.0)), (first - 2.0, np.log(100.0))]
    if levels.r0 is None:
        box.append((low, high))
    known = levels.r0

    def start_of(parameters: Floats) -> Floats:
        return parameters[..., 3:4] if known is None else np.full_like(parameters[..., :1], known)

    def curve(compute: Floats, parameters: Floats) -> Floats:
        start = start_of(parameters)
        gained = gain_share(compute, np.exp(parameters[..., 1:2]), np.exp(parameters[..., 2:3]))
        values: Floats = start + (parameters[..., :1] - start) * gained
        return values

    def slopes(compute: Floats, parameters: Floats) -> Floats:
        B = np.exp(parameters[1])
        ratio = B * (parameters[2] - np.log(compute))
        gained = gain_share(compute, B, np.exp(parameters[2]))
        bend = -(parameters[0] - start_of(parameters)[0]) * gained * (1.0 - gained)
        columns = [gained, bend * ratio, bend * B]
        return np.stack(columns if known is not None else [*columns, 1.0 - gained], axis=1)

    def starts() -> Floats:
        log_B, log_mid = (
            axis.ravel()
            for axis in np.meshgrid(
                np.log([0.3, 0.6, 1.0, 1.6, 2.5, 4.0, 8.0]),
                np.linspace(max(first, -6.0), np.log(5.0), 10),
                indexing="ij",
            )
        )
        gained = gain_share(shares, np.exp(log_B)[:, None], np.exp(log_mid)[:, None])
        ceiling, start, sse = _best_lines(gained, levels.value, known, low, high)
        columns = [ceiling, log_B, log_mid] + ([start] if known is None else [])
        found: Floats = np.stack(columns, axis=1)[np.argsort(sse, kind="stable")]
        return found

    return Model(*_box(box), starts=starts, curve=curve, slopes=slopes)


def power(shares: Floats, levels: Levelled) -> Model:
    """A - D (C / C_first)^-B in A, log B and D: D is what is missing at the first point."""
    low, high = _ceiling_box(levels)
    first = float(np.log(shares[0]))
    widest = high - low
    box = [(low, high), (np.log(0.01), np.log(20.0)), (-widest, widest)]

    def missing(compute: Floats, log_B: Floats) -> Floats:
        return np.exp(np.minimum(-np.exp(log_B) * (np.log(compute) - first), 50.0))

    def curve(compute: Floats, parameters: Floats) -> Floats:
        return parameters[..., :1] - parameters[..., 2:3] * missing(compute, parameters[..., 1:2])

    def slopes(compute: Floats, parameters: Floats) -> Floats:
        share = missing(compute, parameters[1])
        by_B = parameters[2] * share * np.exp(parameters[1]) * (np.log(compute) - first)
        return np.stack([np.ones_like(share), by_B, -share], axis=1)

    def starts() -> Floats:
        log_B = np.log(np.geomspace(0.02, 10.0, 20))
        share = missing(shares, log_B[:, None])
        ceiling, start, sse = _best_lines(1.0 - share, levels.value, None, low, high)
        found: Floats = np.stack([ceiling, log_B, ceiling - start], axis=1)[np.argsort(sse, kind="stable")]
        return found

    return Model(*_box(box), starts=starts, curve=curve, slopes=slopes)


def line(levels: Levelled) -> Model:
    """The value at the last compute, and the slope per unit of log compute."""
    low, high = _ceiling_box(levels)
    widest = high - low

    def curve(compute: Floats, parameters: Floats) -> Floats:
        values: Floats = parameters[..., :1] + parameters[..., 1:2] * np.log(compute)
        return values

    def slopes(compute: Floats, parameters: Floats) -> Floats:
        return np.stack([np.ones_like(compute), np.log(compute)], axis=1)

    low_box, high_box = _box([(low, high), (-widest, widest)])
    return Model(low_box, high_box, lambda: np.zeros((1, 2)), curve, slopes, linear=True)


def _ceiling_box(levels: Levelled) -> tuple[float, float]:
    if levels.bounds is not None:
        # A value outside of its bounds is a value all the same.
        return min(levels.bounds[0], -1e-6), max(levels.bounds[1], 1e-6)
    return -_UNBOUNDED, _UNBOUNDED


def _box(sides: list[tuple[float, float]]) -> tuple[Floats, Floats]:
    low, high = np.array(sides, dtype=np.float64).T
    return low, high


def _best_lines(
    gained: Floats, value: Floats, start: float | None, low: float, high: float
) -> tuple[Floats, Floats, Floats]:
    """For Q shares [Q, N] the best ceiling and start of start + (ceiling - start) share, and their SSE."""
    mean, level = gained.mean(axis=1, keepdims=True), value.mean()
    if start is None:
        moved = gained - mean
        rise = moved @ (value - level) / np.maximum((moved**2).sum(axis=1), 1e-12)
        starts = np.clip(level - rise * mean[:, 0], low, high)
    else:
        rise = gained @ (value - start) / np.maximum((gained**2).sum(axis=1), 1e-12)
        starts = np.full(gained.shape[0], start)
    ceiling = np.clip(starts + rise, low, high)
    residual = value - starts[:, None] - (ceiling - starts)[:, None] * gained
    return ceiling, starts, (residual**2).sum(axis=1)
