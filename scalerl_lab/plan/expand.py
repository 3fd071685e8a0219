"""From a sweep and a profile to a plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scalerl_lab.config.overrides import override
from scalerl_lab.config.problems import KeyPath, KeyPathError, Problem, one_problem, render, unknown
from scalerl_lab.config.profile import Profile
from scalerl_lab.config.reading import (
    available,
    read_profile,
    read_recipe,
    read_sweep,
    shipped,
    sweep_document,
)
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.sweep import Search, Sweep
from scalerl_lab.errors import NotFound
from scalerl_lab.plan.arms import variants
from scalerl_lab.plan.changes import changes
from scalerl_lab.plan.identity import digest, run_identity
from scalerl_lab.plan.sweep_plan import SweepPlan, seeds_of
from scalerl_lab.plan.variant import RecipeOf, Variant
from scalerl_lab.records import Change, PlannedRun, Role, RunSpec


def plan_file(sweep: str | Path, profile: str | Path) -> SweepPlan:
    """The plan of a sweep's file under a profile; recipes are looked for beside the sweep first.

    Raises:
        NotFound: There is no such sweep, profile or recipe.
        ConfigError: A file or the question is not allowed; names file, line and key path of each problem.
    """
    path = shipped("sweep", sweep)
    read, under = read_sweep(path), read_profile(profile)
    try:
        _check_profiles(read, under)
        return expand(read, under, lambda name: read_recipe(name, beside=path.parent))
    except KeyPathError as error:
        raise sweep_document(path).located(error) from None


def expand(sweep: Sweep, profile: Profile, recipe_of: Callable[[str], Recipe]) -> SweepPlan:
    """Every run that a sweep asks for under a profile.

    Deterministic, and independent of the order of keys. Controls come first, then the arms seed by seed,
    so that every arm has a run before any has two.

    Args:
        sweep: The question.
        profile: Its overrides of the sweep are applied; its scale may put a stand-in in a recipe's place.
        recipe_of: From a recipe's name to the recipe.

    Raises:
        KeyPathError: The question cannot be asked; names the key path of each problem.
    """
    if profile.name in sweep.profiles:
        sweep = override(sweep, sweep.profiles[profile.name], ("profiles", profile.name))
    found = variants(sweep, _at_scale(recipe_of, profile.scale))
    _check(sweep, profile, found)
    control = found[0]
    places = [(variant, seed) for seed in seeds_of(sweep.seeds.control) for variant in found[:1]]
    places += [(variant, seed) for seed in seeds_of(sweep.seeds.arm) for variant in found[1:]]
    specs = [
        RunSpec(run_identity(variant.recipe, seed, profile.meter), variant.recipe, seed, profile.meter)
        for variant, seed in places
    ]
    sweep_id = f"{sweep.name}-{_digest_of(sweep, profile, places, specs)}"
    differences: dict[str, tuple[Change, ...]] = {v.name: changes(control.recipe, v.recipe) for v in found}
    runs = tuple(
        PlannedRun(
            sweep_id=sweep_id,
            arm=variant.name,
            role=Role.CONTROL if variant is control else Role.ARM,
            changes=differences[variant.name],
            budget_gpu_hours=float(variant.budget_gpu_hours),
            spec=spec,
            order=order,
        )
        for order, ((variant, _), spec) in enumerate(zip(places, specs, strict=True))
    )
    return SweepPlan(sweep_id, sweep, profile, runs)


def _at_scale(recipe_of: Callable[[str], Recipe], scale: str) -> RecipeOf:
    """Looks recipes up with their stand-ins; either all recipes of a question have one or none has."""
    seen: dict[str, bool] = {}

    def resolve(name: str, at: KeyPath) -> Recipe:
        try:
            recipe = recipe_of(name)
            stand_in = None if scale == "full" else recipe.stands_in.get(scale)
            result = recipe_of(stand_in) if stand_in else recipe
        except NotFound as error:
            raise one_problem(at, str(error)) from None
        seen[name] = stand_in is not None
        for other, replaced in seen.items():
            if replaced is not seen[name]:
                without, having = (name, other) if replaced else (other, name)
                raise one_problem(
                    at,
                    f"recipe {without!r} has no stand-in for scale {scale!r}, but {having!r} has one: they "
                    f"cannot be compared; give {without!r} stands_in: {{{scale}: ...}}",
                )
        return result

    return resolve


def _check_profiles(sweep: Sweep, profile: Profile) -> None:
    """A misspelt profile would be ignored in silence."""
    known = {*available("profile"), profile.name}
    found = [
        Problem(("profiles", name), unknown("profile", name, sorted(known)))
        for name in sorted(sweep.profiles)
        if name not in known
    ]
    if found:
        raise KeyPathError(found)


def _check(sweep: Sweep, profile: Profile, found: tuple[Variant, ...]) -> None:
    """Each variant differs from all others, has a name of its own, and money to reach the fits.

    Raises:
        KeyPathError: It is not so.
    """
    problems: list[Problem] = []
    first: dict[str, Variant] = {}
    names: dict[str, Variant] = {}
    for variant in found:
        same = first.setdefault(run_identity(variant.recipe, 0, profile.meter), variant)
        if same is not variant:
            text = f"{variant.name} is the same run as {same.name} ({render(same.at)}); arms must differ"
            problems.append(Problem(variant.at, text))
        elif names.setdefault(variant.name, variant) is not variant:
            problems.append(Problem(variant.at, f"two arms are called {variant.name!r}; give names"))
    problems += _budget_problems(sweep, found)
    if problems:
        raise KeyPathError(problems)


def _budget_problems(sweep: Sweep, found: tuple[Variant, ...]) -> list[Problem]:
    """Whether the shortest run reaches the fits and the longest fits into the cap."""
    problems = []
    start, cap = sweep.fit_start_gpu_hours, sweep.budget.sweep_gpu_hours
    least = min(found, key=lambda variant: variant.budget_gpu_hours)
    most = max(found, key=lambda variant: variant.budget_gpu_hours)
    if least.budget_gpu_hours <= start:
        text = f"{start:g} leaves no point to fit: {least.name} ends at {least.budget_gpu_hours:g} GPU-hours"
        problems.append(Problem(("fit_start_gpu_hours",), text))
    if cap is not None and most.budget_gpu_hours > cap:
        text = f"{cap:g} does not cover one run of {most.name} ({most.budget_gpu_hours:g} GPU-hours)"
        problems.append(Problem(("budget", "sweep_gpu_hours"), text))
    return problems


def _digest_of(
    sweep: Sweep, profile: Profile, places: list[tuple[Variant, int]], specs: list[RunSpec]
) -> str:
    """What decides a sweep's runs and decisions: not its prose, its price, or where Ray runs."""
    # Runs on record do not say what is searched; the ids of all other sweeps stay as they were.
    searched = isinstance(sweep.question, Search)
    asked = {"question": sweep.question.model_dump(mode="json")} if searched else {}
    seeds = {"arm_seeds": seeds_of(sweep.seeds.arm)} if searched else {}
    return digest(
        {
            **asked,
            **seeds,
            "runs": [
                [variant.name, spec.run_id, variant.budget_gpu_hours]
                for (variant, _), spec in zip(places, specs, strict=True)
            ],
            "sweep_gpu_hours": sweep.budget.sweep_gpu_hours,
            "fit_start_gpu_hours": sweep.fit_start_gpu_hours,
            "rule": sweep.rule.model_dump(mode="json"),
            "profile": profile.name,
        },
        8,
    )
