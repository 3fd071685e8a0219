"""The part of the page on domains: where held-out prompts are of several kinds, each kind's curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scalerl_lab.config.tasks import HELDOUT
from scalerl_lab.records import Measurement
from scalerl_lab.report.chart import LINE, apart
from scalerl_lab.report.curves import HEIGHT, RIGHT, WIDTH, Frame, frame, grid, path
from scalerl_lab.report.markup import Markup, el
from scalerl_lab.report.view import RunView, SweepView
from scalerl_lab.report.words import bare, hours, num, rate, signed

PASS_RATE, TOLERANT = "pass_rate", "tolerant_pass_rate"
COLOURS = 6
"""Kinds of line that the page's style has; further domains begin again with the first."""


def domains(view: SweepView) -> list[str]:
    """Kinds of held-out prompts, where there are several, in alphabetical order."""
    return sorted({each.domain for run in view.runs for each in _of(run, PASS_RATE)})


def _of(run: RunView, metric: str) -> list[Measurement]:
    return [m for m in run.measured if m.metric == metric and m.problem_set == HELDOUT and m.domain]


def domains_line(view: SweepView) -> str:
    """What was found, in one line: each domain's gain under the control, and the arms farthest apart."""
    told = []
    for domain in domains(view):
        gains = {arm: gain for arm in view.arms if (gain := _gain(view.of_arm(arm), domain)) is not None}
        if not gains:
            continue
        # The control is the first of the arms.
        first = next(iter(gains))
        most, least = max(gains, key=lambda arm: gains[arm]), min(gains, key=lambda arm: gains[arm])
        ends = [
            f"{word} {signed(gains[arm])} ({arm})"
            for word, arm in (("most", most), ("least", least))
            if arm != first
        ]
        told.append(", ".join([f"{domain} {signed(gains[first])} under {first}", *ends]))
    return f"Gain from start to end: {'; '.join(told)}." if told else "No gain has been measured yet."


def _gain(runs: Sequence[RunView], domain: str) -> float | None:
    """Mean over seeds of the last measurement minus the first."""
    gains = []
    for run in runs:
        told = [each for each in _of(run, PASS_RATE) if each.domain == domain]
        if len(told) > 1:
            gains.append(told[-1].value - told[0].value)
    return sum(gains) / len(gains) if gains else None


def domains_parts(view: SweepView) -> list[Markup]:
    """A chart per arm with the held-out pass rate of each domain."""
    names = domains(view)
    axes = _axes(view)
    if axes is None:
        return [el("p", "No run has been measured after its start yet.")]
    tolerant = any(_of(run, TOLERANT) for run in view.runs)
    keys = [el("span", el("i", class_=f"swatch {_colour(names, name)}"), name) for name in names]
    if tolerant:
        keys.append(el("span", el("i", class_="swatch dashk"), "with the answer found wherever it stands"))
    text = (
        "Held-out pass rate of each domain; GPU-hours on a log axis, a line per seed, bars of one standard "
        "error. The curve that is fitted is of all domains together."
    )
    panels = [_panel(view, arm, names, axes) for arm in view.arms]
    return [
        el("p", text, class_="note"),
        el("p", *keys, class_="legend"),
        el("div", *panels, class_="panels"),
    ]


def _axes(view: SweepView) -> Frame | None:
    """The frame of the curves above, with room for each domain's pass rate."""
    axes = frame(view.runs, view.plan.sweep.fit_start_gpu_hours)
    if axes is None:
        return None
    told = [each for run in view.runs for name in (PASS_RATE, TOLERANT) for each in _of(run, name)]
    values = [each.value for each in told if each.gpu_hours >= axes.first]
    if not values:
        return None
    pad = max(0.02, 0.06 * (max(values) - min(values)))
    return replace(axes, low=max(0.0, min(values) - pad), high=min(1.0, max(values) + pad))


def _colour(names: Sequence[str], name: str) -> str:
    return f"by-kind k{names.index(name) % COLOURS}"


