"""The replay's clock, slots, ledger and orders, each case worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scalerl_lab.config.sweep import Arm, Budget, LeaveOneOut, Rule, Sweep
from scalerl_lab.decide import analyse
from scalerl_lab.decide.analysis import _swept
from scalerl_lab.decide.conclude import chosen_by_forecast, chosen_by_value, conclude
from scalerl_lab.decide.policies import Forecast, LastValue, NoStop, PaperPoint, TopK
from scalerl_lab.decide.recorded import record
from scalerl_lab.decide.replay import CAP_REACHED, Asked, Move, Order, replay
from scalerl_lab.fit import simulate
from scalerl_lab.fit.curve import Curve
from scalerl_lab.records import Role, RunStatus
from tests.decide.recorded import Scripted, at, level, order, sweep_of


def used(found: object) -> dict[str, float]:
    return {o.state.planned.run_id: o.state.gpu_hours for o in found.outcomes}  # type: ignore[attr-defined]


def test_three_runs_two_slots_one_kill() -> None:
    """b is killed at 2; c takes its slot at clock 2 and ends at 6."""
    policy = Scripted(at({("b", 2.0): Move.KILL}))
    found = replay(sweep_of(level(0.5, 0.4, 0.3)), policy, slots=2)
    assert used(found) == {"a": 4.0, "b": 2.0, "c": 4.0}
    assert (found.clock, found.spent_gpu_hours, found.asked) == (6.0, 10.0, 10)
    (kill,) = found.events
    # At clock 2 both a and b have reported their second point.
    assert (kill.clock, kill.gpu_hours, kill.spent_gpu_hours) == (2.0, 2.0, 4.0)
    assert [o.killed for o in found.outcomes] == [False, True, False]
    assert [o.state.status for o in found.outcomes] == [
        RunStatus.FINISHED,
        RunStatus.KILLED,
        RunStatus.FINISHED,
    ]
    # a is at 4 when c begins its third hour.
    assert found.spending == ((1.0, 2.0), (2.0, 4.0), (3.0, 6.0), (4.0, 8.0), (5.0, 9.0), (6.0, 10.0))


def test_what_is_reported_at_one_moment_is_known_to_all_who_are_asked_then() -> None:
    policy = Scripted(lambda asked: [])
    replay(sweep_of(level(0.5, 0.4, 0.3)), policy)
    for asked in policy.told:
        assert {run.gpu_hours for run in asked.runs} == {asked.clock}
    assert [asked.run.planned.run_id for asked in policy.told[:3]] == ["a", "b", "c"]
    assert [asked.at_end for asked in policy.told] == [False] * 9 + [True] * 3


def test_a_run_killed_by_anothers_point_is_not_asked_about_at_that_moment() -> None:
    policy = Scripted(
        lambda asked: (
            [order("c", Move.KILL)] if asked.run.planned.run_id == "a" and asked.clock == 2.0 else []
        )
    )
    found = replay(sweep_of(level(0.5, 0.4, 0.3)), policy)
    assert [asked.clock for asked in policy.told if asked.run.planned.run_id == "c"] == [1.0]
    assert used(found)["c"] == 2.0


def test_a_pause_frees_the_slot_and_the_run_goes_on_where_it_was() -> None:
    """a pauses at 1; b runs from clock 1 to 5; then a goes on and ends at 8."""
    policy = Scripted(at({("a", 1.0): Move.PAUSE}), at_over={"b": [order("a", Move.CONTINUE)]})
    found = replay(sweep_of(level(0.5, 0.4)), policy, slots=1)
    assert (used(found), found.clock) == ({"a": 4.0, "b": 4.0}, 8.0)
    assert found.outcomes[0].move is None
    told = [(asked.run.planned.run_id, asked.clock) for asked in policy.told]
    assert told == [
        ("a", 1.0),
        ("b", 2.0),
        ("b", 3.0),
        ("b", 4.0),
        ("b", 5.0),
        ("a", 6.0),
        ("a", 7.0),
        ("a", 8.0),
    ]


def test_a_run_paused_for_good_counts_as_stopped() -> None:
    found = replay(sweep_of(level(0.5, 0.4)), Scripted(at({("a", 1.0): Move.PAUSE})))
    assert (used(found), found.outcomes[0].killed) == ({"a": 1.0, "b": 4.0}, True)


def test_spending_as_one_goes_ends_at_the_cap() -> None:
    """Two runs side by side have spent 4 at clock 2; of the next hour only the first's is paid for."""
    found = replay(sweep_of(level(0.5, 0.4)), Scripted(lambda asked: []), cap_gpu_hours=5.0)
    assert used(found) == {"a": 3.0, "b": 2.0}
    assert [o.cause for o in found.outcomes] == [CAP_REACHED, CAP_REACHED]
    assert not any(o.killed for o in found.outcomes)


