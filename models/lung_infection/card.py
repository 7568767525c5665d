"""The model card as a value: the network, the distance of the slices that it reads, the thresholds of the outlines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ainode.models.card import CardReader, Entries, Limits, from_entries, limits_of, refuse_unreachable_threshold

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Decision:
    """The thresholds of the outlines, and the smallest piece of infection that counts, in pixels of the picture."""

    lung: float
    infection: float
    least_pixels: int


@dataclass(frozen=True, slots=True)
class Card:
    """The entries of the card that the model needs; people read the rest of the file.

    Units: `slices_mm` is the least distance between two slices that are read, `max_pixel_mm` the largest pixel.
    """

    name: str
    version: str
    limits: Limits
    network: str
    file: str
    slices_mm: float
    max_pixel_mm: float
    decision: Decision

    def __post_init__(self) -> None:
        """Refuse a threshold that no probability can cross."""
        for threshold in (self.decision.lung, self.decision.infection):
            refuse_unreachable_threshold(self.name, threshold)

    @property
    def weights(self) -> str:
        """Return the name of the weights in the manifest of a site."""
        return f"{self.name}/{self.network}"


def _card(entries: Entries) -> Card:
    network = entries["network"]
    values = {
        "network": network["name"],
        "limits": limits_of(entries),
        "decision": from_entries(Decision, entries["threshold"]),
    }
    return from_entries(Card, entries, entries["input"], network, **values)


read_card = CardReader(CARD_PATH, _card)
