"""Collapse: the point after which a curve falls from its peak and does not come back.

The null is any curve that never falls, however it rises; no law is fitted. Two statistics are read, each
at every place at which the fall could have begun, and the stronger one counts.

- Drop: the mean of m_1 successive points less the mean of the last m_2 points after them, over its
  standard deviation sigma sqrt(v(m_1) + v(m_2)), where v(m) = (1 + 2 sum_k<m (1 - k/m) rho^k) / m, for
  every pair of lengths 2, 3, 4, 6, 8, 12, ... It is quick where the fall is steep or ends on a lower level.
- Descent: the slope of a straight line through the last m points, m from 5 to all, over its standard
  error from the residuals of that line. It sees long slow falls and short curves whose noise is unknown.

Both have expectation 0 at most under the null. What keeps noise from being taken for a fall:

- sigma comes from second differences y_i-1 - 2 y_i + y_i+1 of the points before the last window, limited
  at 2.5 times their robust scale; trends and bends hardly enter it. Standard errors of the points bound it
  from below and count as eight degrees of freedom at sqrt(2) times their size.
- Residuals are taken as AR(1) with rho = 0.5, above the 0.3 of published curves: at 0.3 sigma comes out
  a fifth too large, at 0.6 a tenth too small. Standard errors of slopes are doubled.
- Both are read from Student's t (half a degree of freedom for a second difference), and the smaller tail
  probability is multiplied by the number of points for having searched the place.
- No single point decides: windows up to 4 points leave out their point most in favour of a fall (of
  two last points the higher one counts); elsewhere each point is limited to 2.5 sigma about the median
  of the seven around it, at the ends with their trend.
- A curve that has fallen before and come back must now fall 1.5 times as deep as it ever did.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats

ALARM_CHANCE = 1e-3
"""A run is not stopped for a fall that noise shows more often than this."""
CORRELATION = 0.5
"""Of neighbouring residuals."""
_SECOND_DIFFERENCE_VARIANCE = 2.0 * (1.0 - CORRELATION) * (3.0 - CORRELATION)
"""Variance of y_i-1 - 2 y_i + y_i+1 in units of sigma^2: 6 - 8 rho + 2 rho^2."""
_DEGREES_PER_DIFFERENCE, _FEWEST_DIFFERENCES = 0.5, 3
_VARIANCE_PER_SE, _SE_DEGREES = 2.0, 8.0
"""A variance of 2 se^2 with 8 degrees of freedom lies between 0.9 and 7.3 se^2 with 95 %."""
_LIMIT = 2.5
_LIMIT_CORRECTION = 1.06
"""Normal values limited at 2.5 robust scales keep 1 / 1.06 of their variance."""
_LEAST_SHARE = 0.25
_OWN_NOISE = 5
"""So many of the shortest last windows take sigma from the points before them, the others as the last."""
_WINDOW_LENGTHS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_LONGEST_TRIMMED = 4
_MEDIAN_LENGTH = 7
_SHORTEST_DESCENT = 5
_SLOPE_VARIANCE = 4.0
_DEEPER_THAN_BEFORE = 1.5
_RECOVERED_Z = 3.0
_TINY = 1e-300
_ROUNDING = 1e-6
"""Of the range of values: no noise is taken to be smaller."""


@dataclass(frozen=True, slots=True)
class Collapse:
    """A fall from the peak that lasts to the last point, in the unit of the values."""

    peak_value: float
    """Level from which it fell."""
    peak_compute: float
    """Compute in the middle of the points that show that level."""
    began_compute: float
    """Compute of the last point before the fall."""
    level: float
    """Level to which it has fallen."""
    drop: float
    """``peak_value`` - ``level``."""
    noise_sd: float
    """Standard deviation of one point about the curve."""
    z: float
    """The fall in its standard deviations."""
    chance: float
    """Probability that a curve that never falls shows this somewhere among its points."""
    num_points_below: int
    """Points after ``began_compute``."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise of one point about its curve."""

    sd: float
    degrees: float
    """Degrees of freedom behind it."""
    least_sd: float
    """Below it ``sd`` cannot be: the points' standard error, or half the step of their values."""


