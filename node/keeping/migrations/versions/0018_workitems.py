"""The workitems of worklists that the node claims: a claim is written before it is sent."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; no earlier version claimed an item."""
    time = sa.DateTime(timezone=True)
    op.create_table(
        "workitems",
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("uid", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("transaction_uid", sa.String(64), nullable=False),
        sa.Column("found_at", time, nullable=False),
        *(sa.Column(name, time) for name in ("claimed_at", "decided_at", "ended_at")),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("is_cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.String(16), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", time),
        sa.PrimaryKeyConstraint("peer", "uid", name=op.f("pk_workitems")),
    )
    op.create_index(op.f("ix_workitems_state"), "workitems", ["state"])
    op.create_index(op.f("ix_workitems_study_instance_uid"), "workitems", ["study_instance_uid"])


def downgrade() -> None:
    """Remove the table: what the node claimed stays claimed in the worklist."""
    op.drop_table("workitems")
