"""The measurement beside TRL: that both sides do the same work, and what is told of their turns."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rl.throughput import SCHEDULES, STEPS, Turns, compare, recipe_of, told

PROMPTS, GENERATIONS, ROUNDS = 4, 4, 2


def test_rates_and_ratios_by_hand() -> None:
    """Steps of 16 completions: 128 in a turn; ours at 64, 32 and 128 a second, 2, 3 and 5 times TRL's."""
    ours = Turns([2.0, 4.0, 1.0], [1.0, 1.0, 1.0], [1280, 1280, 1280])
    theirs = Turns([4.0, 12.0, 5.0], [4.0, 4.0, 4.0], [1408, 1280, 1152])
    recipe = recipe_of("alone", PROMPTS, GENERATIONS)
    words = [" ".join(line.split()) for line in told("alone", recipe, ours, theirs)]
    assert words == [
        "alone ours 64 completions/s by the clock, 128 per processor second, 10.0 tokens each",
        "alone TRL 26 completions/s by the clock, 32 per processor second, 10.0 tokens each",
        "alone ratio 3.00 by the clock; 80 % of 3 turns within 2.20 to 4.60",
        "alone ratio 4.00 per processor second; 80 % of 3 turns within 4.00 to 4.00",
    ]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the warm start lies that all schedules share."""
    return tmp_path_factory.mktemp("warm")


@pytest.mark.peer
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_both_sides_write_alike(schedule: str, cache: Path) -> None:
    """As many turns, of completions of like length; a mean of 256 is sure to half a token."""
    pytest.importorskip("trl", reason="TRL is not installed")
    recipe = recipe_of(schedule, PROMPTS, GENERATIONS)
    ours, theirs = compare(schedule, recipe, ROUNDS, cache)
    completions = ROUNDS * STEPS * PROMPTS * GENERATIONS
    assert len(ours.wall_s) == len(theirs.wall_s) == ROUNDS
    assert all(second > 0.0 for turns in (ours, theirs) for second in (*turns.wall_s, *turns.cpu_s))
    mine, other = (sum(turns.tokens) / completions for turns in (ours, theirs))
    assert 9.0 < mine <= recipe.sampling.max_response_tokens
    assert abs(mine - other) < 1.5
