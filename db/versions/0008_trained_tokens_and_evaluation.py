"""Points tell the speed of what is trained on, and the evaluation's share of the wall time."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_COLUMNS = ("trained_tokens_per_s", "evaluation_share")


def upgrade() -> None:
    """Add the columns; older points have no value there."""
    for name in _COLUMNS:
        op.add_column("points", sa.Column(name, sa.Double(), nullable=True))


def downgrade() -> None:
    """Take the columns away; what they said is lost."""
    for name in _COLUMNS:
        op.drop_column("points", name)
