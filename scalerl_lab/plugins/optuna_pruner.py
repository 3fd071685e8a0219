"""``ForecastPruner``: an Optuna pruner that stops trials whose forecast says that they will lose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from optuna import Study, Trial, logging
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from scalerl_lab.plugins.verdict import (
    ForecastRule,
    History,
    OnNan,
    Verdict,
    diverged,
    has_diverged,
    judge,
    siblings_of,
    thinned,
)

REASON = "forecast"
"""Name of the user attribute that holds the sentence of a trial's newest look."""
_MOST_KEPT = 10_000
_STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
_logger = logging.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What this process remembers of a trial that it has been asked about."""

    step: int
    """Of the newest look; -1 before the first."""
    verdict: Verdict | None
    running: Mapping[int, int]
    """Last steps of the other running trials at that look, or when first asked."""


class ForecastPruner(BasePruner):
    """Prunes trials that will end below a reference by more than a margin.

    Each trial's reported values are forecast to ``target`` together with those of its siblings. Where the
    probability that it ends within ``margin`` of the reference falls below ``threshold``, the trial is
    pruned; ties are not. Its sentence is left in the trial's user attribute ``forecast``. Verdicts follow
    from the study, so workers may be many, in any process, on any storage. Whether the study maximises or
    minimises is read from it.

    The threshold holds over all looks at a trial, as far as the posterior is calibrated. It bounds the share
    of prunings that are wrong: P(not worse | pruned) <= threshold. It does not bound how often a trial that
    is not worse is pruned: that takes odds of being worse that are below 1 before anything is seen, as they
    are against a control (``ForecastScheduler`` has one); of lying below the best of many trials, or a high
    level, they exceed 1.

    Trials are compared with those that have reached the target, and with running ones that have reported
    something since this process last looked at the judged trial. A trial whose worker was killed stays
    "running" for ever, and would else prune every later one. With RDB storage, give it a
    ``heartbeat_interval``, so that Optuna itself ends such trials.

    A trial with two values in turn that are no finite numbers has diverged: it is pruned at once, and nothing
    is compared with it any more.

    A look at a trial costs a fit of some hundredths of a second per trial that this process has not fitted
    yet, of 24 at most, and some seconds where the trial seems to lose. In between, ``prune`` costs nothing.

    Args:
        margin: shortfall that does not matter, in units of the objective.
        target: step at which trials are compared; None: their asymptotes.
        reference: "best", or a value of the objective.
        threshold: the probability.
        fit_start: values reported before this step are left out of fits.
        warm_up: no forecast prunes a trial before this step.
        interval: steps between looks at a trial; None: a twentieth of ``target``, else each step. However
            seldom ``should_prune`` is called, a look is taken when as many steps have passed.
        bounds: lowest and highest value the objective can take.
        on_nan: "stop" or "ignore": whether a trial that has diverged is pruned. Ignored or not, nothing is
            compared with it until it reports a finite number again.

    Raises:
        ValueError: an argument is not allowed; the message names it.

    Source: Optuna's ``BasePruner``.
    """

    def __init__(
        self,
        *,
        margin: float,
        target: int | None = None,
        reference: Literal["best"] | float = "best",
        threshold: float = 0.05,
        fit_start: int = 0,
        warm_up: int = 0,
        interval: int | None = None,
        bounds: tuple[float, float] | None = None,
        on_nan: OnNan = "stop",
    ) -> None:
        if isinstance(reference, str) and reference != "best":
            raise ValueError(f'reference is {reference!r}; allowed is "best" or a value of the objective')
        self._rule = ForecastRule(
            margin=margin,
            target=target,
            threshold=threshold,
            reference=reference,
            fit_start=fit_start,
            warm_up=warm_up,
            interval=interval,
            bounds=bounds,
            unit="steps",
            on_nan=on_nan,
        )
        # When to look, who is alive, and ``explain``; losing it costs a look more, or later.
        self._asked: dict[tuple[str, int], _Asked] = {}

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial is to stop; Optuna calls it for ``trial.should_prune()``."""
        rule = replace(self._rule, minimise=study.direction == StudyDirection.MINIMIZE)
        step = trial.last_step
        if step is None:
            return False
        key = (study.study_name, trial.number)
        asked = self._asked.get(key)
        # A step that the trial has not reported is of another study with the same name.
        if asked is None or (asked.verdict is not None and asked.step not in trial.intermediate_values):
            asked = self._keep(key, _Asked(-1, None, _running(_others(study, trial))))
        if asked.verdict is not None and asked.step == step:
            return asked.verdict.stop
        bad = _bad_tail(trial)
        if has_diverged(tuple(bad.values())) and rule.on_nan == "stop":
            verdict = diverged(bad, tuple(bad.values()), rule)
            self._keep(key, _Asked(step, verdict, asked.running))
        # After a value that is no number there is nothing new to look at.
        elif bad or not rule.is_look(step, max(asked.step, 0)):
            return False
        else:
            others = _others(study, trial)
            verdict = self._judged(trial, others, asked.running, rule)
            self._keep(key, _Asked(step, verdict, _running(others)))
        if verdict.stop:
            _logger.info("Trial %d is to be pruned. %s", trial.number, verdict.reason)
            _leave(study, trial, verdict.reason)
        return verdict.stop

    def explain(self, trial: Trial) -> str | None:
        """Leave the sentence of the newest look at a trial in its user attribute ``forecast``.

        For trials that go on; those that are pruned have it already.

        Args:
            trial: the objective's own trial, in the process that called ``should_prune``.

        Returns:
            The sentence; None, and no attribute, where the trial has not been looked at.
        """
        asked = self._asked.get((trial.study.study_name, trial.number))
        if asked is None or asked.verdict is None:
            return None
        trial.set_user_attr(REASON, asked.verdict.reason)
        return asked.verdict.reason

    def _keep(self, key: tuple[str, int], asked: _Asked) -> _Asked:
        if len(self._asked) >= _MOST_KEPT:
            self._asked.clear()
        self._asked[key] = asked
        return asked

    def _judged(
        self,
        trial: FrozenTrial,
        others: Mapping[str, FrozenTrial],
        running_before: Mapping[int, int],
        rule: ForecastRule,
    ) -> Verdict:
        name = str(trial.number)
        summaries = {number: ends for number, other in others.items() if (ends := _ends(other)) is not None}
        histories = [_history(trial, lost=False)]
        for number in siblings_of([name], summaries, rule):
            other = others[number]
            before = running_before.get(other.number, -1)
            moved = other.last_step is not None and other.last_step > before
            dead = other.state is TrialState.RUNNING and not moved
            histories.append(_history(other, lost=dead or other.state is TrialState.PRUNED))
        return judge(histories, [name], rule)[name]


