"""Runs of one sweep fitted together: each borrows from the others as much as the data justify.

Four things are shared. The noise: its size and kind are estimated over all runs. Whether the law holds:
the share of runs that follow it; and how far: up to the compute that half of the runs have reached. And
shape: the population of (A, B, C_mid) of ``population``, whose spread between arms and between seeds is
inferred with the rest; where arms differ much, little is borrowed. Of more than 32 runs the population is
inferred from whole arms of 32, spread over how far arms have come; the others are drawn given it and do not
weigh in. Noise is shared over all.

The draws of all runs are joint: draw k of every run and arm belongs together, so that a difference
between two arms is the difference of their draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.identify import Limits
from scalerl_lab.fit.law import Floats, hours_to_reach, pass_rate
from scalerl_lab.fit.law_fit import LawFit, judged, ready, unfitted
from scalerl_lab.fit.population import Unit
from scalerl_lab.fit.shared_noise import share_noise
from scalerl_lab.fit.shared_shape import share_shape


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

    Of more than 32 runs, whole arms of at most 32 tell the population of shapes; others are drawn given it.

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
    fits = [unfitted(curve, limits) for curve in curves]
    if not seen:
        return Siblings(tuple(fits), {})
    labels = list(dict.fromkeys(names[i] for i in seen))
    arm_of = np.array([labels.index(names[i]) for i in seen])
    runs = share_noise([ready(curves[i]) for i in seen])
    runs, drawn = share_shape(runs, arm_of, _unit([curves[i] for i in seen]))
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
