"""Named measurements beside the points, and the counts of passes that pass@k is computed from."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "measurements",
        *_place(),
        sa.Column("metric", sa.String(length=128), nullable=False),
        *_origin(),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("standard_error", sa.Double(), nullable=True),
        sa.Column("num_prompts", sa.Integer(), nullable=False),
        sa.Column("num_samples", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_measurements_run_id_runs"),
        sa.PrimaryKeyConstraint("run_id", "step", "problem_set", "domain", "metric", name="pk_measurements"),
    )
    op.create_table(
        "pass_counts",
        *_place(),
        *_origin(),
        sa.Column("samples_per_prompt", sa.Integer(), nullable=False),
        sa.Column("max_k", sa.Integer(), nullable=False),
        sa.Column("passed", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_pass_counts_run_id_runs"),
        sa.PrimaryKeyConstraint("run_id", "step", "problem_set", "domain", name="pk_pass_counts"),
    )


def downgrade() -> None:
    """Drop both tables; the runs' own files still hold what was in them."""
    op.drop_table("pass_counts")
    op.drop_table("measurements")


def _place() -> tuple[sa.Column, ...]:
    return (
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("problem_set", sa.String(length=128), nullable=False),
        sa.Column("domain", sa.String(length=128), nullable=False),
    )


def _origin() -> tuple[sa.Column, ...]:
    return (
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("trial", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("gpu_hours", sa.Double(), nullable=False),
    )
