"""The files of a run: exact round trips, torn lines, one fact once."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from scalerl_lab.errors import LockHeld
from scalerl_lab.launch.locking import exclusive
from scalerl_lab.launch.run_folder import FactWriter, Orders, Progress, RunFolder, fact_key
from scalerl_lab.records import EndReason, LedgerEntry, LedgerKind, TrialEnded
from tests.launch.fake_trainer import point
from tests.launch.specs import spec


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "0123456789ab")
    folder.create(spec())
    return folder


def test_spec_comes_back_equal_and_is_never_rewritten(folder: RunFolder) -> None:
    folder.create(spec(seed=5))
    assert folder.spec() == spec()


def test_facts_come_back_exactly(folder: RunFolder) -> None:
    facts = [point(1, 5, 0.1 + 0.2), TrialEnded(1, 1.5, 5, 500.0, EndReason.STOPPED, "x")]
    writer = FactWriter(folder)
    for fact in facts:
        writer.append(fact)
    assert folder.read_facts() == facts
    assert folder.read_facts(1) == facts[1:]


def test_a_fact_told_again_after_a_resume_is_dropped(folder: RunFolder) -> None:
    FactWriter(folder).append(point(1, 5, 0.3))
    writer = FactWriter(folder)
    writer.append(point(2, 5, 0.3))
    writer.append(point(2, 10, 0.4))
    assert [(p.trial, p.step) for p in folder.read_facts()] == [(1, 5), (2, 10)]  # type: ignore[union-attr]


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_a_torn_last_line_is_no_fact_and_is_cut_off(folder: RunFolder, cut: int) -> None:
    writer = FactWriter(folder)
    writer.append(point(1, 5, 0.3))
    writer.append(point(1, 10, 0.4))
    writer.close()
    folder.facts.write_bytes(folder.facts.read_bytes()[:-cut])
    assert folder.read_facts() == [point(1, 5, 0.3)]
    FactWriter(folder).append(point(2, 10, 0.4))
    assert folder.read_facts() == [point(1, 5, 0.3), point(2, 10, 0.4)]


def test_nothing_is_granted_before_the_driver_says_so(folder: RunFolder) -> None:
    assert folder.orders() == Orders(granted_gpu_hours=0.0, stop=False)
    before = folder.orders_stamp()
    folder.write_orders(Orders(16000.0))
    assert folder.orders() == Orders(16000.0)
    assert folder.orders_stamp() != before


def test_progress_round_trip(folder: RunFolder) -> None:
    assert folder.progress() is None
    folder.write_progress(Progress(2, 17, 1234.5, 99, 3.25))
    assert folder.progress() == Progress(2, 17, 1234.5, 99, 3.25)


def test_ledger_entries_of_the_same_steps_are_one_but_lost_work_counts_per_trial() -> None:
    def entry(trial: int, kind: LedgerKind) -> LedgerEntry:
        return LedgerEntry(trial, 0.0, kind, 1.0, 1.0, 1, 5, 10)

    assert fact_key(entry(1, LedgerKind.TRAIN)) == fact_key(entry(2, LedgerKind.TRAIN))
    assert fact_key(entry(1, LedgerKind.LOST)) != fact_key(entry(2, LedgerKind.LOST))
    assert fact_key(entry(1, LedgerKind.TRAIN)) != fact_key(entry(1, LedgerKind.EVALUATE))


def _hold(path: Path, held: multiprocessing.synchronize.Event) -> None:
    with exclusive(path, wait_s=0.0, what="it"):
        held.set()
        multiprocessing.Event().wait(60)


def test_a_lock_goes_with_its_holder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "lock", held), daemon=True)
    holder.start()
    assert held.wait(10)
    with (
        pytest.raises(LockHeld, match=f"pid {holder.pid}"),
        exclusive(tmp_path / "lock", wait_s=0.2, what="it"),
    ):
        pass
    holder.kill()
    holder.join()
    with exclusive(tmp_path / "lock", wait_s=5.0, what="it"):
        pass
