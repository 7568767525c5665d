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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ainode.node import logs
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.receiving.commitment_files import CommitmentFiles
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, Event
from ainode.node.receiving.handover import AdoptedProcess, RunningReceiver
from ainode.node.receiving.listener import Receiver, listen
from ainode.node.receiving.losses import ending_of
from ainode.node.receiving.negotiation import Policy, policy
from ainode.node.receiving.outbox import QUEUED_EVENTS, Outbox
from ainode.node.receiving.pulse import ACCEPTED, Pulse
from ainode.node.receiving.upper_layer import Channel, Opener

if TYPE_CHECKING:
    from ainode.node.settings import Settings
    from ainode.node.tls import ServerFiles

_STOP_TIMEOUT_S: Final = 10.0
_PARENT_CHECK_S: Final = 1.0
# The system closes the connections of a process that ends before it tells the status.
_EXIT_S: Final = 1.0
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
    writing: str
    """the folder of the spool that this receiver alone writes in"""
    queued_events: int = QUEUED_EVENTS


@dataclass(frozen=True, slots=True)
class _Child:
    """A process that was started, and the thread that takes its events."""

    process: "subprocess.Popen[bytes] | AdoptedProcess"
    connection: Connection
    detacher: Connection
    """whatever is sent here ends the thread"""
    thread: threading.Thread

    def is_alive(self) -> bool:
        """Return whether the process runs, and somebody takes its events."""
        return self.process.poll() is None and self.thread.is_alive()

    def status(self) -> int | None:
        """Return the exit status; None of a process that runs, for a moment longer than it has its connection."""
        try:
            return self.process.wait(_EXIT_S)
        except (TimeoutError, subprocess.TimeoutExpired):
            return None

    def close(self) -> None:
        """Kill the process if it runs still, wait for its last event, and give its descriptors back."""
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.connection.close()
        self.detacher.close()


