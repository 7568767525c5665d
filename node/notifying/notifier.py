"""Tells people: a thread that looks for news, and one for each subscription, so that a dead one delays no other."""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ainode.node import logs
from ainode.node.audit.messages import Message, study_subject, told
from ainode.node.audit.recorder import drop as drop_record
from ainode.node.deciding.faults import attempt
from ainode.node.domain.pauses import back_off_s
from ainode.node.errors import ArchiveRefused, DatabaseUnavailable, NodeError
from ainode.node.keeping.notices import Notice, Notices
from ainode.node.notifying import drop, sending
from ainode.node.notifying.watch import Watch
from ainode.node.settings import DeliveryTable, Settings, Subscription
from ainode.node.threads import NodeThread, WakeableThread

log = logging.getLogger(__name__)
# What another process kept, such as an alert, is seen after this time.
_LOOK_S: Final = 2.0
_STOP_S: Final = 2.0
_AT_ONCE: Final = 16
# Until the database or the machine is back; the dispatcher says that it is away.
_AWAY: Final = (DatabaseUnavailable, SQLAlchemyError, OSError, MemoryError)


class Notifier(NodeThread):
    """Keeps what is news and sends what is kept."""

    def __init__(
        self,
        settings: Settings,
        engine: sa.Engine,
        now: Callable[[], datetime],
        record: Callable[[Message], None] = drop_record,
        may_leave: Callable[[], None] = lambda: None,
    ) -> None:
        """Start no thread yet; `record` writes into the audit trail, `may_leave` is asked before each notice leaves."""
        super().__init__("notifier", stop_s=_STOP_S)
        self._watch, self._now = Watch(settings, engine), now
        lane = partial(_Lane, notices=Notices(engine), retries=settings.delivery, now=now, record=record)
        self._lanes = [lane(each, may_leave=may_leave) for each in settings.subscriptions]

    def start(self) -> None:
        """Start the threads; without a subscription there are none."""
        if self._lanes:
            super().start()
            for lane in self._lanes:
                lane.start()

    def wake(self) -> None:
        """Send at once what was kept just now."""
        for lane in self._lanes:
            lane.wake()

    def is_alive(self) -> bool:
        """Return whether every thread runs."""
        return not self._lanes or (super().is_alive() and all(lane.is_alive() for lane in self._lanes))

    def stop(self) -> None:
        """Send no more; the next start sends what waits."""
        self._stopping.set()
        for lane in self._lanes:
            lane.stop()
        super().stop()

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            with suppress(*_AWAY):
                attempt(lambda: self._watch.look(self._now()), _log_fault)


class _Lane(WakeableThread):
    """The thread of one subscription."""

    def __init__(
        self,
        subscription: Subscription,
        notices: Notices,
        retries: DeliveryTable,
        now: Callable[[], datetime],
        record: Callable[[Message], None],
        may_leave: Callable[[], None],
    ) -> None:
        super().__init__(f"notices {subscription.name}", stop_s=_STOP_S)
        self._record, self._may_leave = record, may_leave
        self._subscription, self._notices, self._retries, self._now = subscription, notices, retries, now

    def _run(self) -> None:
        if self._subscription.to == "folder":
            with suppress(OSError):  # the first attempt to send says what is wrong with the folder
                drop.tidy(self._subscription)
        while not self._stopping.is_set():
            self._woken.clear()
            is_more = False
            with suppress(*_AWAY):
                is_more = self._send_due()
            if not is_more:
                self._woken.wait(_LOOK_S)

    def _send_due(self) -> bool:
        """Send what is due; return whether there may be more.

        Raises: DatabaseUnavailable.
        """
        longest_pause = timedelta(seconds=self._retries.longest_wait_s)
        due = self._notices.due(self._subscription.name, self._now(), count=_AT_ONCE, longest_pause=longest_pause)
        for notice in due:
            if self._stopping.is_set():
                return False
            self._may_leave()
            attempt(partial(self._send, notice), partial(self._note_fault, notice))
            if self._woken.is_set():  # newer news come before what failed
                return True
        return len(due) == _AT_ONCE

    def _send(self, notice: Notice) -> None:
        try:
            sending.send(self._subscription, notice, self._now())
        except ArchiveRefused as error:
            self._give_up(notice, str(error))
        except (NodeError, OSError) as error:
            self._fail(notice, str(error))
        else:
            self._notices.sent(notice, self._now())
            self._write_down(notice)
            log.info("notified: %s", notice.occasion, extra={"action": "notified", **self._about(notice)})

    def _note_fault(self, notice: Notice, error: Exception) -> None:
        """Note a fault of the node's own code, which must not hold back the next notice."""
        self._fail(notice, f"{self._subscription.name}: {logs.raised_at(error)}")

    def _fail(self, notice: Notice, error: str) -> None:
        """Try again after a pause, and give up after the last attempt."""
        if notice.attempts + 1 >= self._retries.attempts:
            self._give_up(notice, error)
            return
        pause_s = back_off_s(
            notice.attempts, first_s=self._retries.first_wait_s, longest_s=self._retries.longest_wait_s
        )
        self._notices.postpone(notice, self._now() + timedelta(seconds=pause_s), error)
        log.warning("notification failed: %s", error, extra={"action": "notification_failed", **self._about(notice)})

    def _give_up(self, notice: Notice, error: str) -> None:
        self._notices.give_up(notice, self._now(), error)
        self._write_down(notice, error)
        log.error("notification given up: %s", error, extra={"action": "notification_given_up", **self._about(notice)})

    def _write_down(self, notice: Notice, failure: str = "") -> None:
        """Record that something of a study left, or could not."""
        if notice.study_instance_uid:
            subscription = self._subscription
            host = urlsplit(subscription.address).hostname or subscription.host
            study = study_subject(notice.study_instance_uid, {}, {"notification": subscription.to})
            self._record(told(subscription.name, host, study, failure))

    def _about(self, notice: Notice) -> dict[str, str]:
        return {"peer": self._subscription.name, "study_instance_uid": notice.study_instance_uid}


def _log_fault(error: Exception) -> None:
    """Log a fault of the node's own code; the next look finds the same news."""
    log.error("news: %s", logs.raised_at(error), extra={"action": "news_failed"})
