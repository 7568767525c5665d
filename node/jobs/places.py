"""The place of a job in its queues: by its priority, and by how long it has waited. Pure."""

import math
from datetime import UTC, datetime
from typing import Final

_BEGIN: Final = datetime(2020, 1, 1, tzinfo=UTC)
_LAST_PRIORITY: Final = 1_000
# What the durable engine takes.
_MOST: Final = 2**31 - 1


def place(priority: int, queued_at: datetime, now: datetime, *, overtaking_s: float) -> int:
    """Return the place of a job, the least first: as if a job of lower priority had been queued later.

    A job of priority 1 has its place by the second in which it was queued, a job of priority 1,000 that many seconds
    later; in between each factor of ten is a third of them. So the order of two jobs never changes while they wait, and
    a job waits behind none that was queued more than `overtaking_s` after it.

    A clock that was set back counts from now: no job waits for a time that has not come.
    """
    share = math.log(min(max(priority, 1), _LAST_PRIORITY)) / math.log(_LAST_PRIORITY)
    since_s = (min(queued_at, now) - _BEGIN).total_seconds()
    return min(max(int(since_s + share * overtaking_s), 1), _MOST)


def place_after_failure(now: datetime, *, overtaking_s: float) -> int:
    """Return the place of what failed before, perhaps for its own fault: after all that was not tried yet."""
    return place(_LAST_PRIORITY, now, now, overtaking_s=overtaking_s) + 1
