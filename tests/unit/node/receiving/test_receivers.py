"""Several receivers at one address: each takes callers, and what one stored outlives its kill."""

import os
import signal
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from support.caller import CT, Caller, data_set, status, store_request
from support.waiting import until

from ainode.node.keeping.spool import Limits, Spool, spooled
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, Event, InstanceStored
from ainode.node.receiving.handover import Handover, taken
from ainode.node.receiving.listener import listen
from ainode.node.receiving.pulse import ACCEPTED, ENDED
from ainode.node.receiving.receivers import Receivers
from ainode.node.settings import NodeTable, Settings

RELEASED = 6
"""type of the PDU A-RELEASE-RP (PS3.8 9.3.7)"""


class Site:
    """Two receivers, and what they report."""

    def __init__(self, folder: Path) -> None:
        listener = listen("127.0.0.1", 0)
        self.port, self.events = int(listener.getsockname()[1]), list[Event]()
        self.settings = Settings(node=NodeTable(data=folder, min_free_bytes=0, receivers=2))
        self.spool = Spool(folder / "spool", Limits(0, 1 << 30))
        self.receivers = Receivers(self.settings, listener=listener)
        self.receivers.start(self.events.append)
        self.is_stopped = False
        self.earlier: Receivers | None = None
        """those of the program before"""

    @contextmanager
    def caller_of(self, number: int) -> Iterator[Caller]:
        """Yield a caller whose association is with one of the receivers: the other stands still meanwhile."""
        other = psutil.Process(self.receivers.pids[1 - number])
        other.suspend()
        until(lambda: other.status() == psutil.STATUS_STOPPED)
        try:
            caller = Caller(self.port)
        finally:
            other.resume()
        with caller:
            yield caller

    def stored(self) -> set[str]:
        return {spooled(path).ref.sop_instance_uid for path in self.spool.unindexed()}

    def told(self) -> list[str]:
        return [event.ref.sop_instance_uid for event in self.events if isinstance(event, InstanceStored)]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    until(lambda: not site.receivers.fault())
    yield site
    if not site.is_stopped:
        site.receivers.stop()
    if site.earlier:
        site.earlier.stop()


def of_another_program(handover: Handover) -> Handover:
    """Return the same receivers by descriptors of their own."""
    receivers = (
        replace(receiver, connection=os.dup(receiver.connection), pulse=os.dup(receiver.pulse))
        for receiver in handover.receivers
    )
    return Handover(os.dup(handover.listener), tuple(receivers))


def store(caller: Caller, instance: str) -> int:
    return status(caller.store(data_set(instance), instance=instance))


def test_callers_of_one_address_are_served_by_two_processes_and_both_are_counted(site: Site) -> None:
    with ExitStack() as stack:
        callers = [stack.enter_context(site.caller_of(number)) for number in (0, 1)]
        assert [store(caller, f"1.3.{number}") for number, caller in enumerate(callers)] == [0, 0]
        assert store(callers[1], "1.3.0") == 0, "the same object over both"
        assert site.receivers.counts()[ACCEPTED] == 2
    until(lambda: site.receivers.counts()[ENDED] == 2)
    until(lambda: sum(isinstance(event, AssociationEnded) for event in site.events) == 2)
    assert sorted(site.told()) == ["1.3.0", "1.3.0", "1.3.1"]
    assert len(site.spool.unindexed()) == 3
    assert {path.name for path in site.spool.root.glob("tmp*")} == {"tmp", "tmp-1"}


@pytest.mark.parametrize("killed", [0, 1])
def test_what_a_killed_receiver_answered_is_there_and_the_other_goes_on(site: Site, killed: int) -> None:
    with site.caller_of(killed) as lost, site.caller_of(1 - killed) as other:
        assert (store(lost, "1.3.0"), store(other, "1.3.1")) == (0, 0)
        os.kill(site.receivers.pids[killed], signal.SIGKILL)
        until(site.receivers.watch)
        assert "killed by signal 9" in site.receivers.fault()
        assert site.receivers.is_alive()
        assert store(other, "1.3.2") == 0
        with Caller(site.port) as later:
            assert store(later, "1.3.3") == 0
        assert site.stored() == {f"1.3.{number}" for number in range(4)}
        with pytest.raises((OSError, AssertionError)):
            store(lost, "1.3.4")


