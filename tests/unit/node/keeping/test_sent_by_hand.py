"""A document of the node that a person sent has a delivery, on both kinds of databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from support import a_file, instance_ref
from support.rows import put_delivery, read

from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Delivery, Job, KeptDocument, Outcome
from ainode.node.keeping.sent_by_hand import ArchivedFile, note_sent
from ainode.node.routes import RouteMode

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
JOB = Job("a", UID("1.2"), "chest", "ct_tumor", {UID("1.2.3"): "00"}, NOW, NOW, ())
REF = instance_ref(a_file())


def reported(engine: sa.Engine, job: Job) -> Ledger:
    ledger = Ledger(engine)
    assert ledger.open(job)
    document = KeptDocument(job.id, REF, DocumentKind.STRUCTURED_REPORT, Path("a.dcm"), "ff")
    read(ledger, ledger.job(job.id), [document], Outcome(JobState.REPORTED, "", "", 1.0))
    return ledger


def sent_by_hand(engine: sa.Engine, *, sha256: str = "ff") -> tuple[str, ...]:
    archived = ArchivedFile(REF.sop_instance_uid, sha256, 0, "thanks")
    return note_sent(engine, "pacs", [archived], LATER, settled=False)


def test_a_document_that_stayed_in_the_node_is_sent_once_a_person_sent_it(engine: sa.Engine) -> None:
    ledger = reported(engine, replace(JOB, mode=RouteMode.SHADOW))
    assert sent_by_hand(engine) == ("a",)
    (delivery,) = ledger.outbox.unconfirmed("a", "pacs")
    assert (delivery.state, delivery.archive_status, delivery.archive_comment) == (DeliveryState.SENT, 0, "thanks")
    assert (delivery.tried_at, delivery.sent_at) == (LATER, LATER)


def test_a_later_report_names_what_a_person_sent_as_its_predecessor(engine: sa.Engine) -> None:
    ledger = reported(engine, JOB)
    sent_by_hand(engine)
    later = ledger.open(replace(JOB, id="b", content={UID("1.2.4"): "00"}, queued_at=LATER))
    assert later
    assert later.predecessors == (REF,)


def test_a_file_of_other_bytes_is_no_document_of_the_ledger(engine: sa.Engine) -> None:
    ledger = reported(engine, JOB)
    assert sent_by_hand(engine, sha256="00") == ()
    assert ledger.deliveries("a") == ()


@pytest.mark.parametrize("state", DeliveryState)
def test_what_waits_or_was_given_up_is_sent_and_what_the_archive_is_known_to_have_stays(
    engine: sa.Engine, state: DeliveryState
) -> None:
    ledger = reported(engine, replace(JOB, destinations=("pacs",)))
    (waiting,) = ledger.deliveries("a")
    put_delivery(ledger, waiting, state=state, tried_at=NOW, error="refused")
    (before,) = ledger.deliveries("a")
    assert sent_by_hand(engine) == ("a",)
    (after,) = ledger.deliveries("a")
    if state in {DeliveryState.WAITING, DeliveryState.FAILED}:
        assert facts(after) == (DeliveryState.SENT, "", NOW, LATER)
    else:
        assert after == before


def facts(delivery: Delivery) -> tuple[DeliveryState, str, datetime | None, datetime | None]:
    return delivery.state, delivery.error, delivery.tried_at, delivery.sent_at
