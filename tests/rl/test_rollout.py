"""Schedules: what is in flight, how old it is when it trains, and the order of prompts."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scalerl_lab.config.sampling import OffPolicy, Pipeline, PPOOffPolicy, Sync
from scalerl_lab.engines.policy import build_policy
from scalerl_lab.records import EndReason
from scalerl_lab.rl.off_policy import SCHEDULES, schedule_of
from scalerl_lab.rl.rollout import NoBatch, Rollout, Verified, decoding_of
from scalerl_lab.rl.streams import stream
from scalerl_lab.tasks import build_tasks
from tests.rl.tiny import tiny_recipe

STEPS = 12


def rolled(off_policy: OffPolicy, **changes: object) -> list[Verified]:
    """Batches of a policy that never ends a completion early, so that all lengths are the limit."""
    recipe = tiny_recipe(off_policy=off_policy.model_dump(), **changes)
    tasks = build_tasks(recipe.tasks)
    policy = build_policy(recipe.model, tasks.tokenizer.size, 0)
    rollout = Rollout(recipe, tasks, policy, seed=0)
    found = [rollout.next_batch(step) for step in range(STEPS)]
    assert all(isinstance(each, Verified) for each in found)
    return found  # type: ignore[return-value]


def written(verified: Verified) -> tuple[torch.Tensor, torch.Tensor]:
    mask = verified.finished.mask_BT > 0
    return verified.finished.version_BT[mask], verified.lag_BT[mask]


@pytest.mark.parametrize("max_lag", [1, 3, 8])
def test_pipeline_lag_reaches_its_bound_and_never_passes_it(max_lag: int) -> None:
    for step, verified in enumerate(rolled(Pipeline(max_lag=max_lag))):
        version, lag = written(verified)
        assert int(lag.max()) == min(step, max_lag)
        assert int(lag.min()) >= 0
        assert torch.equal(step - version, lag)


def test_pipeline_tokens_of_a_row_get_newer_in_equal_parts() -> None:
    # Limit 10 and a phrase of one token in 4 parts: 2.75, 5.5, 8.25, 11 -> up to 3, 6, 9, 11.
    verified = rolled(Pipeline(max_lag=3))[7]
    for row, response in enumerate(verified.finished.responses()):
        start = int(verified.finished.prompt_length_B[row])
        versions = verified.finished.version_BT[row, start : start + len(response)].tolist()
        expected = [4] * 3 + [5] * 3 + [6] * 3 + [7] * 2
        known = [(v, e) for v, e in zip(versions, expected, strict=False) if v >= 0]
        assert all(v == e for v, e in known)
        assert len(response) - len(known) in (0, 1)


@pytest.mark.parametrize("k", [1, 4])
def test_ppo_off_policy_lags_run_from_0_to_k_minus_1(k: int) -> None:
    for step, verified in enumerate(rolled(PPOOffPolicy(k=k))):
        _, lag = written(verified)
        assert lag.unique().tolist() == [step % k]


def test_sync_has_no_lag() -> None:
    assert all(int(v.lag_BT.max()) == 0 for v in rolled(Sync()))


@given(st.integers(1, 12), st.integers(0, 60), st.integers(1, 40))
def test_in_flight_batches_only_grow_and_are_whole_when_consumed(lag: int, step: int, limit: int) -> None:
    cfg = Pipeline(max_lag=lag)
    schedule = schedule_of(cfg)
    assert schedule.share(cfg, step, step) == Fraction(1)
    reached = [math.ceil(limit * schedule.share(cfg, step, b)) for b in range(step, step + lag + 1)]
    assert reached == sorted(reached, reverse=True)
    assert reached[-1] >= 1
    assert schedule.last_batch(cfg, step) - step + 1 == schedule.num_blocks(cfg)


def test_every_schedule_is_in_the_table() -> None:
    assert set(SCHEDULES) == {"pipeline", "ppo_off_policy", "sync"}


def test_rewards_are_the_verifiers_and_rows_of_a_prompt_lie_together() -> None:
    recipe = tiny_recipe()
    tasks = build_tasks(recipe.tasks)
    verified = rolled(Pipeline(max_lag=2))[5]
    finished, completions = verified.finished, verified.completions
    assert completions.prompt_index_B.tolist() == [p for p in range(4) for _ in range(4)]
    by_prompt = {problem.prompt: problem for problem in tasks.train}
    for row, response in enumerate(finished.responses()):
        prompt = tuple(finished.tokens_BT[row, : int(finished.prompt_length_B[row])].tolist())
        assert prompt == tuple(finished.tokens_BT[row // 4 * 4, : len(prompt)].tolist())
        right = tasks.verify(by_prompt[prompt], response)
        assert completions.raw_reward_B[row].item() == (1.0 if right else -1.0)
        assert completions.num_tokens_B[row].item() == int(finished.mask_BT[row].sum())


def test_budgets_differ_between_the_rows_of_a_prompt_and_stay_in_their_range() -> None:
    budgets = set()
    for verified in rolled(Pipeline(max_lag=1)):
        finished = verified.finished
        for row in finished.interrupted_B.nonzero()[:, 0].tolist():
            start = int(finished.prompt_length_B[row])
            budgets.add(int((finished.mask_BT[row, start:] == 0).nonzero()[0, 0]))
    assert budgets == {6, 7, 8}


def test_a_pool_too_small_for_the_next_batch_drains_what_is_in_flight() -> None:
    recipe = tiny_recipe(curriculum={"type": "no_positive_resampling", "threshold": 1e-5})
    tasks = build_tasks(recipe.tasks)
    rollout = Rollout(recipe, tasks, build_policy(recipe.model, tasks.tokenizer.size, 0), seed=0)
    seen = 0
    for step in range(200):
        # As if every prompt were solved when it is consumed.
        if isinstance(rollout.next_batch(step), NoBatch):
            break
        for prompt in range(step * 4, step * 4 + 4):
            rollout._curriculum.record(prompt % 64, 1.0)
        seen += 1
    assert 13 <= seen < 200
    dry = rollout.next_batch(seen)
    assert isinstance(dry, NoBatch)
    assert dry.reason is EndReason.NO_PROMPTS
    assert rollout.state()["prompts"] == {}


def test_the_phrase_is_the_length_controls() -> None:
    tasks = build_tasks(tiny_recipe().tasks)
    assert decoding_of(tiny_recipe(), tasks, 1.0).phrase == (tasks.tokenizer.marker_id,)
    assert decoding_of(tiny_recipe(length_control={"type": "truncate"}), tasks, 1.0).phrase == ()


def test_streams_are_their_own_and_repeat() -> None:
    def draw(*key: object) -> list[float]:
        return torch.rand(3, generator=stream(*key)).tolist()  # type: ignore[arg-type]

    assert draw(1, "sample", 5) == draw(1, "sample", 5)
    others = [draw(1, "sample", 6), draw(1, "budget", 5), draw(2, "sample", 5), draw(1, "sample", 5)]
    assert len({tuple(each) for each in others}) == 4
