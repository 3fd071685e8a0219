"""In what two recipes differ, as short text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scalerl_lab.config.recipe import Recipe
from scalerl_lab.plan.identity import PROSE, without_neutral
from scalerl_lab.records import Change

LONGEST = 40
"""Longer text is cut: a forced phrase would fill the table."""


def changes(before: Recipe, after: Recipe) -> tuple[Change, ...]:
    """Every key path in which two recipes differ, in the recipe's own order.

    A choice whose ``type`` changed is one change; otherwise each field is one, also within the parts of a
    mixture: ``tasks.parts.1.tasks.partial_credit``.
    """
    return tuple(
        change
        for name in Recipe.model_fields
        if name not in PROSE
        for change in _differences(name, _plain(before, name), _plain(after, name))
    )


def short(value: Any) -> str:
    """A value on one line: ``ppo_clip(clip_low=0.2, clip_high=0.26)``, ``768``, ``+ - *``."""
    if isinstance(value, Mapping):
        given = {key: each for key, each in value.items() if key != "type" and each not in (None, {})}
        fields = ", ".join(f"{key}={short(each)}" for key, each in given.items())
        return f"{value.get('type', '')}({fields})" if fields else str(value.get("type", ""))
    if isinstance(value, list | tuple):
        return " ".join(short(each) for each in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _plain(recipe: Recipe, name: str) -> Any:
    return recipe.model_dump(mode="json", include={name})[name]


def _differences(path: str, before: Any, after: Any) -> list[Change]:
    if before == after:
        return []
    if _parts(before) and _parts(after) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [change for index, pair in pairs for change in _differences(f"{path}.{index}", *pair)]
    mappings = isinstance(before, Mapping) and isinstance(after, Mapping)
    if mappings and before.get("type") == after.get("type"):
        return [change for key in before for change in _differences(f"{path}.{key}", before[key], after[key])]
    return [Change(path, short(_as_asked(path, before)), short(_as_asked(path, after)))]


def _parts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, Mapping) for each in value)


def _as_asked(path: str, value: Any) -> Any:
    """A choice without later fields that say what recipes did before there were any."""
    return without_neutral(value, f"{path}.") if isinstance(value, dict) else value
