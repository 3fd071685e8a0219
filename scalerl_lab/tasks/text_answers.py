"""Answers that are compared as text, as numbers, or as a quantity with its unit: pure functions."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

MOST_CHARACTERS = 1000
"""A longer answer is wrong: nobody's gold answer is, and comparing costs time."""
_MOST_DIGITS = 60
_NUMBER = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:,\d{3})+)?(?:\.\d+)?")
_POWER = re.compile(r"(?:e|\s*(?:x|\*|\\times|\\cdot)\s*10\s*\^?\s*)\{?([+-]?\d{1,3})\}?", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]{2,}")
_UNIT_STARTS = re.compile(r"[^\W\d_]|[%\u00b0/$\u20ac\u00a3]|\\[a-z%]")
_COMMAND = re.compile(r"\\(?:text|mathrm|textbf|mathbf|operatorname)\s*\{([^{}]*)\}")
_CONSTANTS = frozenset({"pi", "sqrt", "sin", "cos", "tan", "log", "ln", "exp", "inf", "oo"})


def plain(text: str) -> str:
    """One spelling: NFKC, without LaTeX text commands, dollars and full stop, lower case, single blanks."""
    shown = _COMMAND.sub(r"\1", unicodedata.normalize("NFKC", text))
    shown = shown.replace("\\ ", " ").replace("\\,", " ").replace("$", "").replace("\u2212", "-")
    return " ".join(shown.casefold().split()).strip(" .")


def is_text(gold: str) -> bool:
    """Whether a gold answer is words, not mathematics: a word of two letters, no sign, digit, command."""
    shown = plain(gold)
    words = _WORD.findall(shown)
    return (
        bool(words)
        and not any(word in _CONSTANTS for word in words)
        and not re.search(r"[\\=<>^+*/(){}\[\]\d]", shown)
    )


def same_text(gold: str, answer: str) -> bool:
    """Whether two answers are the same words, whatever their case, articles and punctuation."""
    return _words(gold) == _words(answer) != []


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"[\w'%-]+", plain(text)) if word not in ("a", "an", "the")]


def number(text: str) -> Fraction | None:
    """The exact value of a plain number: 1,234.5, 3/4, 1.2e-3 and 1.2 x 10^{-3}; else None."""
    found = quantity(text)
    return found[0] if found and not found[1] else None


def quantity(text: str) -> tuple[Fraction, str] | None:
    """A number and the unit behind it, in one spelling; None where no number comes first."""
    shown = plain(text[:MOST_CHARACTERS])
    read = _NUMBER.match(shown)
    if not read or not any(c.isdigit() for c in read.group()) or len(read.group()) > _MOST_DIGITS:
        return None
    value, rest = Fraction(read.group().replace(",", "")), shown[read.end() :]
    if power := _POWER.match(rest):
        value, rest = value * Fraction(10) ** int(power.group(1)), rest[power.end() :]
    elif over := re.match(r"\s*/\s*(\d{1,60})(?![\d.])", rest):
        if not int(over.group(1)):
            return None
        value, rest = value / int(over.group(1)), rest[over.end() :]
    unit = rest.strip()
    return (value, _unit(unit)) if not unit or _UNIT_STARTS.match(unit) else None


def _unit(text: str) -> str:
    shown = text.replace("\\cdot", "*").replace("\u00b7", "*").replace("\\%", "%").replace("^", "")
    return re.sub(r"[\s{}~]", "", shown)
