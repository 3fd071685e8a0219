"""Records as JSON: every bit comes back, and nothing else is let in."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalerl_lab.config.profile import WallMeter
from scalerl_lab.records import (
    Evidence,
    Fact,
    Fit,
    RunSpec,
    fact_from_json,
    fact_to_json,
    from_json,
    to_json,
)
from tests.store import story

finite = st.floats(allow_nan=False, allow_infinity=False)


def round_trip(fact: Fact) -> Fact:
    """Through a line of text and back."""
    return fact_from_json(json.loads(json.dumps(fact_to_json(fact))))


@pytest.mark.parametrize("fact", [*story.facts(), story.sandbox()], ids=lambda fact: type(fact).__name__)
def test_every_kind_of_fact_comes_back(fact: Fact) -> None:
    assert round_trip(fact) == fact


@given(number=finite, count=st.integers(min_value=0), maybe=st.none() | finite)
def test_every_number_comes_back_bit_for_bit(number: float, count: int, maybe: float | None) -> None:
    point = replace(story.point(1), gpu_hours=number, flops=count, grad_norm=maybe)
    back = round_trip(point)
    assert back == point
    assert math.copysign(1.0, back.gpu_hours) == math.copysign(1.0, number)  # type: ignore[union-attr]


def test_specs_and_conclusions_come_back() -> None:
    spec = story.plan().runs[2].spec
    for each in (spec, replace(spec, meter=WallMeter())):
        assert from_json(RunSpec, json.loads(json.dumps(to_json(each)))) == each
    for fit in (story.fit("x"), story.too_few("x")):
        assert from_json(Fit, json.loads(json.dumps(to_json(fit)))) == fit
    evidence = story.decision("x").evidence
    assert from_json(Evidence, json.loads(json.dumps(to_json(evidence)))) == evidence


def test_a_line_says_its_kind_and_its_fields() -> None:
    line = fact_to_json(story.checkpoint(3))
    assert line["fact"] == "CheckpointSaved"
    assert set(line) == {"fact", *(field.name for field in fields(story.checkpoint(3)))}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fact": "Point"}, "unknown kind of fact 'Point'; known: TrialStarted"),
        ({"colour": 1}, r"unknown fields \['colour'\]"),
        ({"step": None}, "EvalPoint.step: expected int, got None"),
        ({"step": 1.0}, "EvalPoint.step: expected int, got 1.0"),
        ({"step": True}, "EvalPoint.step: expected int, got True"),
        ({"entropy": "0.1"}, "EvalPoint.entropy: expected a finite number, got '0.1'"),
        ({"entropy": math.inf}, "EvalPoint.entropy: expected a finite number, got inf"),
    ],
)
def test_what_is_not_a_fact_is_named(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fact_from_json(fact_to_json(story.point(1)) | change)


def test_a_missing_field_is_named() -> None:
    line = fact_to_json(story.point(1))
    del line["pass_rate"]
    with pytest.raises(ValueError, match=r"missing fields \['pass_rate'\]"):
        fact_from_json(line)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_does_not_exist_is_not_written(number: float) -> None:
    with pytest.raises(ValueError, match="must be None"):
        fact_to_json(replace(story.point(1), entropy=number))
