"""Synthetic radiographs, rendered once to disk: a stack for the classifiers, pictures for the detector."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.phantoms.spine import REGIONS, VIEWS, SpineRadiograph, spine_radiograph

# One stream of seeds per split, so that no picture is in two of them.
SPLITS = ("train", "validation", "test")

# Pictures are drawn larger than any network's input, then shrunk, as a real picture is.
_RENDER_ROWS = 576
_STACK_SIDE = 288
_DETECTOR_SIDE = 448


@dataclass(frozen=True, slots=True)
class Stack:
    """A split for the classifiers.

    Shapes: pictures (n, side, side) uint8, stretched; labels (n,) float32; boxes (m, 6)
    float32: picture index, class index, x0, y0, x1, y1 in fractions of the picture;
    groups (n,): a word per picture, its region and view.
    """

    pictures: NDArray[np.uint8]
    labels: NDArray[np.float32]
    boxes: NDArray[np.float32]
    groups: NDArray[np.str_]

    @classmethod
    def read(cls, path: Path) -> Stack:
        """Return the split that `render` wrote to `path`."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(stored["pictures"], stored["labels"], stored["boxes"], stored["groups"])


def phantom(seed: int, split: str, index: int) -> SpineRadiograph:
    """Return picture `index` of a split; the same arguments give the same picture."""
    random = np.random.default_rng([seed, SPLITS.index(split), index])
    columns = round(_RENDER_ROWS * float(random.uniform(0.45, 1.0)))
    return spine_radiograph(
        random,
        rows=_RENDER_ROWS,
        columns=columns,
        view=VIEWS[index % 2],
        region=REGIONS[index // 2 % 2],
        abnormal=bool(index // 4 % 2),
    )


def rendered_split(folder: Path, split: str, *, seed: int, count: int, workers: int = 2) -> Stack:
    """Return a split; render the split into `folder` first if its file is absent.

    The files are `<split>.npz` for the classifiers, and `detector/{images,labels}/<split>` in
    the layout that ultralytics reads (class, center and size in fractions).
    """
    path = folder / f"{split}.npz"
    if not path.is_file():
        for kind in ("images", "labels"):
            (folder / "detector" / kind / split).mkdir(parents=True, exist_ok=True)
        # Spawned: a fork inherits locks of threads (torch's, OpenCV's) but not the threads, and may wait forever.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, partial(cv2.setNumThreads, 1)) as pool:
            rows = list(pool.map(partial(_render_picture, folder, seed, split), range(count), chunksize=16))
        np.savez(
            path,
            pictures=np.stack([row[0] for row in rows]),
            labels=np.asarray([row[1].abnormal for row in rows], np.float32),
            boxes=np.concatenate([_fractional_boxes(i, row[1]) for i, row in enumerate(rows)]),
            groups=np.asarray([f"{row[1].region} {row[1].view}" for row in rows]),
        )
    return Stack.read(path)


@dataclass(frozen=True, slots=True)
class _Truth:
    """The truth about one rendered picture."""

    abnormal: bool
    region: str
    view: str
    boxes: tuple[tuple[int, float, float, float, float], ...]
    shape: tuple[int, int]


def _fractional_boxes(index: int, truth: _Truth) -> NDArray[np.float32]:
    """Return the boxes (k, 6) of picture `index`: index, class, x0, y0, x1, y1 in fractions of the picture."""
    rows, columns = truth.shape
    scaled = [(index, kind, x0 / columns, y0 / rows, x1 / columns, y1 / rows) for kind, x0, y0, x1, y1 in truth.boxes]
    return np.asarray(scaled, np.float32).reshape(-1, 6)


def _render_picture(folder: Path, seed: int, split: str, index: int) -> tuple[NDArray[np.uint8], _Truth]:
    """Write the detector's picture and labels of one radiograph; return the classifiers' picture and the truth."""
    radiograph = phantom(seed, split, index)
    rows, columns = radiograph.image.shape
    byte = (radiograph.image >> 4).astype(np.uint8)
    truth = _Truth(radiograph.abnormal, radiograph.region, radiograph.view, radiograph.boxes, (rows, columns))
    scale = _DETECTOR_SIDE / max(rows, columns)
    detector_picture = cv2.resize(byte, (round(columns * scale), round(rows * scale)), interpolation=cv2.INTER_AREA)
    name = f"{index:06d}"
    cv2.imwrite(str(folder / "detector" / "images" / split / f"{name}.png"), detector_picture)
    lines = [
        f"{int(kind)} {(x0 + x1) / 2:.6f} {(y0 + y1) / 2:.6f} {x1 - x0:.6f} {y1 - y0:.6f}"
        for _, kind, x0, y0, x1, y1 in _fractional_boxes(0, truth)
    ]
    (folder / "detector" / "labels" / split / f"{name}.txt").write_text("\n".join(lines), "utf-8")
    stretched = cv2.resize(byte, (_STACK_SIDE, _STACK_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(stretched, np.uint8), truth
