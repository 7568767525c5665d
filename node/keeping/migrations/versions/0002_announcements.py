"""What was announced or asked for by the web interface, and the places that a job is to look at."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the announcements; a job of before looks at no place in particular."""
    op.create_table(
        "announcements",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("announced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("expected", sa.Integer(), nullable=True),
        sa.Column("read_now", sa.Boolean(), nullable=False),
        sa.Column("locations", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("pk_announcements")),
    )
    op.create_index(op.f("ix_announcements_state"), "announcements", ["state"], unique=False)
    op.add_column("jobs", sa.Column("locations", sa.Text(), server_default="[]", nullable=False))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("jobs", "locations")
    op.drop_index(op.f("ix_announcements_state"), table_name="announcements")
    op.drop_table("announcements")
