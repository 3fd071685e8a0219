"""Append-only memory in SQL, and its one-way mirror to MLflow.

Files: ``store`` every question and entry; ``rows`` what it answers with; ``plans``, ``facts`` and
``conclusions`` records as rows and back; ``statuses`` how a run's status may change; ``tables`` the
schema; ``database`` SQLite or PostgreSQL, transactions and locks; ``migrate`` Alembic under a lock;
``outbox`` what MLflow is still to be told; ``mirror`` the process that tells it; ``ui`` MLflow's pages
on it.

To add a column or table: change ``tables``, add the next file to ``db/versions``, raise ``tables.HEAD``;
a test compares the two. To mirror something new: a kind in ``outbox``, queued in the transaction of the
fact, and a branch in ``mirror``. To add a database: a dialect in ``database`` and in the conformance
suite of the tests.

This room never decides, never changes what is on record, and never lets MLflow's outage reach a run.
"""

from scalerl_lab.store.rows import BudgetView, DecisionRow, LedgerRow, SweepRow, TrialRow
from scalerl_lab.store.store import Store

__all__ = ["BudgetView", "DecisionRow", "LedgerRow", "Store", "SweepRow", "TrialRow"]
