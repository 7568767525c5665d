"""How long to wait before whatever failed is tried again. Pure."""

from typing import Final

# 2.0**1024 is no float any more.
_MOST_DOUBLINGS: Final = 1000


def back_off_s(attempt: int, *, first_s: float, longest_s: float) -> float:
    """Return the pause after an attempt, counted from 0: doubled from the first pause up to the longest."""
    return min(first_s * 2.0 ** min(attempt, _MOST_DOUBLINGS), longest_s)
