"""A time as a person types it: a date, a time, or how long ago."""

import re
from datetime import datetime, timedelta
from typing import Final

from ainode.node.errors import ConfigError

_AGE: Final = re.compile(r"(\d{1,6})([mhd])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


def time_since(text: str, now: datetime) -> datetime:
    """Return the time; one without an offset is by the clock of this machine.

    Raises: ConfigError.
    """
    try:
        if match := _AGE.fullmatch(text):
            return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
        return datetime.fromisoformat(text).astimezone(now.tzinfo)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{text!r} is no time; give 2026-03-01, 2026-03-01T08:30, 90m, 36h or 7d") from error
