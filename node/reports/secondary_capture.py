"""The captures of a result as single-frame RGB Secondary Captures, which every viewer shows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DA, TM, DSfloat

from ainode.node.domain import (
    UID,
    Algorithm,
    Capture,
    Document,
    DocumentContext,
    DocumentKind,
    InstanceRef,
    Result,
    Segmented,
)
from ainode.node.identity import MANUFACTURER, MODEL_NAME, made_uid, run_digest
from ainode.node.imaging import pixels
from ainode.node.reports.capture_setting import setting_of
from ainode.node.reports.dates import iso_date
from ainode.node.reports.drawing import DrawnCapture, Mask, Picture, drawn_capture
from ainode.node.reports.modules import patient_and_study
from ainode.node.reports.requests import copy_requests
from ainode.node.reports.series import series_description, series_number
from ainode.node.reports.source_header import (
    complete_document,
    copy_body_part,
    copy_lossy_compression,
    creation_time,
    encoded_document,
    header_of,
    is_lossy,
    software_versions,
    stated_zone,
)
from ainode.node.reports.summary import shown_captures, summary_picture

# Viewers sort a series by Instance Number.
_SUMMARY_NUMBER = 1
_PLANE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


def secondary_captures(result: Result, sources: Mapping[UID, Path], context: DocumentContext) -> tuple[Document, ...]:
    """Return a document for each capture of the result; what a series or study has one of starts another new series.

    Of two captures and more, a summary comes first.

    Raises: BrokenSeries or ReportError if a source image cannot be read.
    Source: PS3.3 A.8.1 (Secondary Capture Image IOD).
    """
    captures = [(capture, header_of(capture.image, sources)) for capture in result.captures]
    keys = [_series_key(header, context) for _, header in captures]
    series_keys = list(dict.fromkeys(keys))
    times = [(key, creation_time(header, context)) for key, (_, header) in zip(keys, captures, strict=True)]
    # A series has one time: that of its first capture.
    created = [min(time for key, time in times if key == series_key) for series_key in series_keys]
    shown = shown_captures(result.captures) if len(captures) > 1 else ()
    first_number = _SUMMARY_NUMBER + 1 if shown else 1
    documents, pictures = [], []
    for index, (capture, header) in enumerate(captures):
        drawn = _drawn(result, capture, header, sources[capture.image.sop_instance_uid])
        number = first_number + index
        series_index = series_keys.index(keys[index])
        place = _Place(f"{index + 1}", number, series_index, created[series_index])
        documents.append(_document(result, capture, drawn, header=header, place=place, context=context))
        if index in shown:
            pictures.append((number, capture, drawn.marked))
    if not shown:
        return tuple(documents)
    headers = [captures[0][1], *(captures[index][1] for index in shown)]
    place = _Place("summary", _SUMMARY_NUMBER, 0, created[0])
    return (_summary(result, pictures, headers, place=place, context=context), *documents)


def _series_key(header: Dataset, context: DocumentContext) -> str:
    """Return what belongs to the series, the study and the patient, so that two of these cannot share a series.

    Images of the two hands are of two series (PS3.3 C.7.3.1), and so are images that state other times or orders of
    their study. The time of a series is in one time zone.
    """
    shared = patient_and_study(header)
    copy_body_part(shared, header)
    copy_requests(shared, header)
    return f"{shared.to_json()} {stated_zone(header, context)}"


class _Place(NamedTuple):
    """Where a capture stands, and the name that its UID depends on."""

    name: str
    """name among all captures of the result: the number from 1, or the summary"""
    instance_number: int
    series_index: int
    """index among the capture series of the result, from 0"""
    series_created: datetime


def _drawn(result: Result, capture: Capture, header: Dataset, source: Path) -> DrawnCapture:
    """Return the pixels of a capture; `header` and `source` are header and file of the source image."""
    return drawn_capture(
        capture,
        pixels.picture(source, capture.window, (capture.frame or 1) - 1),
        algorithm=result.algorithm,
        setting=setting_of(header, capture, result.evidence),
        outlined=_outlined(capture, result.segmented),
    )


def _outlined(capture: Capture, segmented: Segmented | None) -> Mask | None:
    """Return the pixels of the captured image that its findings fill by the segmentation; None where they fill none.

    Shapes: (rows, columns) of the image.
    """
    if segmented is None:
        return None
    labels = next((label_map for label_map in segmented.maps if label_map.image == capture.image), None)
    if labels is None:
        return None
    names = {finding.tracking_identifier for finding in capture.findings}
    numbers = [number for number, segment in enumerate(segmented.segments, 1) if segment.finding in names]
    mask = np.isin(np.frombuffer(labels.labels, np.uint8), numbers).reshape(labels.rows, labels.columns)
    return mask if mask.any() else None


def _document(
    result: Result, capture: Capture, drawn: DrawnCapture, *, header: Dataset, place: _Place, context: DocumentContext
) -> Document:
    """Return the Secondary Capture of a capture; `header` is that of the source image."""
    image = _capture_image(drawn.pixels, header, result=result, place=place, context=context)
    image.DerivationDescription = "Source image, beside it the same with model attention and findings"
    # Type 2C: empty where the source has none.
    image.PatientOrientation = header.get("PatientOrientation")
    _add_provenance(image, [header], [capture.image], resized=drawn.is_resized)
    if capture.frame:
        image.SourceImageSequence[0].ReferencedFrameNumber = capture.frame
    if drawn.is_resized:
        _set_spacing(image, header, drawn.factors)
    else:
        _copy_plane(image, header)
    return _completed(image, header, result.algorithm, context)


def _summary(
    result: Result,
    pictures: Sequence[tuple[int, Capture, Picture]],
    headers: Sequence[Dataset],
    *,
    place: _Place,
    context: DocumentContext,
) -> Document:
    """Return the Secondary Capture of the summary, first in the first series of captures.

    The first header is that of the series, the others are those of the captures in the grid.
    """
    first, *shown_headers = headers
    page = summary_picture(result, pictures, date=iso_date(first.get("StudyDate")))
    image = _capture_image(page, first, result=result, place=place, context=context)
    image.DerivationDescription = "Summary: the verdicts and the captures of this result"
    image.PatientOrientation = []
    refs = list(dict.fromkeys(capture.image for _, capture, _ in pictures))
    _add_provenance(image, shown_headers, refs, resized=True)
    return _completed(image, first, result.algorithm, context)


def _completed(image: SCImage, header: Dataset, algorithm: Algorithm, context: DocumentContext) -> Document:
    """Return the encoded document with patient, study and requests of the source."""
    copy_body_part(image, header)
    complete_document(image, header, context, algorithm)
    copy_requests(image, header)
    return encoded_document(DocumentKind.SECONDARY_CAPTURE, image)


def _capture_image(
    picture: Picture, header: Dataset, *, result: Result, place: _Place, context: DocumentContext
) -> SCImage:
    """Return the Secondary Capture with its pixels, not yet completed by the source's patient and provenance."""
    digest, created = run_digest(result.evidence, context, algorithm=result.algorithm), creation_time(header, context)
    image = SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # highdicom demands a value, which the caller replaces
        study_instance_uid=result.study_instance_uid,
        series_instance_uid=made_uid("capture series", digest, str(place.series_index)),
        series_number=series_number(DocumentKind.SECONDARY_CAPTURE, digest, context, place.series_index),
        sop_instance_uid=made_uid("capture", digest, place.name),
        instance_number=place.instance_number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=software_versions(context, result.algorithm),
        device_serial_number=context.device_uid,
        series_description=series_description(result.title, result.algorithm),
        content_qualification="RESEARCH",
        specific_character_set="ISO_IR 192",
        patient_birth_date="",
        content_date=DA(created.date()),
        content_time=TM(created.time()),
        series_date=DA(place.series_created.date()),
        series_time=TM(place.series_created.time()),
    )
    image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture = DA(created.date()), TM(created.time())
    return image


