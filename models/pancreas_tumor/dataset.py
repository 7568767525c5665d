"""Labelled slices with a tumor: pictures, masks, patients.

`data` is the folder that holds `pancreas_msd` (manifest.csv, pictures, masks), or `pancreas_msd` itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ainode.models.pancreas_tumor.preprocess import SIDE, Frame, body_box, frame_of
from ainode.models.training.experiment import Part
from ainode.models.training.manifests import gray_picture, rows_of_part

_SET = "pancreas_msd"
# Patients are dealt into as many groups; the group of a number is left out to choose by.
FOLDS = 5
_FOLD_SEED = 0


@dataclass(frozen=True, slots=True)
class Slices:
    """Pictures with the mask of their tumor.

    Shapes: pictures (n, 256, 256) of gray levels, masks (n, 256, 256) of 0 and 1, patients (n,).
    """

    pictures: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    patients: NDArray[np.str_]

    def only(self, chosen: NDArray[np.bool_]) -> Slices:
        """Return the chosen slices."""
        return Slices(self.pictures[chosen], self.masks[chosen], self.patients[chosen])

    def frames(self) -> tuple[Frame, ...]:
        """Return the frame of each picture; of a picture without a body, that of the whole picture."""
        boxes = (body_box(picture) or (0, 0, SIDE, SIDE) for picture in self.pictures)
        return tuple(map(frame_of, boxes))


def slices_of_part(data: Path, part: Part) -> Slices:
    """Return the slices of one part.

    Raises: ModelError if the folder holds no manifest, or no slice of the part.
    """
    folder, rows = rows_of_part(data, _SET, part)
    return Slices(
        np.stack([gray_picture(folder / row["file"]) for row in rows]),
        np.stack([np.asarray(gray_picture(folder / row["mask"]) > 0, np.uint8) for row in rows]),
        np.array([row["group"] for row in rows]),
    )


def left_out(slices: Slices, fold: int) -> NDArray[np.bool_]:
    """Return whether each slice is of a patient of one of the five groups that are left out to choose by."""
    names = np.unique(slices.patients)
    groups = np.random.default_rng(_FOLD_SEED).permutation(len(names)) % FOLDS
    return np.isin(slices.patients, names[groups == fold])
