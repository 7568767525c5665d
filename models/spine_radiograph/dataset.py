"""Radiographs on disk as trainings read them: a stack for the classifiers, pictures for the detector.

They are rendered phantoms, or pictures of people with annotations; each is stored once.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import ModelError
from ainode.models.phantoms.spine import REGIONS, VIEWS, SpineRadiograph, spine_radiograph
from ainode.models.spine_radiograph.annotations import AnnotatedPicture, Box
from ainode.models.spine_radiograph.preprocess import normalized_range, reason_unusable
from ainode.models.training.parts import refuse_files

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
    groups (n,): a word per picture, its region and view, '' where nobody says it; studies (n,): the study that each
    picture belongs to.
    """

    pictures: NDArray[np.uint8]
    labels: NDArray[np.float32]
    boxes: NDArray[np.float32]
    groups: NDArray[np.str_]
    studies: NDArray[np.str_]

    @classmethod
    def read(cls, path: Path) -> Stack:
        """Return the split that was written to `path`; in a file without studies each picture is one of its own."""
        with np.load(path, allow_pickle=False) as stored:
            pictures = stored["pictures"]
            own = np.asarray([f"picture {number}" for number in range(len(pictures))])
            studies = stored.get("studies", own)
            return cls(pictures, stored["labels"], stored["boxes"], stored["groups"], studies)


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
        _make_folders(folder, split)
        # Spawned: a fork inherits locks of threads (torch's, OpenCV's) but not the threads, and may wait forever.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, partial(cv2.setNumThreads, 1)) as pool:
            rows = list(pool.map(partial(_render_picture, folder, seed, split), range(count), chunksize=16))
        np.savez(
            path,
            pictures=np.stack([row[0] for row in rows]),
            labels=np.asarray([row[1].abnormal for row in rows], np.float32),
            boxes=np.concatenate([_fractional_boxes(i, row[1].boxes, row[1].shape) for i, row in enumerate(rows)]),
            groups=np.asarray([f"{row[1].region} {row[1].view}" for row in rows]),
        )
    return Stack.read(path)


def stored_split(folder: Path, split: str, pictures: Sequence[AnnotatedPicture], *, workers: int = 4) -> Stack:
    """Return annotated pictures as a split; write the split into `folder` first, as `rendered_split` does.

    A picture is stored between the percentiles that the networks' input is scaled by; boxes end where the picture ends.
    Raises: ModelError with the names of the pictures that cannot be read.
    """
    path = folder / f"{split}.npz"
    if not path.is_file():
        _make_folders(folder, split)
        with ThreadPoolExecutor(workers) as pool:
            rows = list(pool.map(partial(_store_annotated, folder, split), range(len(pictures)), pictures))
        refuse_files([row for row in rows if isinstance(row, str)])
        stored = [row for row in rows if not isinstance(row, str)]
        partial_path = path.with_suffix(".part.npz")
        np.savez(
            partial_path,
            pictures=np.stack([stretched for stretched, _ in stored]),
            labels=np.asarray([len(boxes) > 0 for _, boxes in stored], np.float32),
            boxes=np.concatenate([boxes for _, boxes in stored]),
            groups=np.full(len(stored), ""),
            studies=np.asarray([picture.study for picture in pictures]),
        )
        partial_path.replace(path)
    return Stack.read(path)


@dataclass(frozen=True, slots=True)
class _Truth:
    """The truth about one rendered picture."""

    abnormal: bool
    region: str
    view: str
    boxes: tuple[Box, ...]
    shape: tuple[int, int]


def _make_folders(folder: Path, split: str) -> None:
    for kind in ("images", "labels"):
        (folder / "detector" / kind / split).mkdir(parents=True, exist_ok=True)


def _fractional_boxes(index: int, boxes: Sequence[Box], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the boxes (k, 6) of picture `index`: index, class, x0, y0, x1, y1 in fractions of the picture."""
    rows, columns = shape
    scaled = [(index, kind, x0 / columns, y0 / rows, x1 / columns, y1 / rows) for kind, x0, y0, x1, y1 in boxes]
    return np.asarray(scaled, np.float32).reshape(-1, 6)


def _render_picture(folder: Path, seed: int, split: str, index: int) -> tuple[NDArray[np.uint8], _Truth]:
    """Write the detector's picture and labels of one radiograph; return the classifiers' picture and the truth."""
    radiograph = phantom(seed, split, index)
    rows, columns = radiograph.image.shape
    byte = (radiograph.image >> 4).astype(np.uint8)
    truth = _Truth(radiograph.abnormal, radiograph.region, radiograph.view, radiograph.boxes, (rows, columns))
    return _store_picture(folder, split, byte, _fractional_boxes(index, truth.boxes, truth.shape), index), truth


def _store_annotated(
    folder: Path, split: str, index: int, annotated: AnnotatedPicture
) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | str:
    """Write the detector's picture and labels; return the classifiers' picture and its boxes (k, 6), or a refusal."""
    try:
        pixels = gray_picture(annotated.path)
    except ModelError as error:
        return str(error)
    rows, columns = pixels.shape
    inside = [box for box in annotated.boxes if box[1] < columns and box[2] < rows and box[3] > 0 and box[4] > 0]
    if len(inside) < len(annotated.boxes):
        return (
            f"{annotated.path}: a box lies outside of the {columns} x {rows} pixels; boxes are in pixels of the "
            "picture that was annotated: do not resize it"
        )
    boxes = _fractional_boxes(index, inside, (rows, columns))
    boxes[:, 2:] = np.clip(boxes[:, 2:], 0, 1)
    byte = np.rint(normalized_range(pixels) * 255).astype(np.uint8)
    return _store_picture(folder, split, byte, boxes, index), boxes


def gray_picture(path: Path) -> NDArray[np.float32]:
    """Return a gray picture of 8 or 16 bits, as it is stored.

    Shapes: (rows, columns).
    Raises: ModelError if it cannot be decoded, is colored, or is one that the node would refuse.
    """
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise ModelError(f"{path}: no picture of 8 or 16 bits that can be decoded")
    if pixels.ndim == 3:  # noqa: PLR2004  # rows, columns, channels, of which a fourth is opacity
        if (pixels[..., :3] != pixels[..., :1]).any():
            raise ModelError(f"{path}: a colored picture; a radiograph is gray")
        pixels = pixels[..., 0]
    values = np.asarray(pixels, np.float32)
    if reason := reason_unusable(values):
        raise ModelError(f"{path}: {reason}")
    return values


def _store_picture(
    folder: Path, split: str, byte: NDArray[np.uint8], boxes: NDArray[np.float32], index: int
) -> NDArray[np.uint8]:
    """Write the detector's picture and labels of one radiograph; return the classifiers' picture.

    Shapes: boxes (k, 6) as `_fractional_boxes` returns them.
    """
    rows, columns = byte.shape
    scale = _DETECTOR_SIDE / max(rows, columns)
    detector_picture = cv2.resize(byte, (round(columns * scale), round(rows * scale)), interpolation=cv2.INTER_AREA)
    name = f"{index:06d}"
    cv2.imwrite(str(folder / "detector" / "images" / split / f"{name}.png"), detector_picture)
    lines = [
        f"{int(kind)} {(x0 + x1) / 2:.6f} {(y0 + y1) / 2:.6f} {x1 - x0:.6f} {y1 - y0:.6f}"
        for _, kind, x0, y0, x1, y1 in boxes
    ]
    (folder / "detector" / "labels" / split / f"{name}.txt").write_text("\n".join(lines), "utf-8")
    stretched = cv2.resize(byte, (_STACK_SIDE, _STACK_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(stretched, np.uint8)
