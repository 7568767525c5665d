"""The numbers of an outlined nodule by which its malignancy is judged: size, form, density, edge, surroundings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ainode.models.following.extents import Mask
from ainode.models.nodule_outline.cells import Array

_LOWEST_HU, _HIGHEST_HU = -1000.0, 600.0
_RIM_MM, _NEAR_MM, _FAR_MM = 1.5, 2.1, 5.0
_REACH_MM = 8.0
# Parts of the nodule by density: calcium; soft tissue, as the solid part of a nodule is measured; air.
_CALCIUM_HU, SOLID_HU, _AIR_HU = 200.0, -300.0, -600.0
_USUAL_LUNG_HU = -850.0
# The axis of an ellipsoid is this many standard deviations of its points long.
_AXIS_OF_SPREAD = 2 * np.sqrt(5.0)

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Body:
    """A nodule's cells, with the distance of each cell to the outline in mm."""

    values: Values
    mask: Mask
    depth_mm: Values
    height_mm: Values
    """distance outside of the outline"""
    cell_mm: float

    @classmethod
    def of(cls, values: Array, mask: Mask, cell_mm: float) -> _Body:
        """Return the body with as much around it as the traits reach."""
        around = _around(mask, int(np.ceil(_REACH_MM / cell_mm)))
        values, mask = values[around], mask[around]
        depth, height = (
            np.asarray(ndimage.distance_transform_edt(part, sampling=cell_mm), np.float64) for part in (mask, ~mask)
        )
        return cls(np.clip(values.astype(np.float64), _LOWEST_HU, _HIGHEST_HU), mask, depth, height, cell_mm)

    def shell(self, low_mm: float, high_mm: float) -> Values:
        """Return the values between two distances outside of the outline; usual lung where there is none."""
        values = self.values[(self.height_mm > low_mm) & (self.height_mm <= high_mm)]
        return values if len(values) else np.array([_USUAL_LUNG_HU])


def traits(values: Array, mask: Mask, cell_mm: float) -> Mapping[str, float]:
    """Return the traits of a nodule by name; sizes as logarithms of mm, mm2, mm3.

    Shapes: values and mask (Z, Y, X), of cubic cells. Units: Hounsfield units.
    """
    body = _Body.of(values, mask, cell_mm)
    return {**_form(body), **_density(body), **_edge(body)}


def solid_share(values: Array, mask: Mask, cell_mm: float) -> float:
    """Return the part of a nodule that is as dense as soft tissue, without the rim that the scanner blurs."""
    body = _Body.of(values, mask, cell_mm)
    inner = body.values[body.depth_mm > min(_RIM_MM, body.depth_mm.max() / 2)]
    return float((inner > SOLID_HU).mean())


def _around(mask: Mask, margin: int) -> tuple[slice, ...]:
    """Return the window of a mask with a margin of cells."""
    places = np.argwhere(mask)
    low, high = places.min(axis=0) - margin, places.max(axis=0) + margin + 1
    return tuple(slice(max(0, int(first)), int(last)) for first, last in zip(low, high, strict=True))


def _form(body: _Body) -> Mapping[str, float]:
    """Return size, elongation and roundness."""
    cell = body.cell_mm
    volume = float(body.mask.sum()) * cell**3
    spread = np.linalg.eigvalsh(np.cov(np.argwhere(body.mask).T * cell)) if body.mask.sum() > 3 else np.ones(3)  # noqa: PLR2004
    short, middle, long = np.sqrt(np.maximum(spread, cell**2 / 12)) * _AXIS_OF_SPREAD
    # The faces of cells overestimate the surface of a ball by a half.
    faces = sum(int(np.abs(np.diff(body.mask.astype(int), axis=axis)).sum()) for axis in range(3))
    surface = max(faces, 1) * cell**2 / 1.5
    deepest = float(body.depth_mm.max())
    return {
        "volume": float(np.log(volume)),
        "area": float(np.log(max(layer.sum() for layer in body.mask) * cell**2)),
        "long axis": float(np.log(long)),
        "middle axis": float(np.log(middle)),
        "short axis": float(np.log(short)),
        "elongation": float(short / long),
        "sphericity": float(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface),
        "depth": float(np.log(deepest)),
        "compactness": deepest**3 / volume,
    }


def _density(body: _Body) -> Mapping[str, float]:
    """Return the densities of the nodule in HU, and the parts of it that are calcium, solid, air."""
    inside, core = body.values[body.mask], body.values[body.depth_mm >= body.depth_mm.max() / 2]
    levels = {f"percentile {part}": float(np.percentile(inside, part)) for part in (5, 25, 50, 75, 95)}
    return {
        "mean": float(inside.mean()),
        "spread": float(inside.std()),
        **levels,
        "highest": float(inside.max()),
        "core": float(core.mean()),
        "core spread": float(core.std()),
        "calcium": float((inside > _CALCIUM_HU).mean()),
        "solid": float((inside > SOLID_HU).mean()),
        "air": float((inside < _AIR_HU).mean()),
    }


def _edge(body: _Body) -> Mapping[str, float]:
    """Return how sharp the edge is, and how dense the surroundings are."""
    near, far = body.shell(0, _NEAR_MM), body.shell(_NEAR_MM, _FAR_MM)
    slope = ndimage.gaussian_gradient_magnitude(body.values, 1.0) / body.cell_mm
    rim = (body.depth_mm < _RIM_MM) & (body.height_mm < _RIM_MM)
    return {
        "edge": float(slope[rim].mean()),
        "inner slope": float(slope[body.mask].mean()),
        "texture": float(ndimage.gaussian_laplace(body.values, 1.4)[body.mask].std()),
        "near": float(near.mean()),
        "near spread": float(near.std()),
        "near percentile 90": float(np.percentile(near, 90)),
        "far": float(np.median(far)),
        "far percentile 90": float(np.percentile(far, 90)),
    }
