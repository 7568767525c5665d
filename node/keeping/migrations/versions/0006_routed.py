"""Whether a study is routed as it is, what of the study could not be read, and what keeps it from being routed."""

import hashlib
import json
from collections.abc import Iterable
from itertools import groupby

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_studies = sa.table(
    "studies", sa.column("study_instance_uid"), sa.column("content_hash"), sa.column("is_routed", sa.Boolean())
)
_instances = sa.table("instances", sa.column("study_instance_uid"), sa.column("sop_instance_uid"), sa.column("sha256"))


def upgrade() -> None:
    """Add the columns; a study is routed if the digest of its instances is the one that was routed."""
    op.add_column("studies", sa.Column("is_routed", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("studies", sa.Column("problem", sa.Text(), server_default="", nullable=False))
    op.add_column("studies", sa.Column("fault", sa.Text(), server_default="", nullable=False))
    op.create_index("ix_studies_is_routed", "studies", ["is_routed"])
    connection = op.get_bind()
    routed = {row.study_instance_uid: row.content_hash for row in connection.execute(sa.select(_studies))}
    rows = connection.execute(sa.select(_instances).order_by(_instances.c.study_instance_uid))
    studies = [
        study
        for study, group in groupby(rows, key=lambda row: row.study_instance_uid)
        if _digest(group) == routed.get(study)
    ]
    for study in studies:
        connection.execute(sa.update(_studies).where(_studies.c.study_instance_uid == study).values(is_routed=True))


def _digest(rows: Iterable[sa.Row[tuple[str, str, str]]]) -> str:
    content = sorted((row.sop_instance_uid, row.sha256) for row in rows)
    return hashlib.sha256(json.dumps([content]).encode()).hexdigest()


def downgrade() -> None:
    """Drop the columns."""
    op.drop_index("ix_studies_is_routed", "studies")
    op.drop_column("studies", "fault")
    op.drop_column("studies", "problem")
    op.drop_column("studies", "is_routed")
