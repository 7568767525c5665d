"""A catalog as that of a node after months: studies read, refused, failed or not matched, with their documents."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa

from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.keeping import schema
from ainode.node.keeping.answers import answer_values
from ainode.node.testing import uid

ROUTES: Final = ("spine", "chest-ct", "skin")
DESTINATIONS: Final = ("archive", "viewer")
_RESULT: Final = json.dumps(
    {
        "algorithm": {"name": "bench", "version": "1", "weights_sha256": "ff" * 32},
        "verdict": {"presence": "present", "headline": "fracture: present", "probability": 0.912, "threshold": 0.5},
        "findings": [{"name": "fracture", "verdict": {"presence": "present", "probability": 0.912, "threshold": 0.5}}],
        "scores": {f"score {number}": number / 40 for number in range(40)},
    }
)
_ANSWER: Final = answer_values(_RESULT)
_FAMILIES: Final = ("Müller", "Yamada", "Иванов", "Smith", "García", "Nguyen", "Okafor", "Larsen")
_BETWEEN_STUDIES: Final = timedelta(minutes=7)
_BATCH: Final = 500
# Of a hundred studies: the number of each kind that is not read; the others are.
_DECLINED, _FAILED, _UNMATCHED, _SUPERSEDED = 5, 8, 11, 13
# Of twenty studies one is a CT.
_CT_EVERY: Final = 20
_CT_IMAGES: Final = 150
# Of so many studies, the documents of one were refused by the first destination.
_REFUSED_EVERY: Final = 190


def fill(engine: sa.Engine, count: int, now: datetime) -> None:
    """Write so many studies, the newest of which came just now, and what each of them left in the tables."""
    numbers = iter(range(count))
    while batch := tuple(islice(numbers, _BATCH)):
        rows: dict[sa.Table, list[dict[str, Any]]] = {}
        for number in batch:
            for table, row in _rows_of(number, now - number * _BETWEEN_STUDIES):
                rows.setdefault(table, []).append(row)
        with engine.begin() as connection:
            for table in schema.metadata.sorted_tables:
                if table in rows:
                    connection.execute(sa.insert(table), rows[table])
    with engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")


def study_of(number: int) -> UID:
    """Return the Study Instance UID of a study by its number, 0 the newest."""
    return UID(uid(f"bench console {number}"))


def job_of(number: int) -> str:
    """Return the identifier of the job of a study."""
    return f"{number:032x}"


def name_of(number: int) -> str:
    """Return the name of the patient of a study."""
    return f"{_FAMILIES[number % len(_FAMILIES)]}^Given {number}"


def _labels(number: int, study: UID) -> dict[str, Any]:
    name, texts = name_of(number), {"patient_id": f"P{number:07}", "accession_number": f"A{number:08}"}
    sought = " ".join((name.replace("^", " "), *texts.values())).casefold()
    description = {"description": "Routine", "study_date": "20260301", "modalities": "DX"}
    return {"study_instance_uid": study, "name": name, **texts, **description, "sought": sought}


def _rows_of(number: int, at: datetime) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    study, kind = study_of(number), number % 100
    images = _CT_IMAGES if number % _CT_EVERY == 0 else 2
    yield schema.studies, _study(study, at)
    yield schema.instances, _instance(study, at)
    yield schema.patient_index, _labels(number, study)
    if _FAILED <= kind < _UNMATCHED:
        yield schema.mismatches, _mismatch(study, at)
        return
    state = JobState.REPORTED
    if kind < _FAILED:
        state = JobState.OUT_OF_SCOPE if kind < _DECLINED else JobState.FAILED
    elif kind < _SUPERSEDED:
        state = JobState.SUPERSEDED
    yield schema.jobs, _job(number, study, at, state, images)
    if state is JobState.FAILED:
        return
    yield schema.answers, _answer(number, study, at)
    for position in range(2):
        yield schema.documents, _document(number, study, position)
        for destination in DESTINATIONS:
            yield schema.deliveries, _delivery(number, position, destination, at)


def _study(study: UID, at: datetime) -> dict[str, Any]:
    times = {"first_received_at": at, "last_received_at": at}
    return {"study_instance_uid": study, "content_hash": "ff", "explanation": "[]", "is_routed": True, **times}


def _reference(study: UID, sop_instance_uid: str) -> dict[str, Any]:
    names = {"series_instance_uid": f"{study}.1", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1"}
    return {"study_instance_uid": study, "sop_instance_uid": sop_instance_uid, **names}


def _instance(study: UID, at: datetime) -> dict[str, Any]:
    values = {"transfer_syntax_uid": "1.2.840.10008.1.2.1", "sha256": "ff" * 32, "size_bytes": 1, "path": "none"}
    return {**_reference(study, f"{study}.1.1"), **values, "calling_ae_title": "BENCH", "received_at": at}


def _mismatch(study: UID, at: datetime) -> dict[str, Any]:
    condition = {"attribute": "Modality", "expected": "DX or CR", "value": "MR"}
    where = {"series_instance_uid": f"{study}.1", "route": ROUTES[0]}
    return {"study_instance_uid": study, "reason": "no_route", "received_at": at, **where, **condition}


def _job(number: int, study: UID, at: datetime, state: JobState, images: int) -> dict[str, Any]:
    return {
        "id": job_of(number),
        "inputs": job_of(number),
        "study_instance_uid": study,
        "route": ROUTES[number % len(ROUTES)],
        "handler": "ainode.node.bench.immediate",
        "state": state,
        "priority": 100,
        "content": json.dumps({f"{study}.1.{image}": "ff" * 32 for image in range(images)}),
        "destinations": json.dumps(DESTINATIONS),
        "created_at": at,
        "queued_at": at,
        "listed_at": at,
        "attempts": 1,
        "reason": "" if state is JobState.REPORTED else "series 1.2.3: a slice is missing; resend the series",
        "result": "" if state is JobState.FAILED else _RESULT,
        "seconds": 4.2,
        "reading_at": at + timedelta(seconds=2),
        "finished_at": at + timedelta(seconds=6),
    }


def _answer(number: int, study: UID, at: datetime) -> dict[str, Any]:
    route = {"route": ROUTES[number % len(ROUTES)], "handler": "ainode.node.bench.immediate"}
    return {"job": job_of(number), "study_instance_uid": study, **route, "seconds": 4.2, "at": at, **_ANSWER}


def _document_uid(number: int, position: int) -> str:
    return f"1.2.826.0.1.3680043.10.1.{number}.{position}"


def _document(number: int, study: UID, position: int) -> dict[str, Any]:
    kind = "sr" if position else "sc"
    values = {"job": job_of(number), "position": position, "kind": kind, "path": "none", "sha256": "ff" * 32}
    return {**_reference(study, _document_uid(number, position)), **values}


def _delivery(number: int, position: int, destination: str, at: datetime) -> dict[str, Any]:
    has_failed = not number % _REFUSED_EVERY and destination == DESTINATIONS[0]
    state = DeliveryState.FAILED if has_failed else DeliveryState.CONFIRMED
    confirmed_at = None if has_failed else at + timedelta(seconds=9)
    key = {"sop_instance_uid": _document_uid(number, position), "destination": destination}
    return {**key, "state": state, "tried_at": at, "sent_at": at, "confirmed_at": confirmed_at, "settled": False}
