"""A search through the driver: proposed as it learns, paid from the cap, each number once whoever dies."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from scalerl_lab.config.overrides import get
from scalerl_lab.decide import fit_together
from scalerl_lab.decide.search import Outcome, outcomes
from scalerl_lab.fit import SweepRun
from scalerl_lab.launch.driver import Driver
from scalerl_lab.launch.ordering import order_sweep
from scalerl_lab.launch.searching import Proposer
from scalerl_lab.plan import control_values, searched_runs
from scalerl_lab.plugins.search import propose
from scalerl_lab.records import Action, OrderKind, Proposal, RunSpec, RunState, RunStatus
from tests.launch.fake_trainer import FakeTrainer, trainer
from tests.launch.lockstep import AtOnce, LockstepLauncher
from tests.launch.test_driver import Bench, sweep

ARMS = 6


def ceiling(spec: RunSpec) -> float:
    """0.7 at a cap of 5 on the ratio, less 0.02 for the square of the distance."""
    return max(0.7 - 0.02 * (float(get(spec.recipe, "loss.ratio_cap")) - 5.0) ** 2, 0.3)


UNFITTED = {"min_points": 1000}
"""With it no run has points enough for a fit, so that what is no matter of fits takes no time."""


def question(rule: dict[str, Any], budget: dict[str, float] | None = None, **changes: Any) -> Any:
    search = {
        "type": "search",
        "over": {"loss.ratio_cap": {"low": 2, "high": 10}},
        "arms": ARMS,
        "at_a_time": 2,
        "startup": 3,
    }
    return sweep(
        question=search | changes,
        seeds={"control": 1, "arm": 1},
        budget=budget or {"run_gpu_hours": 16000},
        rule={"reference": {"type": "best"}, "quantity": {"type": "pass_rate"}} | rule,
    )


class SearchBench(Bench):
    """A bench whose sweep is a search."""

    proposer: Proposer = staticmethod(propose)
    told: list[tuple[tuple[Outcome, ...], int]]

    def drive(self, fake: FakeTrainer | None = None, crash_at_turn: int | None = None) -> dict[str, RunState]:
        self.store.record_plan(self.plan)
        self.launcher = LockstepLauncher(trainer(fake or FakeTrainer(ceiling)), self.slots)
        self.launcher.crash_at_turn = crash_at_turn
        self.launcher.on_turn = self.on_turn
        driver = Driver(
            plan=self.plan,
            store=self.store,
            launcher=self.launcher,
            analyst=self.analyst,
            home=self.home,
            watcher=self.watcher,
            code_version="test",
            max_live=3,
            proposer=self.proposer,
        )
        return {f"{run.planned.arm}:{run.planned.spec.seed}": run for run in driver.drive()}

    @property
    def proposals(self) -> tuple[Proposal, ...]:
        return self.store.proposals(self.plan.sweep_id)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalerl_lab.launch.driver._TURN_S", 0.0)
    monkeypatch.setattr("scalerl_lab.launch.driver._ORDERS_S", 0.0)
    monkeypatch.setattr("scalerl_lab.launch.driver._WORK_S", float("inf"))
    monkeypatch.setattr("scalerl_lab.decide.looks.LOOK_FRACTION", 0.5)


@pytest.fixture
def bench(tmp_path: Path) -> SearchBench:
    return SearchBench(tmp_path, question(UNFITTED, {"run_gpu_hours": 4000}))


def as_planned(bench: SearchBench, runs: dict[str, RunState]) -> None:
    """Each number was proposed once, and has its own run and no other."""
    assert [each.number for each in bench.proposals] == list(range(ARMS))
    expected = {
        f"{each.arm}:0": run.run_id
        for each in bench.proposals
        for run in searched_runs(bench.plan, each.number, each.values)
    }
    found = {label: run.planned.run_id for label, run in runs.items() if label != "control:0"}
    assert found == expected
    assert len(set(found.values())) == ARMS
    assert {run.status for run in runs.values()} <= {RunStatus.FINISHED, RunStatus.KILLED}


def test_a_search_runs_to_its_end_through_rule_and_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalerl_lab.decide.looks.LOOK_FRACTION", 0.125)
    cap = 64000.0  # four runs of seven
    bench = SearchBench(tmp_path, question({}, {"run_gpu_hours": 16000, "sweep_gpu_hours": cap}))
    bench.proposer = lambda question, history, number: {
        "loss.ratio_cap": (9.0, 8.5, 6.0, 9.5, 2.0, 5.5)[number]
    }
    spent: list[float] = []

    def look() -> None:
        ledger = bench.store.budget(bench.plan.sweep_id)
        spent.append(ledger.total.used + ledger.total.promised + ledger.waiting)

    bench.on_turn = dict.fromkeys(range(2, 400, 3), look)
    runs = bench.drive()
    # Hours that kills freed paid for proposals that the cap did not cover, and nobody exceeded it.
    assert len(bench.proposals) > 3
    assert len(runs) == len(bench.proposals) + 1
    assert max(spent) <= cap + 500.0
    assert sum(run.gpu_hours for run in runs.values()) <= cap + 500.0
    last = max(proposal.at for proposal in bench.proposals)
    rows = bench.store.decisions(bench.plan.sweep_id)
    if len(bench.proposals) < ARMS:
        assert not [row for row in rows if row.decision.action is Action.EXTEND]
    else:
        assert all(row.at > last for row in rows if row.decision.action is Action.EXTEND)
    # An arm that lies 0.1 or more below the control, which is at the top, does not run to its budget.
    caps = {f"{each.arm}:0": each.values["loss.ratio_cap"] for each in bench.proposals}
    bad = {label for label, value in caps.items() if 0.02 * (value - 5.0) ** 2 > 0.1}
    killed = {label for label, run in runs.items() if run.status is RunStatus.KILLED}
    assert bad
    assert bad <= killed
    assert bench.proposals[-1].num_known >= 2
    # The end of a search, read from its database alone, says how good each arm is.
    states = bench.store.run_states(bench.plan.sweep_id)
    assert [state.planned.order for state in states] == list(range(len(runs)))
    found = outcomes(
        bench.proposals,
        states,
        fit_together(
            [SweepRun(s.planned.run_id, s.planned.arm, s.points) for s in states], bench.plan.sweep
        ).arms,
        sweep=bench.plan.sweep,
        control="control",
        control_values=control_values(bench.plan),
    )
    assert [outcome.number for outcome in found] == list(range(-1, len(bench.proposals)))
    assert dict(found[0].values) == {"loss.ratio_cap": 5.0}
    at = 1.0 / (1.0 + (2500.0 / 16000.0) ** 2)
    for outcome, (label, run) in zip(found, runs.items(), strict=True):
        truth = 0.2 + (ceiling(run.planned.spec) - 0.2) * at
        assert outcome.value == pytest.approx(truth, abs=0.04), label


class Pickled(AtOnce):
    """Hands everything over as to another process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        fn, args, kwargs = pickle.loads(pickle.dumps((fn, args, kwargs)))
        return super().submit(lambda: pickle.loads(pickle.dumps(fn(*args, **kwargs))))


