"""The thread that applies the intake to whatever the receiver, the pullers and the senders report."""

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from ainode.node import logs
from ainode.node.deciding.events import IntakeEvent
from ainode.node.deciding.intake import Intake
from ainode.node.receiving.event_queue import EventQueue
from ainode.node.receiving.events import CommitmentSaved

log = logging.getLogger(__name__)
_BATCH = 1024
_INTAKE_NICENESS = 5
_SWEEP_INTERVAL = timedelta(minutes=10)
_LONGEST_WAIT_S = 1.0
# A batch takes a second or two. Callers are slowed down before so many events wait that this is their usual age.
_LONGEST_DELAY_S = 60.0


class Errands:
    """Calls to other systems that nobody waits for, each in a thread of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="errand")

    def run(self, errand: Callable[[], None]) -> None:
        """Start an errand; the log shows what it raises."""
        self._threads.submit(errand).add_done_callback(_log_failure)

    def stop(self) -> None:
        """Drop the errands that were not started."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _log_failure(errand: Future[None]) -> None:
    if not errand.cancelled() and (error := errand.exception()):
        log.error("an errand ended by %s", logs.raised_at(error), extra={"action": "errand_failed"})


@dataclass(frozen=True, slots=True)
class Duties:
    """What the thread does beside the intake."""

    recovered: Callable[[], None]
    """called once, after the intake has taken up what a crash left"""
    take_commitment: Callable[[CommitmentSaved], None]
    """called after the intake has taken up what was stored before"""
    sweep: Callable[[datetime], None]
    """called every ten minutes"""
    now: Callable[[], datetime]


class IntakeThread:
    """Takes events from a queue, gives them to the intake, and looks at the clock in between."""

    def __init__(self, events: EventQueue[IntakeEvent], intake: Intake, duties: Duties) -> None:
        self._events, self._intake, self._duties = events, intake, duties
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Recover what a crash left, then start the thread."""
        self._intake.recover(self._duties.now())
        self._duties.recovered()
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def fault(self) -> str:
        """Return why studies are not taken up, '' if they are."""
        if not self.is_alive():
            return "the intake ended"
        delay_s = self._events.age_s()
        if delay_s > _LONGEST_DELAY_S:
            return f"the intake is behind: its oldest event is {delay_s:.0f} s old; see the log"
        return ""

    def stop(self) -> None:
        """Let the thread finish its batch and end."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        # What was answered is on disk: indexing must not slow down the sender of the next instance.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _INTAKE_NICENESS)
        swept_at = self._duties.now()
        while not self._stopping.is_set():
            events = self._next_events()
            self._intake.handle(events, self._duties.now())
            for event in events:
                if isinstance(event, CommitmentSaved):
                    self._duties.take_commitment(event)
            self._events.done()
            if self._duties.now() - swept_at > _SWEEP_INTERVAL:
                swept_at = self._duties.now()
                self._duties.sweep(swept_at)

    def _next_events(self) -> list[IntakeEvent]:
        """Return up to a batch of events; none when the intake must look at the clock."""
        now = self._duties.now()
        patience_s = (self._intake.next_look(now) - now).total_seconds()
        return self._events.take(_BATCH, min(max(patience_s, 0.01), _LONGEST_WAIT_S))
