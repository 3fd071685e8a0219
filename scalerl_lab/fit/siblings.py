"""Runs of one sweep fitted together: each borrows from the others as much as the data justify.

Four things are shared. The noise: its size and kind are estimated over all runs. Whether the law holds:
the share of runs that follow it; and how far: up to the compute that half of the runs have reached. And
shape: the population of (A, B, C_mid) of ``population``, whose spread between arms and between seeds is
inferred with the rest; where arms differ much, little is borrowed.

The draws of all runs are joint: draw k of every run and arm belongs together, so that a difference
between two arms is the difference of their draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scalerl_lab.fit.cells import (
    NOISE_DEGREES,
    Cells,
    Problem,
    evaluate,
    law_forms,
    prepare,
)
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.identify import Limits, too_few
from scalerl_lab.fit.law import Floats, Integers, hours_to_reach, pass_rate
from scalerl_lab.fit.law_fit import LawFit, judged, ready
from scalerl_lab.fit.noise import KINDS
from scalerl_lab.fit.population import (
    Bell,
    Drawn,
    Sites,
    Table,
    Unit,
    absorb,
    log_prior,
    log_spread_prior,
    particles_of,
    propose,
    search,
    sites_of,
)
from scalerl_lab.fit.posterior import (
    LAW_WEIGHT,
    Axes,
    Draws,
    bounded,
    components_that_matter,
    draw_linear,
    locate,
    shape_log_prior,
    without_law,
)
from scalerl_lab.records import FitStatus

NUM_DRAWS = 1024
_NUM_PARTICLES, _NUM_SEARCHED = 256, 512
_ARM_TRIES = 4
"""For each of the final draws of an arm of several seeds: so many are drawn, and one kept by its weight."""
_LEAST_COUNT = 60.0
"""How many particles must count."""
_MOST_STEPS, _FINAL_MOVES, _STEP, _WIDENING = 14, 6, 0.6, 1.7
"""Of annealing: steps, moves at its end, size of a move over the spread, and of the start over the guess."""
_SHAPE = (24, 18)
_KEEP_LOG_WEIGHT = 10.0
_MOST_NOISE_DEGREES = 20.0
_OTHER_NOISE = 2.5
"""Distance in log variance from the median run beyond which noise is of another size."""
_MOST_LOG_ODDS = 500.0
_PRIOR_COUNT = 10.0
"""As how many runs the prior of the law's holding counts."""
_OWN_KIND = 0.05
"""Probability that a run's noise is of another kind than its siblings'."""
_ROUGH_SPREAD = np.array([0.03, 0.3, 0.4])


@dataclass(frozen=True, slots=True)
class ArmDraws:
    """K joint draws of an arm: what another seed of it would be expected to have."""

    r0: Floats
    A: Floats
    B: Floats
    C_mid: Floats

    def pass_rate(self, compute: float) -> Floats:
        """[K] the law at a compute."""
        return pass_rate(compute, self.r0, self.A, self.B, self.C_mid)

    def hours_to_reach(self, level: float) -> Floats:
        """[K] compute at which the law reaches a level; infinite where it does not."""
        return hours_to_reach(level, self.r0, self.A, self.B, self.C_mid)


@dataclass(frozen=True, slots=True)
class Siblings:
    """Runs of one sweep with their joint posterior."""

    fits: tuple[LawFit, ...]
    """In the order of the curves; all draws are joint."""
    arms: dict[str, ArmDraws]
    """Arms with at least one point."""


