"""Where a driver takes orders: reads what people ordered, settles each once, says what is in force."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from scalerl_lab.decide import InForce, Ledger, check_order, decisions_of, raised_cap
from scalerl_lab.errors import LabError
from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import Decision, Order, RunState
from scalerl_lab.store import Store


@dataclass(frozen=True, slots=True)
class Settled:
    """An order that was just settled, with what follows from it."""

    order: Order
    decisions: tuple[Decision, ...]
    refused: str | None


class OrderDesk:
    """Settles the orders to one sweep; ``decide.orders`` has the rules.

    An order and the decisions that follow from it are written in one transaction, so whoever dies and
    when, it is carried out once.
    """

    def __init__(self, store: Store, plan: SweepPlan) -> None:
        self._store, self._plan = store, plan
        self.force: InForce = store.force(plan.sweep_id)

    @property
    def has_orders(self) -> bool:
        """Whether an order waits to be settled."""
        return bool(self._store.waiting_orders(self._plan.sweep_id))

    def settle(
        self, states: Callable[[], Sequence[RunState]], ledger: Callable[[], Ledger]
    ) -> Iterator[Settled]:
        """Settle what waits, oldest first.

        Args:
            states: where every run stands; asked anew for each order.
            ledger: the sweep's ledger at that moment.

        Yields:
            Each order that this call settled; the caller follows it before the next one is settled.
        """
        for row in self._store.waiting_orders(self._plan.sweep_id):
            order, runs, budget = row.order, states(), ledger()
            try:
                check_order(order, runs, budget, self.force, is_search=self._plan.search is not None)
            except LabError as error:
                self._store.refuse(row.order_id, str(error))
                yield Settled(order, (), str(error))
                continue
            decisions = decisions_of(order, runs)
            run = next((run for run in runs if run.planned.run_id == order.run_id), None)
            cap = raised_cap(order, run, budget) if order.raise_cap and run is not None else None
            if self._store.carry_out(row.order_id, decisions, raised_cap_to=cap):
                self.force = self._store.force(self._plan.sweep_id)
                yield Settled(order, tuple(decisions), None)
