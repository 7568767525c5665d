"""The identifiers of the studies that an Orthanc announced."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; an older announcement names a Study Instance UID alone."""
    op.add_column("announcements", sa.Column("orthanc_studies", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("announcements", "orthanc_studies")
