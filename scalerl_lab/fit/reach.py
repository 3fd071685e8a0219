"""GPU-hours to a level, from what was measured and from the law beyond it.

Where the points leave the law, its formula does not say when a level was reached: the curve does, the law
with its wander. A curve that wobbles crosses a level several times, the later the noisier it is last and the
earlier it is first; so what counts is how much compute it spends below the level. For a curve that rises that
is the compute of its only crossing. Notation: K draws, M computes.

    before the window   the law, moved by what separates the curve from it at the window's start
    within it           the share of compute below the level, between M computes along straight lines
    beyond it           the law, moved by what separates the curve from it at the window's end
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scalerl_lab.fit.courses import LawDraws, drawn_curves, drawn_hours
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.law_fit import LawFit

_NUM_COMPUTES = 257


def reached_hours(law: LawDraws, level: float, seeds: Sequence[LawFit]) -> Floats:
    """[K] compute that the curves of the draws spend below a level; infinite where they stay below it.

    Args:
        law: of an arm or of a run.
        level: a pass rate.
        seeds: the arm's runs, or the run itself, from the same joint fit. None with points: the law alone.
    """
    windows = [seed.curve.compute for seed in seeds if seed.draws is not None]
    first, last = (min(w[0] for w in windows), max(w[-1] for w in windows)) if windows else (0.0, 0.0)
    if not last > first:
        return drawn_hours(law, level)
    compute = np.linspace(first, last, _NUM_COMPUTES)
    course, curve = drawn_curves(law, compute), arm_curves(law, compute, seeds)
    apart = curve - course
    before = np.minimum(drawn_hours(law, level, apart[:, 0]), first)
    within = _share_below(curve - level) * (last - first)
    beyond = np.maximum(drawn_hours(law, level, apart[:, -1]) - last, 0.0)
    reached: Floats = before + within + beyond
    return reached


def arm_curves(law: LawDraws, compute: Floats, seeds: Sequence[LawFit]) -> Floats:
    """[K, M] an arm at M computes > 0: its law, and what its seeds' curves on average lie off theirs.

    Seeds that do not follow the law in a draw do not count in it, unless none does: the arm then goes on as
    they do.
    """
    off, own, lawful = [], [], []
    for seed in seeds:
        if seed.draws is None:
            continue
        mean = seed.predict(compute).mean
        own.append(mean)
        off.append(mean - drawn_curves(seed.draws, compute))
        lawful.append(seed.draws.lawful)
    if not own:
        return drawn_curves(law, compute)
    follows = np.array(lawful)
    counts = follows.sum(axis=0)
    apart = (np.array(off) * follows[:, :, None]).sum(axis=0) / np.maximum(counts, 1)[:, None]
    there: Floats = np.where((counts > 0)[:, None], drawn_curves(law, compute) + apart, np.mean(own, axis=0))
    return there


def _share_below(gap: Floats) -> Floats:
    """[K] share of M - 1 equal steps that curves, given as [K, M] values less a level, spend below 0."""
    left, right = gap[:, :-1], gap[:, 1:]
    depth = np.maximum(-left, 0.0) + np.maximum(-right, 0.0)
    share = depth / np.maximum(np.abs(left) + np.abs(right), np.finfo(np.float64).tiny)
    below: Floats = share.mean(axis=1)
    return below
