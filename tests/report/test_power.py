"""What a plan could see: verdicts on arms whose posteriors are known, and power by hand from them."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import pytest

from scalerl_lab.config.sweep import Rule
from scalerl_lab.decide.quantity import Measure
from scalerl_lab.errors import UserError
from scalerl_lab.fit import PooledCeiling
from scalerl_lab.fit.law import hours_to_reach
from scalerl_lab.plan import plan_file
from scalerl_lab.report.power import (
    LEAST_SWEEPS,
    Design,
    PowerAsked,
    Seen,
    SeenOnce,
    enough,
    measure_power,
    truths,
    verdicts,
)
from scalerl_lab.report.power_table import answer
from tests.decide.test_quantity import arm

PHI = NormalDist().cdf


def rule(**changes: Any) -> Rule:
    return Rule.model_validate(changes)


def measure(**changes: Any) -> Measure:
    return Measure(rule(**changes), 16_000.0)


def open_arm(ceiling: float) -> PooledCeiling:
    return replace(arm(ceiling), identified=False)


def test_seen_is_what_the_report_calls_lower_by_more_than_the_margin() -> None:
    """All but certain differences of 0.015 and 0.03, and a margin of 0.02: only the second is seen."""
    arms = {
        "control": arm(0.61),
        "worse_0": arm(0.595, 1e-4),
        "worse_1": arm(0.58, 1e-4),
        "tied_2": arm(0.61),
    }
    found = verdicts(arms, measure(), ["worse_0", "worse_1", "tied_2"])
    assert (found.worse, found.tied) == ((1, 2), (0, 1))
    # Without a margin the first is seen, too.
    assert verdicts(arms, measure(margin=0.0), ["worse_0", "worse_1"]).worse == (2, 2)
    # 0.95 is demanded: at sd 0.01, a difference of 0.02 + 1.6 sd is not seen, and one of 0.02 + 1.7 sd is.
    near = {"control": arm(0.61), "worse_0": arm(0.574, 0.01), "worse_1": arm(0.573, 0.01)}
    assert verdicts(near, measure(), ["worse_0"]).worse == (0, 1)
    assert verdicts(near, measure(), ["worse_1"]).worse == (1, 1)


def test_what_is_not_identified_or_not_fitted_is_not_seen() -> None:
    arms = {"control": arm(0.61), "worse_0": open_arm(0.5), "worse_1": arm(0.5)}
    found = verdicts(arms, measure(), ["worse_0", "worse_1", "worse_2"])
    assert found.worse == (1, 3)
    assert found.reaches == pytest.approx((-0.11,))
    assert verdicts({**arms, "control": open_arm(0.61)}, measure(), ["worse_1"]).worse == (0, 1)


def test_the_rule_s_quantity_and_reference_are_its_own() -> None:
    """The same ceilings, but one needs 40 % more GPU-hours to 0.5; and a level instead of the control."""
    arms = {"control": arm(0.6), "worse_0": arm(0.6, midpoint=2800.0), "worse_1": arm(0.5)}
    hours = measure(quantity={"type": "gpu_hours", "pass_rate": 0.5}, margin=0.1)
    assert verdicts(arms, hours, ["worse_0"]).reaches == pytest.approx((-math.log(1.4),))
    assert verdicts(arms, measure(), ["worse_0"]).worse == (0, 1)
    level = measure(reference={"type": "level", "value": 0.65})
    assert verdicts(arms, level, ["worse_0"]).reaches == pytest.approx((-0.05,))
    # 0.4 + 0.1 / (1 + (2000 / 4000)^2) = 0.48 against 0.56.
    rates = measure(quantity={"type": "pass_rate", "gpu_hours": 4000.0})
    assert verdicts(arms, rates, ["worse_1"]).reaches == pytest.approx((-0.08,))
    best = measure(reference={"type": "best"})
    assert verdicts(arms, best, ["worse_1"]).reaches == pytest.approx((-0.1,))


def seen_of(*sweeps: SeenOnce, gpu_hours: float = 100.0) -> Seen:
    return Seen(Design(1, 1, gpu_hours, 1), 0.02, 0.04, list(sweeps))


def once(*reaches: float, arms: int | None = None) -> SeenOnce:
    return SeenOnce((0.01,), reaches, (0, len(reaches) if arms is None else arms), (0, 1))


def test_power_is_that_of_quantiles_which_scatter_normally() -> None:
    # Mean -0.03, standard deviation 0.01: one of them above -0.02.
    half = once(-0.02, -0.03, -0.04)
    assert seen_of(half).power is not None
    assert seen_of(half).power.value == pytest.approx(PHI(1.0))  # type: ignore[union-attr]
    # One arm in four is not identified.
    three = once(-0.02, -0.03, -0.04, arms=4)
    assert seen_of(three).power.value == pytest.approx(0.75 * PHI(1.0))  # type: ignore[union-attr]
    none = once(arms=4)
    assert seen_of(none).power.value == 0.0  # type: ignore[union-attr]
    assert seen_of().power is None


def test_the_difference_that_most_arms_would_show() -> None:
    # The mean has to move from -0.03 to -0.02 - 0.8416 sd: 0.0016 less than the 0.04 asked for.
    visible = seen_of(once(-0.02, -0.03, -0.04)).visible
    assert visible == pytest.approx(0.04 - 0.01 + 0.01 * 0.8416, abs=1e-6)
    assert seen_of(once(-0.02, -0.03, -0.04, arms=4)).visible is None


def test_nothing_is_concluded_from_few_sweeps() -> None:
    sees, blind = once(-0.05, -0.051, -0.052), once(-0.01, -0.011, -0.012)
    able = seen_of(*[sees] * LEAST_SWEEPS)
    assert enough([able]) is able
    assert enough([seen_of(*[sees] * (LEAST_SWEEPS - 1))]) is None
    # A cheaper one that was simulated too few times might be enough, too.
    cheap = seen_of(blind, gpu_hours=50.0)
    assert enough([able, cheap]) is None
    assert enough([able, seen_of(*[blind] * LEAST_SWEEPS, gpu_hours=50.0)]) is able
    asked = PowerAsked(rule(), 0.04)
    assert "too few to say what is enough" in answer([able, cheap], asked)
    assert answer([able], asked).startswith("Enough to see a difference of 0.04 in 80 % of the arms: 200 ")


def test_a_difference_that_the_margin_hides() -> None:
    found = [seen_of(*[once(-0.05, -0.06, -0.07)] * LEAST_SWEEPS)]
    text = answer(found, PowerAsked(rule(), 0.02))
    assert "hides a difference of 0.02: at the margin itself power is about 5 %" in text
    # About 0.04 - 0.04 + 0.0083 would do, so 0.01; a margin of half of the difference.
    assert "rule.margin below 0.02, such as 0.01" in text


def test_the_truth_is_worse_by_the_difference_in_the_rule_s_quantity() -> None:
    asked = PowerAsked(rule(quantity={"type": "pass_rate", "gpu_hours": 2542.0}), 0.04)
    tied, worse = truths(asked, 16_000.0)
    # At the midpoint half of the gain is reached: 0.08 in ceiling for 0.04 there.
    assert [t.A for t in (tied, worse)] == pytest.approx([0.61, 0.53])
    asked = PowerAsked(rule(quantity={"type": "gpu_hours", "pass_rate": 0.5}), 0.25)
    tied, worse = truths(asked, 16_000.0)
    hours = [float(hours_to_reach(0.5, t.r0, t.A, t.B, t.C_mid)) for t in (tied, worse)]
    assert hours[1] / hours[0] == pytest.approx(1.25)
    level = PowerAsked(rule(reference={"type": "level", "value": 0.7}), 0.04)
    assert [t.A for t in truths(level, 16_000.0)] == pytest.approx([0.7, 0.66])


@pytest.mark.parametrize(
    ("changes", "difference", "said"),
    [
        ({}, 0.21, "ask for less than 0.21"),
        ({}, 0.7, "would not rise at all"),
        ({"quantity": {"type": "gpu_hours", "pass_rate": 0.7}}, 0.2, "GPU-hours to 0.7 cannot be"),
        ({"reference": {"type": "level", "value": 0.3}}, 0.05, "above 0.4 is needed"),
    ],
)
def test_what_cannot_be_simulated(changes: dict[str, Any], difference: float, said: str) -> None:
    with pytest.raises(UserError, match=said):
        truths(PowerAsked(rule(**changes), difference), 16_000.0)


def test_the_plan_s_design_comes_first_then_cheaper_ones() -> None:
    """A clock by which a simulation takes nothing: five of the plan's own before any other's."""
    plan = plan_file("loo_16k", "cluster")
    small = [Design(1, 1, 4000.0, 2), Design(1, 1, 2000.0, 2)]
    ticks = iter([0.0, *(float(k >= 2 * LEAST_SWEEPS) for k in range(100))])
    found = measure_power(
        plan, PowerAsked(plan.sweep.rule, 0.1, 0.5), designs=small, clock=lambda: next(ticks)
    )
    assert [len(seen.sweeps) for seen in found] == [LEAST_SWEEPS, 0]
    # No arm is dropped, whether or not it is identified that early.
    assert all(one.worse[1] == 1 and one.tied[1] == 1 for one in found[0].sweeps)
