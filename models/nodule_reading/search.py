"""The nodules of a whole chest CT, found without anybody who points: marks of the detector, outlined and told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation

from ainode.models.following import Grid, Omission, Position
from ainode.models.lung_nodule.model import SliceReader, slice_recipe
from ainode.models.nodule_detection.model import Candidate, Detection, NoduleDetector
from ainode.models.nodule_malignancy.card import read_card
from ainode.models.nodule_malignancy.model import MalignancyModel, head_of
from ainode.models.nodule_outline.model import OutlinedNodule, OutlineModel
from ainode.models.nodule_reading.reading import NoduleReader
from ainode.models.nodule_reading.weights import DETECTION, MALIGNANCY, OUTLINE, TRAITS
from ainode.models.running.runtime import Execution, runner

_EDGE_CELLS = 2
"""a mark as near as this to an outline marks the same nodule: 1.4 mm"""


@dataclass(frozen=True, slots=True)
class MarkedNodule:
    """A nodule that the detector marked, and its outline.

    `mark.probability` says how sure the detector is of a nodule; it says nothing of malignancy.
    """

    mark: Candidate
    outline: OutlinedNodule

    @property
    def position_mm(self) -> Position:
        """Return the middle of the outline, LPS."""
        return self.outline.size.position_mm


@dataclass(frozen=True, slots=True)
class SearchedChest:
    """The answer of a search; without a nodule nothing was marked, which is no negative answer."""

    nodules: tuple[MarkedNodule, ...]
    """the surest first"""
    further: int = 0
    """marks that were left aside because as many nodules as wanted were outlined already"""
    without_outline: tuple[Omission, ...] = ()
    """why other marks are no nodules, such as a mass or a vessel; several marks may have the same reason"""


@dataclass(frozen=True, slots=True)
class NoduleSearch:
    """The loaded detector and the reader of nodules."""

    detector: NoduleDetector
    reader: NoduleReader

    @classmethod
    def load(cls, paths: Mapping[str, Path], *, execution: Execution) -> NoduleSearch:
        """Load the networks from the verified files of the names in `weights`; that of `TRAITS` may be missing.

        Raises: ModelError if a file is missing or holds another network, or a lower precision is refused.
        """
        detector = NoduleDetector.load({DETECTION.split("/")[1]: paths[DETECTION]}, execution=execution)
        outlines = OutlineModel.load(paths[OUTLINE], execution=execution)
        judge = SliceReader(runner(slice_recipe(paths[MALIGNANCY]), execution))
        return cls(detector, NoduleReader(outlines, judge, traits_model(paths, outlines)))

    def search(self, scan: Grid, most: int) -> SearchedChest | Omission:
        """Return up to `most` nodules of a chest CT, or why nodules are not searched in the scan."""
        detection = self.detector.predict(scan)
        return detection if isinstance(detection, Omission) else outlined(detection, self.reader, scan, most)


def traits_model(paths: Mapping[str, Path], outlines: OutlineModel) -> MalignancyModel | None:
    """Return what judges outlines by their traits; None without the file of its head.

    Raises: CheckpointRefused if the file holds no head.
    """
    return MalignancyModel(read_card(), outlines, head_of(paths[TRAITS])) if TRAITS in paths else None


def outlined(detection: Detection, reader: NoduleReader, scan: Grid, most: int) -> SearchedChest:
    """Return up to `most` nodules of a detection's marks, the surest first; marks in one outline are one nodule."""
    nodules: list[MarkedNodule] = []
    refusals: list[Omission] = []
    for number, mark in enumerate(detection.marks):
        if len(nodules) == most:
            further = [other for other in detection.marks[number:] if not _is_within(other.position_mm, nodules)]
            return SearchedChest(tuple(nodules), len(further), tuple(refusals))
        if _is_within(mark.position_mm, nodules):
            continue
        outline = reader.outline(scan, mark.position_mm)
        if isinstance(outline, Omission):
            refusals.append(outline)
        elif not _is_within(outline.size.position_mm, nodules):
            nodules.append(MarkedNodule(mark, outline))
    return SearchedChest(tuple(nodules), 0, tuple(refusals))


def _is_within(position_mm: Position, nodules: Sequence[MarkedNodule]) -> bool:
    """Return whether a position lies in, or at the edge of, one of the outlines."""
    return any(_encloses(nodule.outline, position_mm) for nodule in nodules)


def _encloses(outline: OutlinedNodule, position_mm: Position) -> bool:
    index = np.rint(outline.cells.indices(position_mm)).astype(int)
    if (index < 0).any() or (index >= outline.mask.shape).any():
        return False
    return bool(binary_dilation(outline.mask, iterations=_EDGE_CELLS)[tuple(index)])
