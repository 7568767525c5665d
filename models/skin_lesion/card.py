"""The model card as a value: the network, its input, where it applies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ainode.models.card import Table, card, filled

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Card:
    """What the model needs of its card. The rest of the file is for readers."""

    name: str
    version: str
    modality: tuple[str, ...]
    side: int
    smallest_side: int
    network: str
    file: str


def read_card(path: Path = CARD_PATH) -> Card:
    """Return the card in a TOML file.

    Raises: CardError naming the entry that is missing.
    """
    return card(path, _card)


def _card(table: Table) -> Card:
    network = table["network"]
    return filled(Card, table, table["input"], network=network["name"], file=network["file"])
