"""Tasks whose prompts are text: rows of data files, or puzzles of reasoning-gym."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import numpy as np

from scalerl_lab.config.problems import nearest
from scalerl_lab.config.reading import data_file
from scalerl_lab.config.sandbox import CodeReward, Sandbox
from scalerl_lab.config.start import Demonstrations
from scalerl_lab.config.tasks import GymOptions, PromptFiles, ReasoningGym
from scalerl_lab.errors import ConfigError, DataError, NotFound, NotSupported
from scalerl_lab.tasks.answers import WRITTEN
from scalerl_lab.tasks.data_files import normalised, read_items, refuse_overlap
from scalerl_lab.tasks.gym_audit import EXCLUDED, generators
from scalerl_lab.tasks.item import Item
from scalerl_lab.tasks.problem import Demonstration, Problem, Verdict
from scalerl_lab.tasks.sandbox import Isolation, isolation_here
from scalerl_lab.tasks.text_answers import is_text, number
from scalerl_lab.tasks.tokenizer import Vocabulary
from scalerl_lab.tasks.verifiers import Row, verify
from scalerl_lab.tasks.workers import Call, shared

T = TypeVar("T")
_GYM_DRAW_S = 0.5
"""Processor seconds that a puzzle may take to draw, on average."""
_HELDOUT_SHARE = 8
"""One puzzle in eight belongs to the held-out side."""


class TextTasks:
    """Items of text as problems of a vocabulary.

    Args:
        config: template, format, partial credit.
        tokenizer: of the model.
        train, heldout, downstream: items.

    Raises:
        NotSupported: a domain's package is not installed.
        DataError: sets overlap, or a gold answer of mathematics cannot be read.
        ResourceError: an item asks for code, which cannot be run in a sandbox here.
    """

    def __init__(
        self,
        config: PromptFiles | ReasoningGym,
        tokenizer: Vocabulary,
        train: Sequence[Item],
        heldout: Sequence[Item],
        downstream: Mapping[str, Sequence[Item]],
    ) -> None:
        self._config = config
        self.tokenizer = tokenizer
        named = {f"downstream.{name}": items for name, items in downstream.items()}
        refuse_overlap({"train": train, "heldout": heldout, **named})
        everything = [*train, *heldout, *(item for items in downstream.values() for item in items)]
        require_verifiable(everything)
        self._sandbox, self._code_reward = Sandbox(), CodeReward()
        if isinstance(config, PromptFiles):
            self._sandbox, self._code_reward = config.sandbox, config.code_reward
        runs_code = any(item.domain == "code" for item in everything)
        # Found out now: a run must not train for hours before its first program is refused.
        self.isolation: Isolation | None = isolation_here(self._sandbox.fallback) if runs_code else None
        self.train = self._problems(train)
        self.heldout = self._problems(heldout)
        self.downstream = {name: self._problems(items) for name, items in downstream.items()}

    def verdicts(self, problems: Sequence[Problem], responses: Sequence[Sequence[int]]) -> list[Verdict]:
        """One verdict a row, by the verifier of the row's domain.

        Without partial credit a strict score below 1 counts as 0, and so does a tolerant one.
        """
        rows = []
        for problem, response in zip(problems, responses, strict=True):
            if problem.item is None:
                raise ValueError("a problem without text is not one of these tasks")
            text, asked = self.tokenizer.decode(response), self._config.answer_format
            rows.append(Row(problem.item, text, asked, self._sandbox, self._code_reward))
        found = verify(rows)
        if self._config.partial_credit:
            return found
        return [Verdict(float(each.score >= 1.0), float(each.tolerant >= 1.0)) for each in found]

    def demonstrations(self, warm_start: Demonstrations, num: int) -> list[Demonstration]:
        """Responses to training prompts, each right with a probability of its prompt's own.

        The probability of a prompt is drawn once from Beta(reliability_alpha, reliability_beta). A wrong one
        is the response to another prompt of the domain: the format is learned, what is right only in part.
        ``worked_share`` of them give the row's ``response``, the others its answer alone.

        Raises:
            ConfigError: a row has neither a response nor an answer.
        """
        rng = np.random.default_rng([warm_start.seed, self._config.seed, 3])
        reliability = rng.beta(warm_start.reliability_alpha, warm_start.reliability_beta, len(self.train))
        of_domain: dict[str, list[int]] = {}
        for place, problem in enumerate(self.train):
            of_domain.setdefault(problem.domain, []).append(place)
        made = []
        for _ in range(num):
            place = int(rng.integers(len(self.train)))
            peers = of_domain[self.train[place].domain]
            other = peers[int(rng.integers(len(peers)))]
            shown = place if rng.random() < reliability[place] else other
            text = self._demonstrated(self.train[shown], worked=rng.random() < warm_start.worked_share)
            response = (*self.tokenizer.encode(text), self.tokenizer.end_id)
            made.append(Demonstration(self.train[place].prompt, response))
        return made

    def _demonstrated(self, problem: Problem, *, worked: bool) -> str:
        item = problem.item
        if item is None or not (item.response or item.answer):
            place = item.place if item else "a problem"
            raise ConfigError(
                f"{place}: warm_start.type=demonstrations needs a response in every row of a domain without "
                "answers; add the field response, or set warm_start.type=none"
            )
        if item.response and (worked or not item.answer):
            return item.response
        return WRITTEN[self._config.answer_format] % item.answer

    def _problems(self, items: Sequence[Item]) -> tuple[Problem, ...]:
        return tuple(
            Problem(
                self.tokenizer.encode(self._config.template.replace("{prompt}", item.text)),
                domain=item.domain,
                item=item,
                difficulty=item.difficulty,
            )
            for item in items
        )


# ---------------------------------------------------------------- what can be verified

_PACKAGES = {"math": "math_verify", "stem": "math_verify"}


def require_verifiable(items: Sequence[Item]) -> None:
    """Refuse items of which no response could be judged.

    Raises:
        NotSupported: a domain's package is not installed, or a generator is excluded.
        DataError: a gold answer of mathematics cannot be read.
    """
    _require_packages(items)
    _require_readable_gold(items)


def _require_packages(items: Sequence[Item]) -> None:
    for domain in dict.fromkeys(item.domain for item in items):
        require_package(_PACKAGES.get(domain, ""), f"domain {domain}")
    for item in items:
        generator = item.metadata.get("source_dataset")
        if item.domain == "logic" and generator is not None:
            require_package("reasoning_gym", f"{item.place}: metadata.source_dataset")
            if why := EXCLUDED.get(str(generator)):
                raise NotSupported(f"{item.place}: reasoning-gym's {generator} is excluded: {why}")


def require_package(package: str, what: str) -> None:
    """Refuse what needs a package that is not installed.

    Raises:
        NotSupported: with the command that installs it.
    """
    if package and importlib.util.find_spec(package) is None:
        raise NotSupported(f"{what} needs the package {package}: pip install 'scalerl-lab[tasks]'")


def _require_readable_gold(items: Sequence[Item]) -> None:
    """A gold answer that cannot be read would make every response wrong."""
    free = [i for i in items if i.domain in ("math", "stem") and not i.choices]
    doubtful = [i for i in free if number(i.answer) is None and not is_text(i.answer)]
    replies = shared().run([Call("math_parses", (item.answer,)) for item in doubtful])
    bad = [item for item, reply in zip(doubtful, replies, strict=True) if not reply.value]
    if bad:
        named = "\n".join(f"{item.place}: answer {item.answer!r}" for item in bad[:5])
        more = f"\n... and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise DataError(
            f"math-verify cannot read these answers; write them as LaTeX or leave them out:\n{named}{more}"
        )


# ---------------------------------------------------------------- families


def prompt_file_tasks(config: PromptFiles, tokenizer: Vocabulary) -> TextTasks:
    """Tasks of data files.

    Raises:
        NotFound, DataError: a file is missing or bad, or sets overlap.
        ConfigError: fewer prompts than are to be held out, or a weight for a domain that is not there.
    """
    train = read_items(data_file(config.train))
    if config.heldout is not None:
        heldout = read_items(data_file(config.heldout))
    else:
        train, heldout = _held_out(train, config)
    downstream = {name: read_items(data_file(file)) for name, file in config.downstream.items()}
    if config.weights:
        train, heldout = (_weighed(items, config.weights) for items in (train, heldout))
    return TextTasks(config, tokenizer, train, heldout, downstream)


def _held_out(items: list[Item], config: PromptFiles) -> tuple[list[Item], list[Item]]:
    """Items whose prompts come first in the order of a hash, whatever their order in the file."""
    key_of = {item.id: normalised(item.text) for item in items}

    def place(key: str) -> str:
        return hashlib.sha256(f"{config.seed}/{key}".encode()).hexdigest()

    keys = sorted(set(key_of.values()), key=place)
    if len(keys) <= config.num_heldout:
        raise ConfigError(
            f"tasks.num_heldout ({config.num_heldout}) leaves nothing to train on: {config.train} has "
            f"{len(keys)} distinct prompts; lower it, or name a file in tasks.heldout"
        )
    out = set(keys[: config.num_heldout])
    heldout = sorted((item for item in items if key_of[item.id] in out), key=lambda i: place(key_of[i.id]))
    return [item for item in items if key_of[item.id] not in out], heldout


def _weighed(items: Sequence[Item], weights: Mapping[str, float]) -> list[Item]:
    of_domain: dict[str, list[Item]] = {}
    for item in items:
        of_domain.setdefault(item.domain, []).append(item)
    if of_domain.keys() != weights.keys():
        raise ConfigError(
            f"tasks.weights must name the domains of every set, {', '.join(sorted(of_domain))}; "
            f"got {', '.join(sorted(weights))}"
        )
    return in_shares([of_domain[domain] for domain in weights], list(weights.values()))


def in_shares(groups: Sequence[Sequence[T]], weights: Sequence[float]) -> list[T]:
    """The first members of each group, spread evenly, so that every first part has the shares of the weights.

    The group that is smallest for its weight is used whole, of another floor(weight * n / w) members, where n
    and w are that group's. Worked: groups of 4 and 9 with weights 1 and 2: 4 and 8 members, in the order
    b a b, b a b, ...
    """
    per_weight = min(len(group) / weight for group, weight in zip(groups, weights, strict=True))
    # What is whole in exact arithmetic must not be lost to rounding.
    counts = [int(weight * per_weight + 1e-9) for weight in weights]
    placed = [
        ((rank + 0.5) / count, index, member)
        for index, (group, count) in enumerate(zip(groups, counts, strict=True))
        for rank, member in enumerate(group[:count])
    ]
    return [member for _, _, member in sorted(placed, key=lambda each: each[:2])]


def reasoning_gym_tasks(config: ReasoningGym, tokenizer: Vocabulary) -> TextTasks:
    """Puzzles of reasoning-gym, drawn anew by every run, the same for the same seed.

    Raises:
        NotSupported: the package is not installed, or a generator is excluded.
        ConfigError: a generator does not exist, refuses its options, or has too few distinct puzzles.
    """
    require_package("reasoning_gym", "tasks.type=reasoning_gym")
    train, heldout = _puzzles(
        "tasks.generators", config.generators, (config.seed,), (config.num_train, config.num_heldout), set()
    )
    taken = {normalised(item.text) for item in heldout}
    downstream: dict[str, list[Item]] = {}
    # In order of name, so that their order in the recipe is nothing.
    for name, chosen in sorted(config.downstream.items()):
        path, wanted = f"tasks.downstream.{name}.generators", (0, chosen.num_prompts)
        seed = (chosen.seed, config.seed, 3)
        _, downstream[name] = _puzzles(path, chosen.generators, seed, wanted, taken)
        taken |= {normalised(item.text) for item in downstream[name]}
    return TextTasks(config, tokenizer, train, heldout, downstream)


def _puzzles(
    path: str,
    chosen: Mapping[str, GymOptions],
    seed: tuple[int, ...],
    wanted: tuple[int, int],
    taken: Collection[str],
) -> tuple[list[Item], list[Item]]:
    """Training and held-out puzzles of some generators, in equal shares."""
    require_generators(tuple(chosen), generators())
    for name in chosen:
        if why := EXCLUDED.get(name):
            raise NotSupported(f"{path}: {name} is excluded: {why} (lab tasks audit {name})")
    share = len(chosen)
    sides: list[list[list[Item]]] = [[], []]
    for name, options in chosen.items():
        num_train, num_heldout = (-(-num // share) for num in wanted)
        drawn = _drawn(f"{path}.{name}", name, options, seed, (num_train, num_heldout), taken)
        for side, items in zip(sides, drawn, strict=True):
            side.append(items)
    train, heldout = (in_shares(groups, [1.0] * share) for groups in sides)
    return train[: wanted[0]], heldout[: wanted[1]]


def require_generators(names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse names that reasoning-gym has no generator of.

    Raises:
        NotFound: with the nearest name.
    """
    for name in names:
        if name not in known:
            raise NotFound(
                f"reasoning-gym has no generator {name!r}{nearest(name, known)}; allowed: {', '.join(known)}"
            )


