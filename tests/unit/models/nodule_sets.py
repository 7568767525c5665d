"""Synthetic nodules and chests in the layouts of nodule_lidc_hu and chest_backgrounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SPACING = (2.0, 0.8, 0.8)
_NAMES = ["texture", "malignancy"]


def ball(radius_mm: float, spacing_mm: tuple[float, float, float] = _SPACING, margin: int = 6) -> NDArray[np.bool_]:
    """Return the mask of a ball in a box that ends at the ball's first and last slice."""
    half = [int(radius_mm / step) + (0 if axis == 0 else margin) for axis, step in enumerate(spacing_mm)]
    grids = np.meshgrid(*(np.arange(-n, n + 1) * s for n, s in zip(half, spacing_mm, strict=True)), indexing="ij")
    return np.asarray(np.sqrt(sum(grid**2 for grid in grids)) <= radius_mm)


def write_nodules(path: Path, count: int, seed: int) -> None:
    """Write balls: large ones malignant, small ones benign, two of a patient."""
    random = np.random.default_rng(seed)
    masks = [ball(float(random.uniform(3, 4.5) + 4 * (number % 2))) for number in range(count)]
    values = [np.where(mask, 40, -850) + random.normal(0, 20, mask.shape) for mask in masks]
    bits = np.concatenate([mask.ravel() for mask in masks])
    np.savez(
        path,
        hu=np.concatenate([value.ravel() for value in values]).astype(np.int16),
        mask_packed=np.packbits(bits),
        offset=np.cumsum([0, *(mask.size for mask in masks)]),
        shape=np.array([mask.shape for mask in masks], np.int16),
        spacing=np.tile(np.array(_SPACING, np.float32), (count, 1)),
        label=(np.arange(count) % 2).astype(np.uint8),
        diameter_mm=np.array([2 * (3 + 4 * (number % 2)) for number in range(count)], np.float32),
        ratings=np.array([[1 + 2 * (number % 3), 3] for number in range(count)], np.uint8),
        rating_names=np.array(_NAMES),
        patient=np.array([f"P{number // 2}" for number in range(count)]),
        nodule_id=np.arange(count, dtype=np.int16),
    )


def write_chests(folder: Path) -> None:
    """Write a block of tissue with a lung in it for each part; the second has no pixel size and ends at 150 HU."""
    random = np.random.default_rng(0)
    lung = np.zeros((40, 90, 90), bool)
    lung[4:-4, 14:-14, 14:-14] = True
    values = np.where(lung, -850, 50) + random.normal(0, 15, lung.shape)
    values[:, 40:43, 50:53] = 30
    packed = np.packbits(lung)
    np.savez(
        folder / "first.npz",
        hu=values.astype(np.int16),
        lung_packed=packed,
        spacing=np.array([2, 0.8, 0.8], np.float32),
    )
    grays = np.clip((values + 1350) * 255 / 1500, 1, 255).astype(np.uint8)
    np.savez(folder / "second.npz", grey=grays, lung_packed=packed, spacing=np.array([2, np.nan, np.nan], np.float32))
    (folder / "manifest.csv").write_text("file,split\nfirst.npz,train\nsecond.npz,test\n", "utf-8")


def write_sets(folder: Path, training: int, tested: int) -> Path:
    """Write both sets into a folder; return the folder."""
    nodules, chests = folder / "nodule_lidc_hu", folder / "chest_backgrounds"
    nodules.mkdir()
    chests.mkdir()
    write_nodules(nodules / "train.npz", training, 0)
    write_nodules(nodules / "test.npz", tested, 1)
    write_chests(chests)
    return folder
