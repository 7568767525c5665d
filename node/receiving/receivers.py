"""The receivers of a node: processes that take associations from one socket, so that the node listens at one address.

Each has threads of its own interpreter, a folder of its own to write in, and the limits of `[node]` for itself.
"""

import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ainode.node.receiving.events import Event
from ainode.node.receiving.handover import Handover
from ainode.node.receiving.listener import listen
from ainode.node.receiving.process import ReceiverProcess

if TYPE_CHECKING:
    from ainode.node.settings import Settings


class Receivers:
    """As many receivers as `[node] receivers` says; they end when this process ends."""

    def __init__(
        self, settings: "Settings", *, listener: socket.socket | None = None, handover: Handover | None = None
    ) -> None:
        """Bind the socket; callers that connect are served after `start`. With a `handover` they are served already.

        Raises: ConfigError if the address, the port, the allow list or the certificate is wrong.
        """
        running = {receiver.number: receiver for receiver in handover.receivers} if handover else {}
        if handover:
            listener = socket.socket(fileno=handover.listener)
        self._listener = listener or listen(settings.node.bind, settings.node.port)
        self._processes = tuple(
            ReceiverProcess(settings, listener=self._listener, number=number, running=running.get(number))
            for number in range(settings.node.receivers)
        )

    def start(self, on_event: Callable[[Event], None]) -> None:
        """Start those that do not run; a thread for each calls `on_event`, in the order within each association."""
        for process in self._processes:
            process.start(on_event)

    @property
    def pids(self) -> tuple[int, ...]:
        """Return the process ids."""
        return tuple(process.pid for process in self._processes)

    def is_alive(self) -> bool:
        """Return whether a receiver runs, and somebody takes its events."""
        return any(process.is_alive() for process in self._processes)

    def is_short(self) -> bool:
        """Return whether one ended while others run: nobody was told of what it stored last."""
        return self.is_alive() and not all(process.is_alive() for process in self._processes)

    def fault(self) -> str:
        """Return why callers are not served by all, '' if they are."""
        return next(filter(None, (process.fault() for process in self._processes)), "")

    def counts(self) -> Mapping[str, int]:
        """Return what all have counted since they started, by the names of `pulse.COUNTED`."""
        total: Counter[str] = Counter()
        for process in self._processes:
            total.update(process.counts())
        return total

    def detach(self) -> Handover:
        """Take no more events, and return those that run for the next program, which starts the others.

        Whoever takes the events must take them until this method returns.
        """
        living = [process for process in self._processes if process.is_alive()]
        return Handover(self._listener.fileno(), tuple(process.detach() for process in living))

    def stop(self, within_s: float = 0.0) -> None:
        """End all, whose associations in use may go on for so long; return after the last event.

        Whoever takes the events must take them, or drop them, until this method returns.
        """
        for process in self._processes:
            process.ask_to_stop(within_s)
        # Now, and by this process: a receiver whose socket ends before it was asked would abort its associations.
        with contextlib.suppress(OSError):  # all have ended
            self._listener.shutdown(socket.SHUT_RDWR)
        with ThreadPoolExecutor(len(self._processes)) as pool:
            for ending in [pool.submit(process.await_end, within_s) for process in self._processes]:
                ending.result()
