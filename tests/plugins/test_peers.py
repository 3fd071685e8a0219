"""Ray Tune's and Optuna's rules in a replay: small cases worked out by hand from what the rules promise."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from scalerl_lab.decide.replay import Policy, Replayed, replay
from scalerl_lab.plugins.peers import (
    PEERS,
    optuna_hyperband,
    optuna_median,
    optuna_sha,
    ray_asha,
    ray_hyperband,
    ray_median,
)
from tests.decide.recorded import level, sweep_of


def used(found: Replayed) -> list[float]:
    return [outcome.state.gpu_hours for outcome in found.outcomes]


@pytest.mark.parametrize(
    ("values", "spent"),
    [
        # The first alone at the first rung goes on; each later one lies below the median of those before.
        ((0.4, 0.3, 0.2, 0.1), [4.0, 1.0, 1.0, 1.0]),
        # Each is better than all before: none is ever stopped.
        ((0.1, 0.2, 0.3, 0.4), [4.0, 4.0, 4.0, 4.0]),
        # Median of 0.2 and 0.4 is 0.3: the third goes on; with it 0.35: the fourth does not.
        ((0.2, 0.4, 0.35, 0.32), [4.0, 4.0, 4.0, 1.0]),
    ],
)
def test_asha_keeps_those_above_a_quantile(values: Sequence[float], spent: list[float]) -> None:
    recorded = sweep_of(level(*values))
    found = replay(recorded, ray_asha(recorded, eta=2.0, grace=0.25))
    assert used(found) == spent
    # Who is at the end is finished by ASHA's own STOP, not killed.
    assert [outcome.killed for outcome in found.outcomes] == [hours < 4.0 for hours in spent]


def test_median_stops_what_is_worse_than_the_median_of_three_others() -> None:
    recorded = sweep_of(level(0.4, 0.3, 0.2, 0.1))
    found = replay(recorded, ray_median(recorded, grace=0.25))
    # In lock-step only the last of four to report sees three others.
    assert used(found) == [4.0, 4.0, 4.0, 1.0]


def test_hyperband_halves_a_bracket_when_all_of_it_have_reported() -> None:
    """max_t is 2 units of two hours: a and b fill a bracket that never halves, c and d one that does."""
    recorded = sweep_of(level(0.4, 0.1, 0.3, 0.2))
    found = replay(recorded, ray_hyperband(recorded, eta=2.0, grace=0.5))
    assert used(found) == [4.0, 4.0, 4.0, 2.0]
    assert [event.order.run_id for event in found.events if event.order.move == "pause"] == ["c"]
    # With one slot c waits for d, and goes on when d has been stopped.
    alone = replay(recorded, ray_hyperband(recorded, eta=2.0, grace=0.5), slots=1)
    assert (used(alone), alone.clock) == ([4.0, 4.0, 4.0, 2.0], 14.0)


def test_optuna_promotes_the_best_part_of_a_rung() -> None:
    recorded = sweep_of(level(0.4, 0.3, 0.2, 0.1))
    found = replay(recorded, optuna_sha(recorded, eta=2.0, grace=0.25))
    assert used(found) == [4.0, 1.0, 1.0, 1.0]


def test_optuna_median_compares_with_completed_trials_only() -> None:
    recorded = sweep_of(level(0.5, 0.5, 0.5, 0.5, 0.5, 0.1, 0.9))
    one_by_one = replay(recorded, optuna_median(recorded, grace=0.5), slots=1)
    assert used(one_by_one) == [4.0] * 5 + [2.0, 4.0]
    assert used(replay(recorded, optuna_median(recorded, grace=0.5))) == [4.0] * 7


def test_optuna_hyperband_is_the_same_every_time() -> None:
    recorded = sweep_of(level(*(0.1 * (place % 5) for place in range(20))))
    first, again = (used(replay(recorded, optuna_hyperband(recorded, eta=2.0, grace=0.25))) for _ in range(2))
    assert first == again
    assert set(first) == {1.0, 2.0, 4.0}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("slots", [None, 3])
@pytest.mark.parametrize("cap", [None, 11.0])
def test_every_rule_comes_to_an_end_and_keeps_the_books(
    name: str, slots: int | None, cap: float | None
) -> None:
    recorded = sweep_of(level(*(0.05 * ((7 * place) % 13) for place in range(9))))
    policy: Policy = PEERS[name](recorded, grace=0.25)
    found = replay(recorded, policy, slots=slots, cap_gpu_hours=cap)
    assert found.spent_gpu_hours == sum(used(found)) <= (cap or 36.0)
    assert max(used(found)) > 0.0
    # Nobody goes on after a kill: at most one order to stop for each run.
    stops = [event.order.run_id for event in found.events if event.order.move in ("kill", "finish")]
    assert len(stops) == len(set(stops))
    if cap is None:
        assert 4.0 in used(found)
