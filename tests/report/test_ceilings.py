"""The table of arms finds what was put into the curves, and its compute adds up."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest

from scalerl_lab.fit import pass_rate, refit_at_ceiling
from scalerl_lab.records import Action, Cause, LedgerEntry, LedgerKind, Role, RunState, RunStatus
from scalerl_lab.report.ceilings import ArmRow, Ceilings, ceilings
from scalerl_lab.report.terminal import footnotes
from scalerl_lab.report.verdict import Verdict
from scalerl_lab.report.view import SweepView, assemble
from tests.report.simulate import DEFAULT, EVERY, R0, Sim, Truth, points


def row(found: Ceilings, arm: str) -> ArmRow:
    return next(r for r in found.arms if r.arm == arm)


def test_verdicts_are_those_of_the_truth(found: Ceilings) -> None:
    assert {r.arm: r.verdict for r in found.arms} == {
        "control": Verdict.CONTROL,
        "ppo_off_policy_8": Verdict.SLOWER,
        "dapo_loss": Verdict.LOWERS,
        "bf16_head": Verdict.LOWERS,
        "sample_average": Verdict.NO_DIFFERENCE,
        "group_advantage": Verdict.FASTER,
        "keep_zero_variance": Verdict.RAISES,
        "uniform_sampling": Verdict.NOT_IDENTIFIED,
        "length_penalty": Verdict.DIVERGED,
    }


@pytest.mark.parametrize(
    "arm", ["control", "sample_average", "group_advantage", "keep_zero_variance", "bf16_head"]
)
def test_intervals_hold_the_truth(found: Ceilings, arm: str) -> None:
    truth, line = DEFAULT[arm], row(found, arm)
    assert line.ceiling is not None
    assert line.ceiling.low95 <= truth.A <= line.ceiling.high95
    if arm != "control":
        assert line.difference is not None
        assert line.difference.low95 <= truth.A - DEFAULT["control"].A <= line.difference.high95


def test_probabilities_are_of_the_margin_not_of_zero(found: Ceilings) -> None:
    line = row(found, "sample_average")
    assert line.difference is not None
    assert line.probability_below is not None
    assert line.probability_above is not None
    assert line.difference.median < 0.0
    assert line.probability_below < 0.5
    assert line.probability_below + line.probability_above < 1.0


def test_the_pooled_ceiling_is_the_mean_of_arms_within_the_margin(found: Ceilings) -> None:
    control = row(found, "control").ceiling
    assert control is not None
    near = [
        r.ceiling.median
        for r in found.arms
        if r.identified and r.ceiling is not None and abs(r.ceiling.median - control.median) <= 0.02
    ]
    assert len(near) == 4
    assert found.pooled_ceiling == pytest.approx(sum(near) / len(near))


def test_efficiency_is_refitted_at_the_pooled_ceiling_or_flagged(seen: SweepView, found: Ceilings) -> None:
    line = row(found, "group_advantage")
    (run,) = seen.of_arm("group_advantage")
    assert found.pooled_ceiling is not None
    refit = refit_at_ceiling(run.points, found.pooled_ceiling, fit_start_gpu_hours=1500.0)
    assert refit is not None
    assert not line.own_ceiling
    assert line.efficiency_ceiling == found.pooled_ceiling
    assert line.efficiency is not None
    assert line.efficiency.median == pytest.approx(refit.efficiency.median)
    assert line.efficiency.low95 < DEFAULT["group_advantage"].B < line.efficiency.high95
    raised = row(found, "keep_zero_variance")
    assert raised.own_ceiling
    assert raised.ceiling is not None
    assert raised.efficiency_ceiling == raised.ceiling.median


def test_the_common_level_is_reached_by_every_arm_that_sets_it(found: Ceilings) -> None:
    level = found.common_level
    assert level is not None
    assert level == pytest.approx(round(level, 3))
    for arm in ("control", "ppo_off_policy_8", "sample_average", "group_advantage", "keep_zero_variance"):
        truth, reached = DEFAULT[arm], row(found, arm).to_level
        # The law solved for the compute: C_mid ((A - R0) / (L - R0) - 1)^(-1/B).
        by_hand = truth.C_mid * ((truth.A - R0) / (level - R0) - 1.0) ** (-1.0 / truth.B)
        assert float(pass_rate(by_hand, R0, truth.A, truth.B, truth.C_mid)) == pytest.approx(level)
        assert reached is not None
        assert reached.median == pytest.approx(by_hand, rel=0.15)
        assert reached.median < 16000.0
    lowered = row(found, "dapo_loss").to_level
    assert lowered is not None
    assert lowered.median is None


def test_pass_rate_at_the_budget_is_measured_or_said_to_be_a_forecast(
    seen: SweepView, found: Ceilings
) -> None:
    line = row(found, "group_advantage")
    measured = next(p for p in seen.of_arm("group_advantage")[0].points if p.gpu_hours == 16000.0)
    assert line.at_budget is not None
    assert line.at_budget.measured
    assert line.at_budget.value == measured.pass_rate
    # Three seeds, each measured to 0.008: what they scatter beyond that goes for every arm.
    control = row(found, "control").at_budget
    finals = [p.pass_rate for run in seen.control for p in run.points if p.gpu_hours == 16000.0]
    assert control is not None
    assert control.value == pytest.approx(sum(finals) / 3.0)
    beyond = max(0.0, statistics.variance(finals) - 0.008**2)
    noise80, seeds80 = 1.2815515655 * 0.008, 1.8856180832 * math.sqrt(beyond)
    assert control.high80 - control.value == pytest.approx(math.hypot(noise80, seeds80) / math.sqrt(3.0))
    assert line.at_budget.high80 - line.at_budget.value == pytest.approx(math.hypot(noise80, seeds80))
    killed = row(found, "dapo_loss").at_budget
    assert killed is not None
    assert not killed.measured
    assert killed.low80 <= 0.49 <= killed.high80


def test_the_spread_of_seeds_widens_the_pass_rate_at_the_budget(sim: Sim) -> None:
    """The control's seeds are moved to 0.70, 0.75 and 0.80: sd 0.05, of which 0.008 is the evaluation's."""
    aims = iter((0.70, 0.75, 0.80))

    def moved(state: RunState) -> RunState:
        if state.planned.arm != "control":
            return state
        *before, last = state.points
        return replace(state, points=(*before, replace(last, pass_rate=next(aims))))

    def of(states: list[RunState]) -> Ceilings:
        return ceilings(Sim(sim.plan, states, sim.decisions, sim.ledger).view())

    spread = of([moved(state) for state in sim.states])
    assert spread.between_seeds is not None
    sd = math.sqrt(0.05**2 - 0.008**2)
    assert spread.between_seeds.sd == pytest.approx(sd)
    arm = row(spread, "group_advantage").at_budget
    assert arm is not None
    assert arm.high80 - arm.value == pytest.approx(math.hypot(1.2815515655 * 0.008, 1.8856180832 * sd))
    assert any("whose sd is 0.0494 by 3 seeds of 1 arm." in line for line in footnotes(spread))
    # Where no arm has two seeds at the budget, the label says that it is the evaluation's noise.
    others = [s.planned.run_id for s in sim.states if s.planned.arm == "control"][1:]
    alone = of([replace(s, points=s.points[:20]) if s.planned.run_id in others else s for s in sim.states])
    assert alone.between_seeds is None
    assert any("evaluation noise only, as no arm has two seeds" in line for line in footnotes(alone))


def test_a_diverged_arm_has_no_ceiling(found: Ceilings) -> None:
    line = row(found, "length_penalty")
    assert (line.ceiling, line.difference, line.at_budget, line.to_level) == (None, None, None, None)
    assert line.detail == "Pass rate collapsed at 5,600 GPU-hours."


def test_compute_adds_up(found: Ceilings) -> None:
    t = found.totals
    assert t.full_budget == 11 * 16000.0
    assert t.saved == (16000.0 - 7200.0) + (16000.0 - 8800.0) + (16000.0 - 5600.0)
    assert t.extended == 2400.0
    assert t.used == t.full_budget - t.saved + t.extended
    assert t.billed == pytest.approx(1.21 * t.used)
    assert (t.lost, t.reused_runs, t.runs) == (0.0, 0, 11)
    for name in ("used_gpu_hours", "saved_gpu_hours", "extended_gpu_hours", "budget_gpu_hours"):
        total = {"used_gpu_hours": t.used, "saved_gpu_hours": t.saved, "extended_gpu_hours": t.extended}
        assert sum(getattr(r, name) for r in found.arms) == total.get(name, t.full_budget)


def test_lost_and_reused_compute(sim: Sim) -> None:
    state = next(s for s in sim.states if s.planned.arm == "sample_average")
    run_id = state.planned.run_id
    states = [replace(s, reused=True, granted_gpu_hours=16000.0) if s is state else s for s in sim.states]
    lost = LedgerEntry(1, 0.0, LedgerKind.LOST, 123.0, 1.0, 0, 0, 0)
    view = assemble(
        sim.plan,
        states,
        sim.decisions,
        {**sim.ledger, run_id: [*sim.ledger[run_id], lost]},
        sim.view().budget,
    )
    t = ceilings(view).totals
    # Of a reused run no more counts than this sweep grants.
    assert (t.lost, t.reused_runs, t.extended) == (123.0, 1, 0.0)
    assert t.used == 8 * 16000.0 + 7200.0 + 8800.0 + 5600.0


def test_the_same_points_give_the_same_table(sim: Sim, found: Ceilings) -> None:
    assert ceilings(sim.view()) == found


def test_the_order_of_points_and_decisions_changes_nothing(sim: Sim, found: Ceilings) -> None:
    shuffled = [replace(s, points=s.points) for s in reversed(sim.states)]
    view = assemble(sim.plan, shuffled, list(reversed(sim.decisions)), sim.ledger, sim.view().budget)
    assert ceilings(view) == found


def _with(sim: Sim, **states: object) -> Sim:
    changed = [
        replace(s, **states) if s.planned.arm == "sample_average" else s  # type: ignore[arg-type]
        for s in sim.states
    ]
    return Sim(sim.plan, changed, sim.decisions, sim.ledger)


def test_a_failed_arm(sim: Sim) -> None:
    line = row(ceilings(_with(sim, status=RunStatus.FAILED, points=()).view()), "sample_average")
    assert line.verdict is Verdict.FAILED
    assert (line.ceiling, line.efficiency, line.midpoint) == (None, None, None)


def test_an_arm_whose_run_is_the_control_s_has_no_effect(sim: Sim) -> None:
    of_control = next(state for state in sim.states if state.planned.role is Role.CONTROL)
    found = ceilings(_with(sim, points=of_control.points).view())
    assert row(found, "sample_average").verdict is Verdict.NO_EFFECT
    assert "Every point equals the control's" in row(found, "sample_average").detail
    # One point apart, and it is an arm as any other; so is one that has only its start in common.
    *same, last = of_control.points
    apart = (*same, replace(last, pass_rate=last.pass_rate + 0.001))
    assert row(ceilings(_with(sim, points=apart).view()), "sample_average").verdict is Verdict.NO_DIFFERENCE
    # What differs in anything but the clock is another run, and so may one be that is ahead of the control.
    tokens = tuple(replace(point, mean_tokens=point.mean_tokens + 1.0) for point in of_control.points)
    slower = tuple(replace(p, at=p.at + 9.0, gpu_hours=1.1 * p.gpu_hours) for p in of_control.points)
    assert row(ceilings(_with(sim, points=tokens).view()), "sample_average").verdict is Verdict.NO_DIFFERENCE
    assert row(ceilings(_with(sim, points=slower).view()), "sample_average").verdict is Verdict.NO_EFFECT
    behind = [
        replace(s, points=s.points[:9]) if s.planned.role is Role.CONTROL else s
        for s in _with(sim, points=of_control.points).states
    ]
    ahead = Sim(sim.plan, behind, sim.decisions, sim.ledger)
    assert row(ceilings(ahead.view()), "sample_average").verdict is not Verdict.NO_EFFECT
    began = ceilings(_with(sim, points=of_control.points[:1]).view())
    assert row(began, "sample_average").verdict is Verdict.NOT_IDENTIFIED


def test_an_arm_that_has_not_started(sim: Sim) -> None:
    line = row(ceilings(_with(sim, status=RunStatus.PLANNED, points=()).view()), "sample_average")
    assert line.verdict is Verdict.NOT_IDENTIFIED
    assert line.status == "planned"
    assert line.at_budget is None


def test_nothing_is_judged_on_a_control_that_is_not_identified(sim: Sim) -> None:
    short = [replace(s, points=s.points[:6]) if s.planned.arm == "control" else s for s in sim.states]
    found = ceilings(Sim(sim.plan, short, sim.decisions, sim.ledger).view())
    judged = {r.verdict for r in found.arms} - {Verdict.CONTROL, Verdict.DIVERGED}
    assert judged == {Verdict.NOT_IDENTIFIED}
    assert "no arm can be judged" in row(found, "control").detail


def test_an_empty_sweep_has_a_table(sim: Sim) -> None:
    states = [RunState(run, RunStatus.PLANNED, 16000.0, (), 0, 0, None, False) for run in sim.plan.runs]
    found = ceilings(Sim(sim.plan, states).view())
    assert {r.verdict for r in found.arms} == {Verdict.CONTROL, Verdict.NOT_IDENTIFIED}
    assert (found.pooled_ceiling, found.common_level, found.totals.used) == (None, None, 0.0)


def test_seeds_of_an_arm_are_pooled_and_a_diverged_one_is_left_out(sim: Sim) -> None:
    """The control's third seed collapses: its curve must not pull the control's ceiling down."""
    third = [s for s in sim.states if s.planned.arm == "control"][2]
    last = next(d for d in reversed(sim.decisions) if d.decision.run_id == third.planned.run_id)
    collapsed = points(Truth(until=5600.0, collapse_at=2400.0), 7)
    states = [replace(s, status=RunStatus.KILLED, points=collapsed) if s is third else s for s in sim.states]
    kill = replace(last.decision, action=Action.KILL, cause=Cause.COLLAPSED, gpu_hours=5600.0)
    decisions = [*sim.decisions, replace(last, decision_id=10_000, decision=kill)]
    view = Sim(sim.plan, states, decisions, sim.ledger).view()
    line = row(ceilings(view), "control")
    # The same two seeds without the third, which is as if it had never begun.
    without = [replace(s, points=()) if s is third else s for s in sim.states]
    alone = row(ceilings(Sim(sim.plan, without, sim.decisions, sim.ledger).view()), "control")
    assert line.ceiling == alone.ceiling
    assert line.status == "2 finished, 1 killed"
    assert line.detail.startswith("1 of 3 seeds diverged (pass rate collapsed at 5,600 GPU-hours).")


def test_points_lie_where_the_simulation_says() -> None:
    curve = points(Truth(until=1600.0), 1)
    assert [p.gpu_hours for p in curve] == [0.0, EVERY, 2 * EVERY]
