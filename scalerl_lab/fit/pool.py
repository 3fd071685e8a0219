"""The ceiling of an arm over its seeds, the difference between two arms, and refits at a common ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scalerl_lab.fit.courses import LawDraws
from scalerl_lab.fit.differences import Difference
from scalerl_lab.fit.fitted import interval_of
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.law_fit import LawFit, ready
from scalerl_lab.fit.posterior import Draws, draw_posterior, locate
from scalerl_lab.fit.reach import arm_curves, reached_hours
from scalerl_lab.fit.window import curve_of
from scalerl_lab.records import EvalPoint, Interval


@dataclass(frozen=True, slots=True)
class PooledCeiling:
    """The ceiling of an arm, and all else that its seeds say together with the whole sweep."""

    law: LawDraws
    """[K] draws of the arm: what another seed would be expected to have. Joint over the sweep's arms."""
    num_seeds: int
    """Seeds with points enough for a fit."""
    identified: bool
    """Whether at least one seed's ceiling is identified."""
    seeds: tuple[LawFit, ...] = ()
    """Their fits: where the points have left the law. None: they lie on it."""

    @property
    def draws(self) -> Floats:
        """[K] the ceiling."""
        return self.law.A

    @property
    def interval(self) -> Interval:
        """Median with central intervals of the ceiling."""
        return interval_of(self.law.A)

    def curves(self, gpu_hours: ArrayLike) -> Floats:
        """[K, M] the arm at M computes > 0: the law with what its seeds have wandered from it."""
        return arm_curves(self.law, np.atleast_1d(np.asarray(gpu_hours, dtype=np.float64)), self.seeds)

    def hours_to(self, level: float) -> Floats:
        """[K] GPU-hours to a pass rate: as measured where that is known, else the law's; infinite: never."""
        return reached_hours(self.law, level, self.seeds)


@dataclass(frozen=True, slots=True)
class CeilingRefit:
    """Efficiency and midpoint of a curve whose ceiling is held at a given value."""

    ceiling: float
    efficiency: Interval
    midpoint: Interval
    draws: Draws


def ceiling_difference(arm: PooledCeiling, control: PooledCeiling) -> Difference:
    """Posterior of the arm's ceiling minus the control's; both are of one sweep's fit."""
    return Difference(arm.draws - control.draws)


def refit_at_ceiling(
    points: Sequence[EvalPoint], ceiling: float, *, fit_start_gpu_hours: float
) -> CeilingRefit | None:
    """Efficiency and midpoint given the ceiling: what compares arms whose ceilings are alike.

    Returns:
        None where no point lies past the fit start.

    Source: ScaleRL (arXiv 2510.13786) A.5: refit at the mean A, then the higher B is the more efficient.
    """
    curve = curve_of("", points, fit_start_gpu_hours)
    if curve.value.size == 0:
        return None
    problem, axes = ready(curve)
    draws = draw_posterior(problem, axes, ceiling=ceiling)
    return CeilingRefit(ceiling, interval_of(draws.B), interval_of(draws.C_mid), draws)


def efficiency_difference(run: LawFit, other: LawFit, ceiling: float) -> Difference | None:
    """B of a run minus B of another, both refitted with the ceiling held at one value.

    Returns:
        None where one of them has no point.

    Source: ScaleRL (arXiv 2510.13786) A.5: B is compared at the mean A.
    """
    if run.problem is None or other.problem is None:
        return None
    B, B_other = (
        draw_posterior(each, locate(each), ceiling=ceiling).B for each in (run.problem, other.problem)
    )
    # Draws stand in the order of the grid; what is left of B given the ceiling is not shared.
    return Difference(B - np.random.default_rng(0).permutation(B_other))
