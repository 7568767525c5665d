"""The receiver in its own process: what a kill, a pause, a slow parent and a dead parent leave of what was answered."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import Pipe
from pathlib import Path

import psutil
import pytest
from support.caller import CT, Caller, data_set, status, store_request

from ainode.node.domain import UID
from ainode.node.errors import ConfigError
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, CommitmentReported, Event, InstanceStored
from ainode.node.receiving.listener import listen
from ainode.node.receiving.process import ReceiverProcess, _Outbox
from ainode.node.settings import NodeTable, Settings


@dataclass
class Child:
    """A receiver in a child process, and what it reports."""

    process: ReceiverProcess
    port: int
    spool: Spool
    events: list[Event] = field(default_factory=list)
    may_take: threading.Event = field(default_factory=threading.Event)
    """the parent takes no event before"""

    def take(self, event: Event) -> None:
        self.may_take.wait()
        self.events.append(event)

    def stop(self) -> None:
        self.may_take.set()
        self.process.stop()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    listener = listen("127.0.0.1", 0)
    settings = Settings(node=NodeTable(data=tmp_path, min_free_bytes=0))
    process = ReceiverProcess(settings, listener=listener)
    started = Child(process, listener.getsockname()[1], Spool(tmp_path / "spool", Limits(0, 1 << 30)))
    started.may_take.set()
    process.start(started.take)
    yield started
    if process.is_alive():
        started.stop()


def wait(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_receiver_has_kept_every_instance_it_answered(child: Child) -> None:
    answered: list[str] = []

    def send(sender: int) -> None:
        with Caller(child.port) as caller:
            for number in range(10_000):
                instance = f"1.3.{sender}.{number}"
                try:
                    assert status(caller.store(data_set(instance), instance=instance, step=20_000)) == 0
                except (OSError, AssertionError, struct.error):
                    return
                answered.append(instance)

    senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for sender in senders:
        sender.start()
    wait(lambda: len(answered) >= 50)
    os.kill(child.process.pid, signal.SIGKILL)
    for sender in senders:
        sender.join()
    child.stop()
    spooled = {instance.ref.sop_instance_uid for instance in child.spool.unindexed()}
    assert set(answered) <= spooled
    assert len(spooled) <= len(answered) + len(senders)


def test_a_receiver_that_was_paused_in_the_middle_of_a_value_goes_on(child: Child) -> None:
    content = data_set()
    process = psutil.Process(child.process.pid)
    with Caller(child.port) as caller:
        caller.send(store_request(CT, "1.3.1"), control=0x03)
        caller.socket.sendall(struct.pack(">BxIIBB", 4, len(content) + 6, len(content) + 2, 1, 2) + content[:1000])
        wait(lambda: unread_bytes(child.port, caller.socket) == 0)
        process.suspend()
        wait(lambda: process.status() == psutil.STATUS_STOPPED)
        caller.socket.sendall(content[1000:1500])
        wait(lambda: unread_bytes(child.port, caller.socket) == 500)
        process.resume()
        caller.socket.sendall(content[1500:])
        assert status(caller.response()) == 0


def unread_bytes(port: int, caller: socket.socket) -> int:
    """Return how much of what a caller sent lies in the kernel, unread by the listener at that port."""
    connections = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    ends = f":{port:04X}", f":{caller.getsockname()[1]:04X}"
    (queues,) = [row[4] for row in connections if row[1].endswith(ends[0]) and row[2].endswith(ends[1])]
    return int(queues.split(":")[1], 16)


def test_a_stopped_receiver_has_delivered_every_event_in_order_to_a_parent_that_was_behind(child: Child) -> None:
    child.may_take.clear()
    instances = [f"1.3.{number}" for number in range(100)]
    with Caller(child.port) as caller:
        for instance in instances:
            assert status(caller.store(data_set(instance), instance=instance)) == 0
        assert caller.release() == 6
    assert child.events == []
    child.stop()
    opened, *stored, ended = child.events
    assert isinstance(opened, AssociationOpened)
    assert [event.ref.sop_instance_uid for event in stored if isinstance(event, InstanceStored)] == instances
    assert ended == AssociationEnded(opened.association, ended.time, is_released=True)  # type: ignore[union-attr]
    assert not child.process.is_alive()


def test_events_wait_in_order_while_the_parent_takes_none_and_no_event_is_lost() -> None:
    parents, childs = Pipe()
    outbox = _Outbox(childs)
    numbers = range(12_000)  # more than the queue, a batch and the pipe can hold
    events = [CommitmentReported(UID(f"1.2.{number}"), (), ()) for number in numbers]
    sender = threading.Thread(target=lambda: [outbox.put(event) for event in events])
    sender.start()
    wait(outbox._queue.full)
    assert sender.is_alive()
    received: list[Event] = []
    while len(received) < len(events):
        assert parents.poll(30)
        received.extend(parents.recv())
    sender.join()
    outbox.close()
    assert received == events


def test_an_outbox_whose_parent_is_gone_lets_the_child_end() -> None:
    parents, childs = Pipe()
    outbox = _Outbox(childs)
    parents.close()
    outbox.put(AssociationEnded("association", datetime.now(UTC), is_released=True))
    outbox.close()
    assert not outbox._thread.is_alive()


def test_an_interrupt_of_the_terminal_is_left_to_the_parent(child: Child) -> None:
    with Caller(child.port) as caller:
        assert status(caller.store(data_set())) == 0
        os.kill(child.process.pid, signal.SIGINT)
        assert status(caller.store(data_set("1.3.2"), instance="1.3.2")) == 0
        assert caller.release() == 6
    assert child.process.is_alive()


def test_a_receiver_ends_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from ainode.node.receiving.listener import listen\n"
        "from ainode.node.receiving.process import ReceiverProcess\n"
        "from ainode.node.settings import NodeTable, Settings\n"
        "process = ReceiverProcess(Settings(node=NodeTable(data=Path(sys.argv[1]))), listener=listen('127.0.0.1', 0))\n"
        "process.start(print)\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout
        child = Path("/proc") / parent.stdout.readline().strip()
        assert child.exists()
        parent.kill()
    wait(lambda: not child.exists() or "Z" in (child / "stat").read_text().split()[2])


def test_a_taken_port_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    listener = listen("127.0.0.1", 0)
    node = NodeTable(data=tmp_path, min_free_bytes=0, port=listener.getsockname()[1])
    with pytest.raises(ConfigError, match=r"node\.port"):
        ReceiverProcess(Settings(node=node))
    listener.close()
