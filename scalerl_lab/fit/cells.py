"""The law with midpoint and efficiency given: all that is left is linear and integrates in closed form.

Notation: N points, J components (a kind of noise with a reading of the start), Q cells (log C_mid, log B).

Given a cell, the law is y = R0 + v f / u with f = 1 / (1 + (C_mid / C)^B), u = f at the window's last
compute, and v = (A - R0) u, the gain within the window. Priors, with sigma^2 the noise variance:

- v ~ N(0, (3 range)^2): flat over any gain that the window can show. So what lies beyond the window is
  left to the shape; a flat prior on A itself would favour shapes that rise late.
- R0 measured: N(r0, sigma^2), or its own standard error; with probability 0.3 the law holds only from the
  window on (ScaleRL A.6: the first epoch rises otherwise), and R0 is known to 0.15 range. R0 unknown:
  N(first value, range^2).
- A within the bounds; without bounds weighed by exp(-(A - last values)^2 / 2 (3 range)^2), which is 1 where
  the curve stays, so that no ceiling is out of sight. "Range" is that of the values seen; it counts in
  units of the noise, so that all stays in closed form.
- sigma^2 ~ scaled-Inv-chi2(2, s^2), s^2 from standard errors or second differences; where the points show
  no noise, as where all are equal, from how many they are.

Then (R0, v) given sigma is normal, sigma^2 is inverse chi-squared, and the evidence of the cell is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats, Integers
from scalerl_lab.fit.noise import KINDS, Points, Whitening, average, noise_scale, whiten

NOISE_DEGREES = 2.0
_GAIN_RANGES = 3.0
_CEILING_RANGES = 3.0
_LOOSE_START, _LOOSE_WEIGHT = 0.15, 0.3
_LEAST_SHARE = 1e-12
_ROOM = 4.0
_LEAST_NOISE, _LEAST_SPREAD = 2.5e-5, 2.5e-4
"""Least noise of a point and least range, as shares of the room in which values move."""
_FEW_POINTS = 3
_SURE_SD, _UNSURE_SD = 0.013, 0.2
"""What a point's worth of evidence, and a single point, say of the noise, as shares of the room."""
_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Problem:
    """A curve made ready; values are relative to ``start`` in units of ``scale``."""

    curve: Curve
    points: Points
    inflation: Floats | None
    """[N] factors on the noise of points that are outliers."""
    scale: float
    """Square root of the first guess of the noise variance."""
    start: float
    range: float
    """Observed range of values, in units of value."""
    kind: Integers
    """[J] index into ``KINDS``."""
    whitening: Whitening
    of_one: Floats
    """[J, N] precision of the points times ones."""
    of_values: Floats
    """[J, N] the same times the values."""
    products: Floats
    """[3, J] of whitened ones with themselves, ones with values, values with themselves."""
    start_precision: Floats
    """[J]"""
    log_prior: Floats
    """[J] with the normaliser of the likelihood."""
    gain_precision: float
    ceiling_precision: float
    ceiling_mean: float
    low: float
    high: float
    noise_degrees: float
    scatter: Floats
    """[J] sum of squares, in units of sigma^2, that points averaged away have shown."""

    @property
    def root(self) -> Floats:
        """[H, N, N] whitening matrices of the kinds."""
        return self.whitening.inverse_root

    @property
    def walk(self) -> Floats:
        """[H, N] random-walk times at the points."""
        return self.whitening.walk

    def inside(self, value: Floats) -> Floats:
        """Values cut to the bounds of the curve."""
        if self.curve.bounds is None:
            return value
        cut: Floats = np.clip(value, *self.curve.bounds)
        return cut

    @property
    def degrees(self) -> float:
        """Degrees of freedom of sigma^2 given the points."""
        return self.points.y.size + self.noise_degrees + self.points.scatter_degrees


@dataclass(frozen=True, slots=True)
class Forms:
    """How the gain is spread over the points in each of Q cells."""

    form: Floats
    """[Q, N] f over its value at the window's last compute."""
    share: Floats
    """[Q] that value: the share of A - R0 that is gained within the window."""


@dataclass(frozen=True, slots=True)
class Cells:
    """What each component says of R0 and A in each cell, all [J, Q] unless said otherwise."""

    log_weight: Floats
    """Log evidence, without the prior of the cell and without the bounds of A."""
    r0: Floats
    A: Floats
    var_A: Floats
    """In units of sigma^2, as the next two."""
    var_r0: Floats
    covariance: Floats
    sse: Floats
    """sigma^2 given the points is sse / chi2(degrees)."""
    share: Floats
    """[Q] f at the window's last compute."""


