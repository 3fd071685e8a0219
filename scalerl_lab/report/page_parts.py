"""Longer parts of the page: the table of numbers, the decisions, how to read it."""

from __future__ import annotations

from scalerl_lab.config.sweep import Rule
from scalerl_lab.report.ceilings import ArmRow, Ceilings
from scalerl_lab.report.forest import badge
from scalerl_lab.report.held_against import cause_text
from scalerl_lab.report.markup import Markup, el, join
from scalerl_lab.report.story import changes_something
from scalerl_lab.report.story_page import anchor
from scalerl_lab.report.terminal import at_budget_text, efficiency_text, footnotes, to_level_text
from scalerl_lab.report.verdict import SPEED_FACTOR
from scalerl_lab.report.view import RunView, SweepView
from scalerl_lab.report.words import ABSENT, bare, hours, num, probability, rate, signed, span80
from scalerl_lab.store import DecisionRow


def numbers_table(found: Ceilings) -> list[Markup]:
    """Everything the terminal shows, in one table."""
    head = (
        "arm",
        "ceiling A",
        "difference",
        "P lower",
        "P higher",
        "efficiency B",
        "midpoint",
        "at budget",
        "GPU-hours to level",
        "status",
        "used",
        "saved",
        "verdict",
    )
    rows = [el("tr", *_cells(row), class_=None if row.identified else "open") for row in found.arms]
    table = el(
        "table",
        el("thead", el("tr", *(el("th", title, scope="col") for title in head))),
        el("tbody", *rows),
        class_="numbers",
    )
    notes = [el("p", line, class_="note") for line in footnotes(found)]
    return [el("div", table, class_="scroll", tabindex="0"), *notes]


def _cells(row: ArmRow) -> list[Markup]:
    ceiling = ABSENT if row.ceiling is None else _stacked(rate(row.ceiling.median), span80(row.ceiling))
    difference: str = ABSENT
    if row.difference is not None:
        low, high = bare(row.difference.low80, sign=True), bare(row.difference.high80, sign=True)
        difference = _stacked(signed(row.difference.median), f"[{low}, {high}]")
    texts: list[str] = [
        ceiling,
        difference,
        probability(row.probability_below),
        probability(row.probability_above),
        _split(efficiency_text(row)),
        ABSENT if row.midpoint is None else hours(row.midpoint.median),
        _split(at_budget_text(row)),
        _split(to_level_text(row.to_level)),
        row.status,
        hours(row.used_gpu_hours),
        hours(row.saved_gpu_hours),
    ]
    arm = el("a", row.arm, href=f"#{anchor(row.run_ids[0])}")
    return [el("th", arm, scope="row"), *(el("td", text) for text in texts), el("td", badge(row.verdict))]


def _stacked(main: str, small: str) -> Markup:
    return join(el("span", main), el("small", small))


def _split(text: str) -> Markup:
    """``0.590 [.584, .597]`` with the interval on its own line."""
    main, bracket, rest = text.partition(" [")
    return _stacked(main, f"[{rest}") if bracket else el("span", main)


def decisions(view: SweepView) -> list[Markup]:
    """What changed a run's fate, in the order of time."""
    fateful = [(row, run) for run in view.runs for row in run.decisions if changes_something(row.decision)]
    fateful.sort(key=lambda pair: (pair[0].at, pair[0].decision_id))
    total = sum(len(run.decisions) for run in view.runs)
    return [
        el(
            "p",
            f"{num(total, 'decision')} on record, {len(fateful)} of them listed here; all of them "
            "stand with the runs below. Each was written down before it was acted on.",
            class_="note",
        ),
        el("ol", *(_fateful(row, run, view.plan.sweep.rule) for row, run in fateful), class_="timeline"),
    ]


def _fateful(row: DecisionRow, run: RunView, rule: Rule) -> Markup:
    decision = row.decision
    title = el(
        "p",
        el("span", decision.action.value, class_=f"act {decision.action.value}"),
        el("a", run.label, href=f"#{anchor(run.run_id)}"),
        el("span", f"at {hours(decision.gpu_hours)} GPU-hours, {cause_text(decision.cause, rule)}"),
        class_="what",
    )
    return el("li", title, el("p", decision.reason))


def method(found: Ceilings) -> list[Markup]:
    """Definitions and thresholds."""
    m, p = f"{found.margin:g}", f"{found.demanded:g}"
    start = hours(found.fit_start_gpu_hours)
    items = [
        (
            "Law",
            "R(C) = R0 + (A − R0) / (1 + (C_mid / C)^B). A is the ceiling, B the efficiency, C_mid the "
            "midpoint. "
            f"Points before {start} GPU-hours are left out, except the start R0.",
        ),
        (
            "Identified",
            "The window reaches far enough past the midpoint and the ceiling's 80 % interval is narrow "
            "enough, by the "
            "sweep's rule. Without that, an arm gets no verdict on its ceiling.",
        ),
        (
            "Raises, lowers",
            f"The ceiling differs from the control's by more than the margin of {m} with probability {p} or "
            f"more.",
        ),
        (
            "Faster, slower",
            f"No such difference, and the arm reaches the common level with at most 1/{SPEED_FACTOR:g}, or "
            f"at least "
            f"{SPEED_FACTOR:g} times, the control's GPU-hours, with probability {p} or more.",
        ),
        (
            "Fitted together",
            "All runs of the sweep have one joint posterior: a run borrows from its siblings as much as the "
            "data justify, and an arm with one seed has its spread between seeds from them. Runs that "
            "diverged are left out.",
        ),
        (
            "No difference seen",
            "Ceilings are identified, and none of this reaches the demanded probability. It is not a proof "
            "that the "
            "two are equal: look at the interval.",
        ),
        (
            "Saved",
            "Granted compute that a run did not use as it was killed, or ended with its answer known. It may "
            "be spent on extensions, shown apart.",
        ),
    ]
    return [el("dl", *(el("div", el("dt", key), el("dd", text)) for key, text in items), class_="method")]
