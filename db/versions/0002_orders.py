"""Orders of people; a run may be decided on alike twice, as a revived run can be killed at the same step."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the orders; the rule that equal decisions are one row leaves the schema for the store."""
    with op.batch_alter_table("decisions") as decisions:
        decisions.drop_constraint("uq_decisions_sweep_id_run_id_step_action", type_="unique")
    op.create_index("ix_decisions_sweep_id_run_id", "decisions", ["sweep_id", "run_id"], unique=False)
    op.create_table(
        "orders",
        sa.Column("order_id", sa.Integer(), nullable=False),
        sa.Column("sweep_id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("to_gpu_hours", sa.Double(), nullable=True),
        sa.Column("ordered_by", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("settled_at", sa.Double(), nullable=True),
        sa.Column("refused", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.sweep_id"], name="fk_orders_sweep_id_sweeps"),
        sa.ForeignKeyConstraint(
            ["sweep_id", "run_id"],
            ["sweep_runs.sweep_id", "sweep_runs.run_id"],
            name="fk_orders_sweep_id_run_id_sweep_runs",
        ),
        sa.PrimaryKeyConstraint("order_id", name="pk_orders"),
    )
    op.create_index("ix_orders_sweep_id_settled_at", "orders", ["sweep_id", "settled_at"], unique=False)
