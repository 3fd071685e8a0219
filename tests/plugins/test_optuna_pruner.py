"""The pruner on studies of the installed Optuna: directions, steps, reasons, two workers on one database."""

from __future__ import annotations

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
    "wrong", [{"margin": -1}, {"reference": "control"}, {"target": 0}, {"threshold": 1}, {"interval": 0}]
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


def test_what_is_no_number_is_no_point(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = Noted(monkeypatch)
    study = optuna.create_study(pruner=ForecastPruner(margin=0.02))
    study.add_trial(
        create_trial(state=TrialState.PRUNED, intermediate_values={0: float("nan"), 3: float("inf")})
    )
    _, said = asked(study, {0: 0.5, 1: float("nan"), 2: float("inf"), 3: 0.7})
    assert said == [False] * 4
    ((histories, _, _),) = noted.given
    assert [history.points for history in histories] == [((0.0, 3.0), (0.5, 0.7))]


def test_what_each_state_counts_for_and_the_studys_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = Noted(monkeypatch)
    study = optuna.create_study(direction="minimize", pruner=ForecastPruner(margin=0.02))
    for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
        final = 0.4 if state is TrialState.COMPLETE else None
        study.add_trial(create_trial(state=state, value=final, intermediate_values={1: 0.5, 2: 0.4}))
    study.ask().report(0.3, 1)
    asked(study, {1: 0.5})
    histories, due, rule = noted.given[-1]
    assert rule.minimise
    assert due == ["4"]
    standing = {history.name: (history.runs, history.lost) for history in histories}
    assert standing == {"4": (True, False), "0": (False, False), "1": (False, True), "3": (True, False)}


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
            pruner.explain(trial)
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
            assert "less than 0.02, after" in trial.user_attrs["forecast"]
        else:
            assert trial.last_step == LAST, number
            assert "forecast" not in trial.user_attrs
