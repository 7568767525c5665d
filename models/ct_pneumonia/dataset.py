"""Chest volumes with their labels: phantoms, drawn once and stored, and volumes in a folder with a manifest."""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ainode.models.ct_pneumonia.preprocess import SHAPE, chosen_slices, network_input, windowed_values
from ainode.models.errors import ModelError
from ainode.models.phantoms.thorax import Field, Thorax, thorax
from ainode.models.training.copies import groups_with_copies
from ainode.models.training.manifests import manifest_rows
from ainode.models.training.shortcuts import Facts, facts

_LARGEST = 6
_LABELS = {"0": 0, "normal": 0, "1": 1, "abnormal": 1}
# Voxels along each side of a cell of the small network's saliency map.
CELL = 8
# The reader cuts a scan to the slices on which at least this share of the body is aerated lung.
_LUNG_SHARE, _BODY_HU = 0.02, -300
# As real scans are: mostly the whole chest, sometimes a slab; the picture is as wide as the body.
_WHOLE_MM, _SLAB_MM, _SLAB_SHARE = (250.0, 350.0), (80.0, 200.0), 0.3
_FIELD_MM = (330.0, 420.0)


@dataclass(frozen=True, slots=True)
class Volumes:
    """Volumes of one part of a data set.

    Shapes: values (n, 64, 128, 128) int16, (Z, Y, X); labels (n,), 1 abnormal; groups (n,); lesions (n, 16, 16, 8)
    float32, axes x, y, z: the diseased part of each coarse cell, NaN where nobody marked the cell; scans (n, 3): the
    number of slices of the scan that the volume was resampled from, their distance, the size of a pixel, NaN where
    unknown.
    Units: Hounsfield units; mm.
    """

    values: NDArray[np.int16]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    lesions: NDArray[np.float32]
    scans: NDArray[np.float64]

    def only(self, selection: NDArray[np.bool_]) -> Volumes:
        """Return the volumes of a selection, which is True for each volume to return."""
        return Volumes(
            self.values[selection],
            self.labels[selection],
            self.groups[selection],
            self.lesions[selection],
            self.scans[selection],
        )

    def shortcuts(self) -> list[Facts]:
        """Return the shortcuts of every volume: facts that need no anatomy."""
        names = ("slices", "slice mm", "pixel mm")
        return [
            facts(volume, dict(zip(names, scan, strict=True)))
            for volume, scan in zip(self.values, self.scans, strict=True)
        ]

    def inputs(self, index: int) -> NDArray[np.float32]:
        """Return one volume as the network's input."""
        values = self.values[index].astype(np.float32)
        if values.shape == SHAPE[::-1]:
            return np.ascontiguousarray(windowed_values(values).transpose(2, 1, 0))[None, None]
        return network_input(values)


def synthetic_volumes(out: Path, *, count: int, seed: int, workers: int = 1) -> Volumes:
    """Return `count` phantoms of lungs, half of them ill, from the file in `out`; draw them if it is absent."""
    name = hashlib.sha256(f"{count} {seed} {SHAPE} chosen slices of lungs".encode()).hexdigest()[:12]
    path = out / f"synthetic_{count}_{seed}_{name}.npz"
    if not path.is_file():
        out.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(workers) as pool:
            phantoms = list(pool.map(_phantom_volume, [seed] * count, range(count), chunksize=8))
        partial_path = path.with_suffix(".part.npz")
        np.savez(
            partial_path,
            values=np.stack([volume for volume, _, _ in phantoms]),
            lesions=np.stack([map_ for _, map_, _ in phantoms]),
            scans=np.stack([scan for _, _, scan in phantoms]),
        )
        partial_path.replace(path)
    stored = np.load(path)
    groups = np.asarray([f"synthetic {seed} {number}" for number in range(count)])
    return Volumes(stored["values"], np.arange(count) % 2, groups, stored["lesions"], stored["scans"])


