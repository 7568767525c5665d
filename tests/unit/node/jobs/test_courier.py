"""One destination on a closed port: what fails stands where an operator looks for it."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from support import a_file, free_port, instance_ref
from support.rows import put_delivery, read

from ainode.node.disk import sha256_of
from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState
from ainode.node.errors import DatabaseUnavailable
from ainode.node.jobs.courier import Courier
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Delivery, Job, KeptDocument, Outcome
from ainode.node.settings import NodeTable, Peer, Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def reported(ledger: Ledger, *paths: Path) -> tuple[Delivery, ...]:
    """Return the deliveries of a job with a document at each path, whole or not."""
    job = Job("job", UID("1.2"), "spine", "spine", {UID("1.2.3"): "00"}, NOW, NOW, ("archive",))
    ledger.open(job)
    kept = [
        KeptDocument("job", instance_ref(a_file()), DocumentKind.STRUCTURED_REPORT, path, _digest(path))
        for path in paths
    ]
    read(ledger, job, kept, Outcome(JobState.REPORTED, "{}", "", 1.0))
    return ledger.deliveries("job")


def _digest(path: Path) -> str:
    return sha256_of(path) if path.exists() else "ff"


def courier(ledger: Ledger, **peer: object) -> Courier:
    values = {"port": free_port(), **peer}
    archive = Peer(name="archive", ae_title="A", host="127.0.0.1", **values)  # type: ignore[arg-type]
    return Courier(Settings(node=NodeTable(), peers=(archive,)), ledger)


@pytest.mark.parametrize("content", [None, b"other bytes"])
def test_a_document_that_is_gone_or_changed_never_leaves_and_says_why(
    ledger: Ledger, tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "document.dcm"
    path.write_bytes(a_file())
    (delivery,) = reported(ledger, path)
    path.unlink()
    if content:
        path.write_bytes(content)
    assert courier(ledger).send("job", "archive", NOW)
    (one,) = ledger.deliveries("job")
    assert one.state is DeliveryState.FAILED
    assert "gone or changed" in one.error
    (line,) = [record for record in caplog.records if vars(record).get("action") == "dead_letter"]
    assert vars(line)["sop_instance_uid"] == delivery.document.ref.sop_instance_uid


def test_a_document_that_is_no_dicom_is_tried_again_and_given_up_with_its_reason(
    ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "document.dcm"
    path.write_bytes(b"no DICOM")
    reported(ledger, path)
    sender = courier(ledger)
    assert not sender.send("job", "archive", NOW)
    assert ledger.deliveries("job")[0].state is DeliveryState.WAITING
    sender.give_up("job", "archive", DeliveryState.WAITING, NOW)
    (one,) = ledger.deliveries("job")
    assert one.state is DeliveryState.FAILED
    assert "document.dcm" in one.error


def test_why_a_confirmation_fails_is_in_the_log_and_on_the_document(
    ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (one,) = reported(ledger, tmp_path / "document.dcm")
    put_delivery(ledger, one, state=DeliveryState.SENT, sent_at=NOW)
    sender = courier(ledger)
    assert not sender.confirm("job", "archive", NOW)
    (one,) = ledger.deliveries("job")
    assert one.error.startswith("archive: ")
    assert one.error in caplog.text
    sender.give_up("job", "archive", DeliveryState.SENT, NOW)
    assert ledger.deliveries("job") == (replace(one, state=DeliveryState.FAILED),)


def test_an_archive_that_is_not_reached_is_one_line_of_the_log_that_names_job_and_peer(
    ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = (tmp_path / "1.dcm", tmp_path / "2.dcm")
    for path in paths:
        path.write_bytes(a_file())
    reported(ledger, *paths)
    assert not courier(ledger).send("job", "archive", NOW)
    lines = [
        record for record in caplog.records if record.getMessage().startswith("delivery failed: archive: no assoc")
    ]
    assert [(vars(line)["action"], vars(line)["job"], vars(line)["peer"]) for line in lines] == [
        ("delivery_failed", "job", "archive")
    ]


def test_the_last_confirmation_of_a_job_is_in_the_log(
    ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (delivery,) = reported(ledger, tmp_path / "1.dcm")
    put_delivery(ledger, delivery, state=DeliveryState.CONFIRMED)
    with caplog.at_level("INFO"):
        assert courier(ledger).confirm("job", "archive", NOW)
    assert "documents delivered: 1 of 1" in caplog.text


def test_what_was_sent_is_not_given_up_with_what_waits(ledger: Ledger, tmp_path: Path) -> None:
    sent, _ = reported(ledger, tmp_path / "1.dcm", tmp_path / "2.dcm")
    put_delivery(ledger, sent, state=DeliveryState.SENT, sent_at=NOW)
    courier(ledger).give_up("job", "archive", DeliveryState.WAITING, NOW)
    assert [one.state for one in ledger.deliveries("job")] == [DeliveryState.SENT, DeliveryState.FAILED]


def test_a_refusal_is_one_line_of_the_log_with_status_and_uid_and_without_the_words_of_the_archive(
    ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(a_file())
    (delivery,) = reported(ledger, path)
    entity = AE("A")
    entity.supported_contexts = AllStoragePresentationContexts
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, refuse)])
    assert server is not None
    assert courier(ledger, port=server.server_address[1]).send("job", "archive", NOW)
    server.shutdown()
    (line,) = [record for record in caplog.records if record.name == "ainode.node.jobs.courier"]
    assert line.getMessage() == "delivery given up: refused with status 0xC123"
    assert vars(line)["sop_instance_uid"] == delivery.document.ref.sop_instance_uid
    assert "SMITH" not in caplog.text
    (delivery,) = ledger.deliveries("job")
    assert "SMITH" not in delivery.error
    assert delivery.archive_comment == "not for SMITH^JOHN"


def refuse(_event: evt.Event) -> Dataset:
    answer = Dataset()
    answer.Status, answer.ErrorComment = 0xC123, "not for SMITH^JOHN"
    return answer


def test_a_database_that_is_away_is_no_failure_of_the_archive(
    ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (delivery,) = reported(ledger, tmp_path / "1.dcm")
    put_delivery(ledger, delivery, state=DeliveryState.SENT, sent_at=NOW)
    ledger._engine.dispose()
    (tmp_path / "catalog.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(DatabaseUnavailable):
        courier(ledger).confirm("job", "archive", NOW)
    assert "delivery failed" not in caplog.text
