"""The tables, as typed classes: one row, one thing that happened. Numbers carry their units in their names.

    sweeps --< sweep_runs >-- runs --< trials, points, ledger, checkpoints     what was seen, per run
                                   --< measurements, pass_counts               what was seen beside the points
                  |--< fits --< decisions                                      what was concluded, per sweep
           |--< proposals                                                      what a search chose to try
                  `--< outbox                                                  what MLflow has not been told

A run is shared by every sweep that asks for the same identity; its status and its grant belong to its
place in a sweep. The schema of a database comes from ``db/versions`` and from nowhere else; a test holds
these classes against it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

VERSION_TABLE = "scalerl_alembic_version"
HEAD = "0008"
"""Newest schema version; ``db/versions`` ends with it."""


class Count(TypeDecorator[int]):
    """A whole number of any size, in decimal digits: counted operations outgrow 64 bits."""

    impl = String(40)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value)


class Table(DeclarativeBase):
    """Base of all tables: names of constraints, and which Python type is which column."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        float: Double(),
        str: Text(),
        bytes: LargeBinary(),
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
    }


_Id = String(64)
_Word = String(32)
_Name = String(128)


class SweepTable(Table):
    """A question over recipes, as it was asked."""

    __tablename__ = "sweeps"

    sweep_id: Mapped[str] = mapped_column(_Id, primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    created_at: Mapped[float]
    cap_gpu_hours: Mapped[float]
    sweep: Mapped[dict[str, Any]]
    profile: Mapped[dict[str, Any]]


class RunTable(Table):
    """An identity that points, trials and checkpoints belong to."""

    __tablename__ = "runs"

    run_id: Mapped[str] = mapped_column(_Id, primary_key=True)
    seed: Mapped[int]
    meter: Mapped[dict[str, Any]]
    created_at: Mapped[float]
    ingested_lines: Mapped[int] = mapped_column(default=0)
    """Lines of the run's facts file that are rows here."""


class SweepRunTable(Table):
    """A run's place in a sweep."""

    __tablename__ = "sweep_runs"

    sweep_id: Mapped[str] = mapped_column(ForeignKey("sweeps.sweep_id"), primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True, index=True)
    arm: Mapped[str]
    role: Mapped[str] = mapped_column(_Word)
    place: Mapped[int]
    """Order in the sweep's queue."""
    changes: Mapped[list[Any]]
    recipe: Mapped[dict[str, Any]]
    budget_gpu_hours: Mapped[float]
    granted_gpu_hours: Mapped[float]
    status: Mapped[str] = mapped_column(_Word)
    status_at: Mapped[float]
    reused: Mapped[bool]
    """Whether the run had points when the sweep was recorded."""


class TrialTable(Table):
    """One attempt to execute a run; its end stays empty when it was killed from outside."""

    __tablename__ = "trials"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    trial: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    line: Mapped[int]
    started_at: Mapped[float]
    resumed_step: Mapped[int]
    host: Mapped[str]
    pid: Mapped[int]
    code_version: Mapped[str]
    sandbox_at: Mapped[float | None]
    sandbox_kind: Mapped[str | None] = mapped_column(_Word)
    sandbox_own_user: Mapped[bool | None]
    sandbox_seccomp: Mapped[bool | None]
    sandbox_why: Mapped[str | None]
    ended_line: Mapped[int | None]
    ended_at: Mapped[float | None]
    ended_step: Mapped[int | None]
    ended_gpu_hours: Mapped[float | None]
    ended_reason: Mapped[str | None] = mapped_column(_Word)
    ended_detail: Mapped[str | None]


class PointTable(Table):
    """One held-out measurement at a compute."""

    __tablename__ = "points"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    line: Mapped[int]
    trial: Mapped[int]
    at: Mapped[float]
    gpu_hours: Mapped[float]
    pass_rate: Mapped[float]
    pass_rate_se: Mapped[float]
    num_prompts: Mapped[int]
    num_samples: Mapped[int]
    truncation_rate: Mapped[float]
    mean_tokens: Mapped[float]
    entropy: Mapped[float]
    flops: Mapped[int] = mapped_column(Count)
    train_reward: Mapped[float | None]
    grad_norm: Mapped[float | None]
    ratio_clipped: Mapped[float | None]
    mismatch: Mapped[float | None]
    lag: Mapped[float | None]
    prompts_dropped: Mapped[float | None]
    kl: Mapped[float | None]
    tokens_per_s: Mapped[float | None]
    generation_share: Mapped[float | None]
    update_share: Mapped[float | None]
    reward_share: Mapped[float | None]
    waiting_share: Mapped[float | None]
    trained_tokens_per_s: Mapped[float | None]
    evaluation_share: Mapped[float | None]


class MeasurementTable(Table):
    """A named number at a step, beside the point."""

    __tablename__ = "measurements"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    problem_set: Mapped[str] = mapped_column(_Name, primary_key=True)
    domain: Mapped[str] = mapped_column(_Name, primary_key=True)
    """Empty for all of the set."""
    metric: Mapped[str] = mapped_column(_Name, primary_key=True)
    line: Mapped[int]
    trial: Mapped[int]
    at: Mapped[float]
    gpu_hours: Mapped[float]
    value: Mapped[float]
    standard_error: Mapped[float | None]
    num_prompts: Mapped[int]
    num_samples: Mapped[int]


class PassCountsTable(Table):
    """How many of the samples of each problem passed."""

    __tablename__ = "pass_counts"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    problem_set: Mapped[str] = mapped_column(_Name, primary_key=True)
    domain: Mapped[str] = mapped_column(_Name, primary_key=True)
    line: Mapped[int]
    trial: Mapped[int]
    at: Mapped[float]
    gpu_hours: Mapped[float]
    samples_per_prompt: Mapped[int]
    max_k: Mapped[int]
    passed: Mapped[list[Any]]
    """One count a problem."""


class LedgerTable(Table):
    """GPU-hours held, once."""

    __tablename__ = "ledger"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    trial: Mapped[int]
    at: Mapped[float]
    kind: Mapped[str] = mapped_column(_Word)
    gpu_hours: Mapped[float]
    wall_s: Mapped[float]
    flops: Mapped[int] = mapped_column(Count)
    from_step: Mapped[int]
    to_step: Mapped[int]


class CheckpointTable(Table):
    """A state from which the run continues."""

    __tablename__ = "checkpoints"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    line: Mapped[int]
    trial: Mapped[int]
    at: Mapped[float]
    gpu_hours: Mapped[float]
    path: Mapped[str]
    digest: Mapped[str]
    num_bytes: Mapped[int] = mapped_column(BigInteger)


class FitTable(Table):
    """What a run's points said of its law, with the forecasts made from it."""

    __tablename__ = "fits"
    __table_args__ = (
        ForeignKeyConstraint(["sweep_id", "run_id"], ["sweep_runs.sweep_id", "sweep_runs.run_id"]),
        UniqueConstraint("sweep_id", "run_id", "digest"),
    )

    fit_id: Mapped[int] = mapped_column(primary_key=True)
    sweep_id: Mapped[str] = mapped_column(_Id)
    run_id: Mapped[str] = mapped_column(_Id)
    at: Mapped[float]
    status: Mapped[str] = mapped_column(_Word)
    num_points: Mapped[int]
    last_gpu_hours: Mapped[float | None]
    ceiling: Mapped[float | None]
    """Posterior median, as the two below; the whole posterior summary is in ``fit``."""
    efficiency: Mapped[float | None]
    midpoint_gpu_hours: Mapped[float | None]
    fit: Mapped[dict[str, Any]]
    forecasts: Mapped[list[Any]]
    digest: Mapped[str] = mapped_column(_Id)
    """Of fit and forecasts: the same conclusion is one row."""


class DecisionTable(Table):
    """Continue, kill, extend or finish, with its reason and the numbers it rests on."""

    __tablename__ = "decisions"
    __table_args__ = (
        ForeignKeyConstraint(["sweep_id", "run_id"], ["sweep_runs.sweep_id", "sweep_runs.run_id"]),
        Index(None, "sweep_id", "run_id"),
    )

    decision_id: Mapped[int] = mapped_column(primary_key=True)
    sweep_id: Mapped[str] = mapped_column(_Id)
    run_id: Mapped[str] = mapped_column(_Id)
    fit_id: Mapped[int | None] = mapped_column(ForeignKey("fits.fit_id"))
    at: Mapped[float]
    step: Mapped[int]
    gpu_hours: Mapped[float]
    action: Mapped[str] = mapped_column(_Word)
    cause: Mapped[str] = mapped_column(_Word)
    reason: Mapped[str]
    granted_gpu_hours: Mapped[float]
    evidence: Mapped[dict[str, Any]]
    acted_at: Mapped[float | None]
    """When it had been carried out."""


class OrderTable(Table):
    """What a person ordered, and what came of it."""

    __tablename__ = "orders"
    __table_args__ = (
        ForeignKeyConstraint(["sweep_id", "run_id"], ["sweep_runs.sweep_id", "sweep_runs.run_id"]),
        Index(None, "sweep_id", "settled_at"),
    )

    order_id: Mapped[int] = mapped_column(primary_key=True)
    sweep_id: Mapped[str] = mapped_column(ForeignKey("sweeps.sweep_id"))
    run_id: Mapped[str | None] = mapped_column(_Id)
    """Empty for an order to the sweep."""
    kind: Mapped[str] = mapped_column(_Word)
    to_gpu_hours: Mapped[float | None]
    raise_cap: Mapped[bool] = mapped_column(server_default=false())
    ordered_by: Mapped[str]
    why: Mapped[str]
    at: Mapped[float]
    settled_at: Mapped[float | None]
    """When the driver took it into force, or refused it."""
    refused: Mapped[str | None]
    """Why it could not be carried out, if so."""


class ProposalTable(Table):
    """An arm of a search, written together with its runs before any of them starts."""

    __tablename__ = "proposals"

    sweep_id: Mapped[str] = mapped_column(ForeignKey("sweeps.sweep_id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    arm: Mapped[str]
    choice: Mapped[dict[str, Any]]
    """Key path of the recipe -> value."""
    method: Mapped[str] = mapped_column(_Word)
    num_known: Mapped[int]
    history: Mapped[str] = mapped_column(_Id)
    at: Mapped[float]


class OutboxTable(Table):
    """What MLflow is still to be told, written in the transaction of the fact itself."""

    __tablename__ = "outbox"
    __table_args__ = (
        ForeignKeyConstraint(["sweep_id", "run_id"], ["sweep_runs.sweep_id", "sweep_runs.run_id"]),
        Index(None, "sweep_id", "sent_at"),
    )

    outbox_id: Mapped[int] = mapped_column(primary_key=True)
    sweep_id: Mapped[str] = mapped_column(_Id)
    run_id: Mapped[str] = mapped_column(_Id)
    kind: Mapped[str] = mapped_column(_Word)
    ref: Mapped[int | None]
    """A point's step, or a fit's id."""
    name: Mapped[str | None]
    """An artifact's file name."""
    data: Mapped[bytes | None]
    """An artifact's content."""
    queued_at: Mapped[float]
    sent_at: Mapped[float | None]
