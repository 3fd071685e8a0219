"""The source as the architecture tests read it: files, rooms and imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "scalerl_lab"
ROOMS = sorted(init.parent.name for init in PACKAGE.glob("*/__init__.py"))


def python_files() -> list[Path]:
    """All Python of the package and of the migrations."""
    return sorted([*PACKAGE.rglob("*.py"), *(ROOT / "db").rglob("*.py")])


def room_of(path: Path) -> str:
    """Room of a file; ``db`` for migrations, the module's name for a file at the top of the package."""
    parts = path.relative_to(ROOT).parts
    return "db" if parts[0] == "db" else parts[1].removesuffix(".py")


@cache
def imported_packages(path: Path) -> tuple[tuple[str, int], ...]:
    """Top-level packages imported anywhere in a file, also inside functions, with the line.

    Imports under ``if TYPE_CHECKING`` load nothing and are left out.
    """
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[tuple[str, int]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_for_types = {
        node
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and ast.unparse(test.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in test.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in only_for_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0], node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value.split(".")[0], node.lineno
