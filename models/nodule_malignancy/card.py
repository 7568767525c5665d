"""The model card as a value: its name and version, its file, its threshold, its traits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ainode.models.card import CardReader, ThresholdCard, network_card


@dataclass(frozen=True, slots=True)
class Card(ThresholdCard):
    """The entries of the card that the model needs; people read the rest of the file."""

    traits: tuple[str, ...]
    """the numbers of an outlined nodule, in the order of the head's weights"""


read_card = CardReader(Path(__file__).with_name("card.toml"), partial(network_card, Card))
