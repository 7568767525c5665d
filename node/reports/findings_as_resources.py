"""The findings of an answer as resources of FHIR R4: a group, its evaluations and measurements, its place.

The guide of HL7 that maps DICOM SR to FHIR makes the finding the value of its group. Here it is so only where the
finding is stated as it is or is present: `Pneumonia` as the value of a group that says `absent` elsewhere is misread.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ainode.node.domain import Code, Finding, Measurement, Presence, ServerAddress
from ainode.node.encoding.fhir import (
    FINDING,
    INTERPRETATIONS,
    Json,
    coding,
    concept,
    instant,
    quantity,
    uid_identifier,
    without_empty,
)
from ainode.node.identity import made_uid, made_uuid, run_digest
from ainode.node.reports.drafts import Draft
from ainode.node.reports.measurement_groups import PRESENCES, tracking_uid, with_threshold
from ainode.node.reports.resources import Subject, orders, status_of
from ainode.node.reports.source_header import stated_study_time

_IMAGING: Final = concept(
    {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "imaging", "display": "Imaging"}
)
_GROUP: Final = concept(coding("DCM", "125007", "Measurement Group"))
_EVALUATIONS: Final = concept(
    {"system": "http://terminology.hl7.org/CodeSystem/umls", "code": "C0034375", "display": "Qualitative Evaluations"}
)
_INTERPRETATIONS: Final = {
    Presence.PRESENT: concept({"system": INTERPRETATIONS, "code": "POS", "display": "Positive"}),
    Presence.ABSENT: concept({"system": INTERPRETATIONS, "code": "NEG", "display": "Negative"}),
    Presence.INDETERMINATE: concept({"system": INTERPRETATIONS, "code": "IND", "display": "Indeterminate"}),
}
_TRACKING_UID: Final = concept(coding("DCM", "112040", "Tracking Unique Identifier"))
_TRACKING_IDENTIFIER: Final = concept(coding("DCM", "112039", "Tracking Identifier"))
# FHIR R4 Observation.status has no `partial`.
_STATUSES: Final = {"partial": "preliminary"}
_UNITLESS: Final = "1"
_PLACE: Final = "place"
COMPONENTS: Final = "components"


@dataclass(frozen=True, slots=True)
class Made:
    """A resource, and the address by which the others of the transaction refer to it."""

    full_url: str
    resource: Json


def finding_resources(
    draft: Draft, address: ServerAddress, subject: Subject, finding: Finding, number: int
) -> tuple[Made, ...]:
    """Return the group of a finding, then its members and its place; `number` is the finding's index in the result.

    Where the server wants components, the group holds them and the place.
    """
    maker = _Maker(draft, address, subject, finding, number)
    if address.members == COMPONENTS:
        return (maker.whole(),)
    members = tuple(maker.members())
    return (maker.group(members), *members, maker.place())


@dataclass(frozen=True, slots=True)
class _Part:
    """Something that is said of a finding: what of it, and the value."""

    name: str
    code: Json
    value: Json
    """a value of Observation.value[x] by its key, with the interpretation"""
    category: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class _Maker:
    draft: Draft
    address: ServerAddress
    subject: Subject
    finding: Finding
    number: int

    def place(self) -> Made:
        """Return the lesion, by its tracking identifiers, and where it lies."""
        return Made(self._own_url("place"), self._place())

    def group(self, members: tuple[Made, ...]) -> Made:
        """Return the group, whose members are observations."""
        return self._made(
            "group", {**self._group(), "hasMember": [{"reference": member.full_url} for member in members]}
        )

    def members(self) -> Iterator[Made]:
        """Yield the parts of the finding as observations."""
        for part in self._parts():
            values = {"category": [_IMAGING, *part.category], "code": part.code, **part.value}
            yield self._made(part.name, {**self._observation(part.name), **values})

    def whole(self) -> Made:
        """Return the group, which has the parts as its components and the place in itself."""
        parts = [{"code": part.code, **part.value} for part in self._parts()]
        place = {"contained": [{**self._place(), "id": _PLACE}], "focus": [{"reference": f"#{_PLACE}"}]}
        return self._made("group", {**self._group(), **place, "component": parts})

    def _place(self) -> Json:
        finding, answer = self.finding, self.draft.answer
        digest = run_digest(answer.evidence, self.draft.context, algorithm=self.draft.algorithm)
        tracked = uid_identifier(tracking_uid(finding, digest, self.number), type_=_TRACKING_UID)
        name = {"type": _TRACKING_IDENTIFIER, "value": finding.tracking_identifier}
        return without_empty(
            {
                "resourceType": "BodyStructure",
                "identifier": [*self._identifiers("place"), tracked, name],
                "location": _concept_of(finding.site),
                "locationQualifier": [_concept_of(finding.laterality)] if finding.laterality else [],
                "description": _place_words(finding),
                "patient": self.subject.reference,
            }
        )

    def _group(self) -> Json:
        """Return the group without its parts; its value is the finding where the finding is there."""
        finding, presence = self.finding, self.finding.presence
        is_there = finding.evaluations[:1] in ((), ((finding.concept, Presence.PRESENT),))
        return {
            **self._observation("group"),
            "category": [_IMAGING, _GROUP],
            "code": {**FINDING, "text": finding.conclusion},
            "valueCodeableConcept": _concept_of(finding.concept) if is_there else {},
            "interpretation": [_INTERPRETATIONS[presence]] if presence else [],
        }

    def _parts(self) -> Iterator[_Part]:
        """Yield the evaluations, the qualities, then the measurements in the report's order."""
        finding = self.finding
        for index, (about, presence) in enumerate(finding.evaluations):
            code = PRESENCES[presence]
            value = concept(coding(code.scheme_designator, code.value, code.meaning))
            values = {"valueCodeableConcept": value, "interpretation": [_INTERPRETATIONS[presence]]}
            yield _Part(f"presence {index}", _concept_of(about), values, (_EVALUATIONS,))
        for index, (about, quality) in enumerate(finding.qualities):
            values = {"valueCodeableConcept": _concept_of(quality)}
            yield _Part(f"quality {index}", _concept_of(about), values, (_EVALUATIONS,))
        for index, measurement in enumerate(with_threshold(finding)):
            values = {"valueQuantity": _quantity_of(measurement)}
            yield _Part(f"measurement {index}", _concept_of(measurement.concept), values)

    def _observation(self, name: str) -> Json:
        """Return what every observation of a finding says."""
        draft, finding = self.draft, self.finding
        status = status_of(draft, self.address)
        side = f" ({finding.laterality.meaning})" if finding.laterality else ""
        return {
            "resourceType": "Observation",
            "identifier": self._identifiers(name),
            "basedOn": orders(draft, self.address),
            "partOf": [{"reference": self._url_of("study")}],
            "status": _STATUSES.get(status, status),
            "subject": self.subject.reference,
            "focus": [{"reference": self._own_url("place")}],
            "effectiveDateTime": stated_study_time(draft.header, draft.context),
            "issued": instant(draft.context.created),
            "bodySite": {**_concept_of(finding.site), "text": f"{finding.site.meaning}{side}"},
            "device": {"reference": self._url_of("device")},
        }

    def _identifiers(self, name: str) -> list[Json]:
        return [uid_identifier(made_uid("resource", self.draft.report.sop_instance_uid, str(self.number), name))]

    def _made(self, name: str, values: Json) -> Made:
        return Made(self._own_url(name), without_empty(values))

    def _own_url(self, name: str) -> str:
        return self._url_of(str(self.number), name)

    def _url_of(self, *parts: str) -> str:
        return made_uuid("resource", self.draft.report.sop_instance_uid, *parts).urn


def _quantity_of(measurement: Measurement) -> Json:
    unit = "" if measurement.unit.value == _UNITLESS else measurement.unit.meaning
    return quantity(measurement.value, unit, measurement.unit.value)


def _concept_of(code: Code) -> Json:
    return concept(coding(code.scheme, code.value, code.meaning))


def _place_words(finding: Finding) -> str:
    """Return where a finding lies: R4 has no element for coordinates."""
    if finding.region:
        points = " ".join(f"{column:g},{row:g}" for column, row in finding.region.points)
        frame = f"frame {finding.region.frame} of " if finding.region.frame else ""
        image = f"{frame}image {finding.region.image.sop_instance_uid}"
        return f"{finding.region.graphic_type} on {image}, column,row: {points}"
    if finding.outline:
        outline = finding.outline
        count, frame = len(outline.contours), outline.frame_of_reference_uid
        return f"outline of {count} contours in the frame of reference {frame}; the Structured Report has them"
    return ""
