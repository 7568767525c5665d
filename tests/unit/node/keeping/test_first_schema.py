"""What a node of the first schema kept is there after its migration, on both databases."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.identity import content_hash
from ainode.node.keeping import database
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.job_events import Instruction
from ainode.node.keeping.ledger import Ledger

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
JOBS = 1_000
STATES = ("waiting", "reading", "reported", "out_of_scope", "failed", "superseded")
DELIVERIES = ("waiting", "sent", "confirmed", "failed")
RESULT = json.dumps(
    {"algorithm": {"name": "m", "version": "1"}, "verdict": {"presence": "present", "probability": 0.9}}
)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """Return a database of the first schema, full of jobs."""
    on_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'catalog.sqlite'}" if on_sqlite else request.getfixturevalue("server")
    made = database.connect(url)
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).with_name("migrations")))
    with made.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    fill(made)
    yield made
    if not on_sqlite:
        with made.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    made.dispose()


def fill(engine: sa.Engine) -> None:
    """Write jobs in every state, each with its study and instance, and the documents of those that are reported."""
    tables = sa.MetaData()
    tables.reflect(engine)
    rows: dict[str, list[dict[str, object]]] = {
        name: [] for name in ("studies", "instances", "jobs", "documents", "deliveries")
    }
    for number in range(JOBS):
        study, at = f"1.2.{number}", NOW + timedelta(seconds=number)
        reference = {"study_instance_uid": study, "series_instance_uid": f"{study}.1", "sop_class_uid": "1.2.3"}
        instance = {**reference, "sop_instance_uid": f"{study}.1.1", "transfer_syntax_uid": "1.2", "sha256": "ff"}
        content = {UID(f"{study}.1.1"): "ff"}
        rows["studies"].append(
            {
                "study_instance_uid": study,
                "first_received_at": at,
                "last_received_at": at,
                "content_hash": content_hash(content),
                "explanation": "[]",
            }
        )
        rows["instances"].append({**instance, "size_bytes": 1, "path": "x", "calling_ae_title": "A", "received_at": at})
        state = STATES[number % len(STATES)]
        rows["jobs"].append(
            {
                "id": f"job{number}",
                "study_instance_uid": study,
                "route": "spine",
                "handler": "spine_radiograph",
                "state": state,
                "priority": 100,
                "content": json.dumps(content),
                "destinations": '["archive"]',
                "created_at": at,
                "queued_at": at,
                "reason": "it broke" if state == "failed" else "",
                "result": RESULT if state in {"reported", "superseded"} else "",
                "seconds": 1.5,
            }
        )
        if state in {"reported", "superseded"}:
            uid, delivery = f"{study}.2", DELIVERIES[number // len(STATES) % len(DELIVERIES)]
            document = {**reference, "sop_instance_uid": uid, "job": f"job{number}", "position": 0, "kind": "sr"}
            rows["documents"].append({**document, "path": f"{uid}.dcm", "sha256": "ee"})
            sent_at = None if delivery == "waiting" else at
            times = {"tried_at": sent_at, "sent_at": sent_at, "confirmed_at": at if delivery == "confirmed" else None}
            rows["deliveries"].append({"sop_instance_uid": uid, "destination": "archive", "state": delivery, **times})
    with engine.begin() as connection:
        for name, values in rows.items():
            connection.execute(sa.insert(tables.tables[name]), values)


def test_a_thousand_jobs_of_the_first_schema_are_there_in_their_states_and_go_on(engine: sa.Engine) -> None:
    database.migrate(engine)
    assert database.revision(engine) == database.HEAD
    ledger = Ledger(engine)
    jobs = ledger.jobs()
    assert Counter(job.state for job in jobs) == Counter(
        JobState(STATES[number % len(STATES)]) for number in range(JOBS)
    )
    assert [job.id for job in jobs] == [f"job{number}" for number in range(JOBS)]
    assert all(job.content == {UID(f"{job.study_instance_uid}.1.1"): "ff"} for job in jobs)
    states = Counter(delivery.state for job in jobs for delivery in ledger.deliveries(job.id))
    assert set(states) == {DeliveryState(state) for state in DELIVERIES}
    assert sum(states.values()) == sum(number % len(STATES) in {2, 5} for number in range(JOBS))
    assert not Catalog(engine).unrouted()

    assert ledger.move("job0", JobState.READING, at=NOW)
    assert ledger.revive("job4", Instruction(NOW)) == ("",)
    reported = next(job for job in jobs if job.state is JobState.REPORTED)
    assert ledger.open(reported) is None
    due = {waiting.task.job for waiting in ledger.tasks.waiting(())}
    assert {"job4", "job6"} <= due


def test_the_answers_of_the_first_schema_are_counted_by_the_figures(engine: sa.Engine) -> None:
    database.migrate(engine)
    from ainode.node.keeping.statistics import Period, Statistics

    (count,) = Statistics(engine).handlers(Period(NOW, NOW + timedelta(days=1)))
    reported = sum(number % len(STATES) == 2 for number in range(JOBS))
    failed = sum(number % len(STATES) == 4 for number in range(JOBS))
    assert (count.answers, count.positives, count.failures) == (reported, reported, failed)
