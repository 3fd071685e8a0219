"""Differences to the control with the margin as a band, and compute used per run as bars."""

from __future__ import annotations

import math

from scalerl_lab.records import Interval, Role
from scalerl_lab.report.ceilings import ArmRow, Ceilings
from scalerl_lab.report.markup import Markup, el, join
from scalerl_lab.report.verdict import Verdict
from scalerl_lab.report.view import RunView, SweepView
from scalerl_lab.report.words import MINUS, bare, hours, probability, signed

SLUG = {
    Verdict.CONTROL: "control",
    Verdict.RAISES: "raises",
    Verdict.LOWERS: "lowers",
    Verdict.FASTER: "faster",
    Verdict.SLOWER: "slower",
    Verdict.NO_DIFFERENCE: "same",
    Verdict.NO_EFFECT: "same",
    Verdict.NOT_IDENTIFIED: "open",
    Verdict.DIVERGED: "diverged",
    Verdict.FAILED: "failed",
}
SIGN = {
    Verdict.CONTROL: "◆",
    Verdict.RAISES: "▲",
    Verdict.LOWERS: "▼",
    Verdict.FASTER: "»",
    Verdict.SLOWER: "«",
    Verdict.NO_DIFFERENCE: "=",
    Verdict.NO_EFFECT: "≡",
    Verdict.NOT_IDENTIFIED: "?",
    Verdict.DIVERGED: "✕",
    Verdict.FAILED: "!",
}
WIDEST = 0.30
"""A difference axis never reaches further: an arm that is not identified must not squeeze the others."""


def badge(verdict: Verdict) -> Markup:
    """A verdict as a word with its sign; colour is never the only cue."""
    return el("span", el("i", SIGN[verdict]), verdict.value, class_=f"badge {SLUG[verdict]}")


def forest(found: Ceilings) -> Markup:
    """One row per arm: name and change, interval on a common axis, numbers, verdict."""
    reach = _reach(found)
    rows = [_row(row, reach, found.margin) for row in found.arms if row.role is Role.ARM]
    return el("div", *rows, _axis(reach, found.margin), class_="forest")


def _reach(found: Ceilings) -> float:
    ends = [2.5 * found.margin, 0.02]
    for row in found.arms:
        if row.difference is not None:
            interval = (row.difference.low95, row.difference.high95) if row.identified else ()
            ends += [abs(value) for value in interval]
    return min(WIDEST, math.ceil(max(ends) * 1.05 / 0.01) * 0.01)


def _place(value: float, reach: float) -> str:
    share = (min(reach, max(-reach, value)) + reach) / (2.0 * reach)
    return f"{100.0 * share:.2f}%"


def _row(row: ArmRow, reach: float, margin: float) -> Markup:
    changes = "; ".join(f"{c.path}: {c.before} → {c.after}" for c in row.changes)
    name = el("div", el("b", row.arm), el("small", row.about or changes), class_="who")
    strip = el(
        "svg", *_background(reach, margin), *_marks(row, reach), width="100%", height="34", class_="strip",
        role="img", aria_label=f"{row.arm}: {_numbers(row)}",
    )  # fmt: skip
    tip = f"{row.arm}\n{changes}\n{_numbers(row)}\n{row.detail}"
    numbers = el("div", *_figures(row), class_="figures")
    return el(
        "div",
        name,
        el("div", strip, class_="track", data_tip=tip),
        numbers,
        badge(row.verdict),
        class_="frow",
    )


def _figures(row: ArmRow) -> list[Markup]:
    if row.difference is None:
        return [el("span", "no fit", class_="muted")]
    d = row.difference
    span = f" [{bare(d.low80, sign=True)}, {bare(d.high80, sign=True)}]"
    return [el("span", el("b", signed(d.median)), span), el("small", _probabilities(row))]


def _probabilities(row: ArmRow) -> str:
    return f"P lower {probability(row.probability_below)} · P higher {probability(row.probability_above)}"


