"""The model card as a value: for each organ the preparation of slices, the classes, the network's file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ainode.models.card import CardReader, Entries, Limits, band_of, from_entries, limits_of
from ainode.models.errors import CardError

Frame = Literal["ring", "solid"]
"""The look of the body in the window: a ring of bone and muscle around black fat, or one bright solid."""

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Organ:
    """One organ's network, the preparation of its slices, and the series that it reads.

    Units: level and width in Hounsfield units; lengths in mm.
    """

    name: str
    class_names: tuple[str, ...]
    positive: str
    body_parts: tuple[str, ...]
    level: float
    width: float
    frame: Frame
    part: float
    """the part of the body's length, around its middle, that the network's input shows"""
    side: int
    file: str
    min_slices: int
    min_coverage_mm: float
    max_spacing_mm: float
    contrast: bool
    """whether a scan without contrast is refused"""
    caution: str
    """a short sentence that every report carries"""
    band: tuple[float, float] | None
    """lowest and highest probability that decide nothing; None where the card gives no band"""

    def __post_init__(self) -> None:
        """Refuse a class, a frame or a size that gives no input or no probability."""
        if self.positive not in self.class_names or self.frame not in ("ring", "solid"):
            raise CardError(f"{self.name}: positive {self.positive} of {self.class_names}, frame {self.frame}")
        if min(self.width, self.side) <= 0 or not 0 < self.part <= 1:
            raise CardError(f"{self.name}: width {self.width}, side {self.side}, part {self.part}: not possible")

    @property
    def positive_index(self) -> int:
        """Return the number of the class that means a tumor."""
        return self.class_names.index(self.positive)


@dataclass(frozen=True, slots=True)
class Card:
    """The entries of the card that the model needs; people read the rest of the file."""

    name: str
    version: str
    limits: Limits
    organs: tuple[Organ, ...]

    def organ(self, name: str) -> Organ:
        """Return the organ of a name.

        Raises: CardError if the card has no such organ.
        """
        for organ in self.organs:
            if organ.name == name:
                return organ
        raise CardError(f"{self.name}: no organ named {name}: {', '.join(organ.name for organ in self.organs)}")


def _card(entries: Entries) -> Card:
    organs = tuple(from_entries(Organ, organ, band=band_of(organ)) for organ in entries["organ"])
    return from_entries(Card, entries, organs=organs, limits=limits_of(entries))


read_card = CardReader(CARD_PATH, _card)
