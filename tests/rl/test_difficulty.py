"""The difficulty filter: what it counts, what it leaves out, who pays, and that a run remembers."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalerl_lab.config.curriculum import PassRateBand
from scalerl_lab.engines.policy import build_policy
from scalerl_lab.records import LedgerKind
from scalerl_lab.rl.checkpoint_index import newest_whole
from scalerl_lab.rl.curriculum import prompt_order
from scalerl_lab.rl.difficulty import left_out, pass_rate_band, pass_rates
from scalerl_lab.tasks import build_tasks
from tests.rl.tiny import Recorder, run_to, tiny_recipe

BAND = {"type": "pass_rate_band", "samples": 4}


def test_minimaxs_band_by_hand() -> None:
    cfg = PassRateBand(samples=10, above=0.0, below=0.9)
    kept = [right for right in range(11) if pass_rate_band(cfg, right / 10)]
    assert kept == [1, 2, 3, 4, 5, 6, 7, 8]
    half = PassRateBand(samples=10, above=0.3, below=0.7)
    assert [right for right in range(11) if pass_rate_band(half, right / 10)] == [4, 5, 6]


@pytest.mark.parametrize(("samples", "parts"), [(300, 22), (4, 1)])
def test_every_training_prompt_is_tried_once_whatever_the_parts(samples: int, parts: int) -> None:
    """1,024 rows at once: 3 of 64 prompts in 300 samples, 22 parts whose last holds one; or all at once."""
    recipe = tiny_recipe(length_control={"type": "truncate"}, warm_start={"type": "none"})
    tasks = build_tasks(recipe.tasks)
    policy = build_policy(recipe.model, tasks.tokenizer.size, 0)
    rates, work = pass_rates(recipe, tasks, policy, 0, samples)
    assert len(rates) == 64
    assert all(0.0 <= rate <= 1.0 and (rate * samples) % 1.0 == pytest.approx(0, abs=1e-9) for rate in rates)
    rows = parts * min(1024 // samples, 64) * samples
    assert rows < work.tokens <= 10 * rows + parts * 64 * 10


def test_prompts_left_out_never_come_and_are_remembered() -> None:
    cfg = tiny_recipe(curriculum={"type": "uniform"}).curriculum
    order, again = prompt_order(cfg, 10, 0), prompt_order(cfg, 10, 0)
    order.leave_out({1, 4, 7})
    assert order.pool_size == 7
    assert sorted(order.next_prompts(7) or []) == [0, 2, 3, 5, 6, 8, 9]
    again.load(order.state())
    assert again.pool_size == 7
    assert again.next_prompts(7) == order.next_prompts(7)
    assert order.next_prompts(8) is None


def test_the_run_pays_for_it_apart_from_training_and_remembers(tmp_path: Path) -> None:
    recipe = tiny_recipe(difficulty_filter=BAND)
    recorder = Recorder(1e9, stop_at=8)
    run_to(recorder, tmp_path, recipe)
    (entry,) = recorder.entries(LedgerKind.DIFFICULTY)
    assert entry.flops > 0
    assert (recorder.points[0].gpu_hours, recorder.points[0].flops) == (0.0, 0)
    newest = newest_whole(tmp_path / "run")
    assert newest is not None
    curriculum = newest.state["rollout"]["curriculum"]
    out = set(curriculum["left_out"])
    assert 0 < len(out) < 64
    assert not out & {int(prompt) for prompt in curriculum["history"]}
    plain = Recorder(1e9, stop_at=8)
    run_to(plain, tmp_path / "plain", tiny_recipe())
    assert not plain.entries(LedgerKind.DIFFICULTY)
    # What is neither always nor never solved has variance more often.
    assert recorder.points[-1].prompts_dropped < plain.points[-1].prompts_dropped


def test_without_the_filter_nothing_is_generated() -> None:
    recipe = tiny_recipe()
    tasks = build_tasks(recipe.tasks)
    prompts, work = left_out(recipe, tasks, build_policy(recipe.model, tasks.tokenizer.size, 0), 0)
    assert (prompts, work.tokens, work.attended) == (frozenset(), 0, 0)
