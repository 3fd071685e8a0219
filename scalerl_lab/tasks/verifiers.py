"""Programmatic verifiers of text, one a domain: a strict score and a format-tolerant one.

Each takes the rows of its domain and gives a verdict a row. None of them raises for what a model wrote, and
all are bounded in time: what may hang runs in ``workers``, and code in a ``sandbox``.

To add a domain: its name in ``item.DOMAINS``, the fields it needs in ``data_files``, a function here, and a
row in ``VERIFIERS``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from scalerl_lab.config.sandbox import CodeReward, Sandbox
from scalerl_lab.tasks.answers import after_thinking, strict_answer, tolerant_answers
from scalerl_lab.tasks.code import CodeVerifier, last_block, likely_code, read_cases
from scalerl_lab.tasks.gym_audit import PARTS_COUNT
from scalerl_lab.tasks.instructions import loosely_followed, share_followed
from scalerl_lab.tasks.item import LETTERS, Item
from scalerl_lab.tasks.problem import Verdict
from scalerl_lab.tasks.sandbox import shared_pool
from scalerl_lab.tasks.text_answers import MOST_CHARACTERS, is_text, number, quantity, same_text
from scalerl_lab.tasks.workers import Call, shared

MOST_RESPONSE_CHARACTERS = 200_000
"""Of a longer response only the end is read."""


@dataclass(frozen=True, slots=True)
class Row:
    """One response to one item."""

    item: Item
    response: str
    answer_format: str
    """A key of ``answers.FORMATS``."""
    sandbox: Sandbox = field(default_factory=Sandbox)
    """Where its code runs, in the domain code."""
    code_reward: CodeReward = field(default_factory=CodeReward)

    def strict(self) -> str | None:
        """The answer under the format, where it is kept and the answer is not too long."""
        found = strict_answer(self.response, self.answer_format)
        return found if found and len(found) <= MOST_CHARACTERS else None

    def tolerant(self) -> list[str]:
        """Where else the answer may stand."""
        return [each for each in tolerant_answers(self.response) if len(each) <= MOST_CHARACTERS]


def _judged(rows: Sequence[Row], worth: Callable[[Row, str], float]) -> list[Verdict]:
    """Verdicts from what an answer is worth; the tolerant score is at least the strict one."""
    verdicts = []
    for row in rows:
        strict = row.strict()
        score = worth(row, strict) if strict else 0.0
        verdicts.append(Verdict(score, max([score, *(worth(row, each) for each in row.tolerant())])))
    return verdicts


def _answers(rows: Iterable[Row]) -> list[tuple[Row, str]]:
    """Every answer that has to be judged, strict and tolerant."""
    return [
        (row, each) for row in rows for each in dict.fromkeys([row.strict() or "", *row.tolerant()]) if each
    ]


# ---------------------------------------------------------------- mathematics


def math(rows: Sequence[Row]) -> list[Verdict]:
    """Equal to the gold answer: as exact numbers, as text, else by math-verify (Apache-2.0).

    Worked: gold 1/2 and 0.5 in a box: 1 and 1; ``the answer is 0.5``: 0 strictly, 1 tolerantly.
    """
    equal = _math_table((row.item.answer, answer) for row, answer in _answers(rows))
    return _judged(rows, lambda row, answer: float(equal[row.item.answer, answer]))


def _math_table(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bool]:
    """(gold, answer) -> whether they are equal; a check that ran too long or failed says no."""
    equal: dict[tuple[str, str], bool] = {}
    asked: list[tuple[str, str]] = []
    for gold, answer in dict.fromkeys(pairs):
        gold_value, value = number(gold), number(answer)
        if gold_value is not None and value is not None:
            equal[gold, answer] = gold_value == value
        elif is_text(gold):
            equal[gold, answer] = same_text(gold, answer)
        else:
            asked.append((gold, answer))
    if asked:
        replies = shared().run([Call("math", (gold, answer)) for gold, answer in asked])
        equal |= {pair: bool(reply.value) for pair, reply in zip(asked, replies, strict=True)}
    return equal


# ---------------------------------------------------------------- choice and STEM

_LETTER = re.compile(r"\(?([A-Z])\)?[.:]?")
_LABELLED = re.compile(r"\(?([A-Za-z])[).:]\s*\S.*", re.DOTALL)


def choice(rows: Sequence[Row]) -> list[Verdict]:
    """The letter of the right choice. Tolerantly also its text, in lower case, or with its text behind it."""
    return [_choice(row) for row in rows]


def _choice(row: Row) -> Verdict:
    strict = row.strict()
    letter = _LETTER.fullmatch(strict) if strict else None
    score = float(bool(letter) and letter is not None and letter.group(1) == row.item.answer)
    chosen = [_chosen(each, row.item.choices) for each in row.tolerant()]
    # The first place that names a choice counts, as in a reader's eyes.
    named = next((each for each in chosen if each), "")
    return Verdict(score, max(score, float(named == row.item.answer)))


def _chosen(answer: str, choices: Sequence[str]) -> str:
    """The letter that an answer means, or nothing."""
    for letter, text in zip(LETTERS, choices, strict=False):
        if same_text(text, answer):
            return letter
    bare = re.sub(r"^(?:option|choice)\s+", "", answer.strip(), flags=re.IGNORECASE)
    found = _LETTER.fullmatch(bare.upper()) if len(bare) <= 4 else _LABELLED.fullmatch(bare)
    return found.group(1).upper() if found else ""


def stem(rows: Sequence[Row]) -> list[Verdict]:
    """A quantity, a text or a formula; with choices, their letter.

    Value and unit must agree, the value within ``metadata.rel_tolerance`` (default 0, exact). A missing
    unit is forgiven tolerantly, another unit never. What is no quantity is compared as in mathematics.
    """
    free = [row for row in rows if not row.item.choices]
    formulas = [
        (r, a) for r, a in _answers(free) if not quantity(r.item.answer) and not is_text(r.item.answer)
    ]
    equal = _math_table((row.item.answer, answer) for row, answer in formulas)

    def worth(row: Row, answer: str, lenient: bool) -> float:
        gold = quantity(row.item.answer)
        if gold:
            return float(_same_quantity(gold, answer, row.item.metadata.get("rel_tolerance", 0.0), lenient))
        if is_text(row.item.answer):
            return float(same_text(row.item.answer, answer))
        return float(equal[row.item.answer, answer])

    verdicts = []
    for row in rows:
        if row.item.choices:
            verdicts.append(_choice(row))
            continue
        strict = row.strict()
        score = worth(row, strict, False) if strict else 0.0
        places = [*([strict] if strict else []), *row.tolerant()]
        verdicts.append(Verdict(score, max([score, *(worth(row, each, True) for each in places)])))
    return verdicts


def _same_quantity(gold: tuple[Any, str], answer: str, rel_tolerance: float, lenient: bool) -> bool:
    found = quantity(answer)
    if found is None:
        return False
    (wanted, unit), (value, got) = gold, found
    units_agree = unit == got or (lenient and not (unit and got))
    return bool(units_agree and abs(value - wanted) <= abs(wanted) * rel_tolerance)


# ---------------------------------------------------------------- logic


def logic(rows: Sequence[Row]) -> list[Verdict]:
    """The score of reasoning-gym's own scorer, or equality as text or number for other puzzles.

    Most generators give parts of a score for junk or padding: only for those in ``gym_audit.PARTS_COUNT``
    does less than a full score count.
    """
    scored: dict[tuple[int, str], float] = {}
    by_gym = [(row, a) for row, a in _answers(rows) if "source_dataset" in row.item.metadata]
    # A group's completions share an item: the same answer is scored once.
    asked = {(id(row.item), answer): row.item for row, answer in by_gym}
    if asked:
        calls = [
            Call("gym_score", (item.metadata["source_dataset"], _entry(item), answer))
            for (_, answer), item in asked.items()
        ]
        for (key, item), reply in zip(asked.items(), shared().run(calls), strict=True):
            score = float(reply.value or 0.0)
            parts_count = item.metadata["source_dataset"] in PARTS_COUNT
            scored[key] = score if parts_count else float(score >= 1.0)

    def worth(row: Row, answer: str) -> float:
        if "source_dataset" in row.item.metadata:
            return scored[id(row.item), answer]
        return float(_same(row.item.answer, answer))

    return _judged(rows, worth)


def _entry(item: Item) -> dict[str, Any]:
    return {"question": item.prompt, "answer": item.answer, "metadata": item.metadata}


def _same(gold: str, answer: str) -> bool:
    one, other = number(gold), number(answer)
    if one is not None and other is not None:
        return one == other
    return gold.strip() == answer.strip() or same_text(gold, answer)


# ---------------------------------------------------------------- instructions


def instructions(rows: Sequence[Row]) -> list[Verdict]:
    """Share of constraints followed by what comes after the thinking; tolerantly in IFEval's loose forms."""
    verdicts = []
    for row in rows:
        text = after_thinking(row.response)
        constraints = row.item.constraints
        score = share_followed(text, constraints) if text is not None else 0.0
        loose = loosely_followed(row.response if text is None else text, constraints)
        verdicts.append(Verdict(score, max(score, loose)))
    return verdicts


