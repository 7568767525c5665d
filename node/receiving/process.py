"""The receiver in a child process, which does not wait for the node's other Python work.

The parent opens the listening socket, so that an occupied port is an error of the parent. The child sends events in
batches from a bounded queue, so that a busy parent slows the senders down and loses no event.
"""

import contextlib
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ainode.node import logs
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.receiving.commitment_files import CommitmentFiles
from ainode.node.receiving.event_queue import EventQueue
from ainode.node.receiving.events import AssociationOpened, Event, InstanceStored
from ainode.node.receiving.listener import Receiver, listen
from ainode.node.receiving.negotiation import Policy, policy
from ainode.node.receiving.pulse import Pulse
from ainode.node.receiving.upper_layer import Channel, Opener

if TYPE_CHECKING:
    from ainode.node.settings import Settings
    from ainode.node.tls import ServerFiles

_QUEUED_EVENTS: Final = 10_000
_MAX_BATCH_EVENTS: Final = 500
# Events wait so long for a batch, so that the parent does not commit its index for each instance.
_BATCH_S: Final = 1.0
_STOP_TIMEOUT_S: Final = 10.0
_PARENT_CHECK_S: Final = 1.0
# Threads of the receiver do not recurse; the usual 8 MB each would hide from the limit what the receiver really needs.
_STACK_BYTES: Final = 512 * 1024
# Measured: 15 MB at rest, 40 with TLS, 180 with every place taken, 60 more for the longest requests for commitment; and
# as much again. An association has a buffer of a PDU, and some MB more while an instance is inflated and scanned.
_MEMORY_BYTES: Final = 512 << 20
_MEMORY_OF_ASSOCIATION_BYTES: Final = 4 << 20
# Seven beats of the accepting thread.
_LONGEST_SILENCE_S: Final = 3.5
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Configuration:
    """The first message from the parent to the child."""

    policy: Policy
    spool: Path
    commitments: Path
    limits: Limits
    tls: "ServerFiles | None"
    queued_events: int = _QUEUED_EVENTS


