"""One trial: its facts, its crashes, what is billed as lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalerl_lab.launch.run_folder import Orders, Progress, RunFolder
from scalerl_lab.launch.worker import execute, lost_work
from scalerl_lab.records import (
    EndReason,
    EvalPoint,
    LedgerEntry,
    LedgerKind,
    TrialEnded,
    TrialStarted,
)
from tests.launch.fake_trainer import DiedError, FakeTrainer, trainer
from tests.launch.specs import spec


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "0123456789ab")
    folder.create(spec())
    folder.write_orders(Orders(2000.0))
    return folder


def run(folder: RunFolder, fake: FakeTrainer, trial: int) -> TrialEnded:
    return execute(folder.path, folder.path, trial, code_version="test", trainer=trainer(fake))


def steps(folder: RunFolder) -> list[int]:
    return [fact.step for fact in folder.read_facts() if isinstance(fact, EvalPoint)]


def test_a_trial_leaves_start_points_and_end(folder: RunFolder) -> None:
    ended = run(folder, FakeTrainer(lambda _: 0.7), 1)
    facts = folder.read_facts()
    assert ended.reason is EndReason.GRANT_REACHED
    assert isinstance(facts[0], TrialStarted)
    assert facts[0].code_version == "test"
    assert facts[-1] == ended
    assert steps(folder) == [0, 5, 10, 15, 20]


@pytest.mark.parametrize("before_facts", [True, False])
@pytest.mark.parametrize("die_at", [(3,), (5,), (10,), (20,), (5, 7, 15)])
def test_no_point_is_lost_or_repeated_whenever_it_dies(
    folder: RunFolder, die_at: tuple[int, ...], before_facts: bool
) -> None:
    fake = FakeTrainer(lambda _: 0.7, die_at=die_at, die_before_facts=before_facts)
    trial = 1
    while True:
        try:
            run(folder, fake, trial)
            break
        except DiedError:
            trial += 1
    assert steps(folder) == [0, 5, 10, 15, 20]
    rates = [fact.pass_rate for fact in folder.read_facts() if isinstance(fact, EvalPoint)]
    other = RunFolder(folder.path.with_name("undisturbed"))
    other.create(spec())
    other.write_orders(Orders(2000.0))
    run(other, FakeTrainer(lambda _: 0.7), 1)
    assert rates == [fact.pass_rate for fact in other.read_facts() if isinstance(fact, EvalPoint)]
    trained = [
        fact.gpu_hours
        for fact in folder.read_facts()
        if isinstance(fact, LedgerEntry) and fact.kind is LedgerKind.TRAIN
    ]
    assert sum(trained) == 2000.0


def test_a_failure_is_a_fact_and_is_raised(folder: RunFolder) -> None:
    with pytest.raises(DiedError):
        run(folder, FakeTrainer(lambda _: 0.7, die_at=(7,)), 1)
    ended = folder.read_facts()[-1]
    assert isinstance(ended, TrialEnded)
    assert ended.reason is EndReason.FAILED
    assert "died at step 7" in ended.detail


def test_orders_to_stop_are_heeded_within_a_step(folder: RunFolder) -> None:
    folder.write_orders(Orders(2000.0, stop=True))
    assert run(folder, FakeTrainer(lambda _: 0.7), 1).reason is EndReason.STOPPED
    assert steps(folder) == [0]


def test_a_larger_grant_goes_on_where_the_run_ended(folder: RunFolder) -> None:
    run(folder, FakeTrainer(lambda _: 0.7), 1)
    folder.write_orders(Orders(3000.0))
    fake = FakeTrainer(lambda _: 0.7)
    run(folder, fake, 2)
    assert steps(folder) == [0, 5, 10, 15, 20, 25, 30]
    assert fake.steps_taken == list(range(21, 31))


def test_lost_work_by_hand() -> None:
    before = Progress(trial=1, step=17, gpu_hours=1700.0, flops=17000, wall_s=8.0)
    entry = lost_work(before, 15, 1500.0, 15000, trial=2)
    assert entry is not None
    assert (entry.kind, entry.trial, entry.gpu_hours, entry.flops) == (LedgerKind.LOST, 1, 200.0, 2000)
    assert (entry.from_step, entry.to_step) == (15, 17)
    assert lost_work(before, 17, 1700.0, 17000, trial=2) is None
    assert lost_work(before, 15, 1500.0, 15000, trial=1) is None
    assert lost_work(None, 0, 0.0, 0, trial=1) is None
