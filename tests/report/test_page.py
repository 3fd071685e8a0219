"""The page is one well-formed, self-contained file that says everything the records say."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.resources import files
from xml.etree import ElementTree

import pytest

from scalerl_lab.records import Action, Decision, RunState, RunStatus
from scalerl_lab.report import story_svg
from scalerl_lab.report.caveats import caveats
from scalerl_lab.report.ceilings import Ceilings, ceilings
from scalerl_lab.report.curves import HEIGHT, WIDTH
from scalerl_lab.report.page import page
from scalerl_lab.report.view import RunView, SweepView
from tests.report.simulate import Sim


@pytest.fixture(scope="module")
def document(seen: SweepView, found: Ceilings) -> str:
    return page(seen, found, made_at=1_790_000_000.0)


def parse(document: str) -> ElementTree.Element:
    start = "<!DOCTYPE html>\n"
    assert document.startswith(start)
    return ElementTree.fromstring(document.removeprefix(start))


def section(document: str, name: str) -> ElementTree.Element:
    return next(e for e in parse(document).iter("section") if e.attrib.get("id") == name)


def words(element: ElementTree.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def test_it_is_well_formed_with_one_of_each_anchor(document: str) -> None:
    anchors = [e.attrib["id"] for e in parse(document).iter() if "id" in e.attrib]
    assert len(anchors) == len(set(anchors))
    sections = {"found", "differences", "curves", "numbers", "compute", "decisions", "stories", "caveats"}
    assert sections | {"method"} <= set(anchors)


def test_it_asks_the_network_for_nothing(document: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|url\(", document)
    root = parse(document)
    assert not [e for e in root.iter() if e.tag in {"link", "img", "iframe", "object"}]
    assert not [e for e in root.iter() if "src" in e.attrib]
    links = {e.attrib["href"] for e in root.iter() if "href" in e.attrib}
    assert links
    assert links <= {f"#{e.attrib['id']}" for e in root.iter() if "id" in e.attrib}


def test_it_says_every_verdict_and_every_decision(document: str, seen: SweepView, found: Ceilings) -> None:
    said = words(parse(document))
    for row in found.arms:
        assert row.arm in said
        assert row.verdict.value in said
        assert row.detail in said
    for run in seen.runs:
        for decision in run.decisions:
            assert " ".join(decision.decision.reason.split()) in said


def test_what_changed_something_is_told_in_the_order_of_time(document: str, seen: SweepView) -> None:
    timeline = next(e for e in parse(document).iter("ol"))
    told = [words(item) for item in timeline]
    rows = [(d.at, d.decision_id, run.label) for run in seen.runs for d in run.decisions
            if d.decision.action is not Action.CONTINUE]  # fmt: skip
    # Three kills, an extension, and the ends of eight runs.
    assert len(told) == len(rows) == 12
    for text, (_, _, label) in zip(told, sorted(rows), strict=True):
        assert label in text


def test_a_drawing_per_arm_with_every_point_of_it(document: str, seen: SweepView, found: Ceilings) -> None:
    figures = list(section(document, "curves").iter("figure"))
    assert len(figures) == len(found.arms)
    for figure, row in zip(figures, found.arms, strict=True):
        drawn = [e for e in figure.iter("circle") if e.attrib["class"] == "hit"]
        measured = [p for run in seen.of_arm(row.arm) for p in run.points if p.gpu_hours > 0]
        assert len(drawn) == len(measured)
        tips = " ".join(e.attrib["data-tip"] for e in drawn)
        assert all(f"{p.pass_rate:.3f}" in tips for p in measured)


def test_nothing_is_drawn_outside_its_frame(document: str) -> None:
    for name, width, height in (("curves", WIDTH, HEIGHT), ("stories", story_svg.WIDTH, story_svg.HEIGHT)):
        paths = [path for figure in section(document, name).iter("figure") for path in figure.iter("path")]
        assert paths
        for path in paths:
            if path.attrib["class"] == "killed":
                continue
            pairs = re.findall(r"(-?[\d.]+),(-?[\d.]+)", path.attrib["d"])
            assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in pairs)


def drawn_at(figure: ElementTree.Element, run: RunView) -> Decision:
    """The decision that a figure's caption names by its GPU-hours."""
    (caption,) = figure.iter("figcaption")
    named = re.search(r"at ([\d,]+) GPU-hours", words(caption))
    assert named is not None
    return next(d.decision for d in run.decisions if f"{d.decision.gpu_hours:,.0f}" == named[1])


