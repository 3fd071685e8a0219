"""Small charts of measured values: a frame, lines, bands; their colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from scalerl_lab.report.markup import Markup, el

LINE = 11.0
"""Drawing units from one line of small text to the next."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values along one side of a chart."""

    first: float
    last: float
    is_log: bool = False

    def share(self, value: float) -> float:
        """Place of a value, 0 at the first end and 1 at the last; values outside lie at the ends."""
        inside = min(max(self.first, self.last), max(min(self.first, self.last), value))
        if self.is_log:
            return math.log(inside / self.first) / math.log(self.last / self.first)
        return (inside - self.first) / (self.last - self.first)


@dataclass(frozen=True, slots=True)
class Chart:
    """Two axes on a canvas, in drawing units."""

    across: Axis
    up: Axis
    width: int
    height: int
    left: int = 34
    right: int = 12
    top: int = 10
    bottom: int = 26

    def x(self, value: float) -> float:
        """Place along the lower side."""
        return self.left + self.across.share(value) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Place along the left side."""
        return self.height - self.bottom - self.up.share(value) * (self.height - self.top - self.bottom)

    def grid(
        self, across: Sequence[tuple[float, str]], up: Sequence[tuple[float, str]], unit: str = ""
    ) -> list[Markup]:
        """Ticks with their words, lines at those of the left side, the unit of the lower one at its end."""
        floor, end = self.height - self.bottom, self.width - self.right
        parts = []
        for value, text in up:
            y = self.y(value)
            parts.append(el("line", x1=self.left, x2=end, y1=y, y2=y, class_="grid"))
            parts.append(el("text", text, x=self.left - 5, y=y + 3.5, class_="tick end"))
        parts.append(el("line", x1=self.left, x2=end, y1=floor, y2=floor, class_="axis"))
        for value, text in across:
            x = self.x(value)
            parts.append(el("line", x1=x, x2=x, y1=floor, y2=floor + 4, class_="axis"))
            # Words in the middle of the last place would stick out where there is no room beside it.
            side = "end" if x + 14 > self.width else "mid"
            parts.append(el("text", text, x=x, y=floor + 15, class_=f"tick {side}"))
        if unit:
            parts.append(el("text", unit, x=end, y=floor - 4, class_="marktext end"))
        return parts

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        """A line through points, as the attribute ``d`` of a path."""
        return "M" + "L".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)

    def line(self, points: Sequence[tuple[float, float]], kind: str) -> Markup:
        """A line through points."""
        return el("path", d=self.path(points), class_=f"line {kind}")

    def band(self, edges: Sequence[tuple[float, float, float]], kind: str) -> Markup:
        """The area between the low and the high value at each place: (x, low, high)."""
        outline = [(x, high) for x, _, high in edges] + [(x, low) for x, low, _ in reversed(edges)]
        return el("path", d=self.path(outline) + "Z", class_=kind)

    def svg(self, parts: Sequence[Markup], label: str, tip: str | None = None) -> Markup:
        """The drawing, with words for those who cannot see it."""
        box = f"0 0 {self.width} {self.height}"
        return el("svg", *parts, class_="curve", viewBox=box, role="img", aria_label=label, data_tip=tip)


def spread(lowest: float, highest: float, least: float, *, floor: float | None = None) -> Axis:
    """An axis around values with some air, at least so long that noise does not look like a trend.

    Args:
        lowest: value.
        highest: value.
        least: length below which the axis grows on both sides.
        floor: below which no value can be, such as 0 for a share.
    """
    air = max(0.06 * (highest - lowest), (least - (highest - lowest)) / 2.0)
    low, high = lowest - air, highest + air
    if floor is not None and low < floor:
        low, high = floor, max(high, floor + least)
    return Axis(low, high)


def round_ticks(axis: Axis, most: int = 4) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten inside an axis, at most one more than so many."""
    step = 10.0 ** math.floor(math.log10((axis.last - axis.first) / most))
    for times in (1.0, 2.0, 5.0, 10.0, 20.0):
        first, last = (
            math.ceil(axis.first / (step * times) - 1e-9),
            math.floor(axis.last / (step * times) + 1e-9),
        )
        if last - first < most + 1:
            break
    return [place * step * times for place in range(first, last + 1)]


def apart(wanted: Sequence[float], gap: float, last: float) -> list[float]:
    """Places of words as near to where they are wanted as a gap between them allows, none beyond the last.

    Worked number: words wanted at 10, 12 and 40 with a gap of 11 stand at 10, 21 and 40.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    found = list(wanted)
    for before, after in pairwise(order):
        found[after] = max(found[after], found[before] + gap)
    limit = last
    for place in reversed(order):
        found[place] = min(found[place], limit)
        limit = found[place] - gap
    return found
