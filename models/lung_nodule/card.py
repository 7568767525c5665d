"""The model card as a value: its name and version, its files, its threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ainode.models.card import CardReader, Table, filled, refuse_threshold

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Card:
    """What the model needs of its card. The rest of the file is for readers."""

    name: str
    version: str
    threshold: float
    files: Mapping[str, str]
    """of the profiles that ship, by the profile's name"""

    def __post_init__(self) -> None:
        """Refuse a threshold that no probability can cross."""
        refuse_threshold(self.name, self.threshold)


def _card(table: Table) -> Card:
    files = {name: profile["file"] for name, profile in table["profile"].items() if "file" in profile}
    return filled(Card, table, threshold=table["threshold"]["value"], files=files)


read_card = CardReader(CARD_PATH, _card)
