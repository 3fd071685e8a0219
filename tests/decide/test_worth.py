"""What the next compute of a run is worth: against the closed form, and who gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest

from scalerl_lab.config.sweep import Compare, Sweep
from scalerl_lab.decide import FreeHours, decide
from scalerl_lab.decide.worth import open_answers, worth_of_step, worthiest
from scalerl_lab.fit import FittedCurve, SweepFit
from scalerl_lab.fit.law import Floats
from scalerl_lab.records import Action, EvalPoint
from tests.decide.states import BUDGET, curve_points, fit_with, run_state, sweep
from tests.decide.test_quantity import arm


@dataclass(frozen=True)
class Known:
    """A fit whose curve is level at K drawn values."""

    level: Floats
    sigma: float
    points: tuple[EvalPoint, ...] = curve_points(8000.0, num=9)

    @property
    def draws(self) -> Any:
        return type("Drawn", (), {"sigma": np.full(self.level.size, self.sigma)})

    def curves(self, gpu_hours: Floats) -> Floats:
        return np.repeat(self.level[:, None], np.size(gpu_hours), axis=1)


def fitted(level: Floats, sigma: float) -> FittedCurve:
    return cast(FittedCurve, Known(level, sigma))


def test_worth_is_the_variance_that_normal_theory_takes() -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(0.5, 0.02, 200_000)
    answer = level + rng.normal(0.0, 0.03, level.size)
    # Points lie 1,000 GPU-hours apart: four more in 4,000. cov = 0.02^2, var + s^2 / 4.
    exact = 0.02**4 / (0.02**2 + 0.01**2 / 4.0)
    assert worth_of_step(fitted(level, 0.01), 4000.0, [answer]) == pytest.approx(exact, rel=0.02)
    assert worth_of_step(fitted(level, 0.01), 4000.0, [answer, answer]) == pytest.approx(2 * exact, rel=0.02)
    # Noise drowns it, and what is known already is worth nothing.
    assert worth_of_step(fitted(level, 1.0), 4000.0, [answer]) < 0.01 * exact
    assert worth_of_step(fitted(np.full(level.size, 0.5), 0.01), 4000.0, [answer]) < 1e-6 * exact


def test_a_run_without_compute_is_worth_nothing() -> None:
    begun = Known(np.linspace(0.4, 0.6, 50), 0.01, curve_points(0.0, num=2))
    assert worth_of_step(cast(FittedCurve, begun), 1000.0, [np.linspace(0.0, 1.0, 50)]) == 0.0


def test_answers_that_are_known_are_not_open() -> None:
    arms = {"control": arm(0.61), "tied": arm(0.60, 0.002), "open": arm(0.59, 0.01), "bad": arm(0.5, 0.002)}
    assert len(open_answers(arms, sweep(), "control", BUDGET)) == 1


def test_contenders_for_the_best_are_those_with_a_chance() -> None:
    question = Sweep.model_validate(
        {**sweep().model_dump(), "recipe": "a", "question": Compare(recipes=("a", "b", "c")).model_dump()}
    )
    arms = {"a": arm(0.60, 0.01), "b": arm(0.602), "c": arm(0.50, 0.001)}
    found = open_answers(arms, question, "a", BUDGET)
    assert len(found) == 2
    assert found[0] == pytest.approx(-found[1])


def test_who_says_more_comes_first() -> None:
    rng = np.random.default_rng(1)
    arms = {"control": arm(0.61), "open": arm(0.59, 0.01)}
    answer = arms["open"].draws
    level = {
        "tells": answer,
        "half": answer + rng.normal(0.0, 0.01, answer.size),
        "mute": np.full_like(answer, 0.5),
    }
    found = SweepFit({name: fitted(values, 0.004) for name, values in level.items()}, arms)
    assert worthiest(found, ["mute", "half", "tells"], sweep(), "control", BUDGET) == [
        "tells",
        "half",
        "mute",
    ]
    # Unknown runs and ties: in the order of ids, behind those that say something.
    assert worthiest(found, ["z", "b", "half"], sweep(), "control", BUDGET) == ["half", "b", "z"]


def test_hours_go_to_the_worthier_first() -> None:
    state = run_state(curve_points(BUDGET))
    arms = {"control": arm(0.61), "reverted": arm(0.59, 0.02)}
    fit = fit_with(0.59, 0.02)

    def decided(free: FreeHours) -> tuple[Action, str]:
        found = decide(state, fit, arms, control="control", sweep=sweep(), free=free)
        return found.action, found.reason

    assert decided(FreeHours(4000.0, worthier=1))[0] is Action.EXTEND
    action, reason = decided(FreeHours(3999.0, worthier=1))
    assert action is Action.FINISH
    assert reason.endswith("but the sweep's 3,999 free GPU-hours say more of its question with another run.")
    assert decided(FreeHours(5999.0, worthier=2))[1].endswith("with 2 other runs.")
