"""The model card as a value: the network, the requirements of a stack of slices, the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ainode.models.card import CardReader, Entries, ThresholdCard, band_of, network_card

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Card(ThresholdCard):
    """The entries of the card that the model needs; people read the rest of the file."""

    size: str
    """small or large: the original's two sizes of network"""
    seed: int
    band: tuple[float, float] | None
    """lowest and highest probability that decide nothing; None where the card gives no band"""
    min_slices: int
    min_coverage_mm: float
    max_spacing_mm: float


def _card(entries: Entries) -> Card:
    return network_card(Card, entries, band=band_of(entries["threshold"]))


read_card = CardReader(CARD_PATH, _card)
