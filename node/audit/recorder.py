"""The thread that writes the audit trail of a running node, so that nobody waits for the trail."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from ainode.node.audit.forwarder import Forwarder
from ainode.node.audit.messages import (
    MINOR_FAILURE,
    NODE_AUTHENTICATION,
    RECORDING_STOPPED,
    SERIOUS_FAILURE,
    Message,
    Participant,
    alert,
    started,
    stopped,
    with_patient,
)
from ainode.node.audit.trail import Trail
from ainode.node.domain import counted
from ainode.node.settings import Settings

_log = logging.getLogger(__name__)
# About 20 MB: what may wait for a disk that is full.
_WAITING_MESSAGES: Final = 10_000
_MAX_BATCH: Final = 500
# Whoever can knock could fill the disk; the log and its own bounds tell of the others.
_STRANGERS_A_MINUTE: Final = 60
_MINUTE_S: Final = 60.0
_PAUSE_S: Final = 5.0


def drop(_message: Message, /) -> None:
    """Do nothing: for who keeps no trail."""


def record_command(settings: Settings, message: Message) -> None:
    """Write a message of a command at once; a trail that cannot be written costs a line of the log."""
    if settings.audit.enabled:
        try:
            by_user = replace(message, participants=(*message.participants, Participant(f"uid {os.getuid()}")))
            Trail.of(settings).append([(datetime.now(UTC), by_user)])
        except OSError as error:
            _log.error("audit: the command is not in the trail: %s", error.strerror, extra={"action": "audit_failed"})


class Recorder:
    """Takes messages from any thread and writes them; a disk that is full costs no study and is tried again."""

    @classmethod
    def of(cls, settings: Settings, patient_id_of: Callable[[str], str], worker: str = "") -> "Recorder":
        """Return the recorder of a node, which drops every message where `[audit]` is not enabled.

        The `worker` of that name has a trail of its own. `patient_id_of` returns the Patient ID of a study; it is asked
        only where `[audit]` wants it.

        Raises: ConfigError if a certificate for the collector is missing, or is not what it should be.
        """
        if not settings.audit.enabled:
            return cls(None)
        forwarder = Forwarder(settings, worker) if settings.audit.syslog_host else None
        return cls(Trail.of(settings, worker), forwarder, patient_id_of if settings.audit.patient_id else None)

    def __init__(
        self,
        trail: Trail | None,
        forwarder: Forwarder | None = None,
        patient_id_of: Callable[[str], str] | None = None,
    ) -> None:
        """Start no thread yet."""
        self._trail, self._forwarder, self._patient_id_of = trail, forwarder, patient_id_of
        self.was_killed = False
        """whether the last process of the node did not record its stop; known after `start`"""
        self._waiting: deque[tuple[datetime, Message]] = deque()
        self._strangers, self._minute_end_s = 0, 0.0
        self._lost, self._is_stopping, self._is_failing = 0, False, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(trail,), name="audit", daemon=True)

    def start(self) -> None:
        """Record the start of the node."""
        if self._trail:
            with suppress(OSError):  # the thread says so
                self.was_killed = self._trail.is_open()
            self.record(started())
            self._thread.start()
        if self._forwarder:
            self._forwarder.start()

    def is_alive(self) -> bool:
        """Return whether messages are still written, and forwarded."""
        is_forwarding = self._forwarder is None or self._forwarder.is_alive()
        return self._trail is None or (self._thread.is_alive() and is_forwarding)

    def record(self, message: Message) -> None:
        """Hand over a message; return at once. The oldest is lost when too many wait, and the trail will say so."""
        if self._trail is None:
            return
        with self._changed:
            is_of_stranger = message.outcome == MINOR_FAILURE
            if is_of_stranger:
                self._begin_minute(self._trail)
                self._strangers += 1
            if not is_of_stranger or self._strangers <= _STRANGERS_A_MINUTE:
                self._add(message)

    def _begin_minute(self, trail: Trail) -> None:
        """Record how many refusals of the last minute are not in the trail, once the minute is over."""
        if time.monotonic() < self._minute_end_s and not self._is_stopping:
            return
        if (more := self._strangers - _STRANGERS_A_MINUTE) > 0:
            sentence = f"{more} further refusals within a minute are not in the trail"
            self._add(alert(NODE_AUTHENTICATION, trail.folder.as_uri(), sentence, outcome=MINOR_FAILURE))
        self._strangers, self._minute_end_s = 0, time.monotonic() + _MINUTE_S

    def _add(self, message: Message) -> None:
        if len(self._waiting) >= _WAITING_MESSAGES:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append((datetime.now(UTC), message))
        self._changed.notify()

    def stop(self) -> None:
        """Record the stop of the node, and write what waits, unless the disk refuses."""
        if self._trail is None:
            return
        with self._changed:
            self._is_stopping = True
            self._begin_minute(self._trail)
            self._add(stopped())
        self._thread.join()
        if self._forwarder:
            self._forwarder.stop()

    def _run(self, trail: Trail) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_stopping)
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_BATCH))]
                lost, self._lost = self._lost, 0
                is_over = self._is_stopping and not self._waiting
            if not self._is_written(trail, batch, lost):
                with self._changed:
                    self._waiting.extendleft(reversed(batch))
                    self._lost += lost
                    if self._is_stopping or self._changed.wait_for(lambda: self._is_stopping, _PAUSE_S):
                        return
            elif is_over:
                return

    def _is_written(self, trail: Trail, batch: list[tuple[datetime, Message]], lost: int) -> bool:
        """Write a batch; log the first failure of several, and the end of them."""
        if lost:
            sentence = f"{counted(lost, 'message')} lost while the trail could not be written"
            message = alert(RECORDING_STOPPED, trail.folder.as_uri(), sentence, outcome=SERIOUS_FAILURE)
            batch = [(datetime.now(UTC), message), *batch]
        if self._patient_id_of:
            batch = [(instant, with_patient(message, self._patient_id_of)) for instant, message in batch]
        try:
            trail.append(batch)
        except OSError as error:
            if not self._is_failing:
                sentence = "audit: the trail cannot be written (%s); the node goes on, the messages wait in memory"
                _log.error(sentence, error.strerror, extra={"action": "audit_failed"})
            self._is_failing = True
            return False
        if self._is_failing:
            _log.info("audit: the trail is written again", extra={"action": "audit_resumed"})
        self._is_failing = False
        if self._forwarder:
            self._forwarder.wake()
        return True
