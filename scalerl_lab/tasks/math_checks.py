"""Whether two mathematical answers are the same; runs in a worker process only.

math-verify compares, the gold answer first: its comparison is asymmetric (an inequality equals an interval,
not the other way round). It reads words as products of letters, so that anagrams would be equal: text is
compared as text.
"""

from __future__ import annotations

import logging
from typing import Any

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

from scalerl_lab.tasks.text_answers import is_text, same_text

# math-verify warns that it does not limit time: the worker does.
logging.disable(logging.CRITICAL)


def parses(gold: str) -> bool:
    """Whether a gold answer can be compared with anything."""
    return is_text(gold) or bool(_parsed(gold))


def equivalent(gold: str, answer: str) -> bool:
    """Whether an answer is the gold one, or is mathematically equal to it."""
    if is_text(gold):
        return same_text(gold, answer)
    wanted, found = _parsed(gold), _parsed(answer)
    return bool(wanted and found and verify(wanted, found, timeout_seconds=None))


def _parsed(text: str) -> list[Any]:
    """Expressions of a bare answer, as math-verify reads the inside of a box."""
    # The process is ended from outside, so the library's alarm stays off.
    found = parse(
        f"\\boxed{{{text}}}",
        extraction_config=[LatexExtractionConfig(), ExprExtractionConfig()],
        parsing_timeout=None,
    )
    # It also gives the text itself; two texts that could not be read must not be equal by being alike.
    return [each for each in found if not isinstance(each, str)]
