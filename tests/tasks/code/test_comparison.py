"""Comparison and extraction: the stated rules, and no input that they cannot take."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalerl_lab.tasks.code import last_block, same_text, same_value

TOLERANCE = 1e-6


@pytest.mark.parametrize(
    ("output", "expected", "same"),
    [
        (b"1 2 3\n", "1 2 3", True),
        (b"1  2\t3  \n\n\n", "1 2 3", True),
        (b"1 2\n3", "1 2 3", False),
        (b"\n1", "1", False),
        (b"yes", "YES", False),
        (b"0.3333333", "0.333333333333", True),
        (b"0.333", "0.333333333333", False),
        (b".5", "0.5", True),
        (b"5e-1", "0.5", True),
        (b"1", "1.0", True),
        (b"1.0", "1", False),
        (b"+1.0", "1.0", True),
        (b"0x1p0", "1.0", False),
        (b"1_0.0", "10.0", False),
        ("١.٠".encode(), "1.0", False),
        (b"inf", "inf", True),
        (b"1e400", "inf", False),
        (b"nan", "nan", True),
        (b"100000000.4", "100000000.0", True),
        (b"0.0000005", "0.0", True),
        (b"0.000002", "0.0", False),
        (b"\xff\xfe", "", False),
        (b"", "\n\n", True),
        ("ä".encode(), "ä", True),
    ],
)
def test_text(output: bytes, expected: str, same: bool) -> None:
    assert same_text(output, expected, TOLERANCE) is same


@pytest.mark.parametrize(
    ("value", "expected", "same"),
    [
        ([1, [2, None]], (1, (2, None)), True),
        ({"a": 1}, {"a": 1, "b": 1}, False),
        (10**30, 10**30, True),
        (10**30 + 1, 10**30, False),
        (10**400, 1.0, False),
        (1.0000005, 1.0, True),
        (1.000005, 1.0, False),
        (1, 1.0, True),
        (True, 1.0, False),
        (False, 0, False),
        (False, False, True),
        (None, False, False),
        (None, None, True),
        ("", None, False),
        ("1", 1, False),
        ({}, [], False),
        ([], {}, False),
        (math.nan, math.nan, False),
        (math.inf, math.inf, False),
    ],
)
def test_values(value: object, expected: object, same: bool) -> None:
    assert same_value(value, expected, TOLERANCE) is same


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_a_value_is_the_same_after_the_way_through_json(value: object) -> None:
    assert same_value(json.loads(json.dumps(value)), value, 0.0)


@given(JSON, JSON)
def test_with_no_tolerance_same_means_the_same_json(left: object, right: object) -> None:
    """Independent check: canonical texts, in which only 1 and 1.0 differ though they are the same."""

    def canonical(value: object) -> str:
        def whole(part: object) -> object:
            if isinstance(part, float) and part.is_integer():
                return int(part)
            if isinstance(part, list):
                return [whole(item) for item in part]
            if isinstance(part, dict):
                return {key: whole(item) for key, item in part.items()}
            return part

        return json.dumps(whole(value), sort_keys=True)

    assert same_value(left, right, 0.0) == (canonical(left) == canonical(right))


@given(st.binary(max_size=300), st.text(max_size=300))
def test_any_bytes_can_be_compared(output: bytes, expected: str) -> None:
    same_text(output, expected, TOLERANCE)


@given(st.lists(st.lists(st.integers(), min_size=1, max_size=5), min_size=1, max_size=5))
def test_whole_numbers_in_lines_are_the_same_only_as_written(rows: list[list[int]]) -> None:
    text = "\n".join(" ".join(map(str, row)) for row in rows)
    assert same_text(f"{text} \n\n".encode(), text, TOLERANCE)
    changed = [row[:] for row in rows]
    changed[0][0] += 1
    assert not same_text("\n".join(" ".join(map(str, row)) for row in changed).encode(), text, TOLERANCE)


@given(st.text(alphabet="`ab \n~\t", max_size=200))
def test_any_text_has_a_last_block_or_none(text: str) -> None:
    block = last_block(text)
    assert block is None or text.count("```") >= 2


@given(st.text(alphabet="abc =()\n", max_size=80), st.text(alphabet="xyz \n", max_size=30))
def test_a_block_comes_out_as_it_went_in(code: str, around: str) -> None:
    code = f"x = 1\n{code}"
    assert last_block(f"{around}\n```python\n{code}\n```\n{around}") == "\n".join(
        line if line.strip() else "" for line in f"{code}\n".split("\n")
    )


@pytest.mark.parametrize("unit", ["`", "``` ", "```\n", " ", "```a\n", "````\n```\n", "\t`"])
def test_megabytes_of_fences_take_no_time(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    started = time.process_time()
    last_block(text)
    assert time.process_time() - started < 5.0
