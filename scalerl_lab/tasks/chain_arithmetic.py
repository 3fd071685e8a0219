"""Chains of signed operations modulo a small prime, worked step by step.

    prompt      3 +4 *2 -1 =          start value, K signed operands, "="
    response    +4 0 *2 0 -1 6 # 6    each operand with the running result, marker, answer, end

A full response has 2K + 3 tokens. Only the value after the last marker is verified.

Shapes: N problems, K steps (padded to max_steps), L prompt tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from scalerl_lab.config.start import Demonstrations
from scalerl_lab.config.tasks import ChainArithmetic, ChainSet
from scalerl_lab.errors import ConfigError
from scalerl_lab.tasks.problem import Demonstration, Problem, Verdict
from scalerl_lab.tasks.tokenizer import Tokenizer

Ints = npt.NDArray[np.int64]

_HELDOUT_SHARE = 8
"""One prompt in eight belongs to the held-out side."""
_DRAW = 4096


def _operands(operation: str, of: ChainArithmetic) -> range:
    """Operands that change something: no +0, -0, *0 and *1."""
    end = of.modulus if of.max_operand is None else min(of.modulus, of.max_operand + 1)
    return range(2, end) if operation == "*" else range(1, end)


def is_heldout(prompt: Sequence[int]) -> bool:
    """Whether a prompt belongs to the held-out side: a hash of its tokens, the same in every recipe.

    FNV-1a over the tokens with a final mix (splitmix64); held out iff the result is 0 modulo 8.
    """
    row = np.asarray([prompt], dtype=np.int64)
    return bool(_heldout_side(row, np.asarray([len(prompt)]))[0])


def _heldout_side(prompt_NL: Ints, length_N: Ints) -> npt.NDArray[np.bool_]:
    with np.errstate(over="ignore"):
        mixed = np.full(len(prompt_NL), 0xCBF29CE484222325, dtype=np.uint64)
        for place in range(prompt_NL.shape[1]):
            token = prompt_NL[:, place].astype(np.uint64)
            after = (mixed ^ token) * np.uint64(0x100000001B3)
            mixed = np.where(place < length_N, after, mixed)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
    return np.asarray(mixed % np.uint64(_HELDOUT_SHARE) == 0)


class ChainArithmeticTasks:
    """Problems of one modulus, with difficulty (number of steps) uniform between the two limits.

    Raises:
        ConfigError: the family has fewer distinct prompts than were asked for.
    """

    isolation = None
    """Answers are compared, and nothing is run."""

    def __init__(self, config: ChainArithmetic) -> None:
        self._config = config
        for op in config.operations:
            if not _operands(op, config):
                raise ConfigError(
                    f"tasks: {op} changes no value modulo {config.modulus} with operands up to "
                    f"{config.max_operand or config.modulus - 1}; take a larger modulus or max_operand, or "
                    "leave the operation out"
                )
        self._moves = tuple((op, v) for op in config.operations for v in _operands(op, config))
        values = [str(value) for value in range(config.modulus)]
        self.tokenizer = Tokenizer(["=", *values, *(f"{op}{value}" for op, value in self._moves)])
        self._equals = self.tokenizer.id_of("=")
        self._first_value = self.tokenizer.id_of("0")
        self._first_move = self._first_value + config.modulus
        self._result_MV = self._results()
        rng = np.random.default_rng([config.seed, 1])
        self.heldout = self._distinct(rng, config, config.num_heldout, "num_heldout")
        self.train = self._distinct(rng, config, config.num_train, "num_train", heldout=False)
        self.downstream = self._further_sets()

    def _further_sets(self) -> Mapping[str, tuple[Problem, ...]]:
        """The downstream sets, from the held-out side; in order of name, so that YAML order is nothing."""
        taken = {problem.prompt for problem in self.heldout}
        found = {}
        for name, chains in sorted(self._config.downstream.items()):
            rng = np.random.default_rng([chains.seed, self._config.seed, 3])
            key = f"downstream.{name}.num_prompts"
            found[name] = self._distinct(rng, chains, chains.num_prompts, key, taken)
            taken |= {problem.prompt for problem in found[name]}
        return found

    def verify(self, problem: Problem, response: Sequence[int]) -> bool:
        """Whether the value after the response's last marker is the answer, with nothing behind it."""
        tokens = list(response)
        if tokens and tokens[-1] == self.tokenizer.end_id:
            tokens.pop()
        if self.tokenizer.marker_id not in tokens:
            return False
        last = len(tokens) - 1 - tokens[::-1].index(self.tokenizer.marker_id)
        return tuple(tokens[last + 1 :]) == problem.answer

    def verdicts(self, problems: Sequence[Problem], responses: Sequence[Sequence[int]]) -> list[Verdict]:
        """``verify`` row by row; tolerantly, the last value written is the answer, marker or not."""
        found = []
        for problem, response in zip(problems, responses, strict=True):
            right = self.verify(problem, response)
            values = [t for t in response if self._first_value <= t < self._first_move]
            found.append(Verdict(float(right), float(right or tuple(values[-1:]) == problem.answer)))
        return found

    def demonstrations(self, warm_start: Demonstrations, num: int) -> list[Demonstration]:
        """Demonstrations on the train side, each of whose facts is right with a probability of its own.

        For each (move, state) the probability of the right result is drawn once from
        Beta(reliability_alpha, reliability_beta); a wrong result is, in equal parts, one fixed for the
        fact or any value. Later steps go on from what was written.
        """
        rng = np.random.default_rng([warm_start.seed, self._config.seed, 2])
        shape = self._result_MV.shape
        reliability_MV = rng.beta(warm_start.reliability_alpha, warm_start.reliability_beta, shape)
        wrong_MV = rng.integers(0, self._config.modulus, shape)
        made: list[Demonstration] = []
        while len(made) < num:
            start_N, move_NK, steps_N = self._draw(rng, self._config)
            prompt_NL = self._prompts(start_N, move_NK, steps_N)
            train_N = ~_heldout_side(prompt_NL, steps_N + 2)
            written_NK = self._unreliable(rng, start_N, move_NK, reliability_MV, wrong_MV)
            style_N = rng.random(_DRAW)
            for n in np.flatnonzero(train_N)[: num - len(made)]:
                style = _style(float(style_N[n]), warm_start)
                response = self._response(style, move_NK[n, : steps_N[n]], written_NK[n, : steps_N[n]])
                prompt = tuple(prompt_NL[n, : steps_N[n] + 2].tolist())
                made.append(Demonstration(prompt, response))
        return made

    def _results(self) -> Ints:
        """Result of every move on every value."""
        value = np.arange(self._config.modulus)
        apply = {"+": np.add, "-": np.subtract, "*": np.multiply}
        rows = [apply[op](value, operand) % self._config.modulus for op, operand in self._moves]
        return np.asarray(rows, dtype=np.int64)

    def _draw(self, rng: np.random.Generator, of: ChainArithmetic | ChainSet) -> tuple[Ints, Ints, Ints]:
        operations = of.operations or self._config.operations
        start_N = rng.integers(0, self._config.modulus, _DRAW)
        operation_NK = rng.integers(0, len(operations), (_DRAW, of.max_steps))
        share_NK = rng.random((_DRAW, of.max_steps))
        steps_N = rng.integers(of.min_steps, of.max_steps + 1, _DRAW)
        sizes = [len(_operands(op, self._config)) for op in operations]
        first = np.asarray([self._first_of(op) for op in operations])
        move_NK = first[operation_NK] + np.floor(share_NK * np.asarray(sizes)[operation_NK]).astype(np.int64)
        return start_N, move_NK, steps_N

    def _first_of(self, operation: str) -> int:
        """Place of an operation's first move."""
        before = self._config.operations[: self._config.operations.index(operation)]
        return sum(len(_operands(op, self._config)) for op in before)

    def _prompts(self, start_N: Ints, move_NK: Ints, steps_N: Ints) -> Ints:
        num, most = move_NK.shape
        prompt_NL = np.zeros((num, most + 2), dtype=np.int64)
        prompt_NL[:, 0] = self._first_value + start_N
        prompt_NL[:, 1 : most + 1] = np.where(
            np.arange(most) < steps_N[:, None], self._first_move + move_NK, 0
        )
        prompt_NL[np.arange(num), steps_N + 1] = self._equals
        return prompt_NL

    def _distinct(
        self,
        rng: np.random.Generator,
        of: ChainArithmetic | ChainSet,
        num: int,
        key: str,
        taken: Iterable[tuple[int, ...]] = (),
        *,
        heldout: bool = True,
    ) -> tuple[Problem, ...]:
        """``num`` problems of one side, none of them twice or among those taken."""
        passed_over = set(taken)
        found: dict[tuple[int, ...], Problem] = {}
        fruitless = 0
        while len(found) < num and fruitless < 8:
            before = len(found)
            start_N, move_NK, steps_N = self._draw(rng, of)
            prompt_NL = self._prompts(start_N, move_NK, steps_N)
            side_N = _heldout_side(prompt_NL, steps_N + 2)
            for n in np.flatnonzero(side_N == heldout):
                prompt = tuple(prompt_NL[n, : steps_N[n] + 2].tolist())
                if prompt not in found and prompt not in passed_over and len(found) < num:
                    found[prompt] = Problem(
                        prompt,
                        (self._answer(start_N[n], move_NK[n, : steps_N[n]]),),
                        difficulty=float(steps_N[n]),
                    )
            fruitless = fruitless + 1 if len(found) == before else 0
        if len(found) < num:
            raise ConfigError(
                f"tasks.{key} asks for {num} distinct prompts, but chains of {of.min_steps} to "
                f"{of.max_steps} steps modulo {self._config.modulus} give only about {len(found)}; "
                "ask for fewer, or raise max_steps or modulus"
            )
        return tuple(found.values())

    def _answer(self, start: int, move_K: Ints) -> int:
        value = int(start)
        for move in move_K:
            value = int(self._result_MV[move, value])
        return self._first_value + value

    def _unreliable(
        self, rng: np.random.Generator, start_N: Ints, move_NK: Ints, reliability_MV: npt.NDArray[np.float64],
        wrong_MV: Ints,
    ) -> Ints:  # fmt: skip
        """Running results as a demonstration writes them."""
        num, most = move_NK.shape
        written_NK = np.zeros_like(move_NK)
        value_N = start_N
        for place in range(most):
            move_N = move_NK[:, place]
            right_N = rng.random(num) < reliability_MV[move_N, value_N]
            any_N = rng.integers(0, self._config.modulus, num)
            slip_N = np.where(rng.random(num) < 0.5, wrong_MV[move_N, value_N], any_N)
            value_N = np.where(right_N, self._result_MV[move_N, value_N], slip_N)
            written_NK[:, place] = value_N
        return written_NK

    def _response(self, style: Style, move_K: Ints, written_K: Ints) -> tuple[int, ...]:
        values = (self._first_value + written_K).tolist()
        moves = (self._first_move + move_K).tolist()
        work: list[int] = []
        if style == "worked":
            work = [token for pair in zip(moves, values, strict=True) for token in pair]
        elif style == "results":
            work = values
        return (*work, self.tokenizer.marker_id, values[-1], self.tokenizer.end_id)


Style = Literal["worked", "results", "answer"]


def _style(share: float, warm_start: Demonstrations) -> Style:
    if share < warm_start.worked_share:
        return "worked"
    if share < warm_start.worked_share + warm_start.results_only_share:
        return "results"
    return "answer"
