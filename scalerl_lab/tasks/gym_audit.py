"""Which generators of reasoning-gym can be trusted with a reward, and how that is found out.

For each generator: its own answers must score 1, junk must not score, nothing may raise, and drawing and
scoring must be quick. Everything runs in worker processes, entries as plain JSON, exactly as in training.
What failed in version 0.1.25 is listed here; ``lab tasks audit`` measures it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from scalerl_lab.tasks.text_answers import number
from scalerl_lab.tasks.workers import Call, Reply, shared

EXCLUDED: Mapping[str, str] = MappingProxyType(
    {
        "arc_agi": "its own answer, stored as JSON, scores 0.05",
        "boxnet": "its own answer scores 0",
        "calendar_arithmetic": "its scorer raises on junk (a long number)",
        "coin_flip": "junk has a full score, and its scorer raises on junk",
        "game_of_life": "its scorer raises on junk",
        "game_of_life_halting": "junk has a full score",
        "graph_color": "its own answer scores 0",
        "knight_swap": "an item takes a second to draw",
        "prime_factorization": "its scorer raises on junk",
        "propositional_logic": "its own answer scores 0",
        "rearc": "its own answer, stored as JSON, scores 0.05",
        "rubiks_cube": "its own answer scores 0",
        "rush_hour": "its own answer scores 0",
        "time_intervals": "its scorer raises on junk (a long number)",
    }
)
"""Generator -> why no recipe may use it."""

PARTS_COUNT = frozenset(
    {
        *("ab", "binary_matrix", "bitwise_arithmetic", "circuit_logic", "decimal_arithmetic"),
        *("decimal_chain_sum", "dice", "family_relationships", "intermediate_integration", "kakurasu"),
        *("knights_knaves", "n_queens", "needle_haystack", "number_format", "number_sorting"),
        *("palindrome_partitioning", "path_star", "polynomial_multiplication", "self_reference"),
        *("shortest_path", "simple_integration", "sokoban", "spiral_matrix", "string_insertion", "survo"),
        *("word_ladder", "zebra_puzzles"),
    }
)
"""Generators whose scorer gives nothing for junk and no part for a padded answer, so that parts of a score
are of worth. In all others only a full score counts."""

JUNK = (
    "",
    " ",
    "0",
    "42",
    "-1",
    "yes",
    "no",
    "True",
    "None",
    "[]",
    "{}",
    "answer",
    "<answer>",
    "I don't know",
    "[[0]]",
    "a b c d e f g h",
    "\u00e9\u4e2d\U0001f600 \\frac{",
    "(" * 300,
    "9" * 400,
)
"""What no scorer should pay for. A short one may be right by chance, so those equal to the gold answer,
and scores of 1 for yes-or-no questions, are told apart by ``_rightly_paid``."""
PADDED = ("%s and more", "perhaps %s", "%s0")
"""An answer with something else around it: a part of a score for it would pay for hedging. A full score
is let pass, as of a scorer that looks for the answer."""
JUNK_SCORE = 0.0
"""The most that junk may score on average over items without a threshold."""
DRAW_LIMIT_S = 60.0
"""Processor seconds in which a generator draws the audited items."""
SLOW_DRAW_S = 0.5
"""Seconds an item: above it, a thousand prompts take minutes."""
SLOW_SCORE_S = 2.0


@dataclass(frozen=True, slots=True)
class Audited:
    """What was found of one generator."""

    generator: str
    items: int
    oracle_score: float | None
    """The lowest score of its own answers; absent where none could be drawn or scored."""
    junk_score: float
    """The highest score of junk, chance hits left out, and the highest part for a padded answer."""
    junk_full: float
    """Share of junk answers with a full score, chance hits left out."""
    errors: int
    """Scores of junk that raised or ran out of time."""
    draw_s: float
    """Processor seconds an item."""
    score_s: float
    """Processor seconds of the longest score."""
    why: str
    """Why it must be excluded; empty where it need not."""

    @property
    def verdict(self) -> str:
        """``excluded``, ``all_or_nothing`` or ``ok``."""
        if self.why:
            return "excluded"
        return "all_or_nothing" if self.junk_score > JUNK_SCORE else "ok"

    @property
    def listed(self) -> str:
        """The verdict that the lists in the code have for it."""
        if self.generator in EXCLUDED:
            return "excluded"
        return "ok" if self.generator in PARTS_COUNT else "all_or_nothing"

    @property
    def worse_than_listed(self) -> bool:
        """Whether the lists trust it more than this audit does."""
        order = ("ok", "all_or_nothing", "excluded")
        return order.index(self.verdict) > order.index(self.listed)


def generators() -> list[str]:
    """All generators of the installed reasoning-gym."""
    (reply,) = shared().run([Call("gym_names", (), DRAW_LIMIT_S)])
    if reply.error:
        raise RuntimeError(f"reasoning-gym does not start: {reply.error}")
    return list(reply.value)


def audit(
    names: Sequence[str], *, items: int = 5, seed: int = 0, done: Callable[[int, int], None] | None = None
) -> list[Audited]:
    """Audit generators one by one, in their order.

    Args:
        names: generators.
        items: drawn of each.
        seed: of the draws.
        done: called with the number audited and of all.
    """
    found = []
    for name in names:
        found.append(_audited(name, items, seed))
        if done is not None:
            done(len(found), len(names))
    return found


def _audited(name: str, num: int, seed: int) -> Audited:
    (drawn,) = shared().run([Call("gym_draw", (name, num, seed, {}), DRAW_LIMIT_S)])
    if drawn.error:
        return Audited(name, 0, None, 0.0, 0.0, 0, drawn.cpu_s, 0.0, f"drawing failed: {drawn.error}")
    entries = list(drawn.value)
    oracle = shared().run([_score(name, entry, entry["answer"]) for entry in entries])
    junk = [(entry, text) for entry in entries for text in JUNK]
    replies = shared().run([_score(name, entry, text) for entry, text in junk])
    unjust = [
        0.0 if _rightly_paid(entry, text) else _paid(reply)
        for (entry, text), reply in zip(junk, replies, strict=True)
    ]
    lowest = min(map(_paid, oracle))
    padded = shared().run([_score(name, e, text % e["answer"]) for e in entries for text in PADDED])
    hedged = [score for score in map(_paid, padded) if score < 1.0]
    errors = sum(bool(reply.error) for reply in replies)
    full = sum(score >= 1.0 for score in unjust) / len(unjust)
    slowest = max(reply.cpu_s for reply in (*oracle, *replies))
    failed = next((reply.error for reply in oracle if reply.error), "")
    raised = next((reply.error for reply in replies if reply.error), "")
    why = ""
    if failed:
        why = f"its scorer fails on its own answer: {failed}"
    elif lowest < 1.0:
        why = f"its own answer scores {lowest:g}"
    elif full:
        example = next(t for (_, t), score in zip(junk, unjust, strict=True) if score >= 1.0)
        why = f"junk has a full score, e.g. {example[:20]!r}"
    elif raised:
        why = f"its scorer raises on junk: {raised}"
    elif drawn.cpu_s / num > SLOW_DRAW_S:
        why = f"an item takes {drawn.cpu_s / num:.2f} s to draw"
    elif slowest > SLOW_SCORE_S:
        why = f"a score takes {slowest:.2f} s"
    return Audited(
        name,
        num,
        None if failed else lowest,
        max(unjust + hedged),
        full,
        errors,
        drawn.cpu_s / num,
        slowest,
        why,
    )


def _score(name: str, entry: dict[str, Any], answer: Any) -> Call:
    return Call("gym_score", (name, entry, answer))


def _paid(reply: Reply) -> float:
    return float(reply.value or 0.0)


def _rightly_paid(entry: dict[str, Any], text: str) -> bool:
    """Whether a junk text is the right answer, as yes, no, 0 or 42 may be."""
    gold = str(entry["answer"])
    if number(text) is not None and number(gold) is not None:
        return number(gold) == number(text)
    return gold.strip().casefold() == text.strip().casefold()
