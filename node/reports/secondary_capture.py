"""The captures of a result as single-frame RGB Secondary Captures, which every viewer shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DA, TM, DSfloat

from ainode.node.domain import UID, Capture, Document, DocumentContext, DocumentKind, Result
from ainode.node.identity import MANUFACTURER, MODEL_NAME, made_uid, run_digest
from ainode.node.imaging import pixels
from ainode.node.reports.capture_setting import setting_of
from ainode.node.reports.drawing import DrawnCapture, drawn_capture
from ainode.node.reports.requests import copy_requests, request_attributes
from ainode.node.reports.series import series_description, series_number
from ainode.node.reports.source_header import (
    complete_document,
    copy_body_part,
    copy_lossy_compression,
    creation_time,
    encoded_document,
    header_of,
    software_versions,
)

_PLANE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


def secondary_captures(result: Result, sources: Mapping[UID, Path], context: DocumentContext) -> tuple[Document, ...]:
    """Return a document for each capture of the result, in a new series for each body part and request of the sources.

    Raises: BrokenSeries or ReportError if a source image cannot be read.
    Source: PS3.3 A.8.1 (Secondary Capture Image IOD).
    """
    captures = [(capture, header_of(capture.image, sources)) for capture in result.captures]
    keys = list(dict.fromkeys(_series_key(header) for _, header in captures))
    return tuple(
        _document(
            result,
            capture,
            _Numbers(number, keys.index(_series_key(header))),
            header=header,
            source=sources[capture.image.sop_instance_uid],
            context=context,
        )
        for number, (capture, header) in enumerate(captures, start=1)
    )


def _series_key(header: Dataset) -> tuple[str, ...]:
    """Return what belongs to the series (PS3.3 C.7.3.1), so that two of these cannot share a series."""
    requests = (request.to_json() for request in request_attributes(header))
    return (str(header.get("BodyPartExamined", "")), *requests)


class _Numbers(NamedTuple):
    """The numbers of a capture, which its UIDs depend on."""

    number: int
    """number among all captures of the result, from 1"""
    series_index: int
    """index among the capture series of the result, from 0"""


def _document(
    result: Result, capture: Capture, numbers: _Numbers, *, header: Dataset, source: Path, context: DocumentContext
) -> Document:
    """Return the Secondary Capture of a capture; `header` and `source` are header and file of the source image."""
    setting = setting_of(header, capture, result.evidence)
    source_pixels = pixels.picture(source, capture.window)
    picture = drawn_capture(capture, source_pixels, algorithm=result.algorithm, setting=setting)
    image = _capture_image(picture, header, result=result, numbers=numbers, context=context)
    _add_provenance(image, capture, header, resized=picture.is_resized)
    if picture.is_resized:
        _set_spacing(image, header, picture.factors)
    else:
        _copy_plane(image, header)
    complete_document(image, header, context, result.algorithm)
    copy_requests(image, header)
    return encoded_document(DocumentKind.SECONDARY_CAPTURE, image)


def _capture_image(
    picture: DrawnCapture, header: Dataset, *, result: Result, numbers: _Numbers, context: DocumentContext
) -> SCImage:
    """Return the Secondary Capture with its pixels, not yet completed by the source's patient and provenance."""
    digest, created = run_digest(result.evidence, context, algorithm=result.algorithm), creation_time(header, context)
    image = SCImage(
        pixel_array=picture.pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # highdicom demands a value; _add_provenance() replaces the value
        study_instance_uid=result.study_instance_uid,
        series_instance_uid=made_uid("capture series", digest, str(numbers.series_index)),
        series_number=series_number(DocumentKind.SECONDARY_CAPTURE, digest, context, numbers.series_index),
        sop_instance_uid=made_uid("capture", digest, str(numbers.number)),
        instance_number=numbers.number,
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
        series_date=DA(created.date()),
        series_time=TM(created.time()),
    )
    image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture = DA(created.date()), TM(created.time())
    return image


def _add_provenance(image: SCImage, capture: Capture, header: Dataset, *, resized: bool) -> None:
    """Add what the picture is, and the image that the picture was made from (PS3.3 C.7.6.1, C.8.6.1, C.12.4)."""
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.ConversionType = "WSD"
    image.BurnedInAnnotation = "YES"
    image.ImageComments = "RESEARCH USE ONLY"
    image.DerivationDescription = "Source image, beside it the same with model attention and findings"
    # Type 2C: empty where the source has none.
    image.PatientOrientation = header.get("PatientOrientation")
    # Absent, the picture may show a face or not (PS3.3 C.7.6.1): a capture shows what its source shows.
    if (features := header.get("RecognizableVisualFeatures")) in ("YES", "NO"):
        image.RecognizableVisualFeatures = features
    copy_body_part(image, header)
    copy_lossy_compression(image, header)
    source = Dataset()
    source.ReferencedSOPClassUID = capture.image.sop_class_uid
    source.ReferencedSOPInstanceUID = capture.image.sop_instance_uid
    source.SpatialLocationsPreserved = "NO" if resized else "YES"
    source.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    image.SourceImageSequence = [source]
    series = Dataset()
    series.SeriesInstanceUID = capture.image.series_instance_uid
    instance = Dataset()
    instance.ReferencedSOPClassUID = capture.image.sop_class_uid
    instance.ReferencedSOPInstanceUID = capture.image.sop_instance_uid
    series.ReferencedInstanceSequence = [instance]
    image.ReferencedSeriesSequence = [series]


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
