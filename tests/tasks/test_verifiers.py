"""Verifiers of text against verdicts by hand, and against what a hostile model may write."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from scalerl_lab.tasks import verifiers
from scalerl_lab.tasks.instructions import CONSTRAINTS, COUNTED
from scalerl_lab.tasks.item import DOMAINS, Item
from scalerl_lab.tasks.problem import Verdict
from scalerl_lab.tasks.verifiers import VERIFIERS, Row, verify
from scalerl_lab.tasks.workers import Call, shared
from tests.tasks import golden_verdicts as golden
from tests.tasks.fuzz import fuzz

FUZZ = int(os.environ.get("LAB_FUZZ", "300"))
"""Inputs of the fuzz; for a full one there is ``python -m tests.tasks.fuzz``."""


def judged(rows: list[Row]) -> list[tuple[float, float]]:
    return [(each.score, each.tolerant) for each in verify(rows)]


def by_answer(domain: str, cases: list[Any], answer_format: str = "boxed", **fields: Any) -> list[Row]:
    return [
        Row(Item(str(n), domain, "?", gold, **fields), response, answer_format)
        for n, (gold, response, *_) in enumerate(cases)
    ]


def compare(cases: list[Any], found: list[tuple[float, float]]) -> None:
    wrong = [
        f"{case[0]!r} <- {case[1][:80]!r}: {got}, should be {case[2:]}"
        for case, got in zip(cases, found, strict=True)
        if got != pytest.approx(case[2:])
    ]
    assert not wrong, "\n".join(wrong)


def test_there_are_enough_golden_verdicts() -> None:
    assert golden.NUMBER >= 160


@pytest.mark.parametrize(
    ("domain", "cases", "answer_format", "fields"),
    [
        ("math", golden.MATH, "boxed", {}),
        ("stem", golden.STEM, "boxed", {}),
        ("choice", golden.CHOICE, "boxed", {"choices": golden.CHOICES}),
        ("stem", golden.CHOICE, "boxed", {"choices": golden.CHOICES}),
        ("logic", golden.LOGIC, "answer_tag", {}),
    ],
    ids=["math", "stem", "choice", "stem with choices", "logic"],
)
def test_golden_verdicts(domain: str, cases: list[Any], answer_format: str, fields: dict[str, Any]) -> None:
    compare(cases, judged(by_answer(domain, cases, answer_format, **fields)))


def test_golden_verdicts_of_instructions() -> None:
    rows = [
        Row(Item(str(n), "instructions", "?", constraints=tuple(constraints)), response, "boxed")
        for n, (constraints, response, *_) in enumerate(golden.INSTRUCTIONS)
    ]
    compare(golden.INSTRUCTIONS, judged(rows))


def test_every_constraint_has_verdicts_on_both_sides() -> None:
    seen: dict[str, set[bool]] = {}
    for constraints, _, strict, _ in golden.INSTRUCTIONS:
        if len(constraints) == 1:
            name = constraints[0].get("unit", constraints[0]["type"])
            seen.setdefault(name, set()).add(strict == 1.0)
    both = {name for name, sides in seen.items() if sides == {True, False}}
    assert both >= (set(CONSTRAINTS) - {"count"}) | (set(COUNTED) - {"lines"})


@pytest.mark.parametrize(("tolerance", "answer", "score"), golden.TOLERANCES)
def test_values_within_a_tolerance(tolerance: float, answer: str, score: float) -> None:
    item = Item("1", "stem", "?", "9.81", metadata={"rel_tolerance": tolerance})
    assert verify([Row(item, golden.BOX % answer, "boxed")]) == [Verdict(score, score)]


def test_golden_verdicts_of_puzzles() -> None:
    rows, cases = [], []
    for n, (generator, response, *scores) in enumerate(golden.GYM):
        (reply,) = shared().run([Call("gym_draw", (generator, 1, n, {}), 30.0)])
        (entry,) = reply.value
        metadata = {**entry["metadata"], "source_dataset": generator}
        item = Item(str(n), "logic", entry["question"], entry["answer"], metadata=metadata)
        written = response % entry["answer"] if "%s" in response else response
        rows.append(Row(item, written, "answer_tag"))
        cases.append((generator, written, *scores))
    compare(cases, judged(rows))


def test_domains_may_be_mixed_in_any_order() -> None:
    rows = [*by_answer("math", golden.MATH[:20]), *by_answer("choice", golden.CHOICE, choices=golden.CHOICES)]
    order = list(range(len(rows)))
    random.Random(0).shuffle(order)
    straight = verify(rows)
    assert verify([rows[place] for place in order]) == [straight[place] for place in order]


def test_the_tolerant_score_is_never_below_the_strict_one() -> None:
    rows = by_answer("math", golden.MATH) + by_answer("logic", golden.LOGIC, "answer_tag")
    assert all(each.tolerant >= each.score for each in verify(rows))


def test_the_same_answer_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Call] = []

    class Spy:
        def run(self, calls: list[Call]) -> Any:
            asked.extend(calls)
            return shared().run(calls)

    monkeypatch.setattr(verifiers, "shared", Spy)
    row = by_answer("math", [("\\sqrt{8}", "\\boxed{2\\sqrt{2}}")])[0]
    assert verify([row] * 16) == [Verdict(1.0, 1.0)] * 16
    assert len(asked) == 1


def test_every_domain_has_a_verifier() -> None:
    assert set(VERIFIERS) == set(DOMAINS)


# ---------------------------------------------------------------- fuzz


@pytest.mark.timeout(180 + FUZZ)
def test_whatever_a_model_writes_is_judged_in_bounded_time() -> None:
    found = fuzz(FUZZ)
    assert len(found.verdicts) == FUZZ
    assert all(0.0 <= each.score <= each.tolerant <= 1.0 for each in found.verdicts)
    assert set(found.domains) == set(DOMAINS) - {"code"}
    for name, domain in found.domains.items():
        # 3 s of processor time is the limit of one check; ordinary ones take milliseconds.
        assert domain.slowest_s < 60, (name, domain.slowest_response)
        assert domain.slowest_own_s < 1, (name, domain.slowest_response)
    assert found.wall_s < 60 + FUZZ
    assert found.waiting <= len(os.sched_getaffinity(0))
    assert found.strays == []
