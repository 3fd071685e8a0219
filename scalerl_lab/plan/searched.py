"""Arms of a search: from the values that a sampler proposed to runs, and what can be checked beforehand."""

from __future__ import annotations

from collections.abc import Mapping

from scalerl_lab.config.overrides import get, override
from scalerl_lab.config.problems import KeyPath, KeyPathError, Problem, render
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.sweep import Knob, Search
from scalerl_lab.plan.changes import changes
from scalerl_lab.plan.identity import run_identity
from scalerl_lab.plan.sweep_plan import SweepPlan
from scalerl_lab.records import PlannedRun, Role, RunSpec

DIGITS = 6
"""Significant digits of a proposed value: more say nothing, and fewer distinct runs can be reused."""
_ELSEWHERE = ("engine", "resources", "name", "about", "stands_in")
"""Fields that no result depends on, or that are no numbers to be tuned."""


def check_search(search: Search, recipe: Recipe) -> None:
    """See that the recipe takes every value that can be proposed, as far as bounds tell.

    Each knob is tried at its low, at its high and, unless it moves in whole steps, at a number in between
    that is not whole: a field that counts something refuses that one.

    Raises:
        KeyPathError: a path does not exist, is no number, or refuses a value; names each.
    """
    found: list[Problem] = []
    for path, knob in sorted(search.over.items()):
        at: KeyPath = ("question", "over", path)
        if path.split(".")[0] in _ELSEWHERE:
            found.append(Problem(at, f"{path.split('.')[0]} decides no result; search over another field"))
            continue
        try:
            value = get(recipe, path)
        except KeyPathError as error:
            found += [Problem(at, problem.text) for problem in error.problems]
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            found.append(Problem(at, f"a search turns numbers; {path} is {value!r} in the recipe"))
            continue
        found += _refused(recipe, path, knob, at, counts=isinstance(value, int))
    if found:
        raise KeyPathError(found)
    lows = {path: rounded(knob, knob.low) for path, knob in search.over.items()}
    override(recipe, lows, ("question", "over"))  # together, as two paths may overlap


def _refused(recipe: Recipe, path: str, knob: Knob, at: KeyPath, *, counts: bool) -> list[Problem]:
    """What the recipe has against the bounds of a knob."""
    if counts and not knob.is_whole:
        text = f"{path} is a whole number: give low, high and step as whole numbers, as in step: 1"
        return [Problem((*at, "step") if knob.step is not None else at, text)]
    problems = []
    for bound in ("low", "high"):
        try:
            override(recipe, {path: rounded(knob, getattr(knob, bound))})
        except KeyPathError as error:
            for problem in error.problems:
                where = "" if render(problem.path) == path else f"{render(problem.path)}: "
                problems.append(Problem((*at, bound), where + problem.text))
    return problems


def rounded(knob: Knob, value: float) -> float:
    """A proposed value as it is recorded and run: on the knob's steps, or to six significant digits.

    The result is an ``int`` where the knob is whole. What is rounded before it is hashed gives the same run
    on every machine and in every database.
    """
    if knob.step is not None:
        on_step = knob.low + round((value - knob.low) / knob.step) * knob.step
        if knob.is_whole:
            return min(max(round(on_step), int(knob.low)), int(knob.high))
        value = float(f"{on_step:.12g}")
    else:
        value = float(f"{value:.{DIGITS}g}")
    return min(max(value, knob.low), knob.high)


def control_values(plan: SweepPlan) -> dict[str, float] | None:
    """The control's values of what is searched; None where one of them is not in its range."""
    assert plan.search is not None
    control = plan.runs_of(plan.control)[0].spec.recipe
    values: dict[str, float] = {}
    for path, knob in sorted(plan.search.over.items()):
        value = get(control, path)
        inside = knob.low <= value <= knob.high
        if not inside or (knob.step is not None and abs(rounded(knob, value) - value) > 1e-9 * knob.step):
            return None
        values[path] = value
    return values


def arm_name(number: int) -> str:
    """Name of the arm that proposal ``number`` makes: ``s007``."""
    return f"s{number:03d}"


def searched_runs(plan: SweepPlan, number: int, values: Mapping[str, float]) -> tuple[PlannedRun, ...]:
    """The runs that proposal ``number`` asks for, one per seed.

    Their place in the queue follows from the number, so that it does not matter what else is on record.

    Args:
        plan: The search.
        number: Which proposal, from 0.
        values: Key path -> rounded value.
    """
    controls = plan.runs_of(plan.control)
    control, seeds = controls[0].spec.recipe, plan.proposal_seeds
    recipe = override(control, values)
    return tuple(
        PlannedRun(
            sweep_id=plan.sweep_id,
            arm=arm_name(number),
            role=Role.ARM,
            changes=changes(control, recipe),
            budget_gpu_hours=float(plan.sweep.budget.run_gpu_hours),
            spec=RunSpec(run_identity(recipe, seed, plan.profile.meter), recipe, seed, plan.profile.meter),
            order=len(controls) + number * len(seeds) + place,
        )
        for place, seed in enumerate(seeds)
    )
