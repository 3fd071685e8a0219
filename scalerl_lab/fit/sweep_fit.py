"""The runs of a sweep fitted together: one fit per run, one ceiling per arm, all draws joint."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scalerl_lab.config.sweep import Rule
from scalerl_lab.fit.courses import ArmDraws, Lines
from scalerl_lab.fit.fitted import FittedCurve, fit_curve, fitted_curve, limits_of
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.law_fit import unfitted
from scalerl_lab.fit.on_demand import MappingOnDemand
from scalerl_lab.fit.pool import PooledCeiling
from scalerl_lab.fit.posterior import Draws
from scalerl_lab.fit.siblings import fit_siblings
from scalerl_lab.fit.window import PASS_RATES, curve_of, num_in_window
from scalerl_lab.records import EvalPoint


@dataclass(frozen=True, slots=True)
class SweepRun:
    """A run of a sweep: what a joint fit needs of it."""

    run_id: str
    arm: str
    points: tuple[EvalPoint, ...]

    def __hash__(self) -> int:
        # Points are only ever added: the last tells versions of a run apart without reading all of them.
        return hash((self.run_id, len(self.points), self.points[-1:]))


@dataclass(frozen=True, slots=True)
class SweepFit:
    """A sweep's runs and arms with their joint posterior; of many, each is fitted when it is asked for."""

    runs: Mapping[str, FittedCurve]
    """By run id, in the order given."""
    arms: Mapping[str, PooledCeiling]
    """By name; arms with at least one run that has points enough and is not apart."""


def fit_sweep(
    runs: Sequence[SweepRun], *, fit_start_gpu_hours: float, rule: Rule, apart: Collection[str] = ()
) -> SweepFit:
    """The joint posterior of a sweep's runs; those with too few points for a fit take no part.

    Args:
        runs: of one sweep, in any order: the order changes nothing.
        fit_start_gpu_hours: where the early regime is past.
        rule: what is demanded of an identified ceiling.
        apart: ids of runs that are fitted alone and say nothing of their arm: those that diverged.
    """
    left_out = frozenset(apart)
    limits = limits_of(rule)
    joint: list[SweepRun] = []
    for run in sorted((r for r in runs if r.run_id not in left_out), key=lambda r: (r.arm, r.run_id)):
        if num_in_window(run.points, fit_start_gpu_hours) >= limits.min_points:
            joint.append(run)
    names = [run.arm for run in joint]
    found = fit_siblings(
        [curve_of(run.run_id, run.points, fit_start_gpu_hours) for run in joint], names, limits=limits
    )
    place_of = {run.run_id: place for place, run in enumerate(joint)}
    by_id = {run.run_id: run for run in runs}

    def fit(run_id: str) -> FittedCurve:
        run = by_id[run_id]
        if run_id in left_out:
            return fit_curve(run_id, run.points, fit_start_gpu_hours=fit_start_gpu_hours, rule=rule)
        if run_id in place_of:
            return fitted_curve(found.fits[place_of[run_id]], run.points)
        no_fit = unfitted(curve_of(run_id, run.points, fit_start_gpu_hours), limits)
        return fitted_curve(no_fit, run.points)

    fits = MappingOnDemand(by_id, fit)

    def ceiling(arm: str) -> PooledCeiling:
        seeds = [fits[run.run_id] for run in joint if run.arm == arm]
        draws = [seed.draws for seed in seeds if seed.draws is not None]
        law = found.arms[arm]
        identified = any(seed.identified for seed in seeds)
        wandered = tuple(seed.law for seed in seeds if seed.law is not None)
        return PooledCeiling(_of_arm(law.A, law.B, law.C_mid, draws), len(draws), identified, wandered)

    return SweepFit(fits, MappingOnDemand(names, ceiling))


def _of_arm(A: Floats, B: Floats, C_mid: Floats, seeds: Sequence[Draws]) -> ArmDraws:
    """An arm by its seeds, and by the population that it is drawn from, which knows no bounds.

    In draws in which no seed follows the law, the population would stand for the arm, whatever its points
    say. There the arm goes on as its seeds do, and its ceiling is theirs: their line a decade of compute past
    the window. The start is that of seeds that follow the law.
    """
    lawful = np.array([draws.lawful for draws in seeds])
    some = lawful.any(axis=0)
    counts = np.where(some, lawful, True).astype(np.float64)
    share = counts / counts.sum(axis=0)
    r0 = (share * np.array([draws.r0 for draws in seeds])).sum(axis=0)
    own = np.mean([draws.A for draws in seeds], axis=0)
    lines = [draws.lines for draws in seeds if draws.lines is not None]
    # A seed without lines follows the law in all draws, and the arm with it.
    line = Lines.mean(lines) if len(lines) == len(seeds) else None
    return ArmDraws(r0, np.clip(np.where(some, A, own), *PASS_RATES), B, C_mid, line)
