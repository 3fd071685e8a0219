"""What kind of curve a run's points draw: a name for people, and a gate for the law's ceiling.

Kinds are compared by the -2 log likelihoods of ``rises.describe``; a parameter more must lower it by
log N, and the whole by 4 more. ``law`` is the answer wherever none of the others is shown. In this order:

- collapsing: ``find_collapse`` with a chance under noise below 0.02, and a drop of at least a fifth of
  the curve's range.
- flat: neither a line nor a rise is better than a constant.
- two_phase: two rises are better than one (by 8 more instead of 4); between them the slope falls below a
  quarter of that on either side over at least three points, and each rise has three points and 15 % of
  the whole.
- wandering: the residuals from the law (or from the best single rise) fail the predictive checks at a
  level of 0.01, and what noise leaves unexplained of them is above 6 % of the rise.
- late_blooming: the best rise with a bend lowers -2 log likelihood by at most 3 against the best without,
  which is better than a straight line and gains at most a quarter of its rise in the first 60 % of the
  window.
- linear: the same without the last two conditions.

Names of simulated runs (published parameters of the 8B runs, evaluation every 257 of 16,000 GPU-hours,
residual sd 0.0045, AR(1) of 0.3 or 0.6, 200 runs each): ``law`` for all from 35 % of the budget up. At
20 %, where the window ends at 1.3 midpoints and is nearly straight, half are called linear.

Runs with fewer than 8 points are ``law``, unless their standard errors show them to be flat.
"""

from __future__ import annotations

import math

import numpy as np

from scalerl_lab.fit.checks import predictive_checks
from scalerl_lab.fit.collapse import (
    CORRELATION,
    Collapse,
    Noise,
    find_collapse,
    limited_to_surroundings,
    limited_variance,
    noise_of,
)
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.rises import Descriptions, describe, thinned
from scalerl_lab.records import Shape

_BLOCKING = frozenset({Shape.COLLAPSING, Shape.FLAT, Shape.TWO_PHASE, Shape.LINEAR, Shape.LATE_BLOOMING})
_FEWEST_POINTS, _FEWEST_FOR_FLAT, _FEWEST_FOR_TWO = 8, 4, 12
_COLLAPSE_CHANCE, _COLLAPSE_SHARE = 0.02, 0.2
_MARGIN = 4.0
_NO_BEND = 3.0
_FLAT_BY_SCALE, _LEAST_NOISE = 0.1, 1e-9
_TWO_RISES_MARGIN = 8.0
_REST_SLOPE, _REST_POINTS, _PHASE_SHARE, _PHASE_POINTS = 0.25, 3, 0.15, 3
_WANDER_LEVEL, _WANDER_SHARE = 0.01, 0.06
_LATE_AT, _LATE_SHARE = 0.6, 0.25


def blocks_identification(shape: Shape) -> bool:
    """Whether a curve of this shape says nothing that can be believed about the law's ceiling."""
    return shape in _BLOCKING


def recognise(curve: Curve, law_residuals: Floats | None = None) -> tuple[Shape, str]:
    """The shape of a curve and the reason for it, a sentence with the numbers in it.

    Args:
        curve: the points; ``r0``, where known, counts as the one before them.
        law_residuals: [N] values less the fitted law; None: less the best single rise.
    """
    if curve.value.size < _FEWEST_POINTS:
        return _of_few(curve)
    compute, value = curve.compute, curve.value
    if curve.r0 is not None:
        compute, value = np.append(0.0, compute), np.append(curve.r0, value)
    fall = find_collapse(curve, chance=_COLLAPSE_CHANCE, least_drop=_COLLAPSE_SHARE * float(np.ptp(value)))
    if fall is not None:
        return Shape.COLLAPSING, _fallen(fall)
    compute, value = thinned(compute, value)
    if np.ptp(value) == 0.0:
        return Shape.FLAT, f"All {curve.value.size} values are equal."
    kept, noise = _without_outliers(value)
    kinds = describe(compute, kept, with_pairs=kept.size >= _FEWEST_FOR_TWO)
    if law_residuals is None:
        residuals = kept - kinds.one_rise.mean
    else:
        _, residuals = thinned(curve.compute, law_residuals)
    shape, why = (
        _flat(kinds, noise)
        or _two_phase(compute, kinds)
        or _wandering(residuals, kinds, noise)
        or _unbent(compute, kinds, curve.value.size)
    )
    if shape is Shape.LATE_BLOOMING:
        # One last point, however far out, is no rise.
        without_last = describe(compute[:-1], kept[:-1], with_pairs=False)
        return _flat(without_last, noise) or (shape, why)
    return shape, why


def _without_outliers(value: Floats) -> tuple[Floats, Noise]:
    """The values limited to their surroundings, but for the first three, and the noise that is left."""
    least = _LEAST_NOISE * float(np.ptp(value))
    # Values on one straight line show no noise.
    none = Noise(sd=least, degrees=1.0, least_sd=least)
    noise, kept = noise_of(value) or none, value
    # The second time without what outliers have added to the noise.
    for _ in range(2):
        # The first points may be the whole rise.
        kept = np.append(value[:3], limited_to_surroundings(value, noise.sd)[3:])
        noise = noise_of(kept) or none
    return kept, noise


