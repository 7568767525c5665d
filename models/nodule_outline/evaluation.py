"""Outlines of implanted nodules, as the node makes them, against the readers' masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ainode.models.following import Grid, Omission, Position, nodule_size
from ainode.models.following.grid import triple
from ainode.models.nodule_outline.cells import Triple
from ainode.models.nodule_outline.implant import Blend, Implant, Scene, scene
from ainode.models.nodule_outline.model import OutlinedNodule, OutlineModel, voxel_mask
from ainode.models.nodule_outline.nodules import Chest, Nodule
from ainode.models.nodule_outline.training import FARTHEST_MM, Source, drawn_place

_AXES: tuple[Triple, Triple, Triple] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
MASK_BLEND = Blend(reach_mm=1.0, fade_mm=2.0)
"""the nodule by its mask: what surrounded it is left behind"""
WHOLE_BLEND = Blend(whole=True)
_UNCHANGED = Blend(reach_mm=-100.0)
"""the chest alone"""
_SEED = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """An implanted nodule and what the model made of it.

    Units: dice of the voxels of the nodule's own spacing, 0 without an outline; volumes in mm3.
    """

    nodule: OutlinedNodule | Omission
    dice: float
    volume_mm3: float
    true_volume_mm3: float

    @property
    def volume_error(self) -> float:
        """Return how far the volume lies from the readers', as a part of the readers'; 1 without an outline."""
        return abs(self.volume_mm3 / self.true_volume_mm3 - 1)


def grid_of(seen: Scene) -> Grid:
    """Return a scene as a scan in the patient."""
    return Grid(seen.values, (0.0, 0.0, 0.0), seen.spacing_mm, _AXES)


def scenes(source: Source, blend: Blend, seed: int = _SEED) -> list[Scene]:
    """Return each nodule in one of the chests, at a place of the lung drawn by the seed."""
    random = np.random.default_rng(seed)
    result = []
    for implant in source.implants:
        chest = source.chests[int(random.integers(len(source.chests)))]
        result.append(scene(implant, chest, drawn_place(chest.places.lung, random), blend))
    return result


def outcome(model: OutlineModel, seen: Scene, off_mm: float = 0.0, seed: int = _SEED) -> Outcome:
    """Return the outline of a scene's nodule, asked for by a point `off_mm` from the nodule's middle."""
    scan = grid_of(seen)
    nodule = model.outline(scan, _point(scan, seen, off_mm, seed))
    truth = float(seen.mask.sum() * np.prod(seen.spacing_mm))
    if isinstance(nodule, Omission):
        return Outcome(nodule, 0.0, 0.0, truth)
    drawn = voxel_mask(nodule, scan, model.card.threshold)
    dice = 2 * float((drawn & seen.mask).sum()) / float(drawn.sum() + seen.mask.sum())
    return Outcome(nodule, dice, nodule.size.volume_mm3, truth)


def _point(scan: Grid, seen: Scene, off_mm: float, seed: int) -> Position:
    """Return a point some distance from the middle of a scene's nodule, in a direction drawn by the seed."""
    direction = np.random.default_rng([seed, int(seen.mask.sum())]).standard_normal(3)
    return triple(scan.positions(seen.middle) + off_mm * direction / np.linalg.norm(direction))


def middle_of(seen: Scene) -> Position:
    """Return the position of the middle of a scene's nodule."""
    return triple(grid_of(seen).positions(seen.middle))


def threshold_volume(seen: Scene) -> float:
    """Return the volume that a threshold and an erosion measure, without a network; NaN where they measure none."""
    size = nodule_size(grid_of(seen), middle_of(seen))
    return float("nan") if isinstance(size, Omission) else size.volume_mm3


def silent_scenes(chests: Sequence[Chest], count: int, seed: int = _SEED) -> list[tuple[Grid, Position]]:
    """Return points of chests without a nodule: lung, vessels, tissue, and lung implanted as nodules are."""
    random = np.random.default_rng([seed, 1])
    result = []
    for number in range(count):
        at = int(random.integers(len(chests)))
        places = chests[at].places
        kinds = (places.lung, places.vessels, places.tissue, places.lung)
        place = drawn_place(kinds[number % len(kinds)], random)
        patch = _lung_patch(chests[at], drawn_place(places.lung, random))
        blend = MASK_BLEND if number % len(kinds) == len(kinds) - 1 else _UNCHANGED
        seen = scene(Implant.of(patch), chests[at], place, blend)
        scan = grid_of(seen)
        result.append((scan, triple(scan.positions(seen.middle))))
    return result


def _lung_patch(chest: Chest, place: Triple) -> Nodule:
    """Return a ball of a chest's lung as if it were a nodule that was cut out."""
    window = tuple(
        slice(max(0, round(at - FARTHEST_MM * 2 / step)), round(at + FARTHEST_MM * 2 / step) + 1)
        for at, step in zip(place, chest.spacing_mm, strict=True)
    )
    values = chest.values[window]
    middle = [(n - 1) / 2 for n in values.shape]
    grids = np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij")
    squares = [((g - m) * step) ** 2 for g, m, step in zip(grids, middle, chest.spacing_mm, strict=True)]
    ball: NDArray[np.bool_] = np.sqrt(sum(squares)) <= FARTHEST_MM
    return Nodule(
        values,
        ball,
        chest.spacing_mm,
        malignant=False,
        diameter_mm=0.0,
        texture=0,
        suspicion=1,
        patient="",
        number=0,
    )
