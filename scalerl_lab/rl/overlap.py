"""N-gram overlap: how much of what a policy writes is found in a corpus, word for word.

For n from min_length to max_length, let U_n be the share of words of the completions that lie in no
n-gram which the corpus has. Then

    ngram_overlap_n = 1 - U_n,      ngram_overlap = mean over n of ngram_overlap_n,

and the Creativity Index of Lu et al. (arXiv 2410.04265) is the sum over n of U_n, that is the number of
lengths times 1 - ngram_overlap. Their L-uniqueness asks for n-grams of at least L words; a word lies in
one of those that the corpus has if and only if it lies in one of exactly L, so that the two agree. Here
matches are verbatim only. A text is a line of words; no n-gram crosses from one text to the next.

Shapes: W words of all texts one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scalerl_lab.config.evaluation import DemonstrationCorpus, NgramOverlap
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.errors import ConfigError
from scalerl_lab.tasks import TaskSet

_Hashes = npt.NDArray[np.uint64]
_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
_Text = Sequence[str]


@dataclass(frozen=True, slots=True)
class Shares:
    """Overlap of some completions with the corpus."""

    by_length: dict[int, float]
    """n -> share of words that lie in an n-gram of the corpus."""
    mean: float
    standard_error: float | None
    """Of the mean, over a draw of prompts; None for one prompt."""


class Overlap:
    """The n-grams of a corpus, by 64-bit hash: two different ones are taken for one with chance 2^-64."""

    def __init__(self, texts: Iterable[_Text], min_length: int, max_length: int) -> None:
        self._lengths = range(min_length, max_length + 1)
        self._ids: dict[str, int] = {}
        rows = [[self._ids.setdefault(word, len(self._ids) + 1) for word in text] for text in texts]
        word_W, start_W = _joined(rows)
        self._known = {n: np.unique(_grams(word_W, start_W, n)[0]) for n in self._lengths}

    def of(self, completions: Sequence[Sequence[_Text]]) -> Shares:
        """Overlap of completions.

        Args:
            completions: for each prompt its completions, each a sequence of words.

        Returns:
            Shares over all words of all completions; zero where there are no words.
        """
        # A word the corpus lacks has id 0, which is in none of its n-grams.
        rows = [[self._ids.get(word, 0) for word in text] for texts in completions for text in texts]
        word_W, text_W = _joined(rows)
        prompt_of_text = np.repeat(np.arange(len(completions)), [len(texts) for texts in completions])
        prompt_W = prompt_of_text[text_W] if len(text_W) else text_W
        covered_W = np.zeros(len(word_W))
        by_length = {}
        for n in self._lengths:
            in_gram_W = self._covered(word_W, text_W, n)
            by_length[n] = float(in_gram_W.mean()) if len(word_W) else 0.0
            covered_W += in_gram_W / len(self._lengths)
        covered_P = np.bincount(prompt_W, covered_W, len(completions)).astype(np.float64)
        words_P = np.bincount(prompt_W, minlength=len(completions)).astype(np.float64)
        mean = float(covered_W.mean()) if len(word_W) else 0.0
        return Shares(by_length, mean, _ratio_error(covered_P, words_P, mean))

    def _covered(self, word_W: _Ints, text_W: _Ints, n: int) -> npt.NDArray[np.bool_]:
        """Whether each word lies in an n-gram of the corpus."""
        hashes, starts = _grams(word_W, text_W, n)
        found = starts[np.isin(hashes, self._known[n])]
        edges = np.zeros(len(word_W) + 1, dtype=np.int64)
        np.add.at(edges, found, 1)
        np.add.at(edges, found + n, -1)
        return np.asarray(np.cumsum(edges[:-1]) > 0)


def corpus_of(cfg: NgramOverlap, recipe: Recipe, tasks: TaskSet) -> Overlap:
    """The corpus that a recipe names.

    Raises:
        ConfigError: the text file cannot be read, or no line of it is as long as an n-gram.
    """
    if isinstance(cfg.corpus, DemonstrationCorpus):
        warm_start = recipe.warm_start
        if warm_start.type == "none":
            raise ConfigError("evaluation.ngram_overlap: there are no demonstrations without a warm start")
        shown = tasks.demonstrations(warm_start, warm_start.steps * warm_start.demonstrations_per_step)
        texts: list[_Text] = [words_of(tasks, each.response) for each in shown]
    else:
        try:
            lines = Path(cfg.corpus.path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"evaluation.ngram_overlap.corpus.path: cannot read {cfg.corpus.path}: {error}"
            ) from None
        texts = [line.split() for line in lines]
    if not any(len(text) >= cfg.min_length for text in texts):
        raise ConfigError(
            f"evaluation.ngram_overlap: no text of the corpus has {cfg.min_length} words, so nothing could "
            "overlap; lower min_length, or give a corpus with longer lines"
        )
    return Overlap(texts, cfg.min_length, cfg.max_length)


def words_of(tasks: TaskSet, response: Sequence[int]) -> list[str]:
    """The words of a completion, without the token that ends it."""
    tokens = [token for token in response if token != tasks.tokenizer.end_id]
    return tasks.tokenizer.decode(tokens).split()


def _joined(rows: Sequence[Sequence[int]]) -> tuple[_Ints, _Ints]:
    """Words of all texts one after the other, and to which text each belongs."""
    lengths = [len(row) for row in rows]
    words = np.fromiter((word for row in rows for word in row), dtype=np.int64, count=sum(lengths))
    return words, np.repeat(np.arange(len(rows)), lengths)


def _grams(word_W: _Ints, text_W: _Ints, n: int) -> tuple[_Hashes, _Ints]:
    """Hash of every n-gram that lies within one text, and the place of its first word."""
    num = len(word_W) - n + 1
    if num <= 0:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    with np.errstate(over="ignore"):
        hashes = np.zeros(num, dtype=np.uint64)
        for place in range(n):
            hashes += _mixed(word_W[place : place + num].astype(np.uint64) * np.uint64(64) + np.uint64(place))
    starts = np.flatnonzero(text_W[:num] == text_W[n - 1 :])
    return hashes[starts], starts


def _mixed(value: _Hashes) -> _Hashes:
    """The finaliser of splitmix64: a bijection of 64 bits that looks random."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
    return value ^ (value >> np.uint64(31))


def _ratio_error(covered_P: _Floats, words_P: _Floats, ratio: float) -> float | None:
    """Standard error of a ratio of sums over prompts, linearised."""
    num, total = len(words_P), float(words_P.sum())
    if num < 2 or total == 0.0:
        return None
    squares = float(((covered_P - ratio * words_P) ** 2).sum())
    return float(np.sqrt(squares * num / (num - 1))) / total
