"""The receiver in its own process: what a kill, a pause, a slow parent and a dead parent leave of what was answered."""

import contextlib
import dataclasses
import errno
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import Pipe
from pathlib import Path

import psutil
import pytest
from support.caller import CT, Caller, data_set, status, store_request
from support.waiting import until

from ainode.node.domain import UID, InstanceRef
from ainode.node.errors import ConfigError
from ainode.node.keeping.spool import Limits, Spool, spooled
from ainode.node.receiving.commitment_files import CommitmentFiles
from ainode.node.receiving.event_queue import EventQueue
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, CommitmentSaved, Event, InstanceStored
from ainode.node.receiving.listener import Receiver, listen
from ainode.node.receiving.negotiation import policy
from ainode.node.receiving.outbox import QUEUED_EVENTS, Outbox
from ainode.node.receiving.process import ReceiverProcess
from ainode.node.receiving.pulse import Pulse
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
    is_stopped: bool = False

    def take(self, event: Event) -> None:
        self.may_take.wait()
        self.events.append(event)

    def stop(self) -> None:
        self.may_take.set()
        self.is_stopped = True
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
    if not started.is_stopped:
        started.stop()


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
    until(lambda: len(answered) >= 50 and len({instance.split(".")[2] for instance in answered}) == len(senders))
    os.kill(child.process.pid, signal.SIGKILL)
    for sender in senders:
        sender.join()
    child.stop()
    spooled_uids = {spooled(path).ref.sop_instance_uid for path in child.spool.unindexed()}
    assert set(answered) <= spooled_uids
    assert len(spooled_uids) <= len(answered) + len(senders)


def test_a_receiver_that_was_paused_in_the_middle_of_a_value_goes_on(child: Child) -> None:
    content = data_set()
    process = psutil.Process(child.process.pid)
    with Caller(child.port) as caller:
        caller.send(store_request(CT, "1.3.1"), control=0x03)
        caller.socket.sendall(struct.pack(">BxIIBB", 4, len(content) + 6, len(content) + 2, 1, 2) + content[:1000])
        until(lambda: caller.unread_bytes() == 0)
        process.suspend()
        until(lambda: process.status() == psutil.STATUS_STOPPED)
        caller.socket.sendall(content[1000:1500])
        until(lambda: caller.unread_bytes() == 500)
        process.resume()
        caller.socket.sendall(content[1500:])
        assert status(caller.response()) == 0


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
    outbox = Outbox(childs)
    numbers = range(20_000)  # more than the queue, a batch and the pipe can hold
    events = [CommitmentSaved(Path(f"{number}"), "") for number in numbers]
    sender = threading.Thread(target=lambda: [outbox.put(event) for event in events])
    sender.start()
    until(lambda: len(outbox._queue) == QUEUED_EVENTS)
    assert sender.is_alive()
    received: list[Event] = []
    while len(received) < len(events):
        assert parents.poll(30)
        received.extend(parents.recv())
    sender.join()
    outbox.close()
    assert received == events


def test_instances_wait_for_the_end_of_an_association_which_takes_them_along_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ainode.node.receiving.outbox._BATCH_S", 3600.0)
    parents, childs = Pipe()
    outbox = Outbox(childs)
    now, path = datetime.now(UTC), Path("0.dcm")
    stored = [InstanceStored("one", path, a_ref(number), UID("1.2.840.10008.1.2"), 1, now) for number in range(300)]
    ended = AssociationEnded("one", now, is_released=True)
    for event in (AssociationOpened("one", "CT", "127.0.0.1", now), *stored, ended):
        outbox.put(event)
    assert parents.poll(30)
    assert parents.recv()[1:] == (*stored, ended)
    outbox.put(stored[0])
    outbox.close()
    assert parents.recv() == (stored[0],)


def a_ref(number: int) -> InstanceRef:
    return InstanceRef(UID("1.4.1"), UID("1.5.1"), UID(CT), UID(f"1.3.{number}"))


def test_an_outbox_whose_parent_is_gone_lets_the_child_end() -> None:
    parents, childs = Pipe()
    outbox = Outbox(childs)
    parents.close()
    outbox.put(AssociationEnded("association", datetime.now(UTC), is_released=True))
    outbox.close()
    assert not outbox._thread.is_alive()


def test_an_outbox_whose_parent_is_gone_lets_go_whoever_waits_for_room() -> None:
    parents, childs = Pipe()
    outbox = Outbox(childs)
    event = AssociationEnded("association", datetime.now(UTC), is_released=True)
    # The same event takes three bytes of a batch: the pipe holds many.
    sender = threading.Thread(target=lambda: [outbox.put(event) for _ in range(100_000)], daemon=True)
    sender.start()
    until(lambda: len(outbox._queue) == QUEUED_EVENTS)
    parents.close()
    sender.join(60)
    assert not sender.is_alive()


def store_and_release(port: int) -> None:
    """Make three events."""
    with Caller(port) as caller:
        assert status(caller.store(data_set(size=10))) == 0
        assert caller.release() == 6