def test_proposals_are_told(bench: SearchBench) -> None:
    bench.analyst = Pickled()
    runs = bench.drive()
    as_planned(bench, runs)
    assert bench.launcher.started[0] == ("control:0", 1)
    first = bench.proposals[0].values["loss.ratio_cap"]
    said = [sentence for sentence in bench.watcher.sentences if sentence.startswith("proposed")]
    assert len(said) == ARMS
    by = "by tpe from 0 known outcomes; arm s000, 1 open, 5 to come"
    assert said[0] == f"proposed 1 of 6: loss.ratio_cap {first:g}; {by}"
    assert {run.granted_gpu_hours for run in runs.values()} == {4000.0}


def test_running_again_proposes_nothing(bench: SearchBench) -> None:
    first, kept = bench.drive(), bench.proposals
    again = bench.drive()
    assert (bench.launcher.started, bench.proposals) == ([], kept)
    assert {k: (r.status, r.gpu_hours) for k, r in again.items()} == {
        k: (r.status, r.gpu_hours) for k, r in first.items()
    }


def test_two_searches_by_the_same_facts_are_one(tmp_path: Path) -> None:
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        bench = SearchBench(tmp_path / name, question(UNFITTED, {"run_gpu_hours": 4000}))
        bench.drive()
        found.append([(p.values, p.num_known, p.history) for p in bench.proposals])
    assert found[0] == found[1]
    assert len({history for _, _, history in found[0]}) == ARMS


