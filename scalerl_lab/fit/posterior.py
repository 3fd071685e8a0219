"""Posterior of the sigmoid law on a grid over midpoint and efficiency, with the rest integrated.

Notation: N points, Q cells of the (log C_mid, log B) grid, H nodes of the residual correlation, K draws.

Given C_mid and B the law is linear in R0 and A: y = R0 (1 - f) + A f + e, f = 1 / (1 + (C_mid / C)^B).
The noise e has variance sigma^2 sd_i^2 and correlation rho^gap between neighbours. With

    R0 ~ N(start, sigma^2 start_sd^2),  A ~ U(0, 1),  sigma^2 ~ scaled-Inv-chi2(3, noise_variance)

R0, A and sigma integrate in closed form: A given a cell is a Student t with N + 2 degrees of freedom cut
to [0, 1], and its normaliser is the cell's weight. What is left is summed over cells and over rho.

Priors on the rest:

- log B ~ N(log 1.8, 0.5^2), 95 % within 0.68 to 4.8: published long runs have B from 1.09 to 2.44, short
  ablations up to 5.2, tiny runs 1.05 to 3.4.
- log C_mid ~ uniform from a twentieth of the first compute of the window to 10 times its last. It is flat
  in log, so it has no scale of its own: rescaling compute moves C_mid and nothing else.
- rho on (0, 0.15, ..., 0.75), weighted by N(0.3, 0.2^2): residuals of published curves have lag-1
  correlation of about 0.3, and intervals that take them as independent are too narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.window import Window

NUM_DRAWS = 4096
_NOISE_DEGREES = 3.0
_B_MEDIAN, _B_LOG_SD = 1.8, 0.5
_LOG_B_RANGE = (math.log(0.3), math.log(9.0))
_CORRELATIONS = np.array([0.0, 0.15, 0.3, 0.45, 0.6, 0.75])
_CORRELATION_LOG_PRIOR = -0.5 * ((_CORRELATIONS - 0.3) / 0.2) ** 2
_COARSE, _FINE = (40, 24), (56, 40)
_KEEP_LOG_WEIGHT = 10.0
"""Cells less probable than exp(-10) of the best are left out when the grid closes in."""
_TINY = 1e-300
_SMALLEST_SHARE = 1e-12
"""Computes closer to 0 than this share of the window's last count as this share of it."""


@dataclass(frozen=True, slots=True)
class Draws:
    """K equally probable parameter sets from a posterior, deterministic."""

    r0: Floats
    A: Floats
    B: Floats
    C_mid: Floats
    sigma: float
    """Posterior mean of the residual standard deviation, at a point of mean noise."""
    edge_mass: float
    """Probability of cells at the high edge of C_mid or at an edge of B: what the grid cut off."""


@dataclass(frozen=True, slots=True)
class _Axes:
    """Cells as the product of two equally spaced axes; compute is relative to the window's last."""

    log_midpoint: Floats
    log_efficiency: Floats

    def cells(self) -> tuple[Floats, Floats]:
        """(log C_mid, log B) of every cell, each [Q], C_mid varying slowest."""
        log_C, log_B = np.meshgrid(self.log_midpoint, self.log_efficiency, indexing="ij")
        return log_C.ravel(), log_B.ravel()


@dataclass(frozen=True, slots=True)
class _Conditionals:
    """What each cell says of A and R0, all relative to the window's start, each [H, Q]."""

    log_weight: Floats
    A_hat: Floats
    R0_hat: Floats
    M00: Floats
    M01: Floats
    M11: Floats
    """M is the precision of (R0, A) in units of 1 / sigma^2."""
    sse: Floats
    """Sum of squares at (R0_hat, A_hat) with the prior's own."""


def draw_posterior(window: Window, *, ceiling: float | None = None) -> Draws:
    """Equally probable parameter sets given a window.

    Args:
        window: points and start of the fit.
        ceiling: where given, A is held at it.

    Returns:
        ``NUM_DRAWS`` sets. The same window gives the same draws: they are quasi-random numbers.
    """
    axes = limits = _widest_axes(window)
    middle = slice(2, 3)
    for shape in (_COARSE, _FINE):
        found = _condition(window, axes, _CORRELATIONS[middle], _CORRELATION_LOG_PRIOR[middle], ceiling)
        axes = _close_in(axes, found.log_weight[0], shape)
    found = _condition(window, axes, _CORRELATIONS, _CORRELATION_LOG_PRIOR, ceiling)
    return _draw(window, axes, limits, found, ceiling)