def test_while_nobody_takes_events_a_caller_waits_and_the_receiver_stops_all_the_same(tmp_path: Path) -> None:
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    process = ReceiverProcess(Settings(node=NodeTable(data=tmp_path, min_free_bytes=0)), listener=listener)
    process._configuration = dataclasses.replace(process._configuration, queued_events=300)
    events = EventQueue[Event](100)
    process.start(events.put)
    answered: list[int] = []

    def call() -> None:
        with contextlib.suppress(OSError, AssertionError):  # of the caller that waits when the receiver stops
            for number in range(2000):
                store_and_release(port)
                answered.append(number)

    caller = threading.Thread(target=call)
    caller.start()
    until(lambda: len(answered) > (100 + 300) / 3)
    until(lambda: stands_still(answered, for_s=3))
    assert len(answered) < 2000
    assert len(events) == 100
    events.close()
    stopping = threading.Thread(target=process.stop, daemon=True)
    stopping.start()
    stopping.join(60)
    assert not stopping.is_alive()
    caller.join()


def stands_still(answered: list[int], *, for_s: float) -> bool:
    """Return whether no caller is answered for so long."""
    count, end_s = len(answered), time.monotonic() + for_s
    while len(answered) == count and time.monotonic() < end_s:
        time.sleep(0.01)
    return len(answered) == count


# Whether somebody answers


def test_a_receiver_whose_accepting_thread_ends_ends_with_it(child: Child) -> None:
    store_and_release(child.port)
    child.process._listener.shutdown(socket.SHUT_RDWR)
    until(lambda: not child.process.is_alive())
    assert child.process.ending().startswith("ended with exit status 1")
    assert child.process.fault().startswith("the receiver ended with exit status 1")


def test_a_suspended_receiver_is_a_fault_within_five_seconds_until_it_goes_on(child: Child) -> None:
    store_and_release(child.port)
    assert child.process.fault() == ""
    os.kill(child.process.pid, signal.SIGSTOP)
    suspended_at = time.monotonic()
    try:
        until(lambda: bool(child.process.fault()))
        assert time.monotonic() - suspended_at < 5
        assert "suspended" in child.process.fault()
    finally:
        os.kill(child.process.pid, signal.SIGCONT)
    until(lambda: not child.process.fault())


def test_a_receiver_without_a_free_file_descriptor_is_a_fault_until_it_has_some(child: Child) -> None:
    store_and_release(child.port)
    until(lambda: len(child.events) == 3)
    limits = resource.prlimit(child.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(child.process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    caller = threading.Thread(target=store_and_release, args=(child.port,))
    caller.start()
    until(lambda: os.strerror(errno.EMFILE) in child.process.fault())
    assert psutil.Process(child.process.pid).cpu_percent(0.5) < 50
    resource.prlimit(child.process.pid, resource.RLIMIT_NOFILE, limits)
    caller.join()
    until(lambda: not child.process.fault())
    assert child.process.is_alive()


def test_a_receiver_that_has_no_room_for_a_thread_goes_on_when_there_is_room(child: Child) -> None:
    until(lambda: child.process._pulse.age_s() > 0)
    limits = resource.prlimit(child.process.pid, resource.RLIMIT_AS)
    enough_for_no_stack = psutil.Process(child.process.pid).memory_info().vms + (200 << 10)
    resource.prlimit(child.process.pid, resource.RLIMIT_AS, (enough_for_no_stack, limits[1]))
    with pytest.raises((ConnectionError, struct.error)):
        store_and_release(child.port)
    resource.prlimit(child.process.pid, resource.RLIMIT_AS, limits)
    store_and_release(child.port)
    assert child.process.is_alive()


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
    until(lambda: has_ended(child))


def has_ended(process: Path) -> bool:
    """Return whether a process of /proc is gone, or waits for somebody to ask for its status."""
    try:
        return "Z" in (process / "stat").read_text().split()[2]
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_taken_port_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    listener = listen("127.0.0.1", 0)
    node = NodeTable(data=tmp_path, min_free_bytes=0, port=listener.getsockname()[1])
    with pytest.raises(ConfigError, match=r"node\.port"):
        ReceiverProcess(Settings(node=node))
    listener.close()


def test_nobody_beats_for_an_accepting_thread_that_has_ended(tmp_path: Path) -> None:
    listener, pulse = listen("127.0.0.1", 0), Pulse.create()
    rules = policy(Settings(node=NodeTable(data=tmp_path, min_free_bytes=0)))
    spool, commitments = Spool(tmp_path / "spool", Limits(0, 1 << 20)), CommitmentFiles(tmp_path / "commitments")
    receiver = Receiver(rules, spool, lambda _: None, commitments=commitments, listener=listener)
    receiver.start(pulse.beat)
    until(lambda: 0 < pulse.age_s() < 0.5)
    listener.shutdown(socket.SHUT_RDWR)
    until(lambda: not receiver.is_alive())
    until(lambda: pulse.age_s() > 1.5)
    receiver.stop()
    pulse.close()
