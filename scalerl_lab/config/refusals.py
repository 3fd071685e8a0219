"""Combinations of data choices that contradict each other or do nothing, refused with the reason.

An ablation of a choice that never acts would be reported as a null result; so it is not loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scalerl_lab.config.curriculum import PromptStage

if TYPE_CHECKING:
    from scalerl_lab.config.recipe import Recipe
    from scalerl_lab.config.stages import StepChange
    from scalerl_lab.config.tasks import Tasks


def refuse_data(recipe: Recipe) -> None:
    """Check sampling, filter and rewards against each other.

    Raises:
        ValueError: a choice cannot act, or would reward what it is to punish; says which and why.
    """
    _schedules(recipe)
    _stages(recipe)
    _filter(recipe)
    _rewards(recipe)
    _early_truncation(recipe)


def _schedules(recipe: Recipe) -> None:
    sampling, evaluation = recipe.sampling, recipe.evaluation
    _changes("sampling.temperature", sampling.temperature, sampling.temperature_changes)
    _changes(
        "sampling.max_response_tokens", sampling.max_response_tokens, sampling.max_response_tokens_changes
    )
    _changes("evaluation.temperature", evaluation.temperature, evaluation.temperature_changes)


def _changes(path: str, first: float, changes: Sequence[StepChange[int] | StepChange[float]]) -> None:
    step, value = 0, first
    for change in changes:
        if change.from_step <= step:
            raise ValueError(
                f"{path}_changes must come in the order of their steps, each from another step: "
                f"{change.from_step} follows {step}"
            )
        if change.value == value:
            raise ValueError(
                f"{path}_changes: the value from step {change.from_step} on is {value:g}, as before: a no-op"
            )
        step, value = change.from_step, change.value


def _stages(recipe: Recipe) -> None:
    last, chosen = -1, PromptStage(from_step=0).chooses
    for number, stage in enumerate(recipe.curriculum.stages):
        path = f"curriculum.stages.{number}"
        if stage.from_step <= last:
            raise ValueError(
                f"{path}.from_step ({stage.from_step}) must come after that of the stage before it ({last})"
            )
        if stage.chooses == chosen:
            before = "of the stage before it" if number else "that come without it"
            raise ValueError(f"{path} is a no-op: its prompts are those {before}; leave it out")
        _stage_has_prompts(recipe.tasks, stage, path)
        last, chosen = stage.from_step, stage.chooses


def _stage_has_prompts(tasks: Tasks, stage: PromptStage, path: str) -> None:
    """Refuse what the task families alone show to be empty or a no-op; the rest shows when data are read."""
    low, high = stage.min_difficulty, stage.max_difficulty
    if tasks.type == "chain_arithmetic":
        if stage.domains:
            raise ValueError(f"{path}.domains: tasks.type=chain_arithmetic has one domain; leave it out")
        least, most = tasks.min_steps, tasks.max_steps
        if (low is not None and low > most) or (high is not None and high < least):
            raise ValueError(
                f"{path} has no prompt: chains have {least} to {most} steps (tasks.min_steps, "
                "tasks.max_steps)"
            )
        bounded = low is not None or high is not None
        if bounded and (low is None or low <= least) and (high is None or high >= most):
            raise ValueError(
                f"{path}: every chain has {least} to {most} steps, so these bounds leave none out: a no-op; "
                "leave them out"
            )
    if tasks.type == "reasoning_gym":
        raise ValueError(
            f"{path}: puzzles of tasks.type=reasoning_gym have one domain and no difficulty to choose by; "
            "write them to a file with metadata.difficulty, or leave stages out"
        )


def _filter(recipe: Recipe) -> None:
    refills = recipe.zero_variance == "refill"
    if not refills and recipe.refill != type(recipe.refill)():
        raise ValueError(
            f"refill is set, but zero_variance={recipe.zero_variance} replaces no prompt: a no-op; "
            "set zero_variance to refill, or leave refill out"
        )
    if recipe.filter_on == "shaped":
        if recipe.zero_variance == "keep":
            raise ValueError("filter_on=shaped with zero_variance=keep is a no-op: no prompt is filtered")
        if not _shapes_by_length(recipe):
            raise ValueError(
                "filter_on=shaped is a no-op here: no length term shapes the reward, so a prompt's shaped "
                "rewards vary exactly where its raw ones do; set length_reward, length_control.type=penalty "
                "or truncated.type=stop_properly, or filter_on=raw"
            )


def _shapes_by_length(recipe: Recipe) -> bool:
    return (
        recipe.length_reward.type != "none"
        or recipe.length_control.type == "penalty"
        or recipe.truncated.type == "stop_properly"
    )


def _rewards(recipe: Recipe) -> None:
    shaped = recipe.length_reward
    if (
        shaped.type == "cosine_reward"
        and shaped.when.type == "always"
        and recipe.reward != type(recipe.reward)()
    ):
        raise ValueError(
            "reward is set, but length_reward.type=cosine_reward replaces it at every step: a no-op; set "
            "length_reward's four values instead, or length_reward.when"
        )
    truncated = recipe.truncated
    if truncated.type == "stop_properly" and truncated.coefficient >= 0.0:
        lowest = lowest_reward(recipe)
        if lowest < 0.0:
            raise ValueError(
                f"truncated.coefficient={truncated.coefficient:g} would raise negative rewards, which go "
                f"down to {lowest:g} here: a wrong completion would gain by being cut; make rewards 0 or "
                "more (reward.wrong=0), or give a negative coefficient, which replaces the reward"
            )


def lowest_reward(recipe: Recipe) -> float:
    """The least that a completion may get before ``truncated`` acts on it, at any step.

    Worked number: 1 and 0 with a penalty of scale 1 on all is -1; on correct ones only it is 0.
    """
    correct, wrong = [recipe.reward.correct], [recipe.reward.wrong]
    shaped, control = recipe.length_reward, recipe.length_control
    if shaped.type == "cosine":
        bonus = min(0.0, shaped.weight * shaped.eta_min)
        correct, wrong = [correct[0] + bonus], [wrong[0] + bonus]
    elif shaped.type == "cosine_reward":
        always = shaped.when.type == "always"
        correct = [shaped.correct_short, shaped.correct_long, *([] if always else correct)]
        wrong = [shaped.wrong_short, shaped.wrong_long, *([] if always else wrong)]
    if control.type == "penalty":
        correct = [each - control.scale for each in correct]
        if control.applies_to == "all":
            wrong = [each - control.scale for each in wrong]
    return min(*correct, *wrong)


def _early_truncation(recipe: Recipe) -> None:
    early = recipe.early_truncation
    longest = recipe.sampling.longest_response_tokens
    if early.type == "repetition" and early.consecutive_tokens >= longest:
        raise ValueError(
            f"early_truncation.consecutive_tokens ({early.consecutive_tokens}) is a no-op: completions end "
            f"at {longest} tokens (sampling.max_response_tokens) in any case; make it smaller"
        )
