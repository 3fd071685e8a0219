"""Proposals of a search: which values were chosen to be tried, and from how much knowledge."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of proposals."""
    op.create_table(
        "proposals",
        sa.Column("sweep_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("arm", sa.Text(), nullable=False),
        sa.Column("choice", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("method", sa.String(length=32), nullable=False),
        sa.Column("num_known", sa.Integer(), nullable=False),
        sa.Column("history", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.sweep_id"], name="fk_proposals_sweep_id_sweeps"),
        sa.PrimaryKeyConstraint("sweep_id", "number", name="pk_proposals"),
    )