@dataclass(frozen=True, slots=True)
class _Fall:
    """From ``peak`` over ``length`` points at ``place`` to ``level`` over the ``last`` points."""

    place: int
    length: int
    last: int
    peak: float
    level: float
    z: float
    chance: float
    """The tail probability times the number of places."""


def find_collapse(curve: Curve, *, least_drop: float = 0.0, chance: float = ALARM_CHANCE) -> Collapse | None:
    """Whether a curve has fallen from its peak, by all points it has; earlier answers play no part.

    Args:
        curve: its points; ``r0``, where known, is the point before them.
        least_drop: smaller drops are none.
        chance: the largest probability under noise of a fall that counts.

    Returns:
        The fall with the smallest probability under noise, or None.
    """
    compute, value = _with_start(curve)
    if value.size < 3:
        return None
    noise = noise_of(value[:-2], curve.se)
    if noise is None:
        return None
    windows = _Windows(value, noise.sd)
    drop = _drop(value, windows, curve.se, start_is_known=curve.r0 is not None)
    descent = _descent(windows.limited, noise)
    fall = min((f for f in (drop, descent) if f is not None), key=lambda f: f.chance, default=None)
    if fall is None or fall.chance >= chance or fall.peak - fall.level <= least_drop:
        return None
    if _has_come_back(windows, fall, noise.sd):
        return None
    began = _began(value, fall.place)
    middle = fall.place + (fall.length - 1) / 2.0
    return Collapse(
        peak_value=fall.peak,
        peak_compute=float(np.interp(middle, np.arange(value.size), compute)),
        began_compute=float(compute[began]),
        level=fall.level,
        drop=fall.peak - fall.level,
        noise_sd=noise.sd,
        z=fall.z,
        chance=fall.chance,
        num_points_below=value.size - 1 - began,
    )


def noise_of(value: Floats, se: Floats | None = None) -> Noise | None:
    """The noise of points in order; None where they do not show it.

    Args:
        value: their values.
        se: standard errors of points of this curve, if known.
    """
    return _noise_in(np.diff(value, n=2), *_errors(value, se))


def _errors(value: Floats, se: Floats | None) -> tuple[float | None, float]:
    """(mean variance of the standard errors if known, the least sd of one point)."""
    if se is None or se.size == 0:
        # Values on a straight line differ from it by their rounding, which is no noise to measure falls by.
        return None, max(_smallest_step(value) / 2.0, _ROUNDING * float(np.ptp(value)))
    from_se = float(se @ se) / se.size
    return from_se, math.sqrt(from_se)


def _noise_in(differences: Floats, from_se: float | None, least_sd: float) -> Noise | None:
    """The noise of points from their second differences and what is known otherwise."""
    degrees = variance = 0.0
    if differences.size >= _FEWEST_DIFFERENCES:
        degrees = _DEGREES_PER_DIFFERENCE * differences.size
        variance = limited_variance(differences) / _SECOND_DIFFERENCE_VARIANCE
    if from_se is not None:
        prior = _SE_DEGREES * _VARIANCE_PER_SE * from_se
        variance = (prior + degrees * variance) / (_SE_DEGREES + degrees)
        degrees += _SE_DEGREES
    sd = max(math.sqrt(variance), least_sd)
    return Noise(sd, degrees, least_sd) if sd > 0.0 and degrees > 0.0 else None


