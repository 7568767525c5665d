"""Marks of segmentations and RT structure sets: the center of each segment and of each region of interest."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import RLELossless

from ainode.node.domain import UID, Position, is_position
from ainode.node.errors import BrokenSeries
from ainode.node.imaging.decoding import MAX_PIXELS
from ainode.node.imaging.extents import Layer, extent_of, layer_of, mask_layer
from ainode.node.imaging.geometry import triple
from ainode.node.imaging.marks import (
    Mark,
    Points,
    center_and_area,
    code_and_meaning,
    first_item,
    items,
    joint_center,
    numbers,
)

# No scan has so many slices times segments, and no organ has so many contours.
_MAX_FRAMES = 20_000
_MAX_CONTOURS = 50_000
# Numbers of values (PS3.3 C.7.6.2, C.10.7.1.3).
_POSITION_VALUES, _ORIENTATION_VALUES, _SPACING_VALUES = 3, 6, 2


def segment_marks(header: Dataset, path: Path) -> list[Mark]:
    """Return a mark for each segment that has voxels; a voxel of a fractional segment counts from half on.

    Raises: BrokenSeries if the pixels are too many or compressed otherwise than by RLE; what pydicom raises on a
    broken file is passed on.
    Source: PS3.3 C.8.20 (BINARY, FRACTIONAL, LABELMAP), C.7.6.16.2.3 (planes).
    """
    pixels = int(header.Rows) * int(header.Columns)
    if not 0 < pixels <= MAX_PIXELS or not 0 < int(header.NumberOfFrames) <= _MAX_FRAMES:
        raise BrokenSeries(f"the segmentation has no pixels, more than {MAX_PIXELS} or over {_MAX_FRAMES} frames")
    if (syntax := header.file_meta.TransferSyntaxUID).is_encapsulated and syntax != RLELossless:
        raise BrokenSeries(f"the segmentation is compressed as {syntax}; uncompressed and RLE are read")
    sums: dict[int, NDArray[np.float64]] = {}
    layers: dict[int, list[Layer]] = {}
    for frame, values in enumerate(_frames(header, path)):
        for number, mask in _masks(header, frame, values):
            groups = _functional_groups(header, frame)
            position_sum = _position_sum(groups, mask)
            sums[number] = sums.get(number, np.zeros(4)) + position_sum
            if position_sum[3] and np.isfinite(position_sum).all():
                layers.setdefault(number, []).append(_mask_layer(groups, mask))
    thickness = _group_numbers(_functional_groups(header, 0), "PixelMeasuresSequence", "SliceThickness")
    descriptions = {int(segment.SegmentNumber): segment for segment in items(header, "SegmentSequence")}
    series_uids = {str(series.SeriesInstanceUID) for series in items(header, "ReferencedSeriesSequence")}
    return [
        replace(
            _segment_mark(descriptions.get(number, Dataset()), triple(total[:3] / total[3]), header, series_uids),
            extent=extent_of(layers.get(number, ()), float(thickness[0]) if thickness.size == 1 else None),
        )
        for number, total in sorted(sums.items())
        if total[3]
    ]


def _frames(header: Dataset, path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the values of each frame, decoded frame by frame."""
    # pydicom 3.0 decodes frame by frame only from a path, and not through deflate.
    syntax = header.file_meta.TransferSyntaxUID
    source = dcmread(path) if syntax.is_deflated else path
    # On a damaged file the faster RLE decoder panics in Rust, and no `except Exception` stops the panic.
    return iter_pixels(source, decoding_plugin="pydicom" if syntax == RLELossless else "")


def _functional_groups(header: Dataset, frame: int) -> tuple[Dataset, Dataset]:
    """Return the functional groups of a frame and those that all frames share."""
    frame_groups = items(header, "PerFrameFunctionalGroupsSequence")[frame]
    return frame_groups, first_item(header, "SharedFunctionalGroupsSequence")


def _group_numbers(groups: tuple[Dataset, Dataset], macro: str, keyword: str) -> NDArray[np.float64]:
    """Return the numbers of an element in a macro: those of the frame, else those that all frames share."""
    frame_numbers, shared_numbers = (numbers(first_item(group, macro), keyword) for group in groups)
    return frame_numbers if frame_numbers.size else shared_numbers


