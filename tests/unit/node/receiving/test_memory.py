"""How much memory strangers can make the receiver take."""

import resource
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.caller import CT, Caller, status
from support.waiting import until

from ainode.node.receiving.command_set import Tag, encode
from ainode.node.receiving.events import Event
from ainode.node.receiving.listener import listen
from ainode.node.receiving.negotiation import STORAGE_COMMITMENT
from ainode.node.receiving.process import ReceiverProcess
from ainode.node.settings import NodeTable, Peer, Settings

IMPLICIT = "1.2.840.10008.1.2"
REQUEST = encode(
    {
        Tag.AFFECTED_SOP_CLASS_UID: STORAGE_COMMITMENT.encode(),
        Tag.COMMAND_FIELD: struct.pack("<H", 0x0130),
        Tag.MESSAGE_ID: b"\7\0",
        Tag.COMMAND_DATA_SET_TYPE: b"\1\0",
    }
)


@dataclass(frozen=True)
class Child:
    process: ReceiverProcess
    port: int

    def peak_bytes(self) -> int:
        """Return the most resident memory that the receiver ever had."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

    def data_bytes(self) -> int:
        """Return the memory that Linux counts against the limit."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmData")) * 1024


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    listener = listen("127.0.0.1", 0)
    peer = Peer(name="scanner", ae_title="SCANNER", host="127.0.0.1", port=1)
    settings = Settings(node=NodeTable(data=tmp_path, min_free_bytes=0), peers=(peer,))
    process = ReceiverProcess(settings, listener=listener)
    events: list[Event] = []
    process.start(events.append)
    yield Child(process, listener.getsockname()[1])
    process.stop()


def element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def commitment_request(items: bytes) -> bytes:
    return element(0x00081195, b"1.9.3\0") + element(0x00081199, items)


EMPTY_ITEMS = element(0xFFFEE000, b"") * 1_000_000
SHORT_ITEM = element(0xFFFEE000, element(0x00081150, b"1\0") + element(0x00081155, b"1\0"))
SOP_CLASS = element(0x00081150, CT.encode() + b"\0")
REFERENCE = element(0xFFFEE000, SOP_CLASS + element(0x00081155, b"1.2.840.113619.2.55\0"))
REQUESTS = {
    "empty items": (commitment_request(EMPTY_ITEMS), 0x0110),
    "short items": (commitment_request(SHORT_ITEM * 110_000), 0x0110),
    "100,000 references": (commitment_request(REFERENCE * 100_000), 0x0000),
    "beyond the longest": (commitment_request(EMPTY_ITEMS * 4), 0x0110),
}


def request(port: int, content: bytes) -> int:
    """Return the answer to a request for storage commitment."""
    with Caller(port, (STORAGE_COMMITMENT, IMPLICIT), calling="SCANNER", timeout_s=300) as caller:
        caller.send(REQUEST, control=0x03)
        for begin in range(0, len(content), 100_000):
            is_last = begin + 100_000 >= len(content)
            caller.send(content[begin : begin + 100_000], control=0x02 if is_last else 0x00)
        return status(caller.response())


@pytest.mark.parametrize("kind", REQUESTS)
def test_four_enormous_requests_for_commitment_at_once_take_little_memory(child: Child, kind: str) -> None:
    content, expected = REQUESTS[kind]
    request(child.port, commitment_request(REFERENCE))
    before_bytes = child.peak_bytes()
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(request(child.port, content))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [expected] * 4
    assert child.peak_bytes() - before_bytes < 100 << 20


def test_the_receiver_has_a_limit_of_memory(child: Child) -> None:
    request(child.port, commitment_request(REFERENCE))
    soft, _ = resource.prlimit(child.process.pid, resource.RLIMIT_DATA)
    assert 2 * child.data_bytes() < soft < 1 << 30


def test_an_association_that_takes_too_much_memory_ends_and_the_receiver_goes_on(child: Child) -> None:
    content = commitment_request(REFERENCE * 100_000)
    request(child.port, commitment_request(REFERENCE))
    limits = resource.prlimit(child.process.pid, resource.RLIMIT_DATA)
    resource.prlimit(child.process.pid, resource.RLIMIT_DATA, (child.data_bytes() + (4 << 20), limits[1]))
    with pytest.raises((AssertionError, OSError)):
        request(child.port, content)
    # What is left of so little memory may be too little for another thread; the node restarts a receiver that hangs.
    resource.prlimit(child.process.pid, resource.RLIMIT_DATA, limits)
    assert request(child.port, commitment_request(REFERENCE)) == 0x0000
    # The next beat says that nothing is short any more.
    until(lambda: not child.process.fault(), shown=child.process.fault)
