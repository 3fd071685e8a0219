"""The population of a sweep's shapes inferred from at most 32 runs, and runs drawn given it.

Of more runs, whole arms of at most 32 tell it, spread over how far arms have come. Each other arm is drawn
given it, without weighing in and apart from the rest, so that only arms that are asked for take time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit.absorb import Drawn, absorb
from scalerl_lab.fit.law import Floats, Integers
from scalerl_lab.fit.population import Unit, log_prior, log_spread_prior, particles_of
from scalerl_lab.fit.posterior import Axes, shape_log_prior
from scalerl_lab.fit.proposal import Bell, propose, search
from scalerl_lab.fit.sibling_run import SiblingRun
from scalerl_lab.fit.sites import Sites, sites_of
from scalerl_lab.fit.weighing import Table

NUM_DRAWS = 1024
_NUM_PARTICLES = 256
MOST_RUNS = 32
"""From how many runs the population is inferred."""
_ARM_TRIES = 4
"""For one of the final draws of an arm of several seeds: so many are drawn, and one kept by its weight."""
_LEAST_COUNT = 60.0
"""How many particles must count."""
_MOST_STEPS, _FINAL_MOVES, _STEP, _WIDENING = 14, 6, 0.6, 1.7
"""Of annealing: steps, moves at its end, size of a move over the spread, and of the start over the guess."""
_NUM_GIVEN = 128
"""Populations under which it is seen where a run lies that they were not inferred from."""
_ONE_EACH = np.ones(_NUM_PARTICLES, np.int64)
_SHAPE = (24, 18)
_ROUGH_SPREAD = np.array([0.03, 0.3, 0.4])


@dataclass(frozen=True, slots=True)
class _Target:
    """The posterior of the population, which all runs' cells are needed for."""

    tables: list[Table]
    sites: Sites
    arms: Integers
    unit: Unit

    def draw(
        self, coordinates: Floats, seed: int | list[int], counts: Integers, tries: int = 1
    ) -> tuple[Floats, Drawn]:
        """([K] log posterior of each population over the prior of the spreads, runs drawn given it).

        Args:
            counts: [K] draws given each.
        """
        particles = particles_of(coordinates, self.unit)
        log_evidence, drawn = absorb(
            self.tables, self.sites, self.arms, particles, self.unit, seed, counts, tries
        )
        return log_evidence + log_prior(coordinates, self.unit), drawn

    def log_density(self, coordinates: Floats, seed: int) -> Floats:
        """[K] the same without drawing runs."""
        return self.draw(coordinates, seed, np.zeros(coordinates.shape[0], np.int64))[0]


@dataclass(frozen=True, slots=True)
class Population:
    """Populations of shapes as the runs tell them that they were inferred from, and these runs drawn."""

    unit: Unit
    coordinates: Floats
    """[K, 7]"""
    weight: Floats
    """[K], which sum to 1."""
    runs: list[SiblingRun]
    """With cells where their siblings leave them."""
    drawn: Drawn
    """Joint draws of these runs and of their arms."""

    def given(self, runs: list[SiblingRun], number: int) -> tuple[list[SiblingRun], Drawn]:
        """The runs of one more arm, which told nothing of the population, and draws joint with the others'.

        Args:
            runs: all of the arm, in their order.
            number: of the arm; its random numbers belong to it.
        """
        arm = np.zeros(len(runs), np.int64)
        tables = [run.table for run in runs]
        sites = sites_of(tables, self.unit, *_first_reference(tables, self.unit))
        kept = _even(self.weight, _NUM_GIVEN)
        once = np.ones(kept.size, np.int64)
        target = _Target(tables, sites, arm, self.unit)
        drawn = target.draw(self.coordinates[kept], [4, number], once)[1]
        even = np.full(kept.size, 1.0 / kept.size)
        sites = sites_of(tables, self.unit, *_reference(tables, drawn, even, self.unit))
        closer, tables = _narrowed(runs, tables, drawn, even)
        target = _Target(tables, sites, arm, self.unit)
        return closer, _draw_all(target, self.coordinates, self.weight, [5, number])


