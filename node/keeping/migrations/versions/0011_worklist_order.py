"""Where the rows of a study stand in the worklist: all of them at the place of the newest."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the time by which a study is listed, and the index that the worklist walks along."""
    op.add_column("jobs", sa.Column("listed_at", sa.DateTime(timezone=True)))
    op.execute(
        "UPDATE jobs SET listed_at = (SELECT max(other.queued_at) FROM jobs AS other "
        "WHERE other.study_instance_uid = jobs.study_instance_uid)"
    )
    op.drop_index("ix_jobs_queued_at", "jobs")
    columns = ["listed_at", "study_instance_uid", "route", "id", "queued_at", "state", "priority"]
    op.create_index("ix_jobs_listed_at", "jobs", columns)


def downgrade() -> None:
    """Walk along the time of each job again."""
    op.drop_index("ix_jobs_listed_at", "jobs")
    op.create_index(
        "ix_jobs_queued_at", "jobs", ["queued_at", "id", "study_instance_uid", "route", "state", "priority"]
    )
    op.drop_column("jobs", "listed_at")
