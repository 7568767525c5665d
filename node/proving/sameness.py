"""Whether two answers are the same: findings, numbers, places, refusal. Words and pictures are not compared. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

import numpy as np

from ainode.node.domain import Finding, Outline, OutOfScope, Point, Region, Result, Segmented, Verdict

Move = Callable[[float, float], Point]
"""takes a place of the changed image to the place of the same tissue in the image as it was; (column, row)"""


def unmoved(column: float, row: float) -> Point:
    """Return the place as it is: the pixels of the image stayed where they were."""
    return column, row


@dataclass(frozen=True, slots=True)
class Tolerance:
    """By how much the answer on the same study may differ.

    A number may move by `absolute`, or by the part `relative` of itself where that is more; a place by `place_mm` in
    the patient and by `pixels` on an image; of two outlines on images the Dice overlap is `dice` at least.
    """

    absolute: float = 1e-6
    relative: float = 1e-6
    place_mm: float = 1e-3
    pixels: float = 1e-3
    dice: float = 1.0

    def allows(self, value: float, other: float) -> bool:
        """Return whether two numbers are the same."""
        return abs(value - other) <= max(self.absolute, self.relative * max(abs(value), abs(other)))


EXACT: Final = Tolerance()


def differences(
    first: Result | OutOfScope, second: Result | OutOfScope, tolerance: Tolerance = EXACT, move: Move = unmoved
) -> tuple[str, ...]:
    """Return where the second answer differs from the first, in words; of the second, places are moved back first."""
    if isinstance(first, OutOfScope) or isinstance(second, OutOfScope):
        names = [f"refused ({answer.code})" if isinstance(answer, OutOfScope) else "read" for answer in (first, second)]
        return () if names[0] == names[1] else (f"the study was {names[0]}, and is {names[1]}",)
    return (
        *(f"score {words}" for words in _different_numbers(first.scores, second.scores, tolerance)),
        *_different_findings(first.findings, second.findings, tolerance, move),
        *_different_segments(first.segmented, second.segmented, tolerance, move),
    )


def _different_numbers(first: Mapping[str, float], second: Mapping[str, float], tolerance: Tolerance) -> Iterator[str]:
    for name in dict.fromkeys((*first, *second)):
        values = first.get(name), second.get(name)
        if values[0] is None or values[1] is None or not tolerance.allows(values[0], values[1]):
            yield f"{name} was {_number(values[0])}, and is {_number(values[1])}"


def _number(value: float | None) -> str:
    return "absent" if value is None else f"{value:.9g}"


def _different_findings(
    first: Sequence[Finding], second: Sequence[Finding], tolerance: Tolerance, move: Move
) -> Iterator[str]:
    if len(first) != len(second):
        yield f"the answer had {len(first)} findings, and has {len(second)}"
        return
    for finding, other in zip(first, second, strict=True):
        name = finding.tracking_identifier
        for fact, value, other_value in zip_longest(_NAMES, _facts(finding), _facts(other)):
            if value != other_value:
                yield f"{name}: {fact} was {value}, and is {other_value}"
        measurements = _different_numbers(_numbers(finding), _numbers(other), tolerance)
        yield from (f"{name}: {words}" for words in measurements)
        yield from (f"{name}: {words}" for words in _different_places(finding, other, tolerance, move))


_NAMES: Final = ("name", "concept", "site", "side", "presence", "qualities", "whether it is a candidate", "images")


def _facts(finding: Finding) -> tuple[object, ...]:
    return (
        finding.tracking_identifier,
        finding.concept.value,
        finding.site.value,
        finding.laterality and finding.laterality.value,
        finding.presence,
        tuple((concept.value, value.value) for concept, value in finding.qualities),
        finding.is_candidate,
        sorted(ref.sop_instance_uid for ref in finding.evidence),
    )


def _numbers(finding: Finding) -> Mapping[str, float]:
    """Return every number of a finding by its name; a percentage as a part of 1, so that one tolerance fits."""
    numbers = dict(_verdict_numbers(finding.verdict))
    for count, item in enumerate(finding.measurements, start=1):
        is_percentage = item.unit.value == "%"
        numbers[f"{item.concept.meaning} ({item.unit.value}, number {count})"] = (
            item.value / 100 if is_percentage else item.value
        )
    return numbers


def _verdict_numbers(verdict: Verdict | None) -> Iterator[tuple[str, float]]:
    if verdict:
        yield "probability", verdict.probability
        yield "threshold", verdict.threshold


def _different_places(finding: Finding, other: Finding, tolerance: Tolerance, move: Move) -> Iterator[str]:
    if (finding.region is None) != (other.region is None) or (finding.outline is None) != (other.outline is None):
        yield "one answer has a place, the other has none"
        return
    if finding.region and other.region:
        yield from _different_regions(finding.region, other.region, tolerance, move)
    if finding.outline and other.outline:
        extent, other_extent = map(_extent_of_outline, (finding.outline, other.outline))
        distance = float(np.abs(extent - other_extent).max())
        if distance > tolerance.place_mm:
            yield f"its outline reaches {distance:.3g} mm elsewhere"


def _different_regions(region: Region, other: Region, tolerance: Tolerance, move: Move) -> Iterator[str]:
    if region.image.sop_instance_uid != other.image.sop_instance_uid:
        yield "its place is on another image"
        return
    if region.frame != other.frame:
        yield "its place is on another frame"
        return
    moved = (move(*point) for point in other.points)
    distance = float(np.abs(_extent(region.points) - _extent(moved)).max())
    if distance > tolerance.pixels:
        yield f"its place is {distance:.3g} pixels elsewhere"


def _extent_of_outline(outline: Outline) -> np.ndarray:
    return _extent(point for contour in outline.contours for point in contour)


def _extent(points: Iterable[Sequence[float]]) -> np.ndarray:
    """Return the least and the greatest coordinates of points; corners of a turned box come in another order."""
    coordinates = np.asarray([*points], np.float64)
    return np.stack([coordinates.min(axis=0), coordinates.max(axis=0)])


def _different_segments(
    first: Segmented | None, second: Segmented | None, tolerance: Tolerance, move: Move
) -> Iterator[str]:
    maps, other_maps = _labels(first), _labels(second, move)
    for label in sorted({label for _, label in (*maps, *other_maps)}):
        pixels = _of_label(maps, label)
        other_pixels = _of_label(other_maps, label)
        shared = len(pixels & other_pixels)
        dice = 2 * shared / (len(pixels) + len(other_pixels))
        if dice < tolerance.dice:
            yield f"segment {label} overlaps by a Dice of {dice:.4f} alone"


def _of_label(maps: Mapping[tuple[str, int], frozenset[Point]], label: int) -> frozenset[tuple[str, Point]]:
    return frozenset((uid, point) for (uid, other), points in maps.items() if other == label for point in points)


def _labels(segmented: Segmented | None, move: Move = unmoved) -> dict[tuple[str, int], frozenset[Point]]:
    """Return the middles of the pixels of each label on each image, moved back to the image as it was."""
    labels: dict[tuple[str, int], frozenset[Point]] = {}
    for label_map in segmented.maps if segmented else ():
        grid = np.frombuffer(label_map.labels, np.uint8).reshape(label_map.rows, label_map.columns)
        for label in np.unique(grid[grid > 0]):
            rows, columns = np.nonzero(grid == label)
            middles = (move(float(column) + 0.5, float(row) + 0.5) for row, column in zip(rows, columns, strict=True))
            labels[label_map.image.sop_instance_uid, int(label)] = frozenset(middles)
    return labels
