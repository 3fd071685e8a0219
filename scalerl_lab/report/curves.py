"""Pass rate against compute on a log axis, a small drawing per arm with the control behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scalerl_lab.records import RunStatus
from scalerl_lab.report.markup import Markup, el, join
from scalerl_lab.report.view import RunView
from scalerl_lab.report.words import hours, rate, short_hours

WIDTH, HEIGHT = 372, 250
LEFT, RIGHT, TOP, BOTTOM = 38, 10, 10, 30
NUM_X = 96
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Frame:
    """The axes that all drawings of a page share."""

    first: float
    """GPU-hours at the left edge."""
    last: float
    low: float
    high: float
    fit_start: float
    budget: float

    def x(self, gpu_hours: float) -> float:
        """Place of a compute, in drawing units."""
        share = math.log(gpu_hours / self.first) / math.log(self.last / self.first)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, pass_rate: float) -> float:
        """Place of a pass rate."""
        share = (pass_rate - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


@dataclass(frozen=True, slots=True)
class Trace:
    """A run and its fit along the axis, so that a curve drawn in many panels is computed once."""

    run: RunView
    at: Floats
    bands: Floats | None
    """[5, N] quantiles of the fit at the computes ``at``; None without a posterior."""


def trace(axes: Frame, run: RunView) -> Trace:
    """A run's fit along the axis; of a diverged run only the points, as the law does not describe it."""
    at = np.geomspace(axes.first, axes.last, NUM_X)
    return Trace(run, at, run.fitted.bands(at) if run.divergence is None else None)


def frame(runs: Sequence[RunView], fit_start: float) -> Frame | None:
    """Axes wide enough for all points and forecasts of the runs; None before there is any point."""
    trained = [point for run in runs for point in run.points if point.gpu_hours > 0]
    if not trained:
        return None
    budget = max(run.budget_gpu_hours for run in runs)
    last = max([budget, *(p.gpu_hours for p in trained)]) * 1.12
    first = min(p.gpu_hours for p in trained) * 0.9
    if fit_start > 0:
        # The rise begins near the fit start; points far before it would only squeeze the axis.
        # Until there are later ones, they are all there is to show.
        first = max(first, min(fit_start / 3.0, 0.9 * max(p.gpu_hours for p in trained)))
    shown = [p.pass_rate for p in trained if p.gpu_hours >= first]
    ends = [f.pass_rate.high80 for run in runs if run.fitted.identified and (f := run.fitted.forecast(last))]
    low, high = min(shown), max([*shown, *ends])
    pad = max(0.02, 0.06 * (high - low))
    return Frame(first, last, max(0.0, low - pad), min(1.0, high + pad), fit_start, budget)


def drawing(axes: Frame, arm: Sequence[Trace], control: Sequence[Trace], label: str) -> Markup:
    """An arm's points, median and bands over the control's median; ``control`` may be empty."""
    parts = [grid(axes)]
    for behind in control:
        parts += _median(axes, behind, "c-control")
    for traced in arm:
        parts += _bands(axes, traced)
    for traced in arm:
        parts += _median(axes, traced, "c-arm")
    for traced in arm:
        parts += _points(axes, traced.run)
    return el("svg", *parts, class_="curve", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)


