"""Posterior of the law for one curve: quadrature over midpoint and efficiency, all else in closed form.

Notation: Q cells of the (log C_mid, log B) grid, J components (kind of noise with a reading of the start),
K draws.

Priors of the shape (those of the linear part are in ``cells``, those of the noise in ``noise``):

- log B ~ N(log 1.6, 0.65^2), 95 % within 0.45 to 5.7: published long runs have B from 1.09 to 2.44, short
  ablations up to 5.2 (ScaleRL Table 1 and legends); curves that follow a power law have less.
- log C_mid ~ N(log(C_last / 2), 1.3^2): of the same order as the compute spent, 95 % within 1/25 and 6
  times the window's last compute. It knows no unit of compute: rescaling moves C_mid and nothing else.
- with probability 0.1 there is no rise, only a level that wanders, and with 0.1 a line in log compute,
  which has no bend yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalerl_lab.fit.cells import Cells, Level, Problem, evaluate, evaluate_level, law_forms, trend_form
from scalerl_lab.fit.courses import Lines
from scalerl_lab.fit.law import Floats, Integers
from scalerl_lab.fit.noise import KINDS

NUM_DRAWS = 1024
B_MEDIAN, B_LOG_SD = 1.6, 0.65
MIDPOINT_MEDIAN, MIDPOINT_LOG_SD = 0.5, 1.3
"""Of the midpoint over the window's last compute."""
LAW_WEIGHT = 0.8
_LOG_B_RANGE = (math.log(0.15), math.log(14.0))
_LOG_C_RANGE = (-5.0, 3.5)
_COARSE, _FINE = (26, 16), (30, 24)
_KEEP_LOG_WEIGHT = 9.0
"""Cells less probable than exp(-9) of the best are left out when the grid closes in."""
_KEEP_COMPONENT = 6.0
_LEAST_LOG_SPAN = 0.5
_FAR = 8.0
"""Standard deviations from a bound at which it cuts nothing."""
_PROBE_KINDS = tuple(j for j, kind in enumerate(KINDS) if (kind.rho, kind.walk) in {(0.3, 0.0), (0.2, 4.0)})
"""Kinds by which the grid closes in."""


@dataclass(frozen=True, slots=True)
class Draws:
    """K equally probable parameter sets from a posterior, deterministic."""

    r0: Floats
    A: Floats
    B: Floats
    C_mid: Floats
    sigma: Floats
    """Standard deviation of a typical point's noise."""
    kind: Integers
    """[K] index into ``KINDS``."""
    lawful: NDArray[np.bool_]
    """[K] whether the draw follows the law. Else it is a line in log compute: ``r0`` is its value at the
    window's last compute, ``A`` that a decade of compute later, and B and C_mid say nothing."""
    slope: Floats
    """[K] slope of that line per unit of log compute; 0 where it is level, and where the law holds."""
    edge_mass: float
    """Probability of cells at the high edge of C_mid or at an edge of B: what the grid cut off."""
    shown: float = 0.0
    """Compute up to which siblings have shown that the law holds; below the window's end it says nothing."""
    seed: int = 0
    """Of the random part of paths: curves drawn together have seeds of their own."""
    lines: Lines | None = None
    """What draws without the law do from where they have wandered to; None where all follow the law."""


@dataclass(frozen=True, slots=True)
class Axes:
    """Cells as the product of two equally spaced axes; compute is relative to the window's last."""

    log_C: Floats
    log_B: Floats

    @classmethod
    def widest(cls, shape: tuple[int, int] = _COARSE) -> Axes:
        """All shapes that are searched."""
        return cls(np.linspace(*_LOG_C_RANGE, shape[0]), np.linspace(*_LOG_B_RANGE, shape[1]))

    def cells(self) -> tuple[Floats, Floats]:
        """(log C_mid, log B) of every cell, each [Q], C_mid varying slowest."""
        log_C, log_B = np.meshgrid(self.log_C, self.log_B, indexing="ij")
        return log_C.ravel(), log_B.ravel()

    def log_area(self) -> float:
        """Log of a cell's area."""
        return math.log((self.log_C[1] - self.log_C[0]) * (self.log_B[1] - self.log_B[0]))

    def at_edge(self) -> NDArray[np.bool_]:
        """[Q] whether a cell is where the search for shapes ends: high in C_mid, low or high in B."""
        log_C, log_B = self.cells()
        low, high = _LOG_B_RANGE
        edge: NDArray[np.bool_] = (
            (log_C >= _LOG_C_RANGE[1] - 1e-9) | (log_B <= low + 1e-9) | (log_B >= high - 1e-9)
        )
        return edge

    def close_in(self, log_weight: Floats, shape: tuple[int, int]) -> Axes:
        """New axes over the box of cells that matter, one cell of margin on each side."""
        kept = (log_weight >= log_weight.max() - _KEEP_LOG_WEIGHT).reshape(self.log_C.size, self.log_B.size)
        closer = []
        for axis, hits, size in (
            (self.log_C, kept.any(axis=1), shape[0]),
            (self.log_B, kept.any(axis=0), shape[1]),
        ):
            found = np.flatnonzero(hits)
            low, high = max(found[0] - 1, 0), min(found[-1] + 1, axis.size - 1)
            closer.append(np.linspace(axis[low], axis[high], size))
        return Axes(*closer)


