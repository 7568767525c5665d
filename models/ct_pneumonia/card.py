"""The model card as a value: which network, what a stack must be like, what a threshold is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ainode.models.card import CardReader, Table, filled, refuse_threshold

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Card:
    """What the model needs of its card. The rest of the file is for readers."""

    name: str
    version: str
    network: str
    size: str
    """small or large, as the original's two"""
    file: str
    seed: int
    threshold: float
    min_slices: int
    min_coverage_mm: float
    max_spacing_mm: float

    def __post_init__(self) -> None:
        """Refuse a threshold that is none."""
        refuse_threshold(self.name, self.threshold)

    @property
    def weights(self) -> str:
        """Return the name of the weights in the manifest."""
        return f"{self.name}/{self.network}"


def _card(table: Table) -> Card:
    network, threshold = table["network"], table["threshold"]["value"]
    return filled(Card, table, table["input"], network, network=network["name"], threshold=threshold)


read_card = CardReader(CARD_PATH, _card)
