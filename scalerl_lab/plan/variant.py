"""What a question asks for before seeds are drawn: recipes with a name, a budget and a place in the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scalerl_lab.config.problems import KeyPath
from scalerl_lab.config.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Variant:
    """An arm, or the control, before seeds."""

    name: str
    recipe: Recipe
    budget_gpu_hours: float
    at: KeyPath
    """Where the sweep says so, for errors."""


RecipeOf = Callable[[str, KeyPath], Recipe]
"""From a recipe's name, and the key path that names it, to the recipe that runs at the profile's scale."""
