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
    worklist_columns = ["queued_at", "id", "study_instance_uid", "route", "state", "priority"]
    op.create_index("ix_jobs_queued_at", "jobs", worklist_columns)
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
    _add_answers()
    _create_patient_index()
    _create_judgements()


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


_answers = sa.table(
    "answers",
    *(
        sa.column(name)
        for name in ("job", "study_instance_uid", "route", "handler", "model", "version", "weights_sha256")
    ),
    *(sa.column(name) for name in ("presence", "probability", "threshold", "headline", "code", "seconds")),
    sa.column("at", sa.DateTime(timezone=True)),
    sa.column("is_superseded", sa.Boolean()),
)
_READ_AT_ONCE = 500


def _add_answers() -> None:
    """Make the table of answers, and fill it from the results that jobs and history hold."""
    op.create_table(
        "answers",
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("handler", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("weights_sha256", sa.String(64), nullable=False),
        sa.Column("presence", sa.String(16), nullable=False),
        sa.Column("probability", sa.Float()),
        sa.Column("threshold", sa.Float()),
        sa.Column("headline", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_superseded", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_answers")),
    )
    # Rows come in batches: the results of a year together are more than the memory of a node.
    for name in ("history", "jobs"):
        last = ""
        while batch := _finished(name, last):
            last = batch[-1].id
            rows = [_answer(row) for row in batch if row.result]
            op.get_bind().execute(sa.delete(_answers).where(_answers.c.job.in_([row["job"] for row in rows])))
            op.bulk_insert(_answers, rows)
    op.create_index(op.f("ix_answers_study_instance_uid"), "answers", ["study_instance_uid", "route"])
    op.create_index(op.f("ix_answers_at"), "answers", ["at"])
    for column in ("handler", "route"):
        op.create_index(f"ix_answers_{column}_at", "answers", [column, "at"])


def _finished(name: str, after: str) -> list[sa.Row[tuple[object, ...]]]:
    names = ("id", "study_instance_uid", "route", "handler", "state", "result", "seconds")
    table = sa.table(name, *map(sa.column, names), sa.column("queued_at", sa.DateTime(timezone=True)))
    query = sa.select(table).where(table.c.id > after).order_by(table.c.id).limit(_READ_AT_ONCE)
    return list(op.get_bind().execute(query).all())


def _answer(row: sa.Row[tuple[object, ...]]) -> dict[str, object]:
    result = json.loads(row.result)
    refusal, algorithm, verdict = (result.get(key) or {} for key in ("out_of_scope", "algorithm", "verdict"))
    presence = verdict.get("presence") or ""
    verdicts = (finding.get("verdict") or {} for finding in result.get("findings", ()))
    of_presence = [item for item in verdicts if item and item["presence"] == presence]
    strongest = next(iter(of_presence), {})
    return {
        "job": row.id,
        "study_instance_uid": row.study_instance_uid,
        "route": row.route,
        "handler": row.handler,
        "model": algorithm.get("name", ""),
        "version": algorithm.get("version", ""),
        "weights_sha256": algorithm.get("weights_sha256", ""),
        "presence": presence,
        "probability": strongest.get("probability", result.get("scores", {}).get("probability")),
        "threshold": strongest.get("threshold"),
        "headline": verdict.get("headline") or "",
        "code": (refusal.get("code") or "unknown") if refusal else "",
        "seconds": row.seconds,
        "at": row.queued_at,
        "is_superseded": row.state == "superseded",
    }


def _create_patient_index() -> None:
    """Add the table of names; a study that arrived before has no row."""
    names = ("name", "patient_id", "accession_number", "description", "study_date", "modalities", "sought")
    op.create_table(
        "patient_index",
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in names),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("pk_patient_index")),
    )


def _create_judgements() -> None:
    words = ("finding", "statement", "presence", "opinion", "presence_instead", "measurement", "label")
    short = {"presence", "opinion", "presence_instead"}
    op.create_table(
        "judgements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job", sa.String(32), nullable=False),
        *(sa.Column(name, sa.String(16) if name in short else sa.Text(), nullable=False) for name in words),
        sa.Column("value", sa.Float()),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judgements")),
    )
    op.create_index(op.f("ix_judgements_judged_at"), "judgements", ["judged_at"])
    op.create_index("ix_judgements_job_finding", "judgements", ["job", "finding"])
    op.create_table(
        "addenda",
        sa.Column("judgement", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), server_default="", nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["judgement"], ["judgements.id"], name=op.f("fk_addenda_judgement")),
        sa.PrimaryKeyConstraint("judgement", name=op.f("pk_addenda")),
    )
    op.create_index(op.f("ix_addenda_state"), "addenda", ["state"])


def downgrade() -> None:
    """Drop what `upgrade` added."""
    op.drop_table("patient_index")
    op.drop_table("addenda")
    op.drop_table("judgements")
    op.drop_table("answers")
    op.drop_table("sessions")
    op.drop_table("persons")
    op.drop_index("ix_jobs_queued_at", "jobs")
    # The version before knows no cancelled job.
    op.execute("UPDATE jobs SET state = 'failed' WHERE state = 'cancelled'")
    op.execute("UPDATE history SET state = 'failed' WHERE state = 'cancelled'")
    for name in _TIMES:
        op.drop_column("jobs", name)
    op.drop_table("completions")
    op.drop_table("mismatches")
