"""When an archive was asked again for a document and still had it."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the time; of earlier questions nobody knows it."""
    op.add_column("deliveries", sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Remove the time."""
    op.drop_column("deliveries", "checked_at")
