"""Which trials are to stop: references by hand, and what real fits say of ties and of a worse trial."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from scalerl_lab.fit.law import pass_rate
from scalerl_lab.plugins import verdict
from scalerl_lab.plugins.verdict import (
    MOST_POINTS,
    MOST_SIBLINGS,
    ForecastRule,
    History,
    diverged,
    has_diverged,
    judge,
    siblings_of,
    thinned,
)

STEPS = np.arange(1.0, 41.0)


def curve(A: float, seed: int, noise: float = 0.006) -> np.ndarray:
    """A sigmoid that has half of its gain at step 7 of 40."""
    law = pass_rate(STEPS, 0.3, A, 2.0, 7.0)
    return np.asarray(law + noise * np.random.default_rng(seed).standard_normal(STEPS.size))


def history(name: str, values: np.ndarray, upto: int, **is_: bool) -> History:
    return History(name, (tuple(STEPS[:upto]), tuple(values[:upto])), **is_)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"margin": -0.1}, "margin is -0.1"),
        ({"margin": float("nan")}, "margin is nan"),
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"threshold": 0.5}, "threshold is 0.5"),
        ({"target": 0}, "target is 0"),
        ({"interval": -1}, "interval is -1"),
        ({"target": 10, "warm_up": 10}, "warm_up"),
        ({"reference": "median"}, "reference is 'median'"),
        ({"reference": float("inf")}, "reference is inf"),
        ({"bounds": (1.0, 0.0)}, "bounds is"),
        ({"on_nan": "kill"}, "on_nan is 'kill'"),
    ],
)
def test_a_rule_says_what_is_wrong_and_what_is_allowed(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match="allowed is") as error:
        ForecastRule(**({"margin": 0.02} | wrong))  # type: ignore[arg-type]
    assert named in str(error.value)


def test_looks_are_where_a_multiple_of_the_interval_is_passed() -> None:
    rule = ForecastRule(margin=0.02, target=100)
    looks = [step for step in range(1, 21) if rule.is_look(step, step - 1)]
    assert looks == [5, 10, 15, 20]
    assert rule.is_look(11, 4)
    assert not rule.is_look(9, 5)
    late = ForecastRule(margin=0.02, target=100, warm_up=15)
    assert [step for step in range(1, 21) if late.is_look(step, step - 1)] == [15, 20]
    always = ForecastRule(margin=0.02)
    assert [step for step in range(1, 4) if always.is_look(step, step - 1)] == [1, 2, 3]
    assert not always.is_look(3, 3)
    assert not always.is_look(2, 3)


def test_siblings_are_the_best_and_the_longest_and_bounded() -> None:
    rule = ForecastRule(margin=0.02)
    summaries = {f"{i:03}": (float(i), 1.0 - i / 1000) for i in range(300)}
    found = siblings_of(["000", "001"], summaries, rule)
    assert len(found) == MOST_SIBLINGS - 2
    assert set(found) == {f"{i:03}" for i in (*range(2, 13), *range(289, 300))}
    falling = siblings_of(["000"], {"000": (1, 0.0), "a": (2, 3.0), "b": (1, 2.0), "c": (1, 9.0)}, rule)
    assert falling == ["c", "a", "b"]
    assert siblings_of([], {"x": (1, 3.0), "y": (1, 2.0)}, ForecastRule(margin=0, minimise=True)) == [
        "y",
        "x",
    ]


def test_long_curves_are_averaged_over_neighbours() -> None:
    compute = np.arange(1.0, 4 * MOST_POINTS + 1)
    steps, values = thinned(compute, 2.0 * compute)
    assert len(steps) == MOST_POINTS
    assert steps[:2] == (2.5, 6.5)
    assert steps[-1] == 4 * MOST_POINTS - 1.5
    assert values[0] == 5.0
    short = thinned(compute[:MOST_POINTS], compute[:MOST_POINTS])
    assert short[0] == tuple(compute[:MOST_POINTS])
    uneven, _ = thinned(compute[: MOST_POINTS + 3], compute[: MOST_POINTS + 3])
    assert len(uneven) == MOST_POINTS
    assert all(np.diff(uneven) > 0.0)


class Drawn:
    """Forecasts given by hand instead of fitted: the mean of each trial, with a spread common to all."""

    def __init__(self, means: dict[str, float], sd: float) -> None:
        self.means, self.sd, self.joint_fits = means, sd, 0
        self.common = special.ndtri((np.arange(1024) + 0.5) / 1024)

    def alone(self, history: History, rule: ForecastRule) -> verdict._Seen:
        return verdict._Seen(history, self.means[history.name] + self.sd * self.common, "")

    def together(self, histories: list[History], rule: ForecastRule) -> dict[str, verdict._Seen]:
        self.joint_fits += 1
        return {h.name: self.alone(h, rule) for h in histories}


def by_hand(monkeypatch: pytest.MonkeyPatch, means: dict[str, float], sd: float = 0.001) -> Drawn:
    drawn = Drawn(means, sd)
    monkeypatch.setattr(verdict, "_alone", drawn.alone)
    monkeypatch.setattr(verdict, "_together", drawn.together)
    return drawn


def of(name: str, compute: float = 10.0, **is_: bool) -> History:
    return History(name, ((compute,), (0.5,)), **is_)


RULE = ForecastRule(margin=0.02, target=40.0)


def test_the_best_trial_is_the_reference_and_is_never_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = by_hand(monkeypatch, {"a": 0.60, "b": 0.59, "c": 0.50})
    found = judge([of("a"), of("b"), of("c")], ["a", "b", "c"], RULE)
    assert {name: v.stop for name, v in found.items()} == {"a": False, "b": False, "c": True}
    assert found["c"].reference == "a"
    assert found["c"].probability == pytest.approx(0.0, abs=1e-9)
    assert "the best of all" in found["a"].reason
    assert drawn.joint_fits == 1


def test_no_joint_fit_where_nobody_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = by_hand(monkeypatch, {"a": 0.60, "b": 0.595})
    judge([of("a"), of("b")], ["a", "b"], RULE)
    assert drawn.joint_fits == 0


@pytest.mark.parametrize(
    ("best", "reference"),
    [
        (of("a", lost=True), "b"),  # failed or stopped: its height was never reached
        (of("a", diverged=True), "b"),  # its height is gone
        (of("a", 20.0, runs=False), "b"),  # ended half-way
        (of("a", 38.0, runs=False), "a"),  # ended at the target, as steps from 0 count it
    ],
)
def test_who_does_not_arrive_is_no_reference(
    monkeypatch: pytest.MonkeyPatch, best: History, reference: str
) -> None:
    by_hand(monkeypatch, {"a": 0.70, "b": 0.60, "c": 0.50})
    assert judge([best, of("b"), of("c")], ["c"], RULE)["c"].reference == reference


def test_a_control_is_the_mean_of_its_seeds_and_never_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand(monkeypatch, {"k1": 0.60, "k2": 0.56, "x": 0.57, "y": 0.55, "best": 0.9})
    rule = ForecastRule(margin=0.02, target=40.0, reference="control")
    trials = [of("k1", control=True), of("k2", control=True), of("x"), of("y"), of("best")]
    found = judge(trials, ["k2", "x", "y", "best"], rule)
    # The control is at 0.58, so 0.56 is the least that is within the margin.
    assert {name: v.stop for name, v in found.items()} == {"k2": False, "x": False, "y": True, "best": False}
    assert "control is never stopped" in found["k2"].reason
    # Of a control that diverged, the other seed is left: 0.55 is within the margin of 0.56.
    one_left = [of("k1", control=True, diverged=True), of("k2", control=True), of("y")]
    assert not judge(one_left, ["y"], rule)["y"].stop
    none_yet = judge([of("x"), of("y")], ["y"], rule)["y"]
    assert not none_yet.stop
    assert "no forecast of the control" in none_yet.reason


def test_a_divergence_is_two_in_turn_and_its_reason_names_them() -> None:
    nan, inf = float("nan"), float("inf")
    assert [has_diverged(newest) for newest in ((), (nan,), (nan, inf))] == [False, False, True]
    found = diverged((12.0, 13.5, 1500.0), (nan, inf, nan), RULE)
    assert found.stop
    assert found.compute == 1500.0
    assert found.probability is None
    assert found.reason == (
        "Diverged: the last 3 values are no finite numbers (nan, inf), since 12 steps, after 1,500 steps."
    )


def test_a_level_and_the_sign_of_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    # Fits see losses with their sign turned: 2.0 and 2.3.
    by_hand(monkeypatch, {"a": -2.0, "b": -2.3}, sd=0.01)
    rule = ForecastRule(margin=0.1, target=40.0, reference=2.1, minimise=True)
    found = judge([of("a"), of("b")], ["a", "b"], rule)
    assert (found["a"].stop, found["b"].stop) == (False, True)
    assert "forecast at 2.3 [2.287, 2.313]" in found["b"].reason
    assert "the level is 2.1" in found["b"].reason


def test_the_probability_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """With draws that move together, 0.03 below and a margin of 0.02 is a certain loss; apart it is not."""
    by_hand(monkeypatch, {"a": 0.60, "b": 0.57}, sd=0.05)
    joint = judge([of("a"), of("b")], ["b"], ForecastRule(margin=0.02, target=40.0, threshold=0.49))["b"]
    assert joint.stop
    assert joint.probability == pytest.approx(0.0, abs=1e-9)
    alone = verdict._chance(
        0.57 + 0.05 * np.random.default_rng(1).standard_normal(4000),
        0.58 + 0.05 * np.random.default_rng(2).standard_normal(4000),
        joint=False,
    )
    # P(N(-0.01, 0.05 * 2^0.5) > 0) = 0.4438 by tables.
    assert alone == pytest.approx(0.4438, abs=0.02)


def test_past_the_target_nothing_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand(monkeypatch, {"a": 0.6, "b": 0.4})
    assert "target of 40 steps is reached" in judge([of("a"), of("b", 40.0)], ["b"], RULE)["b"].reason


def test_a_single_trial_and_young_ones_go_on() -> None:
    (alone,) = judge([history("a", curve(0.6, 0), 20)], ["a"], RULE).values()
    assert not alone.stop
    young = judge([history("a", curve(0.6, 0), 40), history("b", curve(0.3, 1), 5)], ["b"], RULE)["b"]
    assert not young.stop
    assert young.reason == "5 points to fit, 6 demanded, after 5 steps."
    empty = judge([History("a", ((), ()))], ["a"], RULE)["a"]
    assert (empty.stop, empty.compute) == (False, 0.0)


def test_equal_trials_are_not_stopped_and_a_worse_one_is() -> None:
    """Eight equal noisy sigmoids, one that is lower by 0.09: looked at at 35 and 50 % of the target."""
    curves = {f"tie{i}": curve(0.6, i) for i in range(8)} | {"worse": curve(0.51, 99)}
    stopped: dict[str, int] = {}
    for upto in (14, 20):
        fleet = [history(name, values, upto) for name, values in curves.items() if name not in stopped]
        names = [one.name for one in fleet]
        for due in (names[:5], names[5:]):
            stopped |= {name: upto for name, v in judge(fleet, due, RULE).items() if v.stop}
    assert set(stopped) == {"worse"}


def test_losses_mirror_scores() -> None:
    """A metric that falls is judged as its mirror image is, in its own numbers."""
    rising = [history("a", curve(0.6, 0), 24), history("b", curve(0.45, 1), 24)]
    falling = [History(h.name, (h.points[0], tuple(3.0 - v for v in h.points[1]))) for h in rising]
    up = judge(rising, ["b"], RULE)["b"]
    down = judge(falling, ["b"], ForecastRule(margin=0.02, target=40.0, minimise=True))["b"]
    assert up.stop
    assert down.stop
    assert "forecast at 2.5" in down.reason
    assert down.probability == pytest.approx(up.probability, abs=0.01)
