"""The model card as a value: the network, its input, where it applies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ainode.models.card import CardReader, Table, filled

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


def _card(table: Table) -> Card:
    network = table["network"]
    return filled(Card, table, table["input"], network=network["name"], file=network["file"])


read_card = CardReader(CARD_PATH, _card)
