"""Where a structured report says that something is: read by pydicom alone, by the formulas of the standard."""

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset


def regions(item: Dataset) -> Iterator[tuple[np.ndarray, str]]:
    """Yield every region's points, as (column, row), and the image that it lies on."""
    if item.get("ValueType") == "SCOORD" and item.RelationshipType == "CONTAINS":
        image = item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        yield np.asarray(item.GraphicData, float).reshape(-1, 2), image
    for child in item.get("ContentSequence", ()):
        yield from regions(child)


def center_mm(points: np.ndarray, image: Dataset) -> np.ndarray:
    """Return the middle of a region in LPS mm, by the standard's formula (PS3.3 C.7.6.2.1.1)."""
    column, row = (points.min(axis=0) + points.max(axis=0)) / 2 - 0.5
    orientation, spacing = np.asarray(image.ImageOrientationPatient, float), image.PixelSpacing
    position = np.asarray(image.ImagePositionPatient, float)
    return np.asarray(position + orientation[:3] * column * spacing[1] + orientation[3:] * row * spacing[0])
