"""An object that names two studies, and what an earlier version left of one: the whole node goes on."""

import struct
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from support.node import RunningNode, configured, running

from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import UID, InstanceRef, JobState
from ainode.node.encoding.part10 import parse
from ainode.node.keeping import database
from ainode.node.keeping.catalog import StoredInstance
from ainode.node.keeping.spool import Limits, Spool, content_sha256
from ainode.node.offline.explanation_lines import stored_explanation
from ainode.node.settings import load

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ANOTHER_STUDY = UID("1.2.6.6.6")


def a_radiograph(study: str) -> bytes:
    """Return a radiograph that the route of the node takes."""
    image = testing.noise(512, 512, BodyPartExamined="TSPINE", SeriesDescription="read")
    stream = BytesIO()
    testing.dataset(image, study=study).save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def of_two_studies() -> bytes:
    """Return a radiograph with a second Study Instance UID behind its pixel data."""
    value = ANOTHER_STUDY.encode() + b"\0"
    return a_radiograph("first") + struct.pack("<HH2sH", 0x0020, 0x000D, b"UI", len(value)) + value


def stored(node: RunningNode, content: bytes) -> int | None:
    """Send an object byte for byte and return the node's status."""
    (sent,) = send(Link(node.peer, "SENDER", 60.0), [Outgoing.of(content)])
    return sent.status


def test_an_object_of_two_studies_is_refused_with_a_status_and_the_node_goes_on(tmp_path: Path) -> None:
    with running(configured(tmp_path / "node")) as node:
        assert stored(node, of_two_studies()) == 0xC000
        assert stored(node, a_radiograph("good")) == 0x0000
        job, _ = node.read(testing.uid("good"))
        assert job.state is JobState.REPORTED
        assert not node.catalog.content(ANOTHER_STUDY)
        assert "(0020,000D) comes after (7FE0,0010)" in node.log.read_text()


def test_a_study_whose_file_names_another_study_is_set_aside_and_the_node_starts_and_goes_on(tmp_path: Path) -> None:
    """An earlier version took the last Study Instance UID for the index and the first for the study."""
    node = configured(tmp_path / "node")
    left_by_an_earlier_version(node)
    for study in ("of the first start", "of the second start"):
        with running(node):
            node.until(lambda: bool(node.catalog.explanation(ANOTHER_STUDY)), within_s=120)
            assert stored(node, a_radiograph(study)) == 0x0000
            assert node.read(testing.uid(study))[0].state is JobState.REPORTED
    reason = "1.2.6.6.6 as indexed, and this is"
    assert node.log.read_text().count(f"study set aside: StudyInstanceUID: the node wants {reason}") == 1
    assert f"    spine: no, it takes StudyInstanceUID {reason}" in "\n".join(
        stored_explanation(ANOTHER_STUDY, load(node.config))
    )
    assert not node.ledger.jobs(study=ANOTHER_STUDY)


def left_by_an_earlier_version(node: RunningNode) -> None:
    (node.folder / "data").mkdir()
    database.migrate(node.engine)
    spool = Spool(node.folder / "data" / "spool", Limits(0, 1 << 30))
    path = node.folder / "object.dcm"
    path.write_bytes(of_two_studies())
    origin, _ = parse(path.read_bytes())
    ref = InstanceRef(ANOTHER_STUDY, UID("1.2.6.6"), origin.sop_class_uid, origin.sop_instance_uid)
    sha256, size = content_sha256(path), path.stat().st_size
    kept = spool.keep(path, ref, sha256)
    node.catalog.index([StoredInstance(ref, origin.transfer_syntax_uid, sha256, size, kept, "SENDER", NOW)])
