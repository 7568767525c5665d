"""With what kind of weights each answer was made, so that a list can mark those of the demonstration."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_READ_AT_ONCE = 500

_answers = sa.table("answers", sa.column("job"), sa.column("weights_status"))


def upgrade() -> None:
    """Add the status, from the results that are still kept."""
    op.add_column("answers", sa.Column("weights_status", sa.String(16), nullable=False, server_default=""))
    connection = op.get_bind()
    for name in ("history", "jobs"):
        last = ""
        while batch := connection.execute(_kept(name, last)).all():
            last = batch[-1].id
            for row in batch:
                status = (json.loads(row.result).get("algorithm") or {}).get("weights_status", "")
                connection.execute(sa.update(_answers).where(_answers.c.job == row.id).values(weights_status=status))


def _kept(name: str, after: str) -> sa.Select[tuple[str, str]]:
    """Return the question for the next results that a table keeps."""
    table = sa.table(name, sa.column("id"), sa.column("result"))
    return sa.select(table).where(table.c.id > after, table.c.result != "").order_by(table.c.id).limit(_READ_AT_ONCE)


def downgrade() -> None:
    """Remove the status."""
    op.drop_column("answers", "weights_status")
