"""The pictures of a result as Secondary Captures: one single-frame RGB image each, which every viewer shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DA, TM

from ainode.node.domain import UID, Capture, Document, DocumentContext, DocumentKind, InstanceRef, Result
from ainode.node.identity import MANUFACTURER, MODEL_NAME, made_uid, run_digest
from ainode.node.imaging import pixels
from ainode.node.reports.drawing import DrawnCapture, drawn_capture
from ainode.node.reports.source_header import (
    complete_document,
    copy_body_part,
    copy_lossy_compression,
    creation_time,
    header_of,
    part10_bytes,
    software_versions,
)

_PLANE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


def secondary_captures(result: Result, sources: Mapping[UID, Path], context: DocumentContext) -> tuple[Document, ...]:
    """Return one capture for each that the result asks for, in a new series per body part of the sources.

    Raises: BrokenSeries or ReportError if a source image cannot be read.
    Source: PS3.3 A.8.1 (Secondary Capture Image IOD).
    """
    captures = [(capture, header_of(capture.image, sources)) for capture in result.captures]
    # Body Part Examined is of the series (PS3.3 C.7.3.1): two parts in one series would contradict each other.
    parts = list(dict.fromkeys(str(header.get("BodyPartExamined", "")) for _, header in captures))
    return tuple(
        _document(
            result,
            capture,
            _Place(number, parts.index(str(header.get("BodyPartExamined", "")))),
            header=header,
            source=sources[capture.image.sop_instance_uid],
            context=context,
        )
        for number, (capture, header) in enumerate(captures, start=1)
    )


class _Place(NamedTuple):
    """Which capture it is, from 1, and of which series, from 0."""

    number: int
    series: int


def _document(
    result: Result, capture: Capture, place: _Place, *, header: Dataset, source: Path, context: DocumentContext
) -> Document:
    picture = drawn_capture(capture, pixels.picture(source), algorithm=result.algorithm)
    image = _image(picture, header, result=result, place=place, context=context)
    _describe(image, capture, header, resized=picture.scale != 1)
    if picture.scale == 1:
        _copy_plane(image, header)
    complete_document(image, header, context)
    ref = InstanceRef(
        capture.image.study_instance_uid,
        UID(image.SeriesInstanceUID),
        UID(image.SOPClassUID),
        UID(image.SOPInstanceUID),
    )
    return Document(DocumentKind.SECONDARY_CAPTURE, ref, part10_bytes(image))


def _image(
    picture: DrawnCapture, header: Dataset, *, result: Result, place: _Place, context: DocumentContext
) -> SCImage:
    digest, at = run_digest(result.evidence, context, algorithm=result.algorithm), creation_time(header, context)
    image = SCImage(
        pixel_array=picture.pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # highdicom demands one; _describe() puts the source's in its place
        study_instance_uid=result.study_instance_uid,
        series_instance_uid=made_uid("capture series", digest, str(place.series)),
        series_number=context.series_number_base + 100 + place.series,
        sop_instance_uid=made_uid("capture", digest, str(place.number)),
        instance_number=place.number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=software_versions(context, result.algorithm),
        device_serial_number=context.device_uid,
        series_description=f"AI {result.title} {result.algorithm.version} (RUO)"[:64],
        content_qualification="RESEARCH",
        specific_character_set="ISO_IR 192",
        patient_birth_date="",
        content_date=DA(at.date()),
        content_time=TM(at.time()),
        series_date=DA(at.date()),
        series_time=TM(at.time()),
    )
    image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture = DA(at.date()), TM(at.time())
    return image


def _describe(image: SCImage, capture: Capture, header: Dataset, *, resized: bool) -> None:
    """Say what the picture is, and what it was made from (PS3.3 C.7.6.1, C.8.6.1, C.12.4)."""
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.ConversionType = "WSD"
    image.BurnedInAnnotation = "YES"
    image.RecognizableVisualFeatures = "NO"
    image.ImageComments = "RESEARCH USE ONLY"
    image.DerivationDescription = "Model attention, findings and captions drawn on the source image"
    image.PatientOrientation = _orientation(header)
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


def _orientation(header: Dataset) -> list[str]:
    """Return where rows and columns point, [] where the source does not say both (type 2C)."""
    orientation = [str(one) for one in header.get("PatientOrientation") or ()]
    return orientation if len(orientation) == 2 else []  # noqa: PLR2004 - row and column


def _copy_plane(image: SCImage, header: Dataset) -> None:
    """Place the capture where its source slice lies, so that viewers link it with the series (PS3.3 C.7.6.2).

    The image stays at the top left of the capture: what is added at the right and below moves no pixel of it.
    A Standard Extended SOP Class: the Secondary Capture IOD does not forbid the attributes, and does not ask for them.
    """
    if all(header.get(keyword) for keyword in (*_PLANE, "FrameOfReferenceUID")):
        for keyword in (*_PLANE, "FrameOfReferenceUID"):
            setattr(image, keyword, header[keyword].value)
        image.PositionReferenceIndicator = header.get("PositionReferenceIndicator", "")
        image.SliceThickness = header.get("SliceThickness")
