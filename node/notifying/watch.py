"""What is news: what was given up, and what waits for too long. Answers are kept by who reports them.

What is news follows from the rows of the ledger, and the same news have the same identifier: so a look may be repeated,
and a kill between an event and its notices loses none of them.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from ainode.node.domain import Occasion
from ainode.node.keeping.backlog import Backlog, Queue
from ainode.node.keeping.job_events import JobEvents
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.notices import Notices
from ainode.node.notifying.bodies import event_notices, queue_ending, queue_notice
from ainode.node.settings import Settings

# Of the first look after a start: a node that was away for longer tells nobody what failed before.
_FIRST_LOOK: Final = timedelta(days=1)
# Events are written a moment after their time, and clocks are corrected.
_OVERLAP: Final = timedelta(minutes=10)
# What waits for minutes is looked at less often than what failed.
_QUEUES: Final = timedelta(seconds=15)
# Twice: what hovers about its limit is told once.
_CALM: Final = 2


class Watch:
    """Looks at the ledger and keeps a notice of what is news."""

    def __init__(self, settings: Settings, engine: sa.Engine) -> None:
        self._settings = settings
        self._ledger, self._notices = Ledger(engine), Notices(engine)
        self._events, self._backlog = JobEvents(engine), Backlog(engine)
        self._looked_at: datetime | None = None
        self._queues_at: datetime | None = None
        self._seen: set[tuple[str, ...]] = set()
        occasions = {occasion for each in settings.subscriptions for occasion in each.on}
        self._wants_events = bool(occasions & {Occasion.FAILURE, Occasion.DEAD_LETTER})
        self._wants_queues = Occasion.QUEUE in occasions

    def look(self, now: datetime) -> None:
        """Keep what is news.

        Raises: DatabaseUnavailable.
        """
        if self._wants_events:
            self._look_at_events(now)
        is_due = self._queues_at is None or abs(now - self._queues_at) >= _QUEUES
        if self._wants_queues and is_due:
            self._look_at_queues(now)
            self._queues_at = now

    def _look_at_events(self, now: datetime) -> None:
        since = now - _FIRST_LOOK if self._looked_at is None else min(self._looked_at, now) - _OVERLAP
        seen: set[tuple[str, ...]] = set()
        for event in self._events.given_up(since):
            key = (event.job, event.subject, event.destination, event.at.isoformat())
            seen.add(key)
            if key not in self._seen:
                try:
                    job = self._ledger.job(event.job)
                except LookupError:  # archived meanwhile
                    continue
                self._notices.keep(event_notices(self._settings, job, event))
        self._seen, self._looked_at = seen, now

    def _look_at_queues(self, now: datetime) -> None:
        queues = {queue.name: queue for queue in self._backlog.waiting_since()}
        raised = {(notice.subscription, notice.subject): notice for notice in self._notices.raised()}
        for subscription in self._settings.subscriptions:
            if Occasion.QUEUE not in subscription.on:
                continue
            limit = timedelta(minutes=subscription.queue_minutes)
            for name, queue in queues.items():
                notice = raised.get((subscription.name, name))
                if notice is None and queue.oldest and now - queue.oldest > limit:
                    self._notices.keep([queue_notice(self._settings, subscription, name, queue.oldest, now)])
                elif notice and _is_calm(queues, name, limit, now):
                    self._notices.close(notice, queue_ending(self._settings, subscription, notice, now))


def _is_calm(queues: Mapping[str, Queue], name: str, limit: timedelta, now: datetime) -> bool:
    """Return whether the oldest entry of a queue waits for half of the limit at most."""
    oldest = queues[name].oldest
    return oldest is None or now - oldest <= limit / _CALM
