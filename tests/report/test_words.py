"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalerl_lab.report.words import (
    bare,
    clock,
    flops,
    hours,
    num,
    percent,
    probability,
    rate,
    short_hours,
    signed,
)
from tests.report.handmade import around


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (16000.0, "16,000"),
        (99.6, "100"),
        (42.04, "42.0"),
        (9.96, "10.0"),
        (0.42, "0.42"),
        (0.0, "0"),
        (None, "–"),
    ],
)
def test_hours(value: float | None, text: str) -> None:
    assert hours(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "+0.012"), (-0.0344, "−0.034"), (-0.0001, "0.000"), (None, "–")]
)
def test_signed_never_shows_a_signed_zero(value: float | None, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "<0.01"), (0.5, "0.50"), (0.9949, ">0.99"), (0.99, "0.99"), (1.0, ">0.99")]
)
def test_a_probability_never_claims_certainty(value: float, text: str) -> None:
    assert probability(value) == text


def test_brackets_drop_the_leading_zero_only() -> None:
    assert bare(0.605) == ".605"
    assert bare(-0.02) == "−.020"
    assert bare(1.0) == "1.000"
    assert bare(0.0304, sign=True) == "+.030"
    assert rate(around(0.6, 0.1).low80) == "0.500"


def test_short_forms() -> None:
    assert short_hours(14131.0) == "14.1k"
    assert short_hours(842.0) == "842"
    assert flops(4.4e7) == "4.4e7"
    assert flops(1e9) == "1e9"
    assert percent(0.864) == "86 %"
    assert percent(0.012) == "1.2 %"
    assert (num(1, "run"), num(3, "run"), num(1200, "point")) == ("1 run", "3 runs", "1,200 points")


@given(st.floats(0, 1e6))
def test_a_clock_can_be_read_back(seconds: float) -> None:
    text = clock(seconds)
    if text.endswith(" s"):
        back = int(text[:-2])
    else:
        back = 0
        for part in text.split(":"):
            back = 60 * back + int(part)
    assert back == round(seconds)
