"""What a person says of a report, as a DICOM Structured Report of its own; the report itself is never changed.

The document has the shape of IHE RAD AI Result Assessment (2025): one document for each assessment, by a person, with
a reference to the report. The codes are the site's to give. The template is the narrative report (TID 2000), which
viewers show as text: OHIF 3.13.2 does not open a measurement report without coordinates.
"""

from collections.abc import Iterator

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DA, TM

from ainode.node.domain import (
    NO_UID,
    UID,
    AssessmentRequest,
    Code,
    Document,
    DocumentKind,
    Opinion,
    Presence,
)
from ainode.node.errors import ReportError
from ainode.node.identity import MANUFACTURER, MODEL_NAME, digest, made_uid
from ainode.node.reports.measurement_groups import PRESENCES, coded_concept
from ainode.node.reports.series import series_number
from ainode.node.reports.source_header import (
    complete_document,
    creation_time,
    encoded_document,
    header_of,
    reference_dataset,
    software_versions,
)
from ainode.node.reports.structured_report import ENGLISH, identify_private_codes

_PROPERTY = "HAS PROPERTIES"
# An LO has 64 characters (PS3.5 6.2).
_DESCRIPTION = "AI result assessment (RUO)"
_WORDS = {Opinion.ACCEPT: "accepted", Opinion.CHANGE: "changed", Opinion.REJECT: "rejected"}


def assessment(request: AssessmentRequest) -> Document:
    """Return the document of a judgement, in the study of the report, in a series of the report's assessments.

    Raises: ReportError if the report cannot be read, or has no finding of the judged name.
    Source: PS3.16 TID 2000, 1003; PS3.3 A.35.3.
    """
    report, context = request.report, request.context
    header = header_of(report, {report.sop_instance_uid: request.path})
    created = creation_time(header, context)
    series = digest(["assessments", report.sop_instance_uid])
    document = sr.ComprehensiveSR(
        evidence=[reference_dataset(report)],
        content=_content(request, _groups_of_finding(request, header)),
        series_instance_uid=made_uid("assessments", report.sop_instance_uid),
        series_number=series_number(DocumentKind.ASSESSMENT, series, context),
        sop_instance_uid=assessment_uid(request),
        instance_number=request.number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=software_versions(context, None),
        device_serial_number=context.device_uid,
        series_description=_DESCRIPTION,
        content_qualification="RESEARCH",
        is_complete=True,
        is_final=True,
        previous_versions=[reference_dataset(ref) for ref in context.predecessors] or None,
        specific_character_set="ISO_IR 192",
        content_date=DA(created.date()),
        content_time=TM(created.time()),
        series_date=DA(created.date()),
        series_time=TM(created.time()),
    )
    identify_private_codes(document)
    for keyword in ("ReferencedRequestSequence", "PerformedProcedureCodeSequence"):
        if header.get(keyword):
            document.add(header[keyword])
    complete_document(document, header, context)
    # The header is that of a report, whose equipment acquired nothing.
    document.ContributingEquipmentSequence = document.ContributingEquipmentSequence[-1:]
    return encoded_document(DocumentKind.ASSESSMENT, document)


def assessment_uid(request: AssessmentRequest) -> UID:
    """Return the SOP Instance UID of the document: the same for the same judgement of the same report."""
    judgement, correction = request.judgement, request.judgement.correction
    parts = (
        *(request.report.sop_instance_uid, str(request.number), judgement.finding, judgement.opinion, judgement.person),
        *(correction.presence or "", correction.measurement, str(correction.value), correction.label),
        *(judgement.reason, judgement.comment, request.context.created.isoformat()),
    )
    return made_uid("assessment", *parts)


def _content(request: AssessmentRequest, groups: list[Dataset]) -> sr.ContainerContentItem:
    """Return TID 2000: who judges (TID 1003), the coded opinion with its properties, and the opinion as a sentence."""
    heading = sr.ContainerContentItem(codes.LN.Conclusions, is_content_continuous=False, relationship_type="CONTAINS")
    conclusion = sr.TextContentItem(codes.DCM.Conclusion, sentence(request), relationship_type="CONTAINS")
    heading.ContentSequence = sr.ContentSequence([conclusion, _opinion(request, groups)])
    title = coded_concept(request.codes.title)
    root = sr.ContainerContentItem(title, is_content_continuous=False, template_id="2000")
    person = sr.PersonObserverIdentifyingAttributes(
        name=_person_name(request.judgement.person), login_name=request.judgement.person
    )
    observer = sr.ObservationContext(observer_person_context=sr.ObserverContext(codes.DCM.Person, person))
    language = sr.LanguageOfContentItemAndDescendants(ENGLISH)
    root.ContentSequence = sr.ContentSequence([*language, *observer, heading])
    return root


def _person_name(person: str) -> str:
    """Return a login name as the family name of a Person Name, without what separates components (PS3.5 6.2)."""
    plain = "".join(" " if character in "^=\\" else character for character in person)
    return f"{plain[:63].strip() or 'unknown'}^"


