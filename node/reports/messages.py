"""An answer as an HL7 v2.5.1 message, ORU^R01, for each listener that gets one.

Patient, visit, order and study come from the headers that the report takes them from. The same answer for the same
listener is the same message, with the same control id: whoever gets it twice can tell.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pydicom import Dataset

from ainode.node.domain import (
    NO_UID,
    RESEARCH_USE_ONLY,
    UID,
    Code,
    Document,
    DocumentContext,
    DocumentKind,
    InstanceRef,
    MessageAddress,
    OutOfScope,
    Result,
)
from ainode.node.encoding.hl7 import Script, codec_of, joined, repeated, segment
from ainode.node.identity import algorithm_uid, made_control_id, made_uid
from ainode.node.reports.drafts import Draft, draft_of
from ainode.node.reports.limits import limits
from ainode.node.reports.macros import valid_text, whole_code
from ainode.node.reports.observations import Observation, observations
from ainode.node.reports.text import weights_text

_IMAGING: Final = Code("363679005", "SCT", "Imaging procedure")
_PRIVATE: Final = "99AINODE"
# HL7 table 0074, by Modality (PS3.3 C.7.3.1.1.1): what radiology makes, and everything else.
_RADIOLOGY: Final = frozenset({"CR", "CT", "DX", "MG", "MR", "NM", "PT", "RF", "RG", "US", "XA"})
# HL7 table 0123: no result.
_NONE: Final = "X"
_OPERATOR: Final = "O"
"""HL7 table 0105: the comment is of another than filler and placer"""


def messages(
    answer: Result | OutOfScope, report: InstanceRef, sources: Mapping[UID, Path], context: DocumentContext
) -> tuple[Document, ...]:
    """Return a message for each listener; `report` is the Structured Report of the same answer.

    Raises: ReportError if a header that the report was made of cannot be read.
    """
    if not context.messages:
        return ()
    draft = draft_of(answer, report, sources, context)
    return tuple(_message(draft, address) for address in context.messages)


def _message(draft: Draft, address: MessageAddress) -> Document:
    # Another character set or another name makes other bytes, and so another message.
    names = [address.destination, address.sending_application, address.sending_facility]
    names += [address.receiving_application, address.receiving_facility, address.character_set]
    parts = ["message", draft.report.sop_instance_uid, *names, address.processing_id, address.result_status]
    ref = InstanceRef(draft.report.study_instance_uid, NO_UID, NO_UID, made_uid(*parts))
    codec = codec_of(address.character_set)
    text = "".join(_segments(draft, address, Script(codec), made_control_id(parts)))
    return Document(DocumentKind.MESSAGE, ref, text.encode(codec), address.destination)


def _segments(draft: Draft, address: MessageAddress, script: Script, control_id: str) -> Iterator[str]:
    """Yield the segments; an order of several requests has the whole result below each request."""
    yield _header(draft, address, script, control_id)
    yield _patient(draft.patient, script)
    yield _visit(draft.patient, script)
    status = _NONE if isinstance(draft.answer, OutOfScope) else address.result_status
    for number, request in enumerate(draft.requests or [Dataset()], start=1):
        order = {2: _text(request, "PlacerOrderNumberImagingServiceRequest", script), 3: _filler(request, script)}
        yield segment("ORC", {1: "RE", **order})
        yield segment("OBR", {1: str(number), **order, **_procedure(draft, request, script, status)})
        for index, note in enumerate(_notes(draft), start=1):
            yield segment("NTE", {1: str(index), 2: _OPERATOR, 3: script.text(note)})
        for index, observation in enumerate(observations(draft.answer, draft.report), start=1):
            yield _observation(index, observation, draft, script, status)


def _header(draft: Draft, address: MessageAddress, script: Script, control_id: str) -> str:
    names = [address.sending_application, address.sending_facility]
    names += [address.receiving_application, address.receiving_facility]
    return segment(
        "MSH",
        {
            **dict(enumerate(map(script.text, names), start=3)),
            7: draft.created,
            9: script.components("ORU", "R01", "ORU_R01"),
            10: control_id,
            11: address.processing_id,
            12: "2.5.1",
            18: address.character_set,
        },
    )


def _patient(patient: Dataset, script: Script) -> str:
    qualifiers = next(iter(patient.get("IssuerOfPatientIDQualifiersSequence") or ()), Dataset())
    issuer = (str(patient.get("IssuerOfPatientID") or ""), *_universal(qualifiers))
    type_code = _text(qualifiers, "IdentifierTypeCode", script)
    return segment(
        "PID",
        {
            1: "1",
            3: _identifier(_text(patient, "PatientID", script), issuer, script, type_code),
            5: _names(str(patient.get("PatientName") or ""), script),
            7: _text(patient, "PatientBirthDate", script),
            8: _text(patient, "PatientSex", script),
        },
    )


def _names(name: str, script: Script) -> str:
    """Return a name of DICOM, whose three groups are letters, ideographs and sounds, as repetitions of an XPN.

    What stands behind a fifth `^` is part of the suffix, as nothing else is left for it.
    """
    groups = [(group, code) for group, code in zip(name.split("=", 2), "AIP", strict=False) if group.strip("^ ")]
    is_alone = len(groups) == 1
    return repeated(*(_name(group, "" if is_alone else code, script) for group, code in groups))


def _name(group: str, representation: str, script: Script) -> str:
    family, first, middle, prefix, suffix = [*group.split("^", 4), "", "", "", ""][:5]
    return script.components(family, first, middle, suffix, prefix, "", "", representation)


def _visit(patient: Dataset, script: Script) -> str:
    """Return the visit: of an unknown class, which no header tells (HL7 table 0004)."""
    issuer = _issuer(patient, "IssuerOfAdmissionIDSequence")
    number = _identifier(_text(patient, "AdmissionID", script), issuer, script)
    return segment("PV1", {1: "1", 2: "U", 19: number})


def _identifier(value: str, issuer: tuple[str, str, str], script: Script, type_code: str = "") -> str:
    """Return a CX; where there is no identifier its issuer says nothing."""
    return joined(value, "", "", script.subcomponents(*issuer), type_code) if value else ""


def _issuer(holder: Dataset, keyword: str) -> tuple[str, str, str]:
    """Return the local name of an issuer, its universal identifier and the type of that (PS3.3 10.14)."""
    issuer = next(iter(holder.get(keyword) or ()), Dataset())
    return (str(issuer.get("LocalNamespaceEntityID") or ""), *_universal(issuer))


def _universal(issuer: Dataset) -> tuple[str, str]:
    return str(issuer.get("UniversalEntityID") or ""), str(issuer.get("UniversalEntityIDType") or "")


def _text(holder: Dataset, keyword: str, script: Script) -> str:
    return script.text(str(holder.get(keyword) or ""))


def _filler(request: Dataset, script: Script) -> str:
    """Return the number of who fulfills the order; without one the Accession Number, which the filler gives."""
    if number := _text(request, "FillerOrderNumberImagingServiceRequest", script):
        return number
    accession_number = str(request.get("AccessionNumber") or "")
    issuer = _issuer(request, "IssuerOfAccessionNumberSequence") if accession_number else ()
    return script.components(accession_number, *issuer)


def _procedure(draft: Draft, request: Dataset, script: Script, status: str) -> dict[int, str]:
    """Return the fields of OBR that say what was done, when, and how far the result is."""
    codes = [*(draft.header.get("ProcedureCodeSequence") or ()), *(request.get("RequestedProcedureCodeSequence") or ())]
    whole = next((code for code in map(whole_code, codes) if code), None)
    own = draft.answer.procedure if isinstance(draft.answer, Result) else _IMAGING
    procedure = _components_of(whole) if whole else (own.value, own.meaning, own.scheme)
    modality = valid_text(draft.header, "Modality")
    return {
        4: script.components(*procedure),
        7: draft.studied,
        18: _text(request, "AccessionNumber", script),
        19: _text(request, "RequestedProcedureID", script),
        22: draft.created,
        24: "RAD" if modality in _RADIOLOGY else "OTH",
        25: status,
        44: script.components(*procedure),
    }


def _components_of(code: Dataset) -> tuple[str, str, str]:
    keyword = next(keyword for keyword in ("CodeValue", "LongCodeValue", "URNCodeValue") if keyword in code)
    return str(code[keyword].value), str(code.CodeMeaning), str(code.get("CodingSchemeDesignator") or "")


def _notes(draft: Draft) -> Iterator[str]:
    """Yield what a person must know of whoever answered."""
    yield RESEARCH_USE_ONLY
    if algorithm := draft.algorithm:
        yield f"Model: {algorithm.name} {algorithm.version}; {weights_text(algorithm)}"
        for name, text in limits(algorithm):
            yield f"{name}: {text}"
    yield f"Made by {', '.join(draft.context.software_versions)} on {draft.context.device_name}"


def _observation(number: int, observation: Observation, draft: Draft, script: Script, status: str) -> str:
    concept, unit = observation.concept, observation.unit
    fields = {
        1: str(number),
        2: observation.value_type,
        3: script.components(concept.value, concept.meaning, concept.scheme),
        4: observation.sub_id,
        5: script.components(*observation.value),
        6: script.components(unit.value, unit.meaning, unit.scheme) if unit else "",
        8: observation.flag,
        9: observation.probability,
        11: observation.status or status,
        14: draft.created,
    }
    if observation.sub_id and (algorithm := draft.algorithm):
        weights = f", weights {algorithm.weights_sha256[:16]}" if algorithm.weights_sha256 else ""
        fields[17] = script.components(algorithm.name, f"{algorithm.name} {algorithm.version}{weights}", _PRIVATE)
        fields[18] = script.components(draft.context.device_name, "", algorithm_uid(algorithm), "ISO")
    return segment("OBX", fields)
