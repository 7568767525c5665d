"""Where the model looked as Segmentations of one segment, in the pixels of the images that were read.

As probability it is the saliency itself: 0 to 255 of 255. As label map it is cut where the saliency reaches half of
that: there a reader who must decide cuts a fractional segmentation, as this node does itself (`marks_drawn.segments`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes

from ainode.node.domain import (
    UID,
    Algorithm,
    Document,
    DocumentContext,
    DocumentKind,
    InstanceRef,
    Result,
    Saliency,
)
from ainode.node.identity import made_uid, run_digest
from ainode.node.reports.drawing import resized_saliency
from ainode.node.reports.source_header import (
    common_arguments,
    complete_document,
    copy_lossy_compression,
    header_of,
    part10_bytes,
    reference_dataset,
)

_TYPES = {
    DocumentKind.SEGMENTATION_FRACTIONAL: SegmentationTypeValues.FRACTIONAL,
    DocumentKind.SEGMENTATION_LABELMAP: SegmentationTypeValues.LABELMAP,
}
_MOST = 255
_PLANE = ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


@dataclass(frozen=True, slots=True)
class _Frame:
    """The saliency of one image, in its pixels."""

    ref: InstanceRef
    header: Dataset
    values: NDArray[np.uint8]

    @property
    def group(self) -> tuple[str, ...]:
        """Return what the frames of one object have in common."""
        shared = ("Rows", "Columns", "FrameOfReferenceUID", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
        return (self.ref.series_instance_uid, *(str(self.header.get(keyword)) for keyword in shared))


def segmentations(
    result: Result, sources: Mapping[UID, Path], context: DocumentContext, *, kind: DocumentKind
) -> tuple[Document, ...]:
    """Return the saliency of the captures, one object for each series and frame of reference, in a series of its own.

    Left out are images of earlier studies, multi-frame images, and those without a place in the patient, such as
    radiographs: the standard has segmentations of them, and OHIF 3.13.2 goes black at one. So is a label map that
    nothing reaches.

    Raises: ReportError if a source cannot be read; what pydicom and highdicom raise on its values is the caller's.
    Source: PS3.3 A.51 (Segmentation), A.91 (Label Map Segmentation), C.8.20.2.
    """
    groups: dict[tuple[str, ...], list[_Frame]] = {}
    for frame in _frames(result, sources):
        groups.setdefault(frame.group, []).append(frame)
    kept = [group for group in groups.values() if kind is not DocumentKind.SEGMENTATION_LABELMAP or _cut(group).any()]
    return tuple(_document(group, result, context, kind=kind, number=number) for number, group in enumerate(kept))


def _frames(result: Result, sources: Mapping[UID, Path]) -> Iterator[_Frame]:
    """Yield each image with the strongest of its captures' saliency at every pixel."""
    found: dict[InstanceRef, list[Saliency]] = {}
    for capture in result.captures:
        if capture.saliency and capture.image.study_instance_uid == result.study_instance_uid:
            found.setdefault(capture.image, []).append(capture.saliency)
    for ref, saliencies in found.items():
        header = header_of(ref, sources)
        if int(header.get("NumberOfFrames") or 1) == 1 and all(header.get(keyword) for keyword in _PLANE):
            size = (int(header.Columns), int(header.Rows))
            maps = [np.asarray(resized_saliency(one, size), np.uint8) for one in saliencies]
            yield _Frame(ref, header, np.maximum.reduce(maps))


def _cut(frames: Sequence[_Frame]) -> NDArray[np.uint8]:
    """Return 1 where the saliency is at least half of what it can be."""
    return np.stack([frame.values > _MOST // 2 for frame in frames]).astype(np.uint8)


def _fractions(frames: Sequence[_Frame]) -> NDArray[np.float32]:
    return np.stack([frame.values for frame in frames]).astype(np.float32) / np.float32(_MOST)


def _document(
    frames: Sequence[_Frame], result: Result, context: DocumentContext, *, kind: DocumentKind, number: int
) -> Document:
    first = frames[0]
    digest = run_digest(result.evidence, context, algorithm=result.algorithm)
    made = Segmentation(
        source_images=[_source(frame) for frame in frames],
        pixel_array=_cut(frames) if kind is DocumentKind.SEGMENTATION_LABELMAP else _fractions(frames),
        segmentation_type=_TYPES[kind],
        segment_descriptions=[_segment(result.algorithm)],
        series_instance_uid=made_uid(f"{kind} series", digest, str(number)),
        series_number=context.series_number_base + 300 + number,
        sop_instance_uid=made_uid(kind, digest, str(number)),
        instance_number=1,
        max_fractional_value=_MOST,
        # One frame for each image, also where nothing of it is marked.
        omit_empty_frames=False,
        content_label="MODEL_ATTENTION",
        **common_arguments(result, first.header, context),
    )
    _repeatable(made, made_uid(f"{kind} dimensions", digest, str(number)))
    if part := first.header.get("BodyPartExamined"):
        made.BodyPartExamined = part
    complete_document(made, first.header, context)
    made.ContentDate, made.ContentTime = made.InstanceCreationDate, made.InstanceCreationTime
    ref = InstanceRef(
        result.study_instance_uid, UID(made.SeriesInstanceUID), UID(made.SOPClassUID), UID(made.SOPInstanceUID)
    )
    return Document(kind, ref, part10_bytes(made))


def _source(frame: _Frame) -> Dataset:
    """Return the image as highdicom needs it, without its patient."""
    image = reference_dataset(frame.ref)
    image.Rows, image.Columns = frame.header.Rows, frame.header.Columns
    copy_lossy_compression(image, frame.header)
    for keyword in _PLANE:
        setattr(image, keyword, frame.header[keyword].value)
    image.SliceThickness = frame.header.get("SliceThickness")
    image.PositionReferenceIndicator = frame.header.get("PositionReferenceIndicator", "")
    return image


def _segment(algorithm: Algorithm) -> SegmentDescription:
    parameters = {
        **dict(algorithm.parameters),
        "weights sha256": algorithm.weights_sha256,
        "weights status": str(algorithm.weights_status),
    }
    return SegmentDescription(
        segment_number=1,
        # No color: OHIF 3.13.2 counts the background in, and paints a label map in that one's.
        segment_label="model attention",
        segmented_property_category=codes.cid7150.SpatialAndRelationalConcept,
        segmented_property_type=codes.DCM.Saliency,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            algorithm.name, codes.cid7162.ArtificialIntelligence, algorithm.version, parameters=parameters
        ),
    )


def _repeatable(made: Segmentation, dimensions: UID) -> None:
    """Replace what highdicom draws at random, and take back what it concludes from the gaps between key slices.

    Two key slices 30 mm apart are no volume with slices of 30 mm.
    """
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    made.pop("DimensionOrganizationType", None)
    made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].pop("SpacingBetweenSlices", None)
