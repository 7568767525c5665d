"""A synthetic chest CT around one nodule, as a study that points at it."""

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


def synthetic_study(seed: int) -> SyntheticStudy:
    """Return the slices of a seeded phantom, and the position of its nodule."""
    values, (z, y, x) = chest(seed)
    slice_distance_mm, row_mm, column_mm = SPACING_MM
    images = []
    for number, pixels in enumerate(values):
        header: dict[str, Value] = _HEADER | {
            "FrameOfReferenceUID": f"2.25.{seed + 1}",
            "ImagePositionPatient": (0.0, 0.0, slice_distance_mm * number),
            "PixelSpacing": (row_mm, column_mm),
            "SliceThickness": slice_distance_mm,
        }
        stored = np.clip(np.rint(pixels) + 1024, 0, 4095).astype("<u2")
        images.append(SyntheticImage(pixels.shape[0], pixels.shape[1], stored.tobytes(), header))
    return SyntheticStudy(tuple(images), ((x * column_mm, y * row_mm, z * slice_distance_mm),))
