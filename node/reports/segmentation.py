"""The saliency, and what a model outlined, as Segmentations in the pixels of the images that were read.

The saliency is a single segment. A fractional segmentation has the saliency itself, 0 to 255. A label map marks the
pixels whose saliency is above half of 255, the threshold at which this node reads a fractional segmentation
(`marks_drawn.segment_marks`). Outlines go to each destination that asks for either, as a label map or as a binary
segmentation.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DS

from ainode.node.domain import (
    UID,
    Algorithm,
    Code,
    Document,
    DocumentContext,
    DocumentKind,
    InstanceRef,
    Result,
    Saliency,
    Segment,
    Segmented,
)
from ainode.node.identity import made_uid, run_digest
from ainode.node.reports.heat import resized_saliency
from ainode.node.reports.macros import valid_text
from ainode.node.reports.measurement_groups import coded_concept, tracking_uid
from ainode.node.reports.requests import copy_requests
from ainode.node.reports.series import series_number
from ainode.node.reports.source_header import (
    common_arguments,
    complete_document,
    copy_lossy_compression,
    encoded_document,
    header_of,
    reference_dataset,
)

_Color = tuple[int, int, int]
"""red, green and blue, 0 to 255"""
_TYPES = {
    DocumentKind.SEGMENTATION_FRACTIONAL: SegmentationTypeValues.FRACTIONAL,
    DocumentKind.SEGMENTATION_LABELMAP: SegmentationTypeValues.LABELMAP,
}
_OUTLINE_TYPES = {**_TYPES, DocumentKind.SEGMENTATION_FRACTIONAL: SegmentationTypeValues.BINARY}
_MAX_SALIENCY = 255
_ATTENTION = Segment(
    "model attention",
    Code("309825002", "SCT", "Spatial and Relational Concept"),
    Code("130404", "DCM", "Saliency"),
)
# The colors that people tell apart who are blind to some (Okabe and Ito, Color Universal Design, 2008).
_OUTLINE_COLORS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (213, 94, 0), (0, 114, 178))
_ATTENTION_COLOR = (204, 121, 167)
_PLANE_KEYWORDS = ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_SHARED_KEYWORDS = ("Rows", "Columns", "FrameOfReferenceUID")
# Slices of one scan differ by what decimal places leave; `imaging.geometry` reads such slices as one stack.
_SAME = 1e-4


@dataclass(frozen=True, slots=True)
class _Content:
    """What tells one segmentation of a result from another."""

    type: SegmentationTypeValues
    label: str
    descriptions: tuple[SegmentDescription, ...]
    pixels: NDArray[np.uint8] | NDArray[np.float32]
    slice_distance_mm: float | None = None
    """how deep a voxel is, which Slice Thickness need not say; None of images that make no volume"""


@dataclass(frozen=True, slots=True)
class _Frame:
    """The saliency of an image at each pixel of the image, or the number of the segment."""

    ref: InstanceRef
    header: Dataset
    values: NDArray[np.uint8]

    def fits(self, other: "_Frame") -> bool:
        """Return whether one segmentation can hold both frames: they are of one series and one geometry.

        Numbers are compared, not texts: archives write 1 as 1.0, and scanners compute the axes of each slice anew.
        """
        own, others = _geometry(self.header), _geometry(other.header)
        return (
            self.ref.series_instance_uid == other.ref.series_instance_uid
            and all(self.header.get(keyword) == other.header.get(keyword) for keyword in _SHARED_KEYWORDS)
            and own.shape == others.shape
            and np.allclose(own, others, rtol=_SAME, atol=_SAME)
        )


def _geometry(header: Dataset) -> NDArray[np.float64]:
    """Return the axes of an image, the size of its pixels in mm and, if it is stated, the thickness of the slice."""
    thickness = header.get("SliceThickness")
    sizes = [*header.PixelSpacing, *([] if thickness is None else [thickness])]
    return np.array([*header.ImageOrientationPatient, *sizes], np.float64)


def segmentations(
    result: Result, sources: Mapping[UID, Path], context: DocumentContext, *, kind: DocumentKind
) -> tuple[Document, ...]:
    """Return the saliency of the captures as a segmentation for each series and geometry, and the outlines as another.

    Each is in a new series.

    Images of earlier studies and multi-frame images are left out, and images without a position in the patient, such
    as radiographs: OHIF 3.13.2 turns black at such a segmentation. A label map without a marked pixel is left out too.

    Raises: ReportError if a source cannot be read; what pydicom and highdicom raise on odd values is passed on.
    Source: PS3.3 A.51 (Segmentation), A.91 (Label Map Segmentation), C.8.20.2.
    """
    groups = _groups(_frames(result, sources))
    nonempty_groups = [
        group for group in groups if kind is not DocumentKind.SEGMENTATION_LABELMAP or _labels(group).any()
    ]
    contents = [(group, _saliency_content(group, result.algorithm, kind)) for group in nonempty_groups]
    digest = run_digest(result.evidence, context, algorithm=result.algorithm)
    if result.segmented:
        lesions = {
            finding.tracking_identifier: tracking_uid(finding, digest, index)
            for index, finding in enumerate(result.findings)
        }
        contents += [
            (group, _outline_content(group, result.segmented, result.algorithm, lesions, kind))
            for group in _outlined_groups(result.segmented, sources)
        ]
    return tuple(
        _document(group, content, result, context, kind=kind, number=number)
        for number, (group, content) in enumerate(contents)
    )


def _saliency_content(frames: Sequence[_Frame], algorithm: Algorithm, kind: DocumentKind) -> _Content:
    pixels = _labels(frames) if kind is DocumentKind.SEGMENTATION_LABELMAP else _fractions(frames)
    description = _segment_description(_ATTENTION, 1, algorithm, color=_display_color(kind, _ATTENTION_COLOR))
    return _Content(_TYPES[kind], "MODEL_ATTENTION", (description,), pixels)


def _outline_content(
    frames: Sequence[_Frame],
    segmented: Segmented,
    algorithm: Algorithm,
    lesions: Mapping[str, UID],
    kind: DocumentKind,
) -> _Content:
    """Return the segments that the frames show, numbered from 1; `lesions` are tracking UIDs by identifier."""
    pixels = np.stack([frame.values for frame in frames])
    labels = [int(label) for label in np.unique(pixels) if label]
    segments = [segmented.segments[label - 1] for label in labels]
    # A segment keeps its color where another one has no pixel.
    colors = [_display_color(kind, _OUTLINE_COLORS[(label - 1) % len(_OUTLINE_COLORS)]) for label in labels]
    descriptions = tuple(
        _segment_description(segment, number, algorithm, color=color, lesion=lesions.get(segment.finding))
        for number, (segment, color) in enumerate(zip(segments, colors, strict=True), start=1)
    )
    numbers = np.where(pixels > 0, np.searchsorted(labels, pixels) + 1, 0).astype(np.uint8)
    return _Content(_OUTLINE_TYPES[kind], segmented.name, descriptions, numbers, segmented.slice_distance_mm)


def _outlined_groups(segmented: Segmented, sources: Mapping[UID, Path]) -> list[list[_Frame]]:
    """Return a frame for each placed image with a labelled pixel, those of one series and geometry together."""
    frames = []
    for label_map in segmented.maps:
        labels = np.frombuffer(label_map.labels, np.uint8).reshape(label_map.rows, label_map.columns)
        if labels.any() and _is_placed(header := header_of(label_map.image, sources)):
            frames.append(_Frame(label_map.image, header, labels))
    return _groups(frames)


def _groups(frames: Iterable[_Frame]) -> list[list[_Frame]]:
    """Return the frames by the segmentation that holds them."""
    groups: list[list[_Frame]] = []
    for frame in frames:
        group = next((group for group in groups if frame.fits(group[0])), None)
        if group is None:
            groups.append([frame])
        else:
            group.append(frame)
    return groups


def _frames(result: Result, sources: Mapping[UID, Path]) -> Iterator[_Frame]:
    """Yield a frame for each image with saliency: at each pixel the greatest saliency of the image's captures."""
    saliencies_by_image: dict[InstanceRef, list[Saliency]] = {}
    for capture in result.captures:
        if capture.saliency and capture.image.study_instance_uid == result.study_instance_uid:
            saliencies_by_image.setdefault(capture.image, []).append(capture.saliency)
    for ref, saliencies in saliencies_by_image.items():
        header = header_of(ref, sources)
        if _is_placed(header):
            size = (int(header.Columns), int(header.Rows))
            maps = [np.asarray(resized_saliency(saliency, size), np.uint8) for saliency in saliencies]
            yield _Frame(ref, header, np.maximum.reduce(maps))


