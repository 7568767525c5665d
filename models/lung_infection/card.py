"""The model card as a value: the network, the distance of the slices that it reads, the thresholds of the outlines."""

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
class Decision:
    """The thresholds of the outlines, and the smallest piece of infection that counts, in pixels of the picture."""

    lung: float
    infection: float
    least_pixels: int


@dataclass(frozen=True, slots=True)
class Card(NetworkCard):
    """The entries of the card that the model needs; people read the rest of the file.

    Units: `slices_mm` is the least distance between two slices that are read, `max_pixel_mm` the largest pixel.
    """

    slices_mm: float
    max_pixel_mm: float
    decision: Decision

    def __post_init__(self) -> None:
        """Refuse a threshold that no probability can cross."""
        for threshold in (self.decision.lung, self.decision.infection):
            refuse_unreachable_threshold(self.name, threshold)


def _card(entries: Entries) -> Card:
    return network_card(Card, entries, decision=from_entries(Decision, entries["threshold"]))


read_card = CardReader(CARD_PATH, _card)
