"""The two kinds of tests of a programming problem."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scalerl_lab.errors import DataError
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
        DataError: anything else, with the place and what is allowed.
    """
    if not isinstance(document, list) or not document:
        raise DataError(f"tests must be a list with at least one test, got {_short(document)}")
    return tuple(_read_case(number, case) for number, case in enumerate(document))


def _read_case(number: int, case: Any) -> Case:
    keys = set(case) if isinstance(case, dict) else set()
    if keys == _KINDS["stdin"]:
        if all(isinstance(text, str) for text in case.values()):
            return StdinCase(case["stdin"], case["expected"])
    elif keys == _KINDS["call"]:
        name, arguments = case["function"], case["arguments"]
        if isinstance(name, str) and name.isidentifier() and isinstance(arguments, list):
            return CallCase(name, tuple(arguments), case["expected"])
    raise DataError(
        f"tests[{number}] is {_short(case)}; allowed: "
        '{"stdin": TEXT, "expected": TEXT} or {"function": NAME, "arguments": [...], "expected": VALUE}'
    )


def _short(document: Any) -> str:
    text = json.dumps(document, default=str)
    return text if len(text) <= 120 else f"{text[:117]}..."
