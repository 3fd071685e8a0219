"""The part of the page on the reasoning boundary: pass@k before and after training, and each arm's regime."""

from __future__ import annotations

from collections.abc import Sequence

from scalerl_lab.fit import Regime
from scalerl_lab.records import Interval
from scalerl_lab.report.arm_boundary import ArmBoundary, arm_boundaries
from scalerl_lab.report.boundary import DEMANDED, OVERALL, gain_text
from scalerl_lab.report.chart import Axis, Chart, round_ticks, spread
from scalerl_lab.report.forest import legend
from scalerl_lab.report.markup import Markup, el, join
from scalerl_lab.report.view import SweepView
from scalerl_lab.report.words import hours, num, probability, rate, span80

WIDTH, HEIGHT = 300, 190
SLUG = {
    Regime.DIMINISHING: "lowers",
    Regime.PLATEAU: "same",
    Regime.SUSTAINED: "raises",
    Regime.OPEN: "open",
}
SIGN = {Regime.DIMINISHING: "▼", Regime.PLATEAU: "=", Regime.SUSTAINED: "▲", Regime.OPEN: "?"}
MOST_SHOWN = 12
"""Charts beyond so many are folded away, set by set; the table tells of all."""


def boundaries(view: SweepView) -> tuple[ArmBoundary, ...]:
    """The boundary of the arms whose runs measured pass@k twice, the control first."""
    ordered = [run for arm in view.arms for run in view.of_arm(arm)]
    counts = {run.run_id: run.counts for run in ordered}
    return arm_boundaries([run.state for run in ordered], counts, margin=view.plan.sweep.rule.margin)


def regime_line(rows: Sequence[ArmBoundary]) -> str:
    """What was found, in one line: the arms' regimes on all their problems."""
    whole = _by_set(rows)[0]
    told = "; ".join(
        f"{kind.value} in {num(len(arms), 'arm')} ({', '.join(arms)})"
        for kind in Regime
        if (arms := [row.arm for row in whole if row.boundary.regime is kind])
    )
    ks = " and ".join(str(k) for k in sorted({row.ks[-1] for row in whole}))
    return f"pass@{ks} from before to after training, {_set_words(whole[0])}: {told}."


def boundary_parts(rows: Sequence[ArmBoundary], margin: float) -> list[Markup]:
    """The regimes as a table, and a chart per arm and set of problems."""
    groups = _by_set(rows)
    keys = legend(
        ("c-control", "before training"),
        ("halfwayk", "halfway"),
        ("c-arm", "after"),
        ("band80k", "80 %, by bootstrap over problems"),
    )
    rule = (
        "The regime is judged at the largest k by the gain of pass@k from before to after, and by the part "
        f"of it that came after halfway: diminishing where the gain is at most {margin:g}, plateau where "
        "only the later part is, sustained where neither is. It is named from a probability of "
        f"{DEMANDED:g} on; else it is open, as is a rise without a measurement halfway. The seeds of an arm "
        "count together: pass@k of a problem is its mean over them."
    )
    folds = len(rows) > MOST_SHOWN
    drawn = [_drawn(group, folded=folds and place > 0) for place, group in enumerate(groups)]
    return [_table(groups), el("p", rule, class_="note"), keys, *drawn]


def _by_set(rows: Sequence[ArmBoundary]) -> list[list[ArmBoundary]]:
    """Rows of each set; where there are several, those of all problems together come first."""
    names = sorted(dict.fromkeys(row.problems for row in rows), key=lambda name: name != OVERALL)
    return [[row for row in rows if row.problems == name] for name in names]


def _set_words(row: ArmBoundary) -> str:
    which = "all problems together" if row.problems == OVERALL else row.problems
    return f"{which} ({num(row.num_problems, 'problem')}, {num(row.samples_per_prompt, 'sample')} of each)"


def badge(regime: Regime) -> Markup:
    """A regime as a word with its sign."""
    return el("span", el("i", SIGN[regime]), regime.value, class_=f"badge {SLUG[regime]}")


