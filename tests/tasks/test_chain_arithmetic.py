"""Chains of arithmetic: what is right, what is demonstrated, and that the splits never meet."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.schema import types_of
from scalerl_lab.config.start import Demonstrations
from scalerl_lab.config.tasks import ChainArithmetic
from scalerl_lab.errors import ConfigError
from scalerl_lab.tasks import TASKS, Problem
from scalerl_lab.tasks.chain_arithmetic import ChainArithmeticTasks, is_heldout

SMALL = ChainArithmetic(modulus=7, min_steps=2, max_steps=4, num_train=300, num_heldout=60)


@pytest.fixture(scope="module")
def tasks() -> ChainArithmeticTasks:
    return ChainArithmeticTasks(SMALL)


def worked_by_hand(prompt: str, modulus: int) -> int:
    """The value of a prompt such as ``3 +4 *2 =``, by Python's own arithmetic."""
    value, *moves = prompt.removesuffix(" =").split()
    expression = value
    for move in moves:
        expression = f"({expression}){move}"
    return int(eval(expression)) % modulus


def test_answers_are_what_arithmetic_says(tasks: ChainArithmeticTasks) -> None:
    for problem in (*tasks.train, *tasks.heldout):
        text = tasks.tokenizer.decode(problem.prompt)
        assert tasks.tokenizer.decode(problem.answer) == str(worked_by_hand(text, 7)), text


def test_prompts_are_distinct_and_as_many_as_asked(tasks: ChainArithmeticTasks) -> None:
    assert len({p.prompt for p in tasks.train}) == 300
    assert len({p.prompt for p in tasks.heldout}) == 60


def test_every_difficulty_comes_about_as_often(tasks: ChainArithmeticTasks) -> None:
    steps = [len(p.prompt) - 2 for p in tasks.train]
    assert {k: steps.count(k) for k in (2, 3, 4)}.keys() == {2, 3, 4}
    assert all(60 <= steps.count(k) <= 140 for k in (2, 3, 4))


@settings(max_examples=25, deadline=None)
@given(
    modulus=st.sampled_from([3, 5, 7, 11]),
    first=st.integers(0, 10_000),
    second=st.integers(0, 10_000),
    most=st.integers(2, 9),
)
def test_splits_never_meet_whatever_the_seeds(modulus: int, first: int, second: int, most: int) -> None:
    def build(seed: int) -> ChainArithmeticTasks:
        config = ChainArithmetic(
            modulus=modulus, min_steps=2, max_steps=most, num_train=20, num_heldout=4, seed=seed
        )
        return ChainArithmeticTasks(config)

    one, other = build(first), build(second)
    heldout = {p.prompt for p in (*one.heldout, *other.heldout)}
    train = {p.prompt for p in (*one.train, *other.train)}
    assert not heldout & train
    assert all(map(is_heldout, heldout))
    assert not any(map(is_heldout, train))


def test_the_heldout_side_does_not_depend_on_how_many_prompts_are_drawn(tasks: ChainArithmeticTasks) -> None:
    more = ChainArithmeticTasks(SMALL.model_copy(update={"num_train": 900, "max_steps": 6}))
    assert not {p.prompt for p in more.train} & {p.prompt for p in tasks.heldout}


def test_demonstrations_keep_to_the_train_side(tasks: ChainArithmeticTasks) -> None:
    shown = tasks.demonstrations(Demonstrations(), 2000)
    assert len(shown) == 2000
    assert not any(is_heldout(d.prompt) for d in shown)


def test_reliable_demonstrations_are_right_and_2k_plus_3_long(tasks: ChainArithmeticTasks) -> None:
    sure = Demonstrations(
        reliability_alpha=1e9, reliability_beta=1e-9, worked_share=1.0, results_only_share=0.0
    )
    for shown in tasks.demonstrations(sure, 200):
        steps = len(shown.prompt) - 2
        answer = worked_by_hand(tasks.tokenizer.decode(shown.prompt), 7)
        assert len(shown.response) == 2 * steps + 3
        assert tasks.tokenizer.decode(shown.response[-3:]) == f"# {answer} <end>"
        assert shown.response[0:-3:2] == shown.prompt[1:-1]
        assert tasks.verify(Problem(shown.prompt, (tasks.tokenizer.id_of(str(answer)),)), shown.response)


