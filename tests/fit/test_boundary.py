"""Regimes of the boundary where the truth is known, and how often a false one is named."""

from __future__ import annotations

import numpy as np
import pytest

from scalerl_lab.fit import Regime, boundary, pass_at_k

LIMITS = {"margin": 0.02, "demanded": 0.8}


def rates(first: float, last: float, problems: int = 4) -> np.ndarray:
    """pass@1 and pass@K of problems that are all alike."""
    return np.tile([first, last], (problems, 1))


@pytest.mark.parametrize(
    ("before", "middle", "after", "regime"),
    [
        ((0.2, 0.9), (0.5, 0.8), (0.6, 0.7), Regime.DIMINISHING),
        ((0.2, 0.9), (0.5, 0.9), (0.6, 0.9), Regime.DIMINISHING),
        ((0.2, 0.5), (0.5, 0.8), (0.6, 0.8), Regime.PLATEAU),
        ((0.2, 0.5), (0.5, 0.8), (0.6, 0.78), Regime.PLATEAU),
        ((0.2, 0.5), (0.5, 0.6), (0.6, 0.8), Regime.SUSTAINED),
        ((0.2, 0.5), (0.5, 0.5), (0.6, 0.52), Regime.DIMINISHING),
    ],
)
def test_problems_that_are_all_alike_leave_no_doubt(
    before: tuple[float, float], middle: tuple[float, float], after: tuple[float, float], regime: Regime
) -> None:
    found = boundary(rates(*before), rates(*middle), rates(*after), **LIMITS)
    assert found.regime is regime
    assert getattr(found, regime.value) == 1.0
    assert found.last_gain.median == pytest.approx(after[1] - before[1])
    assert found.first_gain.low95 == pytest.approx(after[0] - before[0])
    assert found.narrower == float(after[1] < before[1])


def test_two_problems_by_hand() -> None:
    # One problem gains 1, the other loses 1: of the draws of two, 1/4 take the first twice (+1), 1/4 the
    # second twice (-1), 1/2 both (0).
    before, after = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 1.0], [0.0, 0.0]])
    found = boundary(before, before, after, **LIMITS)
    assert found.sustained == pytest.approx(0.25, abs=0.04)
    assert found.diminishing == pytest.approx(0.75, abs=0.04)
    assert found.plateau == 0.0
    assert found.narrower == pytest.approx(0.25, abs=0.04)
    assert found.regime is Regime.OPEN


def test_without_a_middle_a_rise_has_no_name() -> None:
    found = boundary(rates(0.2, 0.5), None, rates(0.6, 0.8), **LIMITS)
    assert (found.regime, found.plateau, found.sustained) == (Regime.OPEN, None, None)
    assert found.late_gain is None
    assert boundary(rates(0.2, 0.5), None, rates(0.6, 0.5), **LIMITS).regime is Regime.DIMINISHING


def test_the_difference_is_paired_by_problem() -> None:
    # Very unlike problems that each gain 0.1: no doubt, though pass@K itself is uncertain by 0.1.
    start = np.repeat(np.linspace(0.0, 0.9, 10)[:, None], 2, axis=1)
    found = boundary(start, start + 0.05, start + 0.1, **LIMITS)
    assert found.last_gain.high95 - found.last_gain.low95 < 1e-9
    assert found.regime is Regime.SUSTAINED


def test_a_boundary_that_did_not_move_is_seldom_called_sustained() -> None:
    rng = np.random.default_rng(1)
    named = []
    for _ in range(150):
        solvable = rng.beta(0.4, 2.0, 100)
        draws = [pass_at_k(64, rng.binomial(64, solvable), [1, 32]) for _ in range(3)]
        named.append(boundary(*draws, **LIMITS).regime)
    assert named.count(Regime.SUSTAINED) <= 3
    assert named.count(Regime.DIMINISHING) >= 60


def test_a_boundary_that_doubles_twice_is_mostly_called_sustained() -> None:
    rng = np.random.default_rng(2)
    named = []
    for _ in range(50):
        shares = [np.where(rng.random(100) < reach, 0.3, 0.0) for reach in (0.2, 0.4, 0.8)]
        draws = [pass_at_k(64, rng.binomial(64, share), [1, 32]) for share in shares]
        named.append(boundary(*draws, **LIMITS).regime)
    assert named.count(Regime.SUSTAINED) >= 48
