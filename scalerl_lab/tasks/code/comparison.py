"""When an output is the expected one.

Text: bytes are read as UTF-8; spaces at the ends of lines and empty lines at the end of the output do not
count; lines are compared one by one, each as its words. Two words are the same if they are the same
characters, or if the expected one is a decimal number with a point or an exponent and the two are within
the tolerance. Whole numbers are compared as written, so ``007`` is not ``7``, and neither ``nan`` nor
``inf`` is a number.

Values: both are what JSON can say. A tuple counts as a list. Numbers are compared as numbers, exactly if
both are whole and else within the tolerance; true and false are no numbers; keys have no order.
"""

from __future__ import annotations

import math
import re
from typing import Any

_DECIMAL = re.compile(
    r"[+-]?(\d{1,400}\.\d{0,400}|\.\d{1,400}|\d{1,400}(?=[eE]))([eE][+-]?\d{1,4})?", re.ASCII
)
_NUMBER = re.compile(r"[+-]?(\d{1,400}\.?\d{0,400}|\.\d{1,400})([eE][+-]?\d{1,4})?", re.ASCII)
_DEPTH = 100


def same_text(output: bytes, expected: str, tolerance: float) -> bool:
    """Whether an output is the expected text, by the rules above.

    Args:
        tolerance: relative and absolute difference at which two decimal numbers are still the same.
    """
    got = [line.split() for line in output.decode("utf-8", "replace").rstrip().split("\n")]
    wanted = [line.split() for line in expected.rstrip().split("\n")]
    return len(got) == len(wanted) and all(
        len(left) == len(right) and all(_same_word(a, b, tolerance) for a, b in zip(left, right, strict=True))
        for left, right in zip(got, wanted, strict=True)
    )


def _same_word(word: str, expected: str, tolerance: float) -> bool:
    if word == expected:
        return True
    if not _DECIMAL.fullmatch(expected) or not _NUMBER.fullmatch(word):
        return False
    return _close(float(word), float(expected), tolerance)


def _close(number: float, expected: float, tolerance: float) -> bool:
    """False for anything that is not finite."""
    if not (math.isfinite(number) and math.isfinite(expected)):
        return False
    return math.isclose(number, expected, rel_tol=tolerance, abs_tol=tolerance)


def same_value(value: Any, expected: Any, tolerance: float, depth: int = 0) -> bool:
    """Whether a value that came as JSON is the expected one, by the rules above.

    Args:
        tolerance: relative and absolute difference at which two numbers are the same if one is not whole.
        depth: of the place under comparison; a value nested deeper than 100 is never the expected one.
    """
    if depth > _DEPTH:
        return False
    if isinstance(expected, list | tuple):
        return (
            isinstance(value, list)
            and len(value) == len(expected)
            and all(same_value(a, b, tolerance, depth + 1) for a, b in zip(value, expected, strict=True))
        )
    if isinstance(expected, dict):
        return (
            isinstance(value, dict)
            and value.keys() == expected.keys()
            and all(same_value(value[key], expected[key], tolerance, depth + 1) for key in expected)
        )
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if isinstance(value, int) and isinstance(expected, int):
        return value == expected
    if isinstance(value, int | float) and isinstance(expected, int | float):
        try:
            return _close(float(value), float(expected), tolerance)
        except OverflowError:
            return False
    return type(value) is type(expected) and bool(value == expected)
