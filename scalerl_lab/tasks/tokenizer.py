"""Text to token ids and back: whole words, bytes, or the tokenizer of a checkpoint folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from scalerl_lab.errors import ConfigError, NotFound

PAD = "<pad>"
END = "<end>"
MARKER = "#"
"""Comes before the final answer."""


class Vocabulary(Protocol):
    """What sampling and training need of a tokenizer."""

    @property
    def pad_id(self) -> int:
        """Fills rows; never written."""
        ...

    @property
    def end_id(self) -> int:
        """Ends a completion."""
        ...

    @property
    def marker_id(self) -> int:
        """Comes before the final answer; -1 where no single token does."""
        ...

    @property
    def size(self) -> int:
        """Number of token ids."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids."""
        ...


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


class ByteTokenizer:
    """UTF-8 bytes to token ids and back, so that any text can be written by a small model.

    A closed vocabulary may come first: its ids stay what they are there, and a byte that is one of its words
    has that word's id. So chains of words and plain text share one model.

    Args:
        words: of the closed vocabulary, without those for padding, end and marker.
    """

    pad_id = 0
    end_id = 1
    marker_id = 2

    def __init__(self, words: Iterable[str] = ()) -> None:
        texts = [each.encode() for each in (MARKER, *words)]
        self._bytes_of: list[bytes] = [b"", b"", *texts]
        known = {each: place for place, each in enumerate(self._bytes_of) if len(each) == 1}
        self._id_of: list[int] = []
        for byte in range(256):
            one = bytes([byte])
            if one not in known:
                known[one] = len(self._bytes_of)
                self._bytes_of.append(one)
            self._id_of.append(known[one])

    @property
    def size(self) -> int:
        """Number of token ids."""
        return len(self._bytes_of)

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text's bytes."""
        return tuple(self._id_of[byte] for byte in text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, padding and end left out; what is no UTF-8 becomes U+FFFD."""
        return b"".join(self._bytes_of[i] for i in ids).decode(errors="replace")


_END_TOKENS = ("eos_token",)
_PAD_TOKENS = ("pad_token", "eos_token")
_THINKING_ENDS = "</think>"


class CheckpointTokenizer:
    """The tokenizer of a checkpoint folder in Hugging Face format (``tokenizer.json``).

    The end token is ``eos_token`` of ``tokenizer_config.json``; padding is its ``pad_token``, else the end
    token. The marker is ``</think>`` where that is one token: an interruption does not come after it.

    Raises:
        NotFound: the folder or one of the two files is not there.
        ConfigError: the folder names no end token.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as FastTokenizer

        paths = [folder / name for name in ("tokenizer.json", "tokenizer_config.json")]
        for path in paths:
            if not path.is_file():
                raise NotFound(
                    f"model.path={str(folder)!r} has no {path.name}; give a local folder in Hugging Face "
                    "format (nothing is downloaded)"
                )
        self._tokenizer: Any = FastTokenizer.from_file(str(paths[0]))
        try:
            named = json.loads(paths[1].read_text())
        except ValueError as error:
            raise ConfigError(f"{paths[1]}: not JSON: {error}") from None
        self.end_id = self._special(named, _END_TOKENS, paths[1])
        self.pad_id = self._special(named, _PAD_TOKENS, paths[1])
        marker = self._tokenizer.encode(_THINKING_ENDS, add_special_tokens=False).ids
        self.marker_id: int = marker[0] if len(marker) == 1 else -1

    @property
    def size(self) -> int:
        """Number of token ids."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text; nothing is put before or behind it."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; padding and end are left out, other special tokens (``</think>``) stay."""
        left_out = (self.pad_id, self.end_id)
        return str(self._tokenizer.decode([i for i in ids if i not in left_out], skip_special_tokens=False))

    def _special(self, named: dict[str, Any], keys: Sequence[str], path: Path) -> int:
        for key in keys:
            given = named.get(key)
            text = given.get("content") if isinstance(given, dict) else given
            found = self._tokenizer.token_to_id(text) if isinstance(text, str) else None
            if found is not None:
                return int(found)
        raise ConfigError(f"{path}: {keys[-1]} names no token of tokenizer.json; it ends every completion")
