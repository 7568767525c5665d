"""A result as a DICOM Structured Report: TID 1500 in Comprehensive 3D SR, or in Comprehensive SR for old archives.

The findings are measurement groups. The reason why a study was not read is a narrative report (TID 2000).
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage
from pydicom.valuerep import DA, TM

from ainode.node import logs
from ainode.node.domain import (
    UID,
    Algorithm,
    Document,
    DocumentContext,
    DocumentKind,
    InstanceRef,
    OutOfScope,
    Result,
)
from ainode.node.errors import ReportError
from ainode.node.identity import MANUFACTURER, MODEL_NAME, algorithm_uid, made_uid, run_digest
from ainode.node.reports.macros import whole_code
from ainode.node.reports.measurement_groups import GroupContext, MeasurementGroup, coded_concept, measurement_groups
from ainode.node.reports.requests import requests_of
from ainode.node.reports.series import series_description, series_number
from ainode.node.reports.source_header import (
    complete_document,
    creation_time,
    encoded_document,
    header_of,
    reference_dataset,
    size_of,
    software_versions,
)

log = logging.getLogger(__name__)
PRIVATE_SCHEME = "99AINODE"
"""coding scheme of handlers' codes that no public scheme has; 99 begins the name of a private scheme (PS3.16 8)"""

ENGLISH = sr.CodedConcept("en-US", "RFC5646", "English (United States)")


@dataclass(frozen=True, slots=True)
class _Draft:
    """Inputs that several parts of a report need."""

    evidence: tuple[InstanceRef, ...]
    headers: Mapping[InstanceRef, Dataset]
    """headers of the first evidence and of the images that the report describes"""
    context: DocumentContext
    digest: str
    """digest of the reading, which all UIDs of the report depend on"""
    description: str
    """Series Description"""
    algorithm: Algorithm | None = None
    requests: tuple[Dataset, ...] = ()
    """items of Referenced Request Sequence"""
    continues: tuple[InstanceRef, ...] = ()
    """reports of earlier studies whose lesions this report follows"""


def structured_report(result: Result, sources: Mapping[UID, Path], context: DocumentContext) -> Document:
    """Return the report of a result; `sources` has the files of the first evidence, the key images and the regions.

    Raises: ReportError if a finding refers to an image that is no evidence, or a region lies outside of its image.
    Source: PS3.16 TID 1500, 1600; PS3.3 A.35.13.
    """
    if not result.evidence:
        raise ReportError(
            f"study {result.study_instance_uid}: a result without evidence cannot be reported; the handler is wrong"
        )
    regions = [finding.region.image for finding in result.findings if finding.region]
    described = dict.fromkeys((result.evidence[0], *result.key_images, *regions))  # each is read once
    headers = {ref: header_of(ref, sources) for ref in described}
    draft = _Draft(
        evidence=result.evidence,
        headers=headers,
        context=context,
        digest=run_digest(result.evidence, context, algorithm=result.algorithm),
        description=series_description(result.title, result.algorithm),
        algorithm=result.algorithm,
        continues=result.continues,
        requests=requests_of(result.evidence, sources, headers),
    )
    sizes = _sizes(result, headers, sources)
    group_context = GroupContext(
        {**headers, **sizes}, draft.digest, result.algorithm, len(regions), comprehensive_3d=context.comprehensive_3d
    )
    groups = [
        group
        for number, finding in enumerate(result.findings)
        for group in measurement_groups(finding, group_context, number)
    ]
    procedure = coded_concept(result.procedure)
    return _document(_measurement_report(groups, draft, procedure=procedure, images=result.key_images), draft)


def _sizes(
    result: Result, headers: Mapping[InstanceRef, Dataset], sources: Mapping[UID, Path]
) -> dict[InstanceRef, Dataset]:
    """Return the size of each further image of the study of which, with others, a number is: all that borders need.

    Raises: ReportError if a file cannot be read.
    """
    several = (item.inferred_from for finding in result.findings for item in finding.measurements)
    images = dict.fromkeys(ref for refs in several if len(refs) > 1 for ref in refs)
    further = (ref for ref in images if ref not in headers and ref.study_instance_uid == result.study_instance_uid)
    return {ref: size_of(ref, sources) for ref in further}


