"""What was known when it was decided, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scalerl_lab.config.sweep import GpuHours, Rule
from scalerl_lab.records import Action, Decision, Evidence, FitStatus
from scalerl_lab.report.story_picture import Ahead, picture
from tests.report.handmade import around
from tests.report.told import BUDGET, EVIDENCE, FIT, FORECAST, RULE, decided, run


def kill(gpu_hours: float = 4000.0, evidence: Evidence = EVIDENCE, granted: float = BUDGET) -> Decision:
    return decided(1, gpu_hours, Action.KILL, evidence=evidence, granted=granted).decision


def test_the_band_opens_to_the_recorded_interval() -> None:
    found = picture(kill(), run().points, BUDGET, RULE)
    assert found is not None
    first, middle, end = found.ahead[0], found.ahead[32], found.ahead[-1]
    # The law: 0.2 + 0.4 / (1 + 4000 / C), at 4,000 just 0.4; on record at 16,000: 0.53 [0.50, 0.57].
    assert first == Ahead(4000.0, 0.4, 0.4, 0.4)
    assert end.gpu_hours == 16_000.0
    assert end.median == pytest.approx(0.53)
    assert end.low80 == pytest.approx(0.50)
    assert end.high80 == pytest.approx(0.57)
    # At 10,000 the law gives 0.485714; ln 2.5 / ln 4 = 0.660964 of the way, to 0.01 above the law there.
    assert middle.gpu_hours == 10_000.0
    assert middle.median == pytest.approx(0.492324, abs=1e-6)
    assert middle.low80 == pytest.approx(0.472495, abs=1e-6)
    assert middle.high80 == pytest.approx(0.518763, abs=1e-6)


def test_points_are_split_at_the_decision() -> None:
    found = picture(kill(), run().points, BUDGET, RULE)
    assert found is not None
    assert found.seen == ((0.0, 0.20), (1000.0, 0.29), (2000.0, 0.34), (4000.0, 0.40))
    assert found.later == ((6000.0, 0.43), (8000.0, 0.46))


def test_the_reference_is_the_controls_ceiling_less_the_margin() -> None:
    found = picture(kill(), run().points, BUDGET, RULE)
    assert found is not None
    assert found.reference == pytest.approx(0.64)
    # From the first fitted point, 0.29, to the reference, 0.64, with 6 % to spare on either side.
    assert found.low == pytest.approx(0.29 - 0.021)
    assert found.high == pytest.approx(0.64 + 0.021)


def test_a_reference_far_off_is_not_drawn() -> None:
    found = picture(kill(evidence=replace(EVIDENCE, margin=0.9)), run().points, BUDGET, RULE)
    assert found is not None
    assert found.reference is None
    assert found.low > 0.2


def test_hours_to_a_level_have_no_place_among_pass_rates() -> None:
    rule = Rule(quantity=GpuHours(pass_rate=0.5))
    found = picture(kill(), run().points, BUDGET, rule)
    assert found is not None
    assert found.reference is None


def test_the_control_is_held_against_nothing() -> None:
    found = picture(kill(evidence=replace(EVIDENCE, difference=None)), run().points, BUDGET, RULE)
    assert found is not None
    assert found.reference is None


def test_beyond_the_forecast_there_is_a_line_and_no_band() -> None:
    found = picture(kill(8000.0, granted=20_000.0), run().points, BUDGET, RULE)
    assert found is not None
    assert found.last == 20_000.0
    known = [a for a in found.ahead if a.low80 is not None]
    assert known[-1].gpu_hours == BUDGET
    beyond = found.ahead[-1]
    # 0.01 above the law from the forecast on: 0.2 + 0.4 / 1.2 + 0.01.
    assert (beyond.gpu_hours, beyond.low80) == (20_000.0, None)
    assert beyond.median == pytest.approx(0.543333, abs=1e-6)


def test_without_a_law_the_way_starts_at_the_last_value() -> None:
    bare = replace(FIT, status=FitStatus.NOT_IDENTIFIED, ceiling=None)
    found = picture(kill(evidence=replace(EVIDENCE, fit=bare)), run().points, BUDGET, RULE)
    assert found is not None
    assert found.ahead[0].median == 0.40
    assert found.ahead[-1].median == pytest.approx(0.53)
    assert (found.ceiling, found.identified) == (None, False)


def test_a_wide_ceiling_does_not_squeeze_the_curve() -> None:
    wide = replace(FIT, status=FitStatus.NOT_IDENTIFIED, ceiling=around(0.6, 0.35))
    found = picture(kill(evidence=replace(EVIDENCE, fit=wide)), run().points, BUDGET, RULE)
    assert found is not None
    assert found.high < 0.7


def test_a_decision_without_evidence_still_has_its_points() -> None:
    found = picture(kill(evidence=Evidence(None, None, None, None, None, None)), run().points, BUDGET, RULE)
    assert found is not None
    assert (found.ahead, found.ceiling, found.reference) == ((), None, None)
    assert len(found.seen) == 4


def test_no_picture_before_the_first_trained_point() -> None:
    assert picture(kill(0.0), run().points, BUDGET, RULE) is None
    assert picture(kill(0.0), (), BUDGET, RULE) is None


def test_at_the_budget_nothing_lies_ahead() -> None:
    at_end = replace(EVIDENCE, forecast=replace(FORECAST, gpu_hours=8000.0))
    found = picture(kill(8000.0, at_end, granted=8000.0), run().points, 8000.0, RULE)
    assert found is not None
    assert found.ahead == ()
