"""What each request is answered, without a socket: the services are given messages, and answer with a status."""

import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmwrite

from ainode.node.domain import UID
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.receiving.command_set import Command, CommandField, Tag
from ainode.node.receiving.commitment_files import CommitmentFiles, CommitmentReport, CommitmentRequest, load
from ainode.node.receiving.events import CommitmentSaved, Event, InstanceStored, ObjectRefused
from ainode.node.receiving.negotiation import STORAGE_COMMITMENT, VERIFICATION
from ainode.node.receiving.services import Answer, Services
from ainode.node.receiving.sparse_log import SparseLog
from ainode.node.receiving.upper_layer import Message, PresentationContext

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = UID("1.2.840.10008.1.2")
SUCCESS, PROCESSING_FAILURE, CLASS_NOT_SUPPORTED, UNRECOGNIZED = 0x0000, 0x0110, 0x0122, 0x0211


@dataclass
class Bench:
    """The services of one association with a spool, and what they report."""

    folder: Path
    limits: Limits = field(default_factory=lambda: Limits(0, 1 << 20))
    is_peer: bool = True
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spool = Spool(self.folder / "spool", self.limits)
        self.commitments = CommitmentFiles(self.folder / "commitments")
        refusals = SparseLog(logging.getLogger(__name__), first_lines=5)
        stores = self.spool, self.commitments
        self.services = Services(
            "association", "CALLER", self.is_peer, *stores, self.events.append, refusals, "127.0.0.1"
        )

    def answer(
        self, operation: int, content: Sequence[bytes] = (), *, abstract: str = CT, instance: bytes = b"1.3.1"
    ) -> Answer | None:
        """Return the answer to a request with a data set in these fragments."""
        command = Command(
            {
                Tag.COMMAND_FIELD: struct.pack("<H", operation),
                Tag.AFFECTED_SOP_CLASS_UID: CT.encode(),
                Tag.AFFECTED_SOP_INSTANCE_UID: instance,
            }
        )
        context = PresentationContext(1, UID(abstract), IMPLICIT)
        return self.services.answer(Message(context, command, iter([memoryview(fragment) for fragment in content])))

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def element(tag: int, value: str) -> bytes:
    encoded = (value + "\0" * (len(value) % 2)).encode()
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(encoded)) + encoded


def data_set(instance: str = "1.3.1", sop_class: str = CT) -> bytes:
    identity = element(0x00080016, sop_class) + element(0x00080018, instance)
    return identity + element(0x00100010, "Doe^Jane") + element(0x0020000D, "1.4") + element(0x0020000E, "1.5")


def encoded(dataset: Dataset) -> bytes:
    stream = BytesIO()
    dcmwrite(stream, dataset, implicit_vr=True, little_endian=True)
    return stream.getvalue()


def reference(keyword: str, **values: object) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, "1.3.1"
    for name, value in values.items():
        setattr(item, name, value)
    dataset = Dataset()
    dataset.TransactionUID = "1.7"
    setattr(dataset, keyword, [item])
    return dataset


def test_an_echo_is_answered_and_a_cancel_is_not(bench: Bench) -> None:
    assert bench.answer(CommandField.C_ECHO, abstract=VERIFICATION) == Answer(SUCCESS)
    assert bench.answer(CommandField.C_CANCEL) is None


@pytest.mark.parametrize(
    ("operation", "abstract", "status"),
    [
        (0x0020, CT, UNRECOGNIZED),
        (0x9999, CT, UNRECOGNIZED),
        (CommandField.N_ACTION, CT, CLASS_NOT_SUPPORTED),
        (CommandField.N_EVENT_REPORT, CT, CLASS_NOT_SUPPORTED),
        (CommandField.C_STORE, VERIFICATION, CLASS_NOT_SUPPORTED),
        (CommandField.C_STORE, STORAGE_COMMITMENT, CLASS_NOT_SUPPORTED),
    ],
)
def test_what_the_context_does_not_have_is_refused(bench: Bench, operation: int, abstract: str, status: int) -> None:
    assert bench.answer(operation, [data_set()], abstract=abstract) == Answer(status)
    assert not bench.files()
    assert not bench.events


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_stored_instance_is_reported_from_where_it_lies(bench: Bench, step: int) -> None:
    content = data_set()
    pieces = [content[at : at + step] for at in range(0, len(content), step)]
    assert bench.answer(CommandField.C_STORE, pieces) == Answer(SUCCESS)
    (event,) = bench.events
    assert isinstance(event, InstanceStored)
    assert (event.ref.study_instance_uid, event.ref.sop_instance_uid) == ("1.4", "1.3.1")
    assert event.path.read_bytes().endswith(content)
    assert bench.files() == [event.path]


