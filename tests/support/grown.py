"""A real nodule of nodule_lidc_hu in phantom chests of one patient at several dates, in which it grows."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ainode.models.nodule_outline.implant import Blend, Implant, blended
from ainode.models.nodule_outline.nodules import Chest, Nodule
from ainode.models.phantoms.thorax import Field, thorax
from ainode.models.phantoms.thorax import Nodule as Ball
from ainode.models.phantoms.thorax_anatomy import Build
from ainode.node import testing
from ainode.node.domain import Position
from support.dated import NOBODY

PATIENT, PLACE = 1, (0.05, 0.45, 0.5)
_SPACING_MM = (1.5, 1.5, 1.5)
WHOLE, SLAB = (110, 170, 240), (60, 170, 240)
_HEADER = {"BodyPartExamined": "CHEST", "ConvolutionKernel": "LUNG", "SeriesDescription": "Synthetic chest"}


@dataclass(frozen=True, slots=True)
class Grown:
    """The files of one date, and where the nodule is, LPS mm."""

    paths: tuple[Path, ...]
    position_mm: Position


def grown(  # what differs from date to date
    nodule: Nodule, volume_share: float, folder: Path, *, date: str, name: str, size: tuple[int, int, int]
) -> Grown:
    """Write a chest with the nodule at a share of its volume, implanted at the same place of the lung."""
    ball = Ball(PLACE, 0.1)
    field = Field(size, _SPACING_MM, ball.center_mm(Build.of_patient(PATIENT)) if size == SLAB else (0.0, 0.0, 0.0))
    chest = thorax(PATIENT, int(date) % 10_000, scanned=field, nodules=(ball,))
    z, y, x = nodule.spacing_mm
    factor = volume_share ** (1 / 3)
    implant = Implant.of(replace(nodule, spacing_mm=(z * factor, y * factor, x * factor)))
    values, (middle,) = chest.values.copy(), chest.nodule_centers
    first = np.rint(middle).astype(int) - 14
    axes = [(np.arange(29) + start - at) * step for start, at, step in zip(first, middle, _SPACING_MM, strict=True)]
    background = Chest(values, chest.lungs, _SPACING_MM, "phantom")
    blend = Blend(1.0, 1.5, merged=True)
    values[tuple(slice(start, start + 29) for start in first)], _ = blended(implant, background, middle, blend, axes)
    header = {**_HEADER, **NOBODY, "StudyDate": date, "StudyTime": "120000"}
    images = testing.ct(values, _SPACING_MM, frame=f"grown {date}", header=header)
    position = [(at - (n - 1) / 2) * step for at, n, step in zip(middle, values.shape, _SPACING_MM, strict=True)]
    paths = testing.write(images, folder / name, study=name)
    return Grown(tuple(paths), (position[2], position[1], position[0]))
