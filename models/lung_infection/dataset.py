"""Labelled slices of ill lungs, and slices of healthy chests as pictures of the same kind.

A folder holds `ct_infection` (pictures and masks, manifest.csv) and may hold `chest_backgrounds` (whole healthy chests
in Hounsfield units, manifest.csv); or the folder is `ct_infection` itself, and the chests lie beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ainode.models.lung_infection.preprocess import slice_picture
from ainode.models.training.experiment import Part
from ainode.models.training.manifests import gray_picture, manifest_rows, rows_of_part

LUNG, INFECTION = 1, 2
"""in a mask; 0 is outside"""
_SET, _HEALTHY = "ct_infection", "chest_backgrounds"
# One chest is in two sets; the other set keeps it as the healthy volume that no training has seen.
_UNSEEN = ("normal001.npz",)
# The files of 8 bits: gray 0 to 255 over this window; 0 is also what lies outside the body.
_GRAY_HU = (-1350.0, 150.0)
_AIR_HU = -1024.0
# Of healthy chests every second slice is taken, 4 mm apart: neighbors show the same.
_STEP = 2
# A slice of a healthy chest shows lung on this share of its pixels.
_LEAST_LUNG = 0.02


@dataclass(frozen=True, slots=True)
class Slices:
    """Pictures with their masks.

    Shapes: pictures, masks (n, 256, 256); patients (n,); has_lung (n,), whether the mask tells the lung's border.
    """

    pictures: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    patients: NDArray[np.str_]
    has_lung: NDArray[np.bool_]

    def only(self, chosen: NDArray[np.bool_]) -> Slices:
        """Return the chosen slices."""
        return Slices(self.pictures[chosen], self.masks[chosen], self.patients[chosen], self.has_lung[chosen])


def slices_of_part(data: Path, part: Part) -> Slices:
    """Return the labelled slices of one part, from the feet to the head of each patient as the manifest has them.

    Raises: ModelError if the folder holds no manifest, or no slice of the part.
    """
    folder, rows = rows_of_part(data, _SET, part)
    return Slices(
        np.stack([gray_picture(folder / row["file"]) for row in rows]),
        np.stack([gray_picture(folder / row["mask"]) for row in rows]),
        np.array([row["group"] for row in rows]),
        np.ones(len(rows), bool),
    )


def healthy_slices(data: Path, part: Part, seed: int) -> Slices | None:
    """Return slices of the healthy chests of one part as pictures; None where no such chest lies there.

    The chests were cut out of their scans, and clipped: noise is added in and around the body, and each slice gets
    a bright pixel, as bone or metal is in a whole scan, so that the stretch meets ranges as wide as theirs.
    """
    random = np.random.default_rng(seed)
    pictures, patients = [], []
    for path in healthy_files(data, part):
        hounsfield, lung = chest(path)
        for number in range(0, len(hounsfield), _STEP):
            if lung[number].mean() >= _LEAST_LUNG:
                pictures.append(slice_picture(_as_scanned(hounsfield[number], random)))
                patients.append(path.stem)
    if not pictures:
        return None
    stack = np.stack(pictures)
    return Slices(stack, np.zeros_like(stack), np.array(patients), np.zeros(len(stack), bool))


def healthy_files(data: Path, part: Part) -> tuple[Path, ...]:
    """Return the files of the healthy chests of one part; none where no such chest lies there."""
    folder = (data.parent if (data / "manifest.csv").is_file() else data) / _HEALTHY
    if not (folder / "manifest.csv").is_file():
        return ()
    names = [row["file"] for row in manifest_rows(folder, _HEALTHY) if row["split"] == part]
    return tuple(folder / name for name in names if name not in _UNSEEN)


def chest(path: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return a healthy chest's Hounsfield units and its lungs, (Z, Y, X), axes to the head, the back and the left."""
    with np.load(path) as file:
        if "hu" in file:
            hounsfield = file["hu"].astype(np.float32)
        else:
            low, high = _GRAY_HU
            gray = file["grey"]
            scaled = np.maximum(gray.astype(np.float32) * ((high - low) / 255) + low, _AIR_HU)
            hounsfield = np.where(gray == 0, np.float32(_AIR_HU), scaled)
        lung = np.unpackbits(file["lung_packed"])[: hounsfield.size].reshape(hounsfield.shape).astype(bool)
    return hounsfield, lung


def _as_scanned(hounsfield: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    noisy = hounsfield + random.normal(0, random.uniform(4, 30), hounsfield.shape)
    noisy[:6, :6] = random.uniform(150, 1500)
    return noisy.astype(np.float32)
