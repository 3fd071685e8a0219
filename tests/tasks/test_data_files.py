"""Files of prompts: what is allowed, what is said of what is not, and sets that overlap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from scalerl_lab.config.reading import data_file
from scalerl_lab.errors import DataError, NotFound
from scalerl_lab.tasks.data_files import read_items, refuse_overlap
from scalerl_lab.tasks.item import Item

ROW = {"id": "a", "domain": "math", "prompt": "1 + 1?", "answer": "2"}


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in rows) + "\n")
    return path


def test_a_row_as_it_is_read(tmp_path: Path) -> None:
    row = {
        "id": "c1", "domain": "choice", "prompt": "Which?", "choices": ["one", "two"], "answer": "B",
        "response": "\\boxed{B}", "metadata": {"source": "own"},
    }  # fmt: skip
    (item,) = read_items(written(tmp_path, "", row))
    assert item == Item(
        "c1", "choice", "Which?", "B", ("one", "two"), response="\\boxed{B}", metadata={"source": "own"}
    )
    assert item.text == "Which?\nA) one\nB) two"
    assert item.place.endswith("rows.jsonl:2")


def test_numbers_are_answers(tmp_path: Path) -> None:
    (item,) = read_items(written(tmp_path, {**ROW, "answer": 2.5}))
    assert item.answer == "2.5"


def test_parquet_is_read_like_json_lines(tmp_path: Path) -> None:
    rows = [
        {**ROW, "metadata": {"rel_tolerance": 0.1}},
        {"id": "b", "domain": "instructions", "prompt": "Two words",
         "constraints": [{"type": "count", "unit": "words", "at_least": 2}, {"type": "lower_case"}]},
    ]  # fmt: skip
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    # The absent values of Parquet's columns are no fields.
    names = {field.name for field in pyarrow.parquet.read_schema(path)}
    assert names == {"id", "domain", "prompt", "answer", "metadata"}  # pylist takes the first row's names
    whole = pyarrow.Table.from_pylist([{**dict.fromkeys([*rows[0], *rows[1]]), **row} for row in rows])
    pyarrow.parquet.write_table(whole, path)
    assert read_items(path) == read_items(written(tmp_path, *rows))


def told(*constraints: dict[str, Any]) -> dict[str, Any]:
    return {**ROW, "domain": "instructions", "constraints": list(constraints)}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "must be an object"),
        ({**ROW, "anwser": "2"}, "no field 'anwser'; allowed: id, domain, prompt, answer"),
        ({"id": "a", "domain": "math"}, "field 'prompt' is missing"),
        ({**ROW, "prompt": "  "}, "prompt must be a text that is not empty, got '  '"),
        ({**ROW, "id": 7}, "id must be a text that is not empty, got 7"),
        ({**ROW, "domain": "maths"}, "domain must be one of math, stem, choice"),
        ({"id": "a", "domain": "math", "prompt": "?"}, "field 'answer' is missing; domain math needs answer"),
        ({**ROW, "answer": ["2"]}, "answer must be a text or a number, got ['2']"),
        ({**ROW, "answer": True}, "answer must be a text or a number, got True"),
        ({**ROW, "domain": "choice"}, "field 'choices' is missing"),
        ({**ROW, "domain": "choice", "choices": ["x"]}, "choices must be 2 to 26 texts, got 1"),
        ({**ROW, "domain": "choice", "choices": ["x", "X "]}, "choices must differ"),
        ({**ROW, "domain": "choice", "choices": ["x", "y"]}, "must be a letter from A to B, got '2'"),
        ({**ROW, "domain": "choice", "choices": ["x", "y"], "answer": "C"}, "from A to B, got 'C'"),
        ({**ROW, "metadata": []}, "metadata must be an object"),
        ({**ROW, "metadata": {"rel_tolerance": 2}}, "must be a number from 0 to below 1, got 2"),
        ({**ROW, "domain": "instructions", "constraints": []}, "constraints must be a list of objects"),
        (told({"type": "rhyme"}), "type is one of count, "),
        (told({"type": "json", "kys": ["a"]}), "no parameter 'kys'"),
        (told({"type": "include"}), "include needs words"),
        (told({"type": "include", "words": []}), "a list of texts"),
        (told({"type": "count", "unit": "words"}), "at_least, at_most"),
        (
            {**ROW, "domain": "instructions",
             "constraints": [{"type": "count", "unit": "words", "at_least": 3, "at_most": 2}]},
            "can never be followed",
        ),
        (
            told({"type": "count", "unit": "verbs", "at_most": 2}),
            "count.unit must be one of words, sentences",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, row: Any, says: str) -> None:
    with pytest.raises(DataError) as error:
        read_items(written(tmp_path, {**ROW, "id": "first"}, row))
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{tmp_path}/rows.jsonl:2: ")
    assert says in line


def test_an_id_stands_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows.jsonl:2: id 'a' is that of .*rows.jsonl:1 too"):
        read_items(written(tmp_path, ROW, {**ROW, "prompt": "2 + 2?"}))


def test_only_the_first_problems_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_items(written(tmp_path, *["{"] * 9))
    assert len(str(error.value).splitlines()) == 6
    assert str(error.value).endswith("... and 4 more")


def test_a_file_without_rows_or_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows; each line is one prompt"):
        read_items(written(tmp_path))
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_items(tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="JSON lines in UTF-8"):
        read_items(tmp_path / "x.jsonl")


def test_files_are_found_beside_the_recipes_and_missing_ones_named() -> None:
    assert data_file("data/words_train.jsonl").is_file()
    with pytest.raises(NotFound, match=r"no file of prompts 'data/none.jsonl'; looked for data/none.jsonl, "):
        data_file("data/none.jsonl")


def test_sets_that_share_a_prompt_are_refused_with_both_lines() -> None:
    def item(prompt: str, line: int, **more: Any) -> Item:
        return Item(str(line), "math", prompt, "2", place=f"x.jsonl:{line}", **more)

    # Case, blanks and width do not make another prompt; choices do.
    sets = {
        "train": [item("Is\n1 + 1?", 1), item("Pick", 2, choices=("a", "b")), item("2", 3), item("2", 4)],
        "heldout": [item("is 1 \uff0b 1?", 5), item("Pick", 6, choices=("a", "c"))],
    }  # fmt: skip
    with pytest.raises(DataError) as error:
        refuse_overlap(sets)
    assert str(error.value).splitlines() == [
        "1 prompts stand in two sets; take them out of one:",
        "x.jsonl:5 (heldout) has the prompt of x.jsonl:1 (train)",
    ]
    refuse_overlap({"train": sets["train"], "heldout": sets["heldout"][1:]})