def prepare(
    curve: Curve,
    *,
    inflation: Floats | None = None,
    noise_variance: float | None = None,
    noise_degrees: float = NOISE_DEGREES,
    kind_weights: Floats | None = None,
    whitening: Whitening | None = None,
) -> Problem:
    """A curve with at least one point, ready for ``evaluate``.

    Args:
        curve: the points.
        inflation: [N] factors on the noise of the averaged points.
        noise_variance: centre of the prior of sigma^2; None: from the curve itself.
        noise_degrees: its degrees of freedom.
        kind_weights: [H] prior probabilities of the kinds of noise; None: their own.
        whitening: of the same curve with the same inflation, where it is known.
    """
    points = average(curve)
    if inflation is not None:
        points = replace(points, sd=points.sd * inflation)
    every = curve.value if curve.r0 is None else np.append(curve.value, curve.r0)
    room = _room(curve, every)
    variance = noise_variance
    if variance is None:
        variance = noise_scale(curve, wild=inflation is not None)
        if curve.se is None:
            variance = max(variance, _unseen(curve, variance, room))
    scale = max(math.sqrt(variance), _LEAST_NOISE * room)
    spread = float(np.subtract(*np.quantile(every, (0.95, 0.05)))) if every.size > 8 else float(np.ptp(every))
    spread = max(spread, 3.0 * scale, _LEAST_SPREAD * room)
    start, alternatives = _start(curve, scale, spread)
    whitening = whiten(points) if whitening is None else whitening
    y = (points.y - start) / scale
    root = whitening.inverse_root
    sides = np.stack([root.sum(axis=2), root @ y], axis=1)
    of_one, of_values = np.moveaxis(sides @ root, 1, 0)
    gram = sides @ sides.swapaxes(1, 2)
    kind = np.tile(np.arange(len(KINDS)), len(alternatives))
    weights = [k.weight for k in KINDS] if kind_weights is None else kind_weights
    fresh = 1.0 - np.array([k.rho for k in KINDS])
    log_kind = np.log(weights) - 0.5 * (whitening.log_det + points.scatter_degrees * np.log(fresh))
    log_start = [math.log(weight) + 0.5 * math.log(precision) for precision, weight in alternatives]
    bounded = curve.bounds is not None
    low, high = curve.bounds if curve.bounds is not None else (-math.inf, math.inf)
    return Problem(
        curve=curve,
        points=points,
        inflation=inflation,
        scale=scale,
        start=start,
        range=spread,
        kind=kind,
        whitening=whitening,
        of_one=of_one[kind],
        of_values=of_values[kind],
        products=np.stack([gram[kind, 0, 0], gram[kind, 0, 1], gram[kind, 1, 1]]),
        start_precision=np.repeat([precision for precision, _ in alternatives], len(KINDS)),
        log_prior=log_kind[kind] + np.repeat(log_start, len(KINDS)),
        gain_precision=(scale / (_GAIN_RANGES * spread)) ** 2,
        ceiling_precision=0.0 if bounded else (scale / (_CEILING_RANGES * spread)) ** 2,
        ceiling_mean=float(np.median(y[-3:])),
        low=(low - start) / scale,
        high=(high - start) / scale,
        noise_degrees=noise_degrees,
        scatter=(points.scatter / scale**2 / fresh)[kind],
    )


def _room(curve: Curve, every: Floats) -> float:
    """The range in which values are taken to move: a few times that of those seen, within the bounds.

    Where all are alike it is the bounds' or, without bounds, the size of the values: bounds say what unit
    the values are in only where nothing else does.
    """
    seen = float(np.ptp(every))
    if curve.bounds is None:
        return _ROOM * seen or float(np.abs(every).max()) or 1.0
    possible = curve.bounds[1] - curve.bounds[0]
    return min(possible, _ROOM * seen) or possible


def _unseen(curve: Curve, shown: float, room: float) -> float:
    """Variance of noise that points may have that show none: equal ones, or three and fewer; else 0.

    ((0.013^2 + 0.1 0.2^2 / N^3) / N) room^2 for N points: what persistence takes it to be.
    """
    num = curve.value.size
    if num > _FEW_POINTS and shown > (_LEAST_NOISE * room) ** 2:
        return 0.0
    return (_SURE_SD**2 + 0.1 * _UNSURE_SD**2 / num**3) / num * room**2


