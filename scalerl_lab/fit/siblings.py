"""Runs of one sweep fitted together: each borrows from the others as much as the data justify.

Four things are shared. The noise: its size and kind are estimated over all runs. Whether the law holds:
the share of runs that follow it; and how far: up to the compute that half of the runs have reached. And
shape: the population of (A, B, C_mid) of ``population``, whose spread between arms and between seeds is
inferred with the rest; where arms differ much, little is borrowed. Of more than 32 runs whole arms of 32,
spread over how far arms have come, tell what is shared; each other arm is drawn given that, does not weigh
in, and takes time only when it is asked for.

The draws of all runs are joint: draw k of every run and arm belongs together, so that a difference
between two arms is the difference of their draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.identify import Limits
from scalerl_lab.fit.law import Floats, hours_to_reach, pass_rate
from scalerl_lab.fit.law_fit import LawFit, judged, ready, unfitted
from scalerl_lab.fit.on_demand import MappingOnDemand, SequenceOnDemand
from scalerl_lab.fit.population import Unit
from scalerl_lab.fit.shared_noise import share_noise
from scalerl_lab.fit.shared_shape import infer, spread_over


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
    """Runs of one sweep with their joint posterior; of many, an arm is fitted when it is asked for."""

    fits: Sequence[LawFit]
    """In the order of the curves; all draws are joint."""
    arms: Mapping[str, ArmDraws]
    """Arms with at least one point."""


def fit_siblings(
    curves: Sequence[Curve], arms: Sequence[str] | None = None, *, limits: Limits | None = None
) -> Siblings:
    """The joint posterior of the law for runs that share model, data and evaluation.

    Of more than 32 runs, whole arms of at most 32 tell the population; each other arm is drawn given it when
    it is asked for, which changes nothing of what is found.

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
    if not seen:
        return Siblings(tuple(unfitted(curve, limits) for curve in curves), {})
    found = _Together([curves[i] for i in seen], [names[i] for i in seen], limits)
    place_of = {i: place for place, i in enumerate(seen)}

    def fit(i: int) -> LawFit:
        return found.fit(place_of[i]) if i in place_of else unfitted(curves[i], limits)

    in_order = dict.fromkeys(name for i, name in enumerate(names) if i in place_of)
    return Siblings(SequenceOnDemand(len(curves), fit), MappingOnDemand(in_order, found.arm))


class _Together:
    """Curves with points, in the order of their places, and the population of their shapes."""

    def __init__(self, curves: Sequence[Curve], names: Sequence[str], limits: Limits) -> None:
        self._curves, self._limits = curves, limits
        self._labels = list(dict.fromkeys(names))
        self._arm_of = np.array([self._labels.index(name) for name in names])
        last = np.array([float(curve.compute[-1]) for curve in curves])
        self._shown = float(np.median(last)) if last.size > 1 else 0.0
        self._told_by = spread_over(last, self._arm_of)
        self._noise, runs = share_noise([ready(curves[place]) for place in self._told_by.tolist()])
        self._arms_told, arm_of = np.unique(self._arm_of[self._told_by], return_inverse=True)
        self._population = infer(runs, arm_of, _unit(curves))
        self._fits: dict[int, LawFit] = {}
        self._arms: dict[int, ArmDraws] = {}

    def fit(self, place: int) -> LawFit:
        """Of one of the curves."""
        self._draw(int(self._arm_of[place]))
        return self._fits[place]

    def arm(self, label: str) -> ArmDraws:
        """Of one of the arms."""
        number = self._labels.index(label)
        self._draw(number)
        return self._arms[number]

    def _draw(self, arm: int) -> None:
        """Fit the arm's runs, once."""
        if arm in self._arms:
            return
        places = np.flatnonzero(self._arm_of == arm)
        if arm in self._arms_told:
            columns = np.searchsorted(self._told_by, places).tolist()
            runs, drawn = [self._population.runs[column] for column in columns], self._population.drawn
            arm_drawn = drawn.arm[:, np.searchsorted(self._arms_told, arm)]
        else:
            assert self._noise is not None
            shared = [self._noise.given(*ready(self._curves[place])) for place in places.tolist()]
            runs, drawn = self._population.given(shared, arm)
            columns, arm_drawn = list(range(places.size)), drawn.arm[:, 0]
        of_seeds = []
        for run, column, place in zip(runs, columns, places.tolist(), strict=True):
            draws = run.draws(drawn, column, self._shown, place + 1)
            self._fits[place] = judged(self._curves[place], run.problem, draws, self._limits)
            of_seeds.append(draws.r0)
        A, log_B, log_C = arm_drawn.T
        self._arms[arm] = ArmDraws(np.mean(of_seeds, axis=0), A, np.exp(log_B), np.exp(log_C))


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
