"""Model cards: the entries of a card.toml as frozen values."""

from __future__ import annotations

import tomllib
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from ainode.models.errors import CardError

Table = Mapping[str, Any]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class CardReader(Generic[Value]):
    """Reads the card.toml of one model as a value."""

    path: Path
    of_table: Callable[[Table], Value]

    def __call__(self, path: Path | None = None) -> Value:
        """Return the model's card, or the card in another TOML file.

        Raises: CardError naming the entry that is missing.
        """
        path = path or self.path
        with path.open("rb") as file:
            table = tomllib.load(file)
        try:
            return self.of_table(table)
        except KeyError as error:
            raise CardError(f"{path}: the card has no entry {error}") from error


def filled(kind: type[Value], *tables: Table, **values: object) -> Value:
    """Return a dataclass filled by the names of its fields: from the values, else from the first table that has it.

    Raises: KeyError naming the first field that is nowhere.
    """
    entries = ChainMap(values, *map(dict, tables))
    arguments = {field.name: entries[field.name] for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    return kind(**{name: tuple(entry) if isinstance(entry, list) else entry for name, entry in arguments.items()})


def refuse_threshold(name: str, threshold: float) -> None:
    """Return if a probability can cross the threshold.

    Raises: CardError.
    """
    if not 0 < threshold < 1:
        raise CardError(f"{name}: threshold {threshold} is not between 0 and 1")