def _others(study: Study, trial: FrozenTrial) -> dict[str, FrozenTrial]:
    found = study.get_trials(deepcopy=False, states=_STATES)
    return {str(other.number): other for other in found if other.number != trial.number}


def _running(trials: Mapping[str, FrozenTrial]) -> dict[int, int]:
    """Last steps of running trials; -1 of those that have reported nothing."""
    return {
        trial.number: -1 if trial.last_step is None else trial.last_step
        for trial in trials.values()
        if trial.state is TrialState.RUNNING
    }


def _leave(study: Study, trial: FrozenTrial, reason: str) -> None:
    """Write a reason into a trial, as Optuna's own pruners write what they keep: through the storage."""
    try:
        study._storage.set_trial_user_attr(trial._trial_id, REASON, reason)
    except Exception as error:  # noqa: BLE001 - storages of any kind fail in their own ways; a reason lost is no harm
        _logger.warning("The reason of trial %d could not be stored: %r", trial.number, error)


def _history(trial: FrozenTrial, *, lost: bool) -> History:
    """As ``judge`` takes it: of the values that are finite, in order."""
    found = sorted((step, value) for step, value in trial.intermediate_values.items() if math.isfinite(value))
    steps, values = (np.array([pair[i] for pair in found], dtype=float) for i in (0, 1))
    return History(
        str(trial.number),
        thinned(steps, values),
        runs=trial.state is TrialState.RUNNING,
        lost=lost,
        diverged=has_diverged(tuple(_bad_tail(trial).values())),
    )


def _bad_tail(trial: FrozenTrial) -> dict[float, float]:
    """Steps and values of the newest values that are no finite numbers, since the last one that was."""
    tail: list[tuple[float, float]] = []
    for step, value in sorted(trial.intermediate_values.items(), reverse=True):
        if math.isfinite(value):
            break
        tail.append((float(step), value))
    return dict(reversed(tail))


def _ends(trial: FrozenTrial) -> tuple[float, float] | None:
    """(last step, its value) of what is a number."""
    steps = [step for step, value in trial.intermediate_values.items() if math.isfinite(value)]
    return (float(max(steps)), trial.intermediate_values[max(steps)]) if steps else None
