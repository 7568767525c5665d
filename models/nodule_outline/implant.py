"""Real nodules implanted in real chests: the network's examples, with a mask that the picture does not give away.

The cut-outs of the set end at the nodule. A network that saw them padded would learn the padding. A nodule is blended
over a margin of random width, so the seam does not tell where the mask ends; lung implanted the same way is no nodule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from ainode.models.nodule_outline.cells import AIR_HU, CELL_MM, Array, Triple, cube, distance_mm, offsets_mm, sampled
from ainode.models.nodule_outline.nodules import Chest, Nodule

_MARGIN_MM = 8.0
"""the room around a cut-out in which the blend ends"""
_BORDER_MM = 3.0
"""the width over which the border of a whole cut-out is blended"""
_SCENE_MM = 14.0
"""the chest around a nodule's margin of 8 mm; a cube around a point 5 mm beside the middle reaches 22 mm"""
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Blend:
    """The way in which a nodule is put into a chest.

    Units: the nodule's own surroundings are kept up to `reach_mm` beyond the mask and fade over the next `fade_mm`.
    """

    reach_mm: float = 1.5
    fade_mm: float = 2.0
    whole: bool = False
    """whether the whole cut-out is put in, faded at its border"""
    merged: bool = False
    """whether vessels and wall of the chest stay, so that they touch the nodule"""


@dataclass(frozen=True, slots=True)
class Implant:
    """A nodule with a margin, ready to be put into chests.

    Shapes: all (Z, Y, X); beyond the cut-out the values are those of the cut-out's edge, and `inside` is 0.
    Units: Hounsfield units; distance_mm is negative inside of the mask; middle (z, y, x) is the mask's, in voxels.
    """

    values: NDArray[np.int16]
    mask: NDArray[np.uint8]
    distance_mm: NDArray[np.float16]
    inside: NDArray[np.uint8]
    border: NDArray[np.float16]
    spacing_mm: Triple
    middle: Triple

    @classmethod
    def of(cls, nodule: Nodule) -> Implant:
        """Return the implant of a nodule."""
        margin = [(int(np.ceil(_MARGIN_MM / step)),) * 2 for step in nodule.spacing_mm]
        mask = np.pad(nodule.mask, margin)
        outside, within = (distance_transform_edt(part, sampling=nodule.spacing_mm) for part in (~mask, mask))
        z, y, x = np.argwhere(mask).mean(axis=0)
        return cls(
            values=np.pad(nodule.values, margin, mode="edge"),
            mask=mask.astype(np.uint8),
            distance_mm=(outside - within).astype(np.float16),
            inside=np.pad(np.ones(nodule.mask.shape, np.uint8), margin),
            border=np.pad(_border(nodule), margin).astype(np.float16),
            spacing_mm=nodule.spacing_mm,
            middle=(float(z), float(y), float(x)),
        )

    def alpha(self, blend: Blend) -> Array:
        """Return the share of the nodule's own values in each voxel."""
        if blend.whole:
            return np.asarray(self.border, np.float32)
        faded = (blend.reach_mm + blend.fade_mm - self.distance_mm.astype(np.float32)) / max(blend.fade_mm, 1e-3)
        return np.asarray(np.clip(faded, 0, 1) * self.inside, np.float32)


def _border(nodule: Nodule) -> Array:
    """Return 1 within a cut-out, falling to 0 at its border in the plane; its first and last slices are whole."""
    rows, columns = (
        np.clip((np.minimum(np.arange(n), n - 1 - np.arange(n)) + _HALF) * step / _BORDER_MM, 0, 1)
        for n, step in zip(nodule.mask.shape[1:], nodule.spacing_mm[1:], strict=True)
    )
    return np.broadcast_to(rows[:, None] * columns, nodule.mask.shape).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Example:
    """The cells around a point, and the share of each cell that the nodule fills.

    Shapes: values and target (48, 48, 48). Units: Hounsfield units; cell_mm is the side of a cell.
    """

    values: Array
    target: Array
    cell_mm: float


