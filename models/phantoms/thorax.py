"""Synthetic chest CT with known disease.

`anatomy_seed` is the patient. `scan_seed` is the day: the patient's pose and the noise. Two scans of one patient differ
in pose, noise and the caller's nodules; geometry is in mm, so every spacing shows the same patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from ainode.models.phantoms.thorax_anatomy import Build, paint_chest
from ainode.models.phantoms.thorax_field import Canvas, Field, Point, Pose
from ainode.models.phantoms.thorax_lesions import Nodule, nodule_position, paint_consolidations, paint_nodule

__all__ = ["Field", "Nodule", "Thorax", "nodule_position", "thorax"]

_HALF = 0.5
_LOWEST, _HIGHEST = -1024, 3071


@dataclass(frozen=True, slots=True)
class Thorax:
    """A synthetic chest CT and the truth about its disease.

    Shapes: values (Z, Y, X) float32; lungs and consolidations the same, bool; axes run to the head, the back, the left.
    Units: Hounsfield units; mm; nodule centers (z, y, x) in continuous voxels (0 is the center of the first).
    """

    values: NDArray[np.float32] = field(repr=False)
    spacing_mm: tuple[float, float, float]
    lungs: NDArray[np.bool_] = field(repr=False)
    consolidations: NDArray[np.bool_] = field(repr=False)
    nodule_centers: tuple[Point, ...] = ()


def thorax(
    anatomy_seed: int,
    scan_seed: int,
    *,
    scanned: Field | None = None,
    consolidations: int = 0,
    nodules: Sequence[Nodule] = (),
) -> Thorax:
    """Return one scan of one patient.

    A `scanned` field around a nodule alone costs a small part of the whole chest.
    """
    scanned = scanned or Field()
    build = Build.of_patient(anatomy_seed)
    # The streams of the anatomy begin with the patient's seed; this stream begins with the scan's seed.
    random = np.random.default_rng((scan_seed, anatomy_seed, 9))
    canvas = Canvas(scanned, Pose.of_day(random))
    share = paint_chest(canvas, build)
    filled = paint_consolidations(canvas, build, share, consolidations)
    for number, nodule in enumerate(nodules):
        paint_nodule(canvas, build, nodule, number)
    _blur_and_add_noise(canvas, random)
    return Thorax(
        values=np.clip(canvas.values, _LOWEST, _HIGHEST),
        spacing_mm=scanned.spacing_mm,
        lungs=share > _HALF,
        consolidations=filled > _HALF,
        nodule_centers=tuple(canvas.voxel(nodule.center_mm(build)) for nodule in nodules),
    )


def _blur_and_add_noise(canvas: Canvas, random: np.random.Generator) -> None:
    """Add quantum noise and blur by the kernel: the noise is correlated within a slice, as after back projection."""
    kernel_mm, deviation = random.uniform(0.3, 0.8), random.uniform(12, 35)
    noise = random.standard_normal(canvas.values.shape, dtype=np.float32)
    # A finer voxel gets less dose, so more noise; `deviation` is that of a voxel of 3 mm cubed.
    noise *= np.float32(deviation * np.clip((27 / canvas.spacing.prod()) ** 0.25, 0.7, 2.0))
    canvas.values += noise
    for axis in (1, 2):
        sigma = kernel_mm / canvas.spacing[axis]
        if sigma > 0.3:  # noqa: PLR2004  # below this the kernel is a delta
            gaussian_filter1d(canvas.values, sigma, axis=axis, output=canvas.values, mode="nearest", truncate=3)
