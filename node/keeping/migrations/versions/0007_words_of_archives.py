"""The words of an archive, all requests of commitment, and whether an archive is asked for a proof no more."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TEXTS = ("archive_comment", "proof_comment", "transactions")


def upgrade() -> None:
    """Add the columns; the open request of an older delivery is one of its requests."""
    for name in _TEXTS:
        op.add_column("deliveries", sa.Column(name, sa.Text(), server_default="", nullable=False))
    op.add_column("deliveries", sa.Column("settled", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.execute("UPDATE deliveries SET transactions = transaction_uid")


def downgrade() -> None:
    """Drop the columns."""
    for name in (*_TEXTS, "settled"):
        op.drop_column("deliveries", name)
