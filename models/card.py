"""Model cards: the entries of a card.toml as frozen values."""

from __future__ import annotations

import tomllib
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from ainode.models.errors import CardError

Entries = Mapping[str, Any]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class CardReader(Generic[Value]):
    """Reads the card.toml of one model as a value."""

    path: Path
    build: Callable[[Entries], Value]

    def __call__(self, path: Path | None = None) -> Value:
        """Return the model's card, or the card in another TOML file.

        Raises: CardError naming the missing entry, or as `build` does; OSError, TOMLDecodeError if the file is no TOML.
        """
        path = path or self.path
        with path.open("rb") as file:
            entries = tomllib.load(file)
        try:
            return self.build(entries)
        except KeyError as error:
            raise CardError(f"{path}: the card has no entry {error}") from error


def from_entries(value_class: type[Value], *tables: Entries, **values: object) -> Value:
    """Return a dataclass whose fields come from the entries of their names: first `values`, then each table in turn.

    Every field needs an entry, a field with a default too. A list becomes a tuple.

    Raises: KeyError naming the first field that has no entry.
    """
    entries = ChainMap(values, *map(dict, tables))
    arguments = {field.name: entries[field.name] for field in fields(value_class)}  # type: ignore[arg-type]  # a dataclass
    return value_class(
        **{name: tuple(entry) if isinstance(entry, list) else entry for name, entry in arguments.items()}
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """What a reader of every report is told about the model, in short words."""

    not_for: tuple[str, ...]
    """what the model is not for, without the reasons that the card gives"""
    known_limits: tuple[str, ...]
    """what was seen to go wrong"""


def limits_of(entries: Entries) -> Limits:
    """Return the entries `not_for`, each up to its colon, behind which the card gives a reason, and `known_limits`."""
    return Limits(tuple(entry.split(":")[0] for entry in entries["not_for"]), tuple(entries["known_limits"]))


def band_of(table: Entries) -> tuple[float, float] | None:
    """Return the entry `band`, the probabilities from the first to the second that decide nothing; None without it.

    Raises: CardError unless the band is two numbers of 0 to 1, the lower one first.
    """
    if "band" not in table:
        return None
    low, high = table["band"]
    if not 0 <= low < high <= 1:
        raise CardError(f"band {low} to {high} is no range of probabilities")
    return float(low), float(high)


def refuse_unreachable_threshold(name: str, threshold: float) -> None:
    """Raise CardError unless the threshold lies between 0 and 1, both excluded; `name` is the model."""
    if not 0 < threshold < 1:
        raise CardError(f"{name}: threshold {threshold} is not between 0 and 1")


@dataclass(frozen=True, slots=True)
class NetworkCard:
    """The entries that a model of one network needs; people read the rest of the file."""

    name: str
    version: str
    limits: Limits
    network: str
    file: str

    @property
    def weights(self) -> str:
        """Return the name of the weights in the manifest."""
        return f"{self.name}/{self.network}"


@dataclass(frozen=True, slots=True)
class ThresholdCard(NetworkCard):
    """The entries of a model of one network with a threshold on its probability."""

    threshold: float

    def __post_init__(self) -> None:
        """Refuse a threshold that no probability can cross."""
        refuse_unreachable_threshold(self.name, self.threshold)


NetworkCards = TypeVar("NetworkCards", bound=NetworkCard)


def network_card(card_class: type[NetworkCards], entries: Entries, **values: object) -> NetworkCards:
    """Return the card of a model of one network; further fields come from `values`, and the tables network and input.

    Raises: KeyError naming the missing entry.
    """
    network = entries["network"]
    if issubclass(card_class, ThresholdCard):
        values["threshold"] = entries["threshold"]["value"]
    values |= {"network": network["name"], "limits": limits_of(entries)}
    return from_entries(card_class, entries, network, entries.get("input", {}), **values)