@pytest.mark.parametrize(("kills", "third"), [((), 0.0), (("a",), 0.0), (("a", "b"), 4.0)])
def test_admission_takes_the_whole_grant(kills: tuple[str, ...], third: float) -> None:
    """A cap of 8 covers two budgets of 4; a kill at 2 leaves 2, two kills leave the 4 that c needs."""
    script = at({(run_id, 2.0): Move.KILL for run_id in kills})
    found = replay(sweep_of(level(0.5, 0.4, 0.3)), Scripted(script, promises=True), cap_gpu_hours=8.0)
    assert used(found)["c"] == third
    assert found.spent_gpu_hours <= 8.0


def test_an_extension_goes_to_the_first_point_that_reaches_it() -> None:
    def script(asked: Asked) -> list[Order]:
        first = asked.run.planned.run_id == "a" and asked.run.gpu_hours == 4.0
        return [order("a", Move.EXTEND, 5.5)] if first else []

    recorded = sweep_of(level(0.5, 0.4, num=8))
    found = replay(recorded, Scripted(script, promises=True), cap_gpu_hours=20.0)
    assert used(found) == {"a": 6.0, "b": 4.0}
    assert found.outcomes[0].state.granted_gpu_hours == 6.0
    assert found.clock == 6.0


def test_a_finished_run_is_asked_about_again_once_hours_are_freed() -> None:
    """One slot: a ends at clock 4 while b has not started; b's kill at 2 leaves 2, and a is extended by 2."""

    def script(asked: Asked) -> list[Order]:
        run = asked.run
        if run.planned.run_id == "b":
            return [order("b", Move.KILL)] if run.gpu_hours == 2.0 else []
        covered = run.gpu_hours == 4.0 and asked.ledger.covers(2.0)
        return [order("a", Move.EXTEND, 6.0)] if covered else []

    recorded = sweep_of(level(0.5, 0.4, num=8))
    found = replay(recorded, Scripted(script, promises=True), slots=1, cap_gpu_hours=8.0)
    assert used(found) == {"a": 6.0, "b": 2.0}
    assert (found.clock, found.spent_gpu_hours) == (8.0, 8.0)


def test_a_first_grant_is_a_share_of_the_budget() -> None:
    found = replay(sweep_of(level(0.5, 0.4)), Scripted(at({}), promises=True, share=0.5))
    assert used(found) == {"a": 2.0, "b": 2.0}


def test_a_record_shorter_than_the_budget_is_served_to_its_end() -> None:
    recorded = sweep_of({"a": [0.5] * 4, "b": [0.4] * 3})
    assert recorded.full_gpu_hours == 7.0
    assert used(replay(recorded, NoStop(recorded))) == {"a": 4.0, "b": 3.0}


def test_what_cannot_be_replayed_says_so() -> None:
    recorded = sweep_of(level(0.5))
    with pytest.raises(ValueError, match="slots: found 0"):
        replay(recorded, NoStop(recorded), slots=0)
    with pytest.raises(ValueError, match="no curve is of the control 'x'; there are: a"):
        record(recorded.sweep, [Curve.of("a", [1.0], [0.5])], ["a"], "x")
    with pytest.raises(ValueError, match=r"found 1\.5, values from 0 to 1"):
        record(recorded.sweep, [Curve.of("a", [1.0], [1.5])], ["a"], "a")


def test_the_queue_can_be_mixed_but_controls_stay_first() -> None:
    mixed = sweep_of(level(0.5, 0.4, 0.3)).queued([2, 1, 0])
    assert [run.run_id for run in mixed.runs] == ["a", "c", "b"]
    assert [run.planned.order for run in mixed.runs] == [0, 1, 2]
    assert mixed.runs[0].planned.role is Role.CONTROL


# ---------------------------------------------------------------- simple policies


def test_last_value_kills_what_lies_below_the_control_by_the_margin() -> None:
    """b lies 0.03 below from 1 on; the grace ends at 2; the control is not killed by its own arm."""
    recorded = sweep_of({"a": [0.5] * 4, "b": [0.47] * 4, "c": [0.49] * 4})
    found = replay(recorded, LastValue(recorded, margin=0.02, grace=0.5))
    assert used(found) == {"a": 4.0, "b": 2.0, "c": 4.0}
    beside = replay(recorded, LastValue(recorded, margin=0.005, grace=0.25, best=True))
    assert used(beside) == {"a": 4.0, "b": 1.0, "c": 1.0}


