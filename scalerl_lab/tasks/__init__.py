"""Prompts and verified rewards, with train and held-out splits that never overlap.

Files: ``problem`` what every family offers; ``tokenizer`` a closed vocabulary of whole words;
``chain_arithmetic`` chains of signed operations modulo a small prime; ``sandbox`` where untrusted code runs;
``code`` solutions to programming problems, scored by their tests.

To add a family: a model in ``config.recipe`` joined to its ``Tasks`` union, a class with the shape of
``TaskSet`` here, and one row in ``TASKS``. A prompt's split is a function of the prompt alone, so that no
seed, size or order can move it from one side to the other; downstream sets are drawn from the held-out
side, are measured, and are never trained on. This room never samples from a model, and never shapes a
reward: a completion is right or it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scalerl_lab.config.recipe import PromptFiles, Tasks
from scalerl_lab.errors import NotSupported
from scalerl_lab.tasks.chain_arithmetic import ChainArithmeticTasks
from scalerl_lab.tasks.problem import Demonstration, Problem, TaskSet
from scalerl_lab.tasks.tokenizer import Tokenizer

__all__ = ["TASKS", "Demonstration", "Problem", "TaskSet", "Tokenizer", "build_tasks"]


def _prompt_files(tasks: PromptFiles) -> TaskSet:
    raise NotSupported(
        f"tasks.type=prompt_files (train: {tasks.train}) needs a tokenizer and verifiers that this version "
        "does not have; allowed here: chain_arithmetic. A recipe's stands_in names its small counterpart"
    )


TASKS: dict[str, Callable[[Any], TaskSet]] = {
    "chain_arithmetic": ChainArithmeticTasks,
    "prompt_files": _prompt_files,
}


def build_tasks(tasks: Tasks) -> TaskSet:
    """The task family that a recipe names, with its prompts drawn.

    Raises:
        NotSupported: this version has no such family.
        ConfigError: the family has fewer distinct prompts than were asked for.
    """
    return TASKS[tasks.type](tasks)
