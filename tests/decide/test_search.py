"""What a search knows of its arms, and when the next proposal is due."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scalerl_lab.config.sweep import Knob, Search
from scalerl_lab.decide import ledger_of
from scalerl_lab.decide.search import is_due, kept_back, num_open, outcomes
from scalerl_lab.records import Action, Cause, Proposal, Role, RunState, RunStatus
from tests.decide import states as s

QUESTION = Search(over={"loss.ratio_cap": Knob(low=2, high=10)}, arms=4, at_a_time=2)


def proposal(number: int, arm: str | None = None) -> Proposal:
    name = f"s{number:03d}" if arm is None else arm
    return Proposal("sweep", number, name, {"loss.ratio_cap": 3.0 + number}, "tpe", 0, "", 0.0)


def run(arm: str, status: RunStatus = RunStatus.RUNNING, used: float = 0.0) -> RunState:
    points = s.curve_points(used) if used else ()
    role = Role.CONTROL if arm == "control" else Role.ARM
    return replace(s.run_state(points, arm=arm, role=role), status=status)


def due(
    proposals: list[Proposal], runs: list[RunState], cap: float = 64000.0, *, cancelled: bool = False
) -> bool:
    ledger = ledger_of(cap, runs)
    return is_due(QUESTION, proposals, runs, ledger, cancelled=cancelled, proposal_gpu_hours=s.BUDGET)


def test_a_proposal_is_due_while_few_are_open_some_are_left_and_hours_are_there() -> None:
    control, first, second = run("control"), run("s000"), run("s001", RunStatus.PLANNED)
    made = [proposal(0), proposal(1)]
    assert due([], [control])
    assert due(made[:1], [control, first])
    assert not due(made, [control, first, second])
    over = replace(first, status=RunStatus.KILLED)
    assert num_open(made, [control, over, second]) == 1
    assert due(made, [control, over, second])
    assert not due(made, [control, over, second], cancelled=True)
    assert not due([proposal(n, "s000") for n in range(4)], [control, over])


def test_hours_of_runs_that_wait_are_not_there_for_new_ones() -> None:
    control, waiting = run("control"), run("s000", RunStatus.PLANNED)
    assert due([proposal(0)], [control, waiting], cap=48000.0)
    assert not due([proposal(0)], [control, waiting], cap=47999.0)
    killed = run("s000", RunStatus.KILLED, used=6000.0)
    assert due([proposal(0)], [control, killed], cap=38000.0)
    assert not due([proposal(0)], [control, killed], cap=37999.0)


def test_hours_are_kept_back_for_all_proposals_to_come() -> None:
    ledger = ledger_of(50000.0, [run("control")])
    assert ledger.free == 34000.0

    def kept(num: int, *, cancelled: bool = False) -> float:
        made = [proposal(number) for number in range(num)]
        return kept_back(QUESTION, made, ledger, cancelled=cancelled, proposal_gpu_hours=s.BUDGET)

    assert [kept(num) for num in range(5)] == [34000.0, 34000.0, 32000.0, 16000.0, 0.0]
    assert kept(0, cancelled=True) == 0.0


def test_outcomes_are_medians_of_what_the_rule_compares() -> None:
    """The control and three arms: one identified, one whose seed collapsed, one that is open and unknown."""
    killed = replace(run("s000", RunStatus.KILLED, used=6000.0))
    collapsed = run("s001", RunStatus.KILLED, used=6000.0)
    decided = s.decide_on(collapsed, s.fit_with(0.6), [], [], sweep=s.sweep(), free_gpu_hours=0.0)
    collapsed = replace(collapsed, last_decision=replace(decided, action=Action.KILL, cause=Cause.COLLAPSED))
    pooled = {
        "control": s.arm_of([s.fit_with(0.61)], 0),
        "s000": s.arm_of([s.fit_with(0.52)], 0),
        "s001": s.arm_of([s.fit_with(0.60)], 0),
        "s002": s.arm_of([s.fit_with(0.70, identified=False)], 0),
    }
    arms = {name: arm for name, arm in pooled.items() if arm is not None}
    open_run = run("s002", used=3000.0)
    states = [run("control", used=3000.0), killed, collapsed, open_run]
    made = [proposal(2), proposal(0), proposal(1), proposal(3, "control")]

    def values(states: list[RunState], control: dict[str, float] | None) -> dict[int, float | None]:
        found = outcomes(made, states, arms, sweep=s.sweep(), control="control", control_values=control)
        return {each.number: each.value for each in found}

    approximately = {
        -1: pytest.approx(0.61, abs=1e-3),
        0: pytest.approx(0.52, abs=1e-3),
        1: pytest.approx(0.50, abs=1e-3),
        2: None,
        3: pytest.approx(0.61, abs=1e-3),
    }
    found = values(states, {"loss.ratio_cap": 5.0})
    assert list(found) == [-1, 0, 1, 2, 3]
    assert found == approximately
    assert list(values(states, None)) == [0, 1, 2, 3]
    over = replace(open_run, status=RunStatus.FINISHED)
    assert values([*states[:3], over], None)[2] == pytest.approx(0.70, abs=1e-3)
