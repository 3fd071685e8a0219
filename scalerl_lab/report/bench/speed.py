"""Seconds of fits, side by side with the paper's procedure, and how they grow with points and runs.

Curves are simulated leave-one-out runs with evaluations at computes of their own, so that nothing
computed for one curve serves another. A first fit, which loads libraries and fills tables, is not
counted; of repeated measurements the median is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.paper import PaperFit, paper_fit_literal
from scalerl_lab.fit.simulate import BUDGET_GPU_HOURS, SweepKind, arms_of, simulate_run
from scalerl_lab.report.bench.fitting import Fitters

NUM_POINTS = 100
NUM_FORECASTS = 10
POOLED_RUNS, POOLED_POINTS = 12, 60
POINTS = (10, 30, 100, 300, 1000)
RUNS = (1, 10, 100, 1000, 10_000)
QUICK_RUNS = (1, 10, 100)
TOGETHER_RUNS = (3, 6, 12, 24, 48)
QUICK_TOGETHER_RUNS = (3, 6, 12)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of fitting ``runs`` curves of ``points`` points each."""

    runs: int
    points: int
    seconds: float

    @property
    def ms_per_curve(self) -> float:
        """Milliseconds for each curve."""
        return 1e3 * self.seconds / self.runs


@dataclass(frozen=True, slots=True)
class Speed:
    """All timings of one session on one machine."""

    posterior: Timing
    """One curve with forecasts."""
    paper: Timing
    """The paper's grid on the same curve."""
    batch: Timing
    pooled: Timing
    by_points: tuple[Timing, ...]
    """One curve each, fitted alone."""
    by_runs: tuple[Timing, ...]
    """Fitted alone, one after the other."""
    by_runs_together: tuple[Timing, ...]
    """Fitted as siblings."""

    @property
    def times_faster(self) -> float:
        """Seconds of the paper's grid over those of the posterior."""
        return self.paper.seconds / self.posterior.seconds


def papers_grid(curve: Curve) -> PaperFit:
    """The paper's 71 x 100 grid, with a call of ``curve_fit`` for each of its cells."""
    return paper_fit_literal(curve.compute, curve.value, 0.0 if curve.r0 is None else curve.r0)


def measure_speed(
    fitters: Fitters,
    *,
    paper: Callable[[Curve], object] = papers_grid,
    quick: bool = False,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Every timing of the table; minutes, or seconds where ``quick``.

    Args:
        fitters: what is measured.
        paper: what they are compared with.
        quick: fewer runs in the tables of growth, and a batch of 100.
        seed: of the curves.
        clock: seconds.
    """
    watch = _Watch(fitters, np.random.default_rng(seed), clock)
    curve = watch.curves(1, NUM_POINTS)[0]
    ahead = np.linspace(1.0, 4.0, NUM_FORECASTS) * curve.compute[-1]

    def fit_and_forecast() -> None:
        fitters.alone(curve).predict(ahead).quantiles()

    fit_and_forecast()
    repeats = 5 if quick else 25
    posterior = watch.median(fit_and_forecast, repeats)
    began = clock()
    paper(curve)
    grid = clock() - began
    return Speed(
        posterior=Timing(1, NUM_POINTS, posterior),
        paper=Timing(1, NUM_POINTS, grid),
        batch=watch.alone(100 if quick else 1000, NUM_POINTS),
        pooled=watch.together(POOLED_RUNS, POOLED_POINTS, 1 if quick else 5),
        by_points=tuple(watch.one(points, repeats) for points in POINTS),
        by_runs=tuple(watch.alone(runs, POOLED_POINTS) for runs in (QUICK_RUNS if quick else RUNS)),
        by_runs_together=tuple(
            watch.together(runs, POOLED_POINTS, 1)
            for runs in (QUICK_TOGETHER_RUNS if quick else TOGETHER_RUNS)
        ),
    )


class _Watch:
    """Fits of simulated curves, and the seconds that they take."""

    def __init__(self, fitters: Fitters, rng: np.random.Generator, clock: Callable[[], float]) -> None:
        self.fitters = fitters
        self.rng = rng
        self.clock = clock

    def curves(self, runs: int, points: int) -> list[Curve]:
        """Curves with ``points`` points each, at computes that no other has."""
        arms = arms_of(SweepKind.LEAVE_ONE_OUT)
        curves = []
        for number in range(runs):
            budget = BUDGET_GPU_HOURS * float(self.rng.uniform(0.8, 1.2))
            truth = arms[number % len(arms)].truth
            curves.append(
                simulate_run(
                    truth,
                    self.rng,
                    name=f"run{number}",
                    budget_gpu_hours=budget,
                    spacing_gpu_hours=budget / points,
                )
            )
        return curves

    def one(self, points: int, repeats: int) -> Timing:
        """A curve fitted alone."""
        curve = self.curves(1, points)[0]
        return Timing(1, points, self.median(lambda: self.fitters.alone(curve), repeats))

    def alone(self, runs: int, points: int) -> Timing:
        """A batch, each curve fitted alone; in parts, so that no more than 1,000 curves are held."""
        seconds = 0.0
        for first in range(0, runs, 1000):
            curves = self.curves(min(1000, runs - first), points)
            began = self.clock()
            for curve in curves:
                self.fitters.alone(curve)
            seconds += self.clock() - began
        return Timing(runs, points, seconds)

    def together(self, runs: int, points: int, repeats: int) -> Timing:
        """Siblings, the first three of one arm and the others of an arm each."""
        curves = self.curves(runs, points)
        arms = ["control" if number < 3 else f"arm{number}" for number in range(runs)]
        return Timing(
            runs, points, self.median(lambda: list(self.fitters.together(curves, arms).fits), repeats)
        )

    def median(self, work: Callable[[], object], repeats: int) -> float:
        """Median seconds of a piece of work."""
        seconds = []
        for _ in range(repeats):
            began = self.clock()
            work()
            seconds.append(self.clock() - began)
        return float(np.median(seconds))


def growth(timings: Sequence[Timing]) -> float | None:
    """Exponent p of seconds ~ (runs x points)^p between the last two timings; None of fewer than two.

    1 is linear growth; below it a fixed cost still counts.
    """
    if len(timings) < 2:
        return None
    before, last = timings[-2], timings[-1]
    size = (last.runs * last.points) / (before.runs * before.points)
    return float(np.log(last.seconds / before.seconds) / np.log(size))