REFUSED = {
    "nothing": (b"", 0xC000),
    "a part": (data_set()[:-1], 0xC000),
    "a second study": (data_set() + element(0x0020000D, "1.9"), 0xC000),
    "another instance": (data_set("1.3.2"), 0xA900),
    "another class": (data_set(sop_class="1.2.840.10008.5.1.4.1.1.4"), 0xA900),
}


@pytest.mark.parametrize("content", REFUSED)
def test_a_refused_instance_leaves_a_reason_and_nothing_else(
    bench: Bench, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    encoded_content, status = REFUSED[content]
    answer = bench.answer(CommandField.C_STORE, [encoded_content])
    assert answer
    assert (answer.status, bool(answer.comment)) == (status, True)
    assert not bench.files()
    assert [type(event) for event in bench.events] == [ObjectRefused]
    assert answer.comment in caplog.text
    assert "Doe" not in caplog.text


def test_a_full_disk_is_a_status_of_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Limits(1 << 60, 1 << 20))
    answer = bench.answer(CommandField.C_STORE, [data_set()])
    assert answer
    assert answer.status == 0xA700
    assert not bench.files()


@pytest.mark.parametrize("instance", [b"", b"../../etc/passwd", b"Doe^Jane"])
def test_a_command_that_names_no_instance_is_not_repeated_in_the_log(
    bench: Bench, instance: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = bench.answer(CommandField.C_STORE, [data_set()], instance=instance)
    assert answer
    assert answer.status == 0xC000
    assert not instance or instance.decode() not in caplog.text + str(caplog.records[0].__dict__)


def test_a_request_for_commitment_is_on_disk_before_it_is_answered(bench: Bench) -> None:
    content = encoded(reference("ReferencedSOPSequence"))
    assert bench.answer(CommandField.N_ACTION, [content], abstract=STORAGE_COMMITMENT) == Answer(SUCCESS)
    (path,) = bench.commitments.paths()
    assert bench.events == [CommitmentSaved(path, "CALLER")]
    assert load(path) == CommitmentRequest("CALLER", UID("1.7"), ((UID(CT), UID("1.3.1")),))
    assert "1.7" not in path.name


def test_a_report_of_commitment_is_on_disk_with_its_failures_before_it_is_answered(bench: Bench) -> None:
    content = encoded(reference("FailedSOPSequence", FailureReason=0x0112))
    assert bench.answer(CommandField.N_EVENT_REPORT, [content], abstract=STORAGE_COMMITMENT) == Answer(SUCCESS)
    (path,) = bench.commitments.paths()
    assert bench.events == [CommitmentSaved(path, "")]
    assert load(path) == CommitmentReport(UID("1.7"), (), ((UID("1.3.1"), 0x0112),))


def test_a_commitment_without_a_transaction_is_a_failure(bench: Bench) -> None:
    dataset = reference("ReferencedSOPSequence")
    del dataset.TransactionUID
    answer = bench.answer(CommandField.N_ACTION, [encoded(dataset)], abstract=STORAGE_COMMITMENT)
    assert answer == Answer(
        PROCESSING_FAILURE, "TransactionUID is missing; correct the instance at its source and send it again"
    )
    assert not bench.events
    assert not bench.commitments.paths()


def test_who_cannot_be_reported_to_is_answered_with_what_to_configure(tmp_path: Path) -> None:
    bench = Bench(tmp_path, is_peer=False)
    content = encoded(reference("ReferencedSOPSequence"))
    answer = bench.answer(CommandField.N_ACTION, [content], abstract=STORAGE_COMMITMENT)
    assert answer == Answer(PROCESSING_FAILURE, "add your AE title, host and port as [[peer]] to node.toml")
    assert len(answer.comment) <= 64
    assert not bench.files()
    report = encoded(reference("FailedSOPSequence", FailureReason=0x0112))
    assert bench.answer(CommandField.N_EVENT_REPORT, [report], abstract=STORAGE_COMMITMENT) == Answer(SUCCESS)


def test_a_commitment_that_is_too_long_is_a_failure(bench: Bench) -> None:
    fragments = [bytes(1 << 20)] * 17
    answer = bench.answer(CommandField.N_ACTION, fragments, abstract=STORAGE_COMMITMENT)
    assert answer
    assert answer.status == PROCESSING_FAILURE
    assert not bench.files()


def test_a_flood_of_refused_instances_is_a_few_lines(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(100):
        answer = bench.answer(CommandField.C_STORE, [b"noise"], instance=f"1.3.{number}".encode())
        assert answer
        assert answer.status == 0xC000
    assert [getattr(record, "sop_instance_uid", "") for record in caplog.records] == [f"1.3.{n}" for n in range(5)]
