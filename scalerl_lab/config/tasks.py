"""Where prompts come from and how they are verified: the task families of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from scalerl_lab.config.sandbox import CodeReward, Sandbox
from scalerl_lab.config.strict import Name, Strict

HELDOUT = "heldout"
"""Name of the problems that every point is measured on, among the sets of problems of a recipe."""


def _refuse_heldout(downstream: Mapping[str, object]) -> None:
    if HELDOUT in downstream:
        raise ValueError(f"downstream.{HELDOUT}: this name is taken by the held-out prompts; choose another")


class ChainSet(Strict):
    """Further chains modulo the recipe's number, verified like its own and never trained on.

    Longer chains, or fewer kinds of operations, than the training prompts have: out of distribution.
    """

    min_steps: PositiveInt
    max_steps: PositiveInt
    operations: tuple[Literal["+", "-", "*"], ...] | None = None
    """Some of the recipe's own operations, which the vocabulary has words for; all of them when absent."""
    num_prompts: PositiveInt = 128
    seed: int = 0

    @model_validator(mode="after")
    def _can_be_drawn(self) -> ChainSet:
        if self.max_steps < self.min_steps:
            raise ValueError(f"max_steps ({self.max_steps}) must be at least min_steps ({self.min_steps})")
        if self.operations == ():
            raise ValueError("operations must name at least one operation, or be left out for all of them")
        return self


class ChainArithmetic(Strict):
    """Chains of signed operations modulo a small prime, worked step by step, verified by the answer."""

    type: Literal["chain_arithmetic"] = "chain_arithmetic"
    modulus: PositiveInt = 7
    operations: tuple[Literal["+", "-", "*"], ...] = ("+", "-", "*")
    max_operand: PositiveInt | None = None
    """Largest operand, below the modulus; ``modulus - 1`` when absent. Fewer operands are fewer facts."""
    min_steps: PositiveInt = 2
    max_steps: PositiveInt = 10
    num_train: PositiveInt = 2048
    num_heldout: PositiveInt = 256
    seed: int = 0
    """Seed of the prompts; train and held-out prompts never overlap."""
    downstream: dict[Name, ChainSet] = Field(default_factory=dict)
    """Further sets of problems by name, for ``evaluation``; none shares a prompt with another set."""

    @model_validator(mode="after")
    def _steps_in_order(self) -> ChainArithmetic:
        if self.max_steps < self.min_steps:
            raise ValueError(f"max_steps ({self.max_steps}) must be at least min_steps ({self.min_steps})")
        return self

    @model_validator(mode="after")
    def _operands_below_the_modulus(self) -> ChainArithmetic:
        if self.max_operand is not None and self.max_operand >= self.modulus:
            raise ValueError(
                f"max_operand ({self.max_operand}) must be below the modulus ({self.modulus}); "
                "leave it out for all operands"
            )
        return self

    @model_validator(mode="after")
    def _vocabulary_covers_the_sets(self) -> ChainArithmetic:
        _refuse_heldout(self.downstream)
        for name, chains in self.downstream.items():
            unknown = sorted(set(chains.operations or ()) - set(self.operations))
            if unknown:
                raise ValueError(
                    f"downstream.{name}.operations has {', '.join(unknown)}, for which the vocabulary has no "
                    f"words; allowed: {', '.join(self.operations)}"
                )
        return self


AnswerFormat = Literal["boxed", "answer_tag", "marker"]
"""How a response must give its answer: ``\\boxed{...}``, ``<answer>...</answer>``, or ``#`` before it on the
last line. Instructions ask for none: there the whole response counts; code is the last fenced block."""


class _Text(Strict):
    """What all tasks whose prompts are text have in common."""

    template: str = "{prompt}\n"
    """What the model reads: the prompt of a row, with its choices, takes the place of ``{prompt}``."""
    answer_format: AnswerFormat = "boxed"
    partial_credit: bool = False
    """Whether a score below 1 (a share of constraints or of a solution's tests) is rewarded by as much, as
    ProRL does (arXiv 2505.24864, Table 4). A pass is a full score in either case."""

    @model_validator(mode="after")
    def _template_has_the_prompt(self) -> _Text:
        if self.template.count("{prompt}") != 1:
            raise ValueError(f"template must hold {{prompt}} once, got {self.template!r}")
        return self


