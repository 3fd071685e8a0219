"""The HTML page of a sweep: one file, nothing fetched, drawings inline."""

from __future__ import annotations

import time
from importlib.metadata import version
from importlib.resources import files

from scalerl_lab.records import Role
from scalerl_lab.report.boundary_page import boundaries, boundary_parts, regime_line
from scalerl_lab.report.caveats import caveats
from scalerl_lab.report.ceilings import Ceilings
from scalerl_lab.report.curves import drawing, frame, trace
from scalerl_lab.report.domains_page import domains, domains_line, domains_parts
from scalerl_lab.report.forest import SIGN, SLUG, badge, forest, legend, spend
from scalerl_lab.report.markup import Markup, el, join
from scalerl_lab.report.outputs_page import outputs_line, outputs_parts
from scalerl_lab.report.page_parts import decisions, method, numbers_table
from scalerl_lab.report.status import when
from scalerl_lab.report.story_page import anchor, stories
from scalerl_lab.report.terminal import meter_line, totals_line
from scalerl_lab.report.transfer_page import transfer_line, transfer_parts, transferred
from scalerl_lab.report.verdict import Verdict
from scalerl_lab.report.view import SweepView
from scalerl_lab.report.words import hours, num, percent, rate, span80

ORDER = (
    Verdict.RAISES,
    Verdict.LOWERS,
    Verdict.FASTER,
    Verdict.SLOWER,
    Verdict.NO_DIFFERENCE,
    Verdict.NO_EFFECT,
    Verdict.NOT_IDENTIFIED,
    Verdict.DIVERGED,
    Verdict.FAILED,
)


def page(view: SweepView, found: Ceilings, *, made_at: float | None = None) -> str:
    """The whole report as one self-contained HTML document.

    Args:
        view: the sweep.
        found: its table, from ``ceilings``.
        made_at: when it was made; now, where absent.
    """
    made = when(time.time() if made_at is None else made_at)
    beyond, lines = _beyond(view, found)
    body = el(
        "main",
        _header(view, found, made),
        _section("found", "What was found", _findings(found), _also(lines), _strip(found)),
        _section("differences", "Ceiling against the control", _forest(found)),
        _section("curves", "Pass rate against compute", *_curves(view, found)),
        *beyond,
        _section("numbers", "All numbers", *numbers_table(found)),
        _section("compute", "Compute", _spend(view), el("p", totals_line(found), class_="note")),
        _section("decisions", "Decisions", *decisions(view)),
        _section("stories", "Every run's story", *stories(view)),
        _section("caveats", "Before you rest anything on this", _caveats(view, found)),
        _section("method", "How to read it", *method(found)),
        _footer(found, made),
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", f"{found.name}: ceilings"),
        el("style", Markup(_asset("page.css"))),
    )
    tip = el("div", "", id="tip", hidden="hidden", role="status")
    script = el("script", Markup(_asset("page.js")))
    return "<!DOCTYPE html>\n" + el("html", head, el("body", body, tip, script), lang="en") + "\n"


def _asset(name: str) -> str:
    return files("scalerl_lab.report").joinpath(name).read_text(encoding="utf-8")


def _section(anchor: str, title: str, *children: str) -> Markup:
    return el("section", el("h2", title), *children, id=anchor)


def _header(view: SweepView, found: Ceilings, made: str) -> Markup:
    plan = view.plan
    over = sum(run.state.status.value in ("finished", "killed", "failed") for run in view.runs)
    facts = [
        ("sweep", found.sweep_id),
        ("profile", found.profile_name),
        ("recipe", plan.stand_in or plan.sweep.recipe),
        ("runs", f"{len(view.runs)} in {num(len(found.arms), 'arm')}, {over} over"),
        ("made", f"{made} UTC"),
    ]
    pieces = [
        el("p", "scalerl-lab · sweep report", class_="eyebrow"),
        el("h1", found.name),
        el("p", plan.sweep.about, class_="lead") if plan.sweep.about else Markup(""),
        el("dl", *(el("div", el("dt", key), el("dd", value)) for key, value in facts), class_="facts"),
    ]
    small = plan.stand_in is not None or found.flops_per_gpu_hour is not None
    scale = f" Recipe {plan.stand_in} stands in for {plan.sweep.recipe}." if plan.stand_in is not None else ""
    pieces.append(el("p", meter_line(found), scale, class_="banner" if small else "note"))
    return el("header", *pieces)


def _findings(found: Ceilings) -> Markup:
    rows = []
    for verdict in ORDER:
        for row in found.arms:
            if row.verdict is verdict:
                ceiling = ""
                if row.ceiling is not None:
                    ceiling = f"A {rate(row.ceiling.median) if row.identified else span80(row.ceiling)}"
                rows.append(
                    el(
                        "tr",
                        el("td", badge(verdict)),
                        el("td", el("a", row.arm, href=f"#{anchor(row.run_ids[0])}")),
                        el("td", ceiling, class_="quiet"),
                        el("td", row.detail),
                    )
                )
    control = next((row for row in found.arms if row.role is Role.CONTROL), None)
    lead = Markup("")
    if control is not None and control.ceiling is not None:
        text = f"The control's ceiling is {rate(control.ceiling.median)} {span80(control.ceiling)} (80 %)"
        lead = el("p", f"{text}, over {num(len(control.seeds), 'seed')}. {control.detail}".strip())
    return join(lead, el("div", el("table", el("tbody", *rows), class_="findings"), class_="scroll"))


