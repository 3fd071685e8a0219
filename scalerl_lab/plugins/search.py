"""Optuna's samplers as functions: from what is known to the values to be tried next.

No Optuna study is kept. For every proposal a fresh one is filled with the outcomes on record and a fresh
sampler, seeded by the search's seed and the proposal's number, is asked once. So the same facts give the same
proposal, in whatever process, and there is no state that a crash could lose.

Optuna's ``QMCSampler`` is not offered: it keeps its place in the sequence in the study, and a study that is
filled anew starts at its first point each time.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from scalerl_lab.config.sweep import Knob, Search
from scalerl_lab.decide.search import Outcome
from scalerl_lab.plan import rounded

_ATTEMPTS = 100

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler


def propose(question: Search, history: tuple[Outcome, ...], number: int) -> dict[str, float]:
    """The values of proposal ``number``.

    Args:
        question: ranges, method and seed.
        history: outcomes in the order of their numbers; one without a value is a trial under way, from which
            the sampler keeps its distance.
        number: which proposal, from 0.

    Returns:
        Key path -> value within its range, rounded as it is run. What was tried before is not proposed again
        unless chance finds nothing else: the same values would be the same runs.
    """
    tried = {outcome.values for outcome in history}
    values = _rounded(question, _asked(question, history, number, _sampler(question, number)))
    for attempt in range(_ATTEMPTS):
        if tuple(sorted(values.items())) not in tried:
            break
        values = _rounded(question, _asked(question, (), number, _at_random(question, number, attempt)))
    return values


def _asked(
    question: Search, history: tuple[Outcome, ...], number: int, sampler: BaseSampler
) -> dict[str, float]:
    """What a fresh sampler says to a fresh study that has the history."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {path: _distribution(knob) for path, knob in sorted(question.over.items())}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for outcome in history:
            known = outcome.value is not None
            state = optuna.trial.TrialState.COMPLETE if known else optuna.trial.TrialState.RUNNING
            trial = optuna.trial.create_trial(
                state=state, value=outcome.value, params=dict(outcome.values), distributions=distributions
            )
            study.add_trial(trial)
        asked = study.ask(distributions)
    return {path: float(asked.params[path]) for path in distributions}


def _rounded(question: Search, values: dict[str, float]) -> dict[str, float]:
    return {path: rounded(question.over[path], value) for path, value in values.items()}


def _distribution(knob: Knob) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    if knob.is_whole:
        assert knob.step is not None
        return IntDistribution(int(knob.low), int(knob.high), step=int(knob.step))
    return FloatDistribution(knob.low, knob.high, log=knob.scale == "log", step=knob.step)


def _sampler(question: Search, number: int) -> BaseSampler:
    """The method's sampler, new for every proposal: the random state of one that lives on dies in a crash."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import GPSampler, RandomSampler, TPESampler

    seed, startup = _seed(question.seed, number), question.startup
    with warnings.catch_warnings():
        # Multivariate TPE, constant liar and GP are "experimental": their signatures may change.
        warnings.simplefilter("ignore", category=ExperimentalWarning)
        match question.method:
            case "tpe":
                return TPESampler(multivariate=True, constant_liar=True, n_startup_trials=startup, seed=seed)
            case "gp":
                return GPSampler(n_startup_trials=startup, seed=seed)
            case "random":
                return RandomSampler(seed=seed)


def _at_random(question: Search, number: int, attempt: int) -> BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=_seed(question.seed, number, attempt))


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
