"""Trials tell how they kept the code of responses from the machine."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("sandbox_at", sa.Double()),
    ("sandbox_kind", sa.String(32)),
    ("sandbox_own_user", sa.Boolean()),
    ("sandbox_seccomp", sa.Boolean()),
    ("sandbox_why", sa.Text()),
)


def upgrade() -> None:
    """Add the columns; older trials ran no code and have no value there."""
    for name, kind in _COLUMNS:
        op.add_column("trials", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    """Take the columns away; what they said is lost."""
    for name, _ in _COLUMNS:
        op.drop_column("trials", name)