# ---------------------------------------------------------------- code


def code(rows: Sequence[Row]) -> list[Verdict]:
    """What the last closed fenced block after the thinking is worth by its tests, run in a sandbox.

    Tolerantly the code that stands elsewhere: see ``code.likely_code``.

    Raises:
        ResourceError: a sandbox cannot be started.
    """
    places: dict[tuple[Sandbox, CodeReward], list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault((row.sandbox, row.code_reward), []).append(place)
    found: dict[int, Verdict] = {}
    for (sandbox, reward), of_settings in places.items():
        verifier = CodeVerifier(shared_pool(sandbox), reward)
        found |= dict(zip(of_settings, _code([rows[p] for p in of_settings], verifier), strict=True))
    return [found[place] for place in range(len(rows))]


def _code(rows: Sequence[Row], verifier: CodeVerifier) -> list[Verdict]:
    sources = [_sources(row.response) for row in rows]
    # Strict and tolerant source are mostly one, and so are those of a group's completions: each runs once.
    solutions = {
        (id(row.item), source): row.item
        for row, both in zip(rows, sources, strict=True)
        for source in both
        if source
    }
    tests = {id(item): read_cases(list(item.tests)) for item in solutions.values()}
    judged = verifier.verify_sources((tests[item], source) for item, source in solutions)
    scored = {key: verdict.score for key, verdict in zip(solutions, judged, strict=True)}
    verdicts = []
    for row, (strict, tolerant) in zip(rows, sources, strict=True):
        score = scored.get((id(row.item), strict), 0.0)
        verdicts.append(Verdict(score, max(score, scored.get((id(row.item), tolerant), 0.0))))
    return verdicts


def _sources(response: str) -> tuple[str, str]:
    """The code under the format, and where it likely stands; empty where there is none."""
    text = after_thinking(response)
    strict = last_block(text) if text is not None else None
    likely = likely_code(text if text and text.strip() else response)
    return (strict or "").rstrip(), (likely or "").rstrip()


VERIFIERS: Mapping[str, Callable[[Sequence[Row]], list[Verdict]]] = MappingProxyType(
    {
        "math": math,
        "stem": stem,
        "choice": choice,
        "logic": logic,
        "instructions": instructions,
        "code": code,
    }
)
"""``domain`` of an item -> its verifier."""


def verify(rows: Sequence[Row]) -> list[Verdict]:
    """Verdicts of rows of any domains, in their order; each domain's rows are judged together."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.item.domain, []).append(place)
    found: dict[int, Verdict] = {}
    for domain, of_domain in places.items():
        clipped = [replace(rows[p], response=rows[p].response[-MOST_RESPONSE_CHARACTERS:]) for p in of_domain]
        found |= dict(zip(of_domain, VERIFIERS[domain](clipped), strict=True))
    return [found[place] for place in range(len(rows))]
