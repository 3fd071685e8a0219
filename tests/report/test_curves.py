"""Axes: round ticks inside the range, and places that can be read back."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalerl_lab.report.curves import HEIGHT, WIDTH, Frame, frame, rate_ticks, ticks
from scalerl_lab.report.view import SweepView
from tests.report.simulate import Sim

AXES = Frame(first=100.0, last=10000.0, low=0.2, high=0.6, fit_start=1500.0, budget=8000.0)


def test_places_by_hand() -> None:
    # A hundred-fold range: its middle in the logarithm is 1,000.
    left, right = AXES.x(100.0), AXES.x(10000.0)
    assert AXES.x(1000.0) == pytest.approx((left + right) / 2.0)
    assert AXES.y(0.4) == pytest.approx((AXES.y(0.2) + AXES.y(0.6)) / 2.0)
    assert 0 < left < right < WIDTH
    assert 0 < AXES.y(0.6) < AXES.y(0.2) < HEIGHT


def test_ticks_by_hand() -> None:
    assert ticks(700.0, 18000.0) == [1000.0, 2000.0, 5000.0, 10000.0]
    assert rate_ticks(0.19, 0.68) == [0.2, 0.3, 0.4, 0.5, 0.6]


@given(st.floats(1e-3, 1e6), st.floats(1.5, 1e6))
def test_ticks_lie_in_the_range_and_are_few(first: float, factor: float) -> None:
    last = first * factor
    found = ticks(first, last)
    assert all(first <= value <= last for value in found)
    assert found == sorted(found)
    assert len(found) <= max(6, math.ceil(math.log10(factor)) + 1)


@given(st.floats(0.0, 0.9), st.floats(0.02, 1.0))
def test_rate_ticks_lie_in_the_range(low: float, width: float) -> None:
    found = rate_ticks(low, low + width)
    assert all(low - 1e-6 <= value <= low + width + 1e-6 for value in found)
    assert len(found) <= 7


def test_the_frame_holds_all_points_of_the_fit(seen: SweepView) -> None:
    axes = frame(seen.runs, 1500.0)
    assert axes is not None
    for run in seen.runs:
        for point in run.points:
            if point.gpu_hours >= 1500.0:
                assert axes.first <= point.gpu_hours <= axes.last
                assert axes.low <= point.pass_rate <= axes.high
    assert frame((), 1500.0) is None


def test_early_points_have_a_frame_before_the_fit_start(sim: Sim) -> None:
    """A page that is made before any run has come near the fit start shows what there is."""
    early = [replace(state, points=state.points[:2]) for state in sim.states]
    runs = Sim(sim.plan, early).view().runs
    axes = frame(runs, 9000.0)
    assert axes is not None
    # Points at 0 and 800 GPU-hours; a third of the fit start would be 3,000.
    assert axes.first == pytest.approx(720.0)
    assert all(axes.low <= run.points[1].pass_rate <= axes.high for run in runs)
