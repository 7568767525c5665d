"""The whole node, its workflows broken from outside; and what it answers to a storage commitment request."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from support import a_file, free_port, instance_ref
from support.entities import served
from support.node import RunningNode, configured, running
from support.rows import put_delivery, read

from ainode.node import testing
from ainode.node.archive.commitment import Commitment, SopReference, action_information
from ainode.node.disk import sha256_of
from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState, Judgement, Opinion
from ainode.node.jobs.retries import retry
from ainode.node.keeping import database
from ainode.node.keeping.job_events import Instruction
from ainode.node.keeping.judgements import Judgements
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.settings import Peer, load

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
COMMITMENT, COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    """Return a node that is not started, with an archive and a document for it that no workflow knows."""
    port = free_port()
    made = configured(tmp_path / "node", peers=[Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port)])
    path = made.folder / "data" / "documents" / "job" / "document.dcm"
    path.parent.mkdir(parents=True)
    database.migrate(made.engine)
    content = a_file()
    path.write_bytes(content)
    job = Job("job", UID("1.2"), "spine", "support.handler", {UID("1.2.3"): "00"}, NOW, NOW, ("archive",))
    made.ledger.open(job)
    document = KeptDocument("job", instance_ref(content), DocumentKind.STRUCTURED_REPORT, path, sha256_of(path))
    read(made.ledger, job, [document], Outcome(JobState.REPORTED, "{}", "", 1.0))
    with testing.EmbeddedArchive(tmp_path / "archive", port):
        yield made


def arrives(node: RunningNode) -> None:
    node.until(lambda: node.ledger.deliveries("job")[0].state is DeliveryState.CONFIRMED, within_s=120)


def test_a_delivery_that_no_workflow_knows_or_whose_workflow_ended_without_it_is_made_at_the_next_start(
    node: RunningNode,
) -> None:
    with running(node):
        arrives(node)
    for status in ("ERROR", "SUCCESS", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"):
        with closing(sqlite3.connect(node.folder / "data" / "workflows.sqlite")) as workflows, workflows:
            change = "UPDATE workflow_status SET status = ? WHERE workflow_uuid LIKE 'job:send:%'"
            assert workflows.execute(change, [status]).rowcount
        put_delivery(node.ledger, node.ledger.deliveries("job")[0], state=DeliveryState.WAITING)
        with running(node):
            arrives(node)


def test_the_document_of_a_judgement_leaves_after_the_documents_of_the_reading(node: RunningNode) -> None:
    path = node.folder / "assessment.dcm"
    path.write_bytes(a_file(rows=8))
    document = KeptDocument("job", instance_ref(path), DocumentKind.ASSESSMENT, path, sha256_of(path))
    with running(node):
        arrives(node)
        judgement = Judgement("job", "", Opinion.ACCEPT, "jdoe")
        judgements = Judgements(node.engine)
        number = judgements.keep(judgement, NOW, statement="", presence="", has_addendum=True)
        assert node.ledger.append([document], number)
        assert len(node.ledger.deliveries("job")) == 2
        node.until(
            lambda: {item.state for item in node.ledger.deliveries("job")} == {DeliveryState.CONFIRMED}, within_s=120
        )


def test_a_retry_is_taken_up_by_the_node_that_runs_without_a_second_write(node: RunningNode) -> None:
    with running(node):
        arrives(node)
        put_delivery(node.ledger, node.ledger.deliveries("job")[0], state=DeliveryState.FAILED)
        assert retry(load(node.config), node.ledger, "job", Instruction(datetime.now(UTC))) == ("archive",)
        arrives(node)


def test_a_retry_while_the_node_is_down_is_taken_up_at_the_next_start(node: RunningNode) -> None:
    with running(node):
        arrives(node)
    put_delivery(node.ledger, node.ledger.deliveries("job")[0], state=DeliveryState.FAILED)
    node.ledger.revive("job", Instruction(datetime.now(UTC)))
    with running(node):
        arrives(node)


@contextmanager
def sender(reports: list[Commitment]) -> Iterator[Peer]:
    """Listen for our reports as a modality does."""

    def take(event: evt.Event) -> tuple[int, None]:
        reports.append(Commitment.of_event(event.event_information))
        return 0x0000, None

    entity = AE("MODALITY")
    entity.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
    with served(entity, (evt.EVT_N_EVENT_REPORT, take)) as port:
        yield Peer(name="modality", ae_title="MODALITY", host="127.0.0.1", port=port)


def test_what_was_stored_just_before_it_is_asked_for_is_committed(tmp_path: Path) -> None:
    datasets = [dcmread(BytesIO(a_file(rows=512))) for _ in range(30)]
    references = [SopReference(one.SOPClassUID, one.SOPInstanceUID) for one in datasets]
    reports: list[Commitment] = []
    with sender(reports) as peer, running(configured(tmp_path / "node", peers=[peer])) as node:
        entity = AE("MODALITY")
        entity.add_requested_context(datasets[0].SOPClassUID, datasets[0].file_meta.TransferSyntaxUID)
        entity.add_requested_context(COMMITMENT)
        association = entity.associate("127.0.0.1", node.port, ae_title="AINODE")
        assert {association.send_c_store(one).Status for one in datasets} == {0x0000}
        asked = action_information(UID(generate_uid()), references)
        association.send_n_action(asked, 1, COMMITMENT, COMMITMENT_INSTANCE)
        association.release()
        node.until(lambda: bool(reports), within_s=120)
    assert set(reports[0].committed) == set(references)
