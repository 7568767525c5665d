"""The model card as a value: the network, its input, where it applies."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from ainode.models.errors import CardError

CARD_PATH = Path(__file__).with_name("card.toml")


@dataclass(frozen=True, slots=True)
class Card:
    """What the model needs of its card. The rest of the file is for readers."""

    name: str
    version: str
    status: str
    modality: tuple[str, ...]
    side: int
    smallest_side: int
    network: str
    file: str


def read_card(path: Path = CARD_PATH) -> Card:
    """Return the card in a TOML file.

    Raises: CardError naming the entry that is missing.
    """
    with path.open("rb") as file:
        table = tomllib.load(file)
    try:
        return Card(
            name=str(table["name"]),
            version=str(table["version"]),
            status=str(table["status"]),
            modality=tuple(str(one) for one in table["modality"]),
            side=int(table["input"]["side"]),
            smallest_side=int(table["input"]["smallest_side"]),
            network=str(table["network"]["name"]),
            file=str(table["network"]["file"]),
        )
    except KeyError as error:
        raise CardError(f"{path}: the card has no entry {error}") from error
