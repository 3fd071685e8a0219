"""An order to a run may raise the cap of its sweep by what it lacks."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; earlier orders raised the cap by an order of its own."""
    op.add_column("orders", sa.Column("raise_cap", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Take it away; orders that wait then have the cap as it is."""
    op.drop_column("orders", "raise_cap")
