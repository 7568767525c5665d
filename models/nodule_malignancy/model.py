"""A nodule read at a point: its outline, its kind, how likely it is malignant; or why nothing is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ainode.models.errors import CheckpointRefused
from ainode.models.following import Grid, Omission, Position
from ainode.models.nodule_malignancy.card import Card, read_card
from ainode.models.nodule_malignancy.traits import solid_share, traits
from ainode.models.nodule_outline.model import NO_NODULE, OutlinedNodule, OutlineModel
from ainode.models.running.runtime import Execution

Kind = Literal["ground glass", "part-solid", "solid"]
KINDS: tuple[Kind, Kind, Kind] = ("ground glass", "part-solid", "solid")
Row = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Head:
    """Linear rules on the traits, and the solid shares between which a nodule is part-solid.

    Shapes: mean, scale and weights (traits,), in the order in which `traits` gives the traits.
    """

    mean: Row
    scale: Row
    weights: Row
    offset: float
    bounds: tuple[float, float]
    presence_weights: Row
    presence_offset: float

    def probability(self, row: Row) -> float:
        """Return the probability of malignancy of a row of traits."""
        logit = float(((row - self.mean) / self.scale) @ self.weights) + self.offset
        return float(1 / (1 + np.exp(-logit)))

    def presence(self, row: Row) -> float:
        """Return how much an outline looks like a nodule's; below 0 it is a vessel's, the wall's or noise."""
        return float(((row - self.mean) / self.scale) @ self.presence_weights) + self.presence_offset

    def kind(self, share: float) -> Kind:
        """Return the kind of a nodule by its solid share."""
        return KINDS[sum(share > bound for bound in self.bounds)]


@dataclass(frozen=True, slots=True)
class Reading:
    """The reading of a nodule.

    Units: probability of malignancy 0 to 1; None of a mass and of fat, whose `reason` says so. `solid_share` is 0 to 1.
    """

    nodule: OutlinedNodule
    probability: float | None
    solid_share: float
    kind: Kind
    traits: Mapping[str, float]
    reason: Omission | None = None


@dataclass(frozen=True, slots=True)
class MalignancyModel:
    """The loaded model: the outline network and the head."""

    card: Card
    outlines: OutlineModel
    head: Head

    @classmethod
    def load(cls, paths: Mapping[str, Path], *, execution: Execution) -> MalignancyModel:
        """Load the files `outline` and `head`.

        Raises: CheckpointRefused if a file holds something else; PrecisionRefused as `OutlineModel.load` does.
        """
        outlines = OutlineModel.load(paths["outline"], execution=execution)
        return cls(read_card(), outlines, head_of(paths["head"]))

    def read(self, scan: Grid, position_mm: Position) -> Reading | Omission:
        """Return the reading of the nodule at a position, or why there is no nodule."""
        nodule = self.outlines.outline(scan, position_mm)
        if isinstance(nodule, Omission):
            return nodule
        reading = self.reading(nodule)
        return reading if reading.reason or self.is_nodule(reading) else NO_NODULE

    def is_nodule(self, reading: Reading) -> bool:
        """Return whether the traits of an outline are those of a nodule."""
        return self.head.presence(row_of(reading.traits)) > 0

    def reading(self, nodule: OutlinedNodule) -> Reading:
        """Return the reading of an outlined nodule; a mass and fat get no probability."""
        own_traits = traits_of(nodule)
        share = own_traits["solid share"]
        likely = None if nodule.refusal else self.head.probability(row_of(own_traits))
        return Reading(nodule, likely, share, self.head.kind(share), own_traits, nodule.refusal)


def traits_of(nodule: OutlinedNodule) -> Mapping[str, float]:
    """Return the traits of an outlined nodule, and how sure its outline is."""
    own_traits = traits(nodule.cells.values, nodule.mask, nodule.cells.spacing_mm[0])
    return {**own_traits, "presence": nodule.presence, "solid share": share_of(nodule)}


def share_of(nodule: OutlinedNodule) -> float:
    """Return the solid share of an outlined nodule."""
    return solid_share(nodule.cells.values, nodule.mask, nodule.cells.spacing_mm[0])


def row_of(own_traits: Mapping[str, float]) -> Row:
    """Return the traits as the head takes them."""
    return np.array(list(own_traits.values()), np.float64)


def head_of(path: Path) -> Head:
    """Return the head in a file.

    Raises: CheckpointRefused if the file holds no head.
    """
    try:
        table = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointRefused(f"{path}: not a safetensors file, or cut short: {error}") from error
    names = ("mean", "scale", "weights", "offset", "bounds", "presence_weights", "presence_offset")
    if set(table) != set(names):
        raise CheckpointRefused(f"{path}: not a head; it holds {', '.join(sorted(table)[:3])}, not {', '.join(names)}")
    rows = {name: table[name].astype(np.float64) for name in names}
    low, high = (float(bound) for bound in rows["bounds"])
    return Head(
        mean=rows["mean"],
        scale=rows["scale"],
        weights=rows["weights"],
        offset=float(rows["offset"][0]),
        bounds=(low, high),
        presence_weights=rows["presence_weights"],
        presence_offset=float(rows["presence_offset"][0]),
    )
