"""The only destination that gets a document: a message is written for one listener."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the destination; earlier documents are for every archive."""
    op.add_column("documents", sa.Column("destination", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Remove the messages, whose kind earlier versions do not know, and the destination."""
    messages = "SELECT sop_instance_uid FROM documents WHERE kind = 'message'"
    op.execute(f"DELETE FROM deliveries WHERE sop_instance_uid IN ({messages})")  # noqa: S608 - a constant
    op.execute("DELETE FROM documents WHERE kind = 'message'")
    op.drop_column("documents", "destination")