def _start(curve: Curve, scale: float, spread: float) -> tuple[float, list[tuple[float, float]]]:
    """(centre of R0, [(precision, probability) of each reading])."""
    if curve.r0 is None:
        precision = (scale / spread) ** 2
        return float(curve.value[0]), [(precision, 1.0)]
    variance = 1.0 if curve.r0_se is None else (curve.r0_se / scale) ** 2
    tight = 1.0 / max(variance, 1e-4)
    if curve.r0_se == 0.0:
        return curve.r0, [(tight, 1.0)]
    loose = 1.0 / (variance + (_LOOSE_START * spread / scale) ** 2)
    return curve.r0, [(tight, 1.0 - _LOOSE_WEIGHT), (loose, _LOOSE_WEIGHT)]


def law_forms(problem: Problem, log_C: Floats, log_B: Floats) -> Forms:
    """The law's forms in Q cells; log C_mid is relative to the window's last compute."""
    from scipy import special

    B = np.exp(log_B)
    share = np.maximum(special.expit(-B * log_C), _LEAST_SHARE)
    form = special.expit(B[:, None] * (np.log(problem.points.t) - log_C[:, None]))
    form /= share[:, None]
    return Forms(form, share)


def trend_form(problem: Problem) -> Forms:
    """A line in log compute from the first point to the last: R0 is its value at the first, A at the last."""
    log_t = np.log(problem.points.t)
    return Forms((1.0 - log_t / min(log_t[0], -1e-9))[None], np.ones(1))


def evaluate(problem: Problem, forms: Forms, components: Integers, *, loose: bool = False) -> Cells:
    """The components' conditionals in Q cells.

    Args:
        loose: R0 is known to the observed range only, whatever the component says of it.
    """
    share = forms.share
    precision = problem.start_precision[components]
    if loose:
        precision = np.full_like(precision, (problem.scale / problem.range) ** 2)
    # Kinds that occur in two components are whitened once.
    kind = problem.kind[components]
    kinds = np.flatnonzero(np.bincount(kind))
    num = forms.form.shape[1]
    white = problem.root[kinds].reshape(-1, num) @ forms.form.T
    white *= white
    squares = white.reshape(kinds.size, num, -1).sum(axis=1)[np.searchsorted(kinds, kind)]
    ones, one_values, total = problem.products[:, components, None]
    ceiling, mean = problem.ceiling_precision, problem.ceiling_mean
    M00 = ones + precision[:, None] + ceiling
    M01 = problem.of_one[components] @ forms.form.T + ceiling / share
    M11 = squares + problem.gain_precision + ceiling / share**2
    b0 = one_values + ceiling * mean
    b1 = problem.of_values[components] @ forms.form.T + ceiling * mean / share
    det = np.maximum(M00 * M11 - M01**2, _TINY)
    r0, gain = (M11 * b0 - M01 * b1) / det, (M00 * b1 - M01 * b0) / det
    sse = np.maximum(total + ceiling * mean**2 - r0 * b0 - gain * b1, 0.0)
    sse = sse + problem.noise_degrees + problem.scatter[components][:, None]
    constant: float | Floats = 0.5 * math.log(problem.gain_precision)
    if loose:
        constant += 0.5 * np.log(precision / problem.start_precision[components])[:, None]
    log_weight = (
        problem.log_prior[components][:, None]
        + constant
        - 0.5 * np.log(det)
        - 0.5 * problem.degrees * np.log(sse)
    )
    var_r0, cross = M11 / det, -M01 / det / share
    return Cells(
        log_weight=log_weight,
        r0=r0,
        A=r0 + gain / share,
        var_A=np.maximum(var_r0 + 2.0 * cross + M00 / det / share**2, _TINY),
        var_r0=var_r0,
        covariance=var_r0 + cross,
        sse=sse,
        share=share,
    )


@dataclass(frozen=True, slots=True)
class Level:
    """The same where nothing rises: y = R0 + wander + noise; all [J]."""

    log_weight: Floats
    r0: Floats
    var_r0: Floats
    sse: Floats


def evaluate_level(problem: Problem) -> Level:
    """The components' conditionals without a rise."""
    ones, b0, total = problem.products
    precision = ones + problem.start_precision
    r0 = b0 / precision
    sse = np.maximum(total - r0 * b0, 0.0) + problem.noise_degrees + problem.scatter
    log_weight = problem.log_prior - 0.5 * np.log(precision) - 0.5 * problem.degrees * np.log(sse)
    return Level(log_weight, r0, 1.0 / precision, sse)