def _beyond(view: SweepView, found: Ceilings) -> tuple[list[Markup], list[tuple[str, str, str]]]:
    """Sections on what was measured beside the pass rate, and of each its anchor, title and finding."""
    parts: list[tuple[str, str, str, list[Markup]]] = []
    if domains(view):
        parts.append(("domains", "Pass rate by domain", domains_line(view), domains_parts(view)))
    if arms := boundaries(view):
        made = boundary_parts(arms, found.margin)
        parts.append(("boundary", "Reasoning boundary", regime_line(arms), made))
    if (carried := transferred(view)).rows:
        made = transfer_parts(carried)
        parts.append(("transfer", "Transfer downstream", transfer_line(carried, found.demanded), made))
    if made := outputs_parts(view):
        parts.append(("outputs", "What completions became", outputs_line(view), made))
    sections = [_section(anchor, title, *made) for anchor, title, _, made in parts]
    return sections, [(anchor, title, line) for anchor, title, line, _ in parts]


def _also(lines: list[tuple[str, str, str]]) -> Markup:
    """What was found beside the ceilings, each with the way to its section."""
    rows = [
        el("div", el("dt", el("a", title, href=f"#{anchor}")), el("dd", line))
        for anchor, title, line in lines
        if line
    ]
    return el("dl", *rows, class_="also") if rows else Markup("")


def _strip(found: Ceilings) -> Markup:
    t = found.totals
    share = percent(t.used / t.full_budget) if t.full_budget else ""
    cells = [
        (hours(t.used), f"GPU-hours used, {share} of the full {hours(t.full_budget)}"),
        (hours(t.saved), "saved by ending runs early"),
        (hours(t.extended), "spent on extensions"),
        (hours(t.billed), "billed, with evaluation and checkpoints"),
        (hours(t.lost), "of it lost to failures"),
        (str(t.reused_runs), "runs reused"),
    ]
    return el("div", *(el("div", el("b", big), el("span", small)) for big, small in cells), class_="totals")


def _forest(found: Ceilings) -> Markup:
    keys = [
        (f"bar80 {SLUG[Verdict.NO_DIFFERENCE]}", "thick: 80 %, thin: 95 %"),
        ("marginkey", "within the margin"),
    ]
    shown = [verdict for verdict in ORDER if any(row.verdict is verdict for row in found.arms)]
    words = [el("span", el("i", SIGN[v], class_=f"sign {SLUG[v]}"), v.value) for v in shown]
    return join(forest(found), legend(*keys), el("p", *words, class_="legend"))


def _curves(view: SweepView, found: Ceilings) -> list[Markup]:
    axes = frame(view.runs, found.fit_start_gpu_hours)
    if axes is None:
        return [el("p", "No run has been measured yet.")]
    traces = {run.run_id: trace(axes, run) for run in view.runs}
    panels = []
    for row in found.arms:
        arm = [traces[run.run_id] for run in view.of_arm(row.arm)]
        is_control = row.role is Role.CONTROL
        behind = [] if is_control else [traces[run.run_id] for run in view.control]
        ceiling = (
            f"A {rate(row.ceiling.median)} {span80(row.ceiling)}" if row.ceiling is not None else "no ceiling"
        )
        label = f"{row.arm}: pass rate against GPU-hours; {ceiling}; {row.verdict.value}"
        panels.append(
            el(
                "figure",
                el("figcaption", el("b", row.arm), badge(row.verdict), el("small", ceiling)),
                drawing(axes, arm, behind, label),
                class_="is-control" if is_control else None,
            )
        )
    keys = legend(
        ("c-arm", "fit of the arm"),
        ("ahead", "forecast"),
        ("band80k", "80 %"),
        ("band95k", "95 %"),
        ("c-control", "control's seeds"),
        ("ptk", "point"),
        ("outk", "before the fit start"),
    )
    text = "Held-out pass rate; GPU-hours on a log axis. Point at a mark for its numbers."
    return [el("p", text, class_="note"), keys, el("div", *panels, class_="panels")]


def _spend(view: SweepView) -> Markup:
    keys = [
        ("used", "used"),
        ("saved", "saved by ending early"),
        ("extended", "beyond the budget"),
        ("left", "not used yet"),
    ]
    return join(legend(*((f"bar {kind}", text) for kind, text in keys)), spend(view))


def _caveats(view: SweepView, found: Ceilings) -> Markup:
    items = [el("li", el("b", f"{title}. "), text) for title, text in caveats(view, found)]
    return el("ul", *items, class_="caveats")


def _footer(found: Ceilings, made: str) -> Markup:
    command = f"lab report ceilings {found.sweep_id} --html FILE"
    return el(
        "footer",
        el(
            "p", "Made by ", el("code", command), f" with scalerl-lab {version('scalerl-lab')} on {made} UTC."
        ),
        el("p", "Every number is recomputed from the sweep's points; the same points give the same page."),
    )
