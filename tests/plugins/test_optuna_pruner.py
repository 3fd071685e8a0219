"""The pruner on studies of the installed Optuna: directions, steps, reasons, two workers on one database."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from scalerl_lab.plugins import ForecastPruner, optuna_pruner
from scalerl_lab.plugins.verdict import ForecastRule, History, Verdict

LAST = 40
optuna.logging.set_verbosity(optuna.logging.WARNING)


def value(best: float, step: int, seed: int = 0) -> float:
    noise = np.random.default_rng([seed, step]).standard_normal()
    return float(0.3 + (best - 0.3) / (1.0 + (7.0 / step) ** 2) + 0.005 * noise)


def finished(best: float, seed: int, sign: float = 1.0, last: int = LAST) -> optuna.trial.FrozenTrial:
    values = {step: sign * value(best, step, seed) for step in range(1, last + 1)}
    return create_trial(value=values[last], intermediate_values=values)


class Noted:
    """Stands for ``judge``: notes what it is given, and gives a verdict."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop: bool = False) -> None:
        self.stop, self.given = stop, []  # type: ignore[var-annotated]
        monkeypatch.setattr(optuna_pruner, "judge", self.judge)

    def judge(self, histories: list[History], due: list[str], rule: ForecastRule) -> dict[str, Verdict]:
        self.given.append((histories, due, rule))
        return {name: Verdict(self.stop, 1.0, f"{name} by order.") for name in due}


def asked(study: optuna.Study, values: dict[int, float]) -> tuple[optuna.Trial, list[bool]]:
    trial = study.ask()
    said = []
    for step, reported in values.items():
        trial.report(reported, step)
        said.append(trial.should_prune())
    return trial, said


