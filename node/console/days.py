"""Periods of whole days, as people write them into an address."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from fastapi import HTTPException

from ainode.node.keeping.statistics import Period
from ainode.node.settings import Settings

_A_DAY: Final = timedelta(days=1)
_DATE_LENGTH: Final = len("YYYYMMDD")
_FIRST, _LAST = date(2000, 1, 1), date(2999, 12, 31)


@dataclass(frozen=True, slots=True)
class Days:
    """From a day to a day, both included."""

    since: date
    until: date

    def __post_init__(self) -> None:
        """Refuse a period that ends before its beginning."""
        if self.until < self.since:
            message = f"the period from {self.since} to {self.until} ends before it begins"
            raise ValueError(message)

    @property
    def count(self) -> int:
        """Return the number of days."""
        return (self.until - self.since).days + 1

    def before(self, count: int) -> "Days":
        """Return as many days just before."""
        return Days(self.since - count * _A_DAY, self.since - _A_DAY)

    def period(self, zone: ZoneInfo | None) -> Period:
        """Return the moments from the first midnight to the last."""
        return Period(midnight(self.since, zone), midnight(self.until + _A_DAY, zone))

    def buckets(self, most: int) -> tuple["Days", ...]:
        """Return the period in parts of a day, a week, 30 or more days: at most so many."""
        length = next(days for days in (1, 7, 30, 91, self.count) if -(-self.count // days) <= most)
        starts = (self.since + number * _A_DAY for number in range(0, self.count, length))
        return tuple(Days(start, min(start + (length - 1) * _A_DAY, self.until)) for start in starts)


def zone_of(settings: Settings) -> ZoneInfo | None:
    """Return the zone of the node; None for that of the machine."""
    return ZoneInfo(settings.node.time_zone) if settings.node.time_zone else None


def today_of(zone: ZoneInfo | None) -> date:
    """Return the day that it is in a zone."""
    return datetime.now(UTC).astimezone(zone).date()


def last_days(count: int, day: date) -> Days:
    """Return so many days up to a day."""
    return Days(day - (count - 1) * _A_DAY, day)


def midnight(day: date, zone: ZoneInfo | None) -> datetime:
    """Return the first moment of a day."""
    moment = datetime.combine(day, time())
    return moment.astimezone() if zone is None else moment.replace(tzinfo=zone)


def days(since: str, until: str, default: Days) -> Days:
    """Return the period that an address names; what is empty is of the default.

    Raises: HTTPException if a text is no date, or the period ends before it begins.
    """
    first, last = day(since) or default.since, day(until) or default.until
    if last < first:
        raise HTTPException(422, f"the period from {first} to {last} ends before it begins; exchange the dates")
    return Days(first, last)


def day(text: str) -> date | None:
    """Return the date of a text, None for ''.

    Raises: HTTPException if the text is no date, or so far away that a period around it has none.
    """
    if not text:
        return None
    try:
        written = date.fromisoformat(text)
    except ValueError as error:
        raise HTTPException(422, f"{text!r} is no date; give one such as 2026-03-31") from error
    if not _FIRST <= written <= _LAST:
        raise HTTPException(422, f"{text!r} is no date between {_FIRST} and {_LAST}; give another")
    return written


def day_of(text: str) -> str:
    """Return a date of a header (PS3.5 6.2, DA) as pages write dates; what is no date as it stands."""
    is_date = len(text) == _DATE_LENGTH and text.isdecimal()
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if is_date else text
