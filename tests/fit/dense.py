"""The model of ``noise`` and ``cells`` as documented, with dense matrices and sums over grids.

Values are relative to the start in units of the scale, as in ``Problem``, so that sigma is about 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit.cells import Problem
from scalerl_lab.fit.law import gain_share
from scalerl_lab.fit.noise import KINDS, Clock

Array = np.ndarray


def time_of(t: Array, clock: Clock, first: float) -> Array:
    """When a random walk that starts at the first point is at computes >= it."""
    if clock is Clock.LINEAR:
        # Its variance has slope 1 in compute up to 4, then slope 4 in log compute.
        far = np.where(t > 4.0, 4.0 + 4.0 * np.log(np.maximum(t, 4.0) / 4.0), t)
        return np.asarray((far - first) / (1.0 - first))
    return np.asarray(np.log(t / first) / max(-np.log(first), 0.5))


def correlation_of(kind: int, distance: Array) -> Array:
    """Of the noise of points at distances in typical gaps."""
    return np.asarray(np.where(distance == 0.0, 1.0, KINDS[kind].rho ** np.abs(distance)))


def noise_covariance(problem: Problem, kind: int) -> Array:
    """[N, N] of the points' noise, over sigma^2."""
    points = problem.points
    gaps = np.diff(points.t)
    place = np.append(0.0, np.cumsum(np.clip(gaps / np.median(gaps), 0.25, 4.0)))
    distance = place[:, None] - place
    count = int(np.median(points.count))
    if count == 1 or KINDS[kind].rho == 0.0:
        correlation = correlation_of(kind, distance)
    else:
        # Means of neighbours: those of two in a row are correlated, and the next ones by powers of that.
        lag = np.arange(2 * count)
        own = correlation_of(kind, (lag[:, None] - lag).astype(np.float64))
        alone, across = own[:count, :count].mean() * count, own[:count, count:].mean() * count
        correlation = alone * (across / alone) ** np.abs(distance)
    return np.asarray(correlation * np.outer(points.sd, points.sd))


def walk_covariance(problem: Problem, kind: int, one: Array, other: Array) -> Array:
    """[M, M'] of the wander at two sets of computes, over sigma^2."""
    chosen, first = KINDS[kind], float(problem.points.t[0])
    times = np.minimum(
        time_of(one, chosen.clock, first)[:, None], time_of(other, chosen.clock, first)[None, :]
    )
    return np.asarray(chosen.walk**2 * times)


def covariance(problem: Problem, kind: int) -> Array:
    """[N, N] of the points about the law, over sigma^2."""
    t = problem.points.t
    return np.asarray(noise_covariance(problem, kind) + walk_covariance(problem, kind, t, t))


def relative_values(problem: Problem) -> Array:
    """[N]"""
    return np.asarray((problem.points.y - problem.start) / problem.scale)


def log_noise_prior(problem: Problem, log_sigma: Array) -> Array:
    """Scaled inverse chi-squared density of sigma^2 about 1, of log sigma, up to a constant."""
    degrees = problem.noise_degrees
    return np.asarray(-degrees * log_sigma - 0.5 * degrees * np.exp(-2.0 * log_sigma))


def log_scatter(problem: Problem, kind: int, log_sigma: Array) -> Array:
    """Log likelihood of what points that were averaged showed about each other, up to a constant."""
    points, fresh = problem.points, 1.0 - KINDS[kind].rho
    variance = fresh * problem.scale**2 * np.exp(2.0 * log_sigma)
    return np.asarray(-0.5 * points.scatter_degrees * np.log(variance) - 0.5 * points.scatter / variance)


@dataclass(frozen=True)
class Explanation:
    """One way in which the points may have come about: R0 + v times a form, or a level."""

    kind: int
    form: Array | None
    """[N] gained at each point over what is gained at the window's end; None: a level."""
    share: float
    """What is gained at the window's end over the whole gain."""
    start_variance: float
    """Of R0 over sigma^2."""
    log_prior: float


def law(problem: Problem, component: int, log_C: float, log_B: float) -> Explanation:
    """The law with a component's noise and reading of the start."""
    gained = gain_share(problem.points.t, np.exp(log_B), np.exp(log_C))
    share = float(gain_share(1.0, np.exp(log_B), np.exp(log_C)))
    return Explanation(
        int(problem.kind[component]),
        gained / share,
        share,
        float(1.0 / problem.start_precision[component]),
        reading(problem, component),
    )


def level(problem: Problem, component: int) -> Explanation:
    """No rise."""
    return Explanation(
        int(problem.kind[component]),
        None,
        1.0,
        float(1.0 / problem.start_precision[component]),
        reading(problem, component),
    )