class PromptFiles(_Text):
    """Prompts with verifiable answers in local files: JSON lines or Parquet.

    The fields of a row are in ``scalerl_lab/tasks/item.py``. A file is looked for as given, then in the
    folder ``recipes``. Prompts that two of the sets share are an error.
    """

    type: Literal["prompt_files"] = "prompt_files"
    train: str
    heldout: str | None = None
    """File of the held-out set; without one it is taken out of ``train``."""
    num_heldout: PositiveInt = 1000
    """Held out at random from the same file (ScaleRL section 2.1: 1,000 of Polaris-53k); no part is played by
    it where there is a file."""
    downstream: dict[Name, str] = Field(default_factory=dict)
    """Further sets that are only measured: name -> file."""
    weights: dict[Name, PositiveFloat] = Field(default_factory=dict)
    """Shares of the files' domains in train and held-out set, as in a mixture; without any, as they come."""
    sandbox: Sandbox = Sandbox()
    """Where solutions to rows of the domain code run; other rows run nothing."""
    code_reward: CodeReward = CodeReward()
    """What a solution is worth; a fraction of its tests is rewarded only with ``partial_credit``."""
    seed: int = 0

    @model_validator(mode="after")
    def _downstream_is_not_held_out(self) -> PromptFiles:
        _refuse_heldout(self.downstream)
        return self

    @model_validator(mode="after")
    def _all_or_nothing_is_said_once(self) -> PromptFiles:
        if self.code_reward.score == "all_or_nothing" and not self.partial_credit:
            raise ValueError(
                "code_reward.score=all_or_nothing is a no-op with partial_credit=false, which rewards full "
                "scores alone in every domain; leave it out, or set partial_credit: true for other domains"
            )
        return self


GymOptions = dict[str, bool | int | float | str | list[int] | list[str]]


class PuzzleSet(Strict):
    """Further puzzles, of the same generators with other options or of others, that are never trained on.

    ProRL measures generators that it does not train on, and larger graphs than it trains on (arXiv
    2505.24864, section 4).
    """

    generators: dict[Name, GymOptions] = Field(min_length=1)
    """Generator -> its options; in equal shares."""
    num_prompts: PositiveInt = 128
    seed: int = 0


class ReasoningGym(_Text):
    """Puzzles of reasoning-gym's generators, in equal shares, scored by their own scorers.

    Generators that ``lab tasks audit`` finds untrustworthy are refused.
    """

    type: Literal["reasoning_gym"] = "reasoning_gym"
    generators: dict[Name, GymOptions] = Field(min_length=1)
    """Generator -> its options, e.g. {spell_backward: {min_word_len: 3}}; {} for its own defaults."""
    answer_format: AnswerFormat = "answer_tag"
    num_train: PositiveInt = 2048
    num_heldout: PositiveInt = 256
    seed: int = 0
    """Seed of the puzzles; train and held-out prompts never overlap."""
    downstream: dict[Name, PuzzleSet] = Field(default_factory=dict)
    """Further sets of puzzles by name, for ``evaluation``; none shares a prompt with another set."""

    @model_validator(mode="after")
    def _downstream_is_not_held_out(self) -> ReasoningGym:
        _refuse_heldout(self.downstream)
        return self


class MixturePart(Strict):
    """One family of a mixture."""

    tasks: Annotated[ChainArithmetic | PromptFiles | ReasoningGym, Field(discriminator="type")]
    weight: PositiveFloat = 1.0


class Mixture(Strict):
    """Prompts of several families in one run, each domain with a curve of its own.

    The parts' shares of the training and of the held-out prompts are as their weights. The part that is
    smallest for its weight is used whole, of the others as many prompts as their share allows. The parts'
    downstream sets are measured whole, each under its own name.
    """

    type: Literal["mixture"] = "mixture"
    parts: Annotated[tuple[MixturePart, ...], Field(min_length=2)]

    @property
    def downstream(self) -> dict[str, ChainSet | str | PuzzleSet]:
        """The downstream sets of all parts."""
        return {name: each for part in self.parts for name, each in part.tasks.downstream.items()}

    @model_validator(mode="after")
    def _downstream_sets_have_names_of_their_own(self) -> Mixture:
        names = [name for part in self.parts for name in part.tasks.downstream]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"two parts have a downstream set called {', '.join(twice)}; measurements go by this name, "
                "so give each another"
            )
        return self

    @model_validator(mode="after")
    def _one_closed_vocabulary(self) -> Mixture:
        closed = [part.tasks for part in self.parts if isinstance(part.tasks, ChainArithmetic)]
        if len(closed) > 1:
            raise ValueError(
                f"at most one part may be chain_arithmetic, got {len(closed)}: each has its own vocabulary"
            )
        return self


Tasks = Annotated[ChainArithmetic | PromptFiles | ReasoningGym | Mixture, Field(discriminator="type")]