def _opinion(request: AssessmentRequest, groups: list[Dataset]) -> sr.CodeContentItem:
    """Return the coded opinion, inferred from the report, with status, finding, reason, change and comment."""
    terms, judgement, report = request.codes, request.judgement, request.report
    item = sr.CodeContentItem(
        coded_concept(terms.opinion), coded_concept(terms.of_opinion(judgement.opinion)), relationship_type="CONTAINS"
    )
    source = sr.CompositeContentItem(
        codes.SCT.Source, report.sop_class_uid, report.sop_instance_uid, relationship_type="INFERRED FROM"
    )
    status = terms.amended if request.context.predecessors else terms.final
    item.ContentSequence = sr.ContentSequence(
        [
            source,
            _coded(terms.status, status),
            *_finding(request, groups),
            *_change(request, groups),
            *([_coded(terms.reason, terms.of_reason(judgement.reason))] if judgement.reason else []),
            *([_text(codes.DCM.Comment, judgement.comment)] if judgement.comment else []),
        ]
    )
    return item


def _finding(request: AssessmentRequest, groups: list[Dataset]) -> Iterator[sr.ContentItem]:
    """Yield identifier and UID of the judged finding as the report has them; nothing for the whole result."""
    if request.judgement.finding:
        yield _text(codes.DCM.TrackingIdentifier, request.judgement.finding)
        yield sr.UIDRefContentItem(
            codes.DCM.TrackingUniqueIdentifier, tracking_uid(groups[0]), relationship_type=_PROPERTY
        )


def _change(request: AssessmentRequest, groups: list[Dataset]) -> Iterator[sr.ContentItem]:
    """Yield what holds instead: a presence, a measurement with the report's concept and unit, a name."""
    correction = request.judgement.correction
    if correction.presence:
        presence: Presence = correction.presence
        yield sr.CodeContentItem(
            coded_concept(request.codes.replaced_by),
            sr.CodedConcept.from_code(PRESENCES[presence]),
            relationship_type=_PROPERTY,
        )
    if correction.value is not None:
        yield _measurement(correction.measurement, correction.value, groups)
    if correction.label:
        yield _text(codes.DCM.Finding, correction.label)


def _measurement(name: str, value: float, groups: list[Dataset]) -> sr.ContentItem:
    items = (item for group in groups for item in group.ContentSequence if item.ValueType == "NUM")
    for item in items:
        concept = item.ConceptNameCodeSequence[0]
        if concept.CodeMeaning == name and item.MeasuredValueSequence:
            unit = item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
            return sr.NumContentItem(_concept(concept), value, _concept(unit), relationship_type=_PROPERTY)
    return _text(codes.DCM.Finding, f"{name} {value:g}")


def _concept(item: Dataset) -> sr.CodedConcept:
    return sr.CodedConcept(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning)


def _coded(concept: Code, value: Code) -> sr.CodeContentItem:
    return sr.CodeContentItem(coded_concept(concept), coded_concept(value), relationship_type=_PROPERTY)


def _text(concept: sr.CodedConcept, text: str) -> sr.TextContentItem:
    return sr.TextContentItem(concept, text, relationship_type=_PROPERTY)


def _groups_of_finding(request: AssessmentRequest, header: Dataset) -> list[Dataset]:
    """Return the measurement groups of the judged finding in the report; [] for the whole result.

    Raises: ReportError if the report has none.
    """
    name, uid = request.judgement.finding, request.report.sop_instance_uid
    if not name:
        return []
    groups = [group for group in _measurement_groups(header) if _is_of(group, name)]
    if not groups:
        raise ReportError(f"report {uid}: has no finding {name!r}; judge the newest reading of the study")
    first = tracking_uid(groups[0])
    return [group for group in groups if tracking_uid(group) == first]


def _is_of(group: Dataset, name: str) -> bool:
    """Return whether a group is of a finding; the identifier of an early report ends with the verdict."""
    identifier = _value(group, codes.DCM.TrackingIdentifier.value, "TextValue")
    return identifier == name or identifier.startswith((f"{name}:", f"{name},"))


def _measurement_groups(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        concept = child.get("ConceptNameCodeSequence")
        if concept and concept[0].get("CodeValue") == codes.DCM.MeasurementGroup.value:
            yield child
        else:
            yield from _measurement_groups(child)


def tracking_uid(group: Dataset) -> UID:
    """Return the Tracking Unique Identifier of a measurement group, NO_UID if it has none."""
    return UID(_value(group, codes.DCM.TrackingUniqueIdentifier.value, "UID")) or NO_UID


def _value(group: Dataset, concept: str, keyword: str) -> str:
    items = (item for item in group.get("ContentSequence", ()) if item.get("ConceptNameCodeSequence"))
    values = (item.get(keyword) for item in items if item.ConceptNameCodeSequence[0].get("CodeValue") == concept)
    return str(next(values, None) or "")


def sentence(request: AssessmentRequest) -> str:
    """Return the judgement as a sentence for a person."""
    judgement, correction = request.judgement, request.judgement.correction
    subject = request.statement or judgement.finding or "the result"
    instead = [
        *([correction.presence.value] if correction.presence else []),
        *([f"{correction.measurement} {correction.value:g}"] if correction.value is not None else []),
        *([correction.label] if correction.label else []),
    ]
    opinion = f"AI result ({subject}) {_WORDS[judgement.opinion]} by {judgement.person}"
    change = f", {', '.join(instead)} instead" if instead else ""
    reason = f"; reason: {request.codes.of_reason(judgement.reason).meaning.lower()}" if judgement.reason else ""
    comment = f". {judgement.comment}" if judgement.comment else ""
    return f"{opinion}{change}{reason}{comment}"
