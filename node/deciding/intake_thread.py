"""The thread that applies the intake to whatever the receiver, the pullers and the senders report."""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from ainode.node import logs
from ainode.node.deciding.events import IntakeEvent
from ainode.node.deciding.faults import attempt, passes, reason_of
from ainode.node.deciding.intake import Intake
from ainode.node.deciding.leftovers import Recovery
from ainode.node.domain.pauses import back_off_s
from ainode.node.receiving.event_queue import EventQueue
from ainode.node.receiving.events import CommitmentSaved
from ainode.node.threads import NodeThread

log = logging.getLogger(__name__)
_BATCH = 1024
_INTAKE_NICENESS = 5
_SWEEP_INTERVAL = timedelta(minutes=10)
_LEFTOVERS_INTERVAL = timedelta(minutes=1)
# Pauses while the database or the disk is away.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
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

    recovered: Callable[[Recovery], None]
    """called once, when the intake has taken up what a crash left"""
    take_commitment: Callable[[CommitmentSaved], None]
    """called after the intake has taken up what was stored before"""
    sweep: Callable[[datetime], None]
    """called every ten minutes"""
    now: Callable[[], datetime]


class IntakeThread(NodeThread):
    """Takes events from a queue, gives them to the intake, and looks at the clock in between.

    A fault ends a step and not the thread: the step is repeated, and no further event is taken meanwhile.
    """

    def __init__(self, events: EventQueue[IntakeEvent], intake: Intake, duties: Duties) -> None:
        super().__init__("intake")
        self._events, self._intake, self._duties = events, intake, duties
        self._commitments: deque[CommitmentSaved] = deque()
        self._is_recovered = False
        self._looked_at: datetime | None = None
        self._swept_at: datetime | None = None
        self._failures = 0

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
        self._events.wake()
        super().stop()

    def _run(self) -> None:
        # What was answered is on disk: indexing must not slow down the sender of the next instance. A node that was
        # started with a higher niceness keeps that: root alone may lower it.
        thread = threading.get_native_id()
        niceness = max(os.getpriority(os.PRIO_PROCESS, thread), _INTAKE_NICENESS)
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
        self._swept_at = self._duties.now()
        while not self._stopping.is_set():
            try:
                is_done = self._step()
            except Exception as error:  # noqa: BLE001 - the boundary of the intake: whatever fails is tried again
                self._wait_out(error)
            else:
                if is_done:
                    self._end_outage()

    def _step(self) -> bool:
        """Take events and do what the clock says; return whether anything was done.

        Raises: a fault that waiting mends; the next step repeats what was not done.
        """
        if _is_due(self._looked_at, self._duties.now(), _LEFTOVERS_INTERVAL):
            attempt(partial(self._intake.sweep, self._duties.now()), _log_fault)
            self._looked_at = self._duties.now()
        events = [] if self._intake.is_behind else self._next_events()
        self._commitments.extend(event for event in events if isinstance(event, CommitmentSaved))
        is_done = self._intake.handle(events, self._duties.now())
        self._do_duties()
        self._events.done()
        return is_done

    def _do_duties(self) -> None:
        if self._intake.recovery and not self._is_recovered:
            attempt(partial(self._duties.recovered, self._intake.recovery), _log_fault)
            self._is_recovered = True
        # The catalog must list what was stored before the request, be it before a crash.
        while self._commitments and self._is_recovered:
            attempt(partial(self._duties.take_commitment, self._commitments[0]), _log_fault)
            self._commitments.popleft()
        if _is_due(self._swept_at, self._duties.now(), _SWEEP_INTERVAL):
            attempt(partial(self._duties.sweep, self._duties.now()), _log_fault)
            self._swept_at = self._duties.now()

    def _wait_out(self, error: Exception) -> None:
        """Log the first fault of an outage, and wait."""
        if not self._failures:
            reason = reason_of(error) if passes(error) else logs.raised_at(error)
            log.error("the intake waits and tries again: %s", reason, extra={"action": "intake_waits"})
        pause_s = back_off_s(self._failures, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)
        self._failures += 1
        self._stopping.wait(pause_s)

    def _end_outage(self) -> None:
        if self._failures:
            self._failures = 0
            log.info("the intake goes on", extra={"action": "intake_back"})

    def _next_events(self) -> list[IntakeEvent]:
        """Return up to a batch of events; none when the intake must look at the clock."""
        now = self._duties.now()
        patience_s = (self._intake.next_look(now) - now).total_seconds()
        return self._events.take(_BATCH, min(max(patience_s, 0.01), _LONGEST_WAIT_S))


def _is_due(last_at: datetime | None, now: datetime, interval: timedelta) -> bool:
    """Whether the interval is over, or the clock was set back."""
    return last_at is None or not timedelta() <= now - last_at < interval


def _log_fault(error: Exception) -> None:
    log.error("the intake left out a step: %s", logs.raised_at(error), extra={"action": "intake_fault"})
