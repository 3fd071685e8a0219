"""No bags, nothing left to do, and tests where their room is."""

from __future__ import annotations

import re

import pytest

from tests.architecture.source import PACKAGE, ROOMS, ROOT, python_files

BAGS = {"utils", "util", "common", "core", "helpers", "helper", "components", "misc"}
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
NOT_ROOMS = {"architecture", "conformance", "e2e", "golden"}


def test_no_bags() -> None:
    names = {part.removesuffix(".py") for path in python_files() for part in path.relative_to(ROOT).parts}
    assert not names & BAGS


def test_a_folder_is_opened_with_its_second_file() -> None:
    lonely = [
        folder.name
        for folder in PACKAGE.rglob("*")
        if folder.is_dir()
        and (folder / "__init__.py").exists()
        and len([file for file in folder.iterdir() if file.suffix == ".py"]) < 2
    ]
    assert not lonely


def written_by_people() -> list[str]:
    folders = ("scalerl_lab", "db", "recipes", "sweeps", "tests", ".ci")
    kinds = {".py", ".yaml", ".md", ".toml", ".css", ".js", ".mako", ".ini", ""}
    inside = [
        path for folder in folders for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts
    ]
    files = [*inside, *ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.y*ml")]
    return sorted(str(path.relative_to(ROOT)) for path in files if path.is_file() and path.suffix in kinds)


@pytest.mark.parametrize("folder", ["scalerl_lab", "db", "recipes", "sweeps", "tests", ".ci"])
def test_the_search_covers(folder: str) -> None:
    assert any(name.startswith(f"{folder}/") for name in written_by_people())


def test_nothing_is_left_to_do() -> None:
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in written_by_people()
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), start=1)
        if UNFINISHED.search(line)
    ]
    assert not found


def test_tests_mirror_the_rooms() -> None:
    folders = {
        folder.name
        for folder in (ROOT / "tests").iterdir()
        if folder.is_dir() and any(folder.glob("test_*.py"))
    }
    assert folders - NOT_ROOMS - set(ROOMS) == set()
    assert set(ROOMS) - folders == set()