def limited_variance(values: Floats) -> float:
    """Mean square of values about 0, each limited at 2.5 times their robust scale.

    The scale is the larger of what the median and the 80 % quantile of the magnitudes say, and what is
    left out never takes more than three quarters of the mean square: a curve of long quiet stretches
    is not taken for quiet.
    """
    size = np.sort(np.abs(values))
    middle, high = size[(size.size - 1) // 2], size[int(0.8 * (size.size - 1))]
    scale = max(middle / 0.6745, high / 1.2816)
    kept = np.minimum(size, _LIMIT * scale)
    return max(_LIMIT_CORRECTION * float(kept @ kept), _LEAST_SHARE * float(size @ size)) / size.size


def _with_start(curve: Curve) -> tuple[Floats, Floats]:
    if curve.r0 is None:
        return curve.compute, curve.value
    return np.append(0.0, curve.compute), np.append(curve.r0, curve.value)


def _smallest_step(value: Floats) -> float:
    """The step of values that come in steps (some are equal), else 0."""
    distinct = np.unique(value)
    return float(np.diff(distinct).min()) if 1 < distinct.size < value.size else 0.0


def _mean_variance(length: Floats) -> Floats:
    """v(m): variance of the mean of m points in units of one point's."""
    rho = CORRELATION
    sum_of_pairs = rho / (1.0 - rho) * (1.0 - (1.0 - rho**length) / (length * (1.0 - rho)))
    v: Floats = (1.0 + 2.0 * sum_of_pairs) / length
    return v


class _Windows:
    """Means of windows of successive points, each read as little in favour of a fall as it can be."""

    def __init__(self, value: Floats, sd: float) -> None:
        self._value = value
        self.limited = limited_to_surroundings(value, sd)
        self._total = np.concatenate(([0.0], np.cumsum(self.limited)))

    def peaks(self, length: int) -> Floats:
        """[N - length + 1]; short windows leave out their highest point."""
        return self._trimmed(length, np.maximum) if length <= _LONGEST_TRIMMED else self._plain(length)

    def lows(self, length: int) -> Floats:
        """[N - length + 1]; short windows leave out their lowest point."""
        return self._trimmed(length, np.minimum) if length <= _LONGEST_TRIMMED else self._plain(length)

    def _plain(self, length: int) -> Floats:
        means: Floats = (self._total[length:] - self._total[:-length]) / length
        return means

    def _trimmed(self, length: int, left_out: np.ufunc) -> Floats:
        num = self._value.size - length + 1
        total, extreme = self._value[:num], self._value[:num]
        for shift in range(1, length):
            point = self._value[shift : shift + num]
            total, extreme = total + point, left_out(extreme, point)
        means: Floats = (total - extreme) / (length - 1)
        return means


def _drop(value: Floats, windows: _Windows, se: Floats | None, *, start_is_known: bool) -> _Fall | None:
    """The difference of two windows that noise, as seen before the second one, shows least often."""
    num = value.size
    lengths = np.array([m for m in _WINDOW_LENGTHS if m == 2 or m <= num // 2])
    differences, errors = np.diff(value, n=2), _errors(value, se)
    noises = [_noise_in(differences[: max(num - m - 2, 0)], *errors) for m in lengths[:_OWN_NOISE].tolist()]
    noises += noises[-1:] * (lengths.size - len(noises))
    sd = np.array([noise.sd if noise else math.inf for noise in noises])
    degrees = np.array([noise.degrees if noise else 1.0 for noise in noises])
    v = _mean_variance(lengths.astype(np.float64))
    level = np.array([windows.lows(m)[-1] for m in lengths.tolist()])
    firsts = [(m, windows.peaks(m), own) for m, own in zip(lengths.tolist(), v.tolist(), strict=True)]
    if start_is_known:
        # Nothing but the start can be a peak of one point.
        firsts.append((1, value[:1], 1.0))
    z = np.full((len(firsts), lengths.size), -math.inf)
    for row, (m, peaks, own) in enumerate(firsts):
        # Lengths grow: those of which a last window fits behind this one come first.
        fits = int(np.searchsorted(lengths, num - m, side="right"))
        latest = np.minimum(num - m - lengths[:fits], peaks.size - 1)
        sizes = np.maximum.accumulate(peaks)[latest] - level[:fits]
        z[row, :fits] = sizes / (sd[:fits] * np.sqrt(own + v[:fits]))
    chances = num * _tails(z, degrees)
    row, column = divmod(int(chances.argmin()), lengths.size)
    if not math.isfinite(z[row, column]):
        return None
    length, last = firsts[row][0], int(lengths[column])
    place = int(firsts[row][1][: num - last - length + 1].argmax())
    # The levels are of the windows as they are: trimming is for the test alone.
    peak, low = float(value[place : place + length].mean()), float(value[-last:].mean())
    return _Fall(place, length, last, peak, low, float(z[row, column]), float(chances[row, column]))


def _descent(value: Floats, noise: Noise) -> _Fall | None:
    """The steepest line through the last points in its standard errors."""
    num = value.size
    if num < _SHORTEST_DESCENT:
        return None
    # About the last point, so that sums over flat curves do not cancel.
    x, y = np.arange(num) - (num - 1.0), value - value[-1]
    sums = np.cumsum(np.stack([x, x * x, y, x * y, y * y])[:, ::-1], axis=1)[:, _SHORTEST_DESCENT - 1 :]
    length = np.arange(_SHORTEST_DESCENT, num + 1.0)
    sx, sxx, sy, sxy, syy = sums
    xx, xy, yy = sxx - sx * sx / length, sxy - sx * sy / length, syy - sy * sy / length
    slope = xy / xx
    variance = np.maximum((yy - slope * xy) / (length - 2.0), max(noise.least_sd**2, _TINY))
    t = -slope * np.sqrt(xx / (_SLOPE_VARIANCE * variance))
    chances = _tails(t, length - 2.0)
    at = int(chances.argmin())
    middle, half = sy[at] / length[at], -slope[at] * (length[at] - 1.0) / 2.0
    last = max(int(length[at]) // 4, 2)
    peak, level = float(value[-1] + middle + half), float(value[-1] + middle - half)
    return _Fall(num - int(length[at]), last, last, peak, level, float(t[at]), num * float(chances[at]))


def _has_come_back(windows: _Windows, fall: _Fall, sd: float) -> bool:
    """Whether the last points have left the fall's level for the peak's, or the curve once fell as deep.

    Depth of an earlier fall is that of a valley: what lies between its floor and the lower of the
    peaks on its two sides, in windows of the fall's lengths.
    """
    drop = fall.peak - fall.level
    for m in (m for m in _WINDOW_LENGTHS if m < fall.last):
        latest = float(windows.peaks(m)[-1]) - fall.level
        if latest > max(
            drop / 2.0, _RECOVERED_Z * sd * math.sqrt(_mean_variance(np.array(m, dtype=np.float64)))
        ):
            return True
    length = max(fall.length, 2)
    peaks, lows = windows.peaks(length), windows.lows(fall.last)
    places = np.arange(length, lows.size - length)
    if places.size == 0:
        return False
    before = np.maximum.accumulate(peaks)[places - length]
    after = np.maximum.accumulate(peaks[::-1])[::-1][places + fall.last]
    valley = float((np.minimum(before, after) - lows[places]).max())
    return drop < _DEEPER_THAN_BEFORE * valley


def limited_to_surroundings(value: Floats, sd: float) -> Floats:
    """Each value within 2.5 sd of the median of the seven around it.

    At an end it is the median of the nearest seven, moved along by the median of their differences over
    three points, so that a rise is not taken for an outlier.
    """
    if value.size < _MEDIAN_LENGTH:
        return value
    half = _MEDIAN_LENGTH // 2
    around = np.sort(sliding_window_view(value, _MEDIAN_LENGTH), axis=1)[:, half]
    ends = []
    for nearest, centre in ((value[:_MEDIAN_LENGTH], around[0]), (value[-_MEDIAN_LENGTH:], around[-1])):
        step = np.sort(nearest[half:] - nearest[:-half])[1:3].sum() / (2.0 * half)
        ends.append(centre + step * np.arange(1, half + 1))
        ends.append(centre - step * np.arange(half, 0, -1))
    middle = np.concatenate((ends[1], around, ends[2]))
    limited: Floats = np.minimum(np.maximum(value, middle - _LIMIT * sd), middle + _LIMIT * sd)
    return limited


def _began(value: Floats, place: int) -> int:
    """Index of the last point before the fall: the least-squares knot of a step or a straight fall."""
    tail = value[place:] - value[place:].mean()
    knots = np.arange(tail.size - 2)
    past = np.arange(tail.size) - knots[:, None]
    shapes = np.concatenate([np.maximum(past, 0), past > 0]).astype(np.float64)
    shapes -= shapes.mean(axis=1, keepdims=True)
    # Explained sum of squares of a regression on one shape; a rise explains nothing.
    along = np.minimum(shapes @ tail, 0.0)
    explained = along**2 / np.maximum((shapes**2).sum(axis=1), _TINY)
    return place + int(explained.argmax()) % knots.size


def _tails(z: Floats | np.float64, degrees: Floats | float) -> Floats:
    """Upper tails of Student's t."""
    from scipy import special

    tails: Floats = special.stdtr(degrees, -z)
    return tails