def report_ref(result: Result, context: DocumentContext) -> InstanceRef:
    """Return the reference to the report of a result, which no report has to be made for.

    Raises: ReportError if the result has no evidence.
    """
    if not result.evidence:
        raise ReportError(f"study {result.study_instance_uid}: a result without evidence cannot be reported")
    digest = run_digest(result.evidence, context, algorithm=result.algorithm)
    study = result.evidence[0].study_instance_uid
    storage = Comprehensive3DSRStorage if context.comprehensive_3d else ComprehensiveSRStorage
    return InstanceRef(study, made_uid("report series", digest), UID(storage), made_uid("report", digest))


def out_of_scope_report(reason: OutOfScope, sources: Mapping[UID, Path], context: DocumentContext) -> Document:
    """Return a narrative report of the reason why nothing was read; the report has no measurement and no finding.

    Raises: ReportError if the reason has no evidence, or a file of the evidence cannot be read.
    """
    if not reason.evidence:
        raise ReportError(
            f"the reason {reason.code!r} has no evidence, and a report belongs to the study of an instance"
        )
    first = next((ref for ref in reason.evidence if _is_image(header_of(ref, sources))), reason.evidence[0])
    headers = {first: header_of(first, sources)}
    draft = _Draft(
        evidence=(first, *(ref for ref in reason.evidence if ref != first)),
        headers=headers,
        context=context,
        # The digest has the words too: an archive ignores other words under a UID that it knows.
        digest="\x1f".join((run_digest(reason.evidence, context), reason.code, reason.told)),
        description="AI study not analyzed (RUO)",
        requests=requests_of(reason.evidence, sources, headers),
    )
    return _document(_narrative_report(f"Not analyzed: {reason.told}", draft), draft)


def _narrative_report(text: str, draft: _Draft) -> sr.ContainerContentItem:
    """Return TID 2000 with the text as its conclusion, inferred from the first evidence if the evidence is an image.

    OHIF 3.13.2 shows a narrative report as text, but a measurement report without coordinates as an empty viewport.

    Source: PS3.16 TID 2000, 2001, 2002.
    """
    first = draft.evidence[0]
    conclusion = sr.TextContentItem(codes.DCM.Conclusion, text, relationship_type="CONTAINS")
    if _is_image(draft.headers[first]):
        source = sr.ImageContentItem(
            codes.SCT.Source, first.sop_class_uid, first.sop_instance_uid, relationship_type="INFERRED FROM"
        )
        conclusion.ContentSequence = sr.ContentSequence([source])
    heading = sr.ContainerContentItem(codes.LN.Conclusions, is_content_continuous=False, relationship_type="CONTAINS")
    heading.ContentSequence = sr.ContentSequence([conclusion])
    root = sr.ContainerContentItem(codes.LN.DiagnosticImagingReport, is_content_continuous=False, template_id="2000")
    language = sr.LanguageOfContentItemAndDescendants(ENGLISH)
    root.ContentSequence = sr.ContentSequence([*language, *_observation_context(draft), heading])
    return root


def _is_image(header: Dataset) -> bool:
    return "Rows" in header


def _observation_context(draft: _Draft) -> sr.ObservationContext:
    """Return TID 1001 with the algorithm on this node as device observer (TID 1004), or the node without algorithm."""
    algorithm = draft.algorithm
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=algorithm_uid(algorithm) if algorithm else draft.context.device_uid,
        name=draft.context.device_name,
        manufacturer_name=MANUFACTURER,
        model_name=algorithm.name if algorithm else MODEL_NAME,
        serial_number=draft.context.device_uid,
    )
    return sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device))


def _measurement_report(
    groups: list[MeasurementGroup], draft: _Draft, *, procedure: sr.CodedConcept, images: tuple[InstanceRef, ...]
) -> Dataset:
    """Return TID 1500 with the measurement groups and an image library; without images, of the first evidence."""
    report = sr.MeasurementReport(
        observation_context=_observation_context(draft),
        procedure_reported=procedure,
        imaging_measurements=groups,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(ENGLISH),
    )
    # The image library comes before the last item, the measurements (TID 1500 row 6).
    root = report[0]
    root.ContentSequence.insert(-1, _image_library(images or draft.evidence[:1], draft))
    return root


