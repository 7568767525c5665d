"""The model card as a value: the network, its input, the modalities that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ainode.models.card import CardReader, Entries, Limits, band_of, from_entries, limits_of

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Card:
    """The entries of the card that the model needs; people read the rest of the file."""

    name: str
    version: str
    limits: Limits
    modality: tuple[str, ...]
    smallest_side: int
    original_side: int
    """of the square that an original network takes"""
    network: str
    file: str
    band: tuple[float, float] | None
    """lowest and highest probability that decide nothing; None where the card gives no band"""


def _card(entries: Entries) -> Card:
    network = entries["network"]
    values = {"network": network["name"], "file": network["file"], "limits": limits_of(entries)}
    values |= {"band": band_of(entries["calibration"])}
    return from_entries(Card, entries, entries["input"], **values)


read_card = CardReader(CARD_PATH, _card)