def _numbers(row: ArmRow) -> str:
    if row.difference is None:
        return row.verdict.value
    d = row.difference
    return (
        f"difference {signed(d.median)}, 80 % [{signed(d.low80)}, {signed(d.high80)}], "
        f"95 % [{signed(d.low95)}, {signed(d.high95)}]"
    )


def _background(reach: float, margin: float) -> list[Markup]:
    left, right = _place(-margin, reach), _place(margin, reach)
    width = f"{100.0 * min(1.0, margin / reach):.2f}%"
    return [
        el("rect", x=left, y="0", width=width, height="34", class_="margin"),
        el("line", x1=left, x2=left, y1="0", y2="34", class_="marginedge"),
        el("line", x1=right, x2=right, y1="0", y2="34", class_="marginedge"),
        el("line", x1="50%", x2="50%", y1="0", y2="34", class_="zero"),
    ]


def _marks(row: ArmRow, reach: float) -> list[Markup]:
    if row.difference is None:
        return []
    d: Interval = row.difference
    kind = SLUG[row.verdict]
    marks = [
        _bar(d.low95, d.high95, reach, f"thin {kind}"),
        _bar(d.low80, d.high80, reach, f"thick {kind}"),
    ]
    if abs(d.median) <= reach:
        marks.append(el("circle", cx=_place(d.median, reach), cy="17", r="5", class_=f"dot {kind}"))
    return marks


def _bar(low: float, high: float, reach: float, class_: str) -> Markup:
    return el("line", x1=_place(low, reach), x2=_place(high, reach), y1="17", y2="17", class_=class_)


def _axis(reach: float, margin: float) -> Markup:
    step = next(s for s in (0.01, 0.02, 0.05, 0.1) if reach / s <= 4.0 or s == 0.1)
    num = math.floor(reach / step + 1e-9)
    values = [k * step for k in range(-num, num + 1)]
    texts = [
        el(
            "text",
            f"{v:+.2f}".replace("-", MINUS) if abs(v) > 1e-9 else "0",
            x=_place(v, reach),
            y="14",
            class_="tick mid",
        )
        for v in values
        if abs(v) < 0.93 * reach
    ]
    axis = el("svg", *texts, width="100%", height="20", class_="strip", aria_hidden="true")
    caption = f"ceiling minus the control's; the band is the margin of ±{margin:g}"
    return el(
        "div",
        el("div", class_="who"),
        el("div", axis, el("small", caption), class_="track"),
        class_="frow axisrow",
    )


def spend(view: SweepView) -> Markup:
    """One bar per run: compute used, saved by ending early, used beyond the budget."""
    scale = max([max(run.budget_gpu_hours, run.used_gpu_hours) for run in view.runs])
    return el("div", *(_spent(run, scale) for run in view.runs), class_="spend")


def _spent(run: RunView, scale: float) -> Markup:
    extended = run.extended_gpu_hours
    parts = [("used", run.used_gpu_hours - extended), ("extended", extended), ("saved", run.saved_gpu_hours)]
    planned = run.budget_gpu_hours - run.used_gpu_hours - run.saved_gpu_hours
    bars = [
        el("span", class_=f"bar {name}", style=f"width:{100.0 * value / scale:.2f}%")
        for name, value in [*parts, ("left", planned)]
        if value > 0.002 * scale
    ]
    text = f"{hours(run.used_gpu_hours)} used"
    text += f", {hours(run.saved_gpu_hours)} saved" if run.saved_gpu_hours else ""
    text += f", {hours(extended)} beyond the budget" if extended else ""
    status = run.state.status.value + (", reused" if run.state.reused else "")
    return el(
        "div",
        el("div", el("b", run.label), el("small", status), class_="who"),
        el(
            "div",
            *bars,
            class_="bars",
            data_tip=f"{run.label}\n{text} of {hours(run.budget_gpu_hours)} GPU-hours",
        ),
        el("div", text, class_="figures"),
        class_="srow",
    )


def legend(*items: tuple[str, str]) -> Markup:
    """Swatches with their words."""
    pieces = [el("span", el("i", class_=f"swatch {kind}"), text) for kind, text in items]
    return el("p", join(*pieces), class_="legend")
