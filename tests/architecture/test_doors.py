"""Every room's door says what the room is for, what is in it, how to add to it and what it never does."""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.source import PACKAGE, ROOMS, python_files


def door_plate(room: str) -> str:
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))
    return ast.get_docstring(tree) or ""


@pytest.mark.parametrize("room", ROOMS)
def test_a_door_names_every_file_of_its_room(room: str) -> None:
    files = {path.stem for path in (PACKAGE / room).glob("*.py")} - {"__init__"}
    plate = door_plate(room)
    missing = {name for name in files if not re.search(rf"\b{name}\b", plate)}
    assert not missing, f"the docstring of scalerl_lab/{room}/__init__.py does not name {sorted(missing)}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_door_says_how_to_add_and_what_is_never_done(room: str) -> None:
    plate = door_plate(room)
    assert "To add" in plate
    assert re.search(r"\b(never|no|not|nothing)\b", plate)


def test_every_file_says_what_it_is() -> None:
    silent = [
        str(path)
        for path in python_files()
        if (source := path.read_text(encoding="utf-8")).strip() and not ast.get_docstring(ast.parse(source))
    ]
    assert not silent
