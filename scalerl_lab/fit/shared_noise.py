"""What runs of one sweep share apart from shape: size and kind of the noise, and whether the law holds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalerl_lab.fit.cells import NOISE_DEGREES, Problem, evaluate, law_forms, prepare
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.noise import KINDS
from scalerl_lab.fit.posterior import LAW_WEIGHT, Axes, locate, shape_log_prior, without_law
from scalerl_lab.fit.sibling_run import SiblingRun

_MOST_NOISE_DEGREES = 20.0
_OTHER_NOISE = 2.5
"""Distance in log variance from the median run beyond which noise is of another size."""
_PRIOR_COUNT = 10.0
"""As how many runs the prior of the law's holding counts."""
_OWN_KIND = 0.05
"""Probability that a run's noise is of another kind than its siblings'."""


@dataclass(frozen=True, slots=True)
class _Alone:
    """What a run's own points say of its noise, and of whether it follows the law."""

    under_law: Floats
    """[H] evidence of each kind of noise under the law."""
    without: Floats
    """[H] without it."""
    log_variance: float
    """Of a point's noise, at the most probable cell."""

    @classmethod
    def of(cls, problem: Problem, axes: Axes) -> _Alone:
        """From half of the cells.

        Under the law the evidence is averaged over the shapes that the run has by its own points, whatever
        the kind: siblings tell the shape, so a run does not pay for having found it. Else a wander that
        swallows the rise would seem simpler, once for every run.
        """
        log_C, log_B = (axis[::2] for axis in axes.cells())
        every = np.arange(problem.kind.size)
        cells = evaluate(problem, law_forms(problem, log_C, log_B), every)
        others = without_law(problem, 1.0)
        prior = shape_log_prior(log_C, log_B)
        best = np.argmax(cells.log_weight + prior)
        variance = float(cells.sse.ravel()[best] / problem.degrees * problem.scale**2)
        top = cells.log_weight.max(axis=0)
        shape = top + np.log(np.exp(cells.log_weight - top).sum(axis=0)) + prior
        shape = np.exp(shape - np.logaddexp.reduce(shape))
        most = cells.log_weight.max(axis=1)
        under_law = most + np.log(np.exp(cells.log_weight - most[:, None]) @ shape)
        without = np.logaddexp(others.log_level, others.log_trend)
        return cls(_by_kind(under_law), _by_kind(without), math.log(variance))


@dataclass(frozen=True, slots=True)
class Noise:
    """What at least two runs of one sweep say together of their noise, and of whether the law holds."""

    kinds: Floats
    """[H] probabilities of a run's kind of noise."""
    law_weight: float
    """Share of runs that follow the law."""
    log_variance: Floats
    """[R] of a point's noise, of each run that it was estimated from."""
    degrees: Floats
    """[R] of freedom, of each of these."""

    def given(self, problem: Problem, axes: Axes) -> SiblingRun:
        """A run that it was not estimated from."""
        every = np.ones(self.log_variance.size, bool)
        return self._shared(problem, _Alone.of(problem, axes).log_variance, every)

    def own(self, problem: Problem, place: int) -> SiblingRun:
        """One of the runs that it was estimated from, by the others."""
        return self._shared(
            problem, float(self.log_variance[place]), np.arange(self.log_variance.size) != place
        )

    def _shared(self, own: Problem, log_variance: float, others: NDArray[np.bool_]) -> SiblingRun:
        # A run whose noise is of another size neither gives nor takes.
        typical = float(np.median(self.log_variance))
        near = others & (np.abs(self.log_variance - typical) < _OTHER_NOISE)
        centre, freedom = None, NOISE_DEGREES
        if near.any() and abs(log_variance - typical) < _OTHER_NOISE:
            logs, degrees = self.log_variance[near], self.degrees[near]
            centre = float(np.average(logs, weights=degrees))
            scatter = float(np.average((logs - centre) ** 2, weights=degrees))
            spread = max(scatter - 2.0 / float(degrees.mean()), 2.0 / _MOST_NOISE_DEGREES)
            freedom = max(2.0 / spread, NOISE_DEGREES)
        problem = prepare(
            own.curve,
            inflation=own.inflation,
            noise_variance=None if centre is None else math.exp(centre),
            noise_degrees=freedom,
            kind_weights=self.kinds,
            whitening=own.whitening,
        )
        return SiblingRun.of(problem, locate(problem), self.law_weight)


def share_noise(ready: list[tuple[Problem, Axes]]) -> tuple[Noise | None, list[SiblingRun]]:
    """Runs with the size and kind of noise, and the share that follow the law, estimated over all.

    Args:
        ready: each curve made ready alone, and where its law lies.

    Returns:
        (what they share, for further runs; None of a single run, and the runs).
    """
    if len(ready) < 2:
        return None, [SiblingRun.of(problem, axes, LAW_WEIGHT) for problem, axes in ready]
    alone = [_Alone.of(problem, axes) for problem, axes in ready]
    noise = Noise(
        *_shared_kind([(run.under_law, run.without) for run in alone]),
        log_variance=np.array([run.log_variance for run in alone]),
        degrees=np.array([problem.degrees for problem, _ in ready]),
    )
    return noise, [noise.own(problem, place) for place, (problem, _) in enumerate(ready)]


def _shared_kind(evidence: list[tuple[Floats, Floats]]) -> tuple[Floats, float]:
    """([H] probabilities of a run's kind of noise, share of runs that follow the law).

    All runs have one kind of noise, but each has a kind of its own with probability 0.05.

    Args:
        evidence: of each run, [H] under the law and [H] without it, each with the prior of the kinds.
    """
    prior = np.array([kind.weight for kind in KINDS])
    prior = prior / prior.sum()
    log_prior_kind = np.log(prior)
    law_weight, kinds = LAW_WEIGHT, prior
    for _ in range(4):
        log_kind, lawful = log_prior_kind.copy(), _PRIOR_COUNT * LAW_WEIGHT
        for law, other in evidence:
            log_law, log_other = law + math.log(law_weight), other + math.log((1.0 - law_weight) / 2.0)
            both = np.logaddexp(log_law, log_other)
            own = np.logaddexp.reduce(both)
            log_kind += np.logaddexp(
                math.log(1.0 - _OWN_KIND) + both - log_prior_kind, math.log(_OWN_KIND) + own
            )
            tilt = np.log(kinds) - log_prior_kind
            under_law = np.logaddexp.reduce(log_law + tilt)
            lawful += float(np.exp(under_law - np.logaddexp.reduce(both + tilt)))
        shared = np.exp(log_kind - np.logaddexp.reduce(log_kind))
        kinds = (1.0 - _OWN_KIND) * shared + _OWN_KIND * prior
        law_weight = min(lawful / (_PRIOR_COUNT + len(evidence)), 0.995)
    return kinds, law_weight


def _by_kind(of_components: Floats) -> Floats:
    """[H] from [J]: components of a kind added up."""
    added: Floats = np.logaddexp.reduce(of_components.reshape(-1, len(KINDS)), axis=0)
    return added
