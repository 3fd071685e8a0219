"""What the report on domains says of rates that are known."""

from __future__ import annotations

import json

import pytest

from scalerl_lab.records import Measurement
from scalerl_lab.report.domains import Domains, domains, domains_json, domains_table, drawn
from tests.report.test_boundary import states, text_of


def told(step: int, domain: str, metric: str, value: float, problem_set: str = "heldout") -> Measurement:
    return Measurement(1, 0.0, step, step / 3, problem_set, domain, metric, value, 0.004, 64, 256)


def found() -> Domains:
    runs = states({"control": 0.3})
    measured = {
        runs[0].planned.run_id: [
            # Out of order, and beside others that are not curves of a domain.
            told(60, "math", "pass_rate", 0.5),
            told(0, "math", "pass_rate", 0.1),
            told(0, "math", "tolerant_pass_rate", 0.35),
            told(60, "math", "tolerant_pass_rate", 0.55),
            told(30, "code", "pass_rate", 0.2),
            told(0, "code", "pass_rate", 0.2),
            told(0, "", "tolerant_pass_rate", 0.3),
            told(0, "math", "pass_rate", 0.9, "aime"),
            told(0, "math", "pass_at_4", 0.9),
        ],
        runs[1].planned.run_id: [told(0, "", "tolerant_pass_rate", 0.3)],
    }
    return domains("loo-1", "loo", runs[:3], measured)


def test_curves_hold_the_held_out_points_of_each_domain_in_order() -> None:
    code, math = found().curves
    assert (code.label, code.domain, math.domain) == ("control:0", "code", "math")
    assert [(point.step, point.pass_rate) for point in math.points] == [(0, 0.1), (60, 0.5)]
    assert [point.tolerant_pass_rate for point in math.points] == [0.35, 0.55]
    assert [point.tolerant_pass_rate for point in code.points] == [None, None]
    assert math.points[1].gpu_hours == pytest.approx(20.0)
    assert len(found().unmeasured) == 2


def test_the_text_tells_a_gain_from_one_in_format() -> None:
    (row,) = [line for line in text_of(domains_table(found())).splitlines() if "math" in line]
    assert row.split() == ["math", "64", "▁▅", "0.100", "0.500", "±", ".004", "+0.400", "+0.200"]


def test_the_document_is_json() -> None:
    document = json.loads(json.dumps(domains_json(found()), allow_nan=False))
    assert document["curves"][1]["points"][1]["standard_error"] == 0.004


def test_drawings_by_hand() -> None:
    assert drawn([0.0, 0.5, 1.0]) == "▁▅█"
    assert drawn([0.13]) == "▂"
    many = drawn([step / 100 for step in range(101)])
    assert all(len(drawn([0.5] * num)) <= 24 for num in range(1, 200))
    assert len(drawn([0.5] * 24)) == 24
    assert (many[0], many[-1]) == ("▁", "█")
