"""The model card as a value: the network, the requirements of a stack of slices, the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ainode.models.card import (
    CardReader,
    Entries,
    Limits,
    band_of,
    from_entries,
    limits_of,
    refuse_unreachable_threshold,
)

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Card:
    """The entries of the card that the model needs; people read the rest of the file."""

    name: str
    version: str
    limits: Limits
    network: str
    size: str
    """small or large: the original's two sizes of network"""
    file: str
    seed: int
    threshold: float
    band: tuple[float, float] | None
    """lowest and highest probability that decide nothing; None where the card gives no band"""
    min_slices: int
    min_coverage_mm: float
    max_spacing_mm: float

    def __post_init__(self) -> None:
        """Refuse a threshold that no probability can cross."""
        refuse_unreachable_threshold(self.name, self.threshold)

    @property
    def weights(self) -> str:
        """Return the name of the weights in the manifest."""
        return f"{self.name}/{self.network}"


def _card(entries: Entries) -> Card:
    network, threshold = entries["network"], entries["threshold"]
    values = {
        "network": network["name"],
        "threshold": threshold["value"],
        "band": band_of(threshold),
        "limits": limits_of(entries),
    }
    return from_entries(Card, entries, entries["input"], network, **values)


read_card = CardReader(CARD_PATH, _card)
