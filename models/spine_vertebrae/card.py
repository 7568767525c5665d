"""The model card as a value: the weights, the fewest vertebrae of a spine, the least score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ainode.models.card import CardReader, Entries, Limits, from_entries, limits_of, refuse_unreachable_threshold

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Card:
    """The entries of the card that the model needs; people read the rest of the file."""

    name: str
    version: str
    limits: Limits
    modality: tuple[str, ...]
    body_part: tuple[str, ...]
    views: tuple[str, ...]
    network: str
    demonstration: str
    """the name of the network of the weights that ship"""
    least_vertebrae: int
    """a chain of fewer vertebrae is no spine"""
    least_score: float
    """a chain whose five surest vertebrae are less sure in the mean is no spine, unless it is a whole one"""
    wide_score: float
    """the same of a picture that is not cropped to the spine, as a chest film is not"""
    cropped_width: float
    """a picture is cropped to the spine where a vertebra is as wide as this share of it"""
    whole_vertebrae: int
    """a chain of so many is a whole spine: a chest film shows fewer"""
    whole_score: float
    """the same of a whole spine"""
    least_frontal: float
    """a picture that looks less like one from the front is another view"""
    least_rise: float
    """numbers of vertebrae that rise less from one to the next are counted from the feet"""
    off_degrees: float
    """the mean error of the largest angle"""

    def __post_init__(self) -> None:
        """Refuse a score that no picture can reach."""
        for score in (self.least_score, self.wide_score, self.whole_score, self.least_frontal):
            refuse_unreachable_threshold(self.name, score)

    @property
    def weights(self) -> str:
        """Return the name of a site's weights in its manifest."""
        return f"{self.name}/{self.network}"

    @property
    def shipped(self) -> str:
        """Return the name of the weights that ship."""
        return f"{self.name}/{self.demonstration}"


def _card(entries: Entries) -> Card:
    network = entries["network"]
    values = {"network": network["name"], "limits": limits_of(entries)}
    return from_entries(Card, entries, entries["threshold"], network, **values)


read_card = CardReader(CARD_PATH, _card)
