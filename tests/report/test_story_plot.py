"""The plot in characters: every sign where it belongs, at any width, and the whole story as it is printed."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from scalerl_lab.records import Interval
from scalerl_lab.report.story import tell
from scalerl_lab.report.story_picture import Ahead, Picture, picture
from scalerl_lab.report.story_plot import NARROWEST, ForecastPlot, legend_lines, plot_lines
from scalerl_lab.report.why import story_text
from tests.golden.check import check
from tests.report.told import BEGAN, BUDGET, RULE, looks_and_kill, run, trial

SQUARE = Picture(
    gpu_hours=50.0,
    budget=100.0,
    last=100.0,
    low=0.0,
    high=1.0,
    seen=((0.0, 0.0), (50.0, 0.5)),
    later=((100.0, 1.0),),
    ahead=(),
    ceiling=None,
    identified=False,
    reference=None,
    reference_name="control's ceiling",
)
PREFIX = 7
"""Columns of the scale and its axis."""


def plotted(found: Picture, columns: int, rows: int, *, ascii_only: bool) -> list[str]:
    """The cells of the plot alone, as wide as its axis, with what stands beside it."""
    lines = plot_lines(found, columns + PREFIX + 4, ascii_only=ascii_only, rows=rows)
    return [line[PREFIX:].ljust(columns + 4) for line in lines[:rows]]


def test_points_lie_in_their_cells() -> None:
    # 21 columns for 0 to 100: 5 each. 5 rows for 1 to 0: a quarter each.
    cells = plotted(SQUARE, 21, 5, ascii_only=True)
    assert [cells[4][0], cells[2][10], cells[0][20]] == ["o", "o", "+"]
    assert [row[10] for row in cells] == ["|", "|", "o", "|", "|"]
    assert sum(sign in "o+" for row in cells for sign in row) == 3


def test_braille_dots_are_quarters_of_a_row() -> None:
    cells = plotted(replace(SQUARE, seen=((0.0, 1.0), (0.0, 0.0)), later=()), 21, 2, ascii_only=False)
    # Two dots side by side: the uppermost of the first row (bits 1 and 4), the lowest of the last (7 and 8).
    assert cells[0][0] == chr(0x2800 + 0b00001001)
    assert cells[1][0] == chr(0x2800 + 0b11000000)


def test_the_reference_is_dashed_up_to_the_ceiling() -> None:
    held = replace(SQUARE, seen=((50.0, 0.5),), later=(), reference=0.75)
    cells = plotted(held, 20, 5, ascii_only=True)
    assert cells[1] == "--  --  --| --  --  --  "
    assert not any("-" in row for number, row in enumerate(cells) if number != 1)


def test_band_and_line() -> None:
    ahead = (Ahead(50.0, 0.5, 0.3, 0.7), Ahead(100.0, 0.5, 0.3, 0.7))
    cells = plotted(replace(SQUARE, seen=(), later=(), ahead=ahead), 20, 10, ascii_only=True)
    # Ten rows: the middles at 0.65, 0.55, 0.45 and 0.35 lie within; the median is in one of them.
    across = "".join(row[15] for row in cells)
    assert across.replace("*", ".") == "   ....   "
    assert across.count("*") == 1
    assert "".join(row[5] for row in cells).strip() == ""


def test_the_ceiling_stands_beside() -> None:
    known = replace(SQUARE, ceiling=Interval(0.5, 0.25, 0.75, 0.1, 0.9), identified=True)
    cells = plotted(known, 20, 5, ascii_only=True)
    assert [row[22] for row in cells] == [" ", "|", "A", "|", " "]
    assert "A its ceiling, 80 %" in " ".join(legend_lines(known, 80))
    doubtful = legend_lines(replace(known, identified=False), 80)
    assert "A its ceiling, 80 %, not identified" in " ".join(doubtful)


@pytest.mark.parametrize("ascii_only", [True, False])
def test_any_width_is_kept(ascii_only: bool) -> None:
    found = picture(looks_and_kill()[-1].decision, run().points, BUDGET, RULE)
    assert found is not None
    for width in range(NARROWEST, 140, 7):
        lines = [
            *plot_lines(found, width, ascii_only=ascii_only),
            *legend_lines(found, max(width, 60), ascii_only=ascii_only),
        ]
        assert max(map(len, lines)) <= max(width, 60)
        assert all(line.isascii() for line in lines) or not ascii_only
        hours_line = lines[13]
        assert "8,000" in hours_line
        assert "16,000" in hours_line


def test_it_is_left_out_where_it_cannot_be_read() -> None:
    found = picture(looks_and_kill()[-1].decision, run().points, BUDGET, RULE)
    assert found is not None
    out = io.StringIO()
    Console(file=out, width=NARROWEST - 1).print(ForecastPlot(found))
    assert out.getvalue() == ""


class _Latin(io.TextIOWrapper):
    """A terminal that does not know Braille."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="latin-1")


def test_an_old_terminal_gets_plain_characters() -> None:
    found = picture(looks_and_kill()[-1].decision, run().points, BUDGET, RULE)
    assert found is not None
    file = _Latin()
    Console(file=file, width=80).print(ForecastPlot(found))
    file.seek(0)
    text = file.read()
    assert text.isascii()
    assert "***" in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_story_as_it_is_printed(width: int) -> None:
    story = tell("loo-1", RULE, run(), looks_and_kill(), [trial(1, BEGAN)])
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    for piece in story_text(story):
        console.print(piece)
    text = "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
    assert max(map(len, text.splitlines())) <= width
    check(f"story.{width}.txt", text, "tests/report/test_story_plot.py")