def test_the_next_program_goes_on_with_those_that_run_and_starts_the_others(site: Site) -> None:
    with site.caller_of(0) as lost, site.caller_of(1) as other:
        assert (store(lost, "1.3.0"), store(other, "1.3.1")) == (0, 0)
        until(lambda: sorted(site.told()) == ["1.3.0", "1.3.1"])
        first, survivor = site.receivers.pids
        os.kill(first, signal.SIGKILL)
        until(site.receivers.watch)
        site.receivers.detach().offer()
        handover = taken()
        assert handover
        assert [receiver.pid for receiver in handover.receivers] == [survivor]
        assert len(handover.receivers[0].opened) == 1, "the association of the killed one is over"
        assert [(loss.number, loss.count) for loss in handover.losses] == [(0, 1)]

        site.events.clear()
        site.earlier, site.receivers = site.receivers, Receivers(site.settings, handover=of_another_program(handover))
        site.receivers.start(site.events.append)
        until(lambda: not site.receivers.watch() and len(site.receivers.pids) == 2)
        assert site.receivers.pids[0] != first
        assert site.receivers.pids[1] == survivor
        assert AssociationOpened in map(type, site.events)
        until(lambda: not site.receivers.fault())
        assert store(other, "1.3.2") == 0
        with site.caller_of(0) as caller:
            assert store(caller, "1.3.3") == 0
        until(lambda: sorted(site.told()) == ["1.3.2", "1.3.3"])


def test_a_receiver_that_stops_leaves_the_socket_and_its_callers_to_the_other(site: Site) -> None:
    first, _ = site.receivers._processes
    first.ask_to_stop(0.0)
    until(lambda: not first.is_alive())
    with Caller(site.port) as caller:
        assert store(caller, "1.3.0") == 0


def test_a_receiver_that_stored_nothing_is_replaced_while_the_other_goes_on(site: Site) -> None:
    with site.caller_of(1) as other:
        first, second = site.receivers.pids
        os.kill(first, signal.SIGKILL)
        until(lambda: not site.receivers.watch() and bool(site.receivers.missing()))
        assert site.receivers.pids == (second,)
        assert not site.receivers.fault()
        assert store(other, "1.3.0") == 0
        until(lambda: not site.receivers.watch() and len(site.receivers.pids) == 2)
        assert site.receivers.pids[0] != first
        assert not site.receivers.missing()
        with site.caller_of(0) as caller:
            assert store(caller, "1.3.1") == 0
    until(lambda: sorted(site.told()) == ["1.3.0", "1.3.1"])


def test_a_receiver_that_ends_at_each_start_is_started_after_pauses_that_grow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spool").mkdir()
    obstacle = tmp_path / "spool" / "tmp-1"
    obstacle.write_text("a file where the second receiver has its folder")
    site = Site(tmp_path)
    try:
        for times in ("", ", 2 times in a row"):
            until(lambda: not site.receivers.watch() and bool(site.receivers.missing()))
            (sentence,) = site.receivers.missing()
            assert sentence.startswith("receiver 2 of 2 ended with exit status 1 (its last lines in the log say why)")
            assert f"{times}; another starts in" in sentence
            until(lambda: not site.receivers.watch() and not site.receivers.missing())
        ends_s = [record.created for record in caplog.records if record.__dict__.get("action") == "receiver_ended"]
        assert ends_s[1] - ends_s[0] >= 1.0
        with Caller(site.port) as caller:
            assert store(caller, "1.3.0") == 0
        obstacle.unlink()
        until(lambda: not site.receivers.watch() and len(site.receivers.pids) == 2 and not site.receivers.fault())
    finally:
        site.receivers.stop()


def test_a_stop_refuses_callers_and_lets_the_associations_of_both_go_on(site: Site) -> None:
    with site.caller_of(0) as first, site.caller_of(1) as second, ThreadPoolExecutor(1) as pool:
        assert (store(first, "1.3.0"), store(second, "1.3.1")) == (0, 0)
        # In the middle of a message: between two, a busy machine lets them rest for as long as ends an association.
        rests = begin_to_store(first, "1.3.2"), begin_to_store(second, "1.3.3")
        until(lambda: first.unread_bytes() == second.unread_bytes() == 0)
        ending = pool.submit(site.receivers.stop, 300.0)
        site.is_stopped = True
        until(lambda: is_refused(site.port))
        for caller, rest in zip((first, second), rests, strict=True):
            caller.socket.sendall(rest)
        assert [(status(caller.response()), caller.pdu()[0]) for caller in (first, second)] == [(0, RELEASED)] * 2
        ending.result()
    assert sorted(site.told()) == [f"1.3.{number}" for number in range(4)]
    assert sum(isinstance(event, AssociationEnded) and event.is_released for event in site.events) == 2


def begin_to_store(caller: Caller, instance: str) -> bytes:
    """Send a request and half of its data set; return the other half, and a request for the release."""
    content = data_set(instance, size=1000)
    caller.send(store_request(CT, instance), control=0x03)
    caller.send(content[:500], control=0x00)
    value = struct.pack(">IBB", len(content) - 500 + 2, 1, 0x02) + content[500:]
    return struct.pack(">BxI", 4, len(value)) + value + struct.pack(">BxII", 5, 4, 0)


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # the socket closed while this connection waited for a receiver: the next is refused
        return False
    return False