def test_unreliable_facts_fail_as_often_as_their_beta_says(tasks: ChainArithmeticTasks) -> None:
    answers_only = Demonstrations(reliability_alpha=3.0, reliability_beta=1.0)
    shown = tasks.demonstrations(answers_only, 6000)
    right = total = 0
    for each in shown:
        words = tasks.tokenizer.decode(each.response).split()
        if len(words) != 2 * (len(each.prompt) - 2) + 3:
            continue
        value = int(tasks.tokenizer.decode(each.prompt[:1]))
        for move, result in zip(words[0:-3:2], words[1:-3:2], strict=True):
            right += int(result) == int(eval(f"{value}{move}")) % 7
            total += 1
            value = int(result)
    # 3/4 by the fact, and a slip hits the right value with 1/7 by chance: 0.75 + 0.25 / 7 = 0.786;
    # 119 facts scatter with sd sqrt(0.75 * 0.25 / 5) / sqrt(119) = 0.018.
    assert total > 10_000
    assert abs(right / total - 0.786) < 0.06


def test_styles_come_in_their_shares(tasks: ChainArithmeticTasks) -> None:
    mixed = Demonstrations(worked_share=0.5, results_only_share=0.3)
    extra = [len(d.response) - 3 for d in tasks.demonstrations(mixed, 4000)]
    steps = [len(d.prompt) - 2 for d in tasks.demonstrations(mixed, 4000)]
    share = [sum(e == f * k for e, k in zip(extra, steps, strict=True)) / 4000 for f in (2, 1, 0)]
    assert share == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("+1 3 # 5 <end>", True),
        ("# 5", True),
        ("# 4 # 5 <end>", True),
        ("+1 3 # 4 <end>", False),
        ("5 <end>", False),
        ("# 5 5 <end>", False),
        ("# 5 #", False),
        ("#", False),
        ("", False),
    ],
)
def test_only_the_value_after_the_last_marker_counts(
    tasks: ChainArithmeticTasks, response: str, right: bool
) -> None:
    problem = Problem(tasks.tokenizer.encode("2 +3 ="), tasks.tokenizer.encode("5"))
    assert tasks.verify(problem, tasks.tokenizer.encode(response)) is right


def test_the_same_recipe_gives_the_same_prompts(tasks: ChainArithmeticTasks) -> None:
    again = ChainArithmeticTasks(SMALL)
    assert again.train == tasks.train
    assert again.heldout == tasks.heldout


def test_too_few_distinct_prompts_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"num_heldout asks for 500 .*ask for fewer"):
        ChainArithmeticTasks(
            ChainArithmetic(modulus=3, min_steps=1, max_steps=1, num_train=2, num_heldout=500)
        )


def test_operands_end_at_the_largest_one() -> None:
    few = ChainArithmetic(
        modulus=11,
        operations=("+", "*"),
        max_operand=3,
        min_steps=1,
        max_steps=3,
        num_train=200,
        num_heldout=20,
    )
    tasks = ChainArithmeticTasks(few)
    words = {word for p in tasks.train for word in tasks.tokenizer.decode(p.prompt).split()[1:-1]}
    assert words == {"+1", "+2", "+3", "*2", "*3"}
    for problem in tasks.train:
        text = tasks.tokenizer.decode(problem.prompt)
        assert tasks.tokenizer.decode(problem.answer) == str(worked_by_hand(text, 11)), text
    with pytest.raises(ConfigError, match=r"\* changes no value modulo 7 with operands up to 1"):
        ChainArithmeticTasks(ChainArithmetic(operations=("*", "+"), max_operand=1))
    with pytest.raises(ValidationError, match="must be below the modulus"):
        ChainArithmetic(modulus=7, max_operand=7)


def test_a_modulus_without_moves_is_an_error() -> None:
    with pytest.raises(ConfigError, match="changes no value modulo 2"):
        ChainArithmeticTasks(ChainArithmetic(modulus=2, operations=("*",)))


def test_unknown_words_are_named(tasks: ChainArithmeticTasks) -> None:
    with pytest.raises(ConfigError, match="Okay, time"):
        tasks.tokenizer.encode("Okay, time #")


def test_tolerantly_the_last_value_is_the_answer(tasks: ChainArithmeticTasks) -> None:
    problem = Problem(tasks.tokenizer.encode("2 +3 ="), tasks.tokenizer.encode("5"))
    texts = ["# 5 <end>", "+3 5 <end>", "# 5 +1", "+3 5 # 4 <end>", "+3 # <end>", ""]
    found = tasks.verdicts([problem] * 6, [tasks.tokenizer.encode(text) for text in texts])
    assert [each.score for each in found] == [1, 0, 0, 0, 0, 0]
    assert [each.tolerant for each in found] == [1, 1, 1, 0, 0, 0]


def test_every_family_of_the_recipe_is_in_the_table() -> None:
    assert set(TASKS) == set(types_of(Recipe.model_fields["tasks"].annotation))
