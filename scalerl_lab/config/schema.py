"""From plain values to a model, with errors that say what is allowed and the nearest name."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from scalerl_lab.config.problems import KeyPath, KeyPathError, Problem, nearest, unknown

M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], data: object) -> M:
    """The model that the plain values describe; nothing is coerced, so ``"8"`` is not 8.

    Raises:
        KeyPathError: With every key path that is wrong.
    """
    try:
        return model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise KeyPathError(_problems(model, data, error)) from None


def keys_at(model: type[BaseModel], data: object, path: KeyPath) -> tuple[str, ...]:
    """The keys that may stand at a path, given the choices (``type``) made on the way there."""
    for owner in _owners(model, data, path):
        return tuple(owner.model_fields)
    return ()


def type_at(model: type[BaseModel], data: object, path: KeyPath) -> Any:
    """The annotation of the field at a path, or None where there is no such field."""
    for owner in _owners(model, data, path[:-1]):
        found = owner.model_fields.get(str(path[-1]))
        return None if found is None else found.annotation
    return None


def types_of(annotation: Any) -> dict[str, type[BaseModel]]:
    """The tagged models of a union by their ``type``; empty where the annotation is no such union."""
    found: dict[str, type[BaseModel]] = {}
    for member in _members(annotation):
        tag = member.model_fields.get("type")
        if tag is not None and typing.get_origin(tag.annotation) is typing.Literal:
            found |= dict.fromkeys(typing.get_args(tag.annotation), member)
    return found


def _members(annotation: Any) -> list[type[BaseModel]]:
    """The models among an annotation's alternatives."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [model for part in typing.get_args(annotation) for model in _members(part)]
    return []


def _owners(annotation: Any, data: object, path: KeyPath) -> list[type[BaseModel]]:
    """The model at a path (at most one), following containers and the chosen ``type``."""
    models = _members(annotation)
    if len(models) > 1:
        tag = data.get("type") if isinstance(data, Mapping) else None
        models = [model for name, model in types_of(annotation).items() if name == tag]
    if not path:
        return models
    head, rest = path[0], path[1:]
    inner = _item(data, head)
    for model in models:
        found = model.model_fields.get(str(head))
        return [] if found is None else _owners(found.annotation, inner, rest)
    arguments = [part for part in typing.get_args(annotation) if part not in (Ellipsis, type(None))]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [model for part in arguments for model in _owners(part, data, path)][:1]
    return _owners(arguments[-1], inner, rest) if arguments else []


def _item(data: object, key: str | int) -> object:
    if isinstance(data, Mapping):
        return data.get(key)
    if isinstance(data, list) and isinstance(key, int) and key < len(data):
        return data[key]
    return None


def _problems(model: type[BaseModel], data: object, error: ValidationError) -> list[Problem]:
    """One problem per key path, the innermost where one lies within another.

    The alternatives of an untagged union are joined by ``or``.
    """
    texts: dict[KeyPath, list[str]] = {}
    for detail in error.errors(include_url=False):
        path = _key_path(data, detail)
        path, text = _explained(model, data, path, detail)
        known = texts.setdefault(path, [])
        if text not in known:
            known.append(text)
    return [
        Problem(path, ", or ".join(found))
        for path, found in texts.items()
        if not any(len(other) > len(path) and other[: len(path)] == path for other in texts)
    ]


def _key_path(data: object, detail: ErrorDetails) -> KeyPath:
    """An error's location in the data: without the tags and type names that pydantic puts in between."""
    path: list[str | int] = []
    location = detail["loc"]
    for index, part in enumerate(location):
        last = index == len(location) - 1
        present = (isinstance(data, Mapping) and part in data) or (
            isinstance(data, list) and isinstance(part, int)
        )
        if present or (last and detail["type"] == "missing"):
            path.append(part)
            data = _item(data, part)
    return tuple(path)


def _explained(
    model: type[BaseModel], data: object, path: KeyPath, detail: ErrorDetails
) -> tuple[KeyPath, str]:
    """Where and what, in the words of the file."""
    given = detail["input"]
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return path, unknown("key", path[-1], keys_at(model, data, path[:-1]))
        case "missing":
            return path, f"is missing{_choices(model, data, path)}"
        case "union_tag_invalid":
            allowed = [name.strip("' ") for name in str(context["expected_tags"]).split(",")]
            return (*path, "type"), unknown("type", context["tag"], allowed)
        case "union_tag_not_found":
            return path, f"needs a type{_choices(model, data, path)}"
        case "literal_error":
            allowed = list(_literals(type_at(model, data, path)))
            return path, f"must be one of {context['expected']}, got {given!r}{nearest(given, allowed)}"
        case "value_error":
            return path, str(context["error"])
        case "model_type" | "model_attributes_type" | "dict_type":
            return path, f"must be a mapping of keys, got {given!r}{_choices(model, data, path)}"
        case "string_pattern_mismatch":
            return path, f"may hold letters, digits, '_', '.' and '-' only, got {given!r}"
        case _:
            text = (
                detail["msg"]
                .replace("Input should be", "must be")
                .replace("a valid integer", "a whole number")
            )
            text = text.replace("a valid ", "a ").replace("an array", "a list").replace("a array", "a list")
            return path, f"{text}, got {given!r}"


def _literals(annotation: Any) -> tuple[str, ...]:
    return (
        tuple(map(str, typing.get_args(annotation)))
        if typing.get_origin(annotation) is typing.Literal
        else ()
    )


def _choices(model: type[BaseModel], data: object, path: KeyPath) -> str:
    """``; allowed types: ...`` where the path holds a tagged union."""
    allowed = types_of(type_at(model, data, path)) if path else {}
    return f"; allowed types: {', '.join(sorted(allowed))}" if len(allowed) > 1 else ""