def _image_library(images: tuple[InstanceRef, ...], draft: _Draft) -> sr.ContainerContentItem:
    """Return TID 1600 with an entry for each image; viewers show nothing of a report without an image library."""
    library = sr.ContainerContentItem(codes.DCM.ImageLibrary, relationship_type="CONTAINS")
    group = sr.ContainerContentItem(codes.DCM.ImageLibraryGroup, relationship_type="CONTAINS")
    entries = [_library_entry(ref, draft.headers[ref]) for ref in images]
    group.ContentSequence = sr.ContentSequence(entries)
    library.ContentSequence = sr.ContentSequence([group])
    return library


def _library_entry(ref: InstanceRef, header: Dataset) -> sr.ImageContentItem:
    """Return the entry of an image, with descriptors only if the header has all that highdicom demands."""
    entry = sr.ImageContentItem(codes.SCT.Source, ref.sop_class_uid, ref.sop_instance_uid, relationship_type="CONTAINS")
    try:
        entry.ContentSequence = sr.ContentSequence(sr.ImageLibraryEntryDescriptors(header))
    except (AttributeError, LookupError, TypeError, ValueError):
        return entry
    return entry


def identify_private_codes(document: Dataset) -> None:
    """Add the identification of the private coding scheme to a document that uses the scheme (PS3.3 C.12.1.1.8)."""
    designators = (element.value for element in document.iterall() if element.keyword == "CodingSchemeDesignator")
    if PRIVATE_SCHEME in designators:
        scheme = Dataset()
        scheme.CodingSchemeDesignator = PRIVATE_SCHEME
        scheme.CodingSchemeName = "ainode's own codes, for what no public scheme names"
        scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
        document.CodingSchemeIdentificationSequence = [scheme]


def _document(content: Dataset, draft: _Draft) -> Document:
    """Return the encoded document around the content tree."""
    context, header = draft.context, draft.headers[draft.evidence[0]]
    created = creation_time(header, context)
    document_class = sr.Comprehensive3DSR if context.comprehensive_3d else sr.ComprehensiveSR
    try:
        document = document_class(
            evidence=[reference_dataset(ref) for ref in draft.evidence],
            content=content,
            series_instance_uid=made_uid("report series", draft.digest),
            series_number=series_number(DocumentKind.STRUCTURED_REPORT, draft.digest, context),
            sop_instance_uid=made_uid("report", draft.digest),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL_NAME,
            software_versions=software_versions(context, draft.algorithm),
            device_serial_number=context.device_uid,
            series_description=draft.description,
            content_qualification="RESEARCH",
            is_complete=True,
            # Reports that this report supersedes, and reports of earlier studies that it follows (PS3.3 C.17.2.3).
            previous_versions=[reference_dataset(ref) for ref in (*context.predecessors, *draft.continues)] or None,
            specific_character_set="ISO_IR 192",
            content_date=DA(created.date()),
            content_time=TM(created.time()),
            series_date=DA(created.date()),
            series_time=TM(created.time()),
        )
    except ValueError as error:
        study = draft.evidence[0].study_instance_uid
        about = {"action": "not_encoded", "study_instance_uid": study}
        log.error("report: %s", logs.raised_at(error), extra=about)  # noqa: TRY400 - the message may quote a header
        raise ReportError(
            f"study {study}: the result cannot be encoded ({type(error).__name__}; see the log)"
        ) from error
    identify_private_codes(document)
    if draft.requests:
        document.ReferencedRequestSequence = list(draft.requests)
    procedures = map(whole_code, header.get("ProcedureCodeSequence") or ())
    document["PerformedProcedureCodeSequence"].value = [code for code in procedures if code]
    complete_document(document, header, context, draft.algorithm)
    return encoded_document(DocumentKind.STRUCTURED_REPORT, document)
