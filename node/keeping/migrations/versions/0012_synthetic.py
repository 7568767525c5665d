"""Which studies the node made up, so that a page can say so without a name."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the mark; studies of before are without."""
    op.add_column("patient_index", sa.Column("is_synthetic", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Remove the mark."""
    op.drop_column("patient_index", "is_synthetic")