def trend(problem: Problem, component: int) -> Explanation:
    """A line in log compute whose first value is known to the observed range."""
    log_t = np.log(problem.points.t)
    return Explanation(
        int(problem.kind[component]),
        1.0 - log_t / log_t[0],
        1.0,
        (problem.range / problem.scale) ** 2,
        reading(problem, component),
    )


def reading(problem: Problem, component: int) -> float:
    """Log prior of a component: of its kind of noise, and 0.7 and 0.3 of a start known well and loosely."""
    chosen = problem.start_precision[problem.kind == problem.kind[component]]
    known = 1.0 if chosen.size == 1 else (0.7 if problem.start_precision[component] == chosen.max() else 0.3)
    return float(np.log(KINDS[int(problem.kind[component])].weight * known))


@dataclass(frozen=True)
class Summed:
    """What a sum over R0, the gain and sigma finds."""

    log_evidence: float
    r0: float
    A: float
    var_r0: float
    var_A: float
    covariance: float
    sigma2: float


def sum_over_grid(problem: Problem, of: Explanation, size: int = 51, num_sigma: int = 36) -> Summed:
    """Evidence and moments by summing the joint density over a grid of R0, the gain in the window, and sigma.

    Without bounds A has a kernel, 1 at the last values, of the width that its precision says.
    """
    y, inverse = relative_values(problem), np.linalg.inv(covariance(problem, of.kind))
    log_det = np.linalg.slogdet(covariance(problem, of.kind))[1]
    form = np.zeros(y.size) if of.form is None else of.form
    gain_variance = 1.0 / problem.gain_precision
    ceiling_precision = 0.0 if of.form is None else problem.ceiling_precision
    # The grid spans 7 standard deviations, at a sigma that follows it, about the best fit.
    rows = np.linalg.cholesky(inverse).T
    design = [rows @ np.ones(y.size), rows @ form]
    penalty = [[of.start_variance**-0.5, 0.0], [0.0, gain_variance**-0.5]]
    target = np.concatenate([rows @ y, [0.0, 0.0]])
    stacked = np.vstack([np.column_stack(design), penalty])
    if ceiling_precision > 0.0:
        kernel = ceiling_precision**0.5 * np.array([1.0, 1.0 / of.share])
        stacked = np.vstack([stacked, kernel])
        target = np.append(target, ceiling_precision**0.5 * problem.ceiling_mean)
    centre = np.linalg.lstsq(stacked, target)[0]
    root = np.linalg.cholesky(np.linalg.inv(stacked.T @ stacked))
    least = float(np.sum((target - stacked @ centre) ** 2)) + problem.noise_degrees
    least += problem.points.scatter / problem.scale**2 / (1.0 - KINDS[of.kind].rho)
    width = (2.0 * problem.degrees) ** -0.5
    log_sigma = 0.5 * np.log(least / problem.degrees) + width * np.linspace(-6.0, 12.0, num_sigma)
    z = np.linspace(-7.0, 7.0, size)
    z0, z1 = (grid.ravel() for grid in np.meshgrid(z, z, indexing="ij"))
    log_weight, moments = [], []
    for one in log_sigma:
        sigma = float(np.exp(one))
        r0, gain = centre[:, None] + sigma * root @ np.stack([z0, z1])
        rest = y - r0[:, None] - gain[:, None] * form
        ceiling = r0 + gain / of.share
        square = (rest @ inverse * rest).sum(axis=1) + r0**2 / of.start_variance
        square += gain**2 / gain_variance + ceiling_precision * (ceiling - problem.ceiling_mean) ** 2
        cell = sigma**2 * np.prod(np.diag(root)) * (z[1] - z[0]) ** 2
        normaliser = (y.size + 2) * (one + 0.5 * np.log(2.0 * np.pi))
        normaliser += 0.5 * (log_det + np.log(of.start_variance) + np.log(gain_variance))
        log_weight.append(
            -0.5 * square / sigma**2
            - normaliser
            + log_noise_prior(problem, one)
            + log_scatter(problem, of.kind, one)
            + np.log(cell)
        )
        moments.append([r0, ceiling, r0**2, ceiling**2, r0 * ceiling, np.full(r0.size, sigma**2)])
    log_density = np.array(log_weight)
    weight = np.exp(log_density - log_density.max())
    total = weight.sum()
    means = np.einsum("sg,smg->m", weight, np.array(moments)) / total
    return Summed(
        log_evidence=float(np.log(total) + log_density.max()) + of.log_prior,
        r0=float(means[0]),
        A=float(means[1]),
        var_r0=float(means[2] - means[0] ** 2),
        var_A=float(means[3] - means[1] ** 2),
        covariance=float(means[4] - means[0] * means[1]),
        sigma2=float(means[5]),
    )
