"""``ForecastScheduler``: a Ray Tune scheduler that stops trials whose forecast says that they will lose.

What Tune does with schedulers (2.60): it neither saves nor restores them, gives a restored experiment the
pickled copy from its launch, and adds every trial to it anew; paused trials come back as pending, and so
may trials that were stopped, for its snapshots lag behind (ray-project/ray#30838). So this one keeps a file
of its own, and what it had ordered before still holds. Tune starts every pending trial by itself, and waits
for ever when all are paused; so once nothing else is left, paused trials are judged for the last time.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from scalerl_lab.plugins.forecaster import Forecaster, Job
from scalerl_lab.plugins.tracked import Tracked, matches, number_of
from scalerl_lab.plugins.trial_log import Order, OrderLine, PointLine, TrialLog
from scalerl_lab.plugins.verdict import (
    MOST_DUE,
    ForecastRule,
    OnNan,
    Reference,
    diverged,
    siblings_of,
)

LOG_NAME = "forecast_scheduler.jsonl"
_SHOWN = 20
_logger = logging.getLogger(__name__)


class ForecastScheduler(TrialScheduler):  # type: ignore[misc]
    """Stops, or pauses, trials that will end below a reference by more than a margin.

    Each trial's curve of the metric is forecast to ``target`` together with its siblings. Where the
    probability that it ends within ``margin`` of the reference falls below ``threshold``, the trial is
    stopped; ties are not. The forecasts are made in a process of their own: a result is only noted, and an
    order follows when there is one, some seconds later.

    With ``action="pause"`` a trial that loses is paused with its checkpoint. When nothing else is left to
    run, paused trials are judged once more with all that is known by then: they are stopped, or go on.

    The threshold holds over all looks at a trial, as far as the posterior is calibrated. Whatever the
    reference, it bounds the share of stops that are wrong: P(not worse | stopped) <= threshold. Only with a
    control does it also bound, at threshold / (1 - threshold), how often a trial that is not worse is ever
    stopped: there the odds of being worse are below 1 before anything is seen; of lying below the best of
    many trials, or a high level, they exceed 1.

    A trial whose metric is no finite number in two results in turn has diverged: it stops at once, also one
    of the control, and nothing is compared with it any more.

    Args:
        margin: shortfall that does not matter, in units of the metric.
        target: compute at which trials are compared; None: their asymptotes.
        compute_attr: key of results that grows as a trial goes on: ``training_iteration``, or GPU-hours,
            tokens, seconds that the trainable reports.
        metric: key of the metric; None: as ``TuneConfig`` says.
        mode: "max" or "min"; None: as ``TuneConfig`` says.
        reference: "best"; or a mapping of config keys ("a/b" for nested ones) to values that singles out
            the control's trials, which no forecast stops; or a value of the metric.
        action: "stop" or "pause". A function trainable that reports no checkpoint starts anew after a pause.
        threshold: the probability.
        fit_start: points before this compute are left out of fits.
        warm_up: no forecast stops a trial before this compute.
        interval: compute between looks at a trial; None: a twentieth of ``target``, else each result.
        bounds: lowest and highest value the metric can take.
        on_nan: "stop" or "ignore": whether a trial that has diverged is stopped. Ignored or not, nothing is
            compared with it until it reports a finite number again.
        log: file of what was seen and ordered, needed where the experiment lies on remote storage; None:
            ``forecast_scheduler.jsonl`` in the experiment's folder.

    Raises:
        ValueError: an argument is not allowed; or, as trials are added, metric, mode or log are missing.

    Source: Ray Tune's ``TrialScheduler``.
    """

    def __init__(
        self,
        *,
        margin: float,
        target: float | None = None,
        compute_attr: str = "training_iteration",
        metric: str | None = None,
        mode: Literal["max", "min"] | None = None,
        reference: Literal["best"] | Mapping[str, Any] | float = "best",
        action: Literal["stop", "pause"] = "stop",
        threshold: float = 0.05,
        fit_start: float = 0.0,
        warm_up: float = 0.0,
        interval: float | None = None,
        bounds: tuple[float, float] | None = None,
        on_nan: OnNan = "stop",
        log: str | Path | None = None,
    ) -> None:
        super().__init__()
        if mode not in ("max", "min", None):
            raise ValueError(f'mode is {mode!r}; allowed is "max", "min", or None')
        if action not in ("stop", "pause"):
            raise ValueError(f'action is {action!r}; allowed is "stop" or "pause"')
        if isinstance(reference, Mapping) and not reference:
            raise ValueError("reference is empty; allowed is at least one config key of the control")
        self._metric: str | None = metric
        self._mode: str | None = mode
        self._compute_attr, self._control = (
            compute_attr,
            reference if isinstance(reference, Mapping) else None,
        )
        self._order_of_losers = Order.PAUSE if action == "pause" else Order.STOP
        against: Reference = "control" if isinstance(reference, Mapping) else reference
        self._rule = ForecastRule(
            margin=margin,
            target=target,
            threshold=threshold,
            reference=against,
            fit_start=fit_start,
            warm_up=warm_up,
            interval=interval,
            bounds=bounds,
            unit=compute_attr,
            on_nan=on_nan,
        )
        self._log_path = None if log is None else Path(log)
        self._forget()

    def _forget(self) -> None:
        self._trials: dict[str, Tracked] = {}
        self._before: dict[str, Tracked] = {}
        self._log: TrialLog | None = None
        self._forecaster = Forecaster()
        self._version = 0
        self._num_looks = 0
        self._skipped: Counter[str] = Counter()
        self._failure = ""

    def __getstate__(self) -> dict[str, Any]:
        """Only the arguments: the rest is in the log."""
        kept = ("_metric", "_mode", "_compute_attr", "_control", "_order_of_losers", "_rule", "_log_path")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take metric and mode from Tune's configuration; False where they were given here as well."""
        if (self._metric and metric) or (self._mode and mode):
            return False
        self._metric, self._mode = metric or self._metric, mode or self._mode
        return True

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take up a new trial; of a restored one, with all that was seen and ordered before."""
        if not self._metric or self._mode not in ("max", "min"):
            raise ValueError(
                f"ForecastScheduler has metric={self._metric!r} and mode={self._mode!r}; give both, "
                "with mode max or min, to TuneConfig or to the scheduler"
            )
        if self._log is None:
            self._open_log(trial)
        name = str(trial.trial_id)
        # Tune adds a trial again when it recovers from a failure.
        tracked = self._trials.setdefault(name, self._before.pop(name, Tracked()))
        tracked.control = self._control is not None and matches(trial.config, self._control)
        tracked.failed, tracked.ended = trial.status == Trial.ERROR, trial.status == Trial.TERMINATED
        self._version += 1

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Note the point; stop or pause the trial if an order to do so has come in."""
        tracked = self._trials[trial.trial_id]
        self._note(trial.trial_id, tracked, result)
        self._collect()
        if tracked.diverged and tracked.live and self._rule.on_nan == "stop":
            tracked.verdict = diverged(tracked.bad_compute, tracked.bad_value, self._rule)
            self._order(trial.trial_id, tracked, Order.STOP)
        self._look()
        if tracked.order is Order.STOP:
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.PAUSE if tracked.order is Order.PAUSE else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """The trial has ended by itself or was stopped."""
        tracked = self._trials[trial.trial_id]
        self._note(trial.trial_id, tracked, result or {})
        tracked.ended = True
        self._over()

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """The trial failed: what it showed informs the fits, and nothing is compared with it any more."""
        self._trials[trial.trial_id].failed = True
        self._over()

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """A trial that did not run was stopped."""
        self._trials[trial.trial_id].ended = True
        self._over()

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The next trial; before it, orders are carried out on trials that have no result to wait for."""
        self._collect()
        self._look()
        self._carry_out(tune_controller)
        trials = tune_controller.get_trials()
        for trial in trials:
            if trial.status == Trial.PENDING:
                return trial
        paused = [trial for trial in trials if trial.status == Trial.PAUSED]
        for trial in paused:
            if self._trials[trial.trial_id].order is Order.GO_ON:
                return trial
        if paused and not any(trial.status == Trial.RUNNING for trial in trials):
            self._settle(tune_controller, paused)
        return None

    def debug_string(self) -> str:
        """What was ordered and why, what could not be used, and whether fits fail."""
        rule = self._rule
        against = f"the {rule.reference}" if isinstance(rule.reference, str) else f"{rule.reference:g}"
        at = "the asymptote" if rule.target is None else f"{rule.target:g} {rule.unit}"
        orders = [(name, seen) for name, seen in self._trials.items() if seen.order is not Order.GO_ON]
        counts = Counter(seen.order for _, seen in orders)
        lines = [
            f"Using ForecastScheduler: to stop where P(within {rule.margin:g} of {against} at {at}) < "
            f"{rule.threshold:g}; {self._num_looks} looks, {counts[Order.STOP]} stopped, "
            f"{counts[Order.PAUSE]} paused; recorded in {self._log.path if self._log else 'no file yet'}"
        ]
        lines += [f"{name} {seen.order}: {seen.verdict.reason}" for name, seen in orders if seen.verdict][
            -_SHOWN:
        ]
        lines += [f"{count} results left out: {why}" for why, count in sorted(self._skipped.items())]
        if self._failure:
            lines.append(f"The last look failed: {self._failure}")
        if self._forecaster.gave_up:
            lines.append("No trial is stopped any more, for look after look failed.")
        return "\n".join(lines)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the log is on disk. Tune never calls this."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the log is read when the first trial is added. Tune never calls this."""

    def _open_log(self, trial: Any) -> None:
        path = self._log_path
        if path is None:
            storage = trial.storage
            if storage.storage_filesystem.type_name != "local":
                raise ValueError(
                    f"the experiment lies on {storage.storage_filesystem.type_name} storage, where no "
                    "file can be appended to; give ForecastScheduler(log=...) a path on a disk that "
                    "survives the driver"
                )
            path = Path(storage.experiment_fs_path) / LOG_NAME
        self._log = TrialLog(path)
        for line in self._log.read():
            tracked = self._before.setdefault(line.trial, Tracked())
            if isinstance(line, PointLine):
                tracked.add(line.compute, line.value)
            else:
                tracked.order, tracked.verdict = line.order, line.verdict
                tracked.looked_at = line.verdict.compute

    def _note(self, name: str, tracked: Tracked, result: Mapping[str, Any]) -> None:
        """Record what the result says, if it says something and is new."""
        compute = number_of(result.get(self._compute_attr))
        value = number_of(result.get(self._metric or ""))
        if compute is None or not 0.0 <= compute < math.inf:
            self._skip(f"no number >= 0 under {self._compute_attr}")
            return
        if value is None:
            self._skip(f"no finite number under {self._metric}")
            return
        if tracked.newest is not None and tracked.newest[0] == compute:
            # As text, for nan is not equal to itself. Tune hands over a trial's last result twice.
            if str(tracked.newest[1]) == str(value):
                return
            self._skip(f"{self._compute_attr} has not grown, the later value counts")
        if not math.isfinite(value):
            self._skip(f"no finite number under {self._metric}")
        tracked.add(compute, value)
        self._version += 1
        assert self._log is not None
        self._log.write(PointLine(name, compute, value))

    def _skip(self, why: str) -> None:
        if why not in self._skipped:
            _logger.warning("ForecastScheduler leaves out a result: %s", why)
        self._skipped[why] += 1

    def _collect(self) -> None:
        """Take verdicts that have come in."""
        answer = self._forecaster.answer()
        if answer is None:
            return
        self._failure = answer.failure
        if answer.failure:
            _logger.warning("ForecastScheduler: a look failed: %s", answer.failure)
        self._num_looks += len(answer.verdicts)
        for name, verdict in answer.verdicts.items():
            tracked = self._trials[name]
            tracked.verdict, tracked.version = verdict, answer.job.version
            versus = None if verdict.reference is None else self._trials[verdict.reference]
            if not tracked.live or (versus is not None and (versus.failed or versus.diverged)):
                # Ended meanwhile; or what it was compared with has failed, and it is looked at again.
                continue
            order = self._order_of_losers if verdict.stop else Order.GO_ON
            if order is not tracked.order:
                self._order(name, tracked, order)

    def _order(self, name: str, tracked: Tracked, order: Order) -> None:
        """Write an order down, then hold to it."""
        assert self._log is not None
        assert tracked.verdict is not None
        self._log.write(OrderLine(name, order, tracked.verdict))
        tracked.order = order
        self._version += 1
        _logger.info("ForecastScheduler: %s is to %s. %s", name, order, tracked.verdict.reason)

    def _look(self, due: list[str] | None = None) -> None:
        """Hand over a look at trials that are due, if none is under way."""
        if self._forecaster.busy or self._forecaster.gave_up:
            return
        if due is None:
            due = [name for name, seen in self._trials.items() if self._is_due(seen)]
        # Who has waited longest, by compute, comes first.
        due = sorted(
            due, key=lambda name: (self._trials[name].looked_at - self._trials[name].compute[-1], name)
        )
        due = due[:MOST_DUE]
        if not due:
            return
        rule = self._signed_rule()
        summaries = {
            name: (seen.compute[-1], seen.value[-1]) for name, seen in self._trials.items() if seen.compute
        }
        wanted = [*due, *siblings_of(due, summaries, rule)]
        wanted += [n for n in summaries if self._trials[n].control and n not in wanted]
        histories = tuple(self._trials[name].history(name) for name in wanted)
        for name in due:
            self._trials[name].looked_at = self._trials[name].compute[-1]
        self._forecaster.submit(Job(histories, tuple(due), rule, self._version))

    def _is_due(self, seen: Tracked) -> bool:
        runs = seen.live and not seen.control and seen.order is Order.GO_ON
        return runs and bool(seen.compute) and self._rule.is_look(seen.compute[-1], seen.looked_at)

    def _signed_rule(self) -> ForecastRule:
        return replace(self._rule, minimise=self._mode == "min")

    def _carry_out(self, controller: Any) -> None:
        """Stop at once what is to stop; hold again what a restore made pending."""
        for trial in list(controller.get_live_trials()):
            tracked = self._trials[trial.trial_id]
            if tracked.order is Order.STOP and not trial.is_saving:
                controller.stop_trial(trial)
            elif tracked.order is Order.PAUSE and trial.status == Trial.PENDING:
                controller._set_trial_status(trial, Trial.PAUSED)

    def _settle(self, controller: Any, paused: list[Any]) -> None:
        """Judge paused trials by all that is known, when nothing else is left to run: stop, or go on."""
        for trial in paused:
            tracked = self._trials[trial.trial_id]
            if not tracked.compute or self._forecaster.gave_up:
                tracked.order = Order.GO_ON
        if any(self._trials[trial.trial_id].order is Order.GO_ON for trial in paused):
            return
        open_ = [t.trial_id for t in paused if self._trials[t.trial_id].version < self._version]
        if open_:
            self._look(open_)
            return
        for trial in paused:
            self._order(trial.trial_id, self._trials[trial.trial_id], Order.STOP)
        self._carry_out(controller)

    def _over(self) -> None:
        """A trial has ended; with the last one, the process of the fits does too."""
        self._version += 1
        if not any(seen.live for seen in self._trials.values()):
            self._forecaster.close()
