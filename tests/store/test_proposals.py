"""Proposals on record, on every database: each number once, with its runs or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scalerl_lab.config.overrides import override
from scalerl_lab.config.sweep import Knob, Search
from scalerl_lab.plan import SweepPlan, searched_runs
from scalerl_lab.records import PlannedRun, Proposal, RunStatus
from scalerl_lab.store import Store
from tests.store.processes import fork

SWEEP = "5feeb0000001"
OVER = {"loss.ratio_cap": Knob(low=2, high=10)}


def asked(plan: SweepPlan) -> SweepPlan:
    """The story's control, as a search over the cap of the ratio."""
    search = Search(over=OVER, arms=4)
    control = tuple(run for run in plan.runs if run.arm == "control")
    return replace(plan, sweep=override(plan.sweep, {"question": search.model_dump()}), runs=control)


def proposal(number: int, value: float, at: float = 1700000000.1) -> Proposal:
    return Proposal(SWEEP, number, f"s{number:03d}", {"loss.ratio_cap": value}, "tpe", 2, "0a1b2c", at)


def runs_of(plan: SweepPlan, number: int, value: float) -> tuple[PlannedRun, ...]:
    return searched_runs(plan, number, {"loss.ratio_cap": value})


def test_a_proposal_comes_back_and_its_runs_join_the_plan(store: Store, plan: SweepPlan) -> None:
    search = asked(plan)
    store.record_plan(search)
    assert (store.proposals(SWEEP), len(store.plan(SWEEP).runs)) == ((), len(search.runs))
    second, first = proposal(1, 1 / 3), proposal(0, 7.25)
    assert store.record_proposal(second, runs_of(search, 1, 3.0)) == second
    assert store.record_proposal(first, runs_of(search, 0, 7.25)) == first
    assert store.proposals(SWEEP) == (first, second)
    found = store.plan(SWEEP)
    assert found.runs == (*search.runs, *runs_of(search, 0, 7.25), *runs_of(search, 1, 3.0))
    assert found.sweep_gpu_hours == search.sweep_gpu_hours
    (state,) = [s for s in store.run_states(SWEEP) if s.planned.arm == "s001"]
    assert (state.status, state.granted_gpu_hours) == (RunStatus.PLANNED, found.sweep.budget.run_gpu_hours)


def test_a_number_is_taken_once(store: Store, plan: SweepPlan) -> None:
    search = asked(plan)
    store.record_plan(search)
    first = proposal(0, 7.25)
    store.record_proposal(first, runs_of(search, 0, 7.25))
    assert store.record_proposal(proposal(0, 3.0, at=1700000001.0), runs_of(search, 0, 3.0)) == first
    assert store.proposals(SWEEP) == (first,)
    assert len(store.plan(SWEEP).runs) == len(search.runs) + 1
    store.record_plan(search)
    assert len(store.plan(SWEEP).runs) == len(search.runs) + 1


def test_a_run_that_has_a_place_keeps_it(store: Store, plan: SweepPlan) -> None:
    search = asked(plan)
    store.record_plan(search)
    store.record_proposal(proposal(0, 7.25), runs_of(search, 0, 7.25))
    same = replace(proposal(1, 7.25), arm="s000")
    assert store.record_proposal(same, runs_of(search, 1, 7.25)) == same
    assert [run.arm for run in store.plan(SWEEP).runs][len(search.runs) :] == ["s000"]


def test_another_process_sees_new_runs(store: Store, plan: SweepPlan) -> None:
    search = asked(plan)
    store.record_plan(search)
    url = store.database.url.render_as_string(hide_password=False)
    other = Store.open(url)
    assert len(other.plan(SWEEP).runs) == len(search.runs)
    store.record_proposal(proposal(0, 7.25), runs_of(search, 0, 7.25))
    assert len(other.plan(SWEEP).runs) == len(search.runs) + 1
    other.close()


def test_of_many_that_propose_one_number_one_wins(store: Store, plan: SweepPlan, tmp_path: Path) -> None:
    search = asked(plan)
    store.record_plan(search)
    url = store.database.url.render_as_string(hide_password=False)
    store.close()

    def propose(number: int) -> None:
        mine = proposal(0, 2.0 + number, at=1700000000.0 + number)
        if Store.open(url).record_proposal(mine, runs_of(search, 0, 2.0 + number)) == mine:
            (tmp_path / f"won-{number}").touch()

    assert fork(4, propose) == [0] * 4
    (won,) = tmp_path.glob("won-*")
    (kept,) = store.proposals(SWEEP)
    assert kept.values == {"loss.ratio_cap": 2.0 + int(won.name.removeprefix("won-"))}
    (added,) = store.plan(SWEEP).runs[len(search.runs) :]
    assert added.run_id == runs_of(search, 0, kept.values["loss.ratio_cap"])[0].run_id


def test_the_mirror_meets_runs_that_came_later(plan: SweepPlan, tmp_path: Path) -> None:
    from scalerl_lab.store.mirror import Mirror

    store = Store.open(f"sqlite:///{tmp_path / 'lab.db'}")
    search = asked(plan)
    store.record_plan(search)
    mirror = Mirror(store, f"sqlite:///{tmp_path / 'mlflow.db'}", SWEEP, tmp_path / "artifacts")
    (run,) = runs_of(search, 0, 7.25)
    store.record_proposal(proposal(0, 7.25), (run,))
    mirror.send()
    assert store.num_unsent(SWEEP) == 0
