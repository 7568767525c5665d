"""Pictures that stand beside the labelled films in a training: drawn spines, and pictures without a frontal spine.

The labelled films are cropped to the spine, and each shows all of it. Drawn spines, and frontal views of a chest CT
whose bones are raised, teach parts of a spine in a wide field. Side views, and frontal views of chest CTs whose bones
are faded as on a chest film, teach what is to be left alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ainode.models.nodule_outline.nodules import CHESTS, Chest, read_chests
from ainode.models.phantoms.spine import spine_radiograph
from ainode.models.spine_vertebrae.dataset import COUNT, Film
from ainode.models.training.experiment import Part

_SEED = 29
_DRAWN, _SIDE_VIEWS = 48, 32
_ROWS, _ASPECT = 768, (0.4, 1.1)
_REGIONS = ("THORACIC", "LUMBAR", "WHOLE")
# A chest is turned about its long axis, in degrees; every second column and row is enough for a projection.
_TURNS = (-12, -6, 0, 6, 12)
_COARSE = 2
# Above this, bone counts no more than soft tissue: a chest film is exposed with hard rays.
_FADED_HU = 150.0
# How many times over bone counts where it is raised, and from which density on.
_RAISED, _BONE_HU = np.linspace(0.3, 2.0, 12), 150.0
# Of the chest normal001 of chest_backgrounds (COVID-CT-MD), facing its frontal view: four corners of twelve vertebrae
# in pixels, proposed by an early training of this network and looked at.
_MARKED_CHEST, _MARKS = "normal001", Path(__file__).with_name("marked_chest.csv")
_NOTHING = np.zeros((0, 4, 2), np.float32)


def drawn_spines() -> tuple[Film, ...]:
    """Return drawn frontal spines, whole and in part; a vertebra outside of its picture has no numbers as corners."""
    films = []
    for number in range(_DRAWN):
        random = np.random.default_rng([_SEED, number])
        columns = int(_ROWS * random.uniform(*_ASPECT))
        region = _REGIONS[number % len(_REGIONS)]
        drawn = spine_radiograph(random, rows=_ROWS, columns=columns, view="AP", region=region)
        middles = drawn.corners.mean(axis=1)
        is_outside = ((middles < 0) | (middles > (columns, _ROWS))).any(axis=1)
        corners = np.where(is_outside[:, None, None], np.nan, drawn.corners).astype(np.float32)
        films.append(_film(f"drawn {number}", (drawn.image >> 4).astype(np.uint8), corners))
    return tuple(films)


def marked_chests(data: Path) -> tuple[Film, ...]:
    """Return frontal views of a chest CT whose vertebrae are marked, bone more and more raised; none without the CT."""
    chests = read_chests(data, "train") if (data / CHESTS).is_dir() else ()
    marks = np.loadtxt(_MARKS, np.float32, delimiter=",", skiprows=1).reshape(-1, 4, 2)
    corners = np.full((COUNT, 4, 2), np.nan, np.float32)
    corners[: len(marks)] = marks
    films = []
    for scan in chests:
        if scan.name == _MARKED_CHEST:
            dense = np.clip(scan.values[::-1].astype(np.float32), -1000, None) + 1000
            bone = np.maximum(dense - 1000 - _BONE_HU, 0)
            pictures = (_picture((dense + times * bone).sum(axis=1), _stretch(scan)) for times in _RAISED)
            films += [_film(f"marked {number}", picture, corners) for number, picture in enumerate(pictures)]
    return tuple(films)


def others(data: Path) -> tuple[Film, ...]:
    """Return pictures without a frontal spine: drawn side views, and projections of the training's chests in `data`."""
    films = (*drawn_side_views(), *chest_projections(data))
    return tuple(without_spine(f"other {number}", film.picture) for number, film in enumerate(films))


def drawn_side_views(first: int = _DRAWN) -> tuple[Film, ...]:
    """Return drawn spines from the side; of another first number other ones."""
    return tuple(_drawn_side_view(first + number, number) for number in range(_SIDE_VIEWS))


def _drawn_side_view(seed: int, number: int) -> Film:
    random = np.random.default_rng([_SEED, seed])
    columns, region = int(_ROWS * random.uniform(*_ASPECT)), _REGIONS[number % len(_REGIONS)]
    drawn = spine_radiograph(random, rows=_ROWS, columns=columns, view="LATERAL", region=region)
    return without_spine(f"side view {seed}", (drawn.image >> 4).astype(np.uint8))


def chest_projections(data: Path) -> tuple[Film, ...]:
    """Return frontal and side views of the training's chests whose bones are faded; none without chests in `data`."""
    scans = read_chests(data, "train") if (data / CHESTS).is_dir() else ()
    return tuple(film for scan in scans for film in _projections(scan, axes=(1, 2), faded=True))


def chest_side_views(data: Path, part: Part) -> tuple[Film, ...]:
    """Return side views of a part's chests with their bones as they are; none without chests in `data`."""
    scans = read_chests(data, part) if (data / CHESTS).is_dir() else ()
    return tuple(film for scan in scans for film in _projections(scan, axes=(2,), faded=False))


def without_spine(name: str, picture: NDArray[np.uint8], patient: str = "") -> Film:
    """Return a picture as a film on which no vertebra is to be found."""
    return replace(_film(name, picture, _NOTHING), patient=patient or name)


def _projections(scan: Chest, *, axes: tuple[int, ...], faded: bool) -> list[Film]:
    """Return a chest CT along each axis, turned a little."""
    dense = np.clip(scan.values[::-1, ::_COARSE, ::_COARSE].astype(np.float32), -1000, _FADED_HU if faded else None)
    films = []
    for turn in _TURNS:
        turned = ndimage.rotate(dense + 1000, turn, axes=(1, 2), reshape=False, order=1)
        pictures = [_picture(turned.sum(axis=axis), _stretch(scan) / _COARSE) for axis in axes]
        films += [without_spine(f"{scan.name} by {turn} degrees", picture, scan.name) for picture in pictures]
    return films


def _stretch(scan: Chest) -> float:
    """Return how far apart slices are, in pixels."""
    slice_mm, _, pixel_mm = scan.spacing_mm
    return slice_mm / pixel_mm


def _picture(sums: NDArray[np.float32], stretch: float) -> NDArray[np.uint8]:
    """Return sums along the rays as a picture whose rows are as far apart as its columns."""
    low, high = np.percentile(sums, [1, 99.5])
    gray = np.clip((sums - low) / (high - low), 0, 1) * 255
    return np.asarray(ndimage.zoom(gray, (stretch, 1), order=1), np.uint8)


def _film(name: str, picture: NDArray[np.uint8], corners: NDArray[np.float32]) -> Film:
    return Film(name, name, picture, corners, 0.0, has_right_corners=len(corners) == COUNT)
