"""The model card as a value: what the networks are called, how pictures enter, what a threshold is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ainode.models.card import CardReader, Table, filled, refuse_threshold
from ainode.models.errors import CardError

Resize = Literal["stretch", "pad"]
"""How a picture meets the square input: pulled to it as the original did, or with its sides kept and gray added."""

CARD_PATH = Path(__file__).with_name("card.toml")
DETECTOR = "detector"


@dataclass(frozen=True, slots=True)
class Network:
    """One member of the ensemble: its name, timm's name for it, its share, its file."""

    name: str
    architecture: str
    weight: float
    file: str


@dataclass(frozen=True, slots=True)
class DetectorCard:
    """The detector: its ultralytics name, input side, classes and confidence steps."""

    architecture: str
    file: str
    side: int
    class_names: tuple[str, ...]
    confidences: tuple[float, ...]
    iou: float


@dataclass(frozen=True, slots=True)
class Card:
    """What the model needs of its card. The rest of the file is for readers."""

    name: str
    version: str
    status: str
    body_part: tuple[str, ...]
    views: tuple[str, ...]
    side: int
    resize: Resize
    mean: tuple[float, ...]
    std: tuple[float, ...]
    threshold: float
    networks: tuple[Network, ...]
    detector: DetectorCard

    def __post_init__(self) -> None:
        """Refuse a card whose ensemble would not give a probability."""
        total = sum(network.weight for network in self.networks)
        if not self.networks or abs(total - 1) > 1e-6 or min(n.weight for n in self.networks) <= 0:  # noqa: PLR2004
            raise CardError(f"{self.name}: ensemble weights must be positive and sum to 1, not {total}")
        if self.resize not in ("stretch", "pad"):
            raise CardError(f"{self.name}: resize is {self.resize}, not stretch or pad")
        refuse_threshold(self.name, self.threshold)

    @property
    def needed(self) -> Mapping[str, str]:
        """Return the file of every network by its name, the detector's included."""
        return {network.name: network.file for network in self.networks} | {DETECTOR: self.detector.file}


def _card(table: Table) -> Card:
    return filled(
        Card,
        table,
        table["input"],
        threshold=table["threshold"]["value"],
        networks=tuple(filled(Network, network) for network in table["network"]),
        detector=filled(DetectorCard, table["detector"]),
    )


read_card = CardReader(CARD_PATH, _card)
