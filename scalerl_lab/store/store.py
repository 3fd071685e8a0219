"""The store: every question and every entry, each one transaction."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlalchemy import select

from scalerl_lab.decide import InForce, Ledger, in_force, ledger_of
from scalerl_lab.errors import LockHeld
from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import (
    CheckpointSaved,
    Decision,
    EndReason,
    EvalPoint,
    Fact,
    Fit,
    Forecast,
    Measurement,
    Order,
    PassCounts,
    PlannedRun,
    Proposal,
    RunState,
    RunStatus,
)
from scalerl_lab.store import conclusions, orders, outbox, plans, proposals
from scalerl_lab.store import facts as fact_rows
from scalerl_lab.store.database import Database
from scalerl_lab.store.migrate import migrate
from scalerl_lab.store.outbox import Kind
from scalerl_lab.store.rows import DecisionRow, LedgerRow, OrderRow, PlaceRow, SweepRow, TrialRow
from scalerl_lab.store.statuses import check_transition
from scalerl_lab.store.tables import DecisionTable, OrderTable, SweepRunTable

_DRIVE_WAIT_S = 2.0


def _driver(sweep_id: str) -> str:
    return f"driver.{sweep_id}"


class Store:
    """Append-only memory of sweeps: what was asked, seen, concluded and done.

    Every method is one transaction; every entry may be made again without changing anything. Several
    processes may use one database at the same time. Methods raise ``StoreError`` when the database fails.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._plans: dict[str, SweepPlan] = {}

    @classmethod
    def open(cls, url: str) -> Store:
        """Open a database, creating or migrating it first.

        Args:
            url: ``sqlite:///FILE`` or ``postgresql+psycopg://USER@HOST/NAME``.

        Raises:
            StoreError: it cannot be reached, its URL is not understood, or it is of a newer version.
        """
        database = Database(url)
        migrate(database)
        return cls(database)

    def close(self) -> None:
        """Give back all connections."""
        self.database.engine.dispose()

    # ------------------------------------------------------------ plans

    def record_plan(self, plan: SweepPlan) -> None:
        """Put a sweep and its runs on record; a run that has points already is marked as reused."""
        with self.database.write() as session:
            plans.record(session, plan)

    def plan(self, sweep_id: str) -> SweepPlan:
        """The plan as it was recorded.

        Raises:
            NotFound: no sweep has this id.
        """
        known = self._plans.get(sweep_id)
        if known is None or known.search is not None:
            # A search gets new runs while it runs, perhaps from another process.
            with self.database.read() as session:
                if known is None or plans.num_runs(session, sweep_id) != len(known.runs):
                    known = self._plans[sweep_id] = plans.read(session, sweep_id)
        return known

    def sweeps(self) -> list[SweepRow]:
        """All sweeps, newest first."""
        with self.database.read() as session:
            return plans.sweeps(session)

    def find_sweep(self, text: str) -> SweepRow:
        """The sweep with this id, name or id prefix; of several the newest.

        Raises:
            NotFound: there is none; the message names the nearest.
        """
        with self.database.read() as session:
            return plans.find_sweep(session, text)

    def find_run(self, text: str, sweep_id: str | None = None) -> list[str]:
        """Ids of the runs with this id, ``arm:seed`` or id prefix, those of the newest sweep first.

        Args:
            text: what to look for.
            sweep_id: look only in this sweep.

        Raises:
            NotFound: there is none; the message names the nearest.
        """
        with self.database.read() as session:
            return plans.find_run(session, text, sweep_id)

    def places(self, run_ids: Sequence[str], sweep_id: str | None = None) -> list[PlaceRow]:
        """The places that runs have in sweeps, or in one sweep; those in the newest sweep first."""
        with self.database.read() as session:
            return plans.places(session, run_ids, sweep_id)

    # ------------------------------------------------------------ what a search proposes

    def record_proposal(self, proposal: Proposal, runs: Sequence[PlannedRun]) -> Proposal:
        """Put a proposal and its runs on record, all or none, before any of them starts.

        Returns:
            The proposal on record under this number: another one where the number was taken before, and
            then nothing is written.
        """
        with self.database.write() as session:
            return proposals.record(session, proposal, runs)

    def proposals(self, sweep_id: str) -> tuple[Proposal, ...]:
        """All proposals of a search, in the order of their numbers; none for other sweeps."""
        with self.database.read() as session:
            return proposals.read(session, sweep_id)

    # ------------------------------------------------------------ who drives

    @contextmanager
    def driving(self, sweep_id: str) -> Iterator[None]:
        """Be the one driver of a sweep among all processes on this database, on whatever machine.

        Raises:
            LockHeld: another process drives it.
        """
        with self.database.lock(_driver(sweep_id), wait_s=_DRIVE_WAIT_S):
            yield

    def is_driven(self, sweep_id: str) -> bool:
        """Whether some process drives a sweep now."""
        try:
            with self.database.lock(_driver(sweep_id), wait_s=0.0):
                return False
        except LockHeld:
            return True

    # ------------------------------------------------------------ what workers saw

    def ingested_lines(self, run_id: str) -> int:
        """How many lines of a run's facts file are rows."""
        with self.database.read() as session:
            return fact_rows.ingested_lines(session, run_id, for_update=False)

    def ingest(self, run_id: str, first_line: int, facts: Sequence[Fact]) -> None:
        """Write facts as rows, all or none; lines that are rows already are passed over.

        Args:
            run_id: the run they are of.
            first_line: line of the first fact in the run's file, counted from 0.
            facts: one per line, without a gap.

        Raises:
            StoreError: lines before ``first_line`` are missing, or no sweep has this run.
        """
        with self.database.write() as session:
            fact_rows.ingest(session, run_id, first_line, facts)

    def points(self, run_id: str) -> tuple[EvalPoint, ...]:
        """A run's points in the order of their steps."""
        with self.database.read() as session:
            return fact_rows.points(session, [run_id]).get(run_id, ())

    def measurements(self, run_ids: Collection[str]) -> dict[str, tuple[Measurement, ...]]:
        """What was measured of runs beside their points, by step; a run without is absent."""
        with self.database.read() as session:
            return fact_rows.measurements(session, run_ids)

    def pass_counts(self, run_ids: Collection[str]) -> dict[str, tuple[PassCounts, ...]]:
        """How often each problem passed, by step; a run without counts is absent."""
        with self.database.read() as session:
            return fact_rows.pass_counts(session, run_ids)

    def trials(self, run_id: str) -> list[TrialRow]:
        """A run's attempts in the order of their numbers."""
        with self.database.read() as session:
            return [row for _, row in fact_rows.trials(session, [run_id])]

    def checkpoints(self, run_id: str) -> tuple[CheckpointSaved, ...]:
        """Every checkpoint a run has told of, oldest first; only the newest are still on disk."""
        with self.database.read() as session:
            return fact_rows.checkpoints(session, run_id)

    def ledger(self, sweep_id: str) -> list[LedgerRow]:
        """All that a sweep's runs held, in the order of the plan."""
        arms = {run.run_id: run.arm for run in self.plan(sweep_id).runs}
        place = {run_id: number for number, run_id in enumerate(arms)}
        with self.database.read() as session:
            entries = fact_rows.ledger(session, arms)
        rows = [LedgerRow(run_id, arms[run_id], entry) for run_id, entry in entries]
        return sorted(rows, key=lambda row: place[row.run_id])

    # ------------------------------------------------------------ where runs stand

    def run_states(
        self,
        sweep_id: str,
        only: Collection[str] | None = None,
        *,
        known: Mapping[str, tuple[EvalPoint, ...]] | None = None,
    ) -> list[RunState]:
        """Where each run of a sweep stands, in the order of the plan.

        Args:
            sweep_id: the sweep.
            only: ids of its runs; None: all.
            known: first points of runs, as they were read before. They never change, and are not read again.
        """
        chosen_ids = None if only is None else frozenset(only)
        planned = [run for run in self.plan(sweep_id).runs if chosen_ids is None or run.run_id in chosen_ids]
        chosen = select(SweepRunTable).filter_by(sweep_id=sweep_id)
        if only is not None:
            chosen = chosen.where(SweepRunTable.run_id.in_(chosen_ids or ()))
        with self.database.read() as session:
            places = {row.run_id: row for row in session.scalars(chosen)}
            curves = fact_rows.points(session, places, known)
            trials: defaultdict[str, list[TrialRow]] = defaultdict(list)
            for run_id, row in fact_rows.trials(session, places):
                trials[run_id].append(row)
            decisions = conclusions.last_decisions(session, sweep_id, chosen_ids)
            return [
                RunState(
                    planned=run,
                    status=RunStatus(places[run.run_id].status),
                    granted_gpu_hours=places[run.run_id].granted_gpu_hours,
                    points=curves.get(run.run_id, ()),
                    trials=max((row.started.trial for row in trials[run.run_id]), default=0),
                    failures=sum(
                        row.ended is not None and row.ended.reason is EndReason.FAILED
                        for row in trials[run.run_id]
                    ),
                    last_decision=decisions.get(run.run_id),
                    reused=places[run.run_id].reused,
                )
                for run in planned
            ]

    def set_status(self, sweep_id: str, run_id: str, status: RunStatus) -> None:
        """Change where a run stands in a sweep; ``statuses`` has the changes that are allowed.

        Raises:
            StoreError: the change is not allowed, or the sweep has no such run.
        """
        with self.database.write() as session:
            place = plans.place_of(session, sweep_id, run_id)
            before = RunStatus(place.status)
            if before is status:
                return
            check_transition(run_id, before, status)
            place.status, place.status_at = status.value, time.time()
            outbox.queue(session, [(sweep_id, run_id, Kind.RUN, None)])

    def budget(self, sweep_id: str, price_per_gpu_hour: float | None = None) -> Ledger:
        """The ledger of a sweep; its cap is the plan's, or what a person has raised it to.

        Args:
            sweep_id: the sweep.
            price_per_gpu_hour: money per GPU-hour; the sweep's own when absent.

        Raises:
            NotFound: no sweep has this id.
        """
        plan, states = self.plan(sweep_id), self.run_states(sweep_id)
        cap_gpu_hours = self.force(sweep_id).cap_gpu_hours
        price = plan.sweep.price_per_gpu_hour if price_per_gpu_hour is None else price_per_gpu_hour
        with self.database.read() as session:
            entries = fact_rows.ledger(session, [run.run_id for run in plan.runs])
        return ledger_of(cap_gpu_hours, states, entries, price_per_gpu_hour=price)

    # ------------------------------------------------------------ what people order

    def record_order(self, order: Order) -> int:
        """Put an order on record for the driver; returns its id."""
        with self.database.write() as session:
            return orders.record(session, order)

    def orders(self, sweep_id: str) -> list[OrderRow]:
        """All orders given to a sweep and its runs, oldest first."""
        with self.database.read() as session:
            return orders.read(session, OrderTable.sweep_id == sweep_id)

    def force(self, sweep_id: str) -> InForce:
        """What the orders carried out so far amount to: pins, a pause, the cap.

        Raises:
            NotFound: no sweep has this id.
        """
        carried_out = [row.order for row in self.orders(sweep_id) if row.in_force]
        return in_force(carried_out, self.plan(sweep_id).sweep_gpu_hours)

    def waiting_orders(self, sweep_id: str) -> list[OrderRow]:
        """Orders that no driver has settled yet, oldest first."""
        with self.database.read() as session:
            return orders.read(session, OrderTable.sweep_id == sweep_id, OrderTable.settled_at.is_(None))

    def carry_out(
        self, order_id: int, decisions: Sequence[Decision], *, raised_cap_to: float | None = None
    ) -> bool:
        """Put an order in force, together with the decisions that follow from it, and the cap that it takes.

        Returns:
            Whether this call did it; False where the order was settled before, and nothing is written.
        """
        with self.database.write() as session:
            return orders.settle(session, order_id, decisions, None, raised_cap_to)

    def refuse(self, order_id: int, why: str) -> None:
        """Note that an order could not be carried out."""
        with self.database.write() as session:
            orders.settle(session, order_id, (), why)

    # ------------------------------------------------------------ what was concluded

    def record_fit(self, sweep_id: str, fit: Fit, forecasts: Sequence[Forecast]) -> int:
        """Put a fit and its forecasts on record; returns its id, the same one for the same fit."""
        with self.database.write() as session:
            return conclusions.record_fit(session, sweep_id, fit, forecasts)

    def latest_fits(self, sweep_id: str) -> dict[str, tuple[Fit, tuple[Forecast, ...]]]:
        """The newest fit of each run that has one, with its forecasts."""
        with self.database.read() as session:
            return conclusions.latest_fits(session, sweep_id)

    def record_decision(self, sweep_id: str, decision: Decision, fit_id: int | None) -> int:
        """Put a decision on record before it is acted on, and raise the grant of a run it extends.

        Returns:
            The decision's id; that on record where the run's last one has this step, action and cause.
        """
        with self.database.write() as session:
            return conclusions.record_decision(session, sweep_id, decision, fit_id)

    def mark_acted(self, decision_id: int) -> None:
        """Note that a decision has been carried out; the first time counts."""
        with self.database.write() as session:
            conclusions.mark_acted(session, decision_id)

    def unacted(self, sweep_id: str) -> list[DecisionRow]:
        """Decisions still to be carried out, oldest first."""
        with self.database.read() as session:
            of_sweep = DecisionTable.sweep_id == sweep_id
            return conclusions.decisions(session, of_sweep, DecisionTable.acted_at.is_(None))

    def decisions(self, sweep_id: str | None = None, run_id: str | None = None) -> list[DecisionRow]:
        """Decisions of a sweep, of a run, or all, oldest first."""
        of_sweep = [DecisionTable.sweep_id == sweep_id] if sweep_id is not None else []
        of_run = [DecisionTable.run_id == run_id] if run_id is not None else []
        with self.database.read() as session:
            return conclusions.decisions(session, *of_sweep, *of_run)

    # ------------------------------------------------------------ the mirror

    def queue_artifact(self, sweep_id: str, run_id: str, name: str, data: bytes) -> None:
        """Have MLflow show a file with a run; a later file of the same name replaces it."""
        with self.database.write() as session:
            outbox.queue_artifact(session, sweep_id, run_id, name, data)

    def num_unsent(self, sweep_id: str) -> int:
        """How much of a sweep MLflow has not been told yet, in messages."""
        with self.database.read() as session:
            return outbox.num_waiting(session, sweep_id)

    def queue_again(self, sweep_id: str) -> None:
        """Queue a whole sweep anew, for an MLflow that has lost it."""
        run_ids = [run.run_id for run in self.plan(sweep_id).runs]
        with self.database.write() as session:
            outbox.forget_sent(session, sweep_id, run_ids)
