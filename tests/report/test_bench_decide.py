"""The scoreboard of rules: judgements of one replay, rows over several, and rules at equal cost, by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scalerl_lab.cli.rules import contender_of
from scalerl_lab.config.sweep import Rule
from scalerl_lab.decide.analysis import _swept
from scalerl_lab.decide.policies import NoStop, TopK
from scalerl_lab.decide.recorded import Recorded
from scalerl_lab.decide.replay import Move
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.drawn import DrawnKind
from scalerl_lab.fit.simulate import SweepKind
from scalerl_lab.report.bench.decision_cases import Case, SimulatedTask, folder_cases, real_case
from scalerl_lab.report.bench.decision_rows import (
    at_equal_cost,
    cost_at,
    decision_rows,
    frontier,
    level_at,
    mean_over,
    share_over,
)
from scalerl_lab.report.bench.decision_tables import decision_tables, decisions_json, write_decision_plot
from scalerl_lab.report.bench.decisions import Contender, Terms, judge, measure_decisions
from scalerl_lab.report.bench.folder import RealCurve
from tests.decide.recorded import Scripted, at, level, sweep_of

QUICK = Terms(differences=False)


def test_every_setting_makes_its_own_fits() -> None:
    """Else those that come after the first would be timed without them; the findings are the same."""
    task = SimulatedTask(DrawnKind.WORSE_ARMS, 0, 0, 4000.0, Rule()).case()
    again = contender_of("forecast:kill_probability=0.95", every=0.25)
    made, found = [], []
    for _ in range(2):
        found.append(judge(task, again, QUICK, None))
        made.append(_swept.cache_info().misses)
    assert made[0] == made[1] > 0
    assert replace(found[0], seconds=0.0, slowest_s=0.0) == replace(found[1], seconds=0.0, slowest_s=0.0)


def kill_b_and_d(recorded: Recorded) -> Scripted:
    return Scripted(at({("b", 2.0): Move.KILL, ("d", 1.0): Move.KILL, ("e", 3.0): Move.KILL}))


def case() -> Case:
    """a is the control, b and c lie within 0.02 of it, d 0.1 below, e collapses after 2 GPU-hours."""
    values = {"a": 0.5, "b": 0.49, "c": 0.51, "d": 0.4, "e": 0.5}
    recorded = sweep_of(level(*values.values()))
    return Case("by_hand", "one", recorded, values, values, against_best=False, collapse_gpu_hours={"e": 2.0})


def test_one_replay_against_the_truth() -> None:
    found = judge(case(), Contender("scripted", "", kill_b_and_d), QUICK, None)
    assert found.spent == (4.0 + 2.0 + 4.0 + 1.0 + 3.0) / 20.0
    assert (found.tied, found.tied_killed) == (2, 1)
    assert (found.worse, found.worse_killed, found.killed_at) == (1, 1, (0.25,))
    assert found.missed_gpu_hours == 0.0
    assert (found.collapsed, found.collapses_stopped_after) == (1, (0.25,))
    assert (found.chosen, found.regret) == ("c", 0.0)
    none = judge(case(), Contender("none", "", NoStop), QUICK, None)
    assert (none.spent, none.tied_killed, none.worse_killed, none.missed_gpu_hours) == (1.0, 0, 0, 4.0)
    assert none.collapses_stopped_after == ()


def test_against_the_best_the_control_is_an_arm_like_others() -> None:
    beside = replace(case(), against_best=True, collapse_gpu_hours={})
    found = judge(beside, Contender("top_k", "", TopK), QUICK, None)
    # c is the best and stays; a, b and e lie within 0.02 of it.
    assert (found.tied, found.tied_killed, found.worse, found.worse_killed) == (4, 3, 1, 1)
    assert found.chosen == "c"


def test_a_cap_is_a_share_of_all_budgets_and_no_kill() -> None:
    found = judge(case(), Contender("none", "", kill_b_and_d), QUICK, 0.25)
    assert found.spent == 0.25
    assert found.tied_killed == 0


def test_rows_are_means_over_sweeps() -> None:
    tasks = [case(), replace(case(), name="two")]
    contenders = [Contender("scripted", "", kill_b_and_d), Contender("none", "", NoStop)]
    found = measure_decisions(tasks, contenders, QUICK)
    scripted, none = decision_rows(found)
    assert (scripted.sweeps, scripted.tied, scripted.tied_killed) == (2, 4, 2)
    assert scripted.false_kills is not None
    assert (scripted.false_kills.value, scripted.false_kills.se) == (0.5, 0.0)
    assert (scripted.stopped_within_tenth, scripted.stopped_after) == (0, 0.25)
    assert (none.spent.value, none.missed_gpu_hours) == (1.0, 4.0)
    assert none.false_kills is not None
    # None of four: as if one of six had been.
    assert none.false_kills.se == pytest.approx(math.sqrt(1 / 6 * 5 / 6 / 6))


def test_reported_differences_are_held_against_those_of_full_runs() -> None:
    full = replace(
        judge(case(), Contender("none", "", NoStop), QUICK, None),
        reported={"b": -0.015, "c": 0.0},
        verdicts={"b": 0, "c": 0},
    )
    own = replace(
        full,
        contender="forecast",
        family="forecast",
        reported={"b": -0.021, "c": 0.012, "other": 1.0},
        verdicts={"b": -1, "c": 0, "other": 1},
    )
    none, ours = decision_rows([full, own])
    assert none.moved is None
    assert ours.moved is not None
    assert (ours.moved.differences, ours.moved.within_half_margin, ours.moved.verdicts_changed) == (2, 0.5, 1)
    assert ours.moved.rms == pytest.approx(math.sqrt((0.006**2 + 0.012**2) / 2))
    assert ours.moved.largest == pytest.approx(0.012)
    assert decision_rows([own])[0].moved is None
    capped = replace(full, budget_share=0.5)
    assert decision_rows([capped, own])[1].moved is None


def test_standard_errors() -> None:
    assert mean_over([1.0, 3.0]).se == pytest.approx(1.0)
    assert mean_over([1.0]).se is None
    found = share_over([(1, 2), (0, 2)])
    # Ratio 1/4; deviations 0.5 and -0.5, their squares times 2 / 1, the root over four trials.
    assert found is not None
    assert (found.value, found.se) == (0.25, pytest.approx(0.25))
    assert share_over([(0, 0)]) is None


def test_the_frontier_is_the_lower_hull() -> None:
    points = [(0.2, 0.10), (0.4, 0.08), (0.6, 0.02), (0.5, 0.09), (1.0, 0.02)]
    hull = frontier(points)
    # (0.4, 0.08) lies above the line from (0.2, 0.10) to (0.6, 0.02), which is 0.06 there.
    assert hull == [(0.2, 0.10), (0.6, 0.02)]
    assert level_at(hull, 0.1) is None
    assert level_at(hull, 0.4) == pytest.approx(0.06)
    assert level_at(hull, 0.9) == 0.02
    assert cost_at(hull, 0.01) is None
    assert cost_at(hull, 0.06) == pytest.approx(0.4)
    assert cost_at(hull, 0.2) == 0.2


def test_rules_at_equal_cost() -> None:
    rows = decision_rows(
        measure_decisions(
            [case()],
            [
                Contender("forecast", "", kill_b_and_d),
                Contender("none", "", NoStop),
                Contender("top_k", "k=1", TopK),
            ],
            QUICK,
        )
    )
    found = {(one.family, one.measure): one for one in at_equal_cost(rows)}
    # At 14 of 20 hours; top_k spends 4 + 4 = 8 hours and kills both tied arms but c.
    assert found["none", "false_kills"].at_equal_spent is None
    assert found["none", "false_kills"].spent_at_equal == 1.0
    top = found["top_k", "false_kills"]
    assert (top.own, top.own_spent, top.at_equal_spent) == (0.5, 0.7, 0.5)
    assert top.spent_at_equal == 0.4


def test_documents_tables_and_pictures(tmp_path: Path) -> None:
    contenders = [Contender("forecast", "x=1", kill_b_and_d), Contender("none", "", NoStop)]
    rows = decision_rows(measure_decisions([case()], contenders, QUICK))
    equal = at_equal_cost(rows)
    document = json.loads(json.dumps(decisions_json(rows, equal, seed=0), allow_nan=False))
    assert document["rows"][0]["spent"] == {"value": 0.7, "se": None}
    from rich.console import Console

    console = Console(width=120, record=True)
    console.print(decision_tables(rows, equal))
    text = console.export_text()
    assert "by_hand: 1 sweep, 2 arms tied, 1 worse" in text
    assert "forecast:x=1" in text
    write_decision_plot(tmp_path / "plot.png", rows)
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


# ---------------------------------------------------------------- cases


@pytest.mark.parametrize("kind", [*SweepKind, *DrawnKind])
def test_a_simulated_case_is_the_same_every_time(kind: SweepKind | DrawnKind) -> None:
    task = SimulatedTask(kind, 0, 1, 8000.0, Rule())
    first, again = task.case(), task.case()
    assert first.recorded == again.recorded
    assert set(first.truth) == {run.planned.arm for run in first.recorded.runs}
    assert first.recorded.runs[0].planned.arm == first.recorded.control
    # Extensions may go to 1.25 times the budget: the record serves them.
    assert all(run.points[-1].gpu_hours > 10_000.0 - 1400.0 for run in first.recorded.runs)


def test_worse_arms_are_told_apart_from_tied_ones() -> None:
    for number in range(5):
        found = SimulatedTask(DrawnKind.WORSE_ARMS, 0, number, 16_000.0, Rule()).case()
        for arm in found.truth:
            assert found.is_tied(arm) == (not arm.startswith("worse")), arm
        assert set(found.collapse_gpu_hours) == {"collapsing:0"}


def test_real_curves_by_their_last_points() -> None:
    curves = [Curve.of("x", [1, 2, 3, 4], [0.1, 0.2, 0.4, 0.6]), Curve.of("y", [1, 2, 3], [0.3, 0.5, 0.7])]
    found = real_case("source", "task", curves, Rule())
    assert found.recorded.sweep.budget.run_gpu_hours == 3.0
    assert found.truth == {"x": pytest.approx(0.7 / 3), "y": pytest.approx(0.5)}
    assert found.against_best
    assert [run.points[-1].gpu_hours for run in found.recorded.runs] == [3.0, 3.0]


def test_a_folder_is_parted_by_source_and_task(tmp_path: Path) -> None:
    names = [f"r{number}" for number in range(9)]
    rows = [f"g,{name},{'short' if name == 'r8' else 'task'}" for name in names]
    (tmp_path / "index.csv").write_text("group,run_id,task\n" + "\n".join(rows) + "\n")
    curves = [
        RealCurve("g", "s", Curve.of(name, np.arange(1, 11), np.full(10, 0.5), bounds=(0.0, 1.0)), 1.0)
        for name in names
    ]
    (found,) = folder_cases(tmp_path, curves, Rule())
    assert (found.kind, found.name, len(found.recorded.runs)) == ("s", "task", 8)
    assert folder_cases(tmp_path, curves[:7], Rule()) == []
