"""A decision's picture as a drawing: points, forecast, its 80 % band, what it is held against."""

from __future__ import annotations

from scalerl_lab.report.curves import rate_ticks
from scalerl_lab.report.markup import Markup, el
from scalerl_lab.report.story_picture import Picture
from scalerl_lab.report.words import hours, rate, span80

WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 40, 56, 14, 34
_LEAST_GAP = 52.0
"""Drawing units from the middle of one label of the axis to the next."""


def forecast_drawing(picture: Picture, label: str) -> Markup:
    """The picture as inline SVG; its colours come from the page's style.

    Args:
        picture: what to draw.
        label: what it shows, for those who cannot see it.
    """
    parts = [*_frame(picture), *_ahead(picture), *_reference(picture), *_spots(picture), *_ceiling(picture)]
    return el("svg", *parts, class_="forecast", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)


def _x(picture: Picture, gpu_hours: float) -> float:
    return LEFT + gpu_hours / picture.last * (WIDTH - LEFT - RIGHT)


def _y(picture: Picture, pass_rate: float) -> float:
    inside = min(picture.high, max(picture.low, pass_rate))
    return HEIGHT - BOTTOM - (inside - picture.low) / (picture.high - picture.low) * (HEIGHT - TOP - BOTTOM)


def _frame(picture: Picture) -> list[Markup]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in rate_ticks(picture.low, picture.high):
        y = _y(picture, value)
        parts.append(el("line", x1=LEFT, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(el("text", f"{value:.2f}", x=LEFT - 6, y=y + 3.5, class_="tick end"))
    parts.append(el("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
    now = _x(picture, picture.gpu_hours)
    parts.append(el("line", x1=now, x2=now, y1=TOP, y2=bottom, class_="now"))
    placed: list[float] = []
    for gpu_hours in (picture.gpu_hours, picture.last, 0.0, picture.budget):
        x = _x(picture, gpu_hours)
        if any(abs(x - other) < _LEAST_GAP for other in placed):
            continue
        placed.append(x)
        parts.append(el("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(el("text", hours(gpu_hours), x=x, y=bottom + 16, class_="tick mid"))
    parts.append(el("text", "GPU-hours", x=LEFT, y=bottom + 29, class_="marktext"))
    return parts


def _ahead(picture: Picture) -> list[Markup]:
    known = [
        (a.gpu_hours, a.low80, a.high80)
        for a in picture.ahead
        if a.low80 is not None and a.high80 is not None
    ]
    parts = []
    if len(known) > 1:
        lower = [_pair(picture, at, low) for at, low, _ in known]
        upper = [_pair(picture, at, high) for at, _, high in reversed(known)]
        parts.append(el("path", d=f"M{'L'.join([*lower, *upper])}Z", class_="band80"))
    if len(picture.ahead) > 1:
        line = "L".join(_pair(picture, a.gpu_hours, a.median) for a in picture.ahead)
        parts.append(el("path", d=f"M{line}", class_="line ahead c-arm"))
    return parts


def _reference(picture: Picture) -> list[Markup]:
    if picture.reference is None:
        return []
    y = _y(picture, picture.reference)
    text = f"{picture.reference_name}: {rate(picture.reference)}"
    return [
        el("line", x1=LEFT, x2=WIDTH - 12, y1=y, y2=y, class_="reference"),
        # Above the line, unless it lies at the upper edge.
        el("text", text, x=LEFT + 6, y=y - 5 if y > TOP + 14 else y + 13, class_="referencetext"),
    ]


def _spots(picture: Picture) -> list[Markup]:
    parts = []
    for spots, name in ((picture.later, "pt out"), (picture.seen, "pt")):
        for gpu_hours, value in spots:
            if not picture.low <= value <= picture.high:
                continue
            x, y = _x(picture, gpu_hours), _y(picture, value)
            tip = f"{hours(gpu_hours)} GPU-hours\npass rate {rate(value)}"
            parts.append(el("circle", cx=x, cy=y, r=2.4, class_=name))
            parts.append(el("circle", cx=x, cy=y, r=8, class_="hit", data_tip=tip))
    return parts


def _ceiling(picture: Picture) -> list[Markup]:
    """The ceiling's interval beside the frame, where the line that it is held against passes."""
    ceiling = picture.ceiling
    if ceiling is None:
        return []
    x = WIDTH - 24
    doubt = "" if picture.identified else ", not identified"
    tip = f"ceiling {rate(ceiling.median)} {span80(ceiling)} (80 %){doubt}"
    name = "ceiling" if picture.identified else "ceiling open"
    low, high, middle = (_y(picture, value) for value in (ceiling.low80, ceiling.high80, ceiling.median))
    return [
        el("line", x1=x, x2=x, y1=low, y2=high, class_=name, data_tip=tip),
        el("line", x1=x - 6, x2=x + 6, y1=middle, y2=middle, class_=name, data_tip=tip),
        el("text", "A", x=x, y=HEIGHT - BOTTOM + 16, class_="tick mid"),
    ]


def _pair(picture: Picture, gpu_hours: float, pass_rate: float) -> str:
    return f"{_x(picture, gpu_hours):.1f},{_y(picture, pass_rate):.1f}"
