"""Points on one path (with the fields coupled to it) and on the product of several."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from scalerl_lab.config.overrides import get, override
from scalerl_lab.config.problems import KeyPath, KeyPathError, Problem, one_problem
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.sweep import Axis, Coupled, Grid
from scalerl_lab.plan.changes import short
from scalerl_lab.plan.variant import Variant

AT: KeyPath = ("question",)


def axis_points(axis: Axis, recipe: Recipe, run_gpu_hours: float) -> tuple[Variant, ...]:
    """One variant per point, in the order listed.

    Args:
        axis: The question.
        recipe: What every point changes.
        run_gpu_hours: Budget of a point that names none.

    Raises:
        KeyPathError: A path does not exist, a value is not allowed, or a coupled field would not be whole.
    """
    base = _base(recipe, axis.path, (*AT, "path"))
    listed, values = ("values", list(axis.values)) if axis.values is not None else ("factors", [])
    for index, factor in enumerate(axis.factors or ()):
        values.append(_scaled(base, factor, (*AT, "factors", index)))
    names = axis.names or _names({axis.path: values})
    budgets = axis.run_gpu_hours or (run_gpu_hours,) * len(values)
    points: list[Variant] = []
    found: list[Problem] = []
    for index, (name, value, budget) in enumerate(zip(names, values, budgets, strict=True)):
        at = (*AT, listed, index)
        try:
            changed = {axis.path: value}
            for place, coupled in enumerate(axis.coupled):
                changed[coupled.path] = _coupled(coupled, recipe, base, value, index, (*AT, "coupled", place))
            points.append(Variant(name, override(recipe, changed, at), budget, at))
        except KeyPathError as error:
            found += error.problems
    if found:
        raise KeyPathError(found)
    return tuple(points)


def grid_points(grid: Grid, recipe: Recipe, run_gpu_hours: float) -> tuple[Variant, ...]:
    """One variant per combination; paths in alphabetical order, the last one varies fastest.

    Raises:
        KeyPathError: A path does not exist, or a value is not allowed.
    """
    paths = sorted(grid.axes)
    for path in paths:
        _base(recipe, path, (*AT, "axes", path))
    columns = list(zip(*itertools.product(*(grid.axes[path] for path in paths)), strict=True))
    names = _names({path: list(column) for path, column in zip(paths, columns, strict=True)})
    at = (*AT, "axes")
    return tuple(
        Variant(name, override(recipe, dict(zip(paths, values, strict=True)), at), run_gpu_hours, at)
        for name, values in zip(names, zip(*columns, strict=True), strict=True)
    )


def _base(recipe: Recipe, path: str, at: KeyPath) -> Any:
    try:
        return get(recipe, path)
    except KeyPathError as error:
        raise KeyPathError(Problem(at, f"{path}: {each.text}") for each in error.problems) from None


def _scaled(base: Any, factor: float, at: KeyPath) -> float | int:
    """The recipe's own value times a factor; whole where the field is."""
    number = _number(base, at)
    return max(1, round(number * factor)) if isinstance(number, int) else number * factor


def _coupled(coupled: Coupled, recipe: Recipe, base: Any, value: Any, index: int, at: KeyPath) -> Any:
    """The value of a coupled field at one point."""
    own = _base(recipe, coupled.path, (*at, "path"))
    if coupled.values is not None:
        return coupled.values[index]
    start, point, field = _number(base, at), _number(value, at), _number(own, at)
    if point == 0 or start == 0:
        raise one_problem(at, "cannot hold a product or ratio with 0")
    held = field * start / point if coupled.hold == "product" else field * point / start
    if not isinstance(field, int):
        return held
    if abs(held - round(held)) > 1e-9 * max(1.0, abs(held)) or round(held) < 1:
        raise one_problem(
            at,
            f"holding the {coupled.hold} would make {coupled.path} {held:g} at {short(value)}, not a whole "
            "number; choose other points, or spell out values",
        )
    return round(held)


def _number(value: Any, at: KeyPath) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise one_problem(at, f"needs a number to multiply, got {short(value)!r}")
    return value


def _names(columns: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """``prompts_per_step=32``; of mappings, only the fields that vary."""
    parts = []
    for path, values in columns.items():
        tail = path.removesuffix(".type").rsplit(".", 1)[-1]
        parts.append([f"{tail}={text}" for text in _texts(values)])
    return tuple(",".join(each) for each in zip(*parts, strict=True))


def _texts(values: Sequence[Any]) -> list[str]:
    if all(isinstance(value, Mapping) for value in values):
        keys = sorted({key for value in values for key in value}, key=lambda key: (key != "type", key))
        varying = [key for key in keys if len({short(value.get(key)) for value in values}) > 1]
        rows = [",".join(short(value[key]) for key in varying if key in value) for value in values]
    else:
        rows = [short(value) for value in values]
    return [re.sub(r"[^A-Za-z0-9_.,+-]+", "-", row).strip("-") for row in rows]