def _is_placed(header: Dataset) -> bool:
    """Return whether an image is of one frame, which lies at a place in the patient."""
    is_single = int(header.get("NumberOfFrames") or 1) == 1
    return is_single and all(header.get(keyword) for keyword in _PLANE_KEYWORDS)


def _labels(frames: Sequence[_Frame]) -> NDArray[np.uint8]:
    """Return the frames with 1 where the saliency is above half of its maximum, else 0."""
    return np.stack([frame.values > _MAX_SALIENCY // 2 for frame in frames]).astype(np.uint8)


def _fractions(frames: Sequence[_Frame]) -> NDArray[np.float32]:
    """Return the frames with the saliency as fraction of its maximum."""
    return np.stack([frame.values for frame in frames]).astype(np.float32) / np.float32(_MAX_SALIENCY)


def _document(  # the frames, their content, and what every document states
    frames: Sequence[_Frame],
    content: _Content,
    result: Result,
    context: DocumentContext,
    *,
    kind: DocumentKind,
    number: int,
) -> Document:
    """Return the segmentation of frames that fit each other; `number` counts the result's segmentations."""
    first = frames[0]
    digest = run_digest(result.evidence, context, algorithm=result.algorithm)
    segmentation = Segmentation(
        source_images=[_source_image(frame, first.header) for frame in frames],
        pixel_array=content.pixels,
        segmentation_type=content.type,
        segment_descriptions=content.descriptions,
        series_instance_uid=made_uid(f"{kind} series", digest, str(number)),
        series_number=series_number(kind, digest, context, number),
        sop_instance_uid=made_uid(kind, digest, str(number)),
        instance_number=1,
        max_fractional_value=_MAX_SALIENCY,
        # An image whose saliency marks no pixel has a frame too.
        omit_empty_frames=content.type is SegmentationTypeValues.BINARY,
        content_label=content.label,
        **common_arguments(result, first.header, context),
    )
    _make_repeatable(segmentation, made_uid(f"{kind} dimensions", digest, str(number)))
    if content.slice_distance_mm:
        measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SpacingBetweenSlices = DS(round(content.slice_distance_mm, 6), auto_format=True)
    if part := valid_text(first.header, "BodyPartExamined"):
        segmentation.BodyPartExamined = part
    complete_document(segmentation, first.header, context, result.algorithm)
    copy_requests(segmentation, first.header)
    segmentation.ContentDate, segmentation.ContentTime = (
        segmentation.InstanceCreationDate,
        segmentation.InstanceCreationTime,
    )
    return encoded_document(kind, segmentation)


def _source_image(frame: _Frame, shared: Dataset) -> Dataset:
    """Return the data set by which highdicom refers to an image and its geometry; the data set has no patient.

    All but the position is that of the `shared` header, since a segmentation has one geometry.
    """
    image = reference_dataset(frame.ref)
    image.Rows, image.Columns = frame.header.Rows, frame.header.Columns
    copy_lossy_compression(image, frame.header)
    for keyword in _PLANE_KEYWORDS:
        setattr(image, keyword, shared[keyword].value)
    image.ImagePositionPatient = frame.header.ImagePositionPatient
    image.SliceThickness = shared.get("SliceThickness")
    image.PositionReferenceIndicator = shared.get("PositionReferenceIndicator", "")
    return image


def _display_color(kind: DocumentKind, color: _Color) -> CIELabColor | None:
    """Return the color that viewers are asked to paint a segment in.

    A label map asks for none: OHIF 3.13.2 would paint its first segment in the color of its background.
    """
    return None if kind is DocumentKind.SEGMENTATION_LABELMAP else CIELabColor.from_rgb(*color)


def _segment_description(
    segment: Segment,
    number: int,
    algorithm: Algorithm,
    *,
    color: CIELabColor | None,
    lesion: UID | None = None,
) -> SegmentDescription:
    """Return the description of a segment; `lesion` is the tracking UID of its finding in the report."""
    parameters = {
        **dict(algorithm.parameters),
        "weights sha256": algorithm.weights_sha256,
        "weights status": str(algorithm.weights_status),
    }
    return SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=coded_concept(segment.category),
        segmented_property_type=coded_concept(segment.kind),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            algorithm.name, codes.cid7162.ArtificialIntelligence, algorithm.version, parameters=parameters
        ),
        tracking_id=segment.finding if lesion else None,
        tracking_uid=lesion,
        display_color=color,
    )


def _make_repeatable(segmentation: Segmentation, dimensions: UID) -> None:
    """Replace the random dimension UID of highdicom, and remove the slice distance that highdicom computed.

    Two key slices 30 mm apart do not make a volume with a distance of 30 mm between slices, and of slices that are
    marked the gaps are not the distance either: what outlined them knows it.
    """
    for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    segmentation.pop("DimensionOrganizationType", None)
    segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].pop("SpacingBetweenSlices", None)
