"""When a result was withdrawn that nobody answers for any more, as its route is gone and later images came."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of what was withdrawn before, the ledger knows no time."""
    op.add_column("jobs", sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("jobs", "withdrawn_at")
