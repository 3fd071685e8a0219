"""Length controls against numbers worked by hand. Shape letters: B rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scalerl_lab.config.rewards import Interruption, LengthPenalty, Truncation
from scalerl_lab.rl.lengths import interruption_phrase, length_penalty, thinking_budgets
from tests.rl.batches import floats


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


LENGTHS = floats(1, 80, 85, 90, 100, 130, 90, 100)
CORRECT = torch.tensor([True, True, True, True, True, True, False, False])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [0, 0, -0.25, -0.5, -1, -1, 0, 0]),
        ({"applies_to": "all"}, [0, 0, -0.25, -0.5, -1, -1, -0.5, -1]),
        ({"applies_to": "all", "scale": 0.1}, [0, 0, -0.025, -0.05, -0.1, -0.1, -0.05, -0.1]),
    ],
    ids=["scalerl", "dapo", "magistral"],
)
def test_penalty_by_hand(changes: dict[str, Any], expected: list[float]) -> None:
    """Limit 100, window 20: nothing up to 80 tokens, then linear down to -scale, never more."""
    got = length_penalty(LengthPenalty(window_fraction=0.2, **changes), CORRECT, LENGTHS, 100)
    torch.testing.assert_close(got, floats(*expected), rtol=1e-12, atol=1e-12)


def test_penalty_keeps_the_papers_window() -> None:
    """ScaleRL's default: 0.143 of 14,336 tokens is a window of 2,050."""
    lengths = floats(12_285, 14_336 - 1025, 14_336)
    got = length_penalty(LengthPenalty(), torch.ones(3, dtype=torch.bool), lengths, 14_336)
    torch.testing.assert_close(got, floats(0, -0.5, -1), rtol=0, atol=1e-4)


def test_dapos_window() -> None:
    """Eq. 13: 16,384 tokens are free, the punishment is full 4,096 later: a fifth of 20,480."""
    cfg = LengthPenalty(window_fraction=0.2, applies_to="all")
    lengths = floats(16_384, 16_384 + 1024, 20_480)
    got = length_penalty(cfg, torch.zeros(3, dtype=torch.bool), lengths, 20_480)
    torch.testing.assert_close(got, floats(0, -0.25, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("cfg", [Truncation(), Interruption()])
def test_other_controls_leave_rewards_alone(cfg: Truncation | Interruption) -> None:
    assert length_penalty(cfg, CORRECT, LENGTHS, 100).tolist() == [0.0] * 8


def test_budgets_are_uniform_between_the_fractions() -> None:
    cfg = Interruption(low_fraction=0.5, high_fraction=0.6)
    budget_B = thinking_budgets(cfg, 100, 11_000, generator())
    assert budget_B is not None
    assert budget_B.dtype == torch.long
    count = torch.bincount(budget_B, minlength=101)
    assert count[:50].sum() == count[61:].sum() == 0
    # 11 values, 1,000 expected each, sd 30: six of them.
    assert (count[50:61] - 1000).abs().max() < 180


def test_the_papers_budgets() -> None:
    budget_B = thinking_budgets(Interruption(), 14_336, 40_000, generator(1))
    assert budget_B is not None
    assert 10_236 <= budget_B.min() < 10_240
    assert 12_282 < budget_B.max() <= 12_286


@pytest.mark.parametrize("limit", [2, 3, 5])
def test_tiny_limits_leave_room_on_both_sides(limit: int) -> None:
    cfg = Interruption(low_fraction=0.01, high_fraction=0.99)
    budget_B = thinking_budgets(cfg, limit, 200, generator())
    assert budget_B is not None
    assert set(budget_B.tolist()) == set(range(1, limit))


def test_budgets_come_from_the_generator_alone() -> None:
    cfg = Interruption()
    torch.manual_seed(0)
    first = thinking_budgets(cfg, 1000, 8, generator(7))
    torch.manual_seed(1)
    again, other = thinking_budgets(cfg, 1000, 8, generator(7)), thinking_budgets(cfg, 1000, 8, generator(8))
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("cfg", [Truncation(), LengthPenalty()])
def test_only_interruption_interrupts(cfg: Truncation | LengthPenalty) -> None:
    assert thinking_budgets(cfg, 100, 4, generator()) is None
    assert interruption_phrase(cfg) is None


def test_the_phrase_is_the_recipes() -> None:
    assert interruption_phrase(Interruption(phrase="stop =")) == "stop ="