def ticks(first: float, last: float) -> list[float]:
    """1, 2 and 5 times powers of ten within a range; only powers where those would be too many."""
    powers = range(math.floor(math.log10(first)), math.ceil(math.log10(last)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**p for p in powers for m in steps if first <= m * 10.0**p <= last]
        if len(found) <= 6:
            return found
    return found


def rate_ticks(low: float, high: float) -> list[float]:
    """Round pass rates within a range, four to seven of them."""
    for step in (0.01, 0.02, 0.05, 0.1, 0.2):
        if (high - low) / step <= 6.0:
            break
    return [
        round(k * step, 3) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]


def grid(axes: Frame) -> Markup:
    """The frame with its ticks, the fit start and the budget."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts: list[Markup] = []
    for value in rate_ticks(axes.low, axes.high):
        y = axes.y(value)
        parts.append(el("line", x1=LEFT, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(el("text", f"{value:.2f}", x=LEFT - 6, y=y + 3.5, class_="tick end"))
    for value in ticks(axes.first, axes.last):
        x = axes.x(value)
        parts.append(el("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(el("text", _tick(value), x=x, y=bottom + 15, class_="tick mid"))
    parts.append(el("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
    for value, text in ((axes.fit_start, "fit start"), (axes.budget, "budget")):
        if axes.first < value < axes.last:
            x = axes.x(value)
            parts.append(el("line", x1=x, x2=x, y1=TOP, y2=bottom, class_="mark"))
            parts.append(
                el("text", text, x=x - 4, y=bottom - 5, class_="marktext end")
                if x > LEFT + 60
                else el("text", text, x=x + 4, y=bottom - 5, class_="marktext")
            )
    return join(*parts)


def _tick(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _clip(axes: Frame, values: Floats) -> list[float]:
    return [axes.y(min(axes.high, max(axes.low, float(v)))) for v in values]


def path(xs: Sequence[float], ys: Sequence[float]) -> str:
    """A line through places on the drawing, as the attribute ``d`` of a path."""
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))


def _bands(axes: Frame, traced: Trace) -> list[Markup]:
    if (bands := traced.bands) is None:
        return []
    xs = [axes.x(float(c)) for c in traced.at]
    out = []
    for low, high, name in ((0, 4, "band95"), (1, 3, "band80")):
        outline = path([*xs, *reversed(xs)], [*_clip(axes, bands[high]), *reversed(_clip(axes, bands[low]))])
        out.append(el("path", d=outline + "Z", class_=name))
    return out


def _median(axes: Frame, traced: Trace, kind: str) -> list[Markup]:
    """Solid as far as there are points, dashed beyond."""
    if traced.bands is None:
        return []
    xs = [axes.x(float(c)) for c in traced.at]
    ys = _clip(axes, traced.bands[2])
    cut = int(np.searchsorted(traced.at, traced.run.state.gpu_hours))
    out = []
    if cut > 1:
        out.append(el("path", d=path(xs[:cut], ys[:cut]), class_=f"line {kind}"))
    if cut < NUM_X - 1:
        start = max(0, cut - 1)
        out.append(el("path", d=path(xs[start:], ys[start:]), class_=f"line ahead {kind}"))
    return out


def _points(axes: Frame, run: RunView) -> list[Markup]:
    out: list[Markup] = []
    shown = [p for p in run.points if p.gpu_hours >= axes.first]
    if run.divergence is not None and shown:
        at = [axes.x(p.gpu_hours) for p in shown]
        out.append(
            el("path", d=path(at, _clip(axes, np.array([p.pass_rate for p in shown]))), class_="joined")
        )
    for point in shown:
        x, y = axes.x(point.gpu_hours), axes.y(min(axes.high, max(axes.low, point.pass_rate)))
        inside = point.gpu_hours >= axes.fit_start
        tip = (
            f"{run.label}\n{hours(point.gpu_hours)} GPU-hours, step {point.step:,}\n"
            f"pass rate {rate(point.pass_rate)} ± {point.pass_rate_se:.3f}"
        )
        out.append(el("circle", cx=x, cy=y, r=2.4, class_="pt" if inside else "pt out"))
        out.append(el("circle", cx=x, cy=y, r=8, class_="hit", data_tip=tip))
    if shown and run.state.status is RunStatus.KILLED:
        x, y = axes.x(shown[-1].gpu_hours), axes.y(min(axes.high, max(axes.low, shown[-1].pass_rate)))
        cross = f"M{x - 4.5:.1f},{y - 4.5:.1f}l9,9m0,-9l-9,9"
        out.append(el("path", d=cross, class_="killed"))
        text = f"killed at {short_hours(shown[-1].gpu_hours)}"
        # Below and to the right the curve is flat; only near the edge must the words go to the left.
        at_edge = x > WIDTH - 95
        place = {"x": x + 6, "y": y + 36} if at_edge else {"x": x - 7, "y": y + 25}
        out.append(el("text", text, **place, class_="killtext end" if at_edge else "killtext"))
    return out
