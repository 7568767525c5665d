"""A synthetic chest CT around one nodule, as a study that points at it, and as two earlier dates of the patient."""

import dataclasses

import numpy as np

from ainode.models.lung_nodule.demonstration import SPACING_MM, chest
from ainode.node.domain import SyntheticImage, SyntheticStudy, Value

_HEADER: dict[str, Value] = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "Modality": "CT",
    "BodyPartExamined": "CHEST",
    "SeriesDescription": "Synthetic chest, one nodule",
    "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"),
    "ConvolutionKernel": "LUNG",
    "KVP": 120.0,
    "ImageOrientationPatient": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "RescaleIntercept": -1024.0,
    "RescaleSlope": 1.0,
    "RescaleType": "HU",
}
# The part of its diameter that the nodule had; the current study is of 2026-01-01, as all synthetic studies are.
_EARLIER = {"20241231": 0.75, "20250702": 0.87}


def synthetic_study(seed: int) -> SyntheticStudy:
    """Return the slices of a seeded phantom and the position of its nodule, now and at two earlier dates."""
    priors = [_study(seed, grown=grown, StudyDate=date) for date, grown in _EARLIER.items()]
    return dataclasses.replace(_study(seed), priors=tuple(priors))


def _study(seed: int, *, grown: float = 1.0, **own: Value) -> SyntheticStudy:
    values, (z, y, x) = chest(seed, grown=grown)
    slice_distance_mm, row_mm, column_mm = SPACING_MM
    images = []
    for number, pixels in enumerate(values):
        header: dict[str, Value] = _HEADER | {
            "FrameOfReferenceUID": f"2.25.{own.get('StudyDate', '')}{seed + 1}",
            "ImagePositionPatient": (0.0, 0.0, slice_distance_mm * number),
            "PixelSpacing": (row_mm, column_mm),
            "SliceThickness": slice_distance_mm,
            **own,
        }
        stored = np.clip(np.rint(pixels) + 1024, 0, 4095).astype("<u2")
        images.append(SyntheticImage(pixels.shape[0], pixels.shape[1], stored.tobytes(), header))
    return SyntheticStudy(tuple(images), ((x * column_mm, y * row_mm, z * slice_distance_mm),))
