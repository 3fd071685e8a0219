"""What runs of one sweep share apart from shape: size and kind of the noise, and whether the law holds."""

from __future__ import annotations

import math

import numpy as np

from scalerl_lab.fit.cells import NOISE_DEGREES, prepare
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.noise import KINDS
from scalerl_lab.fit.posterior import LAW_WEIGHT, locate
from scalerl_lab.fit.sibling_run import SiblingRun

_MOST_NOISE_DEGREES = 20.0
_OTHER_NOISE = 2.5
"""Distance in log variance from the median run beyond which noise is of another size."""
_PRIOR_COUNT = 10.0
"""As how many runs the prior of the law's holding counts."""
_OWN_KIND = 0.05
"""Probability that a run's noise is of another kind than its siblings'."""


def share_noise(runs: list[SiblingRun]) -> list[SiblingRun]:
    """Runs with the size and kind of noise, and the share that follow the law, estimated over all."""
    if len(runs) < 2:
        return runs
    kinds, law_weight = _shared_kind([run.evidence() for run in runs])
    logs = np.log([run.noise() for run in runs])
    degrees = np.array([run.problem.degrees for run in runs])
    typical = float(np.median(logs))
    shared = []
    for place, run in enumerate(runs):
        # A run whose noise is of another size neither gives nor takes.
        others = (np.arange(len(runs)) != place) & (np.abs(logs - typical) < _OTHER_NOISE)
        centre, freedom = None, NOISE_DEGREES
        if others.any() and abs(logs[place] - typical) < _OTHER_NOISE:
            centre = float(np.average(logs[others], weights=degrees[others]))
            scatter = float(np.average((logs[others] - centre) ** 2, weights=degrees[others]))
            spread = max(scatter - 2.0 / float(degrees[others].mean()), 2.0 / _MOST_NOISE_DEGREES)
            freedom = max(2.0 / spread, NOISE_DEGREES)
        problem = prepare(
            run.problem.curve,
            inflation=run.problem.inflation,
            noise_variance=None if centre is None else math.exp(centre),
            noise_degrees=freedom,
            kind_weights=kinds,
        )
        shared.append(SiblingRun.of(problem, locate(problem), law_weight))
    return shared


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
