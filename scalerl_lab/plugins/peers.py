"""Other tools' rules of stopping as policies of ``replay``, by their own code.

    asha              Ray Tune's ASHAScheduler          eta: reduction_factor; grace: grace_period
    hyperband         Ray Tune's HyperBandScheduler     eta: reduction_factor; grace: 1 / max_t
    median            Ray Tune's MedianStoppingRule     grace: grace_period; it needs three others
    optuna_sha        Optuna's SuccessiveHalvingPruner  eta: reduction_factor; grace: min_resource
    optuna_hyperband  Optuna's HyperbandPruner          eta: reduction_factor; grace: min_resource
    optuna_median     Optuna's MedianPruner             grace: n_warmup_steps; it needs five completed trials

Compute is told to them as a share of the budget. Ray's schedulers take real numbers: one unit is the grace,
so grace_period is 1 and max_t is 1 / grace, both for the shortest record of the sweep. Optuna's steps are
integers: 1,000 make a budget. Everything else is as the tools have it by default, the mode is max, and paused
trials of HyperBand go on when its own ``choose_trial_to_run`` says so.

Ray's schedulers are driven through ``on_trial_add``, ``on_trial_result``, ``on_trial_complete`` and
``on_trial_remove``, with stand-ins for Tune's controller and trials that do what those do to a scheduler.
Optuna's pruners are driven through a study in memory: ask, report, should_prune, tell.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from scalerl_lab.decide.policies import InTurn
from scalerl_lab.decide.recorded import SAME, Recorded
from scalerl_lab.decide.replay import Asked, Move, Order

METRIC, TIME = "pass_rate", "compute"
STEPS = 1000
"""Optuna's steps that make a budget."""


def shortest_gpu_hours(recorded: Recorded) -> float:
    """The compute that every run's record reaches within its budget."""
    return min(run.reached(run.planned.budget_gpu_hours) for run in recorded.runs)


@dataclass(eq=False, slots=True)
class _Trial:
    """What Ray's schedulers see of a trial."""

    trial_id: str
    status: str
    is_saving: bool = False
    last_result: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Controller:
    """What Ray's schedulers may do with Tune's controller."""

    scheduler: Any
    trials: dict[str, _Trial]
    stopped: list[str] = field(default_factory=list)
    """Trials that the scheduler stopped itself, until they are collected."""

    def get_trials(self) -> list[_Trial]:
        """All trials."""
        return list(self.trials.values())

    def get_live_trials(self) -> set[_Trial]:
        """Those that are not over."""
        from ray.tune.experiment import Trial

        return {
            trial for trial in self.trials.values() if trial.status not in (Trial.TERMINATED, Trial.ERROR)
        }

    def stop_trial(self, trial: _Trial) -> None:
        """As ``TuneController.stop_trial``: the scheduler is told, then the trial is over."""
        from ray.tune.experiment import Trial

        if trial.status in (Trial.TERMINATED, Trial.ERROR):
            return
        # One that the cap cut off before its first result has nothing to complete with.
        if trial.status in (Trial.PENDING, Trial.PAUSED) or not trial.last_result:
            self.scheduler.on_trial_remove(self, trial)
        else:
            self.scheduler.on_trial_complete(self, trial, trial.last_result)
        trial.status = Trial.TERMINATED
        self.stopped.append(trial.trial_id)


class RayPolicy:
    """A Ray Tune scheduler that answers for a replay."""

    promises = False
    first_share = 1.0

    def __init__(self, recorded: Recorded, make: Callable[[], Any], unit_gpu_hours: float) -> None:
        from ray.tune.experiment import Trial

        self._scheduler = make()
        self._unit, self._whole = unit_gpu_hours, shortest_gpu_hours(recorded)
        self._name = type(self._scheduler).__name__
        trials = {run.run_id: _Trial(run.run_id, Trial.PENDING) for run in recorded.runs}
        self._controller = _Controller(self._scheduler, trials)
        # HyperBand tells of every bracket that is too small, several for each trial.
        log = logging.getLogger("ray.tune.schedulers")
        level = log.level
        log.setLevel(logging.WARNING)
        for trial in trials.values():
            self._scheduler.on_trial_add(self._controller, trial)
        log.setLevel(level)

    def choose(self, waiting: Sequence[str], paused: Sequence[str]) -> str | None:
        """The scheduler's choice; a trial that never ran is started even if it names none, as Tune does."""
        from ray.tune.experiment import Trial

        chosen = self._scheduler.choose_trial_to_run(self._controller)
        name = chosen.trial_id if chosen is not None else None
        if name not in waiting and name not in paused:
            name = waiting[0] if waiting else None
        if name is not None:
            self._controller.trials[name].status = Trial.RUNNING
        return name

    def answer(self, asked: Asked) -> Sequence[Order]:
        """What the scheduler says of the result, and of other trials while it is at it."""
        from ray.tune.experiment import Trial
        from ray.tune.schedulers import TrialScheduler

        run_id, point = asked.run.planned.run_id, asked.run.points[-1]
        trial = self._controller.trials[run_id]
        trial.last_result = {TIME: point.gpu_hours / self._unit, METRIC: point.pass_rate}
        action = self._scheduler.on_trial_result(self._controller, trial, trial.last_result)
        orders = self._collect()
        if action == TrialScheduler.STOP:
            whole = asked.at_end or point.gpu_hours >= self._whole * (1.0 - SAME)
            move = Move.FINISH if whole else Move.KILL
            self._stop(trial)
            return [*orders, Order(run_id, move, "stop", f"{self._name} said STOP.")]
        if action == TrialScheduler.PAUSE and not asked.at_end:
            trial.status = Trial.PAUSED
            return [*orders, Order(run_id, Move.PAUSE, "pause", f"{self._name} said PAUSE.")]
        return orders

    def over(self, run_id: str) -> Sequence[Order]:
        """A trial that ended by itself is told to the scheduler."""
        self._stop(self._controller.trials[run_id])
        return self._collect()

    def _stop(self, trial: _Trial) -> None:
        self._controller.stop_trial(trial)
        if trial.trial_id in self._controller.stopped:
            self._controller.stopped.remove(trial.trial_id)

    def _collect(self) -> list[Order]:
        stopped, self._controller.stopped = self._controller.stopped, []
        return [Order(name, Move.KILL, "stop", f"{self._name} stopped it.") for name in stopped]


