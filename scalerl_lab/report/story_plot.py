"""A decision's picture in characters: points, forecast, its 80 % band, and the line it is held against.

Where the output is UTF-8, a cell holds 2 x 4 Braille dots, so that a difference of a fiftieth of the height
can be seen in twelve rows; elsewhere it holds one character.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from scalerl_lab.report.curves import rate_ticks
from scalerl_lab.report.story_picture import Picture
from scalerl_lab.report.words import hours

ROWS = 12
WIDEST = 96
NARROWEST = 44
_LABEL, _GAP, _CEILING = 6, 1, 3
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


@dataclass(frozen=True, slots=True)
class ForecastPlot:
    """Prints a picture as wide as there is room for; nothing where that is too narrow to be read."""

    picture: Picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The plot's lines, and under them what its signs mean."""
        width = min(options.max_width, WIDEST)
        if width >= NARROWEST:
            for line in plot_lines(self.picture, width, ascii_only=options.ascii_only):
                yield Text(line, no_wrap=True)
            for line in legend_lines(self.picture, width, ascii_only=options.ascii_only):
                yield Text(line, style="dim", no_wrap=True)


@dataclass(slots=True)
class _Canvas:
    """Cells of a plot; dots of curves lie over what is set in the cells."""

    columns: int
    rows: int
    ascii_only: bool
    dots: dict[tuple[int, int], int] = field(default_factory=dict)
    """(row, column) -> Braille bits."""
    cells: dict[tuple[int, int], str] = field(default_factory=dict)

    @property
    def across(self) -> int:
        """Dots in a row."""
        return self.columns * (1 if self.ascii_only else 2)

    @property
    def down(self) -> int:
        """Dots in a column."""
        return self.rows * (1 if self.ascii_only else 4)

    def dot(self, x: int, y: int, plain: str) -> None:
        """Set a dot, counted from the upper left; ``plain`` stands for it where there are no dots."""
        if not (0 <= x < self.across and 0 <= y < self.down):
            return
        if self.ascii_only:
            self.cells[y, x] = plain
        else:
            place = (y // 4, x // 2)
            self.dots[place] = self.dots.get(place, 0) | _BITS[y % 4][x % 2]

    def line(self, row: int) -> str:
        """One row of cells."""
        return "".join(
            chr(0x2800 + self.dots[row, column])
            if (row, column) in self.dots
            else self.cells.get((row, column), " ")
            for column in range(self.columns)
        )


def plot_lines(picture: Picture, width: int, *, ascii_only: bool = False, rows: int = ROWS) -> list[str]:
    """The plot without its legend.

    Args:
        picture: what to draw.
        width: columns that there are.
        ascii_only: use no other characters than those of ASCII.
        rows: height of the plot itself, without its axis.
    """
    columns = width - _LABEL - 1 - _GAP - _CEILING
    canvas = _Canvas(columns + _GAP + _CEILING, rows, ascii_only)
    per_cell = canvas.across // canvas.columns

    def x(gpu_hours: float) -> int:
        return round(gpu_hours / picture.last * (columns * per_cell - 1))

    def y(pass_rate: float) -> int:
        return _down(canvas, picture, pass_rate)

    now = x(picture.gpu_hours) // per_cell
    for row in range(rows):
        canvas.cells[row, now] = "|" if ascii_only else "┊"
    _shade(canvas, picture, columns)
    if picture.reference is not None:
        # Dashes of two cells, so that the line is told apart from the forecast.
        for column in range(canvas.across):
            if column // (2 * per_cell) % 2 == 0:
                canvas.dot(column, y(picture.reference), "-")
    _draw_ahead(canvas, picture, columns)
    for spots, sign in ((picture.later, "+"), (picture.seen, "o")):
        for gpu_hours, value in spots:
            if picture.low <= value <= picture.high:
                canvas.dot(x(gpu_hours), y(value), sign)
                if not ascii_only:
                    canvas.dot(x(gpu_hours) + 1, y(value), sign)
    if picture.ceiling is not None:
        _draw_ceiling(canvas, picture, columns * per_cell + _GAP * per_cell)
    ticks = {
        y(value) * rows // canvas.down: value for value in reversed(rate_ticks(picture.low, picture.high))
    }
    bar = "|" if ascii_only else "│"
    lines = [
        f"{f'{ticks[row]:.2f}' if row in ticks else '':>{_LABEL - 1}} {bar}{canvas.line(row)}".rstrip()
        for row in range(rows)
    ]
    corner, rule = ("+", "-") if ascii_only else ("└", "─")
    ceiling = "" if picture.ceiling is None else " " * (_GAP + 1) + "A"
    lines.append(" " * _LABEL + corner + rule * columns + ceiling)
    lines.append(" " * (_LABEL + 1) + _hour_labels(picture, columns))
    return lines


def legend_lines(picture: Picture, width: int, *, ascii_only: bool = False) -> list[str]:
    """What the signs of a plot mean, naming only those that are there."""
    point, line, band, dashes = ("o", "***", "..", "--  --") if ascii_only else ("⠒", "⠒⠒⠒", "░░", "⠒⠒  ⠒⠒")
    parts = [f"{point} measured"]
    if picture.later and ascii_only:
        parts.append("+ measured since")
    if picture.ahead:
        parts.append(f"{line} forecast")
    if any(a.low80 is not None for a in picture.ahead):
        parts.append(f"{band} 80 % of it")
    if picture.reference is not None:
        parts.append(f"{dashes} {picture.reference_name}")
    if picture.ceiling is not None:
        parts.append("A its ceiling, 80 %" if picture.identified else "A its ceiling, 80 %, not identified")
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + 3 + len(part) > width - _LABEL - 1:
            lines.append("")
        lines[-1] += f"   {part}" if lines[-1] else part
    return [" " * (_LABEL + 1) + text for text in lines]


def _shade(canvas: _Canvas, picture: Picture, columns: int) -> None:
    """The 80 % band: every cell whose middle lies in it, and its edges dotted."""
    known = [(a.gpu_hours, a.low80, a.high80) for a in picture.ahead if a.low80 is not None]
    if len(known) < 2:
        return
    per_cell = canvas.across // canvas.columns
    for column in range(columns * per_cell):
        at = (column + 0.5) / (columns * per_cell) * picture.last
        if not known[0][0] <= at <= known[-1][0]:
            continue
        _, low, high = min(known, key=lambda edge: abs(edge[0] - at))
        assert high is not None
        for row in range(canvas.rows):
            middle = picture.high - (row + 0.5) / canvas.rows * (picture.high - picture.low)
            if low <= middle <= high:
                canvas.cells[row, column // per_cell] = "." if canvas.ascii_only else "░"
        if column % 3 == 0 and not canvas.ascii_only:
            for edge in (low, high):
                canvas.dot(column, _down(canvas, picture, edge), ".")


def _down(canvas: _Canvas, picture: Picture, value: float) -> int:
    """Dots from the top to a pass rate."""
    return round((picture.high - value) / (picture.high - picture.low) * (canvas.down - 1))


def _draw_ahead(canvas: _Canvas, picture: Picture, columns: int) -> None:
    """The forecast's median, one dot for each dot of the axis."""
    if len(picture.ahead) < 2:
        return
    across = columns * (canvas.across // canvas.columns)
    for before, after in zip(picture.ahead, picture.ahead[1:], strict=False):
        left, right = (a.gpu_hours / picture.last * (across - 1) for a in (before, after))
        for column in range(round(left), round(right) + 1):
            share = (column - left) / (right - left) if right > left else 0.0
            value = before.median + min(1.0, max(0.0, share)) * (after.median - before.median)
            canvas.dot(column, _down(canvas, picture, value), "*")


def _draw_ceiling(canvas: _Canvas, picture: Picture, left: int) -> None:
    """The ceiling's 80 % interval as an upright bar beside the plot, its median as a bar across."""
    assert picture.ceiling is not None

    def y(value: float) -> int:
        return _down(canvas, picture, min(picture.high, max(picture.low, value)))

    middle = left + (1 if canvas.ascii_only else 2)
    for row in range(y(picture.ceiling.high80), y(picture.ceiling.low80) + 1):
        canvas.dot(middle, row, "|")
    if picture.low <= picture.ceiling.median <= picture.high:
        for column in (middle,) if canvas.ascii_only else range(left, left + 5):
            canvas.dot(column, y(picture.ceiling.median), "A")


def _hour_labels(picture: Picture, columns: int) -> str:
    """Hours under the axis: the decision, the edges and the budget, as far as they do not collide."""
    written = [" "] * (columns + _GAP + _CEILING)
    for gpu_hours, text in _places(picture):
        centre = round(gpu_hours / picture.last * (columns - 1))
        start = max(0, min(centre - len(text) // 2, len(written) - len(text)))
        around = written[max(0, start - 2) : start + len(text) + 2]
        if all(sign == " " for sign in around):
            written[start : start + len(text)] = list(text)
    return "".join(written).rstrip()


def _places(picture: Picture) -> Iterator[tuple[float, str]]:
    yield picture.gpu_hours, hours(picture.gpu_hours)
    yield picture.last, hours(picture.last)
    yield 0.0, "0 GPU-hours"
    yield picture.budget, hours(picture.budget)
