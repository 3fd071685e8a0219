"""The part of the page on what completions became: length, entropy, truncation and novelty over compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scalerl_lab.config.tasks import HELDOUT
from scalerl_lab.report.boundary import OVERLAP
from scalerl_lab.report.chart import Axis, Chart, round_ticks, spread
from scalerl_lab.report.domains_page import TOLERANT
from scalerl_lab.report.markup import Markup, el
from scalerl_lab.report.view import RunView, SweepView
from scalerl_lab.report.words import num, percent, short_hours

ROOM, GAP, HEIGHT = 986, 20, 100
"""Drawing units for all charts of a row, between two of them, and up."""
Series = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Trend:
    """A number of the held-out completions that is drawn over compute."""

    name: str
    about: str
    of: Callable[[RunView], Series]
    text: Callable[[float], str]
    tick: Callable[[float], str]
    least: float
    """Range of the axis below which nothing is magnified; for a length a share of its largest value."""
    is_relative: bool = False


def _points(name: str) -> Callable[[RunView], Series]:
    return lambda run: [(point.gpu_hours, float(getattr(point, name))) for point in run.points]


def _overlap(run: RunView) -> Series:
    return [(m.gpu_hours, m.value) for m in run.measured if m.metric == OVERLAP and m.problem_set == HELDOUT]


def _format_lost(run: RunView) -> Series:
    rates = {point.step: point.pass_rate for point in run.points}
    return [
        (m.gpu_hours, m.value - rates[m.step])
        for m in run.measured
        if m.metric == TOLERANT and m.problem_set == HELDOUT and not m.domain and m.step in rates
    ]


def _plain(value: float) -> str:
    return f"{value:.4g}"


def _whole(value: float) -> str:
    return f"{100 * value:.4g} %"


TRENDS = (
    Trend("Output length", "tokens, mean", _points("mean_tokens"), "{:,.1f}".format, _plain, 0.1, True),
    Trend("Entropy", "nats per token, mean", _points("entropy"), "{:.2f}".format, _plain, 0.1, True),
    Trend("Truncated", "share cut off at the limit", _points("truncation_rate"), percent, _whole, 0.05),
    Trend("n-gram overlap", "share of words in an n-gram of the corpus", _overlap, percent, _whole, 0.05),
    Trend(
        "Lost to format",
        "share with a right answer that does not stand where it should",
        _format_lost,
        percent,
        _whole,
        0.05,
    ),
)
"""What is drawn, in this order, where it was measured."""


def outputs_parts(view: SweepView) -> list[Markup]:
    """A row of small charts per arm, a column per trend; empty where no run has two points."""
    measured = [run for run in view.runs if len(run.points) > 1]
    trends = [trend for trend in TRENDS if any(len(trend.of(run)) > 1 for run in measured)]
    if not trends:
        return []
    across = Axis(0.0, max(run.points[-1].gpu_hours for run in measured))
    heights = [_height(trend, view.runs) for trend in trends]
    point = measured[0].points[-1]
    head = el(
        "div",
        el("div", class_="who"),
        *(el("div", el("b", trend.name), el("small", trend.about)) for trend in trends),
        class_="trow thead",
    )
    rows = [_row(view, arm, trends, heights, across) for arm in view.arms]
    note = (
        f"Of the held-out completions at each point, {num(point.num_prompts, 'prompt')} with "
        f"{num(point.num_samples, 'sample')} in all; a line per seed, the control's in grey; GPU-hours on a "
        "linear axis from the start of training; each column has one scale."
    )
    return [
        el("p", note, class_="note"),
        el("div", head, *rows, class_="trends"),
    ]


def outputs_line(view: SweepView) -> str:
    """What was found, in one line: each trend of the control, and the arm farthest from its end."""
    told = []
    for trend in TRENDS:
        ends = {arm: pair for arm in view.arms if (pair := _ends(trend, view.of_arm(arm))) is not None}
        control = next((run.state.planned.arm for run in view.control), None)
        if control not in ends:
            continue
        first, last = ends[control]
        far = max(ends, key=lambda arm: abs(ends[arm][1] - last))
        same = trend.text(ends[far][1]) == trend.text(last)
        rest = "" if same else f" (farthest from it: {far}, {trend.text(ends[far][1])})"
        told.append(
            f"{trend.name[:1].lower()}{trend.name[1:]} {trend.text(first)} → {trend.text(last)}{rest}"
        )
    return f"From start to end the control's completions: {'; '.join(told)}." if told else ""


def _ends(trend: Trend, runs: Sequence[RunView]) -> tuple[float, float] | None:
    """First and last value, means over the seeds."""
    found = [series for run in runs if len(series := trend.of(run)) > 1]
    if not found:
        return None
    num_seeds = len(found)
    return sum(s[0][1] for s in found) / num_seeds, sum(s[-1][1] for s in found) / num_seeds


def _height(trend: Trend, runs: Sequence[RunView]) -> Axis:
    values = [value for run in runs for _, value in trend.of(run)]
    least = trend.least * max(values) if trend.is_relative else trend.least
    lowest = min(values)
    return spread(lowest, max(values), max(least, 1e-6), floor=None if lowest < 0.0 else 0.0)


def _row(view: SweepView, arm: str, trends: Sequence[Trend], heights: Sequence[Axis], across: Axis) -> Markup:
    runs = view.of_arm(arm)
    is_control = arm in {run.state.planned.arm for run in view.control}
    behind = () if is_control else view.control
    width = ROOM // len(trends) - GAP
    cells = [
        _cell(arm, runs, behind, trend, Chart(across, up, width, HEIGHT, 36, 6, 8, 20))
        for trend, up in zip(trends, heights, strict=True)
    ]
    who = el("figcaption", el("b", arm), el("small", num(len(runs), "seed")), class_="who")
    return el(
        "figure",
        who,
        *cells,
        class_="trow is-control" if is_control else "trow",
    )


def _cell(arm: str, runs: Sequence[RunView], behind: Sequence[RunView], trend: Trend, chart: Chart) -> Markup:
    ends = _ends(trend, runs)
    if ends is None:
        return el("div", el("b", trend.name, class_="which"), el("small", "not measured"))
    text = f"{trend.text(ends[0])} → {trend.text(ends[1])}"
    last = chart.across.last
    ticks = [(0.0, "0"), (last, short_hours(last))]
    parts = chart.grid(ticks, [(value, trend.tick(value)) for value in round_ticks(chart.up, 3)])
    parts += [chart.line(trend.of(run), "c-control") for run in behind if len(trend.of(run)) > 1]
    for run in runs:
        series = trend.of(run)
        if len(series) > 1:
            parts.append(chart.line(series, "c-arm"))
            parts.append(
                el("circle", cx=chart.x(series[-1][0]), cy=chart.y(series[-1][1]), r=2.4, class_="pt is")
            )
    label = f"{arm}: {trend.name} ({trend.about}) over GPU-hours, {text}"
    tip = f"{arm}, {trend.name}\n{trend.about}\n{text}"
    return el("div", el("b", trend.name, class_="which"), el("small", text), chart.svg(parts, label, tip))
