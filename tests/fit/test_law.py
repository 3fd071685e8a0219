"""The law by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalerl_lab.fit import gain_share, hours_to_reach, pass_rate


def test_half_of_the_gain_is_reached_at_the_midpoint_for_every_efficiency() -> None:
    assert pass_rate(2542.0, 0.4, 0.61, np.array([0.5, 1.0, 1.92, 5.0]), 2542.0) == pytest.approx(4 * [0.505])


def test_values_by_hand() -> None:
    # (C_mid / C)^B = (1/2)^2 = 1/4, so 4/5 of the gain of 0.5.
    assert float(pass_rate(2.0, 0.2, 0.7, 2.0, 1.0)) == pytest.approx(0.6)
    # (C_mid / C)^B = 2^2 = 4, so 1/5.
    assert float(pass_rate(0.5, 0.2, 0.7, 2.0, 1.0)) == pytest.approx(0.3)
    assert float(gain_share(2.0, 1.0, 1.0)) == pytest.approx(2.0 / 3.0)


def test_no_compute_is_r0_and_endless_compute_the_ceiling() -> None:
    assert pass_rate(np.array([0.0, 1e300]), 0.4, 0.61, 1.92, 2542.0).tolist() == pytest.approx([0.4, 0.61])
    assert float(pass_rate(1e-300, 0.4, 0.61, 9.0, 1e300)) == 0.4


def test_a_ceiling_below_the_start_falls() -> None:
    rates = pass_rate(np.linspace(0.0, 10.0, 50), 0.5, 0.2, 1.5, 2.0)
    assert np.all(np.diff(rates) < 0.0)


def test_it_broadcasts() -> None:
    assert pass_rate(np.ones(4), 0.4, np.full((3, 1), 0.6), 1.0, 1.0).shape == (3, 4)


def test_a_level_is_reached_where_the_law_says() -> None:
    # 3/4 of the gain: (C_mid / C)^2 = 1/3.
    assert float(hours_to_reach(0.55, 0.4, 0.6, 2.0, 1000.0)) == pytest.approx(1000.0 * 3.0**0.5)
    assert float(hours_to_reach(0.5, 0.4, 0.6, 2.0, 1000.0)) == pytest.approx(1000.0)


def test_levels_below_the_start_and_above_the_ceiling() -> None:
    reached = hours_to_reach(
        0.5, np.array([0.5, 0.4, 0.4, 0.6]), np.array([0.6, 0.5, 0.45, 0.55]), 2.0, 1000.0
    )
    assert reached.tolist() == [0.0, np.inf, np.inf, 0.0]


@given(
    level=st.floats(0.41, 0.59),
    B=st.floats(0.3, 6.0),
    C_mid=st.floats(1e-3, 1e6),
)
def test_the_inverse_inverts(level: float, B: float, C_mid: float) -> None:
    hours = hours_to_reach(level, 0.4, 0.6, B, C_mid)
    assert float(pass_rate(hours, 0.4, 0.6, B, C_mid)) == pytest.approx(level, abs=1e-9)


@given(st.floats(1e-3, 1e3), st.floats(0.3, 6.0))
def test_rescaling_compute_and_midpoint_together_changes_nothing(scale: float, B: float) -> None:
    hours = np.geomspace(1.0, 100.0, 7)
    scaled = pass_rate(scale * hours, 0.3, 0.8, B, scale * 10.0)
    assert scaled == pytest.approx(pass_rate(hours, 0.3, 0.8, B, 10.0), rel=1e-9)
