"""How numbers are distributed; the quantiles of NumPy import its masked arrays, 2 MB in the process of the node."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise


def bin_edges(low: float, high: float, bins: int) -> tuple[float, ...]:
    """Return the edges of bins of equal width."""
    return tuple(low + (high - low) * number / bins for number in range(bins + 1))


def shares(values: Sequence[float], edges: Sequence[float]) -> tuple[float, ...]:
    """Return the share of the values in each bin; a value on an edge is in the upper bin, if there is one."""
    ordered = sorted(values)
    places = [*(bisect_left(ordered, edge) for edge in edges[:-1]), bisect_right(ordered, edges[-1])]
    return tuple((upper - lower) / max(1, len(ordered)) for lower, upper in pairwise(places))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share of the sorted values lies, between two values in proportion.

    Source: Hyndman and Fan, Am Stat 1996, definition 7.
    """
    place = share * (len(ordered) - 1)
    lower = int(place)
    upper = min(lower + 1, len(ordered) - 1)
    return ordered[lower] + (ordered[upper] - ordered[lower]) * (place - lower)
