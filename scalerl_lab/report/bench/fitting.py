"""The two ways of fitting that are measured, and measurements spread over processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.prediction import CurveFit
from scalerl_lab.fit.simulate import SimulatedSweep, SweepKind, simulate_sweep
from scalerl_lab.parent import serve_parent

Task = TypeVar("Task")
Result = TypeVar("Result")


class FittedArm(Protocol):
    """What a fit of siblings says of an arm, whatever its seeds."""

    @property
    def A(self) -> Floats: ...  # noqa: N802


class FittedTogether(Protocol):
    """What a fit of siblings gives: fits aligned with the curves, and arms by name, all draws joint."""

    @property
    def fits(self) -> Sequence[CurveFit]: ...

    @property
    def arms(self) -> Mapping[str, FittedArm]: ...


@dataclass(frozen=True, slots=True)
class Fitters:
    """Functions at the top of a module, so that they can be sent to other processes."""

    alone: Callable[[Curve], CurveFit]
    together: Callable[[Sequence[Curve], Sequence[str]], FittedTogether]
    """Curves and the arm of each."""


@dataclass(frozen=True, slots=True)
class SweepTask:
    """One simulated sweep to be measured; the same task is the same sweep."""

    kind: SweepKind
    seed: int
    number: int
    budget_gpu_hours: float

    def sweep(self) -> SimulatedSweep:
        """The sweep with all its points."""
        return simulate_sweep(self.kind, self.rng(0), budget_gpu_hours=self.budget_gpu_hours)

    def rng(self, stream: int) -> np.random.Generator:
        """A generator of this task's own."""
        kind = list(SweepKind).index(self.kind)
        return np.random.default_rng([self.seed, kind, self.number, stream])


def for_each(
    measure: Callable[[Task], Result],
    tasks: Sequence[Task],
    jobs: int,
    done: Callable[[int], None] | None = None,
) -> list[Result]:
    """The results of tasks in their order, from ``jobs`` processes; they do not depend on ``jobs``.

    Args:
        measure: a function at the top of a module, or a partial of one.
        tasks: what to measure.
        jobs: 1 stays in this process.
        done: called with the number of tasks done so far.
    """
    results = []
    if jobs <= 1:
        for task in tasks:
            results.append(measure(task))
            if done is not None:
                done(len(results))
        return results
    # A fresh interpreter: a forked one would inherit threads of this one's libraries in mid-flight.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tasks)), context, serve_parent) as processes:
        for result in processes.map(partial(measure), tasks):
            results.append(result)
            if done is not None:
                done(len(results))
    return results