def _drawn(
    path: str,
    name: str,
    options: GymOptions,
    seed: tuple[int, ...],
    wanted: tuple[int, int],
    taken: Collection[str],
) -> tuple[list[Item], list[Item]]:
    """Distinct puzzles of one generator; the side of each is a hash of its prompt alone."""
    found: tuple[dict[str, Item], dict[str, Item]] = ({}, {})
    num_train, num_heldout = wanted
    smallest = max(2 * num_train, 2 * _HELDOUT_SHARE * num_heldout)
    for attempt in range(6):
        size = smallest << attempt
        drawn_by = int(np.random.default_rng([*seed, attempt]).integers(1 << 31))
        call = Call("gym_draw", (name, size, drawn_by, options), 30.0 + _GYM_DRAW_S * size)
        (reply,) = shared().run([call])
        if reply.error:
            raise ConfigError(f"{path} with {options} cannot be drawn: {reply.error}")
        before = sum(map(len, found))
        for place, row in enumerate(reply.value):
            key = normalised(row["question"])
            digest = hashlib.sha256(key.encode()).digest()
            side = int(int.from_bytes(digest[:8], "big") % _HELDOUT_SHARE == 0)
            if len(found[side]) < wanted[side] and key not in taken:
                metadata = {**row["metadata"], "source_dataset": name}
                item = Item(
                    f"{name}/{drawn_by}/{place}", "logic", row["question"], str(row["answer"]),
                    metadata=metadata, place=f"{name}, puzzle {place} of seed {drawn_by}",
                )  # fmt: skip
                found[side].setdefault(key, item)
        if all(len(items) == num for items, num in zip(found, wanted, strict=True)):
            return list(found[0].values()), list(found[1].values())
        if sum(map(len, found)) == before:
            break
    raise ConfigError(
        f"{path} gives only {len(found[0])} of {num_train} training and {len(found[1])} of "
        f"{num_heldout} held-out puzzles that differ; ask for fewer, or widen its options"
    )
