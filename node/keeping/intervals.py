"""Intervals of 95 %: of a proportion, of a median, of the agreement of two answers. Pure."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

# The 97.5th percentile of the normal distribution.
_Z: Final = 1.959963984540054
_TAIL: Final = 0.025


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


def median_interval(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Return the median with the ends of its exact 95 % interval; None of less than six values, which have none.

    The ends are the values of the ranks that a binomial distribution gives.
    Source: Conover, Practical Nonparametric Statistics, 3.2.
    """
    ordered, rank = sorted(values), _rank(len(values))
    return (median(ordered), ordered[rank - 1], ordered[-rank]) if rank else None


def _rank(n: int) -> int:
    """Return the greatest rank from either end beyond which the median lies with 2.5 % at the most; 0 without any."""
    log_half, tail = n * math.log(0.5), 0.0
    for rank in range(n // 2 + 1):
        tail += math.exp(math.lgamma(n + 1) - math.lgamma(rank + 1) - math.lgamma(n - rank + 1) + log_half)
        if tail > _TAIL:
            return rank
    return 0


def kappa(counts: Mapping[tuple[str, str], int]) -> tuple[float, float, float] | None:
    """Return Cohen's kappa of pairs of answers with the ends of its 95 % interval; None where chance agrees always.

    Source: Cohen, Educ Psychol Meas 1960; the standard error is his, for large numbers of cases.
    """
    n = sum(counts.values())
    kinds = {kind for pair in counts for kind in pair}
    shares = [
        {kind: sum(count for pair, count in counts.items() if pair[side] == kind) / max(1, n) for kind in kinds}
        for side in (0, 1)
    ]
    by_chance = sum(shares[0][kind] * shares[1][kind] for kind in kinds)
    if not n or by_chance >= 1:
        return None
    agreed = sum(count for (first, second), count in counts.items() if first == second) / n
    value = (agreed - by_chance) / (1 - by_chance)
    half = _Z * math.sqrt(agreed * (1 - agreed) / n) / (1 - by_chance)
    return value, max(-1.0, value - half), min(1.0, value + half)
