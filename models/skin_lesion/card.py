"""The model card as a value: the network, its input, the modalities that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ainode.models.card import CardReader, Entries, NetworkCard, band_of, network_card

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Card(NetworkCard):
    """The entries of the card that the model needs; people read the rest of the file."""

    modality: tuple[str, ...]
    smallest_side: int
    original_side: int
    """of the square that an original network takes"""
    band: tuple[float, float] | None
    """lowest and highest probability that decide nothing; None where the card gives no band"""


def _card(entries: Entries) -> Card:
    return network_card(Card, entries, band=band_of(entries["calibration"]))


read_card = CardReader(CARD_PATH, _card)
