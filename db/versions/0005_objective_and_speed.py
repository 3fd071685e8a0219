"""Points tell the KL to the reference, and where the wall time of their steps went."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMNS = (
    "kl",
    "tokens_per_s",
    "generation_share",
    "update_share",
    "reward_share",
    "waiting_share",
)


def upgrade() -> None:
    """Add the columns; older points have no value there."""
    for name in _COLUMNS:
        op.add_column("points", sa.Column(name, sa.Double(), nullable=True))


def downgrade() -> None:
    """Take the columns away; what they said is lost."""
    for name in _COLUMNS:
        op.drop_column("points", name)
