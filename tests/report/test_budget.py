"""What is said of a ledger: overshoot is no shortage, and a shortage is told with its hours."""

from __future__ import annotations

import io

from rich.console import Console

from scalerl_lab.decide import ledger_of
from scalerl_lab.records import RunState, RunStatus
from scalerl_lab.report.budget import budget_line, budget_table
from tests.decide.test_ledger import state


def said(cap: float, *states: RunState) -> str:
    out = io.StringIO()
    Console(file=out, width=100).print(budget_table(ledger_of(cap, states), "sweep"))
    return " ".join(out.getvalue().split())


def test_a_finished_sweep_overshoots_and_nothing_is_amiss() -> None:
    """Two runs of 100 each end at 100.5 and 103: 3.5 beyond a cap that covers both."""
    runs = [
        state("control", RunStatus.FINISHED, 100.5),
        state("arm", RunStatus.FINISHED, 103.0),
    ]
    text = said(200.0, *runs)
    assert "0 free for extensions" in text
    assert "3.50 beyond the cap: each run ends with the step that reaches its grant." in text
    assert "does not cover" not in text
    assert "−" not in text
    assert "-3" not in text
    assert " 0 free," in budget_line(ledger_of(200.0, runs))


def test_overshoot_under_the_cap_is_not_told() -> None:
    text = said(250.0, state("control", RunStatus.FINISHED, 100.5), state("arm", RunStatus.FINISHED, 103.0))
    # 250 less 203.5.
    assert "46.5 free for extensions" in text
    assert "beyond the cap" not in text


def test_a_cap_that_does_not_cover_every_run_is_said_to() -> None:
    """One run has used its 100, two wait for 100 each, and the cap has 150 left for them."""
    runs = [
        state("control", RunStatus.FINISHED, 100.0),
        state("arm", RunStatus.PLANNED),
        state("other", RunStatus.PLANNED),
    ]
    text = said(250.0, *runs)
    assert (
        "The cap does not cover every planned run to its budget: 200 are wanted for runs that have not "
        "started, and 150 are left for them."
    ) in text
    assert "0 free for extensions" in text
    assert "beyond the cap" not in text
    # Overshoot never keeps a planned run from its start: 100.5 of 100, and 200 left for the two others.
    over = [state("control", RunStatus.FINISHED, 100.5), *runs[1:]]
    assert "does not cover" not in said(300.0, *over)
