"""The self-tests of each night: a thread that waits for the time, and a process for each route."""

import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, tzinfo
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ainode.node.deciding.faults import attempt
from ainode.node.errors import DatabaseUnavailable, HandlerError
from ainode.node.logs import raised_at
from ainode.node.notifying.alerts import alert
from ainode.node.proving.self_test_process import SelfTestQuestion
from ainode.node.reading.channel import NotAnAnswer
from ainode.node.reading.child import Child
from ainode.node.settings import Settings
from ainode.node.threads import NodeThread

log = logging.getLogger(__name__)
KIND: Final = "self_test"
"""of the alert of a test that failed"""
_PROCESS: Final = "ainode.node.proving.self_test_process"
# A clock may be set meanwhile.
_LOOK_S: Final = 30.0
_STOP_S: Final = 2.0
_AWAY: Final = (DatabaseUnavailable, SQLAlchemyError, OSError, MemoryError)
# For the start of the process, the study that it makes, and its end.
_BESIDE_S: Final = 120.0


def next_time(now: datetime, clock: str, zone: tzinfo | None) -> datetime:
    """Return when it is that time of the day next, after now; `clock` is HH:MM of the zone."""
    local = now.astimezone(zone)
    hour, minute = map(int, clock.split(":"))
    for days in (0, 1):
        day = local.date() + timedelta(days=days)
        # Made anew on each day: a day on which the clock is changed has another offset.
        moment = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
        moment = moment.astimezone() if zone is None else moment
        if moment > now:
            break
    return moment


class Nightly(NodeThread):
    """Tests each route of [self_test] once a night."""

    def __init__(
        self, settings: Settings, engine: sa.Engine, now: Callable[[], datetime], wake_notifier: Callable[[], None]
    ) -> None:
        """Start no thread yet."""
        super().__init__("self-tests", stop_s=_STOP_S)
        self._settings, self._engine, self._now, self._wake_notifier = settings, engine, now, wake_notifier
        self._child: Child | None = None

    def start(self) -> None:
        """Start the thread; without a route to test there is none."""
        if self._settings.self_test.routes:
            super().start()

    def is_alive(self) -> bool:
        """Return whether the thread runs, or has nothing to do."""
        return not self._settings.self_test.routes or super().is_alive()

    def stop(self) -> None:
        """End; a test that runs is broken off, and says nothing."""
        self._stopping.set()
        if child := self._child:
            child.end()
        super().stop()

    def _run(self) -> None:
        table, name = self._settings.self_test, self._settings.node.time_zone
        zone = ZoneInfo(name) if name else None
        due = next_time(self._now(), table.time, zone)
        while not self._stopping.wait(min(_LOOK_S, max(0.0, (due - self._now()).total_seconds()))):
            if self._now() >= due:
                self.test_all()
                due = next_time(self._now(), table.time, zone)

    def test_all(self) -> None:
        """Test every route, one after the other; a test that cannot be made is a failed one."""
        for route in self._settings.self_test.routes:
            if not self._stopping.is_set():
                try:
                    attempt(partial(self._test, route), partial(self._fault, route))
                except _AWAY as error:
                    self._fault(route, error)

    def _fault(self, route: str, error: Exception) -> None:
        self._tell(route, is_passed=False, words=f"the test itself failed: {raised_at(error)}")

    def _test(self, route: str) -> None:
        self._child = child = Child(_PROCESS, "self-test")
        limit_s = self._settings.self_test.limit_s + _BESIDE_S
        deadline = time.monotonic() + limit_s

        def refuse_overdue() -> None:
            if time.monotonic() > deadline:
                raise HandlerError(f"the process of the test did not answer within {limit_s:g} s")
            if child.exceeds(self._settings.reader.memory_limit_bytes):
                raise HandlerError("the process of the test took more than [reader] memory_limit_bytes")

        try:
            channel = child.start()
            channel.send(SelfTestQuestion(self._settings, route), refuse_overdue)
            answer = json.loads(channel.receive(refuse_overdue))
            self._tell(route, is_passed=answer["is_passed"], words=answer["words"])
        except HandlerError as error:
            self._tell(route, is_passed=False, words=str(error))
        except (NotAnAnswer, EOFError, OSError):
            if not self._stopping.is_set():
                self._tell(route, is_passed=False, words=f"the process of the test ended with code {child.kill()}")
        finally:
            child.kill()
            self._child = None

    def _tell(self, route: str, *, is_passed: bool, words: str) -> None:
        """Log how a test ended, and alert people of one that failed."""
        if is_passed:
            log.info("self-test passed: route %s: %s", route, words, extra={"action": "self_test_passed"})
            return
        log.error("self-test failed: route %s: %s", route, words, extra={"action": "self_test_failed"})
        with suppress(*_AWAY):  # the log has it
            alert(self._settings, self._engine, KIND, f"the self-test of route {route} failed: {words}", self._now())
            self._wake_notifier()