def _add_provenance(image: SCImage, headers: Sequence[Dataset], refs: Sequence[InstanceRef], *, resized: bool) -> None:
    """Add what the picture is, and the images that the picture was made from (PS3.3 C.7.6.1, C.8.6.1, C.12.4)."""
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.ConversionType = "WSD"
    image.BurnedInAnnotation = "YES"
    image.ImageComments = "RESEARCH USE ONLY"
    # Absent, the picture may show a face or not (PS3.3 C.7.6.1): a capture shows what its sources show.
    features = {header.get("RecognizableVisualFeatures") for header in headers}
    if "YES" in features or features == {"NO"}:
        image.RecognizableVisualFeatures = "YES" if "YES" in features else "NO"
    copy_lossy_compression(image, next(filter(is_lossy, headers), headers[0]))
    image.SourceImageSequence = [_source_image(ref, resized=resized) for ref in refs]
    series_uids = dict.fromkeys(ref.series_instance_uid for ref in refs)
    image.ReferencedSeriesSequence = [
        _referenced_series(uid, [ref for ref in refs if ref.series_instance_uid == uid]) for uid in series_uids
    ]


def _source_image(ref: InstanceRef, *, resized: bool) -> Dataset:
    source = _reference(ref)
    source.SpatialLocationsPreserved = "NO" if resized else "YES"
    source.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    return source


def _referenced_series(uid: UID, refs: Sequence[InstanceRef]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = uid
    series.ReferencedInstanceSequence = [_reference(ref) for ref in refs]
    return series


def _reference(ref: InstanceRef) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = ref.sop_class_uid
    reference.ReferencedSOPInstanceUID = ref.sop_instance_uid
    return reference


def _set_spacing(image: SCImage, header: Dataset, factors: tuple[float, float]) -> None:
    """Set the size of a pixel of the capture, where the header gives the size in the patient (PS3.3 10.7)."""
    if spacing := header.get("PixelSpacing"):
        column_factor, row_factor = factors
        height, width = spacing[0] / row_factor, spacing[1] / column_factor
        image.PixelSpacing = [DSfloat(height, auto_format=True), DSfloat(width, auto_format=True)]


def _copy_plane(image: SCImage, header: Dataset) -> None:
    """Copy the position of the source slice, so that viewers link the capture with the series (PS3.3 C.7.6.2).

    The position is right because the source image lies at the top left of the capture.
    The Secondary Capture IOD has no such attributes, so the capture is of a Standard Extended SOP Class.
    """
    if all(header.get(keyword) for keyword in (*_PLANE, "FrameOfReferenceUID")):
        for keyword in (*_PLANE, "FrameOfReferenceUID"):
            setattr(image, keyword, header[keyword].value)
        image.PositionReferenceIndicator = header.get("PositionReferenceIndicator", "")
        image.SliceThickness = header.get("SliceThickness")