def shape_log_prior(log_C: Floats, log_B: Floats) -> Floats:
    """Log density of the prior of a cell."""
    z_C = (log_C - math.log(MIDPOINT_MEDIAN)) / MIDPOINT_LOG_SD
    z_B = (log_B - math.log(B_MEDIAN)) / B_LOG_SD
    density: Floats = -0.5 * (z_C**2 + z_B**2) - math.log(2.0 * math.pi * MIDPOINT_LOG_SD * B_LOG_SD)
    return density


def locate(problem: Problem) -> Axes:
    """Axes over the cells that matter for a curve alone."""
    probes = _probes(problem)
    axes = Axes.widest()
    for shape in (_COARSE, _FINE):
        log_C, log_B = axes.cells()
        found = evaluate(problem, law_forms(problem, log_C, log_B), probes)
        log_weight = np.logaddexp.reduce(bounded(problem, found), axis=0) + shape_log_prior(log_C, log_B)
        axes = axes.close_in(log_weight, shape)
    return axes


def _probes(problem: Problem) -> Integers:
    """Components by which the grid closes in."""
    return np.array([j for j, kind in enumerate(problem.kind) if kind in _PROBE_KINDS])


def components_that_matter(problem: Problem, log_C: Floats, log_B: Floats) -> Integers:
    """Components whose best cell, of a sparse choice of cells, is not far below the best of all."""
    every = np.arange(problem.kind.size)
    sparse = slice(None, None, 13)
    found = evaluate(problem, law_forms(problem, log_C[sparse], log_B[sparse]), every)
    best = (found.log_weight + shape_log_prior(log_C[sparse], log_B[sparse])).max(axis=1)
    chosen: Integers = every[best >= best.max() - _KEEP_COMPONENT]
    return chosen


def most_probable(problem: Problem, axes: Axes) -> tuple[int, int]:
    """(component, cell) of the best sparse cell."""
    every = np.arange(problem.kind.size)
    log_C, log_B = axes.cells()
    sparse = np.arange(0, log_C.size, 13)
    found = evaluate(problem, law_forms(problem, log_C[sparse], log_B[sparse]), every)
    likely = found.log_weight + shape_log_prior(log_C[sparse], log_B[sparse])
    component, place = np.unravel_index(int(np.argmax(likely)), likely.shape)
    return int(component), int(sparse[place])


