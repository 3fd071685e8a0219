"""Dynamic sampling: prompts without variance are replaced until the batch is full, within bounds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from scalerl_lab.engines.policy import build_policy
from scalerl_lab.engines.rows import Finished
from scalerl_lab.engines.sampler import Work
from scalerl_lab.records import EndReason, LedgerKind
from scalerl_lab.rl import rollout as rollout_module
from scalerl_lab.rl.filters import judge
from scalerl_lab.rl.rollout import NoBatch, Rollout, Verified
from scalerl_lab.tasks import Problem, TaskSet, build_tasks
from tests.rl.tiny import Recorder, run_to, tiny_recipe

SCHEDULES: list[dict[str, Any]] = [
    {"type": "pipeline", "max_lag": 2},
    {"type": "ppo_off_policy", "k": 3},
    {"type": "sync"},
]


def refilling(**changes: Any) -> Any:
    plain = {"zero_variance": "refill", "curriculum": {"type": "uniform"}, "off_policy": {"type": "sync"}}
    return tiny_recipe(**plain | changes)


class Graded:
    """Stands in for the verifier: a prompt varies, is solved or is missed by its number in the data."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tasks: TaskSet, varies: Any) -> None:
        self.number_of = {problem.prompt: number for number, problem in enumerate(tasks.train)}
        self.varies = varies
        self.seen: list[int] = []
        monkeypatch.setattr(rollout_module, "rewards", self.rewards)

    def rewards(self, tasks: TaskSet, problems: list[Problem], finished: Finished) -> torch.Tensor:
        numbers = [self.number_of[problem.prompt] for problem in problems]
        for row, number in enumerate(numbers):
            prompt = finished.tokens_BT[row, : int(finished.prompt_length_B[row])].tolist()
            assert tuple(prompt) == problems[row].prompt
            assert self.number_of[problems[row].prompt] == number
        self.seen += numbers[::4]
        return torch.tensor([1.0 if not self.varies(n) or row % 2 else -1.0 for row, n in enumerate(numbers)])


def started(recipe: Any) -> tuple[Rollout, TaskSet]:
    tasks = build_tasks(recipe.tasks)
    return Rollout(recipe, tasks, build_policy(recipe.model, tasks.tokenizer.size, 0), seed=0), tasks


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda each: each["type"])
def test_every_batch_is_full_of_prompts_that_vary(
    monkeypatch: pytest.MonkeyPatch, schedule: dict[str, Any]
) -> None:
    recipe = refilling(off_policy=schedule)
    rollout, tasks = started(recipe)
    graded = Graded(monkeypatch, tasks, lambda number: number % 3 == 0)
    trained, replaced = [], 0
    for step in range(6):
        verified = rollout.next_batch(step)
        assert isinstance(verified, Verified)
        found = verified.completions
        assert judge(recipe, found).kept_P.tolist() == [True] * 4
        starts = verified.finished.prompt_length_B.tolist()
        rows = verified.finished.tokens_BT.tolist()
        numbers = [graded.number_of[tuple(rows[4 * p][: starts[4 * p]])] for p in range(4)]
        assert len(set(numbers)) == 4
        assert all(number % 3 == 0 for number in numbers)
        trained += numbers
        replaced += verified.replaced.prompts
        # Every replaced prompt was solved: four rewards of +1.
        assert verified.replaced.rows == verified.replaced.reward == 4 * verified.replaced.prompts
        assert int(verified.lag_BT.max()) <= {"pipeline": 2, "ppo_off_policy": 2, "sync": 0}[schedule["type"]]
    consumed = [n for n in graded.seen if n % 3 == 0]
    assert replaced > 0
    if schedule["type"] != "pipeline":
        # What was graded is what was trained on and what was replaced, each once.
        assert sorted(consumed) == sorted(trained)
        assert len(graded.seen) == len(trained) + replaced


