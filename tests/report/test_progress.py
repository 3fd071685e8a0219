"""Progress: what changed and nothing else, in lines; everything, in a table."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from scalerl_lab.records import (
    Action,
    Cause,
    Decision,
    Evidence,
    ProgressRow,
    ProgressView,
    Role,
    RunStatus,
)
from scalerl_lab.report.progress import ProgressConsole, plain_lines, renderable
from tests.report.handmade import around
from tests.report.simulate import Sim

NOTHING = Evidence(None, None, None, None, None, None)
START = ProgressRow(
    run_id="d0",
    arm="dapo_loss",
    seed=0,
    role=Role.ARM,
    status=RunStatus.PLANNED,
    gpu_hours=0.0,
    granted_gpu_hours=16000.0,
    pass_rate=None,
    ceiling=None,
    identified=False,
    last_decision=None,
)
VIEW = ProgressView("loo-1", "loo", "laptop", (START,), 0.0, 96000.0, 65.0, None)


def decision(action: Action, cause: Cause, at: float) -> Decision:
    return Decision("d0", 100, at, action, cause, "The reason, with its numbers.", 16000.0, NOTHING)


def after(row: ProgressRow, used: float = 0.0) -> ProgressView:
    return replace(VIEW, rows=(row,), used_gpu_hours=used)


RUNNING = replace(START, status=RunStatus.RUNNING)
POINT = replace(
    RUNNING,
    gpu_hours=4210.0,
    pass_rate=0.4312,
    ceiling=around(0.5, 0.03),
    last_decision=decision(Action.CONTINUE, Cause.NOT_IDENTIFIED, 4200.0),
)
KILLED = replace(
    POINT, status=RunStatus.KILLED, last_decision=decision(Action.KILL, Cause.CEILING_BELOW, 5000.0)
)


def test_nothing_happened_nothing_is_said() -> None:
    assert plain_lines(None, VIEW) == []
    assert plain_lines(VIEW, replace(VIEW, wall_s=70.0, wall_left_s=9.0)) == []
    beat = replace(POINT, gpu_hours=4300.0)
    assert plain_lines(after(POINT), after(beat)) == []


def test_each_event_is_a_line() -> None:
    assert plain_lines(VIEW, after(RUNNING)) == ["[1:05] dapo_loss:0: running at 0 GPU-hours"]
    assert plain_lines(after(RUNNING), after(POINT)) == [
        "[1:05] dapo_loss:0: 4,200 of 16,000 GPU-hours, pass rate 0.431, ceiling 0.500 [.470, .530], "
        "continue: not identified"
    ]
    assert plain_lines(after(POINT), after(KILLED)) == [
        "[1:05] dapo_loss:0: 5,000 of 16,000 GPU-hours, pass rate 0.431, ceiling 0.500 [.470, .530], "
        "kill: ceiling below",
        "[1:05] dapo_loss:0: killed at 4,210 GPU-hours",
    ]


def test_totals_are_said_at_each_further_tenth() -> None:
    (line,) = plain_lines(after(RUNNING, 9599.0), after(RUNNING, 9600.0))
    assert line == (
        "[1:05] 9,600 of 96,000 GPU-hours (10 %), 1 running, 0 of 1 runs over, 1:05 gone, "
        "time left not known yet"
    )
    assert plain_lines(after(RUNNING, 9600.0), after(RUNNING, 12000.0)) == []


def test_a_driver_that_goes_on_says_where_it_stands() -> None:
    assert len(plain_lines(None, after(KILLED, 50000.0))) == 3


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_table_fits_its_terminal_and_shows_each_run(width: int) -> None:
    rows = tuple(replace(KILLED, run_id=str(k), seed=k) for k in range(11))
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(renderable(replace(VIEW, rows=rows), width))
    lines = out.getvalue().splitlines()
    shown = [line for line in lines if "dapo_loss:" in line]
    assert max(map(len, lines)) <= width
    assert len(shown) == 11
    assert all("4,210/16,000" in line and "0.431" in line and "…" not in line for line in shown)
    assert all(("0.500 [.470, .530]" in line) is (width >= 84) for line in shown)
    assert all(("ceiling below" in line) is (width >= 100) for line in shown)


def test_without_a_terminal_there_are_only_plain_lines(sim: Sim) -> None:
    out = io.StringIO()
    with ProgressConsole(out) as console:
        console.started(sim.plan, ["Ray sees no GPU here."])
        console.update(VIEW)
        console.update(after(POINT))
        console.said("dapo_loss:0: killed: the reason")
    lines = out.getvalue().splitlines()
    assert "\x1b" not in out.getvalue()
    assert lines[0] == "Ray sees no GPU here."
    assert "1 lab GPU-hour = 1.4e8" in lines[2]
    assert lines[-1] == "dapo_loss:0: killed: the reason"
    assert len(lines) == 4 + 2 + 1


def test_in_a_terminal_the_table_is_redrawn_and_the_cursor_given_back() -> None:
    out = io.StringIO()
    with ProgressConsole(out, force_terminal=True) as console:
        console.update(VIEW)
        console.said("a sentence")
        console.update(after(POINT))
    written = out.getvalue()
    assert "a sentence" in written
    assert "0.431" in written
    assert "4,210/16,000" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


def test_an_update_is_cheap() -> None:
    rows = tuple(replace(POINT, run_id=str(k), seed=k) for k in range(40))
    views = [replace(VIEW, rows=rows, wall_s=float(k)) for k in range(50)]
    with ProgressConsole(io.StringIO()) as console:
        began = time.process_time()
        for view in views:
            console.update(view)
        assert (time.process_time() - began) / len(views) < 0.02
