"""Changing a model by dotted key paths, as arms, profiles and ``extends`` do.

``numerics.trainer_head: bf16`` sets a field; a mapping without ``type`` changes only the fields it
names; a mapping with ``type`` replaces the whole choice, and so does ``loss.type: gspo``.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, TypeVar

from pydantic import BaseModel

from scalerl_lab.config.problems import KeyPath, KeyPathError, Problem, one_problem, render, unknown
from scalerl_lab.config.schema import keys_at, validate

M = TypeVar("M", bound=BaseModel)


def merged(old: Any, new: Any) -> Any:
    """``new`` laid over ``old``: mappings without ``type`` merge, all else replaces."""
    if isinstance(old, Mapping) and isinstance(new, Mapping) and "type" not in new:
        return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}
    return deepcopy(new)


def override(model: M, changes: Mapping[str, Any], at: KeyPath = ()) -> M:
    """The model with the changes made, validated as a whole.

    Args:
        model: What is changed; it stays as it is.
        changes: Dotted key path of the model -> new value.
        at: Key path at which the changes are written down, for errors.

    Raises:
        KeyPathError: A path does not exist, two paths overlap, or the result is not allowed.
    """
    data = model.model_dump(mode="json")
    found = [Problem((*at, path), text) for path, text in _overlaps(changes)]
    for path in sorted(changes, key=_outermost_first):
        try:
            _set(type(model), data, path, changes[path])
        except KeyPathError as error:
            found += [Problem((*at, path), problem.text_with_path) for problem in error.problems]
    if found:
        raise KeyPathError(found)
    try:
        return validate(type(model), data)
    except KeyPathError as error:
        raise KeyPathError([_attributed(problem, changes, at) for problem in error.problems]) from None


def get(model: BaseModel, path: str) -> Any:
    """The plain value at a dotted key path of a model.

    Raises:
        KeyPathError: There is no such path.
    """
    return _at(type(model), model.model_dump(mode="json"), path.split("."))


def _outermost_first(path: str) -> tuple[int, bool, str]:
    parts = path.split(".")
    return len(parts), parts[-1] != "type", path


def _overlaps(changes: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of paths of which one lies within the other, so that their order would matter."""
    return [
        (inner, f"overlaps with {outer!r}; write one of them")
        for inner in sorted(changes)
        for outer in sorted(changes)
        if inner.startswith(outer + ".")
    ]


def _set(model: type[BaseModel], data: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    if last == "type" and parents:
        if not isinstance(_at(model, data, parents), dict):
            raise _no_keys_below(parents)
        *parents, last = parents
        value = {"type": value}
    target = _at(model, data, parents)
    if not isinstance(target, dict):
        raise _no_keys_below(parents)
    allowed = keys_at(model, data, tuple(parents))
    if last not in target and allowed and last not in allowed:
        raise one_problem((), unknown("key", last, allowed) + _chosen(target, parents))
    target[last] = merged(target.get(last), value)


def _at(model: type[BaseModel], data: dict[str, Any], path: list[str]) -> Any:
    """The value at a path; raises where there is none."""
    value: Any = data
    for index, key in enumerate(path):
        above = path[:index]
        if not isinstance(value, dict):
            raise _no_keys_below(above)
        if key not in value:
            allowed = keys_at(model, data, tuple(above)) or tuple(value)
            raise one_problem((), unknown("key", key, allowed) + _chosen(value, above))
        value = value[key]
    return value


def _no_keys_below(path: list[str]) -> KeyPathError:
    return one_problem((), f"{'.'.join(path)} is a single value and has no keys")


def _chosen(value: dict[str, Any], path: list[str]) -> str:
    """Says which choice the allowed keys belong to."""
    return f" ({'.'.join(path)} is {value['type']!r} here)" if path and "type" in value else ""


def _attributed(problem: Problem, changes: Mapping[str, Any], at: KeyPath) -> Problem:
    """Moves a problem of the result to the change that caused it, where there is one."""
    for path in sorted(changes, key=len, reverse=True):
        parts = tuple(path.split("."))
        if problem.path[: len(parts)] == parts:
            return Problem((*at, path, *problem.path[len(parts) :]), problem.text)
        if parts[-1] == "type" and problem.path[: len(parts) - 1] == parts[:-1]:
            return Problem((*at, path), problem.text_with_path)
    for path in sorted(changes):
        if problem.path and path.startswith(render(problem.path) + "."):
            return Problem((*at, path), problem.text)
    return Problem(at, problem.text_with_path)
