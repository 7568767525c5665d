"""The model card as a value: the networks, the preparation of pictures, the threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ainode.models.card import (
    CardReader,
    Entries,
    Limits,
    band_of,
    from_entries,
    limits_of,
    refuse_unreachable_threshold,
)
from ainode.models.errors import CardError

Resize = Literal["stretch", "pad"]
"""The fit of a picture into the square input: stretched, as the original does, or padded with its aspect ratio kept."""

CARD_PATH = Path(__file__).with_name("card.toml")
DETECTOR = "detector"


@dataclass(frozen=True, slots=True)
class Network:
    """One member of the ensemble: its name, its architecture's name in timm, its share, its file."""

    name: str
    architecture: str
    weight: float
    file: str


@dataclass(frozen=True, slots=True)
class DetectorCard:
    """The detector: its architecture's name in ultralytics, its file, input side, classes and confidence steps."""

    architecture: str
    file: str
    side: int
    class_names: tuple[str, ...]
    confidences: tuple[float, ...]
    iou: float


@dataclass(frozen=True, slots=True)
class Card:
    """The entries of the card that the model needs; people read the rest of the file."""

    name: str
    version: str
    limits: Limits
    status: str
    body_part: tuple[str, ...]
    views: tuple[str, ...]
    side: int
    resize: Resize
    mean: tuple[float, ...]
    std: tuple[float, ...]
    threshold: float
    band: tuple[float, float] | None
    """lowest and highest probability that decide nothing; None where the card gives no band"""
    networks: tuple[Network, ...]
    detector: DetectorCard

    def __post_init__(self) -> None:
        """Refuse a card whose ensemble gives no probability."""
        total = sum(network.weight for network in self.networks)
        if not self.networks or abs(total - 1) > 1e-6 or min(n.weight for n in self.networks) <= 0:  # noqa: PLR2004
            raise CardError(f"{self.name}: ensemble weights must be positive and sum to 1, not {total}")
        if self.resize not in ("stretch", "pad"):
            raise CardError(f"{self.name}: resize is {self.resize}, not stretch or pad")
        refuse_unreachable_threshold(self.name, self.threshold)

    @property
    def files(self) -> Mapping[str, str]:
        """Return the file of every network by the network's name, with the detector's file."""
        return {network.name: network.file for network in self.networks} | {DETECTOR: self.detector.file}


def _card(entries: Entries) -> Card:
    return from_entries(
        Card,
        entries,
        entries["input"],
        threshold=entries["threshold"]["value"],
        band=band_of(entries["threshold"]),
        limits=limits_of(entries),
        networks=tuple(from_entries(Network, network) for network in entries["network"]),
        detector=from_entries(DetectorCard, entries["detector"]),
    )


read_card = CardReader(CARD_PATH, _card)
