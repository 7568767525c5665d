"""The receiver in a process of its own: it neither waits for the node's other Python work nor dies with it.

The parent opens the listening socket, so that a taken port is its own error. Events come back in batches; their queue
is bounded, so that a parent which does not listen slows the senders down and loses nothing.
"""

import contextlib
import os
import queue
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
from ainode.node.receiving.events import AssociationOpened, Event, InstanceStored
from ainode.node.receiving.listener import Receiver, listen
from ainode.node.receiving.negotiation import Policy, policy
from ainode.node.receiving.upper_layer import Channel, Opener

if TYPE_CHECKING:
    from ainode.node.settings import Settings
    from ainode.node.tls import ServerFiles

_QUEUED_EVENTS: Final = 10_000
_BATCH: Final = 500
# So that the parent commits its index a few times a second and not for each instance.
_GATHER_S: Final = 1.0
_STOP_TIMEOUT_S: Final = 10.0
_PARENT_CHECK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Start:
    """What the child is told first."""

    policy: Policy
    spool: Path
    limits: Limits
    tls: "ServerFiles | None"


class ReceiverProcess:
    """A receiver in a child process, which ends with this one, however this one ends."""

    def __init__(self, settings: "Settings", *, listener: socket.socket | None = None) -> None:
        """Listen; callers that connect from now on are served after `start`.

        Raises: ConfigError if the address, the port, the allow list or the certificate is wrong.
        """
        from ainode.node import tls  # noqa: PLC0415 - the child does without, unless there is a certificate

        node = settings.node
        limits = Limits(node.min_free_bytes, node.max_object_bytes)
        self._start = _Start(policy(settings), settings.data / "spool", limits, tls.server_files(node))
        tls.context_of(node)
        self._listener = listener or listen(node.bind, node.port)

    def start(self, on_event: Callable[[Event], None]) -> None:
        """Start the child; `on_event` is called in one thread, in the order of each association."""
        self._connection, childs = Pipe()
        fds = (childs.fileno(), self._listener.fileno())
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", __name__, *map(str, fds), str(os.getpid())],
            pass_fds=fds,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        childs.close()
        self._connection.send(self._start)
        self._pump = threading.Thread(target=self._deliver, args=(on_event,), name="receiver events", daemon=True)
        self._pump.start()

    @property
    def pid(self) -> int:
        """Return the child's process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether the child still runs; without it nobody is answered."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Let the child abort what is open and end; its last events are delivered before this returns."""
        try:
            self._connection.send(None)
            self._process.wait(_STOP_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._pump.join()
        self._connection.close()
        self._listener.close()

    def _deliver(self, on_event: Callable[[Event], None]) -> None:
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                for event in self._connection.recv():
                    on_event(event)


class _Outbox:
    """The child's events on their way to the parent."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue: queue.Queue[Event | None] = queue.Queue(_QUEUED_EVENTS)
        self._thread = threading.Thread(target=self._send, name="events", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Queue an event; waits while the parent is behind."""
        self._queue.put(event)

    def close(self) -> None:
        """Wait until the parent has taken everything."""
        self._queue.put(None)
        self._thread.join()

    def _send(self) -> None:
        # a parent that is gone finds in the spool what it was not told
        with contextlib.suppress(BrokenPipeError):
            batch = self._batch()
            while batch[-1] is not None:
                self._connection.send(tuple(batch))
                batch = self._batch()
            self._connection.send(tuple(batch[:-1]))

    def _batch(self) -> list[Event | None]:
        """Return what is gathered in a moment; the end of an association is not held back."""
        batch = [self._queue.get()]
        until = time.monotonic() + _GATHER_S
        with contextlib.suppress(queue.Empty):
            while len(batch) < _BATCH and isinstance(batch[-1], InstanceStored | AssociationOpened):
                batch.append(self._queue.get(timeout=max(until - time.monotonic(), 0)))
        return batch


def _stopped(connection: Connection, parent: int) -> bool:
    """Whether the parent says so, or is gone; waits a moment for either."""
    try:
        return (connection.poll(_PARENT_CHECK_S) and connection.recv() is None) or os.getppid() != parent
    except (EOFError, OSError):
        return True


def _opener(files: "ServerFiles | None") -> Opener:
    """Return what makes the channels; OpenSSL is loaded only where there is a certificate."""
    if files is None:
        return Channel
    from ainode.node.receiving.secure_channel import SecureChannel  # noqa: PLC0415
    from ainode.node.tls import accepting  # noqa: PLC0415

    return partial(SecureChannel, context=accepting(files))


def _run(connection: Connection, listener: socket.socket, parent: int) -> None:
    """Receive until the parent says stop, or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to both; the parent decides
    logs.configure()
    start: _Start = connection.recv()
    outbox = _Outbox(connection)
    spool = Spool(start.spool, start.limits)
    receiver = Receiver(start.policy, spool, outbox.put, listener=listener, channel=_opener(start.tls))
    receiver.start()
    while not _stopped(connection, parent):
        pass
    receiver.stop()
    outbox.close()


if __name__ == "__main__":
    _connection, _listener, _parent = (int(argument) for argument in sys.argv[1:])
    _run(Connection(_connection), socket.socket(fileno=_listener), _parent)
