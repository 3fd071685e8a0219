"""A small recipe and a small sweep, from which the tests of this room build their questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scalerl_lab.config.overrides import override
from scalerl_lab.config.profile import FlopsMeter, Profile
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.schema import validate
from scalerl_lab.config.start import LlamaModel
from scalerl_lab.config.sweep import Sweep
from scalerl_lab.config.tasks import ChainArithmetic
from scalerl_lab.errors import NotFound
from scalerl_lab.plan import SweepPlan, expand

BASE = override(
    Recipe(
        name="base",
        model=LlamaModel(),
        tasks=ChainArithmetic(num_heldout=1000),
    ),
    {"batch.prompts_per_step": 48},
)
GRPO = override(
    BASE,
    {
        "name": "grpo",
        "loss": {"type": "ppo_clip"},
        "aggregation.type": "sample",
        "numerics.trainer_head": "bf16",
        "model.width": 32,
        "evaluation.every_steps": 7,
    },
)
PROFILE = Profile(name="here", meter=FlopsMeter(flops_per_gpu_hour=1e6))


def sweep(question: Mapping[str, Any], **more: Any) -> Sweep:
    """A sweep about ``base`` with 100 GPU-hours a run, fitted from 10 on."""
    data = {
        "name": "ask",
        "recipe": "base",
        "question": dict(question),
        "budget": {"run_gpu_hours": 100},
        "fit_start_gpu_hours": 10,
    }
    return validate(Sweep, data | more)


def recipes(*more: Recipe) -> Callable[[str], Recipe]:
    """A look-up of ``base``, ``grpo`` and the given recipes."""
    known = {recipe.name: recipe for recipe in (BASE, GRPO, *more)}

    def recipe_of(name: str) -> Recipe:
        if name not in known:
            raise NotFound(f"no recipe {name!r}")
        return known[name]

    return recipe_of


def plan_of(question: Mapping[str, Any], *more_recipes: Recipe, **more: Any) -> SweepPlan:
    """The plan of a question under a profile without stand-ins."""
    return expand(sweep(question, **more), PROFILE, recipes(*more_recipes))


def changed(plan: SweepPlan, arm: str) -> dict[str, tuple[str, str]]:
    """What an arm changes: path -> before and after."""
    return {each.path: (each.before, each.after) for each in plan.runs_of(arm)[0].changes}
