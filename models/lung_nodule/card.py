"""The model card as a value: its name and version, its files, its threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ainode.models.card import (
    CardReader,
    Entries,
    Limits,
    band_of,
    from_entries,
    limits_of,
    refuse_unreachable_threshold,
)

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Card:
    """The entries of the card that the model needs; people read the rest of the file."""

    name: str
    version: str
    limits: Limits
    threshold: float
    band: tuple[float, float] | None
    """lowest and highest probability that decide nothing; None where the card gives no band"""
    files: Mapping[str, str]
    """the files of the shipped profiles, by the profile's name"""

    def __post_init__(self) -> None:
        """Refuse a threshold that no probability can cross."""
        refuse_unreachable_threshold(self.name, self.threshold)


def _card(entries: Entries) -> Card:
    files = {name: profile["file"] for name, profile in entries["profile"].items() if "file" in profile}
    threshold = entries["threshold"]
    values = {"threshold": threshold["value"], "band": band_of(threshold), "limits": limits_of(entries)}
    return from_entries(Card, entries, files=files, **values)


read_card = CardReader(CARD_PATH, _card)
