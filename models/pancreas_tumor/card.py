"""The model card as a value: the network, the slices that it reads, and when a region is marked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ainode.models.card import (
    CardReader,
    Entries,
    NetworkCard,
    from_entries,
    network_card,
    refuse_unreachable_threshold,
)

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Marking:
    """When a region is marked.

    Units: probabilities 0 to 1; `least_mm` is how far a region reaches over neighboring slices, `least_mm2` its area
    on the slice where it is longest.
    """

    least_peak: float
    """the highest probability of a region is above this"""
    share_of_peak: float
    """a region holds what is above this share of its highest probability"""
    least_mm: float
    least_mm2: float
    most_regions: int


@dataclass(frozen=True, slots=True)
class Card(NetworkCard):
    """The entries of the card that the model needs; people read the rest of the file.

    Units: slices closer together than `slices_mm` are averaged in groups.
    """

    slices_mm: float
    max_spacing_mm: float
    min_slices: int
    min_coverage_mm: float
    marking: Marking

    def __post_init__(self) -> None:
        """Refuse a threshold that no probability can cross."""
        for threshold in (self.marking.least_peak, self.marking.share_of_peak):
            refuse_unreachable_threshold(self.name, threshold)


def _card(entries: Entries) -> Card:
    return network_card(Card, entries, marking=from_entries(Marking, entries["threshold"]))


read_card = CardReader(CARD_PATH, _card)