@pytest.mark.parametrize("turn", [2, 3, 5, 20])
def test_a_driver_that_dies_proposes_each_number_once(bench: SearchBench, turn: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench.drive(crash_at_turn=turn)
    as_planned(bench, bench.drive())


@pytest.mark.parametrize("written", [False, True])
def test_death_between_a_proposal_and_its_start(
    bench: SearchBench, written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, asked = bench.store.record_proposal, []

    def dies(proposal: Proposal, runs: Any) -> Proposal:
        asked.append(proposal)
        if written:
            record(proposal, runs)
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.store, "record_proposal", dies)
    with pytest.raises(KeyboardInterrupt):
        bench.drive()
    monkeypatch.undo()
    assert len(bench.proposals) == written
    monkeypatch.setattr("scalerl_lab.launch.driver._TURN_S", 0.0)
    monkeypatch.setattr("scalerl_lab.launch.driver._WORK_S", float("inf"))
    as_planned(bench, bench.drive())
    if written:
        assert bench.proposals[0] == asked[0]


def test_a_cancelled_search_proposes_no_more(bench: SearchBench) -> None:
    bench.on_turn = {6: lambda: order_sweep(bench.store, bench.plan.sweep_id, OrderKind.CANCEL, "enough")}
    runs = bench.drive()
    num = len(bench.proposals)
    assert 0 < num < ARMS
    assert {run.status for run in runs.values()} == {RunStatus.KILLED}
    assert (len(bench.drive()), len(bench.proposals)) == (num + 1, num)


def test_a_paused_search_proposes_nothing_until_it_is_resumed(bench: SearchBench) -> None:
    seen: list[int] = []
    sweep_id = bench.plan.sweep_id
    bench.on_turn = {
        6: lambda: order_sweep(bench.store, sweep_id, OrderKind.PAUSE, "maintenance"),
        9: lambda: seen.append(len(bench.proposals)),
        200: lambda: seen.append(len(bench.proposals)),
        201: lambda: order_sweep(bench.store, sweep_id, OrderKind.RESUME, "done"),
    }
    runs = bench.drive()
    assert seen[0] == seen[1] < ARMS
    as_planned(bench, runs)


def test_a_proposal_equal_to_another_arm_is_recorded_and_not_run(bench: SearchBench) -> None:
    bench.proposer = lambda question, history, number: {"loss.ratio_cap": 5.0 if number % 2 else 6.0 + number}
    runs = bench.drive()
    assert [each.arm for each in bench.proposals] == ["s000", "control", "s002", "control", "s004", "control"]
    assert sorted(runs) == ["control:0", "s000:0", "s002:0", "s004:0"]
    assert any("the same as control" in sentence for sentence in bench.watcher.sentences)


def test_values_that_the_recipe_refuses_are_recorded_and_told(bench: SearchBench) -> None:
    bench.proposer = lambda question, history, number: {
        "loss.ratio_cap": -1.0 if number == 0 else 3.5 + number
    }
    runs = bench.drive()
    assert [each.arm for each in bench.proposals] == ["", "s001", "s002", "s003", "s004", "s005"]
    assert "s000:0" not in runs
    assert "must be greater than 0" in bench.watcher.sentences[0]
