"""The model card as a value: which network, what a stack must be like, what a threshold is."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ainode.models.errors import CardError

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Card:
    """What the model needs of its card. The rest of the file is for readers."""

    name: str
    version: str
    status: str
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
        if not 0 < self.threshold < 1:
            raise CardError(f"{self.name}: threshold {self.threshold} is not between 0 and 1")

    @property
    def weights(self) -> str:
        """Return the name of the weights in the manifest."""
        return f"{self.name}/{self.network}"


def read_card(path: Path = CARD_PATH) -> Card:
    """Return the card in a TOML file.

    Raises: CardError naming the entry that is missing.
    """
    with path.open("rb") as file:
        table = tomllib.load(file)
    try:
        return _card(table)
    except KeyError as error:
        raise CardError(f"{path}: the card has no entry {error}") from error


def _card(table: dict[str, Any]) -> Card:
    network, inputs = table["network"], table["input"]
    return Card(
        name=str(table["name"]),
        version=str(table["version"]),
        status=str(table["status"]),
        network=str(network["name"]),
        size=str(network["size"]),
        file=str(network["file"]),
        seed=int(table["seed"]),
        threshold=float(table["threshold"]["value"]),
        min_slices=int(inputs["min_slices"]),
        min_coverage_mm=float(inputs["min_coverage_mm"]),
        max_spacing_mm=float(inputs["max_spacing_mm"]),
    )
