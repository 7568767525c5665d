"""What the console shows of a study: when and why it was complete, when it was read, why no route took it."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TIMES = ("reading_at", "finished_at")

_studies = sa.table(
    "studies",
    *map(sa.column, ("study_instance_uid", "explanation", "problem", "is_routed")),
    sa.column("last_received_at", sa.DateTime(timezone=True)),
)


def upgrade() -> None:
    """Add what the console reads; of the past, why no route took a study is known alone."""
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
    mismatches = op.create_table(
        "mismatches",
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("attribute", sa.Text(), nullable=False),
        sa.Column("expected", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("pk_mismatches")),
    )
    op.create_index(op.f("ix_mismatches_received_at"), "mismatches", ["received_at"])
    _fill_mismatches(op.get_bind(), mismatches)
    _create_persons()


def _fill_mismatches(connection: sa.Connection, mismatches: sa.Table) -> None:
    """Add a row for each routed study that no route took."""
    for row in connection.execute(sa.select(_studies).where(_studies.c.explanation != "")).all():
        decisions = json.loads(row.explanation)
        failures = [
            (number, sum(not check["passed"] for check in decision["checks"]), decision)
            for decision in decisions
            for number, check in enumerate(decision["checks"])
            if not check["passed"]
        ]
        if decisions and len({id(decision) for _, _, decision in failures}) == len(decisions):
            firsts = {id(decision): (number, count, decision) for number, count, decision in reversed(failures)}
            number, _, nearest = min(firsts.values(), key=lambda entry: (-entry[0], entry[1]))
            connection.execute(sa.insert(mismatches).values(_mismatch(row, nearest, nearest["checks"][number])))


def _mismatch(row: Any, decision: Mapping[str, Any], check: Mapping[str, Any]) -> dict[str, object]:  # noqa: ANN401
    is_set_aside = row.problem.startswith("set aside: ")
    return {
        "study_instance_uid": row.study_instance_uid,
        "reason": "set_aside" if is_set_aside else "no_route",
        "received_at": row.last_received_at,
        "route": "" if is_set_aside else decision["route"],
        "series_instance_uid": decision["series_instance_uid"],
        "attribute": check["attribute"],
        "expected": check["expected"],
        "value": check["found"],
    }


def _create_persons() -> None:
    op.create_table(
        "persons",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_persons")),
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("csrf", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["persons.name"], name=op.f("fk_sessions_person")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_person"), "sessions", ["person"])


def downgrade() -> None:
    """Drop what `upgrade` added."""
    op.drop_table("sessions")
    op.drop_table("persons")
    for name in _TIMES:
        op.drop_column("jobs", name)
    op.drop_table("completions")
    op.drop_table("mismatches")
