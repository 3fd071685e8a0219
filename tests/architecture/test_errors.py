"""The tree in the docstring of ``scalerl_lab.errors`` is the tree of its classes."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from scalerl_lab import errors
from scalerl_lab.errors import LabError

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and kind.__module__ == errors.__name__
}
BRANCH = re.compile(r"^    (?P<lines>(?:[|` ](?:   |-- ))*)(?P<name>[A-Z]\w+) {2,}(?P<code>\d+)?")


def drawn() -> dict[str, tuple[str, int]]:
    """Name -> (parent's name, exit code), as the docstring draws it; the root's parent is Exception."""
    tree: dict[str, tuple[str, int]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if not (match := BRANCH.match(line)):
            continue
        depth = len(match["lines"]) // 4
        parent = above[depth - 1] if depth else "Exception"
        code = int(match["code"]) if match["code"] else tree[parent][1]
        tree[match["name"]] = (parent, code)
        above[depth:] = [match["name"]]
    return tree


def test_the_drawing_is_the_tree() -> None:
    assert len(CLASSES) > 8
    actual = {name: (kind.__base__.__name__, kind.exit_code) for name, kind in CLASSES.items()}
    assert drawn() == actual


@pytest.mark.parametrize("name", CLASSES)
def test_failures_cross_processes(name: str) -> None:
    """A worker's failure is pickled on its way to the driver."""
    failure = CLASSES[name]("what, allowed, what to do")
    again = pickle.loads(pickle.dumps(failure))
    assert (type(again), str(again)) == (CLASSES[name], str(failure))
    assert isinstance(failure, LabError)