class OptunaPolicy(InTurn):
    """An Optuna pruner that answers for a replay."""

    def __init__(self, recorded: Recorded, make: Callable[[], Any]) -> None:
        import optuna

        self._pruner = make()
        self._name = type(self._pruner).__name__
        self._budget = shortest_gpu_hours(recorded)
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # The name decides which bracket of Hyperband a trial falls into.
        self._study = optuna.create_study(study_name="replay", direction="maximize", pruner=self._pruner)
        optuna.logging.set_verbosity(before)
        self._trials: dict[str, Any] = {}
        self._last: dict[str, float] = {}

    def choose(self, waiting: Sequence[str], paused: Sequence[str]) -> str | None:
        """The first in the queue; it is asked from the study."""
        name = super().choose(waiting, paused)
        if name is not None and name not in self._trials:
            self._trials[name] = self._study.ask()
        return name

    def answer(self, asked: Asked) -> Sequence[Order]:
        """Whether the pruner prunes."""
        from optuna.trial import TrialState

        run_id, point = asked.run.planned.run_id, asked.run.points[-1]
        trial = self._trials[run_id]
        self._last[run_id] = point.pass_rate
        trial.report(point.pass_rate, int(STEPS * point.gpu_hours / self._budget + SAME))
        if asked.at_end or not trial.should_prune():
            return ()
        self._study.tell(trial, state=TrialState.PRUNED)
        del self._trials[run_id]
        return [Order(run_id, Move.KILL, "prune", f"{self._name} pruned it.")]

    def over(self, run_id: str) -> Sequence[Order]:
        """A trial that ended by itself is told to the study."""
        trial = self._trials.pop(run_id, None)
        if trial is not None and run_id in self._last:
            self._study.tell(trial, self._last[run_id])
        return ()


def ray_asha(recorded: Recorded, *, eta: float = 3.0, grace: float = 1.0 / 27.0) -> RayPolicy:
    """Ray Tune's ASHAScheduler."""

    def make() -> Any:
        from ray.tune.schedulers import ASHAScheduler

        return ASHAScheduler(TIME, METRIC, "max", max_t=1.0 / grace, grace_period=1.0, reduction_factor=eta)

    return RayPolicy(recorded, make, grace * shortest_gpu_hours(recorded))


def ray_hyperband(recorded: Recorded, *, eta: float = 3.0, grace: float = 1.0 / 27.0) -> RayPolicy:
    """Ray Tune's HyperBandScheduler, synchronous: trials of a bracket wait for each other."""
    max_t = max(round(1.0 / grace), 1)

    def make() -> Any:
        from ray.tune.schedulers import HyperBandScheduler

        return HyperBandScheduler(TIME, METRIC, "max", max_t=max_t, reduction_factor=eta)

    return RayPolicy(recorded, make, shortest_gpu_hours(recorded) / max_t)


def ray_median(recorded: Recorded, *, grace: float = 0.1) -> RayPolicy:
    """Ray Tune's MedianStoppingRule."""

    def make() -> Any:
        from ray.tune.schedulers import MedianStoppingRule

        return MedianStoppingRule(TIME, METRIC, "max", grace_period=1.0)

    return RayPolicy(recorded, make, grace * shortest_gpu_hours(recorded))


def optuna_sha(recorded: Recorded, *, eta: float = 3.0, grace: float = 1.0 / 27.0) -> OptunaPolicy:
    """Optuna's SuccessiveHalvingPruner."""

    def make() -> Any:
        from optuna.pruners import SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(min_resource=_steps(grace), reduction_factor=math.ceil(eta))

    return OptunaPolicy(recorded, make)


def optuna_hyperband(recorded: Recorded, *, eta: float = 3.0, grace: float = 1.0 / 27.0) -> OptunaPolicy:
    """Optuna's HyperbandPruner."""

    def make() -> Any:
        from optuna.pruners import HyperbandPruner

        return HyperbandPruner(_steps(grace), STEPS, math.ceil(eta))

    return OptunaPolicy(recorded, make)


def optuna_median(recorded: Recorded, *, grace: float = 0.1) -> OptunaPolicy:
    """Optuna's MedianPruner: it compares with completed trials only, so in lock-step it prunes nothing."""

    def make() -> Any:
        from optuna.pruners import MedianPruner

        return MedianPruner(n_warmup_steps=_steps(grace))

    return OptunaPolicy(recorded, make)


def _steps(grace: float) -> int:
    return max(round(STEPS * grace), 1)


PEERS: dict[str, Callable[..., RayPolicy | OptunaPolicy]] = {
    "asha": ray_asha,
    "hyperband": ray_hyperband,
    "median": ray_median,
    "optuna_sha": optuna_sha,
    "optuna_hyperband": optuna_hyperband,
    "optuna_median": optuna_median,
}
"""Name of a rule -> its policy for a sweep on record, given its settings."""