def test_the_legend_of_stories_names_only_what_is_drawn(sim: Sim) -> None:
    """Before the first look there is nothing to draw, and nothing to explain."""
    bare = [replace(s, points=(), status=RunStatus.PLANNED, last_decision=None) for s in sim.states]
    view = Sim(sim.plan, bare).view()
    text = words(section(page(view, ceilings(view)), "stories"))
    for sign in ("forecast then", "80 % of it", "measured since", "less the margin"):
        assert sign not in text


def test_every_run_has_its_story_with_the_forecast_of_then(document: str, seen: SweepView) -> None:
    articles = list(section(document, "stories").iter("article"))
    assert [article.attrib["id"] for article in articles] == [f"story-{run.run_id}" for run in seen.runs]
    for article, run in zip(articles, seen.runs, strict=True):
        turns = [d.decision for d in run.decisions if d.decision.action is not Action.CONTINUE]
        figures = list(article.iter("figure"))
        assert len(figures) == len(turns)
        for figure, turn in zip(figures, turns, strict=True):
            decision = drawn_at(figure, run)
            # At the budget nothing is ahead: the forecast is that of an earlier look, which is named.
            at_its_end = turn.gpu_hours > 0.9 * turn.granted_gpu_hours
            assert (decision is not turn) == (at_its_end and len(turns) == 1)
            lines = [e for e in figure.iter("path") if "ahead" in e.attrib["class"].split()]
            # After an extension no look came before the end.
            assert bool(lines) == (not at_its_end or len(turns) == 1)
            drawn = [e.attrib["class"] for e in figure.iter("circle") if e.attrib["class"] != "hit"]
            known = [p for p in run.points if p.step <= decision.step]
            # Points below the frame are those before the fitted window, where the curve has hardly begun.
            assert len(known) - 2 <= drawn.count("pt") <= len(known)
            assert drawn.count("pt out") == len(run.points) - len(known)
    killed = next(a for a, run in zip(articles, seen.runs, strict=True) if run.label == "dapo_loss:0")
    (band,) = [e for e in killed.iter("path") if e.attrib["class"] == "band80"]
    assert [e for e in killed.iter("line") if e.attrib["class"] == "reference"]
    assert "Saved: 8,800 of the 16,000 GPU-hours granted to it." in words(killed)
    # The band's far end is the recorded interval: [.., ..] at the budget, the right edge of the frame.
    ends = [pair for pair in band.attrib["d"].strip("MZ").split("L") if pair.startswith("464.0,")]
    assert len(ends) == 2


def test_an_arm_leads_to_the_story_of_its_first_run(document: str, seen: SweepView) -> None:
    first = {run.state.planned.arm: run.run_id for run in reversed(seen.runs)}
    for name in ("found", "numbers"):
        rows = [e for row in section(document, name).iter("tr") for e in row.iter("a")]
        links = {words(e): e.attrib["href"] for e in rows}
        assert links.keys() - {"control"} == first.keys() - {"control"}
        assert all(links[arm] == f"#story-{first[arm]}" for arm in links)


def test_every_colour_has_a_light_and_a_dark_value() -> None:
    style = files("scalerl_lab.report").joinpath("page.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    colour = r"--([\w-]+): #"
    assert set(re.findall(colour, light)) == set(re.findall(colour, dark))
    assert set(re.findall(r"var\(--([\w-]+)\)", style)) <= set(re.findall(r"--([\w-]+):", light))
    # Outside of the two lists no colour is written out, or it would be wrong in one of them.
    assert not re.findall(r"#[0-9a-f]{3,6}\b", style.replace(light, "").replace(dark, ""))


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