class ReceiverProcess:
    """A receiver in a child process, which ends when this process ends, even if this process is killed."""

    def __init__(self, settings: "Settings", *, listener: socket.socket | None = None) -> None:
        """Bind the socket; callers that connect are served after `start`.

        Raises: ConfigError if the address, the port, the allow list or the certificate is wrong.
        """
        from ainode.node import tls  # noqa: PLC0415 - the child imports tls only for a certificate

        node = settings.node
        limits = Limits(node.min_free_bytes, node.max_object_bytes)
        folders = settings.data / "spool", settings.data / "commitments"
        self._configuration = _Configuration(policy(settings), *folders, limits, tls.server_files(node))
        tls.context_of(node)
        self._listener = listener or listen(node.bind, node.port)

    def start(self, on_event: Callable[[Event], None]) -> None:
        """Start the child; one thread calls `on_event`, in the order of the events within each association."""
        self._connection, child_connection = Pipe()
        self._pulse = Pulse.create()
        fds = (child_connection.fileno(), self._listener.fileno(), self._pulse.descriptor)
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", __name__, *map(str, fds), str(os.getpid())],
            pass_fds=fds,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        child_connection.close()
        self._connection.send(self._configuration)
        self._event_thread = threading.Thread(
            target=self._deliver, args=(on_event,), name="receiver events", daemon=True
        )
        self._event_thread.start()

    @property
    def pid(self) -> int:
        """Return the child's process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Return whether the child still runs, and somebody takes its events."""
        return self._process.poll() is None and self._event_thread.is_alive()

    def fault(self) -> str:
        """Return why callers are not served, '' if they are."""
        if not self.is_alive():
            return "the receiver ended"
        if _is_suspended(self.pid):
            return f"the receiver is suspended; continue it with `kill -CONT {self.pid}`"
        silence_s = self._pulse.age_s()
        if silence_s > _LONGEST_SILENCE_S:
            return f"the receiver has accepted no connection for {silence_s:.0f} s; see the log, and restart the node"
        if shortage := self._pulse.shortage():
            return f"the receiver can accept no connection: {os.strerror(shortage)}"
        return ""

    def stop(self) -> None:
        """End the child, which aborts the open associations; return after the child's last event.

        Whoever takes the events must take them, or drop them, until this method returns.
        """
        try:
            self._connection.send(None)
            self._process.wait(_STOP_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._event_thread.join()
        self._connection.close()
        self._listener.close()
        self._pulse.close()

    def _deliver(self, on_event: Callable[[Event], None]) -> None:
        """Call `on_event` with each event of the child until the child closes the connection."""
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                for event in self._connection.recv():
                    on_event(event)


class _Outbox:
    """The queue of events that the child sends to the parent."""

    def __init__(self, connection: Connection, queued_events: int = _QUEUED_EVENTS) -> None:
        self._connection = connection
        self._queue: EventQueue[Event | None] = EventQueue(queued_events)
        self._thread = threading.Thread(target=self._send, name="events", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Queue an event; wait while the queue is full."""
        self._queue.put(event)

    def is_alive(self) -> bool:
        """Return whether the events are still sent."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Send the remaining events, and wait until they are sent."""
        self._queue.put(None)
        self._thread.join()

    def _send(self) -> None:
        # After a crash the parent finds on disk what it was not told.
        try:
            batch = self._next_batch()
            while batch[-1] is not None:
                self._connection.send(tuple(batch))
                batch = self._next_batch()
            self._connection.send(tuple(batch[:-1]))
        except ConnectionError:
            _log.info("nobody takes the events any more", extra={"action": "parent_gone"})
        finally:
            self._queue.close()  # no association waits for a thread that has ended

    def _next_batch(self) -> list[Event | None]:
        """Return the events of a moment, with None at the end of all; the end of an association does not wait."""
        batch = self._queue.take(1)
        batch_end = time.monotonic() + _BATCH_S
        while len(batch) < _MAX_BATCH_EVENTS and isinstance(batch[-1], InstanceStored | AssociationOpened):
            events = self._queue.take(1, max(batch_end - time.monotonic(), 0))
            if not events:
                break
            batch += events
        return batch


def _is_suspended(pid: int) -> bool:
    """Return whether a signal suspended the process (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].startswith(("T", "t"))
    except OSError:
        return False


def _is_stopped(connection: Connection, parent: int) -> bool:
    """Wait a moment; return whether the parent sent the stop message, or ended."""
    try:
        return (connection.poll(_PARENT_CHECK_S) and connection.recv() is None) or os.getppid() != parent
    except (EOFError, OSError):
        return True


def _opener(files: "ServerFiles | None") -> Opener:
    """Return the function that opens channels, with TLS if there is a certificate; only then load OpenSSL."""
    if files is None:
        return Channel
    from ainode.node.receiving.secure_channel import SecureChannel  # noqa: PLC0415
    from ainode.node.tls import accepting  # noqa: PLC0415

    return partial(SecureChannel, context=accepting(files))


def _limit_memory(policy: Policy) -> None:
    """Let no stranger take the memory of the machine: beyond the limit an association fails, or the receiver restarts.

    Linux counts what is written, and not the address space, so that libraries and reserved memory do not matter.
    """
    threading.stack_size(_STACK_BYTES)
    needed_bytes = policy.max_associations * (2 * policy.max_pdu_bytes + _MEMORY_OF_ASSOCIATION_BYTES)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit_bytes = _MEMORY_BYTES + needed_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes if hard < 0 else min(limit_bytes, hard), hard))


def _run(connection: Connection, listener: socket.socket, pulse: Pulse, parent: int) -> int:
    """Receive until the parent sends the stop message, or ends, or a part of this process ends; return the status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends SIGINT to both processes; the parent decides
    logs.configure()
    configuration: _Configuration = connection.recv()
    _limit_memory(configuration.policy)
    outbox = _Outbox(connection, configuration.queued_events)
    spool = Spool(configuration.spool, configuration.limits)
    receiver = Receiver(
        configuration.policy,
        spool,
        outbox.put,
        commitments=CommitmentFiles(configuration.commitments),
        listener=listener,
        open_channel=_opener(configuration.tls),
    )
    receiver.start(pulse.beat)
    is_stopped = False
    while not is_stopped and receiver.is_alive() and outbox.is_alive():
        is_stopped = _is_stopped(connection, parent)
    if not is_stopped:
        _log.error("the accepting thread ended, or the thread of the events; the receiver ends")
    receiver.stop()
    outbox.close()
    return 0 if is_stopped else 1


if __name__ == "__main__":
    _connection, _listener, _pulse, _parent = (int(argument) for argument in sys.argv[1:])
    sys.exit(_run(Connection(_connection), socket.socket(fileno=_listener), Pulse(_pulse), _parent))
