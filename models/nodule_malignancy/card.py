"""The model card as a value: its name and version, its file, its threshold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ainode.models.card import CardReader, Entries, Limits, from_entries, limits_of, refuse_unreachable_threshold

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Card:
    """The entries of the card that the model needs; people read the rest of the file."""

    name: str
    version: str
    limits: Limits
    network: str
    file: str
    threshold: float
    traits: tuple[str, ...]
    """the numbers of an outlined nodule, in the order of the head's weights"""

    def __post_init__(self) -> None:
        """Refuse a threshold that no probability can cross."""
        refuse_unreachable_threshold(self.name, self.threshold)


def _card(entries: Entries) -> Card:
    network = entries["network"]
    values = {"network": network["name"], "file": network["file"], "limits": limits_of(entries)}
    values |= {"threshold": entries["threshold"]["value"], "traits": network["traits"]}
    return from_entries(Card, entries, **values)


read_card = CardReader(CARD_PATH, _card)
