"""A result as a DICOM Structured Report: TID 1500 in Comprehensive 3D SR, or in Comprehensive SR for old archives.

A finding without a region is one measurement group (TID 1501). One with a region is two groups that share a tracking
UID: the region without numbers (TID 1410), which viewers turn into a box one can see, and the numbers. Viewers lose
the box where both are in one group. Why a study was not read is said in words: TID 2000.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import RE_VALID_UID
from pydicom.valuerep import DA, TM

from ainode.node.domain import (
    UID,
    Algorithm,
    Code,
    Document,
    DocumentContext,
    DocumentKind,
    Finding,
    InstanceRef,
    Measurement,
    OutOfScope,
    Region,
    Result,
)
from ainode.node.errors import ReportError
from ainode.node.identity import MANUFACTURER, MODEL_NAME, made_uid, run_digest
from ainode.node.reports.source_header import (
    complete_document,
    creation_time,
    encoded_document,
    header_of,
    reference_dataset,
    software_versions,
)

OUR_CODES = "99AINODE"
"""coding scheme of handlers' codes that no public scheme has; the prefix 99 is for private ones (PS3.16 8)"""

_ENGLISH = sr.CodedConcept("en-US", "RFC5646", "English (United States)")
# How far a coordinate may leave its image by rounding before it counts as a mistake.
_SLACK_PIXELS = 0.5
# PS3.5 9.1.
_LONGEST_UID = 64

_Group = sr.MeasurementsAndQualitativeEvaluations | sr.PlanarROIMeasurementsAndQualitativeEvaluations


@dataclass(frozen=True, slots=True)
class _Draft:
    """What every part of one report needs."""

    evidence: tuple[InstanceRef, ...]
    headers: Mapping[InstanceRef, Dataset]
    context: DocumentContext
    digest: str
    description: str
    algorithm: Algorithm | None = None
    continues: tuple[InstanceRef, ...] = ()


def structured_report(result: Result, sources: Mapping[UID, Path], context: DocumentContext) -> Document:
    """Return the report of a result; `sources` has the files of the first evidence, key images and regions.

    Raises: ReportError if a finding refers to an image outside the evidence, or to a place outside its image.
    Source: PS3.16 TID 1500, 1410, 1501, 300, 1600, 4019; PS3.3 A.35.13.
    """
    if not result.evidence:
        raise ReportError(f"study {result.study_instance_uid}: a result without evidence cannot be reported")
    regions = [finding.region.image for finding in result.findings if finding.region]
    draft = _Draft(
        evidence=result.evidence,
        headers={ref: header_of(ref, sources) for ref in (result.evidence[0], *result.key_images, *regions)},
        context=context,
        digest=run_digest(result.evidence, context, algorithm=result.algorithm),
        description=f"AI {result.title} {result.algorithm.version} (RUO)",
        algorithm=result.algorithm,
        continues=result.continues,
    )
    groups = [
        group
        for number, finding in enumerate(result.findings)
        for group in _groups(finding, draft, number=number, lonely=len(regions) == 1)
    ]
    return _document(_content(groups, draft, procedure=_coded(result.procedure), images=result.key_images), draft)


def out_of_scope_report(reason: OutOfScope, sources: Mapping[UID, Path], context: DocumentContext) -> Document:
    """Return a report that says in words why nothing was read; it has no number and no finding.

    Raises: ReportError if the reason names no evidence, or its file cannot be read.
    """
    if not reason.evidence:
        raise ReportError(f"a report needs an image to belong to, and {reason.code!r} names none")
    first = next((ref for ref in reason.evidence if _is_image(header_of(ref, sources))), reason.evidence[0])
    draft = _Draft(
        evidence=(first, *(ref for ref in reason.evidence if ref != first)),
        headers={first: header_of(first, sources)},
        context=context,
        # With the words: an archive takes other words under the same UID for a repetition.
        digest="\x1f".join((run_digest(reason.evidence, context), reason.code, reason.reason)),
        description="AI study not analyzed (RUO)",
    )
    return _document(_narrative(f"Not analyzed: {reason.reason}", draft), draft)


def _narrative(said: str, draft: _Draft) -> sr.ContainerContentItem:
    """Return TID 2000 with one conclusion in words, inferred from the first of the evidence if that is an image.

    OHIF 3.13.2 shows it as text; of an imaging measurement report without coordinates it shows an empty viewport.

    Source: PS3.16 TID 2000, 2001, 2002.
    """
    first = draft.evidence[0]
    conclusion = sr.TextContentItem(codes.DCM.Conclusion, said, relationship_type="CONTAINS")
    if _is_image(draft.headers[first]):
        source = sr.ImageContentItem(
            codes.SCT.Source, first.sop_class_uid, first.sop_instance_uid, relationship_type="INFERRED FROM"
        )
        conclusion.ContentSequence = sr.ContentSequence([source])
    heading = sr.ContainerContentItem(codes.LN.Conclusions, is_content_continuous=False, relationship_type="CONTAINS")
    heading.ContentSequence = sr.ContentSequence([conclusion])
    root = sr.ContainerContentItem(codes.LN.DiagnosticImagingReport, is_content_continuous=False, template_id="2000")
    language = sr.LanguageOfContentItemAndDescendants(_ENGLISH)
    root.ContentSequence = sr.ContentSequence([*language, *_observer(draft), heading])
    return root


