"""The model card as a value: per organ, how slices enter, what the classes are, how a study's score is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ainode.models.card import CardReader, Table, filled
from ainode.models.errors import CardError

if TYPE_CHECKING:
    from ainode.models.ct_tumor.preprocess import Frame

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Organ:
    """One network and how it is fed.

    Units: level and width in Hounsfield units; mm.
    """

    name: str
    class_names: tuple[str, ...]
    positive: str
    body_parts: tuple[str, ...]
    level: float
    width: float
    frame: Frame
    part: float
    """of the body's length, how much around its middle is seen"""
    side: int
    file: str
    min_slices: int
    min_coverage_mm: float
    max_spacing_mm: float
    contrast: bool
    """whether a scan without contrast is refused"""
    caution: str
    """a short sentence that every report carries"""

    def __post_init__(self) -> None:
        """Refuse what would not give a probability."""
        if self.positive not in self.class_names or self.frame not in ("ring", "solid"):
            raise CardError(f"{self.name}: positive {self.positive} of {self.class_names}, frame {self.frame}")
        if min(self.width, self.side) <= 0 or not 0 < self.part <= 1:
            raise CardError(f"{self.name}: width {self.width}, side {self.side}, part {self.part}: not possible")

    @property
    def positive_index(self) -> int:
        """Return which class counts as ill."""
        return self.class_names.index(self.positive)


@dataclass(frozen=True, slots=True)
class Card:
    """What the model needs of its card. The rest of the file is for readers."""

    name: str
    version: str
    organs: tuple[Organ, ...]

    def organ(self, name: str) -> Organ:
        """Return the organ of that name.

        Raises: CardError if there is none.
        """
        for organ in self.organs:
            if organ.name == name:
                return organ
        raise CardError(f"{self.name}: no organ named {name}: {', '.join(organ.name for organ in self.organs)}")


def _card(table: Table) -> Card:
    return filled(Card, table, organs=tuple(filled(Organ, organ) for organ in table["organ"]))


read_card = CardReader(CARD_PATH, _card)