@pytest.mark.parametrize(
    "wrong",
    [
        {"margin": -1},
        {"reference": "control"},
        {"target": 0},
        {"threshold": 1},
        {"interval": 0},
        {"on_nan": "prune"},
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="allowed is"):
        ForecastPruner(**({"margin": 0.02} | wrong))  # type: ignore[arg-type]


def test_a_look_is_taken_when_a_new_multiple_of_the_interval_is_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noted = Noted(monkeypatch)
    study = optuna.create_study(pruner=ForecastPruner(margin=0.02, target=100, warm_up=10))
    asked(study, dict.fromkeys((1, 6, 9, 10, 12, 16, 31), 0.5))
    assert [given[0][0].points[0][-1] for given in noted.given] == [10.0, 16.0, 31.0]


def test_looks_are_due_by_the_last_look_however_seldom_the_pruner_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reported at each step from 0, asked at 9, 19, 29: none of these is a multiple of 10, each is a look."""
    noted = Noted(monkeypatch)
    study = optuna.create_study(pruner=ForecastPruner(margin=0.02, target=200))
    trial = study.ask()
    for step in range(40):
        trial.report(0.5, step)
        if step % 10 == 9:
            trial.should_prune()
    # The first interval ends at 10, so 9 is too early.
    assert [given[0][0].points[0][-1] for given in noted.given] == [19.0, 29.0, 39.0]
    # A worker that starts anew with this trial knows of no look: it takes one, then keeps to the interval.
    again = ForecastPruner(margin=0.02, target=200)
    for step in range(40, 55):
        trial.report(0.5, step)
        again.prune(study, study.trials[0])
    assert [given[0][0].points[0][-1] for given in noted.given[3:]] == [40.0, 50.0]


def test_asked_twice_at_a_step_it_says_the_same_and_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = Noted(monkeypatch, stop=True)
    study = optuna.create_study(pruner=ForecastPruner(margin=0.02))
    trial = study.ask()
    trial.report(0.5, 1)
    assert [trial.should_prune(), trial.should_prune()] == [True, True]
    assert len(noted.given) == 1


def test_a_study_made_anew_under_the_same_name_is_looked_at_from_its_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noted = Noted(monkeypatch)
    pruner = ForecastPruner(margin=0.02, interval=5)
    for last in (30, 10):
        study = optuna.create_study(study_name="same", pruner=pruner)
        asked(study, dict.fromkeys(range(1, last + 1), 0.5))
    assert [given[0][0].points[0][-1] for given in noted.given[-2:]] == [5.0, 10.0]


def test_losers_are_pruned_when_asked_at_every_tenth_step() -> None:
    """Three trials at 0.3 against 0.6, reported at each step from 0, asked at ``step % 10 == 9``."""
    study = optuna.create_study(direction="maximize", pruner=ForecastPruner(margin=0.02, target=200))

    def objective(trial: optuna.Trial) -> float:
        best = 0.6 if trial.number == 0 else 0.3
        for step in range(200):
            gain = best * (step + 1) ** 2 / ((step + 1) ** 2 + 900)
            trial.report(gain + 0.003 * math.sin(7.0 * step + trial.number), step)
            if step % 10 == 9 and trial.should_prune():
                raise optuna.TrialPruned
        return gain

    study.optimize(objective, n_trials=4)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "PRUNED", "PRUNED"]
    assert max(trial.last_step or 0 for trial in study.trials[1:]) <= 99


NAN, INF = float("nan"), float("inf")


def test_one_value_that_is_no_number_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = Noted(monkeypatch)
    study = optuna.create_study(pruner=ForecastPruner(margin=0.02))
    study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={0: NAN, 3: INF}))
    _, said = asked(study, {0: 0.5, 1: NAN, 2: 0.6, 3: INF, 4: 0.7})
    assert said == [False] * 5
    assert [given[0][0].points for given in noted.given] == [
        ((0.0, 2.0), (0.5, 0.6)),
        ((0.0, 2.0, 4.0), (0.5, 0.6, 0.7)),
    ]
    assert all(len(given[0]) == 1 for given in noted.given)


def test_two_in_turn_prune_the_trial_before_any_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = Noted(monkeypatch)
    study = optuna.create_study(pruner=ForecastPruner(margin=0.02, target=100, warm_up=50))
    trial, said = asked(study, {1: 0.5, 2: NAN, 3: -INF})
    assert said == [False, False, True]
    assert not noted.given
    study.tell(trial, state=TrialState.PRUNED)
    assert study.trials[0].user_attrs["forecast"] == (
        "Diverged: the last 2 values are no finite numbers (nan, -inf), since 2 steps, after 3 steps."
    )
    ignoring = optuna.create_study(pruner=ForecastPruner(margin=0.02, on_nan="ignore"))
    assert asked(ignoring, {1: NAN, 2: NAN, 3: NAN})[1] == [False] * 3


def test_a_trial_that_diverged_is_no_reference() -> None:
    """The best by far diverges from step 29 on and is kept running: what counts is the second best."""
    pruner = ForecastPruner(margin=0.02, target=LAST, interval=10, on_nan="ignore")
    study = optuna.create_study(direction="maximize", pruner=pruner)
    study.add_trial(finished(0.6, 1))
    best = study.ask()
    worse = study.ask()
    for step in range(1, 31):
        best.report(value(0.9, step, 2) if step < 29 else NAN, step)
        worse.report(value(0.45, step, 3), step)
        worse.should_prune()
    assert "the best trial, 0, at 0.5" in (pruner.explain(worse) or "")


def test_what_each_state_counts_for_and_the_studys_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = Noted(monkeypatch)
    study = optuna.create_study(direction="minimize", pruner=ForecastPruner(margin=0.02))
    for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
        final = 0.4 if state is TrialState.COMPLETE else None
        study.add_trial(create_trial(state=state, value=final, intermediate_values={1: 0.5, 2: 0.4}))
    running, dead, trial = study.ask(), study.ask(), study.ask()
    for one in (running, dead, trial):
        one.report(0.3, 1)
    trial.should_prune()
    running.report(0.3, 2)
    trial.report(0.3, 2)
    trial.should_prune()
    histories, due, rule = noted.given[-1]
    assert rule.minimise
    assert due == ["5"]
    standing = {history.name: (history.runs, history.lost) for history in histories}
    assert standing == {
        "5": (True, False),
        "0": (False, False),
        "1": (False, True),
        "3": (True, False),
        "4": (True, True),  # has reported nothing since the last look
    }


DEAD_WORKER = """
import sys, time, optuna
from tests.plugins.test_optuna_pruner import value
study = optuna.load_study(study_name="s", storage=sys.argv[1])
trial = study.ask()
for step in range(1, 37):
    trial.report(value(0.9, step, 7), step)
print("reported", flush=True)
time.sleep(120)
"""


def test_the_trial_of_a_worker_that_was_killed_prunes_nobody(tmp_path: Path) -> None:
    """It was the best by far, and got almost to the target: it stays "running" in the database for ever."""
    storage = f"sqlite:///{tmp_path}/optuna.db"
    pruner = ForecastPruner(margin=0.02, target=LAST, interval=10)
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize", pruner=pruner)
    worker = subprocess.Popen(
        [sys.executable, "-c", DEAD_WORKER, storage],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    try:
        assert worker.stdout.readline() == "reported\n"
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        worker.communicate()
    assert study.trials[0].state is TrialState.RUNNING

    def objective(trial: optuna.Trial) -> float:
        for step in range(1, LAST + 1):
            trial.report(value(0.6, step, trial.number), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value(0.6, LAST, trial.number)

    study.optimize(objective, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["RUNNING", "COMPLETE", "COMPLETE"]
    assert study.best_value == pytest.approx(0.59, abs=0.03)


def test_a_running_trial_that_moves_on_is_a_reference() -> None:
    """Two trials step by step beside each other, none has ended: the worse one is pruned."""
    study = optuna.create_study(
        direction="maximize", pruner=ForecastPruner(margin=0.02, target=LAST, interval=10)
    )
    best, worse = study.ask(), study.ask()
    pruned = None
    for step in range(1, 31):
        best.report(value(0.6, step, 1), step)
        worse.report(value(0.3, step, 2), step)
        assert not best.should_prune()
        if pruned is None and worse.should_prune():
            pruned = step
    assert pruned in (10, 20, 30)


@pytest.mark.parametrize("storage", [None, "sqlite:///{folder}/optuna.db"])
def test_the_reason_of_a_pruning_is_left_without_the_objective(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, storage: str | None
) -> None:
    noted = Noted(monkeypatch)
    url = None if storage is None else storage.format(folder=tmp_path)
    study = optuna.create_study(study_name="s", storage=url, pruner=ForecastPruner(margin=0.02))

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr("own", trial.number)
        trial.report(0.5, 1)
        noted.stop = trial.number == 1
        if trial.should_prune():
            raise optuna.TrialPruned
        return 0.5

    study.optimize(objective, n_trials=2)
    seen = study if url is None else optuna.load_study(study_name="s", storage=url)
    assert [trial.user_attrs for trial in seen.trials] == [{"own": 0}, {"own": 1, "forecast": "1 by order."}]


def test_a_storage_that_takes_no_reason_stops_no_pruning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Noted(monkeypatch, stop=True)

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    study = optuna.create_study(pruner=ForecastPruner(margin=0.02))
    monkeypatch.setattr(study._storage, "set_trial_user_attr", refuse)
    optuna.logging.enable_propagation()
    try:
        trial, said = asked(study, {1: 0.5})
    finally:
        optuna.logging.disable_propagation()
    assert said == [True]
    assert "The reason of trial 0 could not be stored: OSError('disk full')" in caplog.text
    assert "forecast" not in trial.user_attrs


def test_the_reason_is_left_by_the_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = Noted(monkeypatch)
    pruner = ForecastPruner(margin=0.02)
    study = optuna.create_study(pruner=pruner)
    trial = study.ask()
    assert pruner.explain(trial) is None
    trial.report(0.5, 1)
    noted.stop = True
    assert trial.should_prune()
    assert pruner.explain(trial) == "0 by order."
    study.tell(trial, state=TrialState.PRUNED)
    assert study.trials[0].user_attrs == {"forecast": "0 by order."}


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_a_worse_trial_is_pruned_and_a_tie_is_not(direction: str, sign: float) -> None:
    """Against two completed trials, by fits: a third that ties, and one that is lower by 0.15."""
    pruner = ForecastPruner(margin=0.02, target=LAST, interval=10)
    study = optuna.create_study(direction=direction, pruner=pruner)
    study.add_trials([finished(0.6, seed, sign) for seed in (1, 2)])
    _, tie = asked(study, {step: sign * value(0.6, step, 3) for step in range(1, 31)})
    worse, pruned = asked(study, {step: sign * value(0.45, step, 4) for step in range(1, 31)})
    assert not any(tie)
    assert any(pruned)
    assert next(step for step, stop in enumerate(pruned, start=1) if stop) in (10, 20)
    # Another process, or this one with a new pruner, would say the same: nothing but the study counts.
    again = ForecastPruner(margin=0.02, target=LAST, interval=10)
    last = study.get_trials(deepcopy=True)[worse.number]
    assert again.prune(study, last) == pruned[-1]


WORKER = """
import sys, optuna
from tests.plugins.test_optuna_pruner import LAST, value
from scalerl_lab.plugins import ForecastPruner
pruner = ForecastPruner(margin=0.02, target=LAST, interval=10)
study = optuna.load_study(study_name="s", storage=sys.argv[1], pruner=pruner)
def objective(trial):
    best = trial.suggest_float("best", 0.0, 1.0)
    for step in range(1, LAST + 1):
        trial.report(value(best, step, trial.number), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return value(best, LAST, trial.number)
study.optimize(objective, n_trials=2)
"""


def test_two_processes_on_one_database(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/optuna.db"
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    study.add_trials([finished(0.6, 90), finished(0.6, 91)])
    for best in (0.6, 0.45, 0.6, 0.45):
        study.enqueue_trial({"best": best})
    command = [sys.executable, "-c", WORKER, storage]
    root = Path(__file__).parents[2]
    workers = [subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for worker in workers:
        _, wrong = worker.communicate(timeout=120)
        assert worker.returncode == 0, wrong
    ended = {trial.number: trial for trial in study.trials[2:]}
    assert [trial.params["best"] for trial in ended.values()] == [0.6, 0.45, 0.6, 0.45]
    assert [trial.state.name for trial in ended.values()] == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED"]
    for number, trial in ended.items():
        if trial.state is TrialState.PRUNED:
            assert trial.last_step in (10, 20, 30)
            assert "less than 0.05, after" in trial.user_attrs["forecast"]
        else:
            assert trial.last_step == LAST, number
            assert "forecast" not in trial.user_attrs