def fit_siblings(
    curves: Sequence[Curve], arms: Sequence[str] | None = None, *, limits: Limits | None = None
) -> Siblings:
    """The joint posterior of the law for runs that share model, data and evaluation.

    Args:
        curves: R curves in the same units, in any order: it changes nothing. Those without a point get a fit
            that says nothing.
        arms: [R] the arm of each; seeds of an arm have its name. None: each curve is an arm.
        limits: what is demanded of an identified ceiling.

    Returns:
        One fit per curve. A single curve is fitted with the population's priors alone.
    """
    limits = limits or Limits()
    names = [str(i) for i in range(len(curves))] if arms is None else list(arms)
    if len(names) != len(curves):
        raise ValueError(f"{len(curves)} curves and {len(names)} arms")
    # Random numbers belong to a run's place: the points decide it, whatever the order given or the unit.
    seen = sorted(
        (i for i, curve in enumerate(curves) if curve.value.size), key=lambda i: (*_rank(curves[i]), names[i])
    )
    fits = [
        LawFit(curve, FitStatus.TOO_FEW_POINTS, too_few(0, limits) or "", None, None, None)
        for curve in curves
    ]
    if not seen:
        return Siblings(tuple(fits), {})
    labels = list(dict.fromkeys(names[i] for i in seen))
    arm_of = np.array([labels.index(names[i]) for i in seen])
    runs = _share_noise([_Run.of(*ready(curves[i]), LAW_WEIGHT) for i in seen])
    runs, drawn = _share_shape(runs, arm_of, _unit([curves[i] for i in seen]))
    shown = float(np.median([run.last for run in runs])) if len(runs) > 1 else 0.0
    for place, i in enumerate(seen):
        draws = runs[place].draws(drawn, place, shown)
        fits[i] = judged(curves[i], runs[place].problem, draws, limits)
    by_arm: dict[str, ArmDraws] = {}
    for number, label in sorted(enumerate(labels), key=lambda arm: names.index(arm[1])):
        of_arm = [fits[seen[place]].draws for place in np.flatnonzero(arm_of == number)]
        r0 = np.mean([draws.r0 for draws in of_arm if draws is not None], axis=0)
        A, log_B, log_C = drawn.arm[:, number].T
        by_arm[label] = ArmDraws(r0, A, np.exp(log_B), np.exp(log_C))
    return Siblings(tuple(fits), by_arm)


