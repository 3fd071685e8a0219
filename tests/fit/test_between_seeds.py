"""The spread between seeds, by hand."""

from __future__ import annotations

import math

import pytest

from scalerl_lab.fit import between_seeds


def test_measurement_s_noise_is_taken_off() -> None:
    # Squares of 0.01 twice, over one degree of freedom: 0.0002, less 0.0001.
    found = between_seeds([[(0.70, 0.01), (0.72, 0.01)]])
    assert found is not None
    assert found.sd == pytest.approx(0.01)
    assert (found.degrees, found.num_values, found.num_groups) == (1, 2, 1)
    # Student's t with one degree of freedom is Cauchy's: tan(0.4 pi) at 0.9.
    assert found.half80 == pytest.approx(0.01 * math.tan(0.4 * math.pi))


def test_arms_are_pooled_and_those_with_one_seed_say_nothing() -> None:
    arms = [[(0.70, 0.0), (0.72, 0.0)], [(0.5, 0.0), (0.5, 0.0), (0.53, 0.0)], [(0.1, 0.0)]]
    found = between_seeds(arms)
    assert found is not None
    # 0.0002 about 0.71, and 0.0001 + 0.0001 + 0.0004 about 0.51, over 5 - 2.
    assert found.sd == pytest.approx(math.sqrt(0.0008 / 3.0))
    assert (found.degrees, found.num_values, found.num_groups) == (3, 5, 2)
    assert between_seeds([[(0.1, 0.01)], [], [(0.9, 0.01)]]) is None


def test_seeds_closer_than_their_noise_have_no_spread() -> None:
    found = between_seeds([[(0.70, 0.02), (0.71, 0.02)]])
    assert found is not None
    assert (found.sd, found.half80) == (0.0, 0.0)
