"""The table as text: golden, within 100 columns, plain in a pipe."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from scalerl_lab.report.ceilings import Ceilings
from scalerl_lab.report.terminal import ceilings_table, meter_line
from tests.golden.check import check
from tests.report.handmade import FOUND


def text(found: Ceilings, *, terminal: bool = False) -> str:
    out = io.StringIO()
    color = "truecolor" if terminal else None
    Console(file=out, width=100, highlight=False, force_terminal=terminal, color_system=color).print(
        ceilings_table(found)
    )
    return out.getvalue()


def test_golden_table() -> None:
    lines = [line.rstrip() for line in text(FOUND).splitlines()]
    check("ceilings.txt", "\n".join(lines) + "\n", "tests/report/test_terminal.py")


def test_nothing_is_cut_at_100_columns_but_long_names(found: Ceilings) -> None:
    written = text(found)
    assert max(len(line) for line in written.splitlines()) <= 100
    assert "…" not in written
    assert "uniform_sampling_wi…" in text(FOUND)
    assert text(FOUND).count("…") == 4


def test_a_pipe_gets_no_colours_and_a_terminal_does(found: Ceilings) -> None:
    assert "\x1b" not in text(found)
    assert "\x1b[" in text(found, terminal=True)


def test_the_profile_is_always_said() -> None:
    assert meter_line(FOUND) == (
        "Profile laptop: 1 lab GPU-hour = 4.4e7 counted floating-point operations, not an hour of a GPU."
    )
    assert text(FOUND).splitlines()[1].startswith("Profile laptop: 1 lab GPU-hour = 4.4e7")


def test_a_wall_meter_is_said_too() -> None:
    found = replace(FOUND, profile_name="cluster", meter="wall", flops_per_gpu_hour=None)
    assert meter_line(found) == "Profile cluster: GPU-hours are hours held times devices."
