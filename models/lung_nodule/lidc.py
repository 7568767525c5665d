"""The LIDC-IDRI nodules of nodule3d_lidc: stretched slices, outlines, the radiologists' ratings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ainode.models.training.experiment import Part


@dataclass(frozen=True, slots=True)
class Nodules:
    """Nodules of several patients.

    Shapes: slices, outlines (all slices, 64, 64) uint8 and bool; the slices of nodule i are
    `first[i]` to `first[i] + count[i]`; labels (n,) 1 = rated malignant; ratings (n,) 1 to 5.
    """

    slices: NDArray[np.uint8]
    outlines: NDArray[np.bool_]
    first: NDArray[np.int64]
    count: NDArray[np.int64]
    labels: NDArray[np.int64]
    ratings: NDArray[np.int64]
    patients: NDArray[np.str_]

    def areas(self) -> NDArray[np.float64]:
        """Return the largest area of every nodule in pixels."""
        per_slice = self.outlines.sum(axis=(1, 2))
        return np.array([per_slice[f : f + c].max() for f, c in zip(self.first, self.count, strict=True)], np.float64)

    def middle(self, nodule: int) -> int:
        """Return the row in `slices` of a nodule's middle slice, where its center of gravity lies."""
        return int(self.first[nodule] + self.count[nodule] // 2)

    def middle_pictures(self, rows: Iterable[int]) -> NDArray[np.float32]:
        """Return the middle slices of nodules as the network's input, (n, 1, 64, 64) in 0 to 1."""
        chosen = [self.middle(int(row)) for row in rows]
        return (self.slices[chosen, None] / np.float32(255)).astype(np.float32)


def read(data: Path, part: Part) -> Nodules:
    """Return one part of the data set."""
    table = np.load(data / f"{part}.npz")
    outlines = np.unpackbits(table["mask_packed"], axis=1).reshape(-1, *table["slices"].shape[1:]).astype(bool)
    return Nodules(
        slices=table["slices"],
        outlines=outlines,
        first=table["offset"].astype(np.int64),
        count=table["n_slices"].astype(np.int64),
        labels=table["label"].astype(np.int64),
        ratings=table["rating"].astype(np.int64),
        patients=table["patient"],
    )
