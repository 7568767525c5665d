"""Dates of headers in words."""

_DIGITS = 8


def iso_date(value: object) -> str:
    """Return a date of a header as 2026-01-31; empty if the value is no whole date."""
    date = str(value or "")
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == _DIGITS else ""
