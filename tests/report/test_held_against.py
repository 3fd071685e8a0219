"""A rule's quantity and reference in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scalerl_lab.config.sweep import GpuHours, PassRate, Rule, ToBest, ToLevel
from scalerl_lab.records import Interval
from scalerl_lab.report.held_against import reference_line, reference_words
from tests.report.told import EVIDENCE, NOTHING, RULE


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (RULE, "control's ceiling"),
        (Rule(reference=ToBest()), "best other arm's ceiling"),
        (Rule(quantity=PassRate()), "control's pass rate at the budget"),
        (Rule(quantity=PassRate(gpu_hours=8000.0)), "control's pass rate at 8,000 GPU-hours"),
        (Rule(quantity=GpuHours(pass_rate=0.5), reference=ToBest()), "best other arm's GPU-hours to 0.5"),
        (Rule(reference=ToLevel(value=0.6)), "level that the rule names"),
    ],
)
def test_the_reference_has_a_name(rule: Rule, words: str) -> None:
    assert reference_words(rule) == words


def test_pass_rates() -> None:
    assert reference_line(EVIDENCE, RULE) == (
        "Control's ceiling: 0.660 [.650, .670]; difference −0.060 [−.080, −.040], "
        "P(below by more than 0.02) 0.97 (0.95 demanded)."
    )


def test_hours_to_a_level() -> None:
    evidence = replace(
        EVIDENCE,
        control_ceiling=Interval(4000.0, 3600.0, 4500.0, 3300.0, 5000.0),
        difference=Interval(-0.25, -0.4, 0.1, -0.5, 0.2),
    )
    assert reference_line(evidence, Rule(quantity=GpuHours(pass_rate=0.5), kill_probability=0.95)) == (
        "Control's GPU-hours to 0.5: 4,000 [3,600, 4,500]; saves −25 % of them [−40 %, 10 %], "
        "P(slower by more than 2.0 %) 0.97 (0.95 demanded)."
    )


def test_nothing_known_is_not_said() -> None:
    assert reference_line(NOTHING, RULE) == ""
    alone = replace(EVIDENCE, difference=None, probability_below=None)
    assert reference_line(alone, RULE) == "Control's ceiling: 0.660 [.650, .670]."