def _widest_axes(window: Window) -> _Axes:
    first = max(float(window.gpu_hours[0] / window.gpu_hours[-1]), _SMALLEST_SHARE)
    return _Axes(
        np.linspace(math.log(first / 20.0), math.log(10.0), _COARSE[0]),
        np.linspace(*_LOG_B_RANGE, _COARSE[1]),
    )


def _close_in(axes: _Axes, log_weight: Floats, shape: tuple[int, int]) -> _Axes:
    """New axes over the box of cells that matter, one cell of margin on each side."""
    kept = (log_weight >= log_weight.max() - _KEEP_LOG_WEIGHT).reshape(
        axes.log_midpoint.size, axes.log_efficiency.size
    )
    closer = []
    for axis, hits, size in (
        (axes.log_midpoint, kept.any(axis=1), shape[0]),
        (axes.log_efficiency, kept.any(axis=0), shape[1]),
    ):
        found = np.flatnonzero(hits)
        low, high = max(found[0] - 1, 0), min(found[-1] + 1, axis.size - 1)
        closer.append(np.linspace(axis[low], axis[high], size))
    return _Axes(*closer)


def _condition(
    window: Window, axes: _Axes, rhos: Floats, rho_log_prior: Floats, ceiling: float | None
) -> _Conditionals:
    """Weighted least squares in (R0, A) for each cell and rho; the prior of R0 counts as a point."""
    log_C, log_B = axes.cells()
    log_hours = np.log(np.maximum(window.gpu_hours / window.gpu_hours[-1], _SMALLEST_SHARE))
    # exp stays finite: the exponent is at most B = 9 times the log of the widest grid.
    share = 1.0 / (1.0 + np.exp(np.exp(log_B)[:, None] * (log_C[:, None] - log_hours)))
    noise = _Precision.of(rhos[:, None] ** window.gaps)
    f, one = share / window.sd, 1.0 / window.sd
    # Relative to the start, R0 has prior mean 0 and the sums below do not cancel.
    y = (window.pass_rate - window.start) / window.sd
    of_one, of_y = noise.times(one), noise.times(y)
    ff, f1, fy = noise.squares(f), of_one @ f.T, of_y @ f.T
    M00 = (of_one @ one)[:, None] - 2.0 * f1 + ff + window.start_sd**-2
    M01, M11 = f1 - ff, ff
    b0, b1 = (of_y @ one)[:, None] - fy, fy
    det = np.maximum(M00 * M11 - M01**2, _TINY)
    R0_hat, A_hat = (M11 * b0 - M01 * b1) / det, (M00 * b1 - M01 * b0) / det
    sse = np.maximum((of_y @ y)[:, None] - R0_hat * b0 - A_hat * b1, 0.0)
    sse = sse + _NOISE_DEGREES * window.noise_variance
    log_weight = (
        -0.5 * ((log_B - math.log(_B_MEDIAN)) / _B_LOG_SD) ** 2
        + (rho_log_prior + 0.5 * noise.log_det)[:, None]
    )
    if ceiling is None:
        degrees = y.size - 1.0 + _NOISE_DEGREES
        width = np.sqrt(sse / degrees * M00 / det)
        log_weight = log_weight - 0.5 * np.log(det) - 0.5 * degrees * np.log(sse)
        log_weight = log_weight + _log_probability_between(
            (-window.start - A_hat) / width, (1.0 - window.start - A_hat) / width, degrees
        )
    else:
        held = sse + (ceiling - window.start - A_hat) ** 2 * det / M00
        log_weight = log_weight - 0.5 * np.log(M00) - 0.5 * (y.size + _NOISE_DEGREES) * np.log(held)
    return _Conditionals(log_weight, A_hat, R0_hat, M00, M01, M11, sse)


@dataclass(frozen=True, slots=True)
class _Precision:
    """Inverse correlation of residuals, tridiagonal since each depends on its neighbour only."""

    diagonal: Floats
    """[H, N]"""
    beside: Floats
    """[H, N - 1]"""
    log_det: Floats
    """[H]"""

    @classmethod
    def of(cls, correlation: Floats) -> _Precision:
        """From the correlations [H, N - 1] of neighbours."""
        left = 1.0 / (1.0 - correlation**2)
        diagonal = np.ones((correlation.shape[0], correlation.shape[1] + 1))
        diagonal[:, 1:] = left
        diagonal[:, :-1] += correlation**2 * left
        return cls(diagonal, -correlation * left, np.log(left).sum(axis=1))

    def times(self, values: Floats) -> Floats:
        """The product with a vector [N], for each rho: [H, N]."""
        product: Floats = self.diagonal * values
        product[:, 1:] += self.beside * values[:-1]
        product[:, :-1] += self.beside * values[1:]
        return product

    def squares(self, rows: Floats) -> Floats:
        """The quadratic form of each row of [Q, N], for each rho: [H, Q]."""
        forms: Floats = self.diagonal @ (rows**2).T
        return forms + 2.0 * (self.beside @ (rows[:, 1:] * rows[:, :-1]).T)


