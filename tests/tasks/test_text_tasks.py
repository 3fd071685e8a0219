"""Tasks of text, mixtures of families, and the vocabularies that they are written in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from scalerl_lab.config.reading import read_recipe
from scalerl_lab.config.start import CheckpointModel, Demonstrations
from scalerl_lab.config.tasks import (
    ChainArithmetic,
    ChainSet,
    Mixture,
    MixturePart,
    PromptFiles,
    ReasoningGym,
)
from scalerl_lab.errors import ConfigError, DataError, NotFound, NotSupported
from scalerl_lab.plan.identity import NEUTRAL, without_neutral
from scalerl_lab.tasks import build_tasks
from scalerl_lab.tasks.chain_arithmetic import ChainArithmeticTasks
from scalerl_lab.tasks.data_files import normalised
from scalerl_lab.tasks.text_tasks import in_shares
from scalerl_lab.tasks.tokenizer import ByteTokenizer

CHAIN = ChainArithmetic(modulus=5, max_steps=4, num_train=200, num_heldout=40)
WORDS = PromptFiles(train="data/words_train.jsonl", heldout="data/words_heldout.jsonl")


def file_of(folder: Path, name: str, *rows: dict[str, Any]) -> str:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"id": f"{name}{n}", **row}) + "\n" for n, row in enumerate(rows)))
    return str(path)


def sums(first: int, last: int) -> list[dict[str, Any]]:
    return [{"domain": "math", "prompt": f"{n} + 1", "answer": n + 1} for n in range(first, last)]


# ---------------------------------------------------------------- vocabularies


def test_bytes_hold_any_text() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.size == 2 + 256
    for text in ("plain # text", "\u00e9\u4e2d\U0001f600\n", ""):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("#") == (tokenizer.marker_id,)
    assert tokenizer.decode([tokenizer.encode("\u00e9")[0], tokenizer.end_id, 0]) == "\ufffd"


def test_words_before_bytes_keep_their_ids() -> None:
    chain = ChainArithmeticTasks(CHAIN)
    tokenizer = ByteTokenizer(chain.tokenizer.words[3:])
    assert all(tokenizer.encode(w) == (chain.tokenizer.id_of(w),) for w in ("=", "0", "4", "#"))
    # "+1" is a word of the chains; text writes it as two bytes.
    assert len(tokenizer.encode("+1")) == 2
    assert tokenizer.decode([chain.tokenizer.id_of("+1")]) == "+1"
    # 5 values, = and # are single bytes, the 11 moves are not.
    assert tokenizer.size == 2 + 256 + 11


def checkpoint(folder: Path, **config: Any) -> CheckpointModel:
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    words = {word: n for n, word in enumerate(["<unk>", "two", "words", "cat"])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([AddedToken(each, special=True) for each in ("<eos>", "<fill>", "</think>")])
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CheckpointModel(path=str(folder), params_billion=1.0)


def test_a_checkpoint_brings_its_own_vocabulary(tmp_path: Path) -> None:
    model = checkpoint(tmp_path, eos_token={"content": "<eos>"}, pad_token="<fill>")
    tasks = build_tasks(WORDS, model)
    tokenizer = tasks.tokenizer
    assert (tokenizer.size, tokenizer.end_id, tokenizer.pad_id, tokenizer.marker_id) == (7, 4, 5, 6)
    assert tokenizer.encode("two words </think>") == (1, 2, 6)
    assert tokenizer.decode([1, 6, 2, 4, 5]) == "two </think> words"
    assert tasks.train[0].prompt == tokenizer.encode("3 words with pie, no t, capitals\n")


def test_a_checkpoint_without_a_padding_token_pads_with_its_end(tmp_path: Path) -> None:
    tokenizer = build_tasks(WORDS, checkpoint(tmp_path, eos_token="<eos>")).tokenizer
    assert tokenizer.pad_id == tokenizer.end_id == 4


def test_what_a_checkpoint_folder_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"has no tokenizer\.json"):
        build_tasks(WORDS, CheckpointModel(path=str(tmp_path), params_billion=1.0))
    with pytest.raises(ConfigError, match="eos_token names no token"):
        build_tasks(WORDS, checkpoint(tmp_path, eos_token="<none>"))


# ---------------------------------------------------------------- files


def test_prompts_are_put_into_the_template(tmp_path: Path) -> None:
    config = PromptFiles(
        train=file_of(tmp_path, "a", *sums(0, 9)), num_heldout=2, template="Q: {prompt}\nA: "
    )
    tasks = build_tasks(config)
    assert tasks.tokenizer.decode(tasks.train[0].prompt).startswith("Q: ")
    assert all(tasks.tokenizer.decode(p.prompt).endswith(" + 1\nA: ") for p in tasks.train)


def test_the_difficulty_of_a_row_is_the_number_in_its_metadata(tmp_path: Path) -> None:
    given: list[Any] = [2, 0.5, {"level": 3}, True, "4"]
    rows = [row | {"metadata": {"difficulty": d}} for row, d in zip(sums(0, 5), given, strict=True)]
    train = file_of(tmp_path, "train.jsonl", *rows, *sums(5, 6))
    tasks = build_tasks(PromptFiles(train=train, heldout=file_of(tmp_path, "held.jsonl", *sums(6, 8))))
    assert [problem.difficulty for problem in tasks.train] == [2.0, 0.5, None, None, None, None]


def test_what_is_held_out_does_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    rows = sums(0, 30)
    twice = {**rows[3], "prompt": " 3 +  1 "}
    one = build_tasks(PromptFiles(train=file_of(tmp_path, "a", *rows, twice), num_heldout=10))
    other = build_tasks(PromptFiles(train=file_of(tmp_path, "b", twice, *rows[::-1]), num_heldout=10))

    def prompts(problems: Any) -> list[str]:
        return [normalised(one.tokenizer.decode(p.prompt)) for p in problems]

    assert set(prompts(one.heldout)) == set(prompts(other.heldout))
    assert len(set(prompts(one.heldout))) == 10
    # Both spellings of one prompt are on one side.
    assert not set(prompts(one.train)) & set(prompts(one.heldout))
    again = build_tasks(PromptFiles(train=file_of(tmp_path, "a", *rows, twice), num_heldout=10, seed=1))
    assert set(prompts(again.heldout)) != set(prompts(one.heldout))


def test_sets_of_a_recipe_must_not_overlap(tmp_path: Path) -> None:
    train, late = file_of(tmp_path, "a", *sums(0, 5)), file_of(tmp_path, "b", *sums(4, 8))
    apart = file_of(tmp_path, "c", *sums(8, 10))
    with pytest.raises(DataError, match=r"b.jsonl:1 \(heldout\) has the prompt of .*a.jsonl:5 \(train\)"):
        build_tasks(PromptFiles(train=train, heldout=late))
    with pytest.raises(DataError, match=r"b.jsonl:1 \(downstream.late\) has the prompt of"):
        build_tasks(PromptFiles(train=train, heldout=apart, downstream={"late": late}))
    tasks = build_tasks(
        PromptFiles(train=train, heldout=apart, downstream={"far": file_of(tmp_path, "d", *sums(10, 13))})
    )
    assert (len(tasks.train), len(tasks.heldout), len(tasks.downstream["far"])) == (5, 2, 3)


def test_golden_answers_that_nothing_can_read_are_refused(tmp_path: Path) -> None:
    bad = {"domain": "math", "prompt": "?", "answer": "^{}_"}
    with pytest.raises(DataError, match=r"a.jsonl:4: answer '\^\{\}_'"):
        build_tasks(PromptFiles(train=file_of(tmp_path, "a", *sums(0, 3), bad), num_heldout=1))


def test_too_few_prompts_to_hold_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"num_heldout \(1000\) leaves nothing .* has 3 distinct prompts"):
        build_tasks(PromptFiles(train=file_of(tmp_path, "a", *sums(0, 3))))


def test_domains_of_a_file_in_the_shares_of_their_weights(tmp_path: Path) -> None:
    words = [{"domain": "logic", "prompt": f"say {n}", "answer": n} for n in range(40)]
    both = file_of(tmp_path, "a", *sums(0, 40), *words)
    config = PromptFiles(train=both, num_heldout=20, weights={"math": 3.0, "logic": 1.0})
    tasks = build_tasks(config)
    for problems in (tasks.train, tasks.heldout):
        num = sum(p.domain == "math" for p in problems)
        assert num / len(problems) == pytest.approx(0.75, abs=0.05)
    with pytest.raises(ConfigError, match=r"must name the domains of every set, logic, math; got math"):
        build_tasks(config.model_copy(update={"weights": {"math": 1.0}}))


def test_partial_credit_is_given_only_where_it_is_asked_for() -> None:
    found = {}
    for partial in (False, True):
        tasks = build_tasks(WORDS.model_copy(update={"partial_credit": partial}))
        # "3 words with pie, no t, capitals": three of four constraints.
        response = tasks.tokenizer.encode("pie fig sky")
        found[partial] = tasks.verdicts([tasks.train[0]], [(*response, tasks.tokenizer.end_id)])[0]
    assert (found[False].score, found[True].score) == (0.0, 0.75)
    assert not found[True].passed


def test_demonstrations_are_right_as_often_as_their_beta_says() -> None:
    tasks = build_tasks(WORDS)
    shown = tasks.demonstrations(
        Demonstrations(reliability_alpha=3.0, reliability_beta=1.0, worked_share=1.0, results_only_share=0.0),
        4000,
    )
    by_prompt = {problem.prompt: problem for problem in tasks.train}
    found = tasks.verdicts([by_prompt[d.prompt] for d in shown], [d.response for d in shown])
    # 3/4 by the prompt (512 prompts scatter with sd sqrt(0.1875 / 5 / 512) = 0.0086); another prompt's
    # response is right by chance in a few percent of the rest.
    assert sum(each.passed for each in found) / 4000 == pytest.approx(0.755, abs=0.03)
    assert all(d.response[-1] == tasks.tokenizer.end_id for d in shown)


def test_answers_are_demonstrated_in_the_format(tmp_path: Path) -> None:
    sure = Demonstrations(reliability_alpha=1e9, reliability_beta=1e-9)
    for answer_format, written in (
        ("boxed", "\\boxed{%d}"),
        ("answer_tag", "<answer>%d</answer>"),
        ("marker", "# %d"),
    ):
        config = PromptFiles(
            train=file_of(tmp_path, "a", *sums(0, 9)), num_heldout=2, answer_format=answer_format
        )
        tasks = build_tasks(config)
        (shown,) = tasks.demonstrations(sure, 1)
        prompt = int(tasks.tokenizer.decode(shown.prompt).split()[0])
        assert tasks.tokenizer.decode(shown.response) == written % (prompt + 1)


def test_nothing_to_demonstrate_is_said(tmp_path: Path) -> None:
    rows = [
        {"domain": "instructions", "prompt": f"{n}", "constraints": [{"type": "lower_case"}]}
        for n in range(9)
    ]
    tasks = build_tasks(PromptFiles(train=file_of(tmp_path, "a", *rows), num_heldout=2))
    with pytest.raises(ConfigError, match=r"a.jsonl:\d: warm_start.type=demonstrations needs a response"):
        tasks.demonstrations(Demonstrations(), 1)


# ---------------------------------------------------------------- reasoning-gym


def test_puzzles_are_drawn_split_and_verified() -> None:
    config = ReasoningGym(
        generators={"chain_sum": {"max_terms": 2}, "count_bits": {}}, num_train=20, num_heldout=6, seed=3
    )
    tasks = build_tasks(config)
    assert (len(tasks.train), len(tasks.heldout)) == (20, 6)
    sources = [p.item.metadata["source_dataset"] for p in tasks.train if p.item]
    assert (sources.count("chain_sum"), sources.count("count_bits")) == (10, 10)
    right = [tasks.tokenizer.encode(f"<answer>{p.item.answer}</answer>") for p in tasks.heldout if p.item]
    assert all(each.passed for each in tasks.verdicts(tasks.heldout, right))
    assert not any(each.passed for each in tasks.verdicts(tasks.heldout, right[1:] + right[:1]))
    again = build_tasks(config)
    assert [p.prompt for p in again.train] == [p.prompt for p in tasks.train]


def test_downstream_puzzles_share_none_with_the_others_and_do_not_depend_on_their_order() -> None:
    few = {"chain_sum": {"max_terms": 2, "min_terms": 2, "max_digits": 2}}
    sets: dict[str, Any] = {
        "same": {"generators": few, "num_prompts": 4},
        "other": {"generators": {"count_bits": {}}, "num_prompts": 5, "seed": 4},
    }

    def built(downstream: dict[str, Any]) -> Any:
        own = {"generators": few, "num_train": 40, "num_heldout": 5, "downstream": downstream}
        return build_tasks(ReasoningGym.model_validate(own))

    tasks, other, plain = built(sets), built(dict(reversed(sets.items()))), built({})
    assert {name: len(found) for name, found in tasks.downstream.items()} == {"same": 4, "other": 5}
    assert tasks.downstream == other.downstream
    assert (tasks.train, tasks.heldout) == (plain.train, plain.heldout)
    prompts = [p.prompt for found in (tasks.train, tasks.heldout, *tasks.downstream.values()) for p in found]
    assert len(set(prompts)) == len(prompts) == 54
    right = [tasks.tokenizer.encode(f"<answer>{p.item.answer}</answer>") for p in tasks.downstream["other"]]
    assert all(each.passed for each in tasks.verdicts(tasks.downstream["other"], right))
    with pytest.raises(NotSupported, match=r"tasks.downstream.bad.generators: rush_hour is excluded"):
        built({"bad": {"generators": {"rush_hour": {}}}})


@pytest.mark.parametrize(
    ("generators", "error", "says"),
    [
        ({"chain_summ": {}}, NotFound, "did you mean 'chain_sum'"),
        ({"rush_hour": {}}, NotSupported, "rush_hour is excluded: its own answer scores 0"),
        ({"chain_sum": {"max_trems": 2}}, ConfigError, "cannot be drawn: TypeError"),
        ({"coaching": {}}, NotFound, "no generator 'coaching'"),
    ],
)
def test_generators_that_cannot_be_used(generators: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        build_tasks(ReasoningGym(generators=generators, num_train=4, num_heldout=2))


# ---------------------------------------------------------------- mixtures


def mixture(*parts: tuple[Any, float]) -> Mixture:
    return Mixture(parts=tuple(MixturePart(tasks=tasks, weight=weight) for tasks, weight in parts))


def test_shares_by_hand() -> None:
    # 4 / 1 against 9 / 2: the first is used whole, of the second 2 * 4 members.
    found = in_shares(["abcd", "123456789"], [1.0, 2.0])
    assert "".join(found) == "1a23b45c67d8"
    assert in_shares(["ab", "1"], [1.0, 1.0]) == ["a", "1"]


def test_chains_in_a_mixture_are_what_they_are_alone() -> None:
    alone = ChainArithmeticTasks(CHAIN)
    mixed = build_tasks(mixture((CHAIN, 1.0), (WORDS, 3.0)))
    chains = [p for p in mixed.train if p.domain == "chain_arithmetic"]
    assert chains == list(alone.train[: len(chains)])
    # 512 / 3 is the smaller: 170 chains and 512 rows of words.
    assert (len(chains), len(mixed.train)) == (170, 682)
    head = mixed.heldout[:40]
    assert sum(p.domain == "chain_arithmetic" for p in head) == 10


def test_each_part_judges_its_own() -> None:
    mixed = build_tasks(mixture((CHAIN, 1.0), (WORDS, 1.0)))
    chains = [p for p in mixed.train if p.domain == "chain_arithmetic"][:3]
    words = [p for p in mixed.train if p.domain == "instructions"][:3]
    marker = mixed.tokenizer.marker_id
    right = {p.prompt: (marker, *p.answer, mixed.tokenizer.end_id) for p in chains}
    right |= {p.prompt: mixed.tokenizer.encode(p.item.response) for p in words if p.item}
    problems = [chains[0], words[0], words[1], chains[1], words[2], chains[2]]
    assert [v.score for v in mixed.verdicts(problems, [right[p.prompt] for p in problems])] == [1.0] * 6
    assert [v.score for v in mixed.verdicts(problems, [(marker,)] * 6)] == [0.0] * 6


def test_demonstrations_come_in_the_shares_of_the_weights() -> None:
    mixed = build_tasks(mixture((CHAIN, 1.0), (WORDS, 3.0)))
    words = {p.prompt for p in mixed.train if p.domain == "instructions"}
    shown = mixed.demonstrations(Demonstrations(), 400)
    assert sum(d.prompt in words for d in shown) == 300


def test_parts_must_not_share_a_prompt(tmp_path: Path) -> None:
    one = PromptFiles(train=file_of(tmp_path, "a", *sums(0, 9)), num_heldout=2)
    other = PromptFiles(train=file_of(tmp_path, "b", *sums(8, 20)), num_heldout=2)
    with pytest.raises(DataError, match=r"parts 1 and 2 share the prompt '8 \+ 1'"):
        build_tasks(mixture((one, 1.0), (other, 1.0)))


def test_a_mixture_measures_the_downstream_sets_of_all_its_parts(tmp_path: Path) -> None:
    aime = file_of(tmp_path, "aime", *sums(90, 95))
    longer = ChainSet(min_steps=5, max_steps=6, num_prompts=7)
    chains = CHAIN.model_copy(update={"downstream": {"longer": longer}})
    rows = PromptFiles(train=file_of(tmp_path, "a", *sums(0, 9)), num_heldout=2, downstream={"aime": aime})
    chosen = mixture((chains, 1.0), (rows, 1.0))
    assert chosen.downstream.keys() == {"longer", "aime"}
    mixed = build_tasks(chosen)
    assert {name: len(problems) for name, problems in mixed.downstream.items()} == {"longer": 7, "aime": 5}
    of_chains, of_file = mixed.downstream["longer"], mixed.downstream["aime"]
    assert {problem.difficulty for problem in of_chains} <= {5.0, 6.0}
    answers = [mixed.tokenizer.encode(f"\\boxed{{{n + 1}}}") for n in range(90, 95)]
    assert all(verdict.passed for verdict in mixed.verdicts(of_file, answers))
    right = [(mixed.tokenizer.marker_id, *problem.answer) for problem in of_chains]
    assert all(verdict.passed for verdict in mixed.verdicts(of_chains, right))


def test_a_row_must_not_be_trained_in_one_part_and_measured_in_another(tmp_path: Path) -> None:
    """Under another template the model reads another prompt, but the question is the same."""
    one = PromptFiles(
        train=file_of(tmp_path, "a", *sums(0, 9)), heldout=file_of(tmp_path, "a held", *sums(50, 53))
    )
    for name, held, further in (("b", sums(3, 5), {}), ("c", sums(20, 25), {"aime": sums(3, 5)})):
        other = PromptFiles(
            train=file_of(tmp_path, name, *sums(30, 39)),
            heldout=file_of(tmp_path, f"{name} held", *held),
            downstream={key: file_of(tmp_path, f"{name} {key}", *rows) for key, rows in further.items()},
            template="Say: {prompt}",
        )
        where = "downstream.aime" if further else "heldout"
        with pytest.raises(DataError, match=rf"\({where}\) has the prompt of .*a.jsonl.*\(train\)"):
            build_tasks(mixture((one, 1.0), (other, 1.0)))


def test_the_downstream_sets_of_a_mixture_have_names_of_their_own() -> None:
    sets = {"longer": ChainSet(min_steps=5, max_steps=6)}
    chains = CHAIN.model_copy(update={"downstream": sets})
    words = WORDS.model_copy(update={"downstream": {"longer": "w.jsonl"}})
    with pytest.raises(ValidationError, match="two parts have a downstream set called longer"):
        mixture((chains, 1.0), (words, 1.0))
    with pytest.raises(ValidationError, match="this name is taken by the held-out prompts"):
        PromptFiles(train="t", downstream={"heldout": "h"})


def test_a_field_added_to_one_member_of_a_union_is_neutral_there_alone() -> None:
    def left(kind: str) -> dict[str, Any]:
        return without_neutral({"tasks": {"parts": [{"tasks": {"type": kind, "downstream": {}}}]}})

    assert left("reasoning_gym") == {"tasks": {"parts": [{"tasks": {"type": "reasoning_gym"}}]}}
    assert left("prompt_files")["tasks"]["parts"][0]["tasks"]["downstream"] == {}


def test_the_shipped_recipe_mixes_two_domains() -> None:
    recipe = read_recipe("two_domains_tiny")
    tasks = build_tasks(recipe.tasks, recipe.model)
    measured = tasks.heldout[: recipe.evaluation.num_prompts]
    assert [sum(p.domain == d for p in measured) for d in ("chain_arithmetic", "instructions")] == [128, 128]


def test_fields_of_files_that_say_what_was_before_are_neutral() -> None:
    written = PromptFiles(train="t").model_dump(mode="json")
    assert without_neutral({"tasks": written}) == {
        "tasks": {"type": "prompt_files", "train": "t", "num_heldout": 1000, "seed": 0}
    }
    assert {path for path in NEUTRAL if path.startswith("tasks.") and ".parts." not in path} == {
        f"tasks.{name}" for name in written.keys() - {"type", "train", "num_heldout", "seed"}
    }
