"""Curricula: epochs, retirement and resumption."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalerl_lab.config.curriculum import NoPositiveResampling, PromptStage, UniformCurriculum
from scalerl_lab.errors import CheckpointError, ConfigError
from scalerl_lab.rl import curriculum
from scalerl_lab.rl.curriculum import CURRICULA, PromptOrder, Queue, Stage, prompt_order
from scalerl_lab.tasks import Problem
from tests.rl.batches import CURRICULUM_CHOICES


def take(order: PromptOrder, num: int) -> list[int]:
    batch = order.next_prompts(num)
    assert batch is not None
    return batch


@pytest.mark.parametrize("name", CURRICULA)
def test_every_epoch_visits_every_prompt_once(name: str) -> None:
    order = prompt_order(CURRICULUM_CHOICES[name](), 12, seed=0)
    epochs = [take(order, 4) + take(order, 4) + take(order, 4) for _ in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert order.epoch == 2


def test_orders_come_from_the_seed() -> None:
    one, same, other = (prompt_order(UniformCurriculum(), 50, seed=s) for s in (1, 1, 2))
    first = take(one, 50)
    assert take(same, 50) == first
    assert take(other, 50) != first


def test_the_order_is_the_same_in_every_process_and_version() -> None:
    """Frozen numbers: another order would be another curve under the same run identity."""
    order = prompt_order(UniformCurriculum(), 6, seed=3)
    assert take(order, 6) + take(order, 6) == [1, 2, 5, 0, 3, 4, 5, 2, 0, 1, 3, 4]


@given(
    num_prompts=st.integers(1, 30),
    batch=st.integers(1, 30),
    steps=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_batches_are_distinct_and_prompts_evenly_used(
    num_prompts: int, batch: int, steps: int, seed: int
) -> None:
    order = prompt_order(UniformCurriculum(), num_prompts, seed)
    if batch > num_prompts:
        assert order.next_prompts(batch) is None
        return
    used = dict.fromkeys(range(num_prompts), 0)
    for _ in range(steps):
        prompts = take(order, batch)
        assert len(set(prompts)) == len(prompts) == batch
        for prompt in prompts:
            used[prompt] += 1
    # A prompt that its batch already holds waits for the next one, so one visit may be borrowed.
    assert max(used.values()) - min(used.values()) <= 2
    assert sum(used.values()) == steps * batch


@pytest.mark.parametrize(
    ("pass_rate", "threshold", "retired"),
    [
        (15 / 16, 0.9, True),
        (14 / 16, 0.9, False),
        (0.9, 0.9, True),
        (0.8999999761581421, 0.9, True),  # 9 of 10 in float32
        (0.89, 0.9, False),
        (1.0, 1.0, True),
        (0.5, 0.5, True),
    ],
)
def test_no_positive_resampling_threshold(pass_rate: float, threshold: float, retired: bool) -> None:
    order = prompt_order(NoPositiveResampling(threshold=threshold), 4, seed=0)
    first = take(order, 4)
    order.record(first[0], pass_rate)
    order.record(first[1], 0.0)
    assert order.pool_size == (3 if retired else 4)
    later = {prompt for _ in range(8) for prompt in take(order, 3)}
    assert (first[0] not in later) is retired


def test_uniform_never_retires() -> None:
    order = prompt_order(UniformCurriculum(), 3, seed=0)
    for prompt in range(3):
        order.record(prompt, 1.0)
    assert sorted(take(order, 3)) == [0, 1, 2]


def test_retirement_is_for_good() -> None:
    order = prompt_order(NoPositiveResampling(), 3, seed=0)
    order.record(1, 1.0)
    order.record(1, 0.0)
    resumed = prompt_order(NoPositiveResampling(), 3, seed=0)
    resumed.load(order.state())
    for each in (order, resumed):
        assert [sorted(take(each, 2)) for _ in range(4)] == [[0, 2]] * 4


def test_a_late_pass_rate_still_retires_within_the_epoch_that_has_begun() -> None:
    order = prompt_order(NoPositiveResampling(), 6, seed=5)
    first = take(order, 6)
    second = take(order, 1)
    late = next(prompt for prompt in first if prompt not in second)
    order.record(late, 1.0)
    rest = [prompt for _ in range(4) for prompt in take(order, 1)]
    assert sorted(second + rest + [late]) == list(range(6))


def test_none_when_the_pool_is_smaller_than_a_batch() -> None:
    order = prompt_order(NoPositiveResampling(), 5, seed=0)
    for prompt in (0, 1):
        order.record(prompt, 0.95)
    assert sorted(take(order, 3)) == [2, 3, 4]
    order.record(2, 0.95)
    before = order.state()
    assert order.next_prompts(3) is None
    assert order.state() == before
    assert sorted(take(order, 2)) == [3, 4]


steps_of_a_run = st.lists(
    st.tuples(st.integers(1, 4), st.lists(st.sampled_from([0.0, 0.5, 0.9, 1.0]), min_size=4, max_size=4)),
    min_size=1,
    max_size=25,
)


def play(order: PromptOrder, steps: list[tuple[int, list[float]]]) -> list[list[int] | None]:
    seen = []
    for num, rates in steps:
        batch = order.next_prompts(num)
        seen.append(batch)
        for prompt, rate in zip(batch or [], rates, strict=False):
            order.record(prompt, rate)
    return seen


@pytest.mark.parametrize("name", CURRICULA)
@given(before=steps_of_a_run, after=steps_of_a_run, seed=st.integers(0, 50))
def test_a_resumed_run_goes_on_exactly(
    name: str, before: list[tuple[int, list[float]]], after: list[tuple[int, list[float]]], seed: int
) -> None:
    cfg = CURRICULUM_CHOICES[name]()
    undisturbed = prompt_order(cfg, 17, seed)
    play(undisturbed, before)
    state = json.loads(json.dumps(undisturbed.state()))
    resumed = prompt_order(cfg, 17, seed)
    resumed.load(state)
    assert resumed.pool_size == undisturbed.pool_size
    assert play(resumed, after) == play(undisturbed, after)
    assert resumed.state() == undisturbed.state()


def test_the_state_is_a_copy() -> None:
    order = prompt_order(UniformCurriculum(), 4, seed=0)
    order.record(0, 0.5)
    state = order.state()
    frozen = json.dumps(state)
    take(order, 3)
    order.record(0, 1.0)
    assert json.dumps(state) == frozen
    resumed = prompt_order(UniformCurriculum(), 4, seed=0)
    resumed.load(state)
    take(resumed, 3)
    resumed.record(0, 1.0)
    assert json.dumps(state) == frozen


def test_the_history_is_kept() -> None:
    order = prompt_order(UniformCurriculum(), 4, seed=0)
    for prompt, rate in ((2, 0.25), (0, 1.0), (2, 0.5)):
        order.record(prompt, rate)
    assert order.state()["history"] == {"2": [0.25, 0.5], "0": [1.0]}


def test_refusals_name_the_numbers() -> None:
    order = prompt_order(UniformCurriculum(), 4, seed=0)
    with pytest.raises(ValueError, match="prompt 4 does not exist; there are 4"):
        order.record(4, 0.5)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got 1\.5"):
        order.record(0, 1.5)
    with pytest.raises(CheckpointError, match="of 4 prompts, this run has 5"):
        prompt_order(UniformCurriculum(), 5, seed=0).load(order.state())


def test_the_curriculum_needs_no_torch() -> None:
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('curriculum', {curriculum.__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------- stages

PROBLEMS = [Problem((n,), domain="math" if n < 8 else "code", difficulty=n % 4) for n in range(12)]
"""Of math 0 to 7, of code 8 to 11; both have all difficulties from 0 to 3."""


def staged(*stages: dict[str, object], needed: int = 1, retire: bool = False) -> PromptOrder:
    chosen = tuple(PromptStage.model_validate(stage) for stage in stages)
    cfg = NoPositiveResampling(stages=chosen) if retire else UniformCurriculum(stages=chosen)
    return prompt_order(cfg, len(PROBLEMS), 0, PROBLEMS, needed)


def drawn(order: PromptOrder, num: int, step: int) -> list[int]:
    batch = order.next_prompts(num, step=step)
    assert batch is not None
    return batch


def test_a_stage_begins_at_its_step_and_ends_at_the_next() -> None:
    order = staged({"from_step": 2, "min_difficulty": 3}, {"from_step": 4})
    assert sorted(drawn(order, 12, 1)) == list(range(12))
    assert [sorted(drawn(order, 3, step)) for step in (2, 3)] == [[3, 7, 11]] * 2
    assert sorted(drawn(order, 12, 4)) == list(range(12))


def test_bounds_of_difficulty_hold_prompts_at_both_ends() -> None:
    order = staged({"from_step": 0, "min_difficulty": 1, "max_difficulty": 2, "domains": {"code": 1}})
    assert sorted(drawn(order, 2, 0)) == [9, 10]
    assert order.next_prompts(3) is None


def test_batches_have_the_shares_of_the_domains() -> None:
    """2 to 1: of 12 prompts 8 are of math and 4 of code, of the first 3 two and one; code comes twice."""
    order = staged({"from_step": 0, "domains": {"code": 0.2, "math": 0.4}})
    first = [drawn(order, 3, 0) for _ in range(8)]
    assert [sum(prompt < 8 for prompt in batch) for batch in first] == [2] * 8
    used = [prompt for batch in first for prompt in batch]
    assert sorted(used) == sorted([*range(12)] * 2)
    order = staged({"from_step": 0, "domains": {"code": 3, "math": 1}})
    used = [prompt for _ in range(8) for prompt in drawn(order, 4, 0)]
    assert [used.count(prompt) for prompt in range(12)] == [1] * 8 + [6] * 4


def test_the_order_of_queues_by_hand() -> None:
    """Weights 2 and 1: quotients 2, 1; 2/3, 1; 2/3, 1/3; 2/5, 1/3; 2/7, 1/3; 2/7, 1/5."""
    stage = Stage(0, [Queue(range(10), "a"), Queue(range(10, 20), "b")], (2.0, 1.0))
    batch = stage.take(6, (), set())
    assert batch is not None
    assert [prompt < 10 for prompt in batch] == [True, False, True, True, False, True]


def test_a_domain_that_is_used_up_gives_its_place_to_the_others() -> None:
    order = staged({"from_step": 0, "domains": {"code": 1, "math": 1}}, retire=True)
    for prompt in (8, 9, 10):
        order.record(prompt, 1.0)
    batch = drawn(order, 9, 0)
    assert sorted(batch) == [*range(8), 11]
    assert order.next_prompts(10) is None
    assert sorted(order.next_prompts(2, without={*range(7)}) or []) == [7, 11]


def test_what_is_retired_in_one_stage_stays_retired_in_the_next() -> None:
    order = staged({"from_step": 0, "max_difficulty": 0}, {"from_step": 1}, retire=True)
    assert sorted(drawn(order, 3, 0)) == [0, 4, 8]
    order.record(4, 0.95)
    assert sorted(drawn(order, 11, 1)) == [0, 1, 2, 3, *range(5, 12)]


def test_a_batch_of_an_earlier_stage_may_ask_for_more_in_a_pipeline() -> None:
    order, same = (staged({"from_step": 1, "min_difficulty": 3}) for _ in range(2))
    early = drawn(order, 4, 0)
    assert len(set(drawn(order, 2, 1)) & {3, 7, 11}) == 2
    more = order.next_prompts(2, early, step=0)
    assert (early, more) == (drawn(same, 4, 0), same.next_prompts(2, early, step=0))


@given(steps=steps_of_a_run, after=steps_of_a_run)
def test_a_resumed_run_goes_on_exactly_within_its_stages(
    steps: list[tuple[int, list[float]]], after: list[tuple[int, list[float]]]
) -> None:
    stages = ({"from_step": 0, "max_difficulty": 2}, {"from_step": 6, "domains": {"code": 1, "math": 3}})

    def play_on(order: PromptOrder, moves: list[tuple[int, list[float]]], first: int) -> list[object]:
        seen: list[object] = []
        for step, (num, rates) in enumerate(moves, first):
            batch = order.next_prompts(num, step=step)
            seen.append(batch)
            for prompt, rate in zip(batch or [], rates, strict=False):
                order.record(prompt, rate)
        return seen

    undisturbed = staged(*stages, retire=True)
    play_on(undisturbed, steps, 0)
    resumed = staged(*stages, retire=True)
    resumed.load(json.loads(json.dumps(undisturbed.state())))
    assert play_on(resumed, after, len(steps)) == play_on(undisturbed, after, len(steps))
    assert resumed.state() == undisturbed.state()


@pytest.mark.parametrize(
    ("stage", "needed", "says"),
    [
        ({"domains": {"maths": 1}}, 1, "of the domain 'maths'; did you mean 'math'.; allowed: code, math"),
        ({"min_difficulty": 2.5, "max_difficulty": 2.6}, 1, "has 0 training prompts, but a rollout needs 1"),
        ({"min_difficulty": 3}, 4, r"stages.0 has 3 training prompts, but a rollout needs 4"),
        (
            {"min_difficulty": 4, "domains": {"code": 1}}, 1,
            "no training prompt of the domain code has such a difficulty",
        ),
        (
            {"domains": {"code": 9, "math": 1}}, 6,
            "code has [0-9]+ training prompts, but its share of a rollout of 6 is 6",
        ),
    ],
)  # fmt: skip
def test_stages_that_the_prompts_cannot_fill_are_refused(
    stage: dict[str, object], needed: int, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        staged({"from_step": 0, **stage}, needed=needed)


def test_prompts_without_a_difficulty_are_named() -> None:
    cfg = UniformCurriculum(stages=(PromptStage(from_step=0, max_difficulty=1.0),))
    with pytest.raises(ConfigError, match=r"the training prompt logic has none; write a number in metadata"):
        prompt_order(cfg, 1, 0, [Problem((1,), domain="logic")])


def test_a_state_of_other_stages_is_refused() -> None:
    one = PromptOrder(4, 0, math.inf, [Stage(3, [Queue([0, 1], "a"), Queue([2, 3], "b")], [1.0, 1.0])])
    two = PromptOrder(4, 0, math.inf, [Stage(3, [Queue([0, 1, 2, 3], "c")])])
    with pytest.raises(CheckpointError, match="state is of 1 stages, this run has 1, or of others"):
        two.load(one.state())
    with pytest.raises(CheckpointError, match="state is of 0 stages, this run has 1"):
        one.load(PromptOrder(4, 0, math.inf).state())
