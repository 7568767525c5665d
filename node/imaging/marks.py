"""Marks: items that a person or a program drew into a study, with their positions, and which marks are lesions."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ainode.node.domain import UID, Extent, Position, is_position
from ainode.node.imaging.geometry import triple

Points: TypeAlias = NDArray[np.float64]
"""(n, 3) LPS mm"""

# SNOMED CT and SRT codes of nodule, mass, lesion, neoplasm (primary, secondary, of the lung), gross tumor volume.
_LESION_CODES = frozenset(
    """
    27925004 M-03010 4147007 M-03000 52988006 M-01100 108369006 M-8FFFF 86049000 M-80003 372087000 14799000 M-80006
    128462008 DF-00436 126713003 228791009
    """.split()  # noqa: SIM905 - a table
)
# Categories of normal anatomy: tissue, anatomical structure, body structure, body substance (PS3.16 CID 7150).
_NORMAL_CODES = frozenset("85756007 T-D0050 91723000 T-D0005 123037004 T-D000A 91720002 T-D0080".split())  # noqa: SIM905
# Values of RT ROI Interpreted Type for regions other than a gross tumor volume (PS3.3 C.8.8.8.1).
_ORGAN_TYPES = frozenset(
    "ORGAN EXTERNAL AVOIDANCE SUPPORT FIXATION BOLUS CAVITY CONTRAST_AGENT MARKER ISOCENTER PTV CTV".split()  # noqa: SIM905
)
_LESION_WORDS = re.compile(r"nodul|tumou?r|lesion|neoplas|carcinom|metasta|(?<![a-z])(mass(es)?(?![a-z])|[it]?gtv)")
# `Lungs-GTV` is a lung without its tumor; planning target volumes and rings are drawn around a tumor.
_SURROUNDING_WORDS = re.compile(r"\w\s*-\s*[it]?gtv|minus|without|excl|(?<![a-z])(ring|shell|i?ptv|i?ctv)(?![a-z])")
_NOWHERE: Position = (np.nan, np.nan, np.nan)
_MIN_CORNERS = 3


@dataclass(frozen=True, slots=True)
class Mark:
    """An item that was drawn into a study: a measurement group, a segment or a region of interest."""

    position_mm: Position
    """NaN if a coordinate of the item is no position"""
    frame_of_reference_uid: UID
    series_instance_uid: UID
    tracking_uid: UID
    texts: tuple[str, ...]
    """names, descriptions and code meanings of the item"""
    codes: tuple[str, ...]
    """code values of the item"""
    extent: Extent | None = None
    """the size of the item as drawn or measured"""

    @property
    def is_lesion(self) -> bool:
        """Whether a text or code says nodule, mass, tumor, lesion, neoplasm or gross tumor volume."""
        if not _LESION_CODES.isdisjoint(self.codes):
            return True
        return self._says(_LESION_WORDS) and not self._says(_SURROUNDING_WORDS)

    @property
    def is_normal(self) -> bool:
        """Whether a text or code says organ, tissue or structure for treatment planning."""
        is_coded_normal = not (_NORMAL_CODES.isdisjoint(self.codes) and _ORGAN_TYPES.isdisjoint(self.texts))
        return is_coded_normal or self._says(_SURROUNDING_WORDS)

    def _says(self, words: re.Pattern[str]) -> bool:
        return any(words.search(text.lower().replace("_", " ")) for text in self.texts)


def lesions(marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """Return the marks of one object that are lesions; the object's single mark is a lesion unless it is normal."""
    is_single_unnamed = len(marks) == 1 and not marks[0].is_normal
    return tuple(marks) if is_single_unnamed else tuple(mark for mark in marks if mark.is_lesion)


def center_and_area(points: Points, *, closed: bool) -> tuple[Position, float] | None:
    """Return the center of a shape, and its area in mm².

    The center of a closed shape is the centroid of its area. Of any other shape it is the mean of the points, and the
    area is 0. The answer is None for no points. The center is NaN if a point is no position: the center of the other
    points would be a guess.
    """
    if not len(points):
        return None
    if not is_position(points.flat):
        return _NOWHERE, 0.0
    if closed and len(points) >= _MIN_CORNERS:
        # The polygon is a fan of triangles; the triangles of a dent count negative along the polygon's normal.
        edges = points[1:] - points[0]
        cross_products = np.cross(edges[:-1], edges[1:])
        area_vector = cross_products.sum(axis=0)
        if double_area := float(np.linalg.norm(area_vector)):
            weights = cross_products @ area_vector / double_area**2
            centroids = (points[0] + points[1:-1] + points[2:]) / 3
            return triple(weights @ centroids), double_area / 2
    return triple(points.mean(axis=0)), 0.0


def joint_center(centers: Iterable[tuple[Position, float]]) -> Position | None:
    """Return the mean of the centers of several shapes, weighted by area if a shape has an area; None for no shape."""
    positions_and_areas = list(centers)
    if not positions_and_areas:
        return None
    positions = [position for position, _ in positions_and_areas]
    areas = np.asarray([area for _, area in positions_and_areas])
    return triple(np.average(positions, axis=0, weights=areas if areas.any() else None))


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence, [] where it is absent or empty."""
    return list(dataset.get(keyword) or ())


def first_item(dataset: Dataset, keyword: str) -> Dataset:
    """Return the first item of a sequence, an empty data set where the sequence is absent or empty."""
    return (items(dataset, keyword) or [Dataset()])[0]


def code_and_meaning(item: Dataset) -> tuple[str, str]:
    """Return Code Value (or Long Code Value) and Code Meaning of a code item, '' where absent."""
    value = item.get("CodeValue") or item.get("LongCodeValue") or ""
    return str(value), str(item.get("CodeMeaning") or "")


def numbers(dataset: Dataset, keyword: str) -> NDArray[np.float64]:
    """Return a multi-valued number element as an array, empty where absent."""
    value = dataset.get(keyword)
    return np.asarray([] if value is None else value, np.float64).reshape(-1)
