"""The receivers of a node: processes that take associations from one socket, so that the node listens at one address.

Each has threads of its own interpreter, a folder of its own to write in, and the limits of `[node]` for itself.
"""

import contextlib
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING

from ainode.node.receiving.events import Event
from ainode.node.receiving.handover import Handover
from ainode.node.receiving.listener import listen
from ainode.node.receiving.losses import Loss
from ainode.node.receiving.process import ReceiverProcess

if TYPE_CHECKING:
    from ainode.node.settings import Settings

log = logging.getLogger(__name__)


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
        self._losses: Mapping[int, Loss] = {loss.number: loss for loss in handover.losses} if handover else {}
        """the last loss of each receiver; replaced as a whole, because several threads look"""
        self._processes = tuple(
            ReceiverProcess(settings, listener=self._listener, number=number, running=running.get(number))
            for number in range(settings.node.receivers)
        )

    def start(self, on_event: Callable[[Event], None]) -> None:
        """Start those that do not run, each after its pause; a thread for each calls `on_event`.

        Events of one association come in their order.
        """
        self._on_event, now_s = on_event, time.monotonic()
        for process in self._processes:
            if process.is_handed_over or not self._is_paused(process, now_s):
                process.start(on_event)

    def watch(self) -> bool:
        """Start another where one ended; return whether the program has to begin anew instead.

        Nobody was told what a receiver stored last, which the start finds. One that accepted no association stored
        nothing: another is started here, after a pause that grows with each loss in a row.
        """
        now_s, is_start_needed = time.monotonic(), False
        for process in self._processes:
            if not process.is_started:
                if not self._is_paused(process, now_s):
                    self._try_start(process, now_s)
            elif not process.is_alive():
                self._note(process, process.ending(), now_s)
                is_start_needed |= process.has_accepted()
                if not process.has_accepted():
                    process.forget()
        return is_start_needed

    def replace_lost(self, now: datetime) -> None:
        """Let go of those that ended, so that `watch` starts others where the program cannot begin anew.

        Their associations have ended; a sweep finds what they stored and could tell nobody.
        """
        message = (
            "going on with the configuration that runs; another receiver starts here, and a sweep finds what the lost "
            "one stored; correct what was refused, then run `ainode reload`"
        )
        log.error(message, extra={"action": "receiver_replaced"})
        for process in self._processes:
            if process.is_started and not process.is_alive():
                process.forget()
                process.end_associations(self._on_event, now)

    def _is_paused(self, process: ReceiverProcess, now_s: float) -> bool:
        loss = self._losses.get(process.number)
        return loss is not None and now_s < loss.due_s

    def _try_start(self, process: ReceiverProcess, now_s: float) -> None:
        try:
            process.start(self._on_event)
        except OSError as error:
            self._note(process, f"could not be started: {error.strerror}", now_s)

    def _note(self, process: ReceiverProcess, reason: str, now_s: float) -> None:
        earlier = self._losses.get(process.number)
        loss = earlier.next(reason, now_s) if earlier else Loss(process.number, reason, now_s)
        self._losses = {**self._losses, process.number: loss}
        words = loss.sentence(len(self._processes), now_s, is_served=self.is_alive())
        log.error("%s", words, extra={"action": "receiver_ended"})

    @property
    def pids(self) -> tuple[int, ...]:
        """Return the process ids of those that were started."""
        return tuple(process.pid for process in self._processes if process.is_started)

    def is_alive(self) -> bool:
        """Return whether a receiver runs, and somebody takes its events."""
        return any(process.is_alive() for process in self._processes)

    def missing(self) -> tuple[str, ...]:
        """Return a sentence for each receiver that waits to be started, while others serve callers."""
        return self._waiting(is_served=True) if self.is_alive() else ()

    def fault(self) -> str:
        """Return why callers are not served as they should be, '' if they are; of one that waits, `missing` says so."""
        faults = [process.fault() for process in self._processes if process.is_started]
        if not self.is_alive():
            faults += self._waiting(is_served=False)
        return next(filter(None, faults), "")

    def _waiting(self, *, is_served: bool) -> tuple[str, ...]:
        now_s, waiting = time.monotonic(), [process for process in self._processes if not process.is_started]
        losses = filter(None, (self._losses.get(process.number) for process in waiting))
        return tuple(loss.sentence(len(self._processes), now_s, is_served=is_served) for loss in losses)

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
        running = tuple(process.detach() for process in living)
        return Handover(self._listener.fileno(), running, tuple(self._losses.values()))

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
