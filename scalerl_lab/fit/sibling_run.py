"""A run of a sweep whose runs are fitted together: its curve made ready, and its cells."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from scalerl_lab.fit.absorb import Drawn
from scalerl_lab.fit.cells import Cells, Problem, evaluate, law_forms
from scalerl_lab.fit.law import Floats, Integers
from scalerl_lab.fit.posterior import (
    Axes,
    Draws,
    bounded,
    components_that_matter,
    draw_linear,
    shape_log_prior,
    without_law,
)
from scalerl_lab.fit.weighing import Table

_KEEP_LOG_WEIGHT = 10.0
_MOST_LOG_ODDS = 500.0


@dataclass(frozen=True, eq=False)
class SiblingRun:
    """A curve made ready, and its cells."""

    problem: Problem
    axes: Axes
    components: Integers
    cells: Cells
    law_weight: float
    lawful: float
    """Probability by the run's own points that it follows the law."""

    @classmethod
    def of(cls, problem: Problem, axes: Axes, law_weight: float) -> SiblingRun:
        """With the axes of the run alone."""
        run = cls.at(problem, axes, law_weight, math.nan)
        log_C, log_B = axes.cells()
        alone = bounded(problem, run.cells) + shape_log_prior(log_C, log_B) + axes.log_area()
        log_law = float(np.logaddexp.reduce(alone, axis=None)) + math.log(law_weight)
        others = without_law(problem, (1.0 - law_weight) / 2.0)
        log_other = float(np.logaddexp.reduce(np.append(others.log_level, others.log_trend)))
        return replace(run, lawful=1.0 / (1.0 + math.exp(min(log_other - log_law, _MOST_LOG_ODDS))))

    @classmethod
    def at(cls, problem: Problem, axes: Axes, law_weight: float, lawful: float) -> SiblingRun:
        """With the cells of these axes."""
        log_C, log_B = axes.cells()
        components = components_that_matter(problem, log_C, log_B)
        cells = evaluate(problem, law_forms(problem, log_C, log_B), components)
        return cls(problem, axes, components, cells, law_weight, lawful)

    @property
    def last(self) -> float:
        """The window's last compute."""
        return float(self.problem.curve.compute[-1])

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

    @cached_property
    def table(self) -> Table:
        """Components merged: one normal of A in each cell."""
        problem, cells, joint, (mean, variance) = self.problem, self.cells, self.joint(), self.ceilings()
        top = joint.max(axis=0)
        weight = np.exp(joint - top)
        mass = weight.sum(axis=0)
        total = top + np.log(mass)
        weight /= mass
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

    def draws(self, drawn: Drawn, run: int, shown: float, seed: int) -> Draws:
        """All parameters of the run in the K joint draws.

        Args:
            drawn: joint draws of its sweep.
            run: its place among them.
            shown: compute up to which the law has been seen to hold by half of the runs.
            seed: of its random numbers.
        """
        rng = np.random.default_rng(seed)
        table = self.table
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
            seed=seed,
        )
