"""Which job of another route took the place of a job, such as of a route that went live in the place of the former."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; no job of before has such a successor."""
    op.add_column("jobs", sa.Column("successor", sa.String(32), nullable=False, server_default=""))


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("jobs", "successor")
