"""The names of vertebrae, counted from what a radiograph shows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ainode.node.domain import Code

NAMES = (*(f"T{number}" for number in range(1, 13)), *(f"L{number}" for number in range(1, 6)))
# PS3.16 CID 4 has regions of the spine, no single vertebra.
THORACIC, LUMBAR = Code("122495006", "SCT", "Thoracic spine"), Code("122496007", "SCT", "Lumbar spine")
THORACOLUMBAR = Code("1217256009", "SCT", "Thoracolumbar spine")
# Source: Scoliosis Research Society's terms: the apex names the curve.
_PROXIMAL, _MAIN, _BETWEEN = 4, 10, 12
# The network's count is believed where its vertebrae agree on it within half a vertebra in the mean.
_MOST_DISAGREEMENT = 0.5


@dataclass(frozen=True, slots=True)
class Levels:
    """The names of a column's vertebrae from the head, and whether they are certain enough to be levels."""

    names: tuple[str, ...]
    first: int | None
    """the level of the highest vertebra, 0 for T1; None where the count is not certain"""

    @property
    def are_known(self) -> bool:
        """Return whether the vertebrae have the names of levels."""
        return self.first is not None

    def region(self, apex: int) -> str:
        """Return the region of a curve by its apex, in the field's words; empty where levels are not known."""
        if self.first is None:
            return ""
        level = self.first + apex
        if level <= _PROXIMAL:
            return "proximal thoracic"
        if level <= _MAIN:
            return "main thoracic"
        return "thoracolumbar" if level <= _BETWEEN else "lumbar"

    def site(self, number: int) -> Code:
        """Return the part of the spine that a vertebra belongs to."""
        if self.first is None:
            return THORACOLUMBAR
        return THORACIC if self.first + number < NAMES.index("L1") else LUMBAR


def levels_of(numbers: NDArray[np.float64]) -> Levels:
    """Return the names of vertebrae that the network counts as `numbers`, 0 for T1.

    Seventeen vertebrae are T1 to L5, as on the films of the training. Fewer are named by the count that most of them
    agree on; where they do not agree, or the count leaves T1 to L5, they are numbered from the highest one.
    """
    count = len(numbers)
    first_levels = numbers - np.arange(count)
    first = 0 if count == len(NAMES) else int(np.rint(np.median(first_levels)))
    agrees = count == len(NAMES) or float(np.abs(first_levels - first).mean()) <= _MOST_DISAGREEMENT
    if agrees and first >= 0 and first + count <= len(NAMES):
        return Levels(NAMES[first : first + count], first)
    return Levels(_numbered(count), None)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"V{number}" for number in range(1, count + 1))


def span(names: Sequence[str], ends: tuple[int, int]) -> str:
    """Return the end vertebrae of a curve in words: `T5 to T11`."""
    return f"{names[ends[0]]} to {names[ends[1]]}"
