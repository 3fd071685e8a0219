"""Rows of prompts from JSON lines or Parquet, checked field by field; what a row holds is said in ``item``.

A bad file is one error that names file and line (in Parquet: row) of each problem, the field, and what is
allowed. Two sets of prompts must not overlap.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scalerl_lab.errors import DataError
from scalerl_lab.tasks.code import read_cases
from scalerl_lab.tasks.instructions import problem_of
from scalerl_lab.tasks.item import DOMAINS, LETTERS, Item

NEEDS: Mapping[str, tuple[str, ...]] = {
    "math": ("answer",),
    "stem": ("answer",),
    "choice": ("answer", "choices"),
    "logic": ("answer",),
    "instructions": ("constraints",),
    "code": ("tests",),
}
"""Fields that a row of a domain must have besides id, domain and prompt."""
FIELDS = ("id", "domain", "prompt", "answer", "choices", "constraints", "tests", "response", "metadata")
_TEXTS = ("id", "domain", "prompt", "response")
_OBJECT_LISTS = ("constraints", "tests")
_SHOWN = 5
"""Problems of a file that are named; of the rest their number."""


def read_items(path: Path) -> list[Item]:
    """All rows of a file, in its order.

    Raises:
        DataError: the file cannot be read, has no rows, or a row is not as the schema says.
    """
    rows = _parquet(path) if path.suffix == ".parquet" else _json_lines(path)
    problems: list[str] = []
    items: list[Item] = []
    seen: dict[str, str] = {}
    for place, row in rows:
        wrong = [row] if isinstance(row, str) else _problems(row)
        if not wrong and not isinstance(row, str):
            if row["id"] in seen:
                wrong = [f"id {row['id']!r} is that of {seen[row['id']]} too; each row needs its own"]
            else:
                seen[row["id"]] = place
                items.append(_item(row, place))
        problems += [f"{place}: {each}" for each in wrong]
    if problems:
        more = f"\n... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DataError("\n".join(problems[:_SHOWN]) + more)
    if not items:
        raise DataError(f"{path}: no rows; each line is one prompt, e.g. {_EXAMPLE}")
    return items


_EXAMPLE = '{"id": "a1", "domain": "math", "prompt": "What is 2 + 3?", "answer": "5"}'


def _json_lines(path: Path) -> Iterable[tuple[str, dict[str, Any] | str]]:
    """(file:line, object or what is wrong with the line) of every line that is not blank."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read: {error}; allowed: JSON lines in UTF-8, or .parquet"
        ) from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield f"{path}:{number}", f"not JSON ({error}); each line is one object, e.g. {_EXAMPLE}"
            continue
        yield f"{path}:{number}", row if isinstance(row, dict) else f"must be an object, e.g. {_EXAMPLE}"


def _parquet(path: Path) -> Iterable[tuple[str, dict[str, Any] | str]]:
    """(file:row, row) of every row; absent values (null) are left out, also inside structs."""
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from None
    return [(f"{path}:{number}", _without_null(row)) for number, row in enumerate(rows, 1)]


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(inner) for key, inner in value.items() if inner is not None}
    return [_without_null(each) for each in value] if isinstance(value, list) else value


# ---------------------------------------------------------------- one row


def _problems(row: dict[str, Any]) -> list[str]:
    """What is wrong with a row, and what is allowed."""
    found = [f"no field {name!r}; allowed: {', '.join(FIELDS)}" for name in row if name not in FIELDS]
    for name in ("id", "domain", "prompt"):
        if name not in row:
            found.append(f"field {name!r} is missing; every row needs id, domain and prompt")
    found += [
        f"{name} must be a text that is not empty, got {row[name]!r}"
        for name in _TEXTS
        if name in row and not (isinstance(row[name], str) and row[name].strip())
    ]
    if found:
        return found
    domain = row["domain"]
    if domain not in DOMAINS:
        return [f"domain must be one of {', '.join(DOMAINS)}, got {domain!r}"]
    found = [
        f"field {name!r} is missing; domain {domain} needs {' and '.join(NEEDS[domain])}"
        for name in NEEDS[domain]
        if name not in row
    ]
    return found or [*_shape_problems(row), *_domain_problems(row)]


def _shape_problems(row: dict[str, Any]) -> list[str]:
    """Fields whose type is wrong."""
    found = []
    answer = row.get("answer", "-")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float) or not str(answer).strip():
        found.append(f"answer must be a text or a number, got {answer!r}")
    choices = row.get("choices", ["-", "-"])
    if not isinstance(choices, list) or not all(isinstance(c, str) and c.strip() for c in choices):
        found.append(f"choices must be a list of texts, got {choices!r}")
    elif not 2 <= len(choices) <= len(LETTERS):
        found.append(f"choices must be 2 to {len(LETTERS)} texts, got {len(choices)}")
    elif len({" ".join(c.casefold().split()) for c in choices}) < len(choices) and "choices" in row:
        found.append("choices must differ from each other")
    for name in _OBJECT_LISTS:
        value = row.get(name, [{}])
        if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
            found.append(f"{name} must be a list of objects that is not empty, got {value!r}")
    if not isinstance(row.get("metadata", {}), dict):
        found.append(f"metadata must be an object, got {row['metadata']!r}")
    return found


def _domain_problems(row: dict[str, Any]) -> list[str]:
    """Values that the row's domain does not allow; a row of another shape has none."""
    if _shape_problems(row):
        return []
    if "choices" in row and row["domain"] in ("choice", "stem"):
        letters = LETTERS[: len(row["choices"])]
        if str(row["answer"]).strip() not in tuple(letters):
            return [f"answer must be a letter from A to {letters[-1]}, got {row['answer']!r}"]
    tolerance = row.get("metadata", {}).get("rel_tolerance", 0)
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < 1:
        return [f"metadata.rel_tolerance must be a number from 0 to below 1, got {tolerance!r}"]
    if row["domain"] == "code":
        try:
            read_cases(row["tests"])
        except DataError as error:
            return [str(error)]
    found = [problem_of(each) for each in row.get("constraints", ())]
    return [f"constraints: {each}" for each in found if each]


def _item(row: dict[str, Any], place: str) -> Item:
    return Item(
        id=row["id"],
        domain=row["domain"],
        prompt=row["prompt"],
        answer=str(row.get("answer", "")).strip(),
        choices=tuple(row.get("choices", ())),
        constraints=tuple(row.get("constraints", ())),
        tests=tuple(row.get("tests", ())),
        response=row.get("response", ""),
        metadata=row.get("metadata", {}),
        place=place,
    )


# ---------------------------------------------------------------- sets


def normalised(text: str) -> str:
    """The form in which prompts are compared: NFKC, lower case, single blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def refuse_overlap(sets: Mapping[str, Sequence[Item]]) -> None:
    """Refuse sets that share a prompt, choices included.

    Args:
        sets: name of a set (train, heldout, downstream.aime) -> its rows.

    Raises:
        DataError: names both lines of each pair.
    """
    first: dict[str, tuple[str, Item]] = {}
    shared: list[str] = []
    for name, items in sets.items():
        for item in items:
            other, known = first.setdefault(normalised(item.text), (name, item))
            if other != name:
                shared.append(f"{item.place} ({name}) has the prompt of {known.place} ({other})")
    if shared:
        more = f"\n... and {len(shared) - _SHOWN} more" if len(shared) > _SHOWN else ""
        raise DataError(
            f"{len(shared)} prompts stand in two sets; take them out of one:\n"
            + "\n".join(shared[:_SHOWN])
            + more
        )
