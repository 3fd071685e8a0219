"""N-gram overlap by hand, and against its definition."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalerl_lab.errors import ConfigError
from scalerl_lab.rl.overlap import Overlap, corpus_of, words_of
from scalerl_lab.tasks import build_tasks
from tests.rl.tiny import tiny_recipe

TAUGHT = {"type": "demonstrations", "steps": 5, "demonstrations_per_step": 4}


def test_by_hand() -> None:
    corpus = Overlap([["a", "b", "c", "d"], ["e", "f"]], 2, 3)
    found = corpus.of([[["x", "b", "c", "y"]], [["a", "b", "c"], ["d", "e", "f"]]])
    # n = 2: b c of the first; a b c and e f of the others: 2 + 3 + 2 of 10. n = 3: a b c alone.
    assert found.by_length == {2: pytest.approx(0.7), 3: pytest.approx(0.3)}
    assert found.mean == pytest.approx(0.5)
    # Covered 1 of 4 words, and 4 of 6: (1 - 2)^2 + (4 - 3)^2 = 2, times 2 / 1, rooted, over 10.
    assert found.standard_error == pytest.approx(0.2)


def test_no_ngram_crosses_from_one_text_to_the_next() -> None:
    corpus = Overlap([["a", "b"], ["c", "d"]], 2, 2)
    assert corpus.of([[["b", "c"]]]).mean == 0.0
    assert corpus.of([[["a"], ["b"]]]).mean == 0.0


def test_words_that_the_corpus_lacks_never_match_and_nothing_is_nothing() -> None:
    corpus = Overlap([["a", "b"]], 1, 1)
    assert corpus.of([[["x", "y"]]]).mean == 0.0
    assert corpus.of([[[]], [[]]]).mean == 0.0
    assert corpus.of([[["a", "b"]]]).standard_error is None


TEXTS = st.lists(st.lists(st.sampled_from("abc"), max_size=9).map(tuple), min_size=1, max_size=4)


@given(TEXTS, TEXTS)
def test_it_is_the_share_of_words_in_any_ngram_of_at_least_that_length(
    corpus: list[tuple[str, ...]], written: list[tuple[str, ...]]
) -> None:
    found = Overlap(corpus, 2, 4).of([written])
    for n in (2, 3, 4):
        covered = total = 0
        for text in written:
            inside: set[int] = set()
            for first in range(len(text)):
                for end in range(first + n, len(text) + 1):
                    gram = text[first:end]
                    if any(gram == c[i : i + len(gram)] for c in corpus for i in range(len(c))):
                        inside |= set(range(first, end))
            covered += len(inside)
            total += len(text)
        assert found.by_length[n] == pytest.approx(covered / total if total else 0.0)


def test_demonstrations_overlap_with_themselves_wholly_where_long_enough() -> None:
    recipe = tiny_recipe(
        warm_start=TAUGHT,
        evaluation={"every_steps": 4, "num_prompts": 8, "ngram_overlap": {"every_steps": 4}},
    )
    tasks, cfg = build_tasks(recipe.tasks), recipe.evaluation.ngram_overlap
    assert cfg is not None
    assert recipe.warm_start.type == "demonstrations"
    corpus = corpus_of(cfg, recipe, tasks)
    shown = [words_of(tasks, each.response) for each in tasks.demonstrations(recipe.warm_start, 20)]
    assert "<end>" not in shown[0]
    long = [text for text in shown if len(text) >= 12]
    assert long
    assert corpus.of([[text] for text in long]).mean == 1.0
    assert corpus.of([[["+1", "+1", "+1", "+1", "+1", "+1"]]]).mean == 0.0


def test_a_text_file_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("+1 0 +2 2 # 2\n# 1\n", encoding="utf-8")
    settings = {"every_steps": 4, "min_length": 2, "max_length": 2}
    overlap = {**settings, "corpus": {"type": "text_file", "path": str(path)}}
    recipe = tiny_recipe(evaluation={"every_steps": 4, "num_prompts": 8, "ngram_overlap": overlap})
    tasks, cfg = build_tasks(recipe.tasks), recipe.evaluation.ngram_overlap
    assert cfg is not None
    assert corpus_of(cfg, recipe, tasks).of([[["+1", "0", "+1"]]]).mean == pytest.approx(2 / 3)
    path.write_text("one\ntwo\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no text of the corpus has 2 words"):
        corpus_of(cfg, recipe, tasks)
    path.unlink()
    with pytest.raises(ConfigError, match="cannot read"):
        corpus_of(cfg, recipe, tasks)