def _panel(view: SweepView, arm: str, names: Sequence[str], axes: Frame) -> Markup:
    runs = view.of_arm(arm)
    parts = [grid(axes)]
    ends: list[tuple[str, float, float]] = []
    for run in runs:
        for metric in (TOLERANT, PASS_RATE):
            for name in names:
                told = [m for m in _of(run, metric) if m.domain == name and m.gpu_hours >= axes.first]
                if told:
                    parts += _line(axes, run, told, f"{_colour(names, name)}{' dash' * (metric == TOLERANT)}")
                    if metric == PASS_RATE and run is runs[0]:
                        ends.append((name, axes.x(told[-1].gpu_hours), axes.y(told[-1].value)))
    places = apart([y - 5.0 for _, _, y in ends], LINE, HEIGHT - 36.0)
    for (name, x, _), y in zip(ends, places, strict=True):
        colour = _colour(names, name)
        parts.append(el("text", name, x=min(x, WIDTH - RIGHT), y=y, class_=f"name end {colour}"))
    text = f"{'; '.join(_told(runs, name) for name in names)}. {_sizes(runs, names)}"
    caption = el("figcaption", el("b", arm), el("small", text))
    label = f"{arm}: pass rate of each domain against GPU-hours; {text}"
    box = f"0 0 {WIDTH} {HEIGHT}"
    return el(
        "figure",
        caption,
        el("svg", *parts, class_="curve", viewBox=box, role="img", aria_label=label),
        class_="is-control" if arm in {run.state.planned.arm for run in view.control} else None,
    )


def _told(runs: Sequence[RunView], name: str) -> str:
    """First and last pass rate of a domain, means over the seeds."""
    of_runs = [told for run in runs if (told := [m for m in _of(run, PASS_RATE) if m.domain == name])]
    if not of_runs:
        return f"{name} not measured"
    first = sum(told[0].value for told in of_runs) / len(of_runs)
    last = sum(told[-1].value for told in of_runs) / len(of_runs)
    return f"{name} {rate(first)} → {rate(last)}"


def _sizes(runs: Sequence[RunView], names: Sequence[str]) -> str:
    """Of how many prompts and samples the last points are."""
    sizes = {
        told[-1].domain: (told[-1].num_prompts, told[-1].num_samples)
        for run in runs
        for name in names
        if (told := [m for m in _of(run, PASS_RATE) if m.domain == name])
    }
    seeds = num(len(runs), "seed")
    if len(set(sizes.values())) == 1:
        prompts, samples = next(iter(sizes.values()))
        return f"Each: {num(prompts, 'prompt')}, {num(samples, 'sample')} a point; {seeds}"
    told_of = [f"{name} {p:,} and {s:,}" for name, (p, s) in sizes.items()]
    return f"Prompts and samples a point: {', '.join(told_of)}; {seeds}"


def _line(axes: Frame, run: RunView, told: Sequence[Measurement], kind: str) -> list[Markup]:
    at = [(axes.x(each.gpu_hours), axes.y(each.value)) for each in told]
    parts = [el("path", d=path([x for x, _ in at], [y for _, y in at]), class_=f"line {kind}")]
    if told[0].metric == TOLERANT:
        return parts
    for (x, y), each in zip(at, told, strict=True):
        error = each.standard_error or 0.0
        low, high = axes.y(max(axes.low, each.value - error)), axes.y(min(axes.high, each.value + error))
        tip = (
            f"{run.label}, {each.domain}\n{hours(each.gpu_hours)} GPU-hours, step {each.step:,}\n"
            f"pass rate {rate(each.value)} ± {bare(error)}"
        )
        parts.append(el("line", x1=x, x2=x, y1=low, y2=high, class_=f"whisker {kind}"))
        parts.append(el("circle", cx=x, cy=y, r=2, class_=f"spot {kind}"))
        parts.append(el("circle", cx=x, cy=y, r=8, class_="hit", data_tip=tip))
    return parts
