"""The cut-out nodules of LIDC-IDRI in Hounsfield units, and the chests that they are implanted in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from ainode.models.training.experiment import Part
from ainode.models.training.manifests import manifest_rows

Triple = tuple[float, float, float]

NODULES, CHESTS = "nodule_lidc_hu", "chest_backgrounds"
"""the folders of the two sets in the folder of the data"""
# The sources without a pixel size show lungs 480 pixels wide; 0.6 mm makes the lungs 29 cm wide (SOURCE.md of the set).
_USUAL_PIXEL_MM = 0.6
# An 8-bit source: a window of 1500 HU from -1350 HU, stored as grays.
_GRAY_HU, _LOWEST_HU, _AIR_HU = 1500 / 255, -1350.0, -1024.0
_EDGE_MM = 6.0
_VESSEL_HU, _TISSUE_HU = -300.0, -50.0


@dataclass(frozen=True, slots=True)
class Nodule:
    """A nodule that was cut out of a CT, with the readers' mask.

    Shapes: values and mask (Z, Y, X), axes to the head, the back and the left.
    Units: Hounsfield units; spacing_mm is (z, y, x); diameter_mm is the source's own measure.
    """

    values: NDArray[np.int16]
    mask: NDArray[np.bool_]
    spacing_mm: Triple
    malignant: bool
    diameter_mm: float
    texture: int
    """the readers' most frequent rating: 1 ground glass, 3 part-solid, 5 solid"""
    suspicion: int
    """the readers' most frequent rating of malignancy, 1 to 5"""
    patient: str
    number: int

    @property
    def volume_mm3(self) -> float:
        """Return the volume of the readers' mask."""
        return float(self.mask.sum() * np.prod(self.spacing_mm))

    @property
    def equivalent_mm(self) -> float:
        """Return the diameter of the ball of the mask's volume."""
        return float((6 / np.pi * self.volume_mm3) ** (1 / 3))


@dataclass(frozen=True)
class Chest:
    """A chest CT without a nodule.

    Shapes: values and lung (Z, Y, X), axes to the head, the back and the left.
    Units: Hounsfield units, at most `highest_hu`; spacing_mm is (z, y, x).
    """

    values: NDArray[np.int16]
    lung: NDArray[np.bool_]
    spacing_mm: Triple
    name: str

    @property
    def highest_hu(self) -> float:
        """Return the largest value of the chest: some sources were clipped."""
        return float(self.values.max())

    @cached_property
    def places(self) -> Places:
        """Return the voxels of the chest by what lies there."""
        return Places.of(self)


@dataclass(frozen=True, slots=True)
class Places:
    """The voxels of a chest by what lies there: (n, 3) indices each."""

    lung: NDArray[np.int32]
    edge: NDArray[np.int32]
    """lung near the wall, the heart or the diaphragm"""
    vessels: NDArray[np.int32]
    tissue: NDArray[np.int32]
    """dense voxels outside of the lung"""

    @classmethod
    def of(cls, chest: Chest) -> Places:
        """Return the places of a chest, some thousands of each."""
        depth = distance_transform_edt(chest.lung, sampling=chest.spacing_mm)
        dense = chest.values > _VESSEL_HU
        return cls(
            lung=_some(depth > 0),
            edge=_some((depth > 0) & (depth < _EDGE_MM)),
            vessels=_some(dense & (depth > 0)),
            tissue=_some((depth <= 0) & (chest.values > _TISSUE_HU)),
        )


def _some(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return about 20,000 voxels of a mask, evenly spread."""
    voxels = np.flatnonzero(mask)
    chosen = voxels[:: max(1, len(voxels) // 20_000)]
    return np.stack(np.unravel_index(chosen, mask.shape), axis=1).astype(np.int32)


def read_nodules(data: Path, part: Part) -> tuple[Nodule, ...]:
    """Return the nodules of one part."""
    table = np.load(data / NODULES / f"{part}.npz")
    offsets = table["offset"]
    texture, suspicion = (table["rating_names"].tolist().index(name) for name in ("texture", "malignancy"))
    voxels, masks = table["hu"], np.unpackbits(table["mask_packed"])[: offsets[-1]].astype(bool)
    return tuple(
        Nodule(
            values=voxels[offsets[row] : offsets[row + 1]].reshape(shape),
            mask=masks[offsets[row] : offsets[row + 1]].reshape(shape),
            spacing_mm=_triple(table["spacing"][row]),
            malignant=bool(label),
            diameter_mm=float(table["diameter_mm"][row]),
            texture=int(table["ratings"][row, texture]),
            suspicion=int(table["ratings"][row, suspicion]),
            patient=str(table["patient"][row]),
            number=int(table["nodule_id"][row]),
        )
        for row, (shape, label) in enumerate(zip(table["shape"], table["label"], strict=True))
    )


def read_chests(data: Path, part: Part) -> tuple[Chest, ...]:
    """Return the chests of one part."""
    names = [row["file"] for row in manifest_rows(data / CHESTS, CHESTS) if row["split"] == part]
    return tuple(_chest(data / CHESTS / name) for name in names)


def _chest(path: Path) -> Chest:
    """Return the chest of a file."""
    table = np.load(path)
    if "hu" in table.files:
        values = table["hu"]
    else:
        grays = table["grey"]
        window = np.maximum(np.round(grays * np.float32(_GRAY_HU) + np.float32(_LOWEST_HU)), _AIR_HU)
        values = np.where(grays == 0, _AIR_HU, window).astype(np.int16)
    lung = np.unpackbits(table["lung_packed"])[: values.size].reshape(values.shape).astype(bool)
    return Chest(values, lung, _triple(np.nan_to_num(table["spacing"], nan=_USUAL_PIXEL_MM)), path.stem)


def _triple(values: NDArray[np.floating]) -> Triple:
    """Return three numbers as a tuple of floats."""
    first, second, third = (round(float(value), 6) for value in values)
    return first, second, third
