"""Verifiers of text under random responses: slowest verdicts, checks that were ended, processes left behind.

    python -m tests.tasks.fuzz --inputs 10000

Every response is judged alone, so that each verdict has a time of its own.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import click

from scalerl_lab.tasks import verifiers
from scalerl_lab.tasks.item import Item
from scalerl_lab.tasks.problem import Verdict
from scalerl_lab.tasks.verifiers import Row, verify
from scalerl_lab.tasks.workers import Call, Reply, shared
from tests.tasks import golden_verdicts as golden

PIECES = (
    *("\\boxed{", "}", "{", "\\frac{1}{", "\\sqrt", "^", "_", "9^{9^{9}}", "!", "(", ")", "[", "]", "$"),
    *("<answer>", "</answer>", "<think>", "</think>", "#", "answer is ", "\n", "\n\n", " ", ",", ".", "-"),
    *("0", "7", "42", "1e999", "x", "\\pi", "\\infty", "\\int_0^1", "\\sum", "\\text{", "\\left(", "1/0"),
    *("\u00e9", "\u4e2d", "\U0001f600", "\x00", "\u202e", '"', "'", "*", "- ", "```", '{"a":', "B) "),
    *("(" * 50, "x^" * 20, "10" * 30, "a" * 200, "=", "<", "\\", "\\\\", "%", "&", "~", "None", "$$"),
)
ITEMS = (
    Item("a", "math", "?", "\\frac{1}{2}"),
    Item("b", "math", "?", "x^2+1"),
    Item("c", "stem", "?", "5 km", metadata={"rel_tolerance": 0.1}),
    Item("d", "choice", "?", "B", choices=golden.CHOICES),
    Item("e", "logic", "?", "knight"),
    Item("f", "logic", "?", "7", metadata={"source_dataset": "chain_sum", "difficulty": {}}),
    Item("g", "instructions", "?", constraints=tuple(c for case in golden.INSTRUCTIONS for c in case[0])),
)
FORMATS = ("boxed", "answer_tag", "marker")


def fuzzed(num: int, seed: int = 1) -> list[Row]:
    """Random responses to items of every domain but code."""
    rng = random.Random(seed)
    rows = []
    for _ in range(num):
        text = "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 30)))
        if rng.random() < 0.3:
            text = f"\\boxed{{{text}}}"
        rows.append(Row(rng.choice(ITEMS), text, rng.choice(FORMATS)))
    return rows


@dataclass(slots=True)
class Domain:
    """What the verdicts of one domain took."""

    verdicts: int = 0
    checks: int = 0
    """Calls to workers."""
    ended: int = 0
    """Checks that were ended: their worker was killed, for its processor time, memory or silence."""
    slowest_s: float = 0.0
    """Wall time of the slowest verdict."""
    slowest_own_s: float = 0.0
    """Processor time of this process in the verdict that took most of it: nothing limits that."""
    slowest_response: str = ""


@dataclass(slots=True)
class Fuzzed:
    """What a fuzz found."""

    verdicts: list[Verdict] = field(default_factory=list)
    domains: dict[str, Domain] = field(default_factory=dict)
    wall_s: float = 0.0
    waiting: int = 0
    """Workers that waited for calls at the end."""
    strays: list[int] = field(default_factory=list)
    """Processes of ours that were there at the end, and are none of these workers."""


class _Counting:
    """The pool of workers, with a count of what it is asked."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        replies = shared().run(calls)
        self.replies += replies
        return replies


def fuzz(num: int, seed: int = 1) -> Fuzzed:
    """Judge ``num`` random responses, one after the other."""
    found, before, began = Fuzzed(), set(children()), time.monotonic()
    for row in fuzzed(num, seed):
        counting = _Counting()
        with mock.patch.object(verifiers, "shared", lambda counting=counting: counting):
            wall_s, own_s = time.monotonic(), time.process_time()
            found.verdicts += verify([row])
            wall_s, own_s = time.monotonic() - wall_s, time.process_time() - own_s
        domain = found.domains.setdefault(row.item.domain, Domain())
        domain.verdicts += 1
        domain.checks += len(counting.replies)
        # A check that raised has spent time and is a reply; one that was ended has none on record.
        domain.ended += sum(bool(reply.error) and not reply.cpu_s for reply in counting.replies)
        domain.slowest_own_s = max(domain.slowest_own_s, own_s)
        if wall_s > domain.slowest_s:
            domain.slowest_s, domain.slowest_response = wall_s, row.response
    found.wall_s = time.monotonic() - began
    found.waiting = len(shared().pids)
    found.strays = sorted(set(children()) - before - set(shared().pids))
    return found


def children() -> list[int]:
    """Processes that this one started, those that ended without being waited for included."""
    own, found = str(os.getpid()), []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if parent == own:
            found.append(int(stat.parent.name))
    return found


@click.command()
@click.option("--inputs", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(inputs: int, seed: int) -> None:
    """Print what random responses cost the verifiers."""
    found = fuzz(inputs, seed)
    for name, domain in sorted(found.domains.items()):
        click.echo(
            f"{name:12} {domain.verdicts:6} verdicts, {domain.checks} checks in workers, "
            f"{domain.ended} of them ended; slowest verdict {domain.slowest_s:.2f} s by the clock "
            f"({domain.slowest_response[:60]!r}), most in this process {1e3 * domain.slowest_own_s:.0f} ms"
        )
    bad = sum(not 0.0 <= each.score <= each.tolerant <= 1.0 for each in found.verdicts)
    click.echo(
        f"{len(found.verdicts)} verdicts of {inputs} in {found.wall_s:.0f} s, {bad} out of range; "
        f"{found.waiting} workers waiting, stray processes: {found.strays or 'none'}"
    )
    shared().close()
    left = children()
    click.echo(f"processes left after closing the pool: {left or 'none'}")
    if bad or found.strays or left:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
