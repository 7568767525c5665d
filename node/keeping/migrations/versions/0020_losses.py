"""How a process ended that worked at jobs, who took each reading last, and how many processes ended with a reading."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; of processes that ended before nobody knows how."""
    op.add_column("executors", sa.Column("departure", sa.String(16), nullable=False, server_default=""))
    op.add_column("tasks", sa.Column("executor", sa.String(128), nullable=False, server_default=""))
    op.add_column("tasks", sa.Column("losses", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Remove the columns."""
    op.drop_column("tasks", "losses")
    op.drop_column("tasks", "executor")
    op.drop_column("executors", "departure")
