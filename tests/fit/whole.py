"""The whole posterior of a curve by weighing all parameters on grids, with dense covariances.

For every cell of (log C_mid, log B), kind of noise, reading of the start and sigma, the points are jointly
normal with the ceiling: nothing is solved, all is summed. Values are relative as in ``dense``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from scalerl_lab.fit.cells import Problem
from scalerl_lab.fit.law import gain_share
from scalerl_lab.fit.noise import KINDS
from scalerl_lab.fit.posterior import B_LOG_SD, B_MEDIAN, LAW_WEIGHT, MIDPOINT_LOG_SD, MIDPOINT_MEDIAN
from tests.fit.dense import (
    Array,
    correlation_of,
    covariance,
    log_noise_prior,
    log_scatter,
    reading,
    relative_values,
    walk_covariance,
)

LAW, LEVEL, TREND = 0, 1, 2


@dataclass(frozen=True)
class Row:
    """Cells under one kind of noise and reading of the start: all normal given sigma."""

    model: int
    kind: int
    log_C: Array
    log_B: Array
    r0: Array
    """[Q] mean, as the next; variances are over sigma^2."""
    A: Array
    var_r0: Array
    var_A: Array
    covariance: Array
    log_weight: Array
    """[Q, S]"""


@dataclass(frozen=True)
class Whole:
    """All rows with the sigmas of their columns."""

    problem: Problem
    sigma: Array
    rows: list[Row]

    def weights(self) -> list[Array]:
        """Of every row, [Q, S]; all sum to 1."""
        top = max(row.log_weight.max() for row in self.rows)
        weights = [np.exp(row.log_weight - top) for row in self.rows]
        total = sum(weight.sum() for weight in weights)
        return [weight / total for weight in weights]

    def probability(self, model: int) -> float:
        """Of the law, the level or the trend."""
        pairs = zip(self.rows, self.weights(), strict=True)
        return float(sum(weight.sum() for row, weight in pairs if row.model == model))

    def ceiling_below(self, values: Array) -> Array:
        """Probability that A lies below each of some values, in units of value, if the law holds."""
        z = (np.asarray(values) - self.problem.start) / self.problem.scale
        below, total = np.zeros(z.size), 0.0
        for row, weight in zip(self.rows, self.weights(), strict=True):
            if row.model == LAW:
                sd = np.sqrt(row.var_A)[:, None] * self.sigma
                low, high = (
                    stats.norm.cdf((b - row.A[:, None]) / sd) for b in (self.problem.low, self.problem.high)
                )
                for i, value in enumerate(z):
                    share = (stats.norm.cdf((value - row.A[:, None]) / sd) - low) / np.maximum(
                        high - low, 1e-300
                    )
                    below[i] += (weight * np.clip(share, 0.0, 1.0)).sum()
                total += weight.sum()
        return np.asarray(below / total)

    def held_at(self, ceiling: float) -> Whole:
        """The slice at a ceiling: the law alone, weighed by the density of A there."""
        z = (ceiling - self.problem.start) / self.problem.scale
        rows = []
        for row in self.rows:
            if row.model == LAW:
                sd = np.sqrt(row.var_A)[:, None] * self.sigma
                inside = stats.norm.cdf(self.problem.high, row.A[:, None], sd)
                inside -= stats.norm.cdf(self.problem.low, row.A[:, None], sd)
                density = stats.norm.logpdf(z, row.A[:, None], sd) - np.log(np.maximum(inside, 1e-300))
                rows.append(replace(row, log_weight=row.log_weight + density))
        return replace(self, rows=rows)

    def shape_below(self, values: Array, *, midpoint: bool) -> Array:
        """Probability that log C_mid (relative to the last compute) or log B lies below values."""
        weight = sum(
            weight.sum(axis=1)
            for row, weight in zip(self.rows, self.weights(), strict=True)
            if row.model == LAW
        )
        first = next(row for row in self.rows if row.model == LAW)
        grid, place = np.unique(first.log_C if midpoint else first.log_B, return_inverse=True)
        cumulative = np.cumsum(np.bincount(place, np.asarray(weight)))
        edges = grid + 0.5 * (grid[1] - grid[0])
        return np.asarray(np.interp(values, edges, cumulative / cumulative[-1]))


def weigh(problem: Problem, size: tuple[int, int] = (72, 44), num_sigma: int = 18) -> Whole:
    """The posterior of all that the points can have come from: of all shapes, then of those that count."""
    widest = np.array([[-5.0, 3.5], np.log([0.15, 14.0])])
    coarse = _weigh(problem, widest, (40, 24), 8)
    law = [row for row in coarse.rows if row.model == LAW]
    best = np.max([row.log_weight.max(axis=1) for row in law], axis=0)
    kept = best > best.max() - 10.0
    step = np.diff(widest, axis=1)[:, 0] / [39, 23]
    box = np.array([[x[kept].min(), x[kept].max()] for x in (law[0].log_C, law[0].log_B)])
    box += step[:, None] * [-1.0, 1.0]
    return _weigh(problem, np.clip(box, widest[:, :1], widest[:, 1:]), size, num_sigma)


def _weigh(problem: Problem, box: Array, size: tuple[int, int], num_sigma: int) -> Whole:
    log_C, log_B = (np.linspace(low, high, num) for (low, high), num in zip(box, size, strict=True))
    log_C, log_B = (grid.ravel() for grid in np.meshgrid(log_C, log_B, indexing="ij"))
    log_sigma = np.linspace(-1.8, 2.2, num_sigma)
    t = problem.points.t
    gained = gain_share(t, np.exp(log_B)[:, None], np.exp(log_C)[:, None])
    at_end = gain_share(1.0, np.exp(log_B), np.exp(log_C))
    prior = np.log(LAW_WEIGHT) + stats.norm.logpdf(log_C, np.log(MIDPOINT_MEDIAN), MIDPOINT_LOG_SD)
    prior += stats.norm.logpdf(log_B, np.log(B_MEDIAN), B_LOG_SD)
    prior += np.log((log_C[-1] - log_C[0]) / (size[0] - 1) * (log_B[-1] - log_B[0]) / (size[1] - 1))
    other = np.log((1.0 - LAW_WEIGHT) / 2.0)
    line, nothing, one = 1.0 - np.log(t) / np.log(t[0]), np.zeros(t.size), np.ones(1)
    rows = []
    for j in range(problem.kind.size):
        known, loose = float(1.0 / problem.start_precision[j]), (problem.range / problem.scale) ** 2
        form, share = gained / at_end[:, None], at_end
        for model, forms, shares, start, log_prior, C, B in (
            (LAW, form, share, known, prior, log_C, log_B),
            (LEVEL, nothing[None], one, known, np.array([other]), one, one),
            (TREND, line[None], one, loose, np.array([other]), one, one),
        ):
            rows.append(_row(problem, model, j, forms, shares, start, log_prior, C, B, log_sigma))
    return Whole(problem, np.exp(log_sigma), rows)


def _row(
    problem: Problem,
    model: int,
    component: int,
    form: Array,
    share: Array,
    start: float,
    log_prior: Array,
    log_C: Array,
    log_B: Array,
    log_sigma: Array,
) -> Row:
    kind, y = int(problem.kind[component]), relative_values(problem)
    gain = 1.0 / problem.gain_precision
    spread = covariance(problem, kind) + start + gain * form[:, :, None] * form[:, None, :]
    inverse, log_det = np.linalg.inv(spread), np.linalg.slogdet(spread)[1]
    square = np.einsum("n,qnm,m->q", y, inverse, y)
    with_r0 = np.full(form.shape, start)
    with_A = start + gain * form / share[:, None]
    r0, A = (np.einsum("qn,qnm,m->q", with_, inverse, y) for with_ in (with_r0, with_A))
    var_r0 = start - np.einsum("qn,qnm,qm->q", with_r0, inverse, with_r0)
    var_A = start + gain / share**2 - np.einsum("qn,qnm,qm->q", with_A, inverse, with_A)
    both = start - np.einsum("qn,qnm,qm->q", with_r0, inverse, with_A)
    sigma = np.exp(log_sigma)
    log_weight = (
        (log_prior + reading(problem, component) - 0.5 * log_det)[:, None]
        - y.size * log_sigma
        - 0.5 * square[:, None] / sigma**2
        + log_noise_prior(problem, log_sigma)
        + log_scatter(problem, kind, log_sigma)
    )
    if problem.ceiling_precision > 0.0 and model != LEVEL:
        # The kernel about the last values as one more measurement of A.
        width = var_A + 1.0 / problem.ceiling_precision
        off = problem.ceiling_mean - A
        log_weight += -0.5 * (off**2 / width)[:, None] / sigma**2
        log_weight += -0.5 * np.log(problem.ceiling_precision * width)[:, None]
        r0, A = r0 + both / width * off, A + var_A / width * off
        kept = 1.0 / (problem.ceiling_precision * width)
        var_r0, both, var_A = var_r0 - both**2 / width, kept * both, kept * var_A
    elif model != LEVEL:
        sd = np.sqrt(var_A)[:, None] * sigma
        inside = stats.norm.cdf(problem.high, A[:, None], sd) - stats.norm.cdf(problem.low, A[:, None], sd)
        log_weight += np.log(np.maximum(inside, 1e-300))
    return Row(model, kind, log_C, log_B, r0, A, var_r0, var_A, both, log_weight)


@dataclass(frozen=True)
class Futures:
    """[K, M] random curves and new points at some computes, in units of value."""

    curve: Array
    point: Array
    model: Array
    """[K]"""


def draw_futures(whole: Whole, x: Array, rng: np.random.Generator, num: int = 20_000) -> Futures:
    """Curves and points at computes relative to the last, increasing, none between two points."""
    problem, weights = whole.problem, whole.weights()
    of_row = rng.multinomial(num, [weight.sum() for weight in weights])
    curves, points, models = [], [], []
    for row, weight, count in zip(whole.rows, weights, of_row, strict=True):
        if count:
            picked = rng.choice(weight.size, count, p=(weight / weight.sum()).ravel())
            q, s = np.divmod(picked, whole.sigma.size)
            curve, point = _futures(problem, row, q, whole.sigma[s], x, rng)
            curves.append(curve)
            points.append(point)
            models.append(np.full(count, row.model))
    low, high = problem.curve.bounds or (-np.inf, np.inf)
    curve, point = (
        np.clip(problem.start + problem.scale * np.concatenate(part), low, high) for part in (curves, points)
    )
    return Futures(curve, point, np.concatenate(models))


def _futures(
    problem: Problem, row: Row, q: Array, sigma: Array, x: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """[K, M] of one row's picked cells."""
    kind, t, num = KINDS[row.kind], problem.points.t, q.size
    sd = sigma * np.sqrt(row.var_A[q])
    A = row.A[q]
    if row.model != LEVEL:
        low, high = (problem.low - A) / sd, (problem.high - A) / sd
        A = A + sd * stats.truncnorm.rvs(low, high, random_state=rng)
    slope_of_r0 = row.covariance[q] / row.var_A[q]
    var_r0 = row.var_r0[q] - slope_of_r0 * row.covariance[q]
    if row.model == LEVEL:
        slope_of_r0, var_r0 = np.zeros(num), row.var_r0[q]
    r0 = row.r0[q] + slope_of_r0 * (A - row.A[q]) + sigma * np.sqrt(var_r0) * rng.normal(size=num)
    if row.model == LAW:
        B, C_mid = np.exp(row.log_B[q])[:, None], np.exp(row.log_C[q])[:, None]
        rise = (A - r0)[:, None]
        seen, ahead = (
            r0[:, None] + rise * gain_share(t, B, C_mid),
            r0[:, None] + rise * gain_share(x, B, C_mid),
        )
        end = gain_share(1.0, B, C_mid)[:, 0]
        slope = (A - r0) * B[:, 0] * end * (1.0 - end)
    elif row.model == TREND:
        slope = (A - r0) / -np.log(t[0])
        seen, ahead = (A[:, None] + slope[:, None] * np.log(at) for at in (t, x))
    else:
        slope = np.zeros(num)
        seen, ahead = np.repeat(r0[:, None], t.size, axis=1), np.repeat(r0[:, None], x.size, axis=1)
    beyond = np.maximum(np.log(x), 0.0)
    ahead = ahead + (kind.slope_error * slope * rng.normal(size=num))[:, None] * beyond
    steps = rng.normal(size=(num, x.size)) * np.sqrt(np.diff(beyond, prepend=0.0))
    ahead += kind.range_error * problem.range / problem.scale * np.cumsum(steps, axis=1)
    residual = (problem.points.y - problem.start) / problem.scale - seen
    # Wander at x, then noise at x, jointly normal with the residuals.
    inverse = np.linalg.inv(covariance(problem, row.kind))
    gap = float(np.median(np.diff(t)))
    place = np.append(0.0, np.cumsum(np.clip(np.diff(t) / gap, 0.25, 4.0)))
    after = place[-1] + np.maximum((x - 1.0) / gap, 1.0)
    wander = walk_covariance(problem, row.kind, np.maximum(x, t[0]), t)
    noise = correlation_of(row.kind, after[:, None] - place) * problem.points.sd
    noise = np.where(x[:, None] > 1.0, noise, 0.0)
    own = walk_covariance(problem, row.kind, np.maximum(x, t[0]), np.maximum(x, t[0]))
    left = own - wander @ inverse @ wander.T
    root = np.linalg.cholesky(left + 1e-9 * np.eye(x.size))
    off = sigma[:, None] * (rng.normal(size=(num, x.size)) @ root.T)
    curve = ahead + residual @ inverse @ wander.T + off
    # A new point's noise goes with the wander at its compute: what the residuals leave open is shared.
    together = -np.einsum("mn,nk,mk->m", wander, inverse, noise)
    per_wander = together / np.maximum(np.diag(left), 1e-9)
    alone = 1.0 - np.einsum("mn,nk,mk->m", noise, inverse, noise) - per_wander * together
    drawn = residual @ inverse @ noise.T + per_wander * off
    drawn += sigma[:, None] * np.sqrt(np.maximum(alone, 0.0)) * rng.normal(size=(num, x.size))
    return curve, np.clip(curve, problem.low, problem.high) + drawn
