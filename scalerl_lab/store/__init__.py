"""Append-only memory in SQL, and its one-way mirror to MLflow.

Files: ``store`` every question and entry; ``rows`` what it answers with; ``plans``, ``facts`` and
``conclusions`` records as rows and back; ``statuses`` how a run's status may change; ``tables`` the
schema; ``orders`` what people order; ``proposals`` what a search chose to try; ``database`` SQLite or
PostgreSQL, transactions and locks; ``migrate`` Alembic under a lock; ``outbox`` what MLflow is still to
be told; ``mirrored`` in which words; ``mirror`` the process that tells it; ``charts`` how its Charts page
looks; ``ui`` MLflow's server on it.

To add a column or table: change ``tables``, add the next file to ``db/versions``, raise ``tables.HEAD``;
a test compares the two. To mirror something new: a kind in ``outbox``, queued in the transaction of the
fact, its words in ``mirrored``, and a branch in ``mirror``. To add a database: a dialect in ``database``
and in the conformance suite of the tests.

This room never decides, never changes what is on record, and never lets MLflow's outage reach a run.
"""

from scalerl_lab.store.charts import charts_url
from scalerl_lab.store.migrate import SchemaSeen, look_at_database
from scalerl_lab.store.rows import DecisionRow, LedgerRow, OrderRow, PlaceRow, SweepRow, TrialRow
from scalerl_lab.store.store import Store
from scalerl_lab.store.ui import look_at_mlflow, serve_ui, sweep_pages, ui_command, ui_server

__all__ = [
    "DecisionRow",
    "LedgerRow",
    "OrderRow",
    "PlaceRow",
    "SchemaSeen",
    "Store",
    "SweepRow",
    "TrialRow",
    "charts_url",
    "look_at_database",
    "look_at_mlflow",
    "serve_ui",
    "sweep_pages",
    "ui_command",
    "ui_server",
]
