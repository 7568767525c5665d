"""Whether scores of a period are distributed as those of a reference period: two tests, with the numbers of cases."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ainode.node.console.figures.distribution import quantile

FEWEST: Final = 20
"""of scores in each period: with fewer, neither figure says anything"""
_BINS: Final = 10
# Siddiqi, Credit Risk Scorecards, 2006: below 0.1 no change worth a look, from 0.25 on a change to act on.
_WORTH_A_LOOK, _TO_ACT_ON = 0.1, 0.25
# The 95th percentile of chi squared with 1 to 9 degrees of freedom.
_CHI_SQUARED_95: Final = (3.841, 5.991, 7.815, 9.488, 11.070, 12.592, 14.067, 15.507, 16.919)
_SIGNIFICANT: Final = 0.01
_TERMS: Final = 100
Scores = Sequence[float]


@dataclass(frozen=True, slots=True)
class Drift:
    """The distance between the scores of two periods."""

    n: int
    n_reference: int
    stability_index: float
    """population stability index, over tenths of the reference"""
    chance: float
    """the index that two periods without any change stay below in 95 of 100 cases, at these numbers of cases"""
    distance: float
    """of Kolmogorov and Smirnov: the largest distance between the two cumulative distributions"""
    p: float

    @property
    def level(self) -> str:
        """Return `none`, `look` or `act`: chance alone explains neither of the latter two."""
        if self.p >= _SIGNIFICANT or self.stability_index <= max(self.chance, _WORTH_A_LOOK):
            return "none"
        return "act" if self.stability_index >= _TO_ACT_ON else "look"


def drift(scores: Scores, reference: Scores) -> Drift | None:
    """Return the drift of scores from those of a reference; None where either has too few."""
    if min(len(scores), len(reference)) < FEWEST:
        return None
    distance = kolmogorov_smirnov(scores, reference)
    index, bins = stability_index(scores, reference)
    chance = _CHI_SQUARED_95[bins - 2] * (1 / len(scores) + 1 / len(reference)) if bins > 1 else 0.0
    p = kolmogorov_p(distance, len(scores), len(reference))
    return Drift(len(scores), len(reference), index, chance, distance, p)


def stability_index(scores: Scores, reference: Scores) -> tuple[float, int]:
    """Return the population stability index over tenths of the reference, and the number of its bins.

    Half a case is added to each bin, so that an empty bin has a logarithm. The index is the sum of both
    Kullback-Leibler divergences; without a change it follows chi squared (Yurdakul, 2018).
    """
    ordered = sorted(reference)
    edges = sorted({quantile(ordered, number / _BINS) for number in range(1, _BINS)})
    shares, reference_shares = (_smoothed_shares(values, edges) for values in (sorted(scores), ordered))
    terms = ((a - b) * math.log(a / b) for a, b in zip(shares, reference_shares, strict=True))
    return math.fsum(terms), len(edges) + 1


def _smoothed_shares(ordered: Scores, edges: Sequence[float]) -> list[float]:
    """Return the share of the sorted scores in each bin, half a case added; a score on an edge is in the lower bin."""
    places = [0, *(bisect_right(ordered, edge) for edge in edges), len(ordered)]
    cases = len(ordered) + (len(edges) + 1) / 2
    return [(upper - lower + 0.5) / cases for lower, upper in pairwise(places)]


def kolmogorov_smirnov(scores: Scores, reference: Scores) -> float:
    """Return the largest distance between the cumulative distributions of two samples."""
    first, second = sorted(scores), sorted(reference)
    places = {*first, *second}
    return max(abs(bisect_right(first, x) / len(first) - bisect_right(second, x) / len(second)) for x in places)


def kolmogorov_p(distance: float, n: int, n_reference: int) -> float:
    """Return how likely a distance as large is without any difference; scores that repeat make it larger than true.

    Source: the limit of Kolmogorov with the correction of Stephens, J R Stat Soc B 1970, for samples of 20 and more.
    """
    root = math.sqrt(n * n_reference / (n + n_reference))
    argument = (root + 0.12 + 0.11 / root) * distance
    if argument < 0.3:  # noqa: PLR2004 - the sum converges too slowly there, and is 1 to five digits
        return 1.0
    terms = (2 * math.copysign(1, k % 2 - 0.5) * math.exp(-2 * (k * argument) ** 2) for k in range(1, _TERMS))
    return min(1.0, max(0.0, math.fsum(terms)))