def _rank(curve: Curve) -> tuple[object, ...]:
    """What runs are put in order by: later points only where all earlier ones are equal."""
    unknown = -math.inf
    return (
        list(zip(curve.compute.tolist(), curve.value.tolist(), strict=True)),
        [] if curve.se is None else curve.se.tolist(),
        unknown if curve.r0 is None else curve.r0,
        unknown if curve.r0_se is None else curve.r0_se,
        curve.bounds or (unknown, unknown),
        curve.name,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """A curve made ready, and its cells."""

    problem: Problem
    axes: Axes
    components: Integers
    cells: Cells
    law_weight: float
    lawful: float
    """Probability by the run's own points that it follows the law."""

    @classmethod
    def of(cls, problem: Problem, axes: Axes, law_weight: float) -> _Run:
        """With the axes of the run alone."""
        run = cls.at(problem, axes, law_weight, math.nan)
        log_C, log_B = axes.cells()
        alone = bounded(problem, run.cells) + shape_log_prior(log_C, log_B) + axes.log_area()
        log_law = float(np.logaddexp.reduce(alone, axis=None)) + math.log(law_weight)
        others = without_law(problem, (1.0 - law_weight) / 2.0)
        log_other = float(np.logaddexp.reduce(np.append(others.log_level, others.log_trend)))
        return replace(run, lawful=1.0 / (1.0 + math.exp(min(log_other - log_law, _MOST_LOG_ODDS))))

    @classmethod
    def at(cls, problem: Problem, axes: Axes, law_weight: float, lawful: float) -> _Run:
        """With the cells of these axes."""
        log_C, log_B = axes.cells()
        components = components_that_matter(problem, log_C, log_B)
        cells = evaluate(problem, law_forms(problem, log_C, log_B), components)
        return cls(problem, axes, components, cells, law_weight, lawful)

    @property
    def last(self) -> float:
        """The window's last compute."""
        return float(self.problem.curve.compute[-1])

    def evidence(self) -> tuple[Floats, Floats]:
        """([H] evidence of each kind under the law, [H] without it).

        Under the law it is averaged over the shapes that the run has by its own points, whatever the kind:
        siblings tell the shape, so a run does not pay for having found it. Else a wander that swallows the
        rise would seem simpler, once for every run.
        """
        log_C, log_B = (axis[::2] for axis in self.axes.cells())
        every = np.arange(self.problem.kind.size)
        cells = evaluate(self.problem, law_forms(self.problem, log_C, log_B), every)
        others = without_law(self.problem, 1.0)
        other = np.logaddexp(others.log_level, others.log_trend)
        shape = np.logaddexp.reduce(cells.log_weight, axis=0) + shape_log_prior(log_C, log_B)
        shape = shape - np.logaddexp.reduce(shape)
        return _by_kind(np.logaddexp.reduce(cells.log_weight + shape, axis=1)), _by_kind(other)

    def noise(self) -> float:
        """Variance of a point's noise at the most probable cell."""
        log_C, log_B = self.axes.cells()
        best = np.argmax(self.cells.log_weight + shape_log_prior(log_C, log_B))
        return float(self.cells.sse.ravel()[best] / self.problem.degrees * self.problem.scale**2)

    def joint(self) -> Floats:
        """[J, Q] log evidence with a flat density of A, the area of the cell included."""
        problem, cells = self.problem, self.cells
        sigma2 = cells.sse / problem.degrees * problem.scale**2
        flat = 0.5 * math.log(problem.gain_precision / (2.0 * math.pi))
        joint: Floats = cells.log_weight - flat + 0.5 * np.log(sigma2) - np.log(cells.share)
        return joint + self.axes.log_area()

    def ceilings(self) -> tuple[Floats, Floats]:
        """([J, Q] mean, [J, Q] variance) of A in units of value."""
        problem, cells = self.problem, self.cells
        variance = cells.sse / problem.degrees * cells.var_A * problem.scale**2
        return problem.start + problem.scale * cells.A, variance

    def table(self) -> Table:
        """Components merged: one normal of A in each cell."""
        problem, cells, joint, (mean, variance) = self.problem, self.cells, self.joint(), self.ceilings()
        total = np.logaddexp.reduce(joint, axis=0)
        weight = np.exp(joint - total)
        A = (weight * mean).sum(axis=0)
        var_A = (weight * (variance + (mean - A) ** 2)).sum(axis=0)
        log_C, log_B = self.axes.cells()
        # Judged by the gain seen: a flat density of A would favour shapes that rise late without end.
        seen = total + np.log(cells.share)
        if problem.curve.bounds is not None:
            low, high = problem.curve.bounds
            near = 3.0 * np.sqrt(var_A)
            seen = np.where((low - A < near) & (A - high < near), seen, -np.inf)
        kept = seen >= max(float(seen.max()), -1e300) - _KEEP_LOG_WEIGHT
        kept = kept if kept.any() else total == total.max()
        best = float(total[kept].max())
        others = without_law(self.problem, (1.0 - self.law_weight) / 2.0)
        place = np.flatnonzero(kept)
        at_C, at_B = np.divmod(place, self.axes.log_B.size)
        return Table(
            log_weight=(total - best)[kept],
            log_scale=best + math.log(self.law_weight),
            A=A[kept],
            var_A=var_A[kept],
            log_B=log_B[kept],
            log_C=log_C[kept] + math.log(self.last),
            axis_B=self.axes.log_B,
            axis_C=self.axes.log_C + math.log(self.last),
            at_B=at_B,
            at_C=at_C,
            step=(self.axes.log_B[1] - self.axes.log_B[0], self.axes.log_C[1] - self.axes.log_C[0]),
            log_other=float(np.logaddexp.reduce(np.append(others.log_level, others.log_trend))),
            place=place,
            log_share=np.log(cells.share)[kept],
            size=problem.scale,
            lawful=self.lawful,
        )

    def draws(self, drawn: Drawn, run: int, shown: float) -> Draws:
        """All parameters of the run in the K joint draws."""
        rng = np.random.default_rng(run + 1)
        table = self.table()
        cell, lawful = table.place[drawn.cell[:, run]], drawn.lawful[:, run]
        prior = drawn.prior_mean[:, run], drawn.prior_sd[:, run]
        mean, variance = (values[:, cell] for values in self.ceilings())
        spread = variance + prior[1] ** 2
        log_weight = self.joint()[:, cell] - 0.5 * (np.log(spread) + (mean - prior[0]) ** 2 / spread)
        row = np.argmax(log_weight + rng.gumbel(size=log_weight.shape), axis=0)
        r0, A, sigma = draw_linear(self.problem, self.cells, row, cell, population=prior, rng=rng)
        kind, slope = self.problem.kind[self.components[row]], np.zeros(cell.size)
        if not lawful.all():
            others = without_law(self.problem, 0.5)
            log_other = np.append(others.log_level, others.log_trend)
            other = np.argmax(log_other + rng.gumbel(size=(cell.size, log_other.size)), axis=1)
            r0, A, sigma, slope = (
                np.where(lawful, law, without)
                for law, without in zip(
                    (r0, A, sigma, slope), others.draw(self.problem, other, rng), strict=True
                )
            )
            kind = np.where(lawful, kind, self.problem.kind[other % self.problem.kind.size])
        log_C, log_B = self.axes.cells()
        return Draws(
            r0=r0,
            A=A,
            B=np.exp(log_B[cell]),
            C_mid=np.exp(log_C[cell]) * self.last,
            sigma=sigma,
            kind=kind,
            lawful=lawful,
            slope=slope,
            edge_mass=float(np.mean(self.axes.at_edge()[cell] & lawful)),
            shown=shown,
            seed=run + 1,
        )


def _share_noise(runs: list[_Run]) -> list[_Run]:
    """Runs with the size and kind of noise, and the share that follow the law, estimated over all."""
    if len(runs) < 2:
        return runs
    kinds, law_weight = _shared_kind([run.evidence() for run in runs])
    logs = np.log([run.noise() for run in runs])
    degrees = np.array([run.problem.degrees for run in runs])
    typical = float(np.median(logs))
    shared = []
    for place, run in enumerate(runs):
        # A run whose noise is of another size neither gives nor takes.
        others = (np.arange(len(runs)) != place) & (np.abs(logs - typical) < _OTHER_NOISE)
        centre, freedom = None, NOISE_DEGREES
        if others.any() and abs(logs[place] - typical) < _OTHER_NOISE:
            centre = float(np.average(logs[others], weights=degrees[others]))
            scatter = float(np.average((logs[others] - centre) ** 2, weights=degrees[others]))
            spread = max(scatter - 2.0 / float(degrees[others].mean()), 2.0 / _MOST_NOISE_DEGREES)
            freedom = max(2.0 / spread, NOISE_DEGREES)
        problem = prepare(
            run.problem.curve,
            inflation=run.problem.inflation,
            noise_variance=None if centre is None else math.exp(centre),
            noise_degrees=freedom,
            kind_weights=kinds,
        )
        shared.append(_Run.of(problem, locate(problem), law_weight))
    return shared


def _shared_kind(evidence: list[tuple[Floats, Floats]]) -> tuple[Floats, float]:
    """([H] probabilities of a run's kind of noise, share of runs that follow the law).

    All runs have one kind of noise, but each has a kind of its own with probability 0.05.

    Args:
        evidence: of each run, [H] under the law and [H] without it, each with the prior of the kinds.
    """
    prior = np.array([kind.weight for kind in KINDS])
    prior = prior / prior.sum()
    log_prior_kind = np.log(prior)
    law_weight, kinds = LAW_WEIGHT, prior
    for _ in range(4):
        log_kind, lawful = log_prior_kind.copy(), _PRIOR_COUNT * LAW_WEIGHT
        for law, other in evidence:
            log_law, log_other = law + math.log(law_weight), other + math.log((1.0 - law_weight) / 2.0)
            both = np.logaddexp(log_law, log_other)
            own = np.logaddexp.reduce(both)
            log_kind += np.logaddexp(
                math.log(1.0 - _OWN_KIND) + both - log_prior_kind, math.log(_OWN_KIND) + own
            )
            tilt = np.log(kinds) - log_prior_kind
            under_law = np.logaddexp.reduce(log_law + tilt)
            lawful += float(np.exp(under_law - np.logaddexp.reduce(both + tilt)))
        shared = np.exp(log_kind - np.logaddexp.reduce(log_kind))
        kinds = (1.0 - _OWN_KIND) * shared + _OWN_KIND * prior
        law_weight = min(lawful / (_PRIOR_COUNT + len(evidence)), 0.995)
    return kinds, law_weight


def _by_kind(of_components: Floats) -> Floats:
    """[H] from [J]: components of a kind added up."""
    added: Floats = np.logaddexp.reduce(of_components.reshape(-1, len(KINDS)), axis=0)
    return added


def _unit(curves: Sequence[Curve]) -> Unit:
    limits = [curve.bounds for curve in curves if curve.bounds is not None]
    bounds = None
    if len(limits) == len(curves):
        bounds = min(low for low, _ in limits), max(high for _, high in limits)
    values = np.concatenate([curve.value for curve in curves])
    span = float(np.ptp(values)) if bounds is None else bounds[1] - bounds[0]
    span = span or max(float(np.abs(values).max()), 1.0)
    last = max(float(curve.compute[-1]) for curve in curves)
    # The published gain of 0.2 is a fifth of what a pass rate can be.
    value = span if bounds is not None else 5.0 * span
    return Unit(value, last, bounds, (float(np.median(values)), 3.0 * span))


@dataclass(frozen=True, slots=True)
class _Target:
    """The posterior of the population, which all runs' cells are needed for."""

    tables: list[Table]
    sites: Sites
    arms: Integers
    unit: Unit

    def at(self, coordinates: Floats, seed: int, tries: int = 1) -> tuple[Drawn, Floats]:
        """(all runs drawn given each of K populations, [K] log posterior over the prior of the spreads)."""
        particles = particles_of(coordinates, self.unit)
        drawn = absorb(self.tables, self.sites, self.arms, particles, self.unit, seed, tries)
        return drawn, drawn.log_evidence + log_prior(coordinates, self.unit)


def _share_shape(runs: list[_Run], arms: Integers, unit: Unit) -> tuple[list[_Run], Drawn]:
    """Populations by importance sampling from normal approximations; then joint draws of all runs.

    Where the approximation is poor, as while all runs are young, it is annealed into the posterior.
    """
    tables = [run.table() for run in runs]
    level = (0.5 * sum(unit.bounds) / unit.value, 0.35) if unit.bounds is not None else unit.level_in_unit
    target = _Target(tables, sites_of(tables, unit, *_first_reference(tables, unit)), arms, unit)
    coordinates = search(*_box(tables, unit), _NUM_SEARCHED)
    drawn, log_weight = target.at(coordinates, 0)
    for number in (1, 2):
        weight = _tempered(log_weight)
        bell = Bell.around(coordinates, weight, _WIDENING)
        sites = sites_of(tables, unit, *_reference(tables, drawn, weight, unit))
        if number == 2:
            runs, tables = _narrowed(runs, tables, drawn, weight)
        target = _Target(tables, sites, arms, unit)
        proposed = propose(sites, arms, _NUM_PARTICLES, number, level)
        coordinates = proposed.coordinates
        drawn, log_target = target.at(coordinates, number)
        log_weight = log_target - proposed.log_density
        if _count(log_weight) < _LEAST_COUNT:
            coordinates, drawn = _anneal(target, bell)
            log_weight = np.zeros(_NUM_PARTICLES)
            if number == 1:
                runs, tables = _narrowed(runs, tables, drawn, _tempered(log_weight))
            break
    weight = _tempered(log_weight)
    rank = (np.arange(NUM_DRAWS) + 0.5) / NUM_DRAWS
    kept = np.minimum(np.searchsorted(np.cumsum(weight), rank), weight.size - 1)
    return runs, _Target(tables, target.sites, arms, unit).at(coordinates[kept], 2, _ARM_TRIES)[0]


def _anneal(target: _Target, bell: Bell) -> tuple[Floats, Drawn]:
    """Populations moved step by step from a wide normal to the posterior; (coordinates, runs drawn).

    Sequential Monte Carlo: each step raises the posterior's share until half of the populations count,
    keeps those by weight, and moves each by a Metropolis step.
    """
    rng = np.random.default_rng(7)
    coordinates = bell.draw(_NUM_PARTICLES, 0)
    drawn, log_target = target.at(coordinates, 10)
    log_bell = bell.log_density(coordinates) - log_spread_prior(coordinates)
    share = 0.0
    for step in range(_MOST_STEPS):
        gain = log_target - log_bell
        raised = _raise(gain, 1.0 - share) if step < _MOST_STEPS - 1 else 1.0 - share
        share += raised
        weight = np.exp(raised * (gain - gain.max()))
        rank = (np.arange(_NUM_PARTICLES) + rng.random()) / _NUM_PARTICLES
        kept = np.minimum(np.searchsorted(np.cumsum(weight) / weight.sum(), rank), weight.size - 1)
        coordinates, log_target, log_bell = coordinates[kept], log_target[kept], log_bell[kept]
        drawn = drawn.of(kept)
        even = np.full(_NUM_PARTICLES, 1.0 / _NUM_PARTICLES)
        near = Bell.around(coordinates, even, _STEP**2)
        moves = _FINAL_MOVES if share >= 1.0 else 1
        for move in range(moves):
            tried = coordinates + rng.standard_normal(coordinates.shape) @ near.root.T
            tried_drawn, tried_target = target.at(tried, 20 + step * _FINAL_MOVES + move)
            tried_bell = bell.log_density(tried) - log_spread_prior(tried)
            log_ratio = share * (tried_target - log_target) + (1.0 - share) * (tried_bell - log_bell)
            log_ratio += log_spread_prior(tried) - log_spread_prior(coordinates)
            better = np.log(rng.random(log_ratio.size)) < log_ratio
            coordinates = np.where(better[:, None], tried, coordinates)
            log_target = np.where(better, tried_target, log_target)
            log_bell = np.where(better, tried_bell, log_bell)
            drawn = drawn.mixed(tried_drawn, better)
        if share >= 1.0:
            break
    return coordinates, drawn


def _raise(gain: Floats, most: float) -> float:
    """How far the posterior's share may rise so that half of the populations still count."""
    low, high = 0.0, most
    if _count(most * gain) >= 0.5 * gain.size:
        return most
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _count(middle * gain) >= 0.5 * gain.size else (low, middle)
    return max(low, 1e-3 * most)


def _narrowed(
    runs: list[_Run], tables: list[Table], drawn: Drawn, weight: Floats
) -> tuple[list[_Run], list[Table]]:
    """The runs with cells where their siblings leave them."""
    closer = [
        _Run.at(
            run.problem,
            _closer(run, tables[place], drawn.cell[:, place], weight),
            run.law_weight,
            run.lawful,
        )
        for place, run in enumerate(runs)
    ]
    return closer, [run.table() for run in closer]


def _tempered(log_weight: Floats) -> Floats:
    """Weights [K] that sum to 1, evened out until enough particles count."""
    power = 1.0
    while _count(power * log_weight) < _LEAST_COUNT and power > 1e-3:
        power *= 0.8
    weight: Floats = np.exp(power * (log_weight - log_weight.max()))
    tempered: Floats = weight / weight.sum()
    return tempered


def _count(log_weight: Floats) -> float:
    """How many particles of equal weight would say as much."""
    weight = np.exp(log_weight - log_weight.max())
    return float(weight.sum() ** 2 / np.sum(weight**2))


def _box(tables: list[Table], unit: Unit) -> tuple[Floats, Floats]:
    """Lowest and highest [3] mean of all runs that is searched at first."""
    shapes = []
    for table in tables:
        log_C = table.log_C - math.log(unit.last)
        likely = table.log_weight + table.log_share + shape_log_prior(log_C, table.log_B)
        kept = likely >= likely.max() - 5.0
        A = table.A if unit.bounds is None else np.clip(table.A, *unit.bounds)
        shapes.append(np.stack([A[kept] / unit.value, table.log_B[kept], log_C[kept]]))
    # Where most runs may lie: an odd one does not stretch the box.
    low = np.quantile([shape.min(axis=1) for shape in shapes], 0.2, axis=0)
    high = np.quantile([shape.max(axis=1) for shape in shapes], 0.8, axis=0)
    middle, half = 0.5 * (low + high), np.maximum(0.5 * (high - low), _ROUGH_SPREAD)
    return middle - half, middle + half


def _first_reference(tables: list[Table], unit: Unit) -> tuple[Floats, Floats]:
    """([R, 3] mean, [R, 3, 3] covariance) of theta about what runs say alone."""
    means, variances = [], []
    for table in tables:
        log_C = table.log_C - math.log(unit.last)
        log_weight = table.log_weight + table.log_share + shape_log_prior(log_C, table.log_B)
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        A = table.A if unit.bounds is None else np.clip(table.A, *unit.bounds)
        shape = np.stack([A / unit.value, table.log_B, log_C])
        mean = shape @ weight
        means.append(mean)
        variances.append(((shape - mean[:, None]) ** 2) @ weight)
    mean, variance = np.array(means), np.array(variances)
    precision = 1.0 / (variance + _ROUGH_SPREAD**2)
    centre = (precision * mean).sum(axis=0) / precision.sum(axis=0)
    # Each run's reference lies between its own and the common centre, and reaches to both.
    own = variance / (variance + _ROUGH_SPREAD**2)
    references = mean + own * (centre - mean)
    spread = np.minimum(variance, 0.25) + _ROUGH_SPREAD**2 + 1.0 / precision.sum(axis=0)
    return references, np.stack([np.diag(row) for row in spread])


def _reference(tables: list[Table], drawn: Drawn, weight: Floats, unit: Unit) -> tuple[Floats, Floats]:
    """([R, 3], [R, 3, 3]) mean and widened covariance of theta in the last round's draws."""
    means, covariances = [], []
    for place, table in enumerate(tables):
        cell = drawn.cell[:, place]
        theta = np.stack(
            [drawn.A[:, place] / unit.value, table.log_B[cell], table.log_C[cell] - math.log(unit.last)]
        )
        mean = theta @ weight
        off = theta - mean[:, None]
        floor = np.diag([0.003, table.step[0], table.step[1]]) ** 2
        means.append(mean)
        covariances.append(4.0 * ((off * weight) @ off.T) + floor)
    return np.array(means), np.array(covariances)


def _closer(run: _Run, table: Table, cell: Integers, weight: Floats) -> Axes:
    """Axes over the cells that the population leaves a run."""
    mass = np.bincount(table.place[cell], weight, run.axes.log_C.size * run.axes.log_B.size)
    mass = mass.reshape(run.axes.log_C.size, run.axes.log_B.size)
    closer = []
    for axis, along, size in ((run.axes.log_C, 1, _SHAPE[0]), (run.axes.log_B, 0, _SHAPE[1])):
        share = mass.sum(axis=along)
        centre = float(share @ axis)
        sd = math.sqrt(float(share @ (axis - centre) ** 2)) + 0.7 * (axis[1] - axis[0])
        found = axis[share > 1e-3]
        closer.append(np.linspace(min(centre - 4.0 * sd, found[0]), max(centre + 4.0 * sd, found[-1]), size))
    return Axes(*closer)
