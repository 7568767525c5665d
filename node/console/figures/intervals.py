"""The interval of a proportion."""

import math
from typing import Final

# The 97.5th percentile of the normal distribution.
_Z: Final = 1.959963984540054


def wilson(hits: int, n: int) -> tuple[float, float, float]:
    """Return a proportion with the ends of its 95 % interval; without cases, NaN and the whole range.

    Source: Wilson, J Am Stat Assoc 1927.
    """
    if not n:
        return math.nan, 0.0, 1.0
    share, weight = hits / n, _Z**2 / n
    middle = (share + weight / 2) / (1 + weight)
    half = _Z * math.sqrt(share * (1 - share) / n + weight / (4 * n)) / (1 + weight)
    return share, max(0.0, middle - half), min(1.0, middle + half)