def _masks(header: Dataset, frame: int, values: NDArray[np.uint8]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield the number and the mask of each segment that a frame shows."""
    if header.SegmentationType == "LABELMAP":
        yield from ((int(number), values == number) for number in np.unique(values) if number)
        return
    groups = _functional_groups(header, frame)
    number = _group_numbers(groups, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
    full_value = int(header.get("MaximumFractionalValue") or 1) if header.SegmentationType == "FRACTIONAL" else 1
    yield int(number[0]), values.astype(np.uint16) * 2 >= full_value


def _position_sum(groups: tuple[Dataset, Dataset], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the sums of x, y and z over the pixels of a mask, and the number of pixels.

    All four are 0 if the mask is empty or the functional groups lack an element, NaN if the center is no position.
    """
    rows, columns = np.nonzero(mask)
    position = _group_numbers(groups, "PlanePositionSequence", "ImagePositionPatient")
    orientation = _group_numbers(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = _group_numbers(groups, "PixelMeasuresSequence", "PixelSpacing")
    sizes = (position.size, orientation.size, spacing.size)
    if not rows.size or sizes != (_POSITION_VALUES, _ORIENTATION_VALUES, _SPACING_VALUES):
        return np.zeros(4)
    row_axis, column_axis = orientation.reshape(2, 3)
    center = position + columns.mean() * spacing[1] * row_axis + rows.mean() * spacing[0] * column_axis
    return np.asarray((*(center * rows.size), rows.size)) if is_position(center) else np.full(4, np.nan)


def _mask_layer(groups: tuple[Dataset, Dataset], mask: NDArray[np.bool_]) -> Layer:
    """Return the layer of a mask in a frame whose functional groups have its place."""
    origin = _group_numbers(groups, "PlanePositionSequence", "ImagePositionPatient")
    row_axis, column_axis = _group_numbers(groups, "PlaneOrientationSequence", "ImageOrientationPatient").reshape(2, 3)
    row_mm, column_mm = _group_numbers(groups, "PixelMeasuresSequence", "PixelSpacing")
    return mask_layer(mask, origin, row_mm * column_axis, column_mm * row_axis)


def _segment_mark(description: Dataset, position_mm: Position, header: Dataset, series_uids: set[str]) -> Mark:
    """Return the mark of a segment; `description` is the segment's item in Segment Sequence."""
    codes = [
        code_and_meaning(code)
        for keyword in ("SegmentedPropertyTypeCodeSequence", "SegmentedPropertyCategoryCodeSequence")
        for code in items(description, keyword)
    ]
    names = [str(description.get(keyword) or "") for keyword in ("SegmentLabel", "SegmentDescription", "TrackingID")]
    return Mark(
        position_mm=position_mm,
        frame_of_reference_uid=UID(str(header.get("FrameOfReferenceUID") or "")),
        series_instance_uid=_single_uid(series_uids),
        tracking_uid=UID(str(description.get("TrackingUID") or "")),
        texts=tuple(filter(None, (*names, *(meaning for _, meaning in codes)))),
        codes=tuple(filter(None, (value for value, _ in codes))),
    )


def _single_uid(uids: set[str]) -> UID:
    """Return the UID of a set with a single UID, '' for any other set."""
    return UID(next(iter(uids)) if len(uids) == 1 else "")


def roi_marks(structures: Dataset) -> list[Mark]:
    """Return a mark for each region of interest that has contours or points.

    Source: PS3.3 C.8.8.5 (Structure Set), C.8.8.6 (ROI Contour), C.8.8.8 (RT ROI Observations).
    """
    contours = {int(item.ReferencedROINumber): item for item in items(structures, "ROIContourSequence")}
    observations = {int(item.ReferencedROINumber): item for item in items(structures, "RTROIObservationsSequence")}
    series_uids = {
        str(series.SeriesInstanceUID)
        for frame_of_reference in items(structures, "ReferencedFrameOfReferenceSequence")
        for study in items(frame_of_reference, "RTReferencedStudySequence")
        for series in items(study, "RTReferencedSeriesSequence")
    }
    marks = []
    for region in items(structures, "StructureSetROISequence"):
        number = int(region.ROINumber)
        shapes = list(_contours(contours.get(number, Dataset())))
        position = joint_center(center for center, _ in shapes)
        if position:
            mark = _roi_mark(region, observations.get(number, Dataset()), position, series_uids)
            layers = [layer_of(points, area) for (_, area), points in shapes if area]
            marks.append(replace(mark, extent=extent_of(layers)))
    return marks


def _contours(roi_contour: Dataset) -> Iterator[tuple[tuple[Position, float], Points]]:
    """Yield center and area, and the points, of each contour of a region of interest; broken points are left out."""
    for contour in items(roi_contour, "ContourSequence")[:_MAX_CONTOURS]:
        data = numbers(contour, "ContourData")
        if data.size and not data.size % _POSITION_VALUES:
            closed = str(contour.get("ContourGeometricType")).startswith("CLOSED")
            points = data.reshape(-1, _POSITION_VALUES)
            shape = center_and_area(points, closed=closed)
            if shape:
                yield shape, points


def _roi_mark(region: Dataset, observation: Dataset, position_mm: Position, series_uids: set[str]) -> Mark:
    """Return the mark of a region of interest from its items in Structure Set ROI and RT ROI Observations Sequence."""
    codes = [code_and_meaning(code) for code in items(observation, "RTROIIdentificationCodeSequence")]
    names = (
        region.get("ROIName"),
        region.get("ROIDescription"),
        observation.get("ROIObservationLabel"),
        observation.get("RTROIInterpretedType"),
    )
    return Mark(
        position_mm=position_mm,
        frame_of_reference_uid=UID(str(region.get("ReferencedFrameOfReferenceUID") or "")),
        series_instance_uid=_single_uid(series_uids),
        tracking_uid=UID(str(region.get("TrackingUID") or "")),
        texts=tuple(str(name) for name in names if name) + tuple(meaning for _, meaning in codes if meaning),
        codes=tuple(value for value, _ in codes if value),
    )
