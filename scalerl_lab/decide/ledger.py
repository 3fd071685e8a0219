"""The budget of a sweep in GPU-hours: what was granted, used, held, saved and lost, and what is free.

One formula for all: the driver admits and extends by it, reports print it, a replay runs against it.

    used      training compute, the x-axis of the curves
    held      all that the run kept a device busy for = training + overhead + lost
    overhead  held for evaluation, checkpoints, the warm start, loading and waiting
    lost      training after the last checkpoint of an attempt that died
    promised  what a started run may still use: granted - used, until it is over
    saved     what a killed or resolved run left of its grant
    left      cap - used - promised: what a run that has not started can be admitted on
    free      left - the grants of runs that have not started - overshoot: what extensions can be paid from
    spare     left - the grants of those that it can still start - overshoot: what people can order from; more
              than what is free only where the cap does not cover every planned run

The cap is one of training compute, as budgets are. What failures lose is held and billed beyond it, so
that a sweep comes to the same verdicts whether or not a machine died under it.

Why the cap holds: a run starts only if its whole grant is left, an extension or a revival is granted
only if it is free, and what a run has been granted stays promised until its trial is gone; so used and
promised, each run counted up to its grant, never add up to more than the cap, in whatever order
runs start, report, end and are extended. A run learns of its grant before every optimiser step and ends
with the step that reaches it. So it overshoots by less than one step, and a sweep by less than one report
interval as long as it has no more runs than there are steps between reports. Overshoot is paid for
out of what extensions would have got; it never keeps a planned run from its start, or a cap that
equals the sum of the budgets would starve the last run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, fields
from operator import attrgetter

from scalerl_lab.records import LedgerEntry, LedgerKind, RunState, RunStatus

_ROUNDING = 1e-3
"""GPU-hours by which two ways to add up the same hours may differ."""


@dataclass(frozen=True, slots=True)
class Hours:
    """GPU-hours of a run, an arm or a sweep, by what became of them; see the module's formulas."""

    granted: float = 0.0
    used: float = 0.0
    held: float = 0.0
    overhead: float = 0.0
    lost: float = 0.0
    promised: float = 0.0
    saved: float = 0.0

    @classmethod
    def sum(cls, parts: Iterable[Hours]) -> Hours:
        """All of them together."""
        columns = zip(*map(_COLUMNS, parts), strict=True)
        return cls(*(sum(column) for column in columns))


_COLUMNS = attrgetter(*(f.name for f in fields(Hours)))


@dataclass(frozen=True, slots=True)
class Account:
    """One run in the ledger."""

    run_id: str
    arm: str
    seed: int
    status: RunStatus
    budget: float
    """What the plan gave it."""
    hours: Hours

    @property
    def label(self) -> str:
        """Arm and seed, as people name a run."""
        return f"{self.arm}:{self.seed}"

    @property
    def overshoot(self) -> float:
        """Used beyond the grant, by the step that reached it."""
        return max(self.hours.used - self.hours.granted, 0.0)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The accounts of a sweep under its cap; see the module's docstring."""

    cap: float
    """Training compute that all runs together may use, extensions included."""
    accounts: tuple[Account, ...]
    """In the order of the plan."""
    price_per_gpu_hour: float | None = None
    total: Hours = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", Hours.sum(account.hours for account in self.accounts))

    @property
    def overshoot(self) -> float:
        """Used beyond grants, over all runs."""
        return sum(account.overshoot for account in self.accounts)

    @property
    def waiting(self) -> float:
        """Grants of runs that have not started."""
        return sum(a.hours.granted - a.hours.used for a in self.accounts if a.status is RunStatus.PLANNED)

    @property
    def left(self) -> float:
        """What a run that has not started can be admitted on."""
        return self.cap - (self.total.used - self.overshoot) - self.total.promised

    @property
    def free(self) -> float:
        """What extensions can be paid from; below zero where the cap does not cover every planned run."""
        return self.left - self.waiting - self.overshoot

    @property
    def spare(self) -> float:
        """What people can order from: no run that has not started, and still can be, needs it."""
        left = self.left
        for account in self.accounts:
            grant = account.hours.granted - account.hours.used
            if account.status is RunStatus.PLANNED and grant <= left + _ROUNDING:
                left -= grant
        return left - self.overshoot

    def spares(self, gpu_hours: float) -> bool:
        """Whether an order of a person can be paid from what is spare."""
        return gpu_hours <= self.spare + _ROUNDING

    def admits(self, gpu_hours: float) -> bool:
        """Whether a run that has not started may be given this much."""
        return gpu_hours <= self.left + _ROUNDING

    def covers(self, gpu_hours: float) -> bool:
        """Whether an extension by this much can be paid from what is free."""
        return gpu_hours <= self.free + _ROUNDING

    def by_arm(self) -> dict[str, Hours]:
        """Arm -> its hours, in the order of the plan."""
        arms: dict[str, list[Hours]] = {}
        for account in self.accounts:
            arms.setdefault(account.arm, []).append(account.hours)
        return {arm: Hours.sum(parts) for arm, parts in arms.items()}

    def money(self, gpu_hours: float) -> float | None:
        """What so many GPU-hours cost; None without a price."""
        return None if self.price_per_gpu_hour is None else gpu_hours * self.price_per_gpu_hour


