"""Counts of values between bounds, for each set of labels; kept in memory, begun anew by each start of the node."""

import bisect
import math
import threading
from collections.abc import Mapping, Sequence

from ainode.node.metrics.exposition import Family, Kind, Sample, number


class Histogram:
    """Several threads may observe."""

    def __init__(self, name: str, words: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        """Name the family; `bounds` are the upper ends of the buckets, in the unit of the values, ascending."""
        self._name, self._words, self._labels = name, words, tuple(labels)
        self._bounds = (*bounds, math.inf)
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Count a value; the labels are in the order of their names."""
        with self._lock:
            counts = self._counts.setdefault(labels, [0] * len(self._bounds))
            counts[bisect.bisect_left(self._bounds, value)] += 1
            self._sums[labels] = self._sums.get(labels, 0.0) + value

    def family(self) -> Family:
        """Return what was counted."""
        with self._lock:
            copied = {key: (tuple(counts), self._sums[key]) for key, counts in self._counts.items()}
        samples: list[Sample] = []
        for key, (counts, total) in sorted(copied.items()):
            labels = dict(zip(self._labels, key, strict=True))
            samples += self._samples(labels, counts, total)
        return Family(self._name, Kind.HISTOGRAM, self._words, tuple(samples))

    def _samples(self, labels: Mapping[str, str], counts: Sequence[int], total: float) -> list[Sample]:
        sums = [sum(counts[: position + 1]) for position in range(len(counts))]
        buckets = [
            Sample(count, {**labels, "le": number(bound)}, "_bucket")
            for bound, count in zip(self._bounds, sums, strict=True)
        ]
        return [*buckets, Sample(total, labels, "_sum"), Sample(sums[-1], labels, "_count")]
