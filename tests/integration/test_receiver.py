"""The receiver against DCMTK, pynetdicom, and a caller who knows no manners."""

import logging
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, build_role
from pynetdicom.presentation import build_context
from support.caller import CT, IMPLICIT, Caller, associate, data_set, status, store_request
from support.waiting import until

from ainode.node import testing
from ainode.node.domain import UID
from ainode.node.errors import ConfigError
from ainode.node.keeping.spool import Limits, Spool, spooled
from ainode.node.receiving.command_set import Tag, encode
from ainode.node.receiving.commitment_files import CommitmentFiles, CommitmentReport, CommitmentRequest, load
from ainode.node.receiving.events import (
    AssociationEnded,
    AssociationOpened,
    CommitmentSaved,
    Event,
    InstanceStored,
    ObjectRefused,
)
from ainode.node.receiving.listener import Receiver, listen
from ainode.node.receiving.negotiation import STORAGE_COMMITMENT, VERIFICATION, policy
from ainode.node.settings import NodeTable, Peer, Settings

SHARED = Path(os.environ.get("AINODE_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data" / "dicom"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
EXPLICIT, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
DCMTK = Path("/usr/bin")
needs_dcmtk = pytest.mark.skipif(not (DCMTK / "storescu").exists(), reason="DCMTK is missing: apt-get install dcmtk")


@dataclass
class Running:
    """A receiver in this process, with what it reported."""

    port: int
    spool: Spool
    events: list[Event] = field(default_factory=list)

    def stored(self) -> list[InstanceStored]:
        return [event for event in self.events if isinstance(event, InstanceStored)]

    def until(self, condition: Callable[[], bool]) -> None:
        until(condition, shown=lambda: self.events)

    def until_ended(self, count: int = 1) -> None:
        self.until(lambda: sum(isinstance(event, AssociationEnded) for event in self.events) >= count)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    stops: list[Callable[[], None]] = []

    def start(**changed: object) -> Running:
        node = NodeTable.model_validate({"min_free_bytes": 0, "data": tmp_path} | changed)
        peer = Peer(name="scanner", ae_title="SCANNER", host="127.0.0.1", port=1)
        rules = policy(Settings(node=node, peers=(peer,)))
        listener = listen("127.0.0.1", 0)
        spool = Spool(tmp_path / "spool", Limits(node.min_free_bytes, node.max_object_bytes))
        running = Running(listener.getsockname()[1], spool)
        commitments = CommitmentFiles(tmp_path / "commitments")
        receiver = Receiver(rules, spool, running.events.append, commitments=commitments, listener=listener)
        receiver.start()
        stops.append(receiver.stop)
        return running

    yield start
    for stop in stops:
        stop()


@pytest.fixture
def running(start: Callable[..., Running]) -> Running:
    return start()


def command(name: str, *arguments: object, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(DCMTK / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
        env=os.environ | {"TCP_NODELAY": "1"} | (env or {}),
    )


# What is taken


@needs_dcmtk
def test_dcmtk_and_pynetdicom_can_verify(running: Running) -> None:
    assert command("echoscu", "-aec", "AINODE", "127.0.0.1", running.port).returncode == 0
    entity = AE("PYNETDICOM")
    entity.add_requested_context(VERIFICATION)
    association = entity.associate("127.0.0.1", running.port, ae_title="AINODE")
    assert association.send_c_echo().Status == 0
    association.release()


@needs_dcmtk
@pytest.mark.parametrize("client", ["storescu", "dcmsend"])
def test_dcmtk_sends_a_study_and_its_events_come_in_order(running: Running, client: str, tmp_path: Path) -> None:
    paths = testing.write((testing.noise(64, 64, seed=n) for n in range(5)), tmp_path / "in", study="s")
    done = command(client, "-aet", "SCANNER", "-aec", "AINODE", "127.0.0.1", running.port, *paths)
    assert done.returncode == 0, done.stderr
    running.until_ended()
    opened, *stored, ended = running.events
    assert isinstance(opened, AssociationOpened)
    assert (opened.calling_ae_title, opened.address) == ("SCANNER", "127.0.0.1")
    assert isinstance(ended, AssociationEnded)
    assert ended.is_released
    assert {one.association for one in running.stored()} == {opened.association} == {ended.association}
    sent = {pydicom.dcmread(path).SOPInstanceUID: pydicom.dcmread(path) for path in paths}
    assert [one.ref.sop_instance_uid for one in running.stored()] == list(sent)
    assert len(stored) == len(sent)
    for one in running.stored():
        assert pydicom.dcmread(one.path) == sent[one.ref.sop_instance_uid]
        assert one.path.stat().st_size == one.size_bytes


def test_an_association_that_brings_nothing_is_no_event(running: Running) -> None:
    with Caller(running.port) as caller:
        assert caller.release() == 6
    with Caller(running.port) as caller:
        assert status(caller.store(data_set())) == 0
        assert caller.release() == 6
    running.until_ended()
    assert len(running.events) == 3


def test_an_instance_is_on_disk_before_it_is_answered(running: Running) -> None:
    with Caller(running.port) as caller:
        assert status(caller.store(data_set())) == 0
        (stored,) = running.stored()
        assert stored.path.read_bytes().endswith(data_set())
        assert caller.release() == 6


@pytest.mark.parametrize("step", [2, 1000, 100_000])
def test_the_data_set_may_come_in_pieces_of_any_size(running: Running, step: int) -> None:
    with Caller(running.port) as caller:
        assert status(caller.store(data_set(size=500), step=step)) == 0
        assert running.stored()[0].path.read_bytes().endswith(data_set(size=500))


def test_command_and_data_may_share_a_pdu(running: Running) -> None:
    with Caller(running.port) as caller:
        values = b"".join(
            struct.pack(">IBB", len(content) + 2, 1, control) + content
            for content, control in ((store_request(CT, "1.3.1"), 0x03), (data_set(size=10), 0x02))
        )
        caller.socket.sendall(struct.pack(">BxI", 4, len(values)) + values)
        assert status(caller.response()) == 0


@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")
def test_bytes_of_every_transfer_syntax_are_kept_as_they_came(running: Running) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"no real DICOM at {SHARED}")
    kept = 0
    for path in sorted((SHARED / "transfer_syntaxes").rglob("*.dcm")):
        if path.read_bytes()[128:132] != b"DICM":
            continue
        meta = pydicom.dcmread(path, stop_before_pixels=True)
        transfer_syntax = meta.file_meta.TransferSyntaxUID
        named = all(meta.get(name) for name in ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"))
        if not named or transfer_syntax not in AllTransferSyntaxes:
            continue
        content = path.read_bytes()[144 + meta.file_meta.FileMetaInformationGroupLength :]
        with Caller(running.port, (meta.SOPClassUID, transfer_syntax)) as caller:
            response = caller.store(content, sop_class=meta.SOPClassUID, instance=meta.SOPInstanceUID, step=16_000)
        assert status(response) == 0, (path, response)
        stored = running.stored()[-1]
        assert str(stored.transfer_syntax_uid) == transfer_syntax
        assert stored.path.read_bytes().endswith(content)
        kept += 1
    assert kept > 20


# What is refused, by its own status


BAD = {
    "another class": (data_set(sop_class="1.2.840.10008.5.1.4.1.1.4"), 0xA900),
    "another instance": (data_set("1.3.2"), 0xA900),
    "cut off": (data_set()[:-1], 0xC000),
    "cut off in its header": (data_set()[:20], 0xC000),
    "empty": (b"", 0xC000),
    "noise": (os.urandom(4000), 0xC000),
    "no SOP Instance UID": (data_set(""), 0xC000),
    "an impossible UID": (data_set("../../1"), 0xC000),
    "of a second study behind its pixels": (data_set() + struct.pack("<HHI", 0x0020, 0x000D, 4) + b"1.9\0", 0xC000),
    "too large": (data_set(size=1_100_000), 0xA700),
    "nested without end": (
        (struct.pack("<HHI", 0x0008, 0x1110, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * 3000,
        0xC000,
    ),
    "four gigabytes long, it says": (data_set()[:-20_000] + struct.pack("<HHI", 0x7FE1, 0x0010, 0xFFFFFFFE), 0xC000),
}


@pytest.mark.parametrize("why", BAD)
def test_a_bad_object_costs_its_own_status_and_nothing_else(start: Callable[..., Running], why: str) -> None:
    running = start(max_object_bytes=1 << 20)
    content, expected = BAD[why]
    with Caller(running.port) as caller:
        response = caller.store(content)
        assert status(response) == expected
        comment = response.values[Tag.ERROR_COMMENT].decode("ascii")
        assert 0 < len(comment) <= 64
        assert "Doe" not in comment
        assert status(caller.store(data_set())) == 0
        assert caller.release() == 6
    assert len(running.spool.unindexed()) == 1


def test_a_request_without_a_data_set_is_not_understood(running: Running) -> None:
    with Caller(running.port) as caller:
        caller.send(store_request(CT, "1.3.1", data_set=0x0101), control=0x03)
        assert status(caller.response()) == 0xC000


def test_below_the_watermark_every_object_is_refused_and_the_association_stays(start: Callable[..., Running]) -> None:
    running = start(min_free_bytes=1 << 50)
    with Caller(running.port) as caller:
        assert [status(caller.store(data_set())) for _ in range(2)] == [0xA700, 0xA700]
        assert caller.release() == 6


def test_the_first_object_that_an_association_is_refused_is_told_in_the_order_of_its_events(
    start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    running = start(max_object_bytes=1 << 20)
    with Caller(running.port, calling="SCANNER") as caller:
        contents = data_set(), data_set(size=1_100_000), data_set(size=1_100_000), data_set()
        assert [status(caller.store(content)) for content in contents] == [0, 0xA700, 0xA700, 0]
        assert caller.release() == 6
    running.until_ended()
    kinds = [AssociationOpened, InstanceStored, ObjectRefused, InstanceStored, AssociationEnded]
    assert [type(event) for event in running.events] == kinds
    line, *_ = (record for record in caplog.records if getattr(record, "action", "") == "object_refused")
    assert line.calling_ae_title == "SCANNER"  # type: ignore[attr-defined]
    assert line.sop_instance_uid  # type: ignore[attr-defined]


def test_an_association_of_which_every_object_is_refused_is_told(start: Callable[..., Running]) -> None:
    running = start(min_free_bytes=1 << 50)
    with Caller(running.port) as caller:
        assert status(caller.store(data_set())) == 0xA700
        assert caller.release() == 6
    running.until_ended()
    assert [type(event) for event in running.events] == [AssociationOpened, ObjectRefused, AssociationEnded]


def test_an_unknown_operation_is_answered(running: Running) -> None:
    find = encode({Tag.COMMAND_FIELD: b"\x20\0", Tag.MESSAGE_ID: b"\1\0", Tag.COMMAND_DATA_SET_TYPE: b"\1\1"})
    with Caller(running.port) as caller:
        caller.send(find, control=0x03)
        assert status(caller.response()) == 0x0211
        assert status(caller.store(data_set())) == 0


def test_an_enormous_image_in_a_small_file_is_taken_without_being_decoded(running: Running) -> None:
    header = struct.pack("<HHIHHHIH", 0x0028, 0x0010, 2, 65535, 0x0028, 0x0011, 2, 65535)
    content = data_set(size=0)[:-8] + header + data_set(size=0)[-8:]
    with Caller(running.port) as caller:
        assert status(caller.store(content)) == 0


# Who is let in, and for what


@pytest.mark.parametrize(
    ("names", "changed", "reason"),
    [
        ({"called": "SOMEONE"}, {}, b"\0\1\1\7"),
        ({"calling": "STRANGER"}, {"allow": ("CALLER@*",)}, b"\0\1\1\3"),
        ({}, {"allow": ("CALLER@10.0.0.0/8", "OTHER@127.0.0.1")}, b"\0\1\1\3"),
    ],
)
def test_who_is_not_expected_is_rejected(
    start: Callable[..., Running], names: dict[str, str], changed: dict[str, object], reason: bytes
) -> None:
    with Caller(start(**changed).port, **names) as caller:
        assert (caller.kind, caller.answer) == (3, reason)


@pytest.mark.parametrize("allow", ["*@127.0.0.1", "CALLER@127.0.0.0/8", "CALLER@*"])
def test_who_is_expected_is_accepted(start: Callable[..., Running], allow: str) -> None:
    with Caller(start(allow=(allow,)).port) as caller:
        assert caller.kind == 2


@pytest.mark.parametrize("entry", ["127.0.0.1", "@127.0.0.1", "A@nowhere", "A@10.0.0.0/64", "*@*"])
def test_an_allow_list_entry_that_is_none_is_said_at_start(start: Callable[..., Running], entry: str) -> None:
    with pytest.raises(ConfigError, match=r"node\.allow"):
        start(allow=(entry,))


def test_one_association_too_many_is_told_to_try_again(start: Callable[..., Running]) -> None:
    running = start(max_associations=2)
    with Caller(running.port) as first, Caller(running.port) as second:
        assert [status(caller.store(data_set())) for caller in (first, second)] == [0, 0]
        with Caller(running.port) as third:
            assert (third.kind, third.answer) == (3, b"\0\2\3\2")
        assert first.release() == 6
        running.until_ended()
    with Caller(running.port) as fourth:
        assert fourth.kind == 2


def test_a_caller_has_no_more_associations_than_its_limit_and_another_caller_has_its_own(
    start: Callable[..., Running],
) -> None:
    running = start(max_associations_per_caller=1)
    with Caller(running.port) as first, Caller(running.port, calling="SCANNER") as peer:
        assert [status(caller.store(data_set())) for caller in (first, peer)] == [0, 0]
        with Caller(running.port) as second:
            assert (second.kind, second.answer) == (3, b"\0\2\3\2")


def test_each_context_is_answered_for_itself(running: Running) -> None:
    proposed = (
        (CT, RLE),
        ("1.2.3.4.5.6", EXPLICIT),
        (FIND, IMPLICIT),
        (CT, "1.2.840.113619.5.2"),
        (VERIFICATION, IMPLICIT),
    )
    with Caller(running.port, *proposed) as caller:
        results = {}
        at = 68
        while at < len(caller.answer):
            kind, length = struct.unpack_from(">BxH", caller.answer, at)
            if kind == 0x21:
                results[caller.answer[at + 4]] = caller.answer[at + 6]
            at += 4 + length
        assert results == {1: 0, 3: 0, 5: 3, 7: 4, 9: 0}


# Callers without manners


RUDE = {
    "an unknown PDU": struct.pack(">BxI", 0x42, 4) + bytes(4),
    "a second request": associate(((CT, IMPLICIT),), called="AINODE", calling="CALLER"),
    "a PDU longer than agreed": struct.pack(">BxIIBB", 4, 0x7FFFFFFF, 0x7FFFFFFB, 1, 2),
    "a PDU of four gigabytes": struct.pack(">BxIIBB", 4, 0xFFFFFFFF, 0xFFFFFFFB, 1, 2),
    "a value of four gigabytes": struct.pack(">BxIIBB", 4, 100, 0xFFFFFFFF, 1, 2),
    "an empty PDU": struct.pack(">BxII", 4, 0, 0),
    "a value longer than its PDU": struct.pack(">BxIIBB", 4, 100, 200, 1, 2),
    "a value without context": struct.pack(">BxII", 4, 6, 0) + bytes(2),
    "a context that was not accepted": struct.pack(">BxIIBB", 4, 6, 2, 99, 3),
    "data without a request": struct.pack(">BxIIBB", 4, 10, 6, 1, 2) + bytes(4),
    "a command of noise": struct.pack(">BxIIBB", 4, 26, 22, 1, 3) + b"\xff" * 20,
    "a command without end": (struct.pack(">BxIIBB", 4, 1006, 1002, 1, 1) + bytes(1000)) * 5,
    "a response": struct.pack(">BxIIBB", 4, 6 + 38, 2 + 38, 1, 3)
    + encode({Tag.COMMAND_FIELD: b"\1\x80", Tag.COMMAND_DATA_SET_TYPE: b"\1\1", Tag.STATUS: b"\0\0"}),
}


@pytest.mark.parametrize("how", RUDE)
def test_a_rude_caller_is_cut_off_and_keeps_what_was_answered(running: Running, how: str) -> None:
    with Caller(running.port) as caller:
        assert status(caller.store(data_set())) == 0
        caller.socket.sendall(RUDE[how])
        assert caller.aborted()
    running.until_ended()
    assert not next(event for event in running.events if isinstance(event, AssociationEnded)).is_released
    assert len(running.spool.unindexed()) == 1
    with Caller(running.port) as caller:
        assert caller.kind == 2


@pytest.mark.parametrize(
    "opening",
    [b"GET / HTTP/1.1\r\n\r\n", b"\1\0\xff\xff\xff\xff", struct.pack(">BxI", 1, 100) + b"\xff" * 100, b"\1\0\0\0\0\0"],
)
def test_what_is_no_association_request_is_cut_off(running: Running, opening: bytes) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
        connection.sendall(opening)
        try:
            answer = connection.recv(100)
        except ConnectionResetError:
            answer = b""
    assert answer[:1] in {b"", b"\7"}
    assert running.events == []


def test_an_object_that_was_interrupted_leaves_nothing_and_takes_nothing_with_it(running: Running) -> None:
    with Caller(running.port) as caller:
        assert status(caller.store(data_set())) == 0
        caller.send(store_request(CT, "1.3.2"), control=0x03)
        caller.send(data_set("1.3.2")[:1000], control=0x00)
        caller.socket.sendall(struct.pack(">BxII", 7, 4, 0))
    running.until_ended()
    assert [spooled(path).ref.sop_instance_uid for path in running.spool.unindexed()] == ["1.3.1"]
    assert list((running.spool.root / "tmp").iterdir()) == []


def test_a_silent_association_is_ended_and_the_log_names_its_caller(
    start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    running = start(network_timeout_s=2.0)  # long enough that the caller is not silent on a busy machine
    with Caller(running.port) as caller:
        assert status(caller.store(data_set())) == 0
        assert caller.aborted()
    assert len(running.spool.unindexed()) == 1

    def lines() -> list[logging.LogRecord]:
        return [record for record in caplog.records if getattr(record, "action", "") == "association_lost"]

    running.until(lambda: bool(lines()))  # the caller hears of it first
    (line,) = lines()
    assert line.calling_ae_title == "CALLER"  # type: ignore[attr-defined]


# Storage commitment


def test_a_request_for_commitment_is_accepted_and_reported(running: Running) -> None:
    assert commitment_status(running.port) == 0
    (saved,) = [event for event in running.events if isinstance(event, CommitmentSaved)]
    assert saved.requestor == "SCANNER"
    assert load(saved.path) == CommitmentRequest("SCANNER", UID("1.9.1"), ((UID(CT), UID("1.3.1")),))


def test_an_archive_may_report_its_commitment_on_an_association_of_its_own(running: Running) -> None:
    dataset = Dataset()
    dataset.TransactionUID = "1.9.2"
    good, bad = Dataset(), Dataset()
    good.ReferencedSOPClassUID, good.ReferencedSOPInstanceUID = CT, "1.3.1"
    bad.ReferencedSOPClassUID, bad.ReferencedSOPInstanceUID, bad.FailureReason = CT, "1.3.2", 0x0112
    dataset.ReferencedSOPSequence, dataset.FailedSOPSequence = [good], [bad]
    entity = AE("ARCHIVE")
    entity.requested_contexts = [build_context(STORAGE_COMMITMENT)]
    role = build_role(STORAGE_COMMITMENT, scp_role=True)
    association = entity.associate("127.0.0.1", running.port, ae_title="AINODE", ext_neg=[role])
    answer, _ = association.send_n_event_report(dataset, 2, STORAGE_COMMITMENT, "1.2.840.10008.1.20.1.1")
    assert answer.Status == 0
    association.release()
    (saved,) = [event for event in running.events if isinstance(event, CommitmentSaved)]
    assert load(saved.path) == CommitmentReport(UID("1.9.2"), (UID("1.3.1"),), ((UID("1.3.2"), 0x0112),))


def implicit(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


TRANSACTION = implicit(0x00081195, b"1.9.3\0")
REFERENCE = implicit(0x00081150, CT.encode() + b"\0") + implicit(0x00081155, b"1.3.1\0")
REFERENCES = implicit(0x00081199, implicit(0xFFFEE000, REFERENCE))
NESTED = struct.pack("<HHI", 0x0008, 0x1199, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
BROKEN = {
    "cut off": (TRANSACTION + REFERENCES)[:-1],
    "cut off in a header": (TRANSACTION + REFERENCES)[:10],
    "cut off in an item": TRANSACTION + implicit(0x00081199, implicit(0xFFFEE000, REFERENCE)[:-4]),
    "garbage": bytes(range(256)) * 10,
    "no Transaction UID": REFERENCES,
    "an empty Transaction UID": implicit(0x00081195, b"") + REFERENCES,
    "a Transaction UID that is none": implicit(0x00081195, b"../../x\0") + REFERENCES,
    "a Transaction UID twice": TRANSACTION * 2 + REFERENCES,
    "a reference without an instance": TRANSACTION
    + implicit(0x00081199, implicit(0xFFFEE000, implicit(0x00081150, CT.encode() + b"\0"))),
    "text for a sequence": TRANSACTION + implicit(0x00081199, b"Doe^Jane"),
    "nested without end": TRANSACTION + NESTED * 3000,
    "no data set": None,
    "a transaction of another VR": explicit(0x00081195, b"PN", b"Doe^Jane"),
    "a sequence of another VR": explicit(0x00081195, b"UI", b"1.9.3\0") + explicit(0x00081199, b"UI", b"1.3.1\0"),
}


@pytest.mark.parametrize("operation", [0x0130, 0x0100])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_commitment_message_that_is_broken_is_a_processing_failure_and_the_association_goes_on(
    running: Running, fault: str, operation: int
) -> None:
    content = BROKEN[fault]
    values = {
        Tag.AFFECTED_SOP_CLASS_UID: STORAGE_COMMITMENT.encode(),
        Tag.COMMAND_FIELD: struct.pack("<H", operation),
        Tag.MESSAGE_ID: b"\7\0",
        Tag.COMMAND_DATA_SET_TYPE: b"\1\1" if content is None else b"\1\0",
    }
    syntax = EXPLICIT if "VR" in fault else IMPLICIT
    contexts = ((STORAGE_COMMITMENT, syntax), (CT, IMPLICIT))
    with Caller(running.port, *contexts, calling="SCANNER") as caller:
        caller.send(encode(values), control=0x03)
        for at in range(0, len(content or b""), 4000):
            is_last = at + 4000 >= len(content or b"")
            caller.send((content or b"")[at : at + 4000], control=0x02 if is_last else 0x00)
        response = caller.response()
        assert status(response) == 0x0110
        assert 0 < len(response.values[Tag.ERROR_COMMENT]) <= 64
        assert b"Doe" not in response.values[Tag.ERROR_COMMENT]
        caller.send(store_request(CT, "1.3.1"), context=3, control=0x03)
        caller.send(data_set(size=10), context=3)
        assert status(caller.response()) == 0
        assert caller.release() == 6
    assert not [event for event in running.events if isinstance(event, CommitmentSaved)]


def test_a_disk_without_room_for_a_commitment_is_a_resource_limitation_until_there_is_room(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    folder = tmp_path / "commitments"
    folder.mkdir()
    if command("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder).returncode:
        pytest.skip("mounting needs root")
    try:
        running = start()
        with suppress(OSError), (folder / "full").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        assert commitment_status(running.port) == 0x0213
        assert not list(folder.glob("*.json*"))
        (folder / "full").unlink()
        assert commitment_status(running.port) == 0x0000
        assert len(list(folder.glob("*.json"))) == 1
    finally:
        command("umount", folder)


def commitment_status(port: int) -> int:
    """Return the answer to a request for storage commitment."""
    entity = AE("SCANNER")
    entity.add_requested_context(STORAGE_COMMITMENT)
    association = entity.associate("127.0.0.1", port, ae_title="AINODE")
    dataset = Dataset()
    dataset.TransactionUID = "1.9.1"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, "1.3.1"
    dataset.ReferencedSOPSequence = [item]
    answer, _ = association.send_n_action(dataset, 1, STORAGE_COMMITMENT, "1.2.840.10008.1.20.1.1")
    association.release()
    return int(answer.Status)


# Everything at once


@needs_dcmtk
def test_every_real_file_is_answered_and_the_receiver_stays_up(running: Running) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"no real DICOM at {SHARED}")
    to = ("-aec", "AINODE", "127.0.0.1", running.port)
    for folder in sorted(SHARED.iterdir()):
        if folder.is_dir() and folder.name != "corrupt_odd":
            command("dcmsend", "--no-halt", "--decompress-never", *to, "+sd", "+r", folder)
    for path in sorted((SHARED / "corrupt_odd").rglob("*.dcm")):  # one each: DCMTK's own clients die of some
        command("storescu", *to, path)
    assert command("echoscu", *to).returncode == 0
    assert len(running.stored()) > 220
    assert len(running.spool.unindexed()) == len(running.stored())
