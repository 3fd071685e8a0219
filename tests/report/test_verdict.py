"""A verdict follows from probabilities by the documented thresholds, in the documented order."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from scalerl_lab.report import forest, page, terminal
from scalerl_lab.report.verdict import Finding, Speed, Verdict, judge

SAME = Speed(1.0, 0.1, 0.1)
EQUAL = Finding(
    is_control=False,
    identified=True,
    control_identified=True,
    failed=False,
    diverged=None,
    probability_below=0.02,
    probability_above=0.03,
    speed=SAME,
    level=0.565,
    killed_at=(),
    at_budget=0.59,
    control_at_budget=0.60,
)


def verdict(finding: Finding) -> Verdict:
    return judge(finding, margin=0.02, demanded=0.95)[0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, Verdict.NO_DIFFERENCE),
        ({"equals_control": True}, Verdict.NO_EFFECT),
        ({"equals_control": True, "diverged": "collapsed"}, Verdict.DIVERGED),
        ({"probability_above": 0.95}, Verdict.RAISES),
        ({"probability_above": 0.9499}, Verdict.NO_DIFFERENCE),
        ({"probability_below": 0.95}, Verdict.LOWERS),
        ({"speed": Speed(0.8, 0.95, 0.0)}, Verdict.FASTER),
        ({"speed": Speed(1.3, 0.0, 0.95)}, Verdict.SLOWER),
        ({"speed": Speed(0.8, 0.94, 0.0)}, Verdict.NO_DIFFERENCE),
        ({"speed": None}, Verdict.NO_DIFFERENCE),
        # The ceiling comes before the speed.
        ({"probability_below": 0.99, "speed": Speed(0.5, 0.99, 0.0)}, Verdict.LOWERS),
        # No verdict on a ceiling that cannot be told, whatever the probabilities.
        ({"identified": False, "probability_above": 0.99}, Verdict.NOT_IDENTIFIED),
        ({"control_identified": False, "probability_above": 0.99}, Verdict.NOT_IDENTIFIED),
        ({"probability_below": None, "probability_above": None}, Verdict.NOT_IDENTIFIED),
        ({"diverged": "pass rate collapsed", "probability_below": 0.99}, Verdict.DIVERGED),
        ({"failed": True, "diverged": "pass rate collapsed"}, Verdict.FAILED),
        ({"is_control": True, "probability_above": 0.99}, Verdict.CONTROL),
    ],
)
def test_verdict(change: dict[str, object], expected: Verdict) -> None:
    assert verdict(replace(EQUAL, **change)) is expected


def test_details_have_their_numbers() -> None:
    _, equal = judge(EQUAL, margin=0.02, demanded=0.95)
    assert equal == (
        "Ceilings within 0.02 with probability 0.95; reaches 0.565 in 1.00 times the control's GPU-hours."
    )
    leaning = replace(EQUAL, probability_below=0.8, killed_at=(7200.0, 8000.0), speed=None)
    _, text = judge(leaning, margin=0.02, demanded=0.95)
    assert text == (
        "Killed at 7,200 and 8,000 GPU-hours. Leans lower, by more than 0.02 with probability 0.80."
    )
    never = replace(EQUAL, probability_below=0.999, speed=Speed(math.inf, 0.0, 1.0))
    assert judge(never, margin=0.02, demanded=0.95)[1].endswith("; not seen to reach 0.565.")
    open_ = replace(EQUAL, identified=False)
    assert judge(open_, margin=0.02, demanded=0.95)[1] == (
        "What is open: its own ceiling. At the budget 0.590, the control 0.600."
    )


def test_every_verdict_is_listed_on_the_page_and_has_a_style() -> None:
    assert set(page.ORDER) == set(Verdict) - {Verdict.CONTROL}
    assert set(terminal.VERDICT_STYLE) == set(forest.SLUG) == set(forest.SIGN) == set(Verdict)
