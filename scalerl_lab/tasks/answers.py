"""Where a response puts its answer: under one strict format, or wherever it stands.

Both read what comes after the last ``</think>``. A response that opens ``<think>`` and never closes it has no
answer under a strict format; the tolerant reading takes all of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_LATE_TAG = re.compile(r"<answer>", re.IGNORECASE)
_SAID = re.compile(
    r"(?:final\s+answer|answer|result)\s*(?:is|=|:)\s*:?\s*(.+?)(?=\.\s|\.$|\n|$)", re.IGNORECASE
)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?[^\d\n.!?;,]*")
_TAIL = 2000
"""Characters at the end of a response in which the tolerant reading looks."""


def after_thinking(response: str) -> str | None:
    """What follows the last ``</think>``; all of it where nothing was opened; None where nothing closed."""
    _, closed, rest = response.rpartition("</think>")
    if closed:
        return rest
    return None if "<think>" in response else response


def boxed(text: str) -> str | None:
    """Inside of the last ``\\boxed{...}``, braces balanced."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for place in range(start + len("\\boxed"), len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start + len("\\boxed{") : place].strip()
    return None


def answer_tag(text: str) -> str | None:
    """Inside of the last ``<answer>...</answer>``."""
    found = _TAG.findall(text)
    return found[-1].strip() if found else None


def marker(text: str) -> str | None:
    """What follows the last ``#`` to the end, on one line."""
    _, marked, rest = text.rstrip().rpartition("#")
    return rest.strip() if marked and "\n" not in rest else None


FORMATS: Mapping[str, Callable[[str], str | None]] = MappingProxyType(
    {"boxed": boxed, "answer_tag": answer_tag, "marker": marker}
)
"""``answer_format`` of a recipe -> text after thinking -> the answer, or None if the format is not kept."""

WRITTEN: Mapping[str, str] = MappingProxyType(
    {"boxed": "\\boxed{%s}", "answer_tag": "<answer>%s</answer>", "marker": "# %s"}
)
"""The same formats as a demonstration writes them."""


def strict_answer(response: str, answer_format: str) -> str | None:
    """The answer under the format, or None; an empty one is None."""
    text = after_thinking(response)
    return (FORMATS[answer_format](text) or None) if text is not None else None


def tolerant_answers(response: str) -> list[str]:
    """Where the answer stands: the best explicit place; without one, the last line and the last number
    with what follows it.

    Explicit are any of the formats, an unclosed tag, and what follows "the answer is". Only one of them is
    taken at its word: to try them all would pay for hedging.
    """
    text = after_thinking(response)
    text = (response if text is None or not text.strip() else text)[-_TAIL:]
    late_tag = _LATE_TAG.split(text)[1:]
    explicit = [boxed(text), answer_tag(text), *late_tag[-1:], *_SAID.findall(text)[-1:], marker(text)]
    for place in explicit:
        if place and (bare := _bare(place)):
            return [bare]
    last_line = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    places = [_bare(last_line), *map(_bare, _NUMBER.findall(text)[-1:])]
    return list(dict.fromkeys(place for place in places if place))


def _bare(text: str) -> str:
    """Without emphasis, quotes, dollars and the full stop."""
    return text.strip().strip("*_`\"'$ ").removesuffix(".").strip("*_`\"'$ ").strip()
