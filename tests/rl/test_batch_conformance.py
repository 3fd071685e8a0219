"""What every row of every table keeps, enrolled by being in the table."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError

from scalerl_lab.config.strict import Strict
from scalerl_lab.rl.advantages import ADVANTAGES, advantages
from scalerl_lab.rl.aggregation import AGGREGATIONS, weights
from scalerl_lab.rl.curriculum import CURRICULA, prompt_order
from scalerl_lab.rl.difficulty import DIFFICULTY_FILTERS
from scalerl_lab.rl.filters import FILTERS, kept_prompts
from scalerl_lab.rl.lengths import LENGTH_CONTROLS, interruption_phrase, length_penalty, thinking_budgets
from scalerl_lab.rl.losses import LOSSES, token_loss
from scalerl_lab.rl.mismatch import MISMATCH_WEIGHTS, mismatch_weights
from scalerl_lab.rl.off_policy import SCHEDULES, schedule_of
from scalerl_lab.rl.rewards import after_truncation, counted, holds, with_length_reward, with_loss
from scalerl_lab.tasks import Problem
from tests.rl.batches import LOSS_CHOICES, TABLES, floats, random_rows

ROWS = [(choice, name) for choice, (table, _) in TABLES.items() for name in table]


@pytest.mark.parametrize("choice", TABLES)
def test_tables_cover_the_configuration_exactly(choice: str) -> None:
    table, allowed = TABLES[choice]
    assert set(table) == set(allowed)


@pytest.mark.parametrize("choice", TABLES)
def test_tables_cannot_be_changed(choice: str) -> None:
    with pytest.raises(TypeError):
        TABLES[choice][0]["another"] = None


@pytest.mark.parametrize(("choice", "name"), ROWS)
def test_every_row_says_what_it_is_where_it_is_from_and_a_number(choice: str, name: str) -> None:
    text = inspect.getdoc(TABLES[choice][0][name]) or ""
    for part in ("Worked number:", "Source:"):
        assert part in text, f"{choice} row {name!r} lacks {part!r}"


# ---------------------------------------------------------------- every field of a choice is read


def probe_loss(cfg: Any) -> Any:
    rows = random_rows(seed=1, prompts=16, off=1.5)
    terms = token_loss(cfg, rows.logp_BT, rows.gen_logp_BT, rows.advantage_B, rows.mask_BT)
    return terms.loss_BT.tolist()


def probe_aggregation(cfg: Any) -> Any:
    rows = random_rows(seed=1)
    return weights(cfg, rows.mask_BT, rows.prompt_index_B, rows.num_prompts, 20).tolist()


def probe_advantage(cfg: Any) -> Any:
    mask_BT = (torch.arange(6)[None, :] < torch.tensor([6, 1, 2, 3, 4, 5])[:, None]).double()
    index_B = torch.tensor([0, 0, 0, 1, 1, 1])
    return advantages(cfg, floats(1, -1, -1, 1, 1, -1), index_B, 2, mask_BT).tolist()


def probe_mismatch_weight(cfg: Any) -> Any:
    rows = random_rows(seed=1, prompts=32, off=0.8)
    return mismatch_weights(cfg, rows.logp_BT, rows.gen_logp_BT, rows.mask_BT).tolist()


def probe_length_control(cfg: Any) -> Any:
    lengths = torch.arange(0, 1001, 10, dtype=torch.float64)
    budgets = thinking_budgets(cfg, 1000, 50, torch.Generator().manual_seed(0))
    taken = [
        length_penalty(cfg, torch.full((101,), correct), lengths, 1000).tolist() for correct in (True, False)
    ]
    return (taken, None if budgets is None else budgets.tolist(), interruption_phrase(cfg))


def probe_length_reward(cfg: Any) -> Any:
    lengths = torch.arange(0, 1001, 100, dtype=torch.float64).repeat(2)
    correct = torch.arange(22) < 11
    rewards = torch.where(correct, 0.9, -0.7).double()
    return [
        with_length_reward(cfg, rewards, correct, lengths, 1000, step).tolist() for step in (0, 99, 101, 599)
    ]


def probe_truncated(cfg: Any) -> Any:
    cut = torch.tensor([True, False, True])
    rewards = [after_truncation(cfg, floats(1, 1, 0.5), cut, step).tolist() for step in (0, 99, 101)]
    return rewards, counted(cfg, cut).tolist(), with_loss(cfg, cut).tolist()


def probe_difficulty_filter(cfg: Any) -> Any:
    samples = cfg.samples if cfg.type == "pass_rate_band" else 16
    return [DIFFICULTY_FILTERS[cfg.type](cfg, right / samples) for right in range(samples + 1)]


def probe_when(cfg: Any) -> Any:
    return [holds(cfg, step) for step in range(1400)]


def probe_curriculum(cfg: Any) -> Any:
    problems = [Problem((prompt,), difficulty=prompt) for prompt in range(101)]
    order = prompt_order(cfg, 101, 0, problems)
    for prompt in range(101):
        order.record(prompt, prompt / 100)
    return [order.next_prompts(5, step=step) for step in range(30)]


def probe_off_policy(cfg: Any) -> Any:
    schedule = schedule_of(cfg)
    return schedule.num_blocks(cfg), [
        (step, batch, schedule.share(cfg, step, batch))
        for step in range(40)
        for batch in range(step, schedule.last_batch(cfg, step) + 1)
    ]


PROBES: dict[str, Callable[[Any], Any]] = {
    "loss": probe_loss,
    "aggregation": probe_aggregation,
    "advantage": probe_advantage,
    "length_control": probe_length_control,
    "curriculum": probe_curriculum,
    "off_policy": probe_off_policy,
    "length_reward": probe_length_reward,
    "truncated": probe_truncated,
    "when": probe_when,
    "difficulty_filter": probe_difficulty_filter,
    "mismatch_weight": probe_mismatch_weight,
}

CONFIGURED: dict[str, dict[str, Any]] = {"between": {"from_step": 10, "until_step": 20}}
"""Choices that cannot be made by their defaults alone -> their fields."""


def changed(cfg: Strict, field: str) -> Strict:
    """The choice with another allowed value of one field."""
    value = getattr(cfg, field)
    candidates: list[Any]
    if value is None:
        candidates = [1.1]
    elif isinstance(value, str):
        candidates = [value + " more", "sequence", *get_args(type(cfg).model_fields[field].annotation)]
    elif isinstance(value, Strict):
        candidates = [{"type": "between", "until_step": 50}]
    elif isinstance(value, bool):
        candidates = [not value]
    elif isinstance(value, tuple):
        candidates = [[{"from_step": 5, "max_difficulty": 50}]]
    else:
        # 0.5 comes first, so that a whole number (all defaults are even) stays one.
        candidates = [value * 0.5, value * 0.9, value * 1.1, value + 0.5]
    candidates = [each for each in candidates if each != value]
    for candidate in candidates:
        try:
            return type(cfg).model_validate({**cfg.model_dump(), field: candidate})
        except ValidationError:
            continue
    raise AssertionError(f"no other value found for {type(cfg).__name__}.{field}")


FIELDS = [
    (choice, name, field)
    for choice, (_, models) in TABLES.items()
    if choice in PROBES
    for name, model in models.items()
    for field in model.model_fields
    if field != "type"
]


def test_there_are_fields_and_every_choice_with_fields_is_probed() -> None:
    assert len(FIELDS) >= 13
    # Bare words or values, no fields of their own.
    assert TABLES.keys() - PROBES.keys() == {"zero_variance", "anchor", "kl.estimator", "reference"}


@pytest.mark.parametrize(("choice", "name", "field"), FIELDS)
def test_every_field_of_every_choice_changes_what_its_row_does(choice: str, name: str, field: str) -> None:
    cfg = TABLES[choice][1][name](**CONFIGURED.get(name, {}))
    if field == "eps":
        # The default is too small to be told from rounding in a sum of ones.
        cfg = type(cfg).model_validate({**cfg.model_dump(), "eps": 0.5})
    probe = PROBES[choice]
    assert probe(cfg) == probe(type(cfg).model_validate(cfg.model_dump()))
    assert probe(changed(cfg, field)) != probe(cfg)


# ---------------------------------------------------------------- rows are told apart


@pytest.mark.parametrize("choice", PROBES)
def test_no_two_rows_do_the_same(choice: str) -> None:
    seen = {
        name: repr(PROBES[choice](model(**CONFIGURED.get(name, {}))))
        for name, model in TABLES[choice][1].items()
    }
    assert len(set(seen.values())) == len(seen)


# ---------------------------------------------------------------- contracts of each table


@pytest.mark.parametrize("name", LOSSES)
def test_losses_touch_only_their_own_row(name: str) -> None:
    """A change in one completion changes no other's loss: any split by rows is a fair one."""
    cfg = LOSS_CHOICES[name]()
    rows = random_rows(seed=2)
    before = token_loss(cfg, rows.logp_BT, rows.gen_logp_BT, rows.advantage_B, rows.mask_BT)
    logp_BT, advantage_B = rows.logp_BT.clone(), rows.advantage_B.clone()
    logp_BT[3] -= 0.7
    advantage_B[3] += 2.0
    after = token_loss(cfg, logp_BT, rows.gen_logp_BT, advantage_B, rows.mask_BT)
    same = [b for b in range(8) if torch.equal(after.loss_BT[b], before.loss_BT[b])]
    assert same == [0, 1, 2, 4, 5, 6, 7]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_keep_shape_and_type(name: str, dtype: torch.dtype) -> None:
    rows = random_rows(seed=2)
    logp_BT = rows.logp_BT.to(dtype)
    terms = token_loss(LOSS_CHOICES[name](), logp_BT, rows.gen_logp_BT, rows.advantage_B, rows.mask_BT)
    assert terms.loss_BT.shape == terms.clipped_BT.shape == logp_BT.shape
    assert (terms.loss_BT.dtype, terms.clipped_BT.dtype) == (dtype, torch.bool)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_proportional_to_the_advantage(name: str) -> None:
    cfg = LOSS_CHOICES[name]()
    rows = random_rows(seed=4)
    one = token_loss(cfg, rows.logp_BT, rows.gen_logp_BT, rows.advantage_B, rows.mask_BT)
    three = token_loss(cfg, rows.logp_BT, rows.gen_logp_BT, 3.0 * rows.advantage_B, rows.mask_BT)
    torch.testing.assert_close(three.loss_BT, 3.0 * one.loss_BT, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_weights_are_never_negative_and_vanish_outside_the_mask(name: str) -> None:
    rows = random_rows(seed=6)
    cfg = TABLES["aggregation"][1][name]()
    weight_BT = weights(cfg, rows.mask_BT, rows.prompt_index_B, rows.num_prompts, 20)
    assert weight_BT.dtype == rows.mask_BT.dtype
    assert (weight_BT[rows.mask_BT > 0] > 0).all()
    assert (weight_BT[rows.mask_BT == 0] == 0).all()


@pytest.mark.parametrize("name", ADVANTAGES)
def test_advantages_order_completions_as_rewards_do(name: str) -> None:
    cfg = TABLES["advantage"][1][name]()
    got = advantages(cfg, floats(0.2, 1, -1, -0.5), torch.zeros(4, dtype=torch.long), 1)
    assert got.argsort().tolist() == [2, 3, 0, 1]
    assert got.shape == (4,)


@pytest.mark.parametrize("name", MISMATCH_WEIGHTS)
@pytest.mark.parametrize("garbage", [float("nan"), float("inf")])
def test_mismatch_weights_are_one_without_mismatch_and_blind_outside_the_mask(
    name: str, garbage: float
) -> None:
    cfg = TABLES["mismatch_weight"][1][name]()
    rows = random_rows(seed=6)
    same = mismatch_weights(cfg, rows.logp_BT, rows.logp_BT, rows.mask_BT)
    assert (same == 1).all()
    gen_BT = rows.gen_logp_BT.masked_fill(rows.mask_BT == 0, garbage)
    got = mismatch_weights(cfg, rows.logp_BT.clone().requires_grad_(), gen_BT, rows.mask_BT)
    assert not got.requires_grad
    assert torch.equal(got, mismatch_weights(cfg, rows.logp_BT, rows.gen_logp_BT, rows.mask_BT))
    assert ((got >= 0) & got.isfinite()).all()


@pytest.mark.parametrize("name", FILTERS)
def test_filters_keep_prompts_with_both_outcomes(name: str) -> None:
    got = kept_prompts(name, floats(1, -1, -1, 1), torch.tensor([0, 0, 1, 1]), 2)
    assert (got.shape, got.dtype, bool(got.all())) == ((2,), torch.bool, True)


@pytest.mark.parametrize("name", LENGTH_CONTROLS)
def test_length_controls_never_reward_length_nor_touch_wrong_answers(name: str) -> None:
    cfg = TABLES["length_control"][1][name]()
    lengths = torch.arange(1, 101, dtype=torch.float64)
    right = length_penalty(cfg, torch.ones(100, dtype=torch.bool), lengths, 100)
    assert (right.diff() <= 0).all()
    assert ((right >= -1) & (right <= 0)).all()
    assert (length_penalty(cfg, torch.zeros(100, dtype=torch.bool), lengths, 100) == 0).all()


@pytest.mark.parametrize("name", ["cosine", "cosine_reward"])
def test_a_longer_correct_answer_never_gets_more_and_right_beats_wrong(name: str) -> None:
    cfg = TABLES["length_reward"][1][name]()
    lengths = torch.arange(1, 111, dtype=torch.float64)
    right, wrong = (
        with_length_reward(
            cfg, torch.full((110,), worth).double(), torch.full((110,), worth > 0), lengths, 100, 0
        )
        for worth in (1.0, -1.0)
    )
    assert (right[:100].diff() < 0).all()
    assert (right[99:] == right[99]).all(), "past the limit, injected tokens cost no more"
    assert right.min() > wrong.max()


@pytest.mark.parametrize("name", LENGTH_CONTROLS)
def test_budgets_and_phrases_come_together(name: str) -> None:
    cfg = TABLES["length_control"][1][name]()
    budgets = thinking_budgets(cfg, 100, 16, torch.Generator().manual_seed(0))
    assert (budgets is None) == (interruption_phrase(cfg) is None)
    if budgets is not None:
        assert budgets.shape == (16,)
        assert ((budgets >= 1) & (budgets < 100)).all()


@pytest.mark.parametrize("name", CURRICULA)
def test_curricula_say_when_the_pool_is_dry(name: str) -> None:
    cfg = TABLES["curriculum"][1][name]()
    order = prompt_order(cfg, 3, seed=0)
    assert order.next_prompts(4) is None
    assert sorted(order.next_prompts(3) or []) == [0, 1, 2]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_deliver_whole_batches_and_never_undo(name: str) -> None:
    """Before its step a batch is whole; it only grows; and no more than the declared blocks are in flight."""
    cfg = TABLES["off_policy"][1][name]()
    schedule = schedule_of(cfg)
    written: dict[int, Any] = {}
    for step in range(40):
        in_flight = range(step, schedule.last_batch(cfg, step) + 1)
        assert 1 <= len(in_flight) <= schedule.num_blocks(cfg)
        for batch in in_flight:
            share = schedule.share(cfg, step, batch)
            assert written.get(batch, 0) <= share <= 1
            assert share > 0
            written[batch] = share
        assert written[step] == 1
