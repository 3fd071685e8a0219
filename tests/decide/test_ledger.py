"""The ledger by hand, and the cap under any order of starts, reports, kills, extensions and revivals."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalerl_lab.decide import Hours, Ledger, ledger_of
from scalerl_lab.records import LedgerEntry, LedgerKind, RunState, RunStatus
from tests.decide.states import run_state
from tests.fit.curves import point

INTERVAL = 10.0
"""GPU-hours between two reports; one optimiser step is a tenth of it."""
STEP = 1.0


def state(
    arm: str,
    status: RunStatus,
    used: float = 0.0,
    *,
    granted: float = 100.0,
    reused: bool = False,
    seed: int = 0,
) -> RunState:
    points = [point(0, 0.0, 0.2)] if used == 0.0 else [point(0, 0.0, 0.2), point(1, used, 0.4)]
    run = run_state(points, arm=arm, granted=granted, seed=seed)
    return replace(run, status=status, reused=reused)


def entry(kind: LedgerKind, gpu_hours: float) -> LedgerEntry:
    return LedgerEntry(1, 0.0, kind, gpu_hours, 0.0, 0, 0, 1)


def test_a_sweep_adds_up_by_hand() -> None:
    states = [
        state("control", RunStatus.RUNNING, 40.0),
        state("killed", RunStatus.KILLED, 30.0),
        state("resolved", RunStatus.FINISHED, 80.0),
        state("done", RunStatus.FINISHED, 100.5),
        state("failed", RunStatus.FAILED, 10.0),
        state("waiting", RunStatus.PLANNED),
    ]
    entries = [
        ("control-0", entry(LedgerKind.TRAIN, 40.0)),
        ("control-0", entry(LedgerKind.EVALUATE, 2.0)),
        ("control-0", entry(LedgerKind.CHECKPOINT, 0.5)),
        ("control-0", entry(LedgerKind.LOST, 7.0)),
        ("killed-0", entry(LedgerKind.TRAIN, 30.0)),
        ("killed-0", entry(LedgerKind.OVERHEAD, 1.0)),
    ]
    found = ledger_of(700.0, states, entries, price_per_gpu_hour=3.0)
    control = found.accounts[0].hours
    assert control == Hours(granted=100, used=40, held=49.5, overhead=2.5, lost=7, promised=60, saved=0)
    assert [a.hours.saved for a in found.accounts] == [0.0, 70.0, 20.0, 0.0, 0.0, 0.0]
    assert found.total.used == 260.5
    assert found.total.held == 49.5 + 31.0 + 80.0 + 100.5 + 10.0
    assert found.overshoot == 0.5
    assert found.waiting == 100.0
    # 700 less 40 + 30 + 80 + 100 + 10 used within the grants, less 60 promised to the control.
    assert found.left == 380.0
    assert found.free == 380.0 - 100.0 - 0.5
    assert found.admits(380.0)
    assert not found.admits(380.1)
    assert found.covers(279.5)
    assert not found.covers(279.6)
    assert found.money(found.total.lost) == 21.0
    assert Ledger(1.0, ()).money(2.0) is None


def test_arms_add_up_over_their_seeds() -> None:
    states = [
        state("control", RunStatus.RUNNING, 40.0),
        state("control", RunStatus.KILLED, 25.0, seed=1),
        state("other", RunStatus.PLANNED),
    ]
    arms = ledger_of(300.0, states).by_arm()
    assert list(arms) == ["control", "other"]
    assert arms["control"] == Hours(granted=200, used=65, held=65, promised=60, saved=75)


def test_a_trial_on_its_way_is_promised_its_grant() -> None:
    states = [state("a", RunStatus.PLANNED), state("b", RunStatus.PLANNED)]
    assert ledger_of(150.0, states).admits(100.0)
    assert not ledger_of(150.0, states, started=["a-0"]).admits(100.0)


def test_points_beyond_the_grant_are_another_sweeps() -> None:
    beyond = run_state([point(k, 30.0 * k, 0.4) for k in range(8)], granted=100.0)
    # 0, 30, 60, 90, 120, ...: the step that reached the grant is this sweep's, what follows is not.
    assert ledger_of(100.0, [beyond]).total.used == 120.0
    assert ledger_of(100.0, [replace(beyond, reused=True)]).total.used == 100.0


class Simulated:
    """A sweep whose workers know their use exactly, while the ledger knows what they reported."""

    def __init__(self, cap: float, budgets: list[float]) -> None:
        self.cap = cap
        self.grants = budgets
        self.status = [RunStatus.PLANNED] * len(budgets)
        self.used = [0.0] * len(budgets)
        self.reported = [0.0] * len(budgets)

    @property
    def ledger(self) -> Ledger:
        return ledger_of(
            self.cap,
            [
                state(f"arm{i}", status, self.reported[i], granted=self.grants[i])
                for i, status in enumerate(self.status)
            ],
        )

    def do(self, what: str, i: int, share: float) -> None:
        if what == "start" and self.status[i] is RunStatus.PLANNED:
            if self.ledger.admits(self.grants[i] - self.reported[i]):
                self.status[i] = RunStatus.RUNNING
        elif what == "train" and self.status[i] is RunStatus.RUNNING:
            self._train(i, max(1, round(share * INTERVAL / STEP)))
        elif what == "kill" and self.status[i] is RunStatus.RUNNING:
            # Taken down between reports: what it did since is reported when its trial is gone.
            self.reported[i], self.status[i] = self.used[i], RunStatus.KILLED
        elif what == "extend" and self.status[i] in {RunStatus.RUNNING, RunStatus.FINISHED}:
            more = share * 40.0
            was_over = self.status[i] is RunStatus.FINISHED
            needed = self.grants[i] + more - self.used[i] if was_over else more
            if needed > 0.0 and self.ledger.covers(needed):
                self.grants[i] += more
                self.status[i] = RunStatus.RUNNING
        elif (
            what == "revive"
            and self.status[i] is RunStatus.KILLED
            and self.ledger.covers(self.grants[i] - self.used[i])
        ):
            self.status[i] = RunStatus.RUNNING

    def _train(self, i: int, steps: int) -> None:
        for _ in range(steps):
            if self.used[i] >= self.grants[i]:
                break
            self.used[i] += STEP
        if steps * STEP >= INTERVAL / 2 or self.used[i] >= self.grants[i]:
            self.reported[i] = self.used[i]
        if self.used[i] >= self.grants[i]:
            self.status[i] = RunStatus.FINISHED


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["start", "train", "train", "train", "kill", "extend", "revive"]),
        st.integers(0, 5),
        st.floats(0.05, 1.0),
    ),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(
    budgets=st.lists(st.floats(15.0, 60.0), min_size=6, max_size=6),
    share=st.floats(0.3, 1.2),
    operations=OPERATIONS,
)
def test_the_cap_holds_in_whatever_order_things_happen(
    budgets: list[float], share: float, operations: list[tuple[str, int, float]]
) -> None:
    sweep = Simulated(share * sum(budgets), budgets)
    for operation in operations:
        sweep.do(*operation)
        found = sweep.ledger
        assert found.total.used - found.overshoot + found.total.promised <= sweep.cap + 6 * 1e-3
        # Six runs, each less than a step of a tenth of an interval beyond its grant.
        assert sum(sweep.used) < sweep.cap + INTERVAL
        assert found.total.used + found.total.saved + found.total.promised + found.waiting == pytest.approx(
            found.total.granted + found.overshoot
        )


def test_all_of_a_cap_is_used_when_nothing_is_killed() -> None:
    """Overshoot of the first runs does not starve the last one."""
    sweep = Simulated(90.0, [30.0 - 0.5] * 2 + [31.0])
    for i in range(3):
        sweep.do("start", i, 0.0)
        for _ in range(4):
            sweep.do("train", i, 1.0)
    assert sweep.status == [RunStatus.FINISHED] * 3
    assert sum(sweep.used) == 91.0


def test_freed_hours_pay_for_extensions_and_nothing_else_does() -> None:
    sweep = Simulated(120.0, [60.0, 60.0])
    for i in range(2):
        sweep.do("start", i, 0.0)
    sweep.do("extend", 0, 0.5)
    assert sweep.grants[0] == 60.0
    for _ in range(3):
        sweep.do("train", 1, 1.0)
    sweep.do("kill", 1, 0.0)
    assert sweep.ledger.free == 30.0
    sweep.do("extend", 0, 0.5)
    assert sweep.grants[0] == 80.0
    assert sweep.ledger.free == 10.0
    sweep.do("revive", 1, 0.0)
    assert sweep.status[1] is RunStatus.KILLED