def _is_image(header: Dataset) -> bool:
    return "Rows" in header


def _coded(code: Code) -> sr.CodedConcept:
    return sr.CodedConcept(code.value, code.scheme, code.meaning)


def _tracking(identifier: str, draft: _Draft, *, number: int, known: str = "") -> sr.TrackingIdentifier:
    """Return the UID that others gave the lesion, where it is one; else that of this reading."""
    valid = re.fullmatch(RE_VALID_UID, known) and len(known) <= _LONGEST_UID
    return sr.TrackingIdentifier(
        uid=known if valid else made_uid("tracking", draft.digest, str(number)), identifier=identifier
    )


def _sources(images: Iterable[InstanceRef]) -> list[sr.SourceImageForMeasurementGroup]:
    return [sr.SourceImageForMeasurementGroup(ref.sop_class_uid, ref.sop_instance_uid) for ref in images]


def _groups(finding: Finding, draft: _Draft, *, number: int, lonely: bool) -> tuple[_Group, ...]:
    """Return the measurement groups of a finding; `lonely` is the only region of the document.

    A validator that meets exactly one region expects one in every group, so the numbers then repeat it.
    """
    frame: dict[str, Any] = {
        "tracking_identifier": _tracking(finding.tracking_identifier, draft, number=number, known=finding.tracking_uid),
        "finding_type": _coded(finding.concept),
        "finding_sites": [sr.FindingSite(_coded(finding.site))],
        "algorithm_id": _algorithm(draft.algorithm) if draft.algorithm else None,
    }
    numbers = {**frame, "measurements": [_measurement(one) for one in finding.measurements]}
    if finding.region is None:
        for item in numbers["measurements"]:
            _infer_from_whole_image(item[0], draft)
        return (sr.MeasurementsAndQualitativeEvaluations(**numbers, source_images=_sources(finding.evidence)),)
    region = _region(finding.region, draft.headers[finding.region.image])
    shown = sr.PlanarROIMeasurementsAndQualitativeEvaluations(**frame, referenced_region=region)
    if lonely:
        return shown, sr.PlanarROIMeasurementsAndQualitativeEvaluations(**numbers, referenced_region=region)
    return shown, sr.MeasurementsAndQualitativeEvaluations(**numbers, source_images=_sources(finding.evidence))


def _measurement(measurement: Measurement) -> sr.Measurement:
    images = [
        sr.SourceImageForMeasurement(ref.sop_class_uid, ref.sop_instance_uid) for ref in measurement.inferred_from
    ]
    concept, unit = _coded(measurement.concept), _coded(measurement.unit)
    return sr.Measurement(concept, measurement.value, unit, referenced_images=images)


def _infer_from_whole_image(number: Dataset, draft: _Draft) -> None:
    """Put the border of each image between a number and that image: coordinates or images, never both (TID 320).

    OHIF 3.13.2 opens no report with a measurement group that has no coordinates: "Cannot read properties of undefined
    (reading 'ReferencedSOPSequence')". So it shows the number on the image, and the boxes of the other groups.
    """
    headers = {ref.sop_instance_uid: header for ref, header in draft.headers.items()}
    images = [
        (item, headers.get(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)) for item in number.ContentSequence
    ]
    borders = [_border(image, header) for image, header in images if header is not None]
    if borders:
        number.ContentSequence = sr.ContentSequence(borders)


def _border(image: Dataset, header: Dataset) -> sr.ScoordContentItem:
    right, bottom = float(header.Columns), float(header.Rows)
    corners = np.array([(0, 0), (right, 0), (right, bottom), (0, bottom), (0, 0)])
    border = sr.ScoordContentItem(image.name, "POLYLINE", corners, relationship_type="INFERRED FROM")
    referenced = image.ReferencedSOPSequence[0]
    source = sr.SourceImageForRegion(referenced.ReferencedSOPClassUID, referenced.ReferencedSOPInstanceUID)
    border.ContentSequence = sr.ContentSequence([source])
    return border


