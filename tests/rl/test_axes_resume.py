"""Runs with the objective's axes switched on: killed and resumed, billed, and their references reset.

Shape letters: none; runs are the tiny ones of ``tests.rl.tiny``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scalerl_lab.records import EndReason, LedgerKind
from scalerl_lab.rl.checkpoint_index import newest_whole
from tests.rl.batches import TABLES
from tests.rl.tiny import Killed, Recorder, numbers_of, run_to, tiny_recipe

GRANT = 30.0
SCHEDULES: list[dict[str, Any]] = [
    {"off_policy": {"type": "pipeline", "max_lag": 1}, "batch": {"prompts_per_step": 3, "mini_batches": 2}},
    {"off_policy": {"type": "ppo_off_policy", "k": 3}},
    {"off_policy": {"type": "sync"}, "batch": {"prompts_per_step": 2, "mini_batches": 2, "epochs": 2}},
]
TRIGGERS: dict[str, dict[str, Any]] = {
    "every_steps": {"every_steps": 3, "new_share": 0.6},
    "kl_above": {"kl_above": 1e-4, "reset_optimizer": True},
    "stalled_points": {"stalled_points": 1, "reset_optimizer": True},
}


def combinations() -> list[dict[str, Any]]:
    """As many recipes as the longest table has rows, which between them use every row of every table."""
    tables = {choice: list(TABLES[choice][0]) for choice in TABLES}
    longest = max(len(tables[choice]) for choice in ("advantage", "mismatch_weight", "kl.estimator", "loss"))
    found = []
    for number in range(longest):
        row = {choice: names[number % len(names)] for choice, names in tables.items()}
        estimator = row["kl.estimator"]
        # Without a ratio and without weights an old anchor is refused, as nothing reads it.
        unread = (row["loss"], row["mismatch_weight"]) == ("reinforce", "none")
        found.append(
            {
                **SCHEDULES[number % len(SCHEDULES)],
                "anchor": "gen" if unread else "old",
                "numerics": {"trainer_head": "bf16", "generator_head": "bf16"},
                "loss": {"type": row["loss"]},
                "advantage": {"type": row["advantage"]},
                "aggregation": {"type": row["aggregation"]},
                "mismatch_weight": {"type": row["mismatch_weight"]},
                # As a loss, k1 is refused.
                "kl": {"type": "reward" if estimator == "k1" else "loss", "estimator": estimator},
                "reference": TRIGGERS[row["reference"]],
                "entropy_bonus": 0.01 * (number % 2),
            }
        )
    return found


COMBINATIONS = combinations()


def test_every_row_is_run() -> None:
    for choice in ("loss", "advantage", "aggregation", "mismatch_weight"):
        assert {each[choice]["type"] for each in COMBINATIONS} == set(TABLES[choice][0])
    assert {each["kl"]["estimator"] for each in COMBINATIONS} == set(TABLES["kl.estimator"][0])
    assert TRIGGERS.keys() == TABLES["reference"][0].keys()


@pytest.mark.parametrize("number", range(len(COMBINATIONS)))
def test_killed_and_resumed_it_is_the_run_that_never_stopped(tmp_path: Path, number: int) -> None:
    recipe = tiny_recipe(**COMBINATIONS[number])
    whole, broken = Recorder(GRANT), Recorder(GRANT, kill_at=4 + recipe.batch.steps_per_rollout)
    assert run_to(whole, tmp_path / "whole", recipe).reason is EndReason.GRANT_REACHED
    with pytest.raises(Killed):
        run_to(broken, tmp_path / "broken", recipe)
    run_to(broken, tmp_path / "broken", recipe, 2)
    assert len(whole.points) >= 3
    assert numbers_of(broken.points) == numbers_of(whole.points)
    mine, theirs = newest_whole(tmp_path / "broken" / "run"), newest_whole(tmp_path / "whole" / "run")
    assert mine is not None
    assert theirs is not None
    for file in ("policy", "optimizer", "frozen", "rollout"):
        assert mine.state["files"][f"{file}.safetensors"] == theirs.state["files"][f"{file}.safetensors"]
    assert mine.state["trainer"] == theirs.state["trainer"]
    assert mine.state["tally"] == theirs.state["tally"]


def points_of(tmp_path: Path, **changes: Any) -> Recorder:
    recorder = Recorder(15.0)
    run_to(recorder, tmp_path / "run", tiny_recipe(**changes))
    return recorder


def state_of(tmp_path: Path) -> dict[str, Any]:
    found = newest_whole(tmp_path / "run" / "run")
    assert found is not None
    return dict(found.state)


def test_a_run_without_the_axes_keeps_no_frozen_weights_and_has_no_kl(tmp_path: Path) -> None:
    recorder = points_of(tmp_path)
    assert {point.kl for point in recorder.points} == {None}
    assert "frozen.safetensors" not in state_of(tmp_path)["files"]


def test_a_reference_that_follows_every_step_is_never_far(tmp_path: Path) -> None:
    """The KL of a step is to the weights just before it: 0, but for the rounding of another batch width."""
    kl = {"type": "loss", "estimator": "k2"}
    near = points_of(tmp_path / "near", kl=kl, reference={"every_steps": 1})
    far = points_of(tmp_path / "far", kl=kl)
    last = far.points[-1].kl
    assert last is not None
    assert abs(last) > 1e-3
    assert all(abs(point.kl) < 1e-5 for point in near.points[1:] if point.kl is not None)
    assert near.points[1].kl is not None
    assert state_of(tmp_path / "near")["trainer"]["resets"] == near.steps[-1]
    assert state_of(tmp_path / "far")["trainer"]["resets"] == 0


def test_passes_of_frozen_policies_are_billed(tmp_path: Path) -> None:
    """A pass forward is a third of a training pass: the first step, from equal starts, shows both."""
    changes: dict[str, Any] = {
        "off_policy": {"type": "sync"},
        "loss": {"type": "reinforce"},
        "evaluation": {"every_steps": 1, "num_prompts": 8, "samples_per_prompt": 2},
    }
    plain = points_of(tmp_path / "plain", **changes).points[1].flops
    one = points_of(tmp_path / "one", kl={"type": "loss"}, **changes).points[1].flops
    two = points_of(tmp_path / "two", kl={"type": "reward"}, anchor="old", **changes).points[1].flops
    forward = one - plain
    assert forward > 0
    assert two - one == forward
    # Generation reads a prompt once and each token once; training reads every row three times over.
    assert 3 * forward < plain < 3 * forward + 3 * forward


def test_steps_on_a_rollout_are_counted_and_atomic(tmp_path: Path) -> None:
    """Four steps a rollout: points and beats at multiples of 4, and a stop in between waits."""
    changes = SCHEDULES[2] | {"numerics": {"trainer_head": "bf16", "generator_head": "bf16"}}
    recorder = Recorder(GRANT, stop_at=5)
    ended = run_to(recorder, tmp_path, tiny_recipe(**changes))
    assert (ended.reason, ended.step) == (EndReason.STOPPED, 8)
    assert recorder.steps == [4, 8]
    assert [entry.to_step for entry in recorder.entries(LedgerKind.TRAIN)] == [4, 8]
    assert recorder.points[1].lag == 0.0


def test_where_the_time_went_is_told_and_adds_up(tmp_path: Path) -> None:
    recorder = points_of(tmp_path)
    assert recorder.points[0].tokens_per_s is None
    for point in recorder.points[1:]:
        shares = (
            point.generation_share,
            point.update_share,
            point.reward_share,
            point.waiting_share,
            point.evaluation_share,
        )
        assert all(share is not None and 0.0 <= share < 1.0 for share in shares)
        assert sum(share or 0.0 for share in shares) == pytest.approx(1.0)
        assert point.tokens_per_s is not None
        assert point.trained_tokens_per_s is not None
        # This recipe drops prompts without variance: they are generated, and not trained on.
        assert point.prompts_dropped is not None
        assert 0 < point.trained_tokens_per_s < point.tokens_per_s
