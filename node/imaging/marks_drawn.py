"""Segments (SEG) and regions of interest (RTSTRUCT): the center of each."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import RLELossless

from ainode.node.domain import UID, Position
from ainode.node.errors import BrokenSeries
from ainode.node.imaging.geometry import triple
from ainode.node.imaging.marks import Mark, center, coded, first, items, middle, numbers
from ainode.node.imaging.pixels import MAX_PIXELS

# More than any scan has slices times segments, and any organ has contours.
_FRAMES = 20_000
_CONTOURS = 50_000
# Numbers of values (PS3.3 C.7.6.2, C.10.7.1.3).
_POSITION_VALUES, _ORIENTATION_VALUES, _SPACING_VALUES = 3, 6, 2


def segment_marks(header: Dataset, path: Path) -> list[Mark]:
    """Return one mark per segment that has voxels; of a fractional one those of at least half.

    Raises: BrokenSeries if it claims more than can be; what pydicom raises on damage is the caller's.
    Source: PS3.3 C.8.20 (BINARY, FRACTIONAL, LABELMAP), C.7.6.16.2.3 (planes).
    """
    pixels = int(header.Rows) * int(header.Columns)
    if not 0 < pixels <= MAX_PIXELS or not 0 < int(header.NumberOfFrames) <= _FRAMES:
        raise BrokenSeries("more pixels than can be")
    if (syntax := header.file_meta.TransferSyntaxUID).is_encapsulated and syntax != RLELossless:
        raise BrokenSeries("compressed otherwise than by RLE")
    totals: dict[int, NDArray[np.float64]] = {}
    for frame, values in enumerate(_frames(header, path)):
        for number, mask in _masks(header, frame, values):
            totals[number] = totals.get(number, np.zeros(4)) + _total(_functional_groups(header, frame), mask)
    described = {int(one.SegmentNumber): one for one in items(header, "SegmentSequence")}
    series = {str(one.SeriesInstanceUID) for one in items(header, "ReferencedSeriesSequence")}
    return [
        _segment(described.get(number, Dataset()), triple(total[:3] / total[3]), header, series)
        for number, total in sorted(totals.items())
        if total[3]
    ]


def _frames(header: Dataset, path: Path) -> Iterator[NDArray[np.uint8]]:
    # Given a path, pydicom reads one frame after the other; it cannot do that through deflate.
    syntax = header.file_meta.TransferSyntaxUID
    source = dcmread(path) if syntax.is_deflated else path
    # The faster decoder of RLE answers damage with a panic of Rust, which no `except Exception` stops.
    return iter_pixels(source, decoding_plugin="pydicom" if syntax == RLELossless else "")


def _functional_groups(header: Dataset, frame: int) -> tuple[Dataset, Dataset]:
    return items(header, "PerFrameFunctionalGroupsSequence")[frame], first(header, "SharedFunctionalGroupsSequence")


def _of(groups: tuple[Dataset, Dataset], macro: str, keyword: str) -> NDArray[np.float64]:
    """Return numbers of a functional group, of the frame or shared."""
    of_frame, shared = (numbers(first(group, macro), keyword) for group in groups)
    return of_frame if of_frame.size else shared


def _masks(header: Dataset, frame: int, values: NDArray[np.uint8]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield segment number and mask of what one frame shows."""
    if header.SegmentationType == "LABELMAP":
        yield from ((int(number), values == number) for number in np.unique(values) if number)
        return
    number = _of(_functional_groups(header, frame), "SegmentIdentificationSequence", "ReferencedSegmentNumber")
    most = int(header.get("MaximumFractionalValue") or 1) if header.SegmentationType == "FRACTIONAL" else 1
    yield int(number[0]), values.astype(np.uint16) * 2 >= most


def _total(groups: tuple[Dataset, Dataset], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the sum of x, y, z over the pixels of a mask, and their number; zeros where it has no place."""
    rows, columns = np.nonzero(mask)
    position = _of(groups, "PlanePositionSequence", "ImagePositionPatient")
    orientation = _of(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = _of(groups, "PixelMeasuresSequence", "PixelSpacing")
    sizes = (position.size, orientation.size, spacing.size)
    if not rows.size or sizes != (_THREE, _SIX, _TWO):
        return np.zeros(4)
    right, down = orientation.reshape(2, 3)
    place = position + columns.mean() * spacing[1] * right + rows.mean() * spacing[0] * down
    return np.asarray((*(place * rows.size), rows.size)) if np.isfinite(place).all() else np.zeros(4)


def _segment(described: Dataset, position_mm: Position, header: Dataset, series: set[str]) -> Mark:
    said = [
        coded(one)
        for keyword in ("SegmentedPropertyTypeCodeSequence", "SegmentedPropertyCategoryCodeSequence")
        for one in items(described, keyword)
    ]
    names = [str(described.get(keyword) or "") for keyword in ("SegmentLabel", "SegmentDescription", "TrackingID")]
    return Mark(
        position_mm=position_mm,
        frame_of_reference_uid=UID(str(header.get("FrameOfReferenceUID") or "")),
        series_instance_uid=UID(next(iter(series)) if len(series) == 1 else ""),
        tracking_uid=UID(str(described.get("TrackingUID") or "")),
        texts=tuple(filter(None, (*names, *(meaning for _, meaning in said)))),
        codes=tuple(filter(None, (code for code, _ in said))),
    )


def roi_marks(structures: Dataset) -> list[Mark]:
    """Return one mark per region of interest that has closed planar contours, or points.

    Source: PS3.3 C.8.8.5 (Structure Set), C.8.8.6 (ROI Contour), C.8.8.8 (RT ROI Observations).
    """
    contours = {int(one.ReferencedROINumber): one for one in items(structures, "ROIContourSequence")}
    observed = {int(one.ReferencedROINumber): one for one in items(structures, "RTROIObservationsSequence")}
    series = {
        str(one.SeriesInstanceUID)
        for frame in items(structures, "ReferencedFrameOfReferenceSequence")
        for study in items(frame, "RTReferencedStudySequence")
        for one in items(study, "RTReferencedSeriesSequence")
    }
    found = []
    for region in items(structures, "StructureSetROISequence"):
        number = int(region.ROINumber)
        position = middle(_shapes(contours.get(number, Dataset())))
        if position:
            found.append(_region(region, observed.get(number, Dataset()), position, series))
    return found


def _shapes(contours: Dataset) -> Iterator[tuple[Position, float]]:
    for contour in items(contours, "ContourSequence")[:_CONTOURS]:
        data = numbers(contour, "ContourData")
        if data.size and not data.size % _THREE:
            closed = str(contour.get("ContourGeometricType")).startswith("CLOSED")
            shape = center(data.reshape(-1, _THREE), closed=closed)
            if shape:
                yield shape


def _region(region: Dataset, observed: Dataset, position_mm: Position, series: set[str]) -> Mark:
    said = [coded(one) for one in items(observed, "RTROIIdentificationCodeSequence")]
    names = (
        region.get("ROIName"),
        region.get("ROIDescription"),
        observed.get("ROIObservationLabel"),
        observed.get("RTROIInterpretedType"),
    )
    return Mark(
        position_mm=position_mm,
        frame_of_reference_uid=UID(str(region.get("ReferencedFrameOfReferenceUID") or "")),
        series_instance_uid=UID(next(iter(series)) if len(series) == 1 else ""),
        tracking_uid=UID(str(region.get("TrackingUID") or "")),
        texts=tuple(str(name) for name in names if name) + tuple(meaning for _, meaning in said if meaning),
        codes=tuple(code for code, _ in said if code),
    )
