"""Replay: runs on record under a policy, with a limited number of slots and a cap, on a fake clock.

The clock counts the GPU-hours that one slot has burnt since the start. A run that holds a slot advances
with it and reports each recorded point when its compute is reached; where slots suffice, all runs advance in
lock-step. What is reported at the same moment is there before the policy is asked about any of it, so
that runs asked at one moment are judged by the same facts. A kill or a pause frees the slot, and what the
run had left in the ledger, at once. At its grant, or where its record ends, a run is asked about once more:
it is extended, or it is over.

Nothing here judges a run: ``policies.Forecast`` asks ``analyse``, as the driver does, and admission and
extension go through ``ledger``, as the driver's do. Policies of others, which know no grants, spend as they
go: every run may start, and all ends when the cap is used.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from scalerl_lab.decide.ledger import Ledger, ledger_of
from scalerl_lab.decide.recorded import SAME, Recorded, RecordedRun
from scalerl_lab.records import Cause, Decision, RunState, RunStatus

CAP_REACHED = "cap"
"""Cause of an end: the next point was not paid for."""


class Move(StrEnum):
    """What a policy wants done with a run."""

    CONTINUE = "continue"
    """Go on; a run that is paused goes on when a slot is free."""
    PAUSE = "pause"
    """Give the slot back; it may go on later."""
    KILL = "kill"
    EXTEND = "extend"
    FINISH = "finish"
    """No more is needed of it: at its grant, or before it where its answer is known."""


@dataclass(frozen=True, slots=True)
class Order:
    """A policy's word on one run."""

    run_id: str
    move: Move
    cause: str
    """One word, for counting."""
    reason: str
    granted_gpu_hours: float | None = None
    """With ``EXTEND``: what the run may use in all."""
    decision: Decision | None = None
    """Behind it, where the policy is the lab's own."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a policy is told when a run has reported."""

    clock: float
    run: RunState
    runs: tuple[RunState, ...]
    """All of the sweep, in the order of the queue; the run included."""
    cap_gpu_hours: float
    at_end: bool
    """Whether the run has used its grant, or its record ends."""

    @property
    def ledger(self) -> Ledger:
        """The sweep's books at this moment."""
        return ledger_of(self.cap_gpu_hours, self.runs)


