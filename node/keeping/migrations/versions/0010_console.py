"""What the console shows of a study: when and why it was complete, when its reading began and ended."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TIMES = ("reading_at", "finished_at")


def upgrade() -> None:
    """Add what the console reads; nothing is known of the past."""
    op.create_table(
        "completions",
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("first_received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "at", name=op.f("pk_completions")),
    )
    for name in _TIMES:
        op.add_column("jobs", sa.Column(name, sa.DateTime(timezone=True)))


def downgrade() -> None:
    """Drop what `upgrade` added."""
    for name in _TIMES:
        op.drop_column("jobs", name)
    op.drop_table("completions")