def blended(
    implant: Implant, chest: Chest, place: Triple, blend: Blend, offsets_mm: Sequence[NDArray[np.float64]]
) -> tuple[Array, Array]:
    """Return the values around a nodule in a chest, and the share of each place that the nodule fills.

    `place` is the voxel of the chest where the nodule's middle comes to lie; `offsets_mm` are three lists of distances
    from there. The values end at the chest's highest.
    """
    chest_axes, own_axes = (
        [off / step + at for off, step, at in zip(offsets_mm, spacing, middle, strict=True)]
        for spacing, middle in ((chest.spacing_mm, place), (implant.spacing_mm, implant.middle))
    )
    background = sampled(chest.values, chest_axes, AIR_HU)
    alpha = sampled(implant.alpha(blend), own_axes, 0.0)
    own = np.minimum(sampled(implant.values, own_axes, AIR_HU), chest.highest_hu)
    share = sampled(implant.mask, own_axes, 0.0)
    values = background + alpha * (own - background)
    if blend.merged:
        values = np.where(share < _HALF, np.maximum(values, background), values)
    return np.asarray(values, np.float32), share


def implanted(
    implant: Implant, chest: Chest, place: Triple, blend: Blend, *, off_mm: Triple = (0, 0, 0), cell_mm: float = CELL_MM
) -> Example:
    """Return the cells around a point in a chest, `off_mm` from the middle of an implanted nodule."""
    values, share = blended(implant, chest, place, blend, [offsets_mm(cell_mm) + off for off in off_mm])
    return Example(values, share, cell_mm)


@dataclass(frozen=True, slots=True)
class Scene:
    """A chest around an implanted nodule, at the nodule's own spacing.

    Shapes: values and mask (Z, Y, X); middle (z, y, x) is the center of the mask in voxels.
    """

    values: Array
    mask: NDArray[np.bool_]
    spacing_mm: Triple
    middle: Triple


def scene(implant: Implant, chest: Chest, place: Triple, blend: Blend) -> Scene:
    """Return the chest around an implanted nodule, 22 mm on each side of the nodule's cut-out."""
    counts = [
        np.arange(-int(_SCENE_MM / step), size + int(_SCENE_MM / step))
        for size, step in zip(implant.mask.shape, implant.spacing_mm, strict=True)
    ]
    offsets = [
        (index - middle) * step for index, middle, step in zip(counts, implant.middle, implant.spacing_mm, strict=True)
    ]
    values, share = blended(implant, chest, place, blend, offsets)
    z, y, x = (float(middle - index[0]) for middle, index in zip(implant.middle, counts, strict=True))
    return Scene(values, share > _HALF, implant.spacing_mm, (z, y, x))


def silent(chest: Chest, place: Triple, other: Chest, from_place: Triple, blend: Blend) -> Example:
    """Return the cells around a point without a nodule, where a ball of another chest is blended in as nodules are."""
    background = cube(chest.values, chest.spacing_mm, place).values
    own = np.minimum(cube(other.values, other.spacing_mm, from_place).values, chest.highest_hu)
    alpha = np.clip((blend.reach_mm + blend.fade_mm - distance_mm(CELL_MM)) / blend.fade_mm, 0, 1)
    return Example(np.asarray(background + alpha * (own - background), np.float32), np.zeros_like(background), CELL_MM)


def phantom(chest: Chest, place: Triple, radii_mm: Triple, density_hu: float, *, off_mm: Triple) -> Example:
    """Return the cells around a point in a chest, `off_mm` from the middle of an ellipsoid of one density."""
    background = cube(chest.values, chest.spacing_mm, place).values
    z, y, x = ((offsets_mm(CELL_MM) + off) / radius for off, radius in zip(off_mm, radii_mm, strict=True))
    radius = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    share = np.clip((1 - radius) * min(radii_mm) / CELL_MM + _HALF, 0, 1)
    values = background + share * (density_hu - background)
    return Example(np.asarray(values, np.float32), np.asarray(share, np.float32), CELL_MM)


def varied(example: Example, random: np.random.Generator) -> Example:
    """Return an example mirrored and turned at random, with noise, blur and an offset of the scanner's scale."""
    order = (0, 2, 1) if random.random() < _HALF else (0, 1, 2)
    flips = tuple(slice(None, None, -1 if random.random() < _HALF else 1) for _ in range(3))
    values, target = (np.transpose(array, order)[flips] for array in (example.values, example.target))
    if random.random() < 0.3:  # noqa: PLR2004 - smooth kernels are a minority
        values = gaussian_filter(values, random.uniform(0.3, 0.8))
    noise = random.standard_normal(values.shape, np.float32) * np.float32(random.uniform(0, 40))
    if random.random() < _HALF:
        noise = 2 * gaussian_filter(noise, 0.7)
    shifted = values + noise + np.float32(random.normal(0, 15))
    return Example(np.ascontiguousarray(shifted, np.float32), np.ascontiguousarray(target), example.cell_mm)
