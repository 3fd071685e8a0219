"""``ForecastPruner``: an Optuna pruner that stops trials whose forecast says that they will lose."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from optuna import Study, Trial, logging
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from scalerl_lab.plugins.verdict import ForecastRule, History, Points, Verdict, judge, siblings_of, thinned

REASON = "forecast"
"""Name of the user attribute that ``ForecastPruner.explain`` sets."""
_MOST_KEPT = 10_000
_logger = logging.get_logger(__name__)


class ForecastPruner(BasePruner):
    """Prunes trials that will end below a reference by more than a margin.

    Each trial's reported values are forecast to ``target`` together with those of its siblings. Where the
    probability that it ends within ``margin`` of the reference falls below ``threshold``, the trial is
    pruned; ties are not. What is decided follows from the study alone, so workers may be many, in any
    process, on any storage. Whether the study maximises or minimises is read from it.

    A look at a trial costs a fit of some hundredths of a second per trial that this process has not fitted
    yet, of 24 at most, and some seconds where the trial seems to lose. In between, ``prune`` costs nothing.

    An Optuna pruner has no public way to leave anything in a trial; so the objective does, by ``explain``::

        if trial.should_prune():
            pruner.explain(trial)
            raise optuna.TrialPruned

    Args:
        margin: shortfall that does not matter, in units of the objective.
        target: step at which trials are compared; None: their asymptotes.
        reference: "best", or a value of the objective.
        threshold: the probability; it holds over all looks at a trial.
        fit_start: values reported before this step are left out of fits.
        warm_up: no trial is pruned before this step.
        interval: steps between looks at a trial; None: a twentieth of ``target``, else each step.
        bounds: lowest and highest value the objective can take.

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
        )
        # For ``explain`` only: no verdict depends on it.
        self._verdicts: dict[tuple[str, int], Verdict] = {}

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial is to stop; Optuna calls it for ``trial.should_prune()``."""
        rule = replace(self._rule, minimise=study.direction == StudyDirection.MINIMIZE)
        points = _points(trial)
        steps = points[0]
        # A value that is no number was reported last: there is nothing new to look at.
        if not steps or steps[-1] != trial.last_step:
            return False
        if not rule.is_look(steps[-1], steps[-2] if len(steps) > 1 else 0.0):
            return False
        verdict = self._judged(study, trial, points, rule)
        if len(self._verdicts) >= _MOST_KEPT:
            self._verdicts.clear()
        self._verdicts[study.study_name, trial.number] = verdict
        if verdict.stop:
            _logger.info("Trial %d is to be pruned. %s", trial.number, verdict.reason)
        return verdict.stop

    def explain(self, trial: Trial) -> str | None:
        """Leave the sentence of the newest look at a trial in its user attribute ``forecast``.

        Args:
            trial: the objective's own trial, in the process that called ``should_prune``.

        Returns:
            The sentence; None, and no attribute, where the trial has not been looked at.
        """
        verdict = self._verdicts.get((trial.study.study_name, trial.number))
        if verdict is None:
            return None
        trial.set_user_attr(REASON, verdict.reason)
        return verdict.reason

    def _judged(self, study: Study, trial: FrozenTrial, points: Points, rule: ForecastRule) -> Verdict:
        name = str(trial.number)
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        others = {
            str(other.number): other
            for other in study.get_trials(deepcopy=False, states=states)
            if other.number != trial.number
        }
        summaries = {number: ends for number, other in others.items() if (ends := _ends(other)) is not None}
        histories = [History(name, thinned(np.array(points[0]), np.array(points[1])))]
        for number in siblings_of([name], summaries, rule):
            other = others[number]
            steps, values = _points(other)
            histories.append(
                History(
                    number,
                    thinned(np.array(steps), np.array(values)),
                    runs=other.state is TrialState.RUNNING,
                    lost=other.state is TrialState.PRUNED,
                )
            )
        return judge(histories, [name], rule)[name]


def _points(trial: FrozenTrial) -> Points:
    """Steps and values that are numbers, in order."""
    found = sorted((step, value) for step, value in trial.intermediate_values.items() if math.isfinite(value))
    return tuple(float(step) for step, _ in found), tuple(value for _, value in found)


def _ends(trial: FrozenTrial) -> tuple[float, float] | None:
    """(last step, its value) of what is a number."""
    steps = [step for step, value in trial.intermediate_values.items() if math.isfinite(value)]
    return (float(max(steps)), trial.intermediate_values[max(steps)]) if steps else None
