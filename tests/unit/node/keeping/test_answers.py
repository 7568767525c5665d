import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from support.answers import WEIGHTS, refusal_json, result_json, verdict
from support.databases import migrated
from support.rows import put_job, read

from ainode.node.domain import UID, JobState
from ainode.node.keeping import database
from ainode.node.keeping.answers import answer_values
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, Outcome
from ainode.node.keeping.schema import answers, history, jobs

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MALIGNANT = result_json(verdict("absent", 0.1), verdict("present", 0.7), verdict("present", 0.9), presence="present")
REPORTED = Outcome(JobState.REPORTED, MALIGNANT, "", 1.5, {}, NOW + timedelta(minutes=1))


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """The same suite holds on both databases."""
    engine = migrated(url)
    yield Ledger(engine)
    engine.dispose()


def a_job(identity: str = "a") -> Job:
    content = {UID("1.2.3"): identity}
    return Job(identity, UID("1.2"), "skin", "skin_lesion", content, created_at=NOW, queued_at=NOW, destinations=())


def rows(ledger: Ledger) -> list[dict[str, object]]:
    with ledger._engine.connect() as connection:
        mappings = connection.execute(sa.select(answers).order_by(answers.c.job)).mappings()
        return [{**row, "at": database.aware(row["at"])} for row in mappings]


def test_an_answer_is_written_with_the_report_and_outlives_the_job(ledger: Ledger) -> None:
    ledger.open(a_job())
    read(ledger, a_job(), [], REPORTED)
    expected = {
        "job": "a",
        "study_instance_uid": "1.2",
        "route": "skin",
        "handler": "skin_lesion",
        "model": "skin_lesion",
        "version": "0.1.0",
        "weights_sha256": WEIGHTS,
        "weights_status": "research",
        "presence": "present",
        "probability": 0.7,
        "threshold": 0.5,
        "headline": "lesion: present, 0.70, threshold 0.50",
        "code": "",
        "seconds": 1.5,
        "at": NOW + timedelta(minutes=1),
        "is_superseded": False,
    }
    assert rows(ledger) == [expected]
    assert ledger.archive("a", NOW + timedelta(days=1), NOW)
    assert rows(ledger) == [expected]


def test_a_job_that_is_no_longer_being_read_leaves_no_answer(ledger: Ledger) -> None:
    ledger.open(a_job())
    assert not ledger.report(a_job(), [], REPORTED)
    assert rows(ledger) == []


def test_the_answer_of_an_older_job_of_the_route_is_marked_when_the_study_is_read_again(ledger: Ledger) -> None:
    for identity in ("a", "b"):
        ledger.open(a_job(identity))
        read(ledger, a_job(identity), [], REPORTED)
    assert [row["is_superseded"] for row in rows(ledger)] == [True, False]


def test_a_job_that_is_read_twice_has_its_last_answer(ledger: Ledger) -> None:
    ledger.open(a_job())
    read(ledger, a_job(), [], REPORTED)
    put_job(ledger, "a", state=JobState.WAITING)
    read(ledger, a_job(), [], replace(REPORTED, state=JobState.OUT_OF_SCOPE, result=refusal_json()))
    assert [(row["code"], row["model"], row["probability"]) for row in rows(ledger)] == [("too-small", "", None)]


@pytest.mark.parametrize("result", ["", "{}", result_json(), result_json(scores={"attention": 0.5})])
def test_a_result_without_a_verdict_has_no_probability(result: str) -> None:
    values = answer_values(result)
    assert (values["presence"], values["probability"], values["headline"], values["code"]) == ("", None, "", "")


def test_a_score_named_probability_stands_in_where_no_verdict_is() -> None:
    assert answer_values(result_json(scores={"probability": 0.25}))["probability"] == 0.25


def test_a_refusal_without_a_code_is_a_refusal_still() -> None:
    assert answer_values(json.dumps({"out_of_scope": {"reason": "x"}}))["code"] == "unknown"


def test_the_migration_fills_the_answers_of_jobs_and_of_history(tmp_path: Path) -> None:
    engine = database.connect(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).with_name("migrations")))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0009")
        for number in range(1203):
            result = (MALIGNANT, refusal_json(), result_json(scores={"probability": 0.25}), "")[number % 4]
            row: dict[str, object] = {"id": f"{number:05}", "study_instance_uid": "1.2", "route": "skin"}
            state = JobState.SUPERSEDED if number == 0 else JobState.REPORTED
            row |= {"handler": "skin_lesion", "queued_at": str(NOW.replace(tzinfo=None)), "result": result}
            row |= {"seconds": 1.5, "state": state}
            table, more = (history, {"reason": "", "removed_at": str(NOW)}) if number % 2 else (jobs, a_rest())
            names = ", ".join(row | more)
            values = ", ".join(f":{name}" for name in row | more)
            connection.execute(sa.text(f"INSERT INTO {table.name} ({names}) VALUES ({values})"), row | more)  # noqa: S608
    database.migrate(engine)
    written = rows(Ledger(engine))
    engine.dispose()
    assert len(written) == 903
    assert [row["is_superseded"] for row in written] == [True] + [False] * 902
    for row in written:
        result = (MALIGNANT, refusal_json(), result_json(scores={"probability": 0.25}))[int(str(row["job"])) % 4]
        assert {name: row[name] for name in answer_values(result)} == answer_values(result)
        assert row["at"] == NOW


def a_rest() -> dict[str, object]:
    return {"priority": 1, "content": "{}", "destinations": "[]", "created_at": str(NOW)}
