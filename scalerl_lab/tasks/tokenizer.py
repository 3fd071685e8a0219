"""A closed vocabulary of whole words, separated by blanks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scalerl_lab.errors import ConfigError

PAD = "<pad>"
END = "<end>"
MARKER = "#"
"""Comes before the final answer."""


class Tokenizer:
    """Words to token ids and back; id 0 pads, id 1 ends a completion, id 2 marks the final answer."""

    pad_id = 0
    end_id = 1
    marker_id = 2

    def __init__(self, words: Iterable[str]) -> None:
        self.words = (PAD, END, MARKER, *words)
        self._ids = {word: place for place, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            raise ValueError(f"the vocabulary has a word twice: {self.words}")

    @property
    def size(self) -> int:
        """Number of token ids."""
        return len(self.words)

    def id_of(self, word: str) -> int:
        """The id of one word."""
        return self._ids[word]

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text's words.

        Raises:
            ConfigError: a word is not in the vocabulary.
        """
        unknown = [word for word in text.split() if word not in self._ids]
        if unknown:
            raise ConfigError(
                f"{text!r} has words that this task's vocabulary lacks: {', '.join(unknown)}; "
                f"allowed: {' '.join(self.words)}"
            )
        return tuple(self._ids[word] for word in text.split())

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids."""
        return " ".join(self.words[i] for i in ids)
