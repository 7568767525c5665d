"""The model card as a value: its name and version, its file, its limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ainode.models.card import CardReader, Entries, Limits, from_entries, limits_of

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Card:
    """The entries of the card that the model needs; people read the rest of the file."""

    name: str
    version: str
    limits: Limits
    network: str
    file: str


def _card(entries: Entries) -> Card:
    network = entries["network"]
    return from_entries(Card, entries, network=network["name"], file=network["file"], limits=limits_of(entries))


read_card = CardReader(CARD_PATH, _card)
