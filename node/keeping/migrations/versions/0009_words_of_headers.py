"""No words of a header in explanations and reasons: what a person typed may be a name."""

import json
import re

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_studies = sa.table("studies", sa.column("study_instance_uid"), sa.column("explanation"))
_NOT_KEPT = "a value that is not kept"
# The attributes of the conditions of every route that are codes, numbers or UIDs.
_KEPT = frozenset(
    {"Modality", "ImageType", "Rows", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"}
)
_WORDS_OF_THE_NODE = frozenset({"header", "a further series", "number of images that fit"})
_CODED = re.compile(r"[A-Z0-9_.\\, x…-]*|absent(?: x absent)?|[0-9.]+ in the file of instance [0-9.]+")
_QUOTATIONS = (
    re.compile(
        r"((?:Series|Derivation) Description|Protocol Name|Contrast/Bolus (?:Agent|Route)) (?:is|says) .*", re.DOTALL
    ),
    re.compile(r"(the result cannot be encoded) .*", re.DOTALL),
)


def upgrade() -> None:
    """Replace the values; where the files are still there, they are read again when somebody asks."""
    _clean_explanations(op.get_bind())
    for name in ("jobs", "history"):
        _clean_reasons(op.get_bind(), sa.table(name, sa.column("id"), sa.column("reason")))


def _clean_explanations(connection: sa.Connection) -> None:
    for row in connection.execute(sa.select(_studies)).all():
        if row.explanation:
            decisions = json.loads(row.explanation)
            for check in (check for decision in decisions for check in decision["checks"]):
                if not _is_kept(check["attribute"], check["found"]):
                    check["found"] = _NOT_KEPT
            change = sa.update(_studies).where(_studies.c.study_instance_uid == row.study_instance_uid)
            connection.execute(change.values(explanation=json.dumps(decisions)))


def _clean_reasons(connection: sa.Connection, table: sa.TableClause) -> None:
    for row in connection.execute(sa.select(table)).all():
        reason = row.reason
        for pattern in _QUOTATIONS:
            reason = pattern.sub(r"\1: the words are not kept", reason)
        if reason != row.reason:
            connection.execute(sa.update(table).where(table.c.id == row.id).values(reason=reason))


def _is_kept(attribute: str, text: str) -> bool:
    return attribute in _WORDS_OF_THE_NODE or (attribute in _KEPT and bool(_CODED.fullmatch(text)))


def downgrade() -> None:
    """Change nothing: the words are gone."""