def _table(groups: Sequence[Sequence[ArmBoundary]]) -> Markup:
    arms = dict.fromkeys(row.arm for group in groups for row in group)
    cells = {(row.arm, row.problems): row for group in groups for row in group}
    names = [group[0].problems for group in groups]
    rows = [
        el("tr", el("th", arm, scope="row"), *(_cell(cells.get((arm, name))) for name in names))
        for arm in arms
    ]
    head = el("tr", *(el("th", title, scope="col") for title in ("arm", *names)))
    return el("div", el("table", el("thead", head), el("tbody", *rows), class_="matrix"), class_="scroll")


def _cell(row: ArmBoundary | None) -> Markup:
    if row is None:
        return el("td", el("small", "not measured"))
    found = row.boundary
    share = getattr(found, found.regime.value) if found.regime is not Regime.OPEN else None
    sure = "" if share is None else f" P {probability(share)}"
    numbers = f"pass@{row.ks[-1]} {rate(row.before[-1].median)} → {rate(row.after[-1].median)}"
    return el(
        "td",
        el("div", badge(found.regime), el("small", sure)),
        el("small", numbers),
        el("small", gain_text(found.last_gain)),
    )


def _drawn(group: Sequence[ArmBoundary], *, folded: bool) -> Markup:
    title = f"pass@k, {_set_words(group[0])}"
    ends = [
        end for row in group for each in (row.before, row.after) for i in each for end in (i.low80, i.high80)
    ]
    up = spread(min(ends), max(ends), 0.1)
    up = Axis(max(0.0, up.first), min(1.0, up.last))
    panels = el("div", *(_panel(row, up) for row in group), class_="panels small")
    if folded:
        return el("details", el("summary", el("b", title)), panels)
    return join(el("h3", title), panels)


def _panel(row: ArmBoundary, up: Axis) -> Markup:
    seeds = num(len(row.seeds), "seed")
    text = (
        f"pass@1 {rate(row.before[0].median)} → {rate(row.after[0].median)}, "
        f"pass@{row.ks[-1]} {rate(row.before[-1].median)} → {rate(row.after[-1].median)} at "
        f"{hours(row.gpu_hours)} GPU-hours; {num(row.num_problems, 'problem')} × "
        f"{num(row.samples_per_prompt, 'sample')}, {seeds}"
    )
    caption = el("figcaption", el("b", row.arm), badge(row.boundary.regime), el("small", text))
    label = f"{row.arm}, {row.problems}: pass@k against k; {text}; {row.boundary.regime.value}"
    chart = Chart(Axis(1.0, float(max(2, row.ks[-1])), is_log=True), up, WIDTH, HEIGHT)
    parts = chart.grid(
        [(float(k), str(k)) for k in _shown(row.ks)],
        [(value, f"{value:.2f}") for value in round_ticks(up)],
        "k samples",
    )
    curves = [(row.before, "was"), (row.after, "is")]
    for values, kind in curves:
        edges = [(float(k), i.low80, i.high80) for k, i in zip(row.ks, values, strict=True)]
        parts.append(chart.band(edges, f"band80 {kind}"))
    if row.middle is not None:
        parts.append(chart.line(_medians(row.ks, row.middle), "halfway"))
    for (values, _), kind in zip(curves, ("c-control", "c-arm"), strict=True):
        parts.append(chart.line(_medians(row.ks, values), kind))
    for place, k in enumerate(row.ks):
        tip = [f"{row.arm}, pass@{k}", *_told(row, place)]
        for values, kind in curves:
            x, y = chart.x(k), chart.y(values[place].median)
            parts.append(el("circle", cx=x, cy=y, r=2.2, class_=f"pt {kind}"))
            parts.append(el("circle", cx=x, cy=y, r=8, class_="hit", data_tip="\n".join(tip)))
    return el("figure", caption, chart.svg(parts, label))


def _shown(ks: Sequence[int]) -> list[int]:
    """Those of the values of k that have room for their number; the last one always."""
    every = -(-len(ks) // 7)
    return [k for place, k in enumerate(reversed(ks)) if place % every == 0]


def _medians(ks: Sequence[int], values: Sequence[Interval]) -> list[tuple[float, float]]:
    return [(float(k), each.median) for k, each in zip(ks, values, strict=True)]


def _told(row: ArmBoundary, place: int) -> list[str]:
    named = (("before", row.before), ("halfway", row.middle), ("after", row.after))
    return [f"{name} {rate(v[place].median)} {span80(v[place])}" for name, v in named if v is not None]
