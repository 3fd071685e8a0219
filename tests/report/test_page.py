"""The page is one well-formed, self-contained file that says everything the records say."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from scalerl_lab.records import Action, RunState, RunStatus
from scalerl_lab.report.caveats import caveats
from scalerl_lab.report.ceilings import Ceilings, ceilings
from scalerl_lab.report.curves import HEIGHT, WIDTH
from scalerl_lab.report.page import page
from scalerl_lab.report.view import SweepView
from tests.report.simulate import Sim


@pytest.fixture(scope="module")
def document(seen: SweepView, found: Ceilings) -> str:
    return page(seen, found, made_at=1_790_000_000.0)


def parse(document: str) -> ElementTree.Element:
    start = "<!DOCTYPE html>\n"
    assert document.startswith(start)
    return ElementTree.fromstring(document.removeprefix(start))


def words(element: ElementTree.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def test_it_is_well_formed_with_one_of_each_anchor(document: str) -> None:
    anchors = [e.attrib["id"] for e in parse(document).iter() if "id" in e.attrib]
    assert len(anchors) == len(set(anchors))
    assert {"found", "differences", "curves", "numbers", "compute", "decisions", "caveats", "method"} <= set(
        anchors
    )


def test_it_asks_the_network_for_nothing(document: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|url\(", document)
    root = parse(document)
    assert not [e for e in root.iter() if e.tag in {"link", "img", "iframe", "object"}]
    assert not [e for e in root.iter() if {"src", "href"} & set(e.attrib)]


def test_it_says_every_verdict_and_every_decision(document: str, seen: SweepView, found: Ceilings) -> None:
    said = words(parse(document))
    for row in found.arms:
        assert row.arm in said
        assert row.verdict.value in said
        assert row.detail in said
    for run in seen.runs:
        for decision in run.decisions:
            assert " ".join(decision.decision.reason.split()) in said


def test_kills_and_extensions_are_told_in_the_order_of_time(document: str, seen: SweepView) -> None:
    timeline = next(e for e in parse(document).iter("ol"))
    told = [words(item) for item in timeline]
    rows = [(d.at, d.decision_id, run.label) for run in seen.runs for d in run.decisions
            if d.decision.action in (Action.KILL, Action.EXTEND)]  # fmt: skip
    assert len(told) == len(rows) == 4
    for text, (_, _, label) in zip(told, sorted(rows), strict=True):
        assert label in text


def test_a_drawing_per_arm_with_every_point_of_it(document: str, seen: SweepView, found: Ceilings) -> None:
    figures = list(parse(document).iter("figure"))
    assert len(figures) == len(found.arms)
    for figure, row in zip(figures, found.arms, strict=True):
        drawn = [e for e in figure.iter("circle") if e.attrib["class"] == "hit"]
        measured = [p for run in seen.of_arm(row.arm) for p in run.points if p.gpu_hours > 0]
        assert len(drawn) == len(measured)
        tips = " ".join(e.attrib["data-tip"] for e in drawn)
        assert all(f"{p.pass_rate:.3f}" in tips for p in measured)


def test_nothing_is_drawn_outside_its_frame(document: str) -> None:
    for figure in parse(document).iter("figure"):
        for path in figure.iter("path"):
            if path.attrib["class"] == "killed":
                continue
            pairs = re.findall(r"(-?[\d.]+),(-?[\d.]+)", path.attrib["d"])
            assert all(0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT for x, y in pairs)


def test_caveats_are_those_of_this_sweep(document: str, seen: SweepView, found: Ceilings) -> None:
    heads = [head for head, _ in caveats(seen, found)]
    assert heads[0] == "Profile laptop is a stand-in"
    assert "8 arms with a single seed" in heads
    assert not any("reused" in head for head in heads)
    said = words(parse(document))
    assert all(text in said for _, text in caveats(seen, found))
    assert "lab report ceilings loo_16k-" in said


def test_hostile_words_stay_words(sim: Sim, found: Ceilings) -> None:
    evil = '<script>alert("x")</script> & "quoted"'
    decisions = [replace(d, decision=replace(d.decision, reason=evil)) for d in sim.decisions]
    arms = tuple(replace(row, detail=evil, about=evil) for row in found.arms)
    view = Sim(sim.plan, sim.states, decisions, sim.ledger).view()
    made = page(view, replace(found, arms=arms))
    root = parse(made)
    assert len(list(root.iter("script"))) == 1
    assert evil in words(root)


def test_a_sweep_without_points_has_a_page(sim: Sim) -> None:
    states = [RunState(run, RunStatus.PLANNED, 16000.0, (), 0, 0, None, False) for run in sim.plan.runs]
    view = Sim(sim.plan, states).view()
    said = words(parse(page(view, ceilings(view))))
    assert "No run has been measured yet." in said
    assert "not identified yet" in said


def test_the_same_sweep_gives_the_same_page(document: str, seen: SweepView, found: Ceilings) -> None:
    assert page(seen, found, made_at=1_790_000_000.0) == document
