"""What someone drew into a study, as places in the patient, and which of it is a lesion to read."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ainode.node.domain import UID, Position
from ainode.node.imaging.geometry import triple

Points: TypeAlias = NDArray[np.float64]
"""(n, 3) LPS mm"""

# SNOMED CT and its SRT twins: nodule, mass, lesion, neoplasm (primary, secondary, of the lung too), gross tumor volume.
_LESION_CODES = frozenset(
    """
    27925004 M-03010 4147007 M-03000 52988006 M-01100 108369006 M-8FFFF 86049000 M-80003 372087000 14799000 M-80006
    128462008 DF-00436 126713003 228791009
    """.split()  # noqa: SIM905 - a table
)
# Categories of what everybody has: tissue, anatomical structure, body structure, body substance (DICOM CID 7150).
_NORMAL_CODES = frozenset("85756007 T-D0050 91723000 T-D0005 123037004 T-D000A 91720002 T-D0080".split())  # noqa: SIM905
# RT ROI Interpreted Type (PS3.3 C.8.8.8.1) of what is no gross tumor volume.
_ORGAN_TYPES = frozenset(
    "ORGAN EXTERNAL AVOIDANCE SUPPORT FIXATION BOLUS CAVITY CONTRAST_AGENT MARKER ISOCENTER PTV CTV".split()  # noqa: SIM905
)
_LESION_WORDS = re.compile(r"nodul|tumou?r|lesion|neoplas|carcinom|metasta|(?<![a-z])(mass(es)?(?![a-z])|[it]?gtv)")
# `Lungs-GTV` is a lung without its tumor; target volumes and rings are drawn around one.
_AROUND = re.compile(r"\w\s*-\s*[it]?gtv|minus|without|excl|(?<![a-z])(ring|shell|i?ptv|i?ctv)(?![a-z])")
# Somebody 10 m away is a broken file.
_FARTHEST_MM = 10_000.0
_CORNERS = 3


@dataclass(frozen=True, slots=True)
class Mark:
    """One drawn item: a measurement group, a segment or a region of interest."""

    position_mm: Position
    frame_of_reference_uid: UID
    series_instance_uid: UID
    tracking_uid: UID
    texts: tuple[str, ...]
    codes: tuple[str, ...]

    @property
    def is_lesion(self) -> bool:
        """Whether its name or code says nodule, mass, tumor, lesion, neoplasm or gross tumor volume."""
        if not _LESION_CODES.isdisjoint(self.codes):
            return True
        return self._says(_LESION_WORDS) and not self._says(_AROUND)

    @property
    def is_normal(self) -> bool:
        """Whether it says to be an organ, a tissue or an aid of planning."""
        named = not (_NORMAL_CODES.isdisjoint(self.codes) and _ORGAN_TYPES.isdisjoint(self.texts))
        return named or self._says(_AROUND)

    def _says(self, words: re.Pattern[str]) -> bool:
        return any(words.search(text.lower().replace("_", " ")) for text in self.texts)


def lesions(marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """Return the marks of one object that are lesions; a lone one that nothing calls normal is meant to be one."""
    found = tuple(mark for mark in marks if mark.is_lesion)
    alone = len(marks) == 1 and not marks[0].is_normal
    return tuple(marks) if alone else found


def center(points: Points, *, closed: bool) -> tuple[Position, float] | None:
    """Return the center of a shape and its area: of the area where it is closed, else the mean of its points.

    None where a coordinate is no number, or is not in this room.
    """
    if not len(points) or not np.isfinite(points).all() or np.abs(points).max() > _FARTHEST_MM:
        return None
    if closed and len(points) >= _CORNERS:
        # A fan of triangles; those of a dent count negative along the polygon's own normal.
        edges = points[1:] - points[0]
        crossed = np.cross(edges[:-1], edges[1:])
        total = crossed.sum(axis=0)
        if area := float(np.linalg.norm(total)):
            weights = crossed @ total / area**2
            middles = (points[0] + points[1:-1] + points[2:]) / 3
            return triple(weights @ middles), area / 2
    return triple(points.mean(axis=0)), 0.0


def middle(centers: Iterable[tuple[Position, float]]) -> Position | None:
    """Return the middle of several shapes, by area where any has one; None where there is none."""
    found = list(centers)
    if not found:
        return None
    weights = np.asarray([area for _, area in found])
    return triple(np.average([place for place, _ in found], axis=0, weights=weights if weights.any() else None))


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence, [] where it is absent or empty."""
    return list(dataset.get(keyword) or ())


def first(dataset: Dataset, keyword: str) -> Dataset:
    """Return the first item of a sequence, an empty one where there is none."""
    return (items(dataset, keyword) or [Dataset()])[0]


def coded(item: Dataset) -> tuple[str, str]:
    """Return (code value, meaning) of a code item, '' where absent."""
    value = item.get("CodeValue") or item.get("LongCodeValue") or ""
    return str(value), str(item.get("CodeMeaning") or "")


def numbers(dataset: Dataset, keyword: str) -> NDArray[np.float64]:
    """Return a multi-valued number element as an array, empty where absent."""
    value = dataset.get(keyword)
    return np.asarray([] if value is None else value, np.float64).reshape(-1)
