"""Constraints on a response that a pure function can check, after IFEval (arXiv 2311.07911, Table 1).

The strict score is the share of an item's constraints that the response follows. The tolerant one takes the
best of the response, the response without asterisks, and each of them without its first line, its last line
and both: the eight forms of IFEval's loose accuracy (section 2.2), which forgive "Sure, here is ...".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_SENTENCE = re.compile(r"[^.!?\s][^.!?]*(?:[.!?]+|$)")
_BULLET = re.compile(r"^\s*(?:[*-]|\d+[.)])\s+\S", re.MULTILINE)
_FENCE = re.compile(r"^```(?:json)?\s*\n(.*?)\n?```$", re.DOTALL)
_MOST_JSON = 100_000


def words_of(text: str) -> list[str]:
    """Words: letters and digits, with apostrophes and hyphens inside."""
    return _WORD.findall(text)


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _paragraphs(text: str) -> list[str]:
    return [part for part in re.split(r"\n[ \t]*\n", text) if part.strip()]


def _occurrences(text: str, phrase: str) -> int:
    """How often a word or phrase stands in a text as whole words, whatever its case."""
    pattern = r"(?<!\w)" + re.escape(phrase.casefold()) + r"(?!\w)"
    return len(re.findall(pattern, text.casefold()))


def _json(text: str) -> Any:
    """The JSON document that a text is, bare or in one fenced block; a ValueError where it is none."""
    bare = text.strip()
    fenced = _FENCE.match(bare)
    if len(bare) > _MOST_JSON:
        raise ValueError(f"longer than {_MOST_JSON} characters")
    try:
        return json.loads(fenced.group(1) if fenced else bare)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _is_json(text: str, keys: Sequence[str] = ()) -> bool:
    try:
        found = _json(text)
    except ValueError:
        return False
    return not keys or (isinstance(found, dict) and set(keys) <= found.keys())


def _cased(text: str, lower: bool) -> bool:
    letters = [c for c in text if c.isalpha()]
    return bool(letters) and text == (text.lower() if lower else text.upper())


def _titled(text: str) -> bool:
    found = words_of(text)
    return bool(found) and all(word[0].isupper() or word[0].isdigit() for word in found)


def _in_order(text: str) -> bool:
    found = [word.casefold() for word in words_of(text)]
    return bool(found) and found == sorted(found)


def _unique(text: str) -> bool:
    found = [word.casefold() for word in words_of(text)]
    return bool(found) and len(set(found)) == len(found)


def _counted(text: str, unit: str) -> int:
    return COUNTED[unit](text)


COUNTED: Mapping[str, Callable[[str], int]] = MappingProxyType(
    {
        "words": lambda text: len(words_of(text)),
        "sentences": lambda text: len(_SENTENCE.findall(text)),
        "lines": lambda text: len(_lines(text)),
        "paragraphs": lambda text: len(_paragraphs(text)),
        "bullets": lambda text: len(_BULLET.findall(text)),
        "characters": lambda text: len(text.strip()),
        "capital_words": lambda text: sum(word.isupper() and len(word) > 1 for word in words_of(text)),
        "placeholders": lambda text: len(re.findall(r"\[[^\[\]\n]+\]", text)),
        "highlights": lambda text: len(re.findall(r"\*[^*\n]+\*", text.replace("**", "*"))),
    }
)
"""``unit`` of the constraint ``count`` -> how many there are."""

Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Constraint:
    """One row of ``CONSTRAINTS``."""

    follows: Callable[[str, Params], bool]
    """(response, parameters) -> whether it is followed."""
    required: Mapping[str, type] = field(default_factory=dict)
    optional: Mapping[str, type] = field(default_factory=dict)
    """Name of a parameter -> its type; ``list`` is one of texts, none of them empty."""


def _within(num: int, params: Params) -> bool:
    return bool(params.get("at_least", 0) <= num <= params.get("at_most", num))


_LIMITS = {"at_least": int, "at_most": int}

CONSTRAINTS: Mapping[str, Constraint] = MappingProxyType(
    {
        "count": Constraint(lambda t, p: _within(_counted(t, p["unit"]), p), {"unit": str}, _LIMITS),
        "word_frequency": Constraint(
            lambda t, p: _within(_occurrences(t, p["word"]), p), {"word": str}, _LIMITS
        ),
        "letter_frequency": Constraint(
            lambda t, p: _within(t.casefold().count(p["letter"].casefold()), p), {"letter": str}, _LIMITS
        ),
        "include": Constraint(lambda t, p: all(_occurrences(t, w) for w in p["words"]), {"words": list}),
        "exclude": Constraint(lambda t, p: not any(_occurrences(t, w) for w in p["words"]), {"words": list}),
        "exclude_letters": Constraint(
            lambda t, p: not any(c.casefold() in t.casefold() for c in p["letters"]), {"letters": list}
        ),
        "starts_with": Constraint(lambda t, p: t.lstrip().startswith(p["text"]), {"text": str}),
        "ends_with": Constraint(lambda t, p: t.rstrip().endswith(p["text"]), {"text": str}),
        "first_word": Constraint(
            lambda t, p: [w.casefold() for w in words_of(t)[:1]] == [p["word"].casefold()], {"word": str}
        ),
        "last_word": Constraint(
            lambda t, p: [w.casefold() for w in words_of(t)[-1:]] == [p["word"].casefold()], {"word": str}
        ),
        "upper_case": Constraint(lambda t, p: _cased(t, lower=False)),
        "lower_case": Constraint(lambda t, p: _cased(t, lower=True)),
        "title_case": Constraint(lambda t, p: _titled(t)),
        "no_commas": Constraint(lambda t, p: "," not in t),
        "no_digits": Constraint(lambda t, p: not any(c.isdigit() for c in t)),
        "quoted": Constraint(lambda t, p: len(t.strip()) > 2 and t.strip()[0] == t.strip()[-1] == '"'),
        "json": Constraint(lambda t, p: _is_json(t, p.get("keys", ())), {}, {"keys": list}),
        "title": Constraint(lambda t, p: bool(re.search(r"<<[^<>\n]*\w[^<>\n]*>>", t))),
        "postscript": Constraint(lambda t, p: bool(re.search(r"^\s*P\.\s?S\.", t, re.MULTILINE))),
        "sections": Constraint(
            lambda t, p: _within(len(re.findall(rf"^\s*{re.escape(p['name'])} \d+", t, re.MULTILINE)), p),
            {"name": str},
            _LIMITS,
        ),
        "one_of": Constraint(lambda t, p: t.strip() in p["options"], {"options": list}),
        "alphabetical": Constraint(lambda t, p: _in_order(t)),
        "unique_words": Constraint(lambda t, p: _unique(t)),
        "repeats_prompt": Constraint(
            lambda t, p: t.lstrip().startswith(p["prompt"].strip()), {"prompt": str}
        ),
    }
)
"""``type`` of a constraint -> how it is checked, and its parameters. Count and frequency need at_least,
at_most or both."""


def problem_of(constraint: Any) -> str:
    """What is wrong with a constraint as written, and what is allowed; empty where nothing is."""
    if not isinstance(constraint, dict) or constraint.get("type") not in CONSTRAINTS:
        return f"must be an object whose type is one of {', '.join(CONSTRAINTS)}; got {constraint!r}"
    kind = constraint["type"]
    row = CONSTRAINTS[kind]
    allowed = {**row.required, **row.optional}
    for name, value in constraint.items():
        if name != "type" and name not in allowed:
            return f"{kind} has no parameter {name!r}; allowed: {', '.join(allowed) or 'none'}"
        if name != "type" and not _is_of(value, allowed[name]):
            return f"{kind}.{name} must be {_KINDS[allowed[name]]}, got {value!r}"
    for name in row.required:
        if name not in constraint:
            return f"{kind} needs {name} ({_KINDS[allowed[name]]})"
    if row.optional is _LIMITS and not _LIMITS.keys() & constraint.keys():
        return f"{kind} needs at_least, at_most or both"
    if constraint.get("at_least", 0) > constraint.get("at_most", float("inf")):
        return f"{kind} can never be followed: at_least exceeds at_most"
    if kind == "count" and constraint["unit"] not in COUNTED:
        return f"count.unit must be one of {', '.join(COUNTED)}, got {constraint['unit']!r}"
    return ""


_KINDS: Mapping[type, str] = MappingProxyType(
    {str: "a text that is not empty", int: "a whole number from 0", list: "a list of texts, none empty"}
)


def _is_of(value: Any, kind: type) -> bool:
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if kind is list:
        return isinstance(value, list) and bool(value) and all(isinstance(v, str) and v for v in value)
    return isinstance(value, str) and bool(value)


def share_followed(response: str, constraints: Sequence[Params]) -> float:
    """Share of the constraints that a response follows; an empty response follows none."""
    if not response.strip():
        return 0.0
    followed = [CONSTRAINTS[each["type"]].follows(response, each) for each in constraints]
    return sum(followed) / len(followed)


def loosely_followed(response: str, constraints: Sequence[Params]) -> float:
    """The best share among the forms of IFEval's loose accuracy."""
    forms = []
    for text in (response, response.replace("*", "")):
        lines = text.strip().split("\n")
        forms += [text, *("\n".join(part) for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return max(share_followed(form, constraints) for form in dict.fromkeys(forms))