class Policy(Protocol):
    """A rule of stopping; one object serves one replay."""

    promises: bool
    """Whether a run is started only on its whole grant, as the lab does; else spent as it goes."""

    @property
    def first_share(self) -> float:
        """Of its budget, what each run is granted at first; the rest is for extensions."""
        ...

    def answer(self, asked: Asked) -> Sequence[Order]:
        """Orders on any runs after a point; a run that none names goes on, or is over at its end."""
        ...

    def choose(self, waiting: Sequence[str], paused: Sequence[str]) -> str | None:
        """Which run that has not started, or was paused, gets a free slot; None leaves it free."""
        ...

    def over(self, run_id: str) -> Sequence[Order]:
        """Told that a run is over by itself; orders on others."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """An order that was carried out."""

    clock: float
    spent_gpu_hours: float
    """By the whole sweep, by then."""
    gpu_hours: float
    """Compute of the run."""
    order: Order


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run."""

    state: RunState
    """With the points it reported."""
    move: Move | None
    """The last word that stopped it: ``KILL`` or ``FINISH``; ``PAUSE`` where it never went on again; None: it
    ended by itself, was cut off by the cap, or never started."""
    cause: str
    budget_gpu_hours: float
    """Up to which its record serves."""

    @property
    def killed(self) -> bool:
        """Whether it was stopped as not worth going on with."""
        return self.move in (Move.KILL, Move.PAUSE)


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay from its first moment to its last."""

    outcomes: tuple[Outcome, ...]
    """In the order of the queue."""
    events: tuple[Event, ...]
    """Every order but to go on, in time order."""
    spending: tuple[tuple[float, float], ...]
    """(clock, GPU-hours spent by the sweep) at every moment when something was reported."""
    clock: float
    asked: int
    """How many times the policy was asked."""

    @property
    def spent_gpu_hours(self) -> float:
        """Training compute of all runs."""
        return sum(outcome.state.gpu_hours for outcome in self.outcomes)


@dataclass(slots=True)
class _Run:
    """A run on its way."""

    record: RecordedRun
    place: int
    """In the queue."""
    granted: float
    status: RunStatus = RunStatus.PLANNED
    paused: bool = False
    seen: int = 0
    last: Decision | None = None
    move: Move | None = None
    cause: str = ""
    slot_since: float | None = None
    """Clock at which compute 0 would have been, had it held this slot from its start; None: no slot."""
    generation: int = 0
    """Events of earlier slots are void."""
    state_of: RunState | None = None

    @property
    def used(self) -> float:
        return self.record.points[self.seen - 1].gpu_hours if self.seen else 0.0

    @property
    def at_end(self) -> bool:
        return self.used >= self.granted * (1.0 - SAME) or self.seen == len(self.record.points)

    @property
    def state(self) -> RunState:
        """As the store would tell it."""
        if self.state_of is None:
            self.state_of = RunState(
                planned=self.record.planned,
                status=self.status,
                granted_gpu_hours=self.granted,
                points=self.record.points[: self.seen],
                trials=int(self.seen > 0),
                failures=0,
                last_decision=self.last,
                reused=False,
            )
        return self.state_of


@dataclass(slots=True)
class _Replay:
    """The event queue; see the module's docstring."""

    recorded: Recorded
    policy: Policy
    slots: int
    cap: float
    runs: dict[str, _Run]
    clock: float = 0.0
    queue: list[tuple[float, int, str, int]] = field(default_factory=list)
    """(clock, place in the queue, run, generation)."""
    events: list[Event] = field(default_factory=list)
    spending: list[tuple[float, float]] = field(default_factory=list)
    asked: int = 0
    ended: bool = False
    """Whether a run was over since runs at their grants were last asked about."""
    states: tuple[RunState, ...] | None = None
    books: Ledger | None = None
    """How all runs stand, and the ledger of it; None once something has changed."""

    def run(self) -> Replayed:
        """To the last moment."""
        self._fill()
        while self.queue:
            reported = self._advance()
            self.spending.append((self.clock, self._spent()))
            for run in reported:
                if run.slot_since is not None:
                    self._ask(run)
            self._reconsider()
            self._fill()
        return Replayed(
            tuple(self._outcome(run) for run in self.runs.values()),
            tuple(self.events),
            tuple(self.spending),
            self.clock,
            self.asked,
        )

    def _advance(self) -> list[_Run]:
        """Bring the clock to the next report; every run that reports then, in the order of the queue."""
        now = self.queue[0][0]
        reported: list[_Run] = []
        while self.queue and self.queue[0][0] <= now + SAME * max(now, 1.0):
            _, _, run_id, generation = heapq.heappop(self.queue)
            run = self.runs[run_id]
            if run.slot_since is None or generation != run.generation:
                continue
            self.clock = max(self.clock, now)
            if self._beyond_cap(run):
                self._end(run, None, CAP_REACHED)
                continue
            run.seen += 1
            self._changed(run)
            reported.append(run)
        return sorted(reported, key=lambda run: run.place)

    def _beyond_cap(self, run: _Run) -> bool:
        """Whether the run's next point is not paid for; what is promised always is."""
        step = run.record.points[run.seen].gpu_hours - run.used
        return not self.policy.promises and self._spent() + step > self.cap * (1.0 + SAME)

    def _fill(self) -> None:
        """Give free slots to runs that wait, as far as the ledger allows."""
        while self._live() < self.slots:
            ready = [run for run in self.runs.values() if self._may_start(run)]
            waiting = [run.record.run_id for run in ready if not run.paused]
            paused = [run.record.run_id for run in ready if run.paused]
            chosen = self.policy.choose(waiting, paused) if ready else None
            if chosen is None:
                return
            self._start(self.runs[chosen])

    def _may_start(self, run: _Run) -> bool:
        if run.slot_since is not None or run.at_end:
            return False
        if run.status is RunStatus.PLANNED:
            return not self.policy.promises or self._ledger().admits(run.granted)
        return run.status is RunStatus.RUNNING

    def _start(self, run: _Run) -> None:
        run.status, run.paused, run.generation = RunStatus.RUNNING, False, run.generation + 1
        run.move, run.cause = None, ""
        # What was measured before training is known when the run starts.
        while run.seen < len(run.record.points) - 1 and run.record.points[run.seen].gpu_hours <= 0.0:
            run.seen += 1
        run.slot_since = self.clock - run.used
        self._changed(run)
        self._schedule(run)

    def _schedule(self, run: _Run) -> None:
        """Queue the run's next point."""
        assert run.slot_since is not None
        at = run.slot_since + run.record.points[run.seen].gpu_hours
        heapq.heappush(self.queue, (at, run.place, run.record.run_id, run.generation))

    def _ask(self, run: _Run) -> None:
        self.asked += 1
        for order in self.policy.answer(self._question(run)):
            self._obey(order)
        if run.slot_since is None:
            return
        if run.at_end:
            self._end(run, None, "")
        else:
            self._schedule(run)

    def _question(self, run: _Run) -> Asked:
        return Asked(self.clock, run.state, self._states(), self.cap, run.at_end)

    def _obey(self, order: Order) -> None:
        run = self.runs[order.run_id]
        if order.decision is not None:
            run.last = order.decision
            self._changed(run)
        if order.move is Move.CONTINUE:
            run.paused = False
            return
        if run.status in (RunStatus.KILLED, RunStatus.FINISHED) and order.move is not Move.EXTEND:
            return
        self.events.append(Event(self.clock, self._spent(), run.used, order))
        match order.move:
            case Move.EXTEND:
                assert order.granted_gpu_hours is not None
                later = [p.gpu_hours for p in run.record.points if p.gpu_hours > run.used * (1.0 + SAME)]
                free = self._ledger().free
                paid = [hours for hours in later if hours - run.granted <= free * (1.0 + SAME) + SAME]
                if paid:
                    # Up to the first point that reaches the grant, or what is free: none lies in between.
                    grant = order.granted_gpu_hours
                    run.granted = next((hours for hours in paid if hours >= grant), paid[-1])
                    run.status, run.move, run.cause = RunStatus.RUNNING, None, ""
                    self._changed(run)
            case Move.PAUSE:
                run.paused, run.slot_since, run.move, run.cause = True, None, Move.PAUSE, order.cause
                self._changed(run)
            case Move.KILL | Move.FINISH:
                self._end(run, order.move, order.cause)

    def _end(self, run: _Run, move: Move | None, cause: str) -> None:
        run.status = RunStatus.KILLED if move is Move.KILL else RunStatus.FINISHED
        run.slot_since, run.paused, run.move, run.cause = None, False, move, cause
        self._changed(run)
        self.ended = True
        for order in self.policy.over(run.record.run_id):
            self._obey(order)

    def _reconsider(self) -> None:
        """Ask again about runs that ended at their grant, each time that another is over, or waits no longer:
        it freed hours, or leaves them to others."""
        while self.ended and self.policy.promises:
            self.ended = False
            for run in self.runs.values():
                if run.status is RunStatus.FINISHED and run.at_end and run.seen < len(run.record.points):
                    self.asked += 1
                    for order in self.policy.answer(self._question(run)):
                        self._answer_again(run, order)

    def _answer_again(self, run: _Run, order: Order) -> None:
        if order.move is Move.EXTEND:
            self._obey(order)
        elif order.decision is not None and order.move is Move.FINISH:
            waited = run.last is not None and run.last.cause is Cause.NO_HOURS
            self.ended |= waited and order.decision.cause is not Cause.NO_HOURS
            run.last = order.decision
            self._changed(run)

    def _changed(self, run: _Run) -> None:
        run.state_of = self.states = self.books = None

    def _states(self) -> tuple[RunState, ...]:
        if self.states is None:
            self.states = tuple(run.state for run in self.runs.values())
        return self.states

    def _ledger(self) -> Ledger:
        if self.books is None:
            self.books = ledger_of(self.cap, self._states())
        return self.books

    def _live(self) -> int:
        return sum(run.slot_since is not None for run in self.runs.values())

    def _spent(self) -> float:
        return sum(run.used for run in self.runs.values())

    def _outcome(self, run: _Run) -> Outcome:
        budget = run.record.reached(run.record.planned.budget_gpu_hours)
        return Outcome(run.state, run.move, run.cause, budget)


