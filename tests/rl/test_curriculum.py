"""Curricula: epochs, retirement and resumption."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalerl_lab.config.curriculum import NoPositiveResampling, UniformCurriculum
from scalerl_lab.errors import CheckpointError
from scalerl_lab.rl import curriculum
from scalerl_lab.rl.curriculum import CURRICULA, PromptOrder, prompt_order
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