def infer(runs: list[SiblingRun], arms: Integers, unit: Unit) -> Population:
    """The population of shapes that runs tell, by importance sampling from normal approximations.

    Where the approximation is poor, as while all runs are young, it is annealed into the posterior.

    Args:
        runs: R runs.
        arms: [R] which arm each belongs to, numbered from 0.
        unit: in what the population's priors are stated.
    """
    tables = [run.table for run in runs]
    level = (0.5 * sum(unit.bounds) / unit.value, 0.35) if unit.bounds is not None else unit.level_in_unit
    target = _Target(tables, sites_of(tables, unit, *_first_reference(tables, unit)), arms, unit)
    coordinates = search(*_box(tables, unit), _NUM_PARTICLES)
    log_weight, drawn = target.draw(coordinates, 0, _ONE_EACH)
    for number in (1, 2):
        weight = _tempered(log_weight)
        bell = Bell.around(coordinates, weight, _WIDENING)
        sites = sites_of(tables, unit, *_reference(tables, drawn, weight, unit))
        if number == 2:
            runs, tables = _narrowed(runs, tables, drawn, weight)
        target = _Target(tables, sites, arms, unit)
        proposed = propose(sites, arms, _NUM_PARTICLES, number, level)
        coordinates = proposed.coordinates
        if number == 1:
            log_target, drawn = target.draw(coordinates, number, _ONE_EACH)
        else:
            log_target = target.log_density(coordinates, number)
        log_weight = log_target - proposed.log_density
        if _count(log_weight) < _LEAST_COUNT:
            coordinates = _anneal(target, bell)
            log_weight = np.zeros(_NUM_PARTICLES)
            if number == 1:
                drawn = target.draw(coordinates, 3, _ONE_EACH)[1]
                runs, tables = _narrowed(runs, tables, drawn, _tempered(log_weight))
            break
    weight = _tempered(log_weight)
    target = _Target(tables, target.sites, arms, unit)
    return Population(unit, coordinates, weight, runs, _draw_all(target, coordinates, weight, 5))


def _draw_all(target: _Target, coordinates: Floats, weight: Floats, seed: int | list[int]) -> Drawn:
    """Runs and arms drawn given populations that are kept by their weights: the same for all of a sweep."""
    kept, counts = np.unique(_even(weight, NUM_DRAWS), return_counts=True)
    return target.draw(coordinates[kept], seed, counts, _ARM_TRIES)[1]


def spread_over(last: Floats, arms: Integers) -> Integers:
    """In increasing order, the runs from which the population is inferred: all, or of whole arms.

    Arms are in the order of the compute they have reached, and taken from all along it, each later one from
    amid a gap, where it fits. An arm of more seeds than that is taken only where all arms are, the smallest.

    Args:
        last: [R] compute that each run has reached.
        arms: [R] which arm each belongs to, numbered from 0.
    """
    if last.size <= MOST_RUNS:
        return np.arange(last.size)
    size = np.bincount(arms)
    reached = np.zeros(size.size)
    np.maximum.at(reached, arms, last)
    order = np.argsort(reached, kind="stable")
    taken: list[int] = []
    total = 0
    for place in _by_halves(order.size):
        arm = order[place]
        if total + size[arm] <= MOST_RUNS:
            taken.append(int(arm))
            total += size[arm]
    taken = taken or [int(np.argmin(size))]
    return np.flatnonzero(np.isin(arms, taken))


def _by_halves(num: int) -> list[int]:
    """The numbers below ``num``, so that those first in the list are spread evenly."""
    bits = max(num - 1, 1).bit_length()
    reversed_bits = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits)]
    return [i for i in reversed_bits if i < num]


def _even(weight: Floats, num: int) -> Integers:
    """[num] particles kept by their weights, which sum to 1, in increasing order."""
    rank = (np.arange(num) + 0.5) / num
    return np.minimum(np.searchsorted(np.cumsum(weight), rank), weight.size - 1)


def _anneal(target: _Target, bell: Bell) -> Floats:
    """Populations moved step by step from a wide normal to the posterior: [K, 7] coordinates.

    Sequential Monte Carlo: each step raises the posterior's share until half of the populations count,
    keeps those by weight, and moves each by a Metropolis step.
    """
    rng = np.random.default_rng(7)
    coordinates = bell.draw(_NUM_PARTICLES, 0)
    log_target = target.log_density(coordinates, 10)
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
        even = np.full(_NUM_PARTICLES, 1.0 / _NUM_PARTICLES)
        near = Bell.around(coordinates, even, _STEP**2)
        moves = _FINAL_MOVES if share >= 1.0 else 1
        for move in range(moves):
            tried = coordinates + rng.standard_normal(coordinates.shape) @ near.root.T
            tried_target = target.log_density(tried, 20 + step * _FINAL_MOVES + move)
            tried_bell = bell.log_density(tried) - log_spread_prior(tried)
            log_ratio = share * (tried_target - log_target) + (1.0 - share) * (tried_bell - log_bell)
            log_ratio += log_spread_prior(tried) - log_spread_prior(coordinates)
            better = np.log(rng.random(log_ratio.size)) < log_ratio
            coordinates = np.where(better[:, None], tried, coordinates)
            log_target = np.where(better, tried_target, log_target)
            log_bell = np.where(better, tried_bell, log_bell)
        if share >= 1.0:
            break
    return coordinates


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
    runs: list[SiblingRun], tables: list[Table], drawn: Drawn, weight: Floats
) -> tuple[list[SiblingRun], list[Table]]:
    """The runs with cells where their siblings leave them."""
    closer = [
        SiblingRun.at(
            run.problem,
            _closer(run, tables[place], drawn.cell[:, place], weight),
            run.law_weight,
            run.lawful,
        )
        for place, run in enumerate(runs)
    ]
    return closer, [run.table for run in closer]


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


def _closer(run: SiblingRun, table: Table, cell: Integers, weight: Floats) -> Axes:
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
