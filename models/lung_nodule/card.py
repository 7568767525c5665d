"""The model card as a value: its name and version, its files, its threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ainode.models.card import Table, card, filled
from ainode.models.errors import CardError

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
        if not 0 < self.threshold < 1:
            raise CardError(f"{self.name}: a threshold of {self.threshold} is not possible")


def read_card(path: Path = CARD_PATH) -> Card:
    """Return the card in a TOML file.

    Raises: CardError naming the entry that is missing.
    """
    return card(path, _card)


def _card(table: Table) -> Card:
    files = {name: one["file"] for name, one in table["profile"].items() if "file" in one}
    return filled(Card, table, threshold=table["threshold"]["value"], files=files)