def ledger_of(
    cap_gpu_hours: float,
    states: Iterable[RunState],
    entries: Iterable[tuple[str, LedgerEntry]] = (),
    *,
    started: Collection[str] = (),
    price_per_gpu_hour: float | None = None,
) -> Ledger:
    """The ledger of a sweep from where its runs stand.

    Args:
        cap_gpu_hours: training compute that all runs together may use.
        states: every run of the sweep, in the order of the plan.
        entries: (run id, entry) of what runs held; a run without any held what it used.
        started: ids of runs whose first trial is on its way, though none has reported yet.
        price_per_gpu_hour: money per GPU-hour held.
    """
    held: dict[str, list[LedgerEntry]] = {}
    for run_id, entry in entries:
        held.setdefault(run_id, []).append(entry)
    accounts = tuple(
        account_of(s, held.get(s.planned.run_id, ()), started=s.planned.run_id in started) for s in states
    )
    return Ledger(cap_gpu_hours, accounts, price_per_gpu_hour)


def account_of(state: RunState, entries: Iterable[LedgerEntry] = (), *, started: bool = False) -> Account:
    """The account of one run.

    A run that another sweep had measured already counts as if this sweep had paid for it, up to
    its grant, so that reuse changes no decision; points beyond the grant are another sweep's.
    """
    granted, used = state.granted_gpu_hours, used_gpu_hours(state)
    train = overhead = lost = 0.0
    for entry in entries:
        if entry.kind is LedgerKind.TRAIN:
            train += entry.gpu_hours
        elif entry.kind is LedgerKind.LOST:
            lost += entry.gpu_hours
        else:
            overhead += entry.gpu_hours
    unused = max(granted - used, 0.0)
    first = started and state.status is RunStatus.PLANNED
    status = RunStatus.RUNNING if first else state.status
    return Account(
        run_id=state.planned.run_id,
        arm=state.planned.arm,
        seed=state.planned.spec.seed,
        status=status,
        budget=state.planned.budget_gpu_hours,
        hours=Hours(
            granted=granted,
            used=used,
            held=max(train, used) + overhead + lost,
            overhead=overhead,
            lost=lost,
            promised=unused if status is RunStatus.RUNNING else 0.0,
            saved=unused if status in {RunStatus.KILLED, RunStatus.FINISHED} else 0.0,
        ),
    )


def used_gpu_hours(state: RunState) -> float:
    """Training compute of a run up to its grant and the step that reached it."""
    used, granted = 0.0, state.granted_gpu_hours
    for point in reversed(state.points):
        if used and point.gpu_hours < granted:
            break
        used = point.gpu_hours
    return min(used, granted) if state.reused else used
