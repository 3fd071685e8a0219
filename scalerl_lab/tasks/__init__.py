"""Prompts and verified rewards, with train and held-out splits that never overlap.

Files: ``problem`` what every family offers; ``tokenizer`` words, bytes, or a checkpoint's own.
Families: ``chain_arithmetic`` chains of signed operations modulo a small prime; ``text_tasks`` rows of data
files and puzzles of reasoning-gym; ``mixture`` several in one run.
Text: ``item`` the fields of a row; ``data_files`` reading and checking them; ``answers`` where a response
puts its answer; ``verifiers`` one function and one row a domain, over ``text_answers``, ``instructions``,
``math_checks`` and ``gym_calls``; ``gym_audit`` which generators of reasoning-gym can be trusted;
``workers`` and ``worker`` checks in processes that can be killed. Code: ``sandbox`` where untrusted code
runs, one pool of it a process, ended with the run; ``code`` solutions to programming problems, scored by
their tests.

To add a family: a model in ``config.tasks`` joined to its ``Tasks`` union, a class with the shape of
``TaskSet`` here, and one row in ``TASKS``. To add a domain of text: see ``verifiers``. A prompt's split is a
function of the prompt alone, so that no seed, size or order can move it from one side to the other; the
files of a recipe may say otherwise, and then must not overlap; downstream sets are measured and never
trained on. This room never samples from a model,
and never shapes a reward.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scalerl_lab.config.reading import data_file
from scalerl_lab.config.start import LlamaModel, Model
from scalerl_lab.config.tasks import Mixture, PromptFiles, ReasoningGym, Tasks
from scalerl_lab.tasks.chain_arithmetic import ChainArithmeticTasks
from scalerl_lab.tasks.mixture import MixtureTasks
from scalerl_lab.tasks.problem import Demonstration, Problem, TaskSet, Verdict
from scalerl_lab.tasks.sandbox import close_shared_pools
from scalerl_lab.tasks.text_tasks import prompt_file_tasks, reasoning_gym_tasks
from scalerl_lab.tasks.tokenizer import ByteTokenizer, CheckpointTokenizer, Tokenizer, Vocabulary

__all__ = [
    "TASKS",
    "Demonstration",
    "Problem",
    "TaskSet",
    "Tokenizer",
    "Verdict",
    "Vocabulary",
    "build_tasks",
    "close_shared_pools",
    "training_files",
]

_FIRST_WORDS = 3
"""Padding, end and marker come before the words of a family."""


def _prompt_files(tasks: PromptFiles, model: Model) -> TaskSet:
    return prompt_file_tasks(tasks, _text_tokenizer(model))


def _reasoning_gym(tasks: ReasoningGym, model: Model) -> TaskSet:
    return reasoning_gym_tasks(tasks, _text_tokenizer(model))


def _mixture(tasks: Mixture, model: Model) -> TaskSet:
    chains = {
        number: ChainArithmeticTasks(part.tasks)
        for number, part in enumerate(tasks.parts)
        if part.tasks.type == "chain_arithmetic"
    }
    # The chains' ids come first, so that they are what they are alone.
    words = [word for chain in chains.values() for word in chain.tokenizer.words[_FIRST_WORDS:]]
    tokenizer = ByteTokenizer(words) if words else _text_tokenizer(model)
    parts: list[TaskSet] = []
    for number, part in enumerate(tasks.parts):
        if number in chains:
            parts.append(chains[number])
        elif part.tasks.type == "prompt_files":
            parts.append(prompt_file_tasks(part.tasks, tokenizer))
        elif part.tasks.type == "reasoning_gym":
            parts.append(reasoning_gym_tasks(part.tasks, tokenizer))
    return MixtureTasks(parts, [part.weight for part in tasks.parts], tokenizer)


def _text_tokenizer(model: Model) -> Vocabulary:
    return CheckpointTokenizer(Path(model.path)) if model.type == "checkpoint" else ByteTokenizer()


TASKS: dict[str, Callable[[Any, Model], TaskSet]] = {
    "chain_arithmetic": lambda tasks, model: ChainArithmeticTasks(tasks),
    "prompt_files": _prompt_files,
    "reasoning_gym": _reasoning_gym,
    "mixture": _mixture,
}


def training_files(tasks: Tasks) -> list[Path]:
    """The files that a recipe trains on; a start that imitates them is another one when they change.

    Raises:
        NotFound: one of them is missing.
    """
    parts = [part.tasks for part in tasks.parts] if tasks.type == "mixture" else [tasks]
    return [data_file(part.train) for part in parts if part.type == "prompt_files"]


def build_tasks(tasks: Tasks, model: Model | None = None) -> TaskSet:
    """The task family that a recipe names, with its prompts drawn or read.

    Args:
        tasks: what the recipe says.
        model: whose vocabulary text is written in; bytes for a ``llama``, and without one.

    Raises:
        NotSupported: a domain's package is not installed.
        NotFound: a file or a checkpoint's tokenizer is missing.
        DataError: a file of prompts is bad, or sets overlap.
        ConfigError: the family has fewer distinct prompts than were asked for.
        ResourceError: prompts ask for code, which cannot be run in a sandbox here.
    """
    return TASKS[tasks.type](tasks, model or LlamaModel())