def test_k_batches_are_refilled_by_the_policy_that_wrote_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rollout, tasks = started(refilling(off_policy={"type": "ppo_off_policy", "k": 3}))
    Graded(monkeypatch, tasks, lambda number: number % 2 == 0)
    for step in range(6):
        verified = rollout.next_batch(step)
        assert isinstance(verified, Verified)
        version = verified.finished.version_BT[verified.finished.mask_BT > 0]
        assert version.unique().tolist() == [step // 3 * 3]


def test_replaced_prompts_are_generated_for_and_billed(monkeypatch: pytest.MonkeyPatch) -> None:
    work = {}
    for mode in ("drop", "refill"):
        rollout, tasks = started(refilling(zero_variance=mode))
        Graded(monkeypatch, tasks, lambda number: number % 3 == 0)
        rollout.sampler.work = Work()
        verified = rollout.next_batch(0)
        assert isinstance(verified, Verified)
        work[mode] = (rollout.sampler.work.tokens, verified.replaced.prompts)
    assert work["drop"][1] == 0 < work["refill"][1]
    # An untrained policy writes about as much for every prompt: generation grows as the prompts do.
    expected = work["drop"][0] * (4 + work["refill"][1]) / 4
    assert work["refill"][0] == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("max_generated", [2, 5])
def test_the_bound_on_generation_is_kept_and_named(
    monkeypatch: pytest.MonkeyPatch, max_generated: int
) -> None:
    rollout, tasks = started(refilling(refill={"max_generated": max_generated}))
    graded = Graded(monkeypatch, tasks, lambda number: False)
    found = rollout.next_batch(0)
    assert isinstance(found, NoBatch)
    assert found.reason is EndReason.NO_VARIANCE
    assert found.detail == (
        f"of {4 * max_generated} prompts generated for step 1, 0 have completions of differing reward; "
        "4 are needed"
    )
    assert len(graded.seen) == len(set(graded.seen)) == 4 * max_generated
    # Asked again, it says so without generating anew.
    assert rollout.next_batch(0) == found
    assert len(graded.seen) == 4 * max_generated


def test_a_short_batch_is_trained_on_where_the_recipe_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = refilling(refill={"max_generated": 2, "when_short": "train"})
    rollout, tasks = started(recipe)
    first = set(rollout._curriculum._all._queue[:3])
    Graded(monkeypatch, tasks, lambda number: number in first)
    verified = rollout.next_batch(0)
    assert isinstance(verified, Verified)
    assert judge(recipe, verified.completions).kept_P.tolist() == [True, True, True, False]
    assert verified.replaced.prompts == 4


def test_a_pool_that_is_used_up_ends_the_run_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    small = tiny_recipe().tasks.model_dump() | {"num_train": 6}
    rollout, tasks = started(refilling(tasks=small))
    Graded(monkeypatch, tasks, lambda number: False)
    found = rollout.next_batch(0)
    assert isinstance(found, NoBatch)
    assert found.reason is EndReason.NO_PROMPTS
    assert found.detail == "the curriculum has fewer than 4 prompts left to refill step 1, after 4 were tried"


def test_what_was_refilled_and_not_consumed_survives_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = refilling(off_policy={"type": "ppo_off_policy", "k": 3})
    rollout, tasks = started(recipe)
    Graded(monkeypatch, tasks, lambda number: number % 3 == 0)
    rollout.next_batch(0)
    state = rollout.state()
    assert sorted(state["refilled"]) == ["1", "2"]
    again, _ = started(recipe)
    again.load(state, {name: each.clone() for name, each in rollout.sampler.tensors().items()})
    for step in range(1, 5):
        one, two = rollout.next_batch(step), again.next_batch(step)
        assert isinstance(one, Verified)
        assert isinstance(two, Verified)
        assert one.replaced == two.replaced
        for field in dataclasses.fields(one.finished):
            assert torch.equal(getattr(one.finished, field.name), getattr(two.finished, field.name))


def test_a_run_that_cannot_fill_a_batch_says_why_and_bills_what_it_generated(tmp_path: Path) -> None:
    recorder = Recorder(1e9)
    never = refilling(
        refill={"max_generated": 2},
        # Without a warm start no answer of an untrained policy is right.
        warm_start={"type": "none"},
        sampling={"generations_per_prompt": 2, "max_response_tokens": 1},
        length_control={"type": "truncate"},
    )
    ended = run_to(recorder, tmp_path, never)
    assert (ended.reason, ended.step) == (EndReason.NO_VARIANCE, 0)
    assert "of 8 prompts generated for step 1, 0 have" in ended.detail
    (lost,) = recorder.entries(LedgerKind.LOST)
    assert (lost.from_step, lost.to_step) == (0, 1)
    # 16 rows write one token each; 8 prompts are read but for their last token.
    assert lost.flops > 0
    assert [point.step for point in recorder.points] == [0]
