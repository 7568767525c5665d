"""Model cards: the entries of a card.toml as frozen values."""

from __future__ import annotations

import tomllib
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from ainode.models.errors import CardError

Table = Mapping[str, Any]
Made = TypeVar("Made")


def card(path: Path, made: Callable[[Table], Made]) -> Made:
    """Return what is made of the card in a TOML file.

    Raises: CardError naming the entry that is missing.
    """
    with path.open("rb") as file:
        table = tomllib.load(file)
    try:
        return made(table)
    except KeyError as error:
        raise CardError(f"{path}: the card has no entry {error}") from error


def filled(kind: type[Made], *tables: Table, **given: object) -> Made:
    """Return a dataclass filled by the names of its fields: from what is given, else from the first table that has it.

    Raises: KeyError naming the first field that is nowhere.
    """
    entries = ChainMap(given, *map(dict, tables))
    found = {one.name: entries[one.name] for one in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    return kind(**{name: tuple(one) if isinstance(one, list) else one for name, one in found.items()})
