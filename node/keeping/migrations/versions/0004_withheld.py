"""Why the documents of a job on a live route stay in the node."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; no document of an older job was withheld."""
    op.add_column("jobs", sa.Column("withheld", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("jobs", "withheld")
