"""Whether the route of a job was live or a shadow when the job was opened: the route may be the other since."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; an older job with destinations, or that is withheld, was of a live route."""
    op.add_column("jobs", sa.Column("mode", sa.String(16), server_default="", nullable=False))
    jobs = sa.table("jobs", *(sa.column(name) for name in ("mode", "destinations", "withheld")))
    is_of_live_route = (jobs.c.destinations != "[]") | (jobs.c.withheld != "")
    op.execute(sa.update(jobs).where(is_of_live_route).values(mode="live"))


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("jobs", "mode")
