"""What the next compute of a run is worth: against the closed form, and who gets it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, cast

import numpy as np
import pytest

from scalerl_lab.config.sweep import Compare, Sweep
from scalerl_lab.decide import Prospects, Step, decide
from scalerl_lab.decide.worth import open_answers, rank, regret_saved, to_come, variance_taken
from scalerl_lab.fit import ArmDraws, FittedCurve, PooledCeiling, SweepFit, SweepRun
from scalerl_lab.fit.law import Floats
from scalerl_lab.records import Action, Cause, Decision, EvalPoint, Role
from tests.decide.states import BUDGET, curve_points, decide_on, fit_with, run_state, sweep
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

    def forecast(self, gpu_hours: float) -> None:
        return None

    def curves(self, gpu_hours: Floats) -> Floats:
        return np.repeat(self.level[:, None], np.size(gpu_hours), axis=1)


class Unknown(Known):
    """Nothing is said of it."""

    draws = None


def fitted(level: Floats, sigma: float) -> FittedCurve:
    return cast(FittedCurve, Known(level, sigma))


def fitted_at(level: Floats, sigma: float, points: tuple[EvalPoint, ...]) -> FittedCurve:
    return cast(FittedCurve, Known(level, sigma, points))


def comparison(*recipes: str) -> Sweep:
    """Which of them is the best."""
    question = Compare(recipes=recipes).model_dump()
    return Sweep.model_validate({**sweep().model_dump(), "recipe": recipes[0], "question": question})


def test_worth_is_the_variance_that_normal_theory_takes() -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(0.5, 0.02, 200_000)
    answer = level + rng.normal(0.0, 0.03, level.size)
    # Points lie 1,000 GPU-hours apart: four more in 4,000. cov = 0.02^2, var + s^2 / 4.
    exact = 0.02**4 / (0.02**2 + 0.01**2 / 4.0)
    assert variance_taken(fitted(level, 0.01), 4000.0, [answer]) == pytest.approx(exact, rel=0.02)
    assert variance_taken(fitted(level, 0.01), 4000.0, [answer, answer]) == pytest.approx(2 * exact, rel=0.02)
    # Noise drowns it, and what is known already is worth nothing.
    assert variance_taken(fitted(level, 1.0), 4000.0, [answer]) < 0.01 * exact
    assert variance_taken(fitted(np.full(level.size, 0.5), 0.01), 4000.0, [answer]) < 1e-6 * exact


def test_a_run_without_compute_is_worth_nothing() -> None:
    begun = Known(np.linspace(0.4, 0.6, 50), 0.01, curve_points(0.0, num=2))
    assert variance_taken(cast(FittedCurve, begun), 1000.0, [np.linspace(0.0, 1.0, 50)]) == 0.0


def test_answers_that_are_known_are_not_open() -> None:
    arms = {"control": arm(0.61), "tied": arm(0.60, 0.002), "open": arm(0.59, 0.01), "bad": arm(0.5, 0.002)}
    assert len(open_answers(arms, sweep(), "control", BUDGET)) == 1


def test_regret_saved_is_the_knowledge_gradient() -> None:
    # Two arms, one known at 0.60, the other N(0.59, 0.02^2) and measured without noise: what is gained is
    # E max(0.60, 0.59 + 0.02 Z) - 0.60 = 0.02 (phi(0.5) - 0.5 Phi(-0.5)) = 0.02 * 0.19780.
    rng = np.random.default_rng(0)
    level = rng.normal(0.59, 0.02, 200_000)
    arms = np.array([np.full(level.size, 0.60), level])
    assert regret_saved(fitted(level, 0.0), 1000.0, arms) == pytest.approx(0.02 * 0.19780, rel=0.02)
    # The known arm has nothing to tell, nor has one that nobody would choose.
    assert regret_saved(fitted(arms[0], 0.01), 1000.0, arms) == pytest.approx(0.0, abs=1e-12)
    hopeless = np.array([np.full(level.size, 0.80), level])
    assert regret_saved(fitted(level, 0.0), 1000.0, hopeless) == pytest.approx(0.0, abs=1e-12)
    assert regret_saved(fitted(level, 0.0), 1000.0, level[None]) == 0.0


def test_what_several_steps_tell_counts_per_step() -> None:
    # Noise of 0.2 in a point: one step of one point tells little, eight eight times as many.
    rng = np.random.default_rng(0)
    level = rng.normal(0.57, 0.02, 200_000)
    arms = np.array([np.full(level.size, 0.60), level])
    spacing = 9850.0 / 8.0

    def gain(points: int) -> float:
        sd = 0.02 / np.sqrt(1.0 + (0.05 / 0.02) ** 2 / points)
        far = NormalDist()
        return float(sd * far.pdf(0.03 / sd) - 0.03 * far.cdf(-0.03 / sd))

    points = curve_points(9850.0, num=9)
    known = cast(FittedCurve, Known(level, 0.05, points))
    found = regret_saved(known, spacing, arms)
    assert found == pytest.approx(max(gain(n) / n for n in (1, 2, 4, 8)), rel=0.1)
    assert found > 1.5 * gain(1)


def test_of_an_unknown_run_anything_is_worth_knowing() -> None:
    unknown = cast(FittedCurve, Unknown(np.zeros(1), 0.0))
    assert regret_saved(unknown, 1000.0, np.zeros((2, 50))) == np.inf


def test_a_comparison_asks_who_is_best() -> None:
    question = comparison("a", "b", "c")
    rng = np.random.default_rng(1)
    arms = {"a": arm(0.60, 0.01), "b": arm(0.595, 0.01), "c": arm(0.50, 0.005)}
    arms = {name: PooledCeiling(each.law, 1, True) for name, each in arms.items()}
    mixed = {name: rng.permutation(each.draws) for name, each in arms.items()}
    arms = {name: PooledCeiling(replace(arms[name].law, A=draws), 1, True) for name, draws in mixed.items()}
    found = SweepFit({name: fitted(draws, 0.001) for name, draws in mixed.items()}, arms)
    ranked = rank(found, [Step(name, 2000.0) for name in "cba"], question, "a")
    assert ranked.num_before("c") == 2
    assert min(ranked.worth["a"], ranked.worth["b"]) > 100.0 * ranked.worth["c"]


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

    def places(*steps: tuple[str, float]) -> list[int]:
        ranked = rank(found, [Step(name, hours) for name, hours in steps], sweep(), "control")
        return [ranked.num_before(name) for name, _ in steps]

    assert places(("mute", 2000.0), ("half", 2000.0), ("tells", 2000.0)) == [2, 1, 0]
    # By the hour: a step four times as long has to tell four times as much.
    assert places(("half", 2000.0), ("tells", 8000.0)) == [0, 1]
    # Of runs that say nothing none stands before another.
    assert places(("z", 2000.0), ("b", 2000.0), ("half", 2000.0)) == [1, 1, 0]


def test_hours_go_to_the_worthier_first() -> None:
    state = run_state(curve_points(BUDGET))
    arms = {"control": arm(0.61), "reverted": arm(0.59, 0.02)}
    fit = fit_with(0.59, 0.02)

    def decided(free: Prospects) -> tuple[Action, str]:
        found = decide(state, fit, arms, control="control", sweep=sweep(), prospects=free)
        return found.action, found.reason

    # A step is 2,000; a quarter of the free hours is out at a time.
    assert decided(Prospects(2000.0, worth=1.0))[0] is Action.EXTEND
    assert decided(Prospects(16000.0, worthier=1, worth=1.0))[0] is Action.EXTEND
    action, reason = decided(Prospects(15999.0, worthier=1, worth=1.0))
    assert action is Action.FINISH
    assert reason.endswith("but the sweep's 15,999 free GPU-hours say more of its question with another run.")
    assert decided(Prospects(23999.0, worthier=2, worth=1.0))[1].endswith("with 2 other runs.")


def test_a_step_that_tells_little_is_not_made() -> None:
    # A tenth of the margin of 0.02 as a standard deviation: 0.002^2.
    open_arm = fit_with(0.78, 0.02)
    state = run_state(curve_points(BUDGET))
    controls = [fit_with(0.80, 0.001)]
    for worth, action in ((4.1e-6, Action.EXTEND), (3.9e-6, Action.FINISH)):
        found = decide_on(state, open_arm, [], controls, sweep=sweep(), free_gpu_hours=1e9, worth=worth)
        assert found.action is action, found.reason


def test_what_is_to_come_is_what_normal_theory_says() -> None:
    # The arm's ceiling has a standard deviation of 0.02, the control's none; the rest is 8 points of 0.05.
    rng = np.random.default_rng(0)
    level = rng.normal(0.60, 0.02, 200_000)
    arms = {
        name: PooledCeiling(ArmDraws(draws, draws, draws + 2.0, draws + 2000.0), 1, True)
        for name, draws in {"control": np.full(level.size, 0.61), "reverted": level}.items()
    }
    points = curve_points(8000.0, num=9)
    steady = np.full(level.size, 0.61)
    runs = {"reverted-0": fitted_at(level, 0.05, points), "control-0": fitted_at(steady, 0.05, points)}
    found = SweepFit(runs, arms)
    own = [SweepRun("reverted-0", "reverted", points), SweepRun("control-0", "control", points)]
    state = run_state(points)
    exact = 0.02**2 / np.sqrt(0.02**2 + 0.05**2 / 8.0)
    assert to_come(found, own, state.planned, sweep(), "control") == pytest.approx(exact, rel=0.02)
    control = run_state(points, role=Role.CONTROL, arm="control")
    # It is at 0.61 by all draws: its rest tells nothing. Were its curve the arm's, it would tell as much.
    assert to_come(found, own, control.planned, sweep(), "control") == pytest.approx(0.0, abs=1e-9)
    runs["control-0"] = fitted_at(level, 0.05, points)
    told = to_come(SweepFit(runs, arms), own, control.planned, sweep(), "control")
    assert told == pytest.approx(exact, rel=0.02)
    # A second seed that is too young for a fit is still to come; one past its budget tells no more.
    young = [*own, SweepRun("reverted-1", "reverted", ())]
    runs["reverted-1"] = cast(FittedCurve, Unknown(np.zeros(1), 0.0, ()))
    assert to_come(SweepFit(runs, arms), young, state.planned, sweep(), "control") is None
    past = curve_points(17000.0, num=9)
    runs["reverted-1"] = fitted_at(level, 0.05, past)
    both = [*own, SweepRun("reverted-1", "reverted", past)]
    assert to_come(SweepFit(runs, arms), both, state.planned, sweep(), "control") == pytest.approx(
        exact, rel=0.02
    )


def test_a_comparison_goes_on_while_a_step_is_expected_to_save_regret() -> None:
    state = run_state(curve_points(BUDGET))
    arms = {"control": arm(0.61), "reverted": arm(0.50, 0.002)}

    def decided(saved: float) -> Decision:
        free = Prospects(4000.0, worth=saved)
        fit = fit_with(0.50, 0.002)
        return decide(
            state, fit, arms, control="control", sweep=comparison("control", "reverted"), prospects=free
        )

    assert (decided(3e-5).action, decided(3e-5).cause) == (Action.EXTEND, Cause.QUESTION_OPEN)
    assert "a step is expected to better the arm that is chosen by 3e-05" in decided(3e-5).reason
    assert decided(1e-5).action is Action.FINISH