def draw_posterior(
    problem: Problem, axes: Axes, num: int = NUM_DRAWS, *, ceiling: float | None = None
) -> Draws:
    """Equally probable parameter sets given a curve alone.

    Args:
        problem: the curve made ready.
        axes: the cells that matter, from ``locate``.
        num: K.
        ceiling: where given, A is held at it.

    Returns:
        K sets. The same curve gives the same draws: they are quasi-random numbers.
    """
    if ceiling is not None:
        axes = _at_ceiling(problem, axes, ceiling)
    log_C, log_B = axes.cells()
    chosen = components_that_matter(problem, log_C, log_B)
    cells = evaluate(problem, law_forms(problem, log_C, log_B), chosen)
    log_prior = shape_log_prior(log_C, log_B) + axes.log_area()
    if ceiling is None:
        log_law = bounded(problem, cells) + log_prior + math.log(LAW_WEIGHT)
        others = without_law(problem, (1.0 - LAW_WEIGHT) / 2.0)
    else:
        log_law = _held(problem, cells, (ceiling - problem.start) / problem.scale) + log_prior
        others = None
    # Cells in the order of C_mid, then B, then component: neighbours in the sequence of draws are alike.
    log_weight = log_law.T.ravel()
    if others is not None:
        log_weight = np.concatenate([log_weight, others.log_level, others.log_trend])
    cumulative = np.cumsum(np.exp(log_weight - log_weight.max()))
    rank = (np.arange(num) + 0.5) / num
    picked = np.minimum(np.searchsorted(cumulative, rank * cumulative[-1]), log_weight.size - 1)
    lawful = picked < log_law.size
    # Draws without the law have a cell of it too, which nothing uses but the summary of B and C_mid.
    of_law = cumulative[: log_law.size]
    cell, row = np.divmod(
        np.minimum(np.searchsorted(of_law, rank * of_law[-1]), log_law.size - 1), chosen.size
    )
    cell, row = (np.where(lawful, picked // chosen.size, cell), np.where(lawful, picked % chosen.size, row))
    r0, A, sigma = draw_linear(problem, cells, row, cell, ceiling=ceiling)
    kind, slope = problem.kind[chosen[row]], np.zeros(num)
    if others is not None and not lawful.all():
        other = np.where(lawful, 0, picked - log_law.size)
        r0, A, sigma, slope = (
            np.where(lawful, law, without)
            for law, without in zip((r0, A, sigma, slope), others.draw(problem, other), strict=True)
        )
        kind = np.where(lawful, kind, problem.kind[other % problem.kind.size])
    return Draws(
        r0=r0,
        A=A,
        B=np.exp(log_B[cell]),
        C_mid=np.exp(log_C[cell]) * problem.curve.compute[-1],
        sigma=sigma,
        kind=kind,
        lawful=lawful,
        slope=slope,
        edge_mass=float(np.mean(axes.at_edge()[cell] & lawful)),
    )


@dataclass(frozen=True, slots=True)
class WithoutLaw:
    """What a curve says if it is a level, or a line in log compute; J components each."""

    level: Level
    trend: Cells
    log_level: Floats
    log_trend: Floats

    def draw(
        self, problem: Problem, other: Integers, rng: np.random.Generator | None = None
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """(value at the window's end, the same a decade later, sigma, slope per log compute) of K draws.

        Args:
            other: [K] components of the level, then of the trend.
        """
        size = problem.kind.size
        component, rising = other % size, other >= size
        level, _, level_sigma = draw_level(problem, self.level, component, rng)
        first, last, trend_sigma = draw_linear(
            problem, self.trend, component, np.zeros_like(component), rng=rng
        )
        # Over a window of hardly any length a slope is no trend.
        span = max(-math.log(problem.points.t[0]), _LEAST_LOG_SPAN)
        slope = np.where(rising, (last - first) / span, 0.0)
        end = np.where(rising, last, level)
        later = problem.inside(end + slope * math.log(10.0))
        return end, later, np.where(rising, trend_sigma, level_sigma), slope


def without_law(problem: Problem, weight: float) -> WithoutLaw:
    """The level and the trend, each with a prior probability."""
    level = evaluate_level(problem)
    trend = evaluate(problem, trend_form(problem), np.arange(problem.kind.size), loose=True)
    return WithoutLaw(
        level,
        trend,
        level.log_weight + math.log(weight),
        bounded(problem, trend)[:, 0] + math.log(weight),
    )


def draw_linear(
    problem: Problem,
    cells: Cells,
    row: Integers,
    cell: Integers,
    *,
    ceiling: float | None = None,
    population: tuple[Floats, Floats] | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[Floats, Floats, Floats]:
    """(R0, A, sigma) for K chosen (component, cell), in units of value.

    Args:
        population: (mean, standard deviation) [K] of a normal prior of A, in units of value.
        rng: where given, the draws are random; else they spread evenly in the order of the cells.
    """
    from scipy import special

    num = row.size
    u_A, u_r0, u_sigma = _quasi_random(num) if rng is None else rng.random((3, num))
    at = (row, cell)
    A_hat, var_A, sse = cells.A[at], cells.var_A[at], cells.sse[at]
    degrees = problem.degrees
    if ceiling is not None:
        A = np.full(num, (ceiling - problem.start) / problem.scale)
        sse = sse + (A - A_hat) ** 2 / var_A
        degrees = degrees + 1.0
    sigma2 = sse / _chi_squared(degrees, u_sigma)
    if ceiling is None:
        centre, variance = A_hat, sigma2 * var_A
        if population is not None:
            mean, sd = (population[0] - problem.start) / problem.scale, population[1] / problem.scale
            precision = 1.0 / variance + 1.0 / sd**2
            centre = (centre / variance + mean / sd**2) / precision
            variance = 1.0 / precision
        A = _normal_between(problem.low, problem.high, centre, np.sqrt(variance), u_A)
    r0_hat = cells.r0[at] + cells.covariance[at] / var_A * (A - A_hat)
    var_r0 = np.maximum(cells.var_r0[at] - cells.covariance[at] ** 2 / var_A, 0.0)
    r0 = r0_hat + np.sqrt(sigma2 * var_r0) * special.ndtri(u_r0)
    r0 = np.clip(r0, problem.low, problem.high)
    return (
        problem.start + problem.scale * r0,
        problem.start + problem.scale * A,
        problem.scale * np.sqrt(sigma2),
    )


def draw_level(
    problem: Problem, level: Level, component: Integers, rng: np.random.Generator | None = None
) -> tuple[Floats, Floats, Floats]:
    """(level, level, sigma) for K draws without a rise; components that are none are ignored."""
    from scipy import special

    component = np.minimum(component, level.r0.size - 1)
    num = component.size
    _, u_r0, u_sigma = _quasi_random(num) if rng is None else rng.random((3, num))
    sigma2 = level.sse[component] / _chi_squared(problem.degrees, u_sigma)
    r0 = level.r0[component] + np.sqrt(sigma2 * level.var_r0[component]) * special.ndtri(u_r0)
    value = problem.start + problem.scale * np.clip(r0, problem.low, problem.high)
    return value, value, problem.scale * np.sqrt(sigma2)


def bounded(problem: Problem, cells: Cells) -> Floats:
    """Log evidence with A within the bounds."""
    if not math.isfinite(problem.low):
        return cells.log_weight
    from scipy import special

    width = np.sqrt(cells.sse / problem.degrees * cells.var_A)
    low, high = (problem.low - cells.A) / width, (problem.high - cells.A) / width
    # Most cells are far from both bounds.
    near = (low > -_FAR) | (high < _FAR)
    low, high = low[near], high[near]
    inside = np.where(
        low > 0.0, special.ndtr(-low) - special.ndtr(-high), special.ndtr(high) - special.ndtr(low)
    )
    log_weight = cells.log_weight.copy()
    log_weight[near] += np.log(np.maximum(inside, 1e-300))
    return log_weight


def _at_ceiling(problem: Problem, axes: Axes, ceiling: float) -> Axes:
    """Axes over the cells that matter where A is held."""
    log_C, log_B = axes.cells()
    found = evaluate(problem, law_forms(problem, log_C, log_B), _probes(problem))
    held = _held(problem, found, (ceiling - problem.start) / problem.scale)
    return axes.close_in(np.logaddexp.reduce(held, axis=0) + shape_log_prior(log_C, log_B), _FINE)


def _held(problem: Problem, cells: Cells, ceiling: float) -> Floats:
    """Log evidence with A held; the density of A given the cell replaces its integral."""
    misfit = (ceiling - cells.A) ** 2 / cells.var_A
    log_weight: Floats = (
        cells.log_weight
        + 0.5 * problem.degrees * np.log(cells.sse)
        - 0.5 * (problem.degrees + 1.0) * np.log(cells.sse + misfit)
        - 0.5 * np.log(cells.var_A)
    )
    return log_weight


def _quasi_random(num: int) -> tuple[Floats, Floats, Floats]:
    """Three Kronecker sequences that spread evenly with the ranks of the draws."""
    count = np.arange(num)
    # Powers of the root of x^4 = x + 1 spread three dimensions most evenly (Roberts).
    root = 1.2207440846057596
    even = [(0.5 + count / root**power) % 1.0 for power in (1, 2, 3)]
    # Never exactly 0 or 1.
    first, second, third = ((u * (num - 1.0) + 0.5) / num for u in even)
    return first, second, third


def _chi_squared(degrees: float, uniform: Floats) -> Floats:
    """Quantiles of chi-squared by Wilson and Hilferty's cube, good to 1 % from 3 degrees of freedom on."""
    from scipy import special

    spread = 2.0 / (9.0 * degrees)
    cube = np.maximum(1.0 - spread + special.ndtri(uniform) * math.sqrt(spread), 0.05)
    quantiles: Floats = degrees * cube**3
    return quantiles


def _normal_between(low: float, high: float, centre: Floats, width: Floats, uniform: Floats) -> Floats:
    """Normals cut to [low, high] at the given uniform numbers."""
    from scipy import special

    if not math.isfinite(low):
        free: Floats = centre + width * special.ndtri(uniform)
        return free
    z_low, z_high = (low - centre) / width, (high - centre) / width
    # In the lower tail the probabilities keep their digits.
    flip = z_low > 0.0
    below, above = np.where(flip, -z_high, z_low), np.where(flip, -z_low, z_high)
    share = np.where(flip, 1.0 - uniform, uniform)
    p_below, p_above = special.ndtr(below), special.ndtr(above)
    z = special.ndtri(p_below + share * (p_above - p_below))
    # Between bounds closer than the inverse resolves, the density is flat.
    z = np.where(np.isfinite(z) & (above - below > 1e-3), z, below + share * np.minimum(above - below, 1.0))
    cut: Floats = np.clip(centre + width * np.where(flip, -z, z), low, high)
    return cut
