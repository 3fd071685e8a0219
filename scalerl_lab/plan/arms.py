"""What each kind of question asks for: a control and its arms, as recipes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scalerl_lab.config.overrides import get, override
from scalerl_lab.config.problems import KeyPath, KeyPathError, Problem, one_problem
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.sweep import AddOne, Arm, Axis, Compare, Grid, LeaveOneOut, Search, Sweep
from scalerl_lab.plan.axis import axis_points, grid_points
from scalerl_lab.plan.changes import changes, short
from scalerl_lab.plan.searched import check_search
from scalerl_lab.plan.variant import RecipeOf, Variant

CONTROL = "control"

NOT_CHOICES = frozenset(
    {"name", "about", "stands_in", "model", "tasks", "warm_start", "evaluation", "engine", "resources"}
)
CHOICES = tuple(name for name in Recipe.model_fields if name not in NOT_CHOICES)
"""Fields of a recipe that a derived question reverts or adds, each as one arm."""


def variants(sweep: Sweep, recipe_of: RecipeOf) -> tuple[Variant, ...]:
    """The control first, then the arms: written ones by name, derived ones, points and recipes as listed.

    Raises:
        KeyPathError: The question cannot be asked of this recipe.
    """
    hours = sweep.budget.run_gpu_hours
    recipe = recipe_of(sweep.recipe, ("recipe",))
    control = Variant(CONTROL, recipe, hours, ("recipe",))
    match sweep.question:
        case LeaveOneOut(arms=arms, baseline=None) | AddOne(arms=arms, target=None):
            return control, *_written(recipe, arms, hours)
        case LeaveOneOut(baseline=str(baseline)):
            at: KeyPath = ("question", "baseline")
            return control, *_derived(recipe, recipe_of(baseline, at), hours, at)
        case AddOne(target=str(target)):
            at = ("question", "target")
            return control, *_derived(recipe, recipe_of(target, at), hours, at)
        case Axis() as axis:
            return _with_control(control, axis_points(axis, recipe, hours))
        case Grid() as grid:
            return _with_control(control, grid_points(grid, recipe, hours))
        case Compare(recipes=names):
            places = [(name, ("question", "recipes", index)) for index, name in enumerate(names)]
            return tuple(Variant(Path(name).stem, recipe_of(name, at), hours, at) for name, at in places)
        case Search() as search:
            check_search(search, recipe)
            return (control,)
    raise AssertionError(sweep.question)


def _with_control(control: Variant, points: tuple[Variant, ...]) -> tuple[Variant, ...]:
    """The point that equals the recipe is the control; without one, the untouched recipe joins."""
    same = [point for point in points if not changes(control.recipe, point.recipe)]
    if not same:
        return control, *points
    return same[0], *(point for point in points if point is not same[0])


def _written(recipe: Recipe, arms: Mapping[str, Arm], hours: float) -> list[Variant]:
    """Arms that the sweep spells out, by name."""
    found: list[Problem] = []
    written = []
    for name in sorted(arms):
        at: KeyPath = ("question", "arms", name)
        if name == CONTROL:
            found.append(Problem(at, f"{CONTROL!r} is the name of the untouched recipe; choose another"))
            continue
        try:
            written.append(Variant(name, _changed(recipe, arms[name], (*at, "set")), hours, at))
        except KeyPathError as error:
            found += error.problems
    if found:
        raise KeyPathError(found)
    return written


def _changed(recipe: Recipe, arm: Arm, at: KeyPath) -> Recipe:
    """The recipe with an arm's changes, each of which must change something."""
    if not arm.set:
        raise one_problem(at, "changes nothing; name at least one key path and its value")
    result = override(recipe, arm.set, at)
    idle = [path for path in sorted(arm.set) if _plain(recipe, path) == _plain(result, path)]
    if idle:
        raise KeyPathError(
            Problem(
                (*at, path), f"changes nothing: {path} is {short(get(recipe, path))} in the recipe already"
            )
            for path in idle
        )
    return result


def _plain(recipe: Recipe, path: str) -> object:
    """The value at a path, or None where the recipe's own choice has no such key."""
    try:
        return get(recipe, path)
    except KeyPathError:
        return None


def _derived(recipe: Recipe, other: Recipe, hours: float, at: KeyPath) -> list[Variant]:
    """One arm per choice in which two recipes differ, with the other's value."""
    found: list[Problem] = []
    derived = []
    for choice in CHOICES:
        value = get(other, choice)
        if value == get(recipe, choice):
            continue
        kind = value.get("type") if isinstance(value, dict) else str(value)
        name = f"{choice}_{kind}" if kind else choice
        try:
            derived.append(Variant(name, override(recipe, {choice: value}), hours, at))
        except KeyPathError as error:
            found += [Problem(at, f"arm {name}: {each.text_with_path}") for each in error.problems]
    if not derived and not found:
        raise one_problem(
            at, f"{other.name!r} differs from {recipe.name!r} in no choice ({', '.join(CHOICES)})"
        )
    if found:
        raise KeyPathError(found)
    return derived