def _of_few(curve: Curve) -> tuple[Shape, str]:
    """Few points are the law's, or flat where their errors show it."""
    num = curve.value.size
    law = Shape.LAW, f"{num} points are too few to tell another shape from the law."
    if num < _FEWEST_FOR_FLAT or curve.se is None:
        return law
    # A point scatters by twice the variance of its sampling.
    sd = math.sqrt(2.0) * curve.se
    checks = predictive_checks(curve, np.full(num, np.average(curve.value, weights=sd**-2)), sd)
    x = curve.compute - curve.compute.mean()
    typical = math.sqrt(float(np.mean(sd**2)))
    # The slope of a straight line in its standard errors.
    rising = float(x @ curve.value) / (typical * math.sqrt(float(x @ x)))
    if checks.scale < _FLAT_BY_SCALE or rising > 1.0:
        return law
    return Shape.FLAT, f"{num} points show no rise beyond their noise of {typical:.3g}."


def _flat(kinds: Descriptions, noise: Noise) -> tuple[Shape, str] | None:
    num = kinds.line.mean.size
    by_line = kinds.constant - kinds.line.deviance
    by_rise = kinds.constant - kinds.one_rise.deviance
    if _better(by_line, 1, num) or _better(by_rise, 2, num):
        return None
    rise = float(kinds.line.mean[-1] - kinds.line.mean[0])
    moves = f"rises by {rise:.3g}" if rise >= 0.0 else f"falls by {-rise:.3g}"
    return (
        Shape.FLAT,
        f"No rise beyond noise: a straight line {moves} where points scatter by {noise.sd:.3g}.",
    )


def _two_phase(compute: Floats, kinds: Descriptions) -> tuple[Shape, str] | None:
    num = compute.size
    two = kinds.two_rises
    if two is None:
        return None
    gain = kinds.one_rise.deviance - two.deviance
    if not _better(gain, 3, num, _TWO_RISES_MARGIN):
        return None
    slope = np.diff(two.mean) / np.diff(compute)
    before, after = np.maximum.accumulate(slope), np.maximum.accumulate(slope[::-1])[::-1]
    resting = slope < _REST_SLOPE * np.minimum(before, after)
    if not resting.any():
        return None
    rest = np.flatnonzero(resting)
    first, last = int(rest[0]), int(rest[-1]) + 1
    gains = two.mean[[first, last, -1]] - two.mean[[0, first, last]]
    whole = float(two.mean[-1] - two.mean[0])
    long_enough = rest.size >= _REST_POINTS and min(first + 1, num - last) >= _PHASE_POINTS
    if not long_enough or min(gains[0], gains[2]) < _PHASE_SHARE * whole:
        return None
    return Shape.TWO_PHASE, (
        f"Rises by {gains[0]:.3g} up to {compute[first]:.6g}, rests up to {compute[last]:.6g} and rises by "
        f"{gains[2]:.3g} again: two rises have a -2 log likelihood {gain:.0f} below that of one."
    )


def _wandering(residuals: Floats, kinds: Descriptions, noise: Noise) -> tuple[Shape, str] | None:
    num = residuals.size
    whole = float(np.ptp(kinds.one_rise.mean))
    # Outliers are not wandering.
    most = 4.0 * math.sqrt(limited_variance(residuals))
    residuals = np.clip(residuals, -most, most)
    wander = math.sqrt(max(float(np.mean(residuals**2)) - noise.sd**2, 0.0))
    if wander <= _WANDER_SHARE * whole:
        return None
    as_curve = Curve("", np.arange(1.0, num + 1.0), residuals, None, None, None, None)
    checks = predictive_checks(
        as_curve, np.zeros(num), noise.sd, correlation=CORRELATION, noise_degrees=noise.degrees
    )
    if checks.smallest > _WANDER_LEVEL:
        return None
    return Shape.WANDERING, (
        f"Residuals from the law wander by {wander:.3g}, {wander / whole:.0%} of the rise, beyond noise of "
        f"{noise.sd:.3g} (probability {checks.smallest:.1g})."
    )


def _unbent(compute: Floats, kinds: Descriptions, num_points: int) -> tuple[Shape, str]:
    num = compute.size
    bend = kinds.unbent.deviance - kinds.one_rise.deviance
    if bend > _NO_BEND:
        return Shape.LAW, (
            f"One rise that slows down describes the {num_points} points: without the bend -2 log likelihood "
            f"is {bend:.0f} higher."
        )
    mean = kinds.unbent.mean
    whole = float(mean[-1] - mean[0])
    at = float(compute[0] + _LATE_AT * (compute[-1] - compute[0]))
    share = (float(np.interp(at, compute, mean)) - float(mean[0])) / whole
    if _better(kinds.line.deviance - kinds.unbent.deviance, 1, num) and share <= _LATE_SHARE:
        return Shape.LATE_BLOOMING, (
            f"Only {share:.0%} of the rise of {whole:.3g} comes before {at:.6g}, and at the end it does not "
            f"slow down."
        )
    return Shape.LINEAR, (
        f"Rises by {whole:.3g} without slowing down: a bend lowers -2 log likelihood by "
        f"{max(bend, 0.0):.1f} only."
    )


def _better(gain: float, num_parameters: int, num_points: int, margin: float = _MARGIN) -> bool:
    """Whether a gain in -2 log likelihood is worth so many parameters more."""
    return gain > num_parameters * math.log(num_points) + margin


def _fallen(fall: Collapse) -> str:
    return (
        f"Fell from {fall.peak_value:.3g} at {fall.began_compute:.6g} to {fall.level:.3g} and stays below, "
        f"{fall.num_points_below} points by now: {fall.z:.1f} standard deviations, chance {fall.chance:.1g}."
    )