def _log_probability_between(low: Floats, high: Floats, degrees: float) -> Floats:
    """log P(low < T < high) for Student's T, also far out and for slivers."""
    from scipy import special

    # In the lower tail the difference of two small numbers is exact.
    flip = low > 0.0
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    between = special.stdtr(degrees, high) - special.stdtr(degrees, low)
    middle = (low + high) / 2.0
    log_density = (
        math.lgamma((degrees + 1.0) / 2.0)
        - math.lgamma(degrees / 2.0)
        - 0.5 * math.log(degrees * math.pi)
        - (degrees + 1.0) / 2.0 * np.log1p(middle**2 / degrees)
    )
    sliver = log_density + np.log(np.maximum(high - low, _TINY))
    logs: Floats = np.where(high - low < 1e-3, sliver, np.log(np.maximum(between, _TINY)))
    return logs


def _draw(window: Window, axes: _Axes, limits: _Axes, found: _Conditionals, ceiling: float | None) -> Draws:
    log_C, log_B = axes.cells()
    # Cells in the order of C_mid, then B, then rho: neighbours in the sequence of draws are alike.
    log_weight = found.log_weight.T.ravel()
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    ranks, u_A, u_R0 = _quasi_random(NUM_DRAWS)
    chosen = np.minimum(np.searchsorted(np.cumsum(weight), ranks), weight.size - 1)
    cell, rho = np.divmod(chosen, found.log_weight.shape[0])
    at = (rho, cell)
    M00, sse, A_hat = found.M00[at], found.sse[at], found.A_hat[at]
    excess = (found.M11[at] * M00 - found.M01[at] ** 2) / M00
    degrees = window.pass_rate.size - 1.0 + _NOISE_DEGREES
    if ceiling is None:
        width = np.sqrt(sse / degrees / np.maximum(excess, _TINY))
        A = _draw_between(-window.start, 1.0 - window.start, A_hat, width, degrees, u_A)
    else:
        A = np.full(NUM_DRAWS, ceiling - window.start)
    held = sse + (A - A_hat) ** 2 * excess
    location = found.R0_hat[at] - found.M01[at] / M00 * (A - A_hat)
    width = np.sqrt(held / (degrees + 1.0) / M00)
    r0 = _draw_between(-window.start, 1.0 - window.start, location, width, degrees + 1.0, u_R0)
    top = log_C >= limits.log_midpoint[-1] - 1e-9
    edge = top | (log_B <= limits.log_efficiency[0] + 1e-9) | (log_B >= limits.log_efficiency[-1] - 1e-9)
    return Draws(
        r0=r0 + window.start,
        A=A + window.start,
        B=np.exp(log_B[cell]),
        C_mid=np.exp(log_C[cell]) * window.gpu_hours[-1],
        sigma=float(np.sqrt(held / (degrees + 1.0)).mean()),
        edge_mass=float(edge[cell].mean()),
    )


def _quasi_random(num: int) -> tuple[Floats, Floats, Floats]:
    """An evenly spread sequence in the unit cube: ranks in order, and two Kronecker sequences."""
    count = np.arange(num)
    # Powers of the plastic number spread two dimensions most evenly (Roberts' R2 sequence).
    plastic = 1.324717957244746
    return (count + 0.5) / num, (0.5 + count / plastic) % 1.0, (0.5 + count / plastic**2) % 1.0


def _draw_between(
    low: float, high: float, location: Floats, width: Floats, degrees: float, uniform: Floats
) -> Floats:
    """Student t around a location, cut to [low, high], at the given uniform numbers."""
    from scipy import special

    z_low, z_high = (low - location) / width, (high - location) / width
    # In the lower tail the probabilities keep their digits.
    flip = z_low > 0.0
    below, above = np.where(flip, -z_high, z_low), np.where(flip, -z_low, z_high)
    p_below, p_above = special.stdtr(degrees, below), special.stdtr(degrees, above)
    z = special.stdtrit(degrees, p_below + np.where(flip, 1.0 - uniform, uniform) * (p_above - p_below))
    # Between bounds closer than the inverse resolves, the density is flat.
    flat = above - below < 1e-3
    z = np.where(flat, below + np.where(flip, 1.0 - uniform, uniform) * (above - below), z)
    z = np.where(flip, -z, z)
    return np.clip(location + width * np.where(np.isfinite(z), z, 0.0), low, high)