def test_paper_point_kills_by_the_ceiling_of_the_grid() -> None:
    """Noise-free laws with ceilings of 0.60 and 0.50: seen as soon as six points are past the fit start."""
    hours = np.arange(1.0, 17.0) * 1000.0
    truths = {"a": simulate.Truth(0.6, 2.0, 2500.0), "b": simulate.Truth(0.5, 2.0, 2500.0)}
    curves = [Curve.of(name, hours, truth.mean(hours), r0=0.4) for name, truth in truths.items()]
    base = sweep_of(level(0.5)).sweep
    sweep = base.model_copy(update={"budget": Budget(run_gpu_hours=16_000.0), "fit_start_gpu_hours": 1500.0})
    recorded = record(sweep, curves, ["a", "b"], "a")
    found = replay(recorded, PaperPoint(recorded, margin=0.02, grace=0.1))
    assert used(found) == {"a": 16_000.0, "b": 7000.0}
    assert "0.500 lies below the reference's 0.600" in found.events[0].order.reason


@pytest.mark.parametrize(("k", "slots"), [(1, None), (2, None), (1, 1), (2, 2)])
def test_top_k_takes_the_best_at_the_first_measurement(k: int, slots: int | None) -> None:
    recorded = sweep_of(level(0.3, 0.5, 0.4))
    found = replay(recorded, TopK(recorded, k), slots=slots)
    kept = {"b", "c"} if k == 2 else {"b"}
    assert used(found) == {name: 4.0 if name in kept else 1.0 for name in "abc"}


def test_top_k_does_not_wait_for_a_run_that_ended_unmeasured() -> None:
    """A cap of 2 pays the first hours of a and b only: c is over, and b, the better, has nothing left."""
    recorded = sweep_of(level(0.3, 0.5, 0.4))
    found = replay(recorded, TopK(recorded, 1), cap_gpu_hours=2.0)
    assert used(found) == {"a": 1.0, "b": 1.0, "c": 0.0}
    assert [o.killed for o in found.outcomes] == [True, False, False]


# ---------------------------------------------------------------- the lab's own


@pytest.fixture(scope="module")
def one_worse() -> object:
    """A control and an arm whose ceiling lies 0.15 lower, 16,000 GPU-hours, a point every 800."""
    rng = np.random.default_rng(5)
    arms = [
        simulate.Arm("control", simulate.Truth(0.61, 1.9, 2500.0), 800.0),
        simulate.Arm("worse", simulate.Truth(0.46, 1.9, 2500.0), 800.0),
    ]
    simulated = simulate.simulate_arms(arms, rng)
    sweep = Sweep(
        name="drawn",
        recipe="small",
        question=LeaveOneOut(arms={"worse": Arm(set={})}),
        budget=Budget(run_gpu_hours=16_000.0),
        rule=Rule(),
    )
    return record(sweep, simulated.curves, simulated.arms, "control")


def test_the_forecast_is_the_verdict_of_analyse_and_runs_share_its_fits(
    one_worse: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = one_worse
    jobs = []

    def kept(job: object) -> object:
        jobs.append(job)
        return analyse(job)  # type: ignore[arg-type]

    monkeypatch.setattr("scalerl_lab.decide.policies.analyse", kept)
    before = _swept.cache_info().misses
    found = replay(recorded, Forecast(recorded, every=0.2))  # type: ignore[arg-type]
    fits = _swept.cache_info().misses - before
    assert used(found)["control:0"] == 16_000.0
    (kill,) = [event for event in found.events if event.order.move is Move.KILL]
    assert (kill.order.run_id, kill.order.cause) == ("worse:0", "ceiling_below")
    assert kill.gpu_hours in (6400.0, 9600.0, 12_800.0)
    # The order carries the decision that the same job gives again.
    (job,) = [j for j in jobs if j.run.planned.run_id == "worse:0" and j.run.gpu_hours == kill.gpu_hours]
    assert analyse(job).decision == kill.order.decision
    # Asked at five computes of the control, of which the arm shares those up to its kill: one fit each.
    assert fits <= 5 < len(jobs)
    said = conclude(recorded, found)  # type: ignore[arg-type]
    assert said.differences["worse"].interval.median == pytest.approx(-0.15, abs=0.05)
    assert chosen_by_forecast(found, said) == chosen_by_value(found) == "control"
