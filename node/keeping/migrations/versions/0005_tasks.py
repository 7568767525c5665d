"""The schedule of what remains to be done, and what stays of jobs whose documents are removed."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and tables; what remains to be done follows from the states, so the tables begin empty."""
    op.add_column("jobs", sa.Column("inputs", sa.String(32), server_default="", nullable=False))
    op.execute("UPDATE jobs SET inputs = id")
    op.add_column("jobs", sa.Column("refusal", sa.Text(), server_default="", nullable=False))
    op.add_column("jobs", sa.Column("searched", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "tasks",
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_tasks_job"),
        sa.PrimaryKeyConstraint("job", "kind", "destination", name="pk_tasks"),
    )
    op.create_table(
        "history",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("handler", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_history"),
    )
    op.create_index("ix_history_study_instance_uid", "history", ["study_instance_uid"])


def downgrade() -> None:
    """Drop tables and columns."""
    op.drop_table("history")
    op.drop_table("tasks")
    op.drop_column("jobs", "searched")
    op.drop_column("jobs", "refusal")
    op.drop_column("jobs", "inputs")