def _region(region: Region, header: Dataset) -> sr.ImageRegion:
    points = np.array(region.points, dtype=np.float64)
    size = np.array((header.Columns, header.Rows))
    if (points < -_SLACK_PIXELS).any() or (points > size + _SLACK_PIXELS).any():
        raise ReportError(
            f"instance {region.image.sop_instance_uid}: a region at {region.points} lies outside its "
            f"{header.Columns} x {header.Rows} pixels; the handler must cut it to the image",
        )
    source = sr.SourceImageForRegion(region.image.sop_class_uid, region.image.sop_instance_uid)
    return sr.ImageRegion(region.graphic_type.value, points.clip(0, size), source)


def _algorithm(algorithm: Algorithm) -> sr.AlgorithmIdentification:
    """Return TID 4019; the manufacturer is in the device observer."""
    parameters = (
        *(f"{name}={value}" for name, value in algorithm.parameters),
        f"weights sha256={algorithm.weights_sha256}",
        f"weights status={algorithm.weights_status}",
        "research use only",
    )
    return sr.AlgorithmIdentification(algorithm.name, algorithm.version, parameters)


def _observer(draft: _Draft) -> sr.ObservationContext:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=draft.context.device_uid,
        name=draft.context.device_name,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
        serial_number=draft.context.device_uid,
    )
    return sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device))


def _content(
    groups: list[_Group], draft: _Draft, *, procedure: sr.CodedConcept, images: tuple[InstanceRef, ...]
) -> Dataset:
    report = sr.MeasurementReport(
        observation_context=_observer(draft),
        procedure_reported=procedure,
        imaging_measurements=groups,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(_ENGLISH),
    )
    # Before the last item, the measurements (TID 1500 row 6).
    root = report[0]
    root.ContentSequence.insert(-1, _image_library(images or draft.evidence[:1], draft))
    return root


def _image_library(images: tuple[InstanceRef, ...], draft: _Draft) -> sr.ContainerContentItem:
    """Return TID 1600 with an entry for each key image, which viewers need in order to show anything."""
    library = sr.ContainerContentItem(codes.DCM.ImageLibrary, relationship_type="CONTAINS")
    group = sr.ContainerContentItem(codes.DCM.ImageLibraryGroup, relationship_type="CONTAINS")
    entries = [_library_entry(ref, draft.headers[ref]) for ref in images]
    group.ContentSequence = sr.ContentSequence(entries)
    library.ContentSequence = sr.ContentSequence([group])
    return library


def _library_entry(ref: InstanceRef, header: Dataset) -> sr.ImageContentItem:
    """Return a described entry, or a plain one: a result must not be lost because a spacing is missing."""
    entry = sr.ImageContentItem(codes.SCT.Source, ref.sop_class_uid, ref.sop_instance_uid, relationship_type="CONTAINS")
    try:
        entry.ContentSequence = sr.ContentSequence(sr.ImageLibraryEntryDescriptors(header))
    except (AttributeError, LookupError, TypeError, ValueError):
        return entry
    return entry


def _identify_our_codes(document: Dataset) -> None:
    """Say whose the codes of our own scheme are, where there is one in the document (PS3.3 C.12.1.1.8)."""
    if any(element.value == OUR_CODES for element in document.iterall() if element.keyword == "CodingSchemeDesignator"):
        scheme = Dataset()
        scheme.CodingSchemeDesignator = OUR_CODES
        scheme.CodingSchemeName = "ainode's own codes, for what no public scheme names"
        scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
        document.CodingSchemeIdentificationSequence = [scheme]


def _document(content: Dataset, draft: _Draft) -> Document:
    """Return the encoded document around the content tree."""
    context, header = draft.context, draft.headers[draft.evidence[0]]
    at = creation_time(header, context)
    document_class = sr.Comprehensive3DSR if context.comprehensive_3d else sr.ComprehensiveSR
    try:
        document = document_class(
            evidence=[reference_dataset(ref) for ref in draft.evidence],
            content=content,
            series_instance_uid=made_uid("report series", draft.digest),
            series_number=context.series_number_base,
            sop_instance_uid=made_uid("report", draft.digest),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL_NAME,
            software_versions=software_versions(context, draft.algorithm),
            device_serial_number=context.device_uid,
            series_description=draft.description[:64],
            content_qualification="RESEARCH",
            is_complete=True,
            # Those that this one supersedes, and those of earlier studies that it goes on from (PS3.3 C.17.2.3).
            previous_versions=[reference_dataset(ref) for ref in (*context.predecessors, *draft.continues)] or None,
            specific_character_set="ISO_IR 192",
            content_date=DA(at.date()),
            content_time=TM(at.time()),
            series_date=DA(at.date()),
            series_time=TM(at.time()),
        )
    except ValueError as error:
        study = draft.evidence[0].study_instance_uid
        raise ReportError(f"study {study}: the result cannot be encoded ({error})") from error
    _identify_our_codes(document)
    complete_document(document, header, context)
    return encoded_document(DocumentKind.STRUCTURED_REPORT, document)