class ReceiverProcess:
    """A receiver in a child process, which ends when this process ends, even if this process is killed."""

    def __init__(
        self,
        settings: "Settings",
        *,
        listener: socket.socket | None = None,
        number: int = 0,
        running: RunningReceiver | None = None,
    ) -> None:
        """Bind the socket; callers that connect are served after `start`. A `running` receiver serves them already.

        Several receivers of one node have one `listener`, and each a `number`.

        Raises: ConfigError if the address, the port, the allow list or the certificate is wrong.
        """
        from ainode.node import tls  # noqa: PLC0415 - the child imports tls only for a certificate

        node = settings.node
        limits = Limits(node.min_free_bytes, node.max_object_bytes)
        folders = settings.data / "spool", settings.data / "commitments"
        writing = f"tmp-{number}" if number else "tmp"
        self._configuration = _Configuration(policy(settings), *folders, limits, tls.server_files(node), writing)
        tls.context_of(node)
        self.number, self._running = number, running
        self._opened: dict[str, AssociationOpened] = {}
        self._listener = listener or listen(node.bind, node.port)
        self._pulse = Pulse(running.pulse) if running else Pulse.create()
        self._child: _Child | None = None

    def start(self, on_event: Callable[[Event], None]) -> None:
        """Start the child; one thread calls `on_event`, in the order of the events within each association.

        Raises: OSError if no process can be started.
        """
        running, self._running = self._running, None
        detach_reader, detacher = Pipe(duplex=False)
        try:
            process, connection = self._adopted(running, on_event) if running else self._begun()
        except OSError:
            detach_reader.close()
            detacher.close()
            raise
        events = connection, detach_reader, on_event
        thread = threading.Thread(target=self._deliver, args=events, name="receiver events", daemon=True)
        thread.start()
        self._child = _Child(process, connection, detacher, thread)

    def _adopted(
        self, running: RunningReceiver, on_event: Callable[[Event], None]
    ) -> tuple[AdoptedProcess, Connection]:
        """Go on with a child that runs: it gets the new policy, `on_event` the associations that are open."""
        connection = Connection(running.connection)
        for event in running.opened:
            self._take(event, on_event)
        with contextlib.suppress(ConnectionError):  # it has ended meanwhile, and `is_alive` says so
            connection.send(self._configuration.policy)
        return AdoptedProcess(running.pid), connection

    def _begun(self) -> tuple["subprocess.Popen[bytes]", Connection]:
        self._pulse.await_start()
        connection, child_connection = Pipe()
        fds = (child_connection.fileno(), self._listener.fileno(), self._pulse.descriptor)
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-P", "-m", __name__, *map(str, fds), str(os.getpid())],
                pass_fds=fds,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        except OSError:
            connection.close()
            raise
        finally:
            child_connection.close()
        with contextlib.suppress(ConnectionError):  # it has ended at once, and `is_alive` says so
            connection.send(self._configuration)
        return process, connection

    @property
    def pid(self) -> int:
        """Return the child's process id.

        Raises: ValueError if no child was started.
        """
        return self._started().process.pid

    @property
    def is_handed_over(self) -> bool:
        """Return whether `start` goes on with a child that runs already."""
        return self._running is not None

    @property
    def is_started(self) -> bool:
        """Return whether a child was started that `forget` has not forgotten; it may have ended."""
        return self._child is not None

    def is_alive(self) -> bool:
        """Return whether the child still runs, and somebody takes its events."""
        return self._child is not None and self._child.is_alive()

    def ending(self) -> str:
        """Return how a child that is not alive ended, in words that follow its name."""
        status = self._child.status() if self._child else None
        return "has nobody who takes its events (the log says why)" if status is None else ending_of(status)

    def has_accepted(self) -> bool:
        """Return whether the child accepted an association: only then may it have stored something."""
        return self._pulse.counts()[ACCEPTED] > 0

    def forget(self) -> None:
        """Let go of a child that is not alive; `start` may start another."""
        if self._child:
            child, self._child = self._child, None
            child.close()

    def end_associations(self, on_event: Callable[[Event], None], now: datetime) -> None:
        """Tell that the associations of a child that was forgotten have ended: it cannot tell any more."""
        for association in [*self._opened]:
            self._take(AssociationEnded(association, now, is_released=False), on_event)

    def fault(self) -> str:
        """Return why callers are not served, '' if they are."""
        child = self._child
        if child is None or not child.is_alive():
            return f"the receiver {self.ending()}"
        if _is_suspended(child.process.pid):
            return f"the receiver is suspended; continue it with `kill -CONT {child.process.pid}`"
        silence_s = self._pulse.age_s()
        if silence_s > _LONGEST_SILENCE_S:
            return f"the receiver has accepted no connection for {silence_s:.0f} s; see the log, and restart the node"
        if shortage := self._pulse.shortage():
            return f"the receiver can accept no connection: {os.strerror(shortage)}"
        return ""

    def counts(self) -> Mapping[str, int]:
        """Return what the child has counted since it started, by the names of `pulse.COUNTED`."""
        return self._pulse.counts()

    def detach(self) -> RunningReceiver:
        """Take no more events, and return the child for the next program; what the child sends then stays in the pipe.

        Whoever takes the events must take them until this method returns.

        Raises: ValueError if no child was started.
        """
        child = self._started()
        child.detacher.send(None)
        child.thread.join()
        descriptors = child.connection.fileno(), self._pulse.descriptor
        return RunningReceiver(self.number, child.process.pid, *descriptors, tuple(self._opened.values()))

    def stop(self) -> None:
        """End the child; return after its last event.

        Whoever takes the events must take them, or drop them, until this method returns.
        """
        self.ask_to_stop(0.0)
        self.await_end(0.0)

    def ask_to_stop(self, within_s: float) -> None:
        """Let the child take no more callers, and end; its associations in use may go on for so long."""
        if self._child:
            with contextlib.suppress(OSError):  # it has ended
                self._child.connection.send(within_s)

    def await_end(self, within_s: float) -> None:
        """Return after the last event of a child that was asked to stop; kill the child if it takes too long.

        Whoever takes the events must take them, or drop them, until this method returns.
        """
        if self._child:
            with contextlib.suppress(TimeoutError, subprocess.TimeoutExpired):
                self._child.process.wait(within_s + _STOP_TIMEOUT_S)
            self._child.close()
        self._listener.close()
        self._pulse.close()

    def _started(self) -> _Child:
        if self._child is None:
            message = "no receiver was started"
            raise ValueError(message)
        return self._child

    def _deliver(self, connection: Connection, detach_reader: Connection, on_event: Callable[[Event], None]) -> None:
        """Call `on_event` with each event of the child until the child closes the connection, or `detach`."""
        with detach_reader, contextlib.suppress(EOFError, ConnectionError):
            while detach_reader not in wait([connection, detach_reader]):
                for event in connection.recv():
                    self._take(event, on_event)

    def _take(self, event: Event, on_event: Callable[[Event], None]) -> None:
        """Note which associations are open, and hand an event on."""
        if isinstance(event, AssociationOpened):
            self._opened[event.association] = event
        elif isinstance(event, AssociationEnded):
            self._opened.pop(event.association, None)
        on_event(event)


def _is_suspended(pid: int) -> bool:
    """Return whether a signal suspended the process (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].startswith(("T", "t"))
    except OSError:
        return False


def _message(connection: Connection, parent: int) -> float | Policy | None:
    """Wait a moment; return the parent's new policy, or within how many seconds to end: 0 if the parent has ended."""
    try:
        if connection.poll(_PARENT_CHECK_S):
            received = connection.recv()
            return received if isinstance(received, Policy) else float(received)
    except (EOFError, OSError):
        return 0.0
    return None if os.getppid() == parent else 0.0


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
    outbox = Outbox(connection, configuration.queued_events)
    spool = Spool(configuration.spool, configuration.limits, writing=configuration.writing)
    receiver = Receiver(
        configuration.policy,
        spool,
        outbox.put,
        commitments=CommitmentFiles(configuration.commitments),
        listener=listener,
        open_channel=_opener(configuration.tls),
    )
    receiver.start(pulse.beat, pulse.count)
    within_s, is_whole = None, True
    while within_s is None and is_whole:
        # Asked before the message: the parent sends it before it closes the socket, which ends the accepting thread.
        is_whole = receiver.is_alive() and outbox.is_alive()
        message = _message(connection, parent)
        if isinstance(message, Policy):
            receiver.change(message)
        else:
            within_s = message
    if within_s is None:
        _log.error("the accepting thread ended, or the thread of the events; the receiver ends")
    receiver.stop(within_s or 0.0, lambda: os.getppid() != parent)
    outbox.close()
    return 1 if within_s is None else 0


if __name__ == "__main__":
    _connection, _listener, _pulse, _parent = (int(argument) for argument in sys.argv[1:])
    sys.exit(_run(Connection(_connection), socket.socket(fileno=_listener), Pulse(_pulse), _parent))
