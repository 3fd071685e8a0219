"""Length controls against numbers worked by hand. Shape letters: B rows."""

from __future__ import annotations

import pytest
import torch

from scalerl_lab.config.recipe import Interruption, LengthPenalty, Truncation
from scalerl_lab.rl.lengths import interruption_phrase, shaped_reward, thinking_budgets
from tests.rl.batches import floats


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_penalty_by_hand() -> None:
    """Limit 100, window 20: nothing up to 80 tokens, then linear down to -1, never more."""
    length_B = torch.tensor([1, 80, 85, 90, 100, 130, 90, 100])
    raw_B = floats(1, 1, 1, 1, 1, 1, -1, -1)
    got = shaped_reward(LengthPenalty(window_fraction=0.2), raw_B, length_B, 100)
    torch.testing.assert_close(got, floats(1, 1, 0.75, 0.5, 0, 0, -1, -1), rtol=1e-12, atol=1e-12)


def test_penalty_keeps_the_papers_window() -> None:
    """ScaleRL's default: 0.143 of 14,336 tokens is a window of 2,050."""
    got = shaped_reward(
        LengthPenalty(), floats(1, 1, 1), torch.tensor([12_285, 14_336 - 1025, 14_336]), 14_336
    )
    torch.testing.assert_close(got, floats(1, 0.5, 0), rtol=0, atol=1e-4)


@pytest.mark.parametrize("cfg", [Truncation(), Interruption()])
def test_other_controls_leave_rewards_alone(cfg: Truncation | Interruption) -> None:
    raw_B = floats(1, -1, 1)
    assert torch.equal(shaped_reward(cfg, raw_B, torch.tensor([1, 100, 100]), 100), raw_B)


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