def replay(
    recorded: Recorded,
    policy: Policy,
    *,
    slots: int | None = None,
    cap_gpu_hours: float | None = None,
) -> Replayed:
    """Run a sweep on record under a policy.

    Args:
        recorded: the runs and what they would report.
        policy: a new object; it may keep what it has seen.
        slots: runs that advance at a time; None: as many as there are runs, in lock-step.
        cap_gpu_hours: for all runs together; None: the sweep's own, else the sum of the budgets.

    Raises:
        ValueError: a number of slots or a cap that is not above 0, or a run without a trained point.
    """
    if slots is not None and slots < 1:
        raise ValueError(f"slots: found {slots}, at least 1 is needed")
    cap = cap_gpu_hours or recorded.sweep.budget.sweep_gpu_hours or recorded.full_gpu_hours
    if not cap > 0.0:
        raise ValueError(f"a cap of {cap} GPU-hours; more than 0 are needed")
    empty = [run.run_id for run in recorded.runs if not any(p.gpu_hours > 0.0 for p in run.points)]
    if empty:
        raise ValueError(f"no trained point of {', '.join(empty)}")
    runs = {
        run.run_id: _Run(run, place, run.reached(policy.first_share * run.planned.budget_gpu_hours))
        for place, run in enumerate(recorded.runs)
    }
    return _Replay(recorded, policy, slots or len(runs), cap, runs).run()