def stored_volumes(folder: Path, part: str) -> Volumes:
    """Return one part of a folder with manifest.csv (file, label, group, split) and npz volumes.

    An npz has `hu` and `label`, and may have `spacing_orig` (mm, z first) and `shape_orig` (slices first).
    Raises: ModelError if the manifest lacks a column, has an unknown label or no volume of the part, a volume cannot be
    read, or a file is of two classes or in both parts.
    """
    whole = manifest_rows(folder, "the volumes", ("label", "group"))
    for row in whole:
        if row["label"] not in _LABELS:
            raise row.refusal(f"label {row['label']!r}; {', '.join(_LABELS)} are read")
    paths, labels = [folder / row["file"] for row in whole], [_LABELS[row["label"]] for row in whole]
    groups = groups_with_copies(paths, labels, [row["group"] for row in whole], [row["split"] for row in whole])
    numbers = [number for number, row in enumerate(whole) if row["split"] == part]
    if not numbers:
        raise ModelError(f"{folder}: no volume of the part {part}")
    scans = [_stored_volume(paths[number]) for number in numbers]
    values = np.stack([volume for volume, _ in scans]).astype(np.int16)
    unmarked = np.full((len(numbers), *(n // CELL for n in SHAPE)), np.nan, np.float32)
    facts_of_scans = np.asarray([scan for _, scan in scans], np.float64)
    return Volumes(values, np.asarray(labels)[numbers], np.asarray(groups)[numbers], unmarked, facts_of_scans)


def _stored_volume(path: Path) -> tuple[NDArray[np.int16], tuple[float, float, float]]:
    """Return the volume of an npz, and its scan as `Volumes` has it.

    Raises: ModelError if the file cannot be read, or has no `hu`.
    """
    try:
        with np.load(path) as stored:
            slices = stored["shape_orig"][0] if "shape_orig" in stored else np.nan
            spacing = stored["spacing_orig"] if "spacing_orig" in stored else np.full(3, np.nan)
            return stored["hu"], (slices, spacing[0], spacing[2])
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise ModelError(f"{path}: no npz with a volume named hu that can be read ({type(error).__name__})") from error


@dataclass(frozen=True, slots=True)
class _Extent:
    """The part of a chest that a phantom shows, in mm: along the body, and across; a slab is not the whole chest."""

    slab: bool
    coverage: float
    width: float


def _extent(random: np.random.Generator) -> _Extent:
    """Return a phantom's extent, the first numbers of its random stream."""
    slab = random.random() < _SLAB_SHARE
    return _Extent(slab, random.uniform(*(_SLAB_MM if slab else _WHOLE_MM)), random.uniform(*_FIELD_MM))


def _phantom_volume(seed: int, number: int) -> tuple[NDArray[np.int16], NDArray[np.float32], NDArray[np.float64]]:
    """Return a phantom cut and resized as the node does it, its diseased cells and its scan; odd numbers are ill."""
    random = np.random.default_rng((seed, number))
    extent, size = _extent(random), SHAPE[::-1]
    middle = random.uniform(-50, 40) if extent.slab else random.normal(-10, 12)
    spacing = (extent.coverage / size[0], extent.width / size[1], extent.width / size[2])
    # A slab may miss lesions that lie elsewhere: other patients are drawn until a lesion is in the slab.
    lesion_count = int(random.integers(1, _LARGEST)) if number % 2 else 0
    field = Field(size, spacing, (middle, float(random.normal(5, 6)), float(random.normal(0, 6))))
    anatomy = int(random.integers(2**31))
    for attempt in range(_LARGEST):
        whole = thorax(anatomy + attempt, number, scanned=field, consolidations=lesion_count)
        if not lesion_count or whole.consolidations.any():
            break
    lungs = _lung_slices(whole)
    numbers = lungs.start + chosen_slices(len(lungs))
    nz, ny, nx = (count // CELL for count in size)
    consolidations = whole.consolidations[numbers].reshape(nz, CELL, ny, CELL, nx, CELL)
    cells = consolidations.mean(axis=(1, 3, 5), dtype=np.float32)
    scan = np.asarray((len(lungs), spacing[0], spacing[2]), np.float64)
    return np.rint(whole.values[numbers]).astype(np.int16), cells.transpose(2, 1, 0), scan


def _lung_slices(phantom: Thorax) -> range:
    """Return the numbers from the lowest to the highest slice of the lungs."""
    body = (phantom.values > _BODY_HU) | phantom.lungs
    shares = (phantom.lungs & ~phantom.consolidations).sum(axis=(1, 2)) / body.sum(axis=(1, 2))
    numbers = np.flatnonzero(shares >= _LUNG_SHARE)
    return range(int(numbers[0]), int(numbers[-1]) + 1)
