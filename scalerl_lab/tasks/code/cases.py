"""The two kinds of tests of a programming problem."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scalerl_lab.errors import DataError
from scalerl_lab.tasks.code.comparison import same_text, same_value
from scalerl_lab.tasks.sandbox import Json


@dataclass(frozen=True, slots=True)
class StdinCase:
    """The program reads ``stdin`` and must print ``expected``."""

    stdin: str
    expected: str


@dataclass(frozen=True, slots=True)
class CallCase:
    """``function(*arguments)`` must return ``expected``.

    The function is a top-level one, or a method of a class ``Solution`` that is made without arguments.
    """

    function: str
    arguments: Sequence[Json]
    expected: Json


Case = StdinCase | CallCase

_KINDS = {"stdin": {"stdin", "expected"}, "call": {"function", "arguments", "expected"}}


def read_cases(document: Any) -> tuple[Case, ...]:
    """Tests from parsed JSON.

    A list of objects, each either ``{"stdin": TEXT, "expected": TEXT}`` or
    ``{"function": NAME, "arguments": [...], "expected": VALUE}``.

    Raises:
        DataError: anything else, or a test that even its expected answer fails; with the place and what is
            allowed.
    """
    if not isinstance(document, list) or not document:
        raise DataError(f"tests must be a list with at least one test, got {_short(document)}")
    return tuple(_read_case(number, case) for number, case in enumerate(document))


def _read_case(number: int, case: Any) -> Case:
    keys = set(case) if isinstance(case, dict) else set()
    if keys == _KINDS["stdin"]:
        if all(isinstance(text, str) for text in case.values()):
            return _possible(number, StdinCase(case["stdin"], case["expected"]))
    elif keys == _KINDS["call"]:
        name, arguments = case["function"], case["arguments"]
        if isinstance(name, str) and name.isidentifier() and isinstance(arguments, list):
            return _possible(number, CallCase(name, tuple(arguments), case["expected"]))
    raise DataError(
        f"tests[{number}] is {_short(case)}; allowed: "
        '{"stdin": TEXT, "expected": TEXT} or {"function": NAME, "arguments": [...], "expected": VALUE}'
    )


def _possible(number: int, case: Case) -> Case:
    """The case, where the expected answer itself would pass it."""
    try:
        if isinstance(case, StdinCase):
            case.stdin.encode()
            passes = same_text(case.expected.encode(), case.expected, 0.0)
        else:
            json.dumps(case.arguments, allow_nan=False)
            passes = same_value(json.loads(json.dumps(case.expected, allow_nan=False)), case.expected, 0.0)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"tests[{number}] cannot be given to a program: {error}") from None
    if not passes:
        raise DataError(
            f"tests[{number}] expects what no program can give: {_short(case.expected)}; allowed: finite "
            "numbers, texts, true, false, null, and lists and objects of them, nested at most 100 deep"
        )
    return case


def _short(document: Any) -> str:
    text = json.dumps(document, default=str)
    return text if len(text) <= 120 else f"{text[:117]}..."
