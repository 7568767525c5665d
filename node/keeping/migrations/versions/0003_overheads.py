"""What parts of a job took, beside the reading as a whole."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of a job of before nothing is known."""
    op.add_column("jobs", sa.Column("overheads", sa.Text(), server_default="{}", nullable=False))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("jobs", "overheads")
