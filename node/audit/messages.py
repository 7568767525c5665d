"""The messages of PS3.15 A.5.3 that the node writes. Pure; nothing of a patient is in a message by default.

The participant '' is the process that writes the message: its process id and the AE title of the node are filled in
when the message becomes XML.
"""

import base64
import html
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from types import MappingProxyType
from typing import Final

# PS3.15 A.6: repositories take at least 32768 octets. 64 SOP classes have 6 kB.
_MAX_SOP_CLASSES: Final = 64
_MAX_TEXT: Final = 400
_MAX_VALUE: Final = 4096


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value; PS3.16 D has the codes of the system DCM, RFC 3881 those of RFC-3881."""

    value: str
    meaning: str
    system: str = "DCM"


SOURCE: Final = Code("110153", "Source Role ID")
DESTINATION: Final = Code("110152", "Destination Role ID")
DESTINATION_MEDIA: Final = Code("110154", "Destination Media")
# PS3.16 CID 405
_ADDRESS: Final = Code("110037", "URI")
_APPLICATION: Final = Code("110150", "Application")
# PS3.16 CID 401, the types of a Security Alert.
NODE_AUTHENTICATION: Final = Code("110126", "Node Authentication")
SOFTWARE_CONFIGURATION: Final = Code("110131", "Software Configuration")
RESTRICTED_FUNCTION: Final = Code("110132", "Use of Restricted Function")
RECORDING_STOPPED: Final = Code("110133", "Audit Recording Stopped")
USER_ATTRIBUTES: Final = Code("110137", "User Security Attributes Changed")
_URI: Final = Code("12", "URI", "RFC-3881")
_NODE_ID: Final = Code("110182", "Node ID")
_SOP_CLASS: Final = Code("110181", "SOP Class UID")
_STUDY: Final = Code("110180", "Study Instance UID")
_PATIENT: Final = Code("2", "Patient Number", "RFC-3881")
# PS3.15 A.5.1.2: the type of an object, and its role.
_PERSON, _SYSTEM = "1", "2"
_IS_PATIENT, _REPORT, _MASTER_FILE, _SECURITY_RESOURCE = "1", "3", "5", "13"
SUCCESS: Final = "0"
MINOR_FAILURE: Final = "4"
SERIOUS_FAILURE: Final = "8"


@dataclass(frozen=True, slots=True)
class Participant:
    """A process, a system or a caller that takes part; by default the process that writes the message."""

    user_id: str = ""
    ae_title: str = ""
    address: str = ""
    role: Code | None = None
    is_requestor: bool = False
    medium: Code | None = None
    """of PS3.16 CID 405, where something is exported to"""


@dataclass(frozen=True, slots=True)
class Subject:
    """An object that a message is about."""

    identifier: str
    identifier_type: Code
    role: str
    kind: str = _SYSTEM
    details: tuple[tuple[str, str], ...] = ()
    sop_classes: Mapping[str, int] = field(default_factory=dict)
    """number of instances of each SOP class"""
    is_query: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One audited event."""

    event: Code
    action: str
    participants: tuple[Participant, ...]
    type: Code | None = None
    subjects: tuple[Subject, ...] = ()
    outcome: str = SUCCESS
    failure: str = ""


@dataclass(frozen=True, slots=True)
class AuditSource:
    """The installation that writes the trail."""

    name: str
    ae_title: str
    host: str


def started() -> Message:
    """Return the start of the node (A.5.3.1)."""
    return _activity(Code("110120", "Application Start"))


def stopped() -> Message:
    """Return the stop of the node (A.5.3.1)."""
    return _activity(Code("110121", "Application Stop"))


def _activity(kind: Code) -> Message:
    return Message(Code("110100", "Application Activity"), "E", (Participant(role=_APPLICATION),), kind)


def alert(
    kind: Code, uri: str, description: str, details: Mapping[str, str] = MappingProxyType({}), *, outcome: str = SUCCESS
) -> Message:
    """Return a Security Alert about a file or another resource (A.5.3.11)."""
    role = _MASTER_FILE if kind == SOFTWARE_CONFIGURATION else _SECURITY_RESOURCE
    subject = Subject(uri, _URI, role, details=(("Alert Description", description), *details.items()))
    return Message(_SECURITY_ALERT, "E", (Participant(is_requestor=True),), kind, (subject,), outcome)


def refused(caller: Participant, reason: str) -> Message:
    """Return the refusal of an association: a node that was not authenticated (A.5.3.11); the refusal protects."""
    subject = Subject(caller.address, _NODE_ID, _SECURITY_RESOURCE, details=(("Alert Description", reason),))
    participants = Participant(is_requestor=True), caller
    return Message(_SECURITY_ALERT, "E", participants, NODE_AUTHENTICATION, (subject,), MINOR_FAILURE, reason)


def authenticated(caller: Participant, failure: str = "") -> Message:
    """Return the login of a caller of the web interface, or the failure of a login (A.5.3.12)."""
    outcome = MINOR_FAILURE if failure else SUCCESS
    kind = Code("110122", "Login")
    return Message(_AUTHENTICATION, "E", (caller, Participant()), kind, outcome=outcome, failure=failure)


def logged_out(caller: Participant) -> Message:
    """Return the logout of a person (A.5.3.12)."""
    return Message(_AUTHENTICATION, "E", (caller, Participant()), Code("110123", "Logout"))


def transferred(source: Participant, destination: Participant, study: Subject, failure: str = "") -> Message:
    """Return the end of a transfer of instances of one study (A.5.3.7); of instances that failed with `failure`."""
    outcome = SERIOUS_FAILURE if failure else SUCCESS
    # C: the receiver, as far as the sender knows, held no copies.
    event = Code("110104", "DICOM Instances Transferred")
    return Message(event, "C", (source, destination), subjects=(study,), outcome=outcome, failure=failure)


def accessed(process: str, study: Subject, failure: str = "") -> Message:
    """Return the reading of a study by a process, such as a handler (A.5.3.6)."""
    outcome = SERIOUS_FAILURE if failure else SUCCESS
    participants = Participant(), Participant(process, is_requestor=True)
    event = Code("110103", "DICOM Instances Accessed")
    return Message(event, "R", participants, subjects=(study,), outcome=outcome, failure=failure)


def exported(person: str, address: str, study: Subject) -> Message:
    """Return the export of what the node holds of a study to a person's browser (A.5.3.5)."""
    exporter = Participant(person, role=SOURCE, is_requestor=True)
    browser = Participant(address, address=address, role=DESTINATION_MEDIA, medium=_ADDRESS)
    return Message(_EXPORT, "R", (exporter, Participant(), browser), subjects=(study,))


def copied(folder: str, study: Subject) -> Message:
    """Return the export of de-identified copies of a study into a folder, by a command (A.5.3.5)."""
    participants = Participant(role=SOURCE), Participant(folder, role=DESTINATION_MEDIA, medium=_ADDRESS)
    return Message(_EXPORT, "R", participants, subjects=(study,))


def told(name: str, address: str, study: Subject, failure: str = "") -> Message:
    """Return the export of an answer about a study to a system that takes no DICOM, or its failure (A.5.3.5).

    A transfer is of DICOM instances, and a message is none: the standard's examples of an export are conversions to
    another format for an EHR.
    """
    receiver = Participant(name, address=address, role=DESTINATION_MEDIA, medium=_ADDRESS)
    participants = Participant(role=SOURCE, is_requestor=True), receiver
    outcome = SERIOUS_FAILURE if failure else SUCCESS
    return Message(_EXPORT, "R", participants, subjects=(study,), outcome=outcome, failure=failure)


def queried(archive: Participant, target: str) -> Message:
    """Return a query that the node sends (A.5.3.10); `target` is a SOP class or an address of QIDO-RS.

    The query itself stays out: it holds a Patient ID.
    """
    is_uid = target.replace(".", "").isdigit()
    subject = Subject(target, _SOP_CLASS if is_uid else _URI, _REPORT, is_query=True)
    event = Code("110112", "Query")
    return Message(event, "E", (Participant(role=SOURCE, is_requestor=True), archive), subjects=(subject,))


def study_subject(
    uid: str, sop_classes: Mapping[str, int], details: Mapping[str, str] = MappingProxyType({})
) -> Subject:
    """Return a study as the object of a message, with the number of instances of each SOP class, '' for any class."""
    return Subject(uid, _STUDY, _REPORT, details=tuple(details.items()), sop_classes=sop_classes)


def table_subject(address: str) -> Subject:
    """Return a table of many studies as the object of a message."""
    return Subject(address, _URI, _REPORT)


def with_patient(message: Message, patient_id_of: Callable[[str], str]) -> Message:
    """Return a message with the patient of its study as another object, if it has a study and the patient is known."""
    studies = [subject.identifier for subject in message.subjects if subject.identifier_type == _STUDY]
    if len(message.subjects) != 1 or not studies or not (patient_id := patient_id_of(studies[0])):
        return message
    patient = Subject(patient_id, _PATIENT, _IS_PATIENT, kind=_PERSON)
    return replace(message, subjects=(*message.subjects, patient))


_EXPORT: Final = Code("110106", "Export")
_SECURITY_ALERT: Final = Code("110113", "Security Alert")
_AUTHENTICATION: Final = Code("110114", "User Authentication")


def xml(message: Message, time: datetime, source: AuditSource) -> str:
    """Return a message in the schema of PS3.15 A.5.1, in one line."""
    instant = time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = _element(
        "EventIdentification",
        {"EventActionCode": message.action, "EventDateTime": instant, "EventOutcomeIndicator": message.outcome},
        _coded("EventID", message.event),
        _coded("EventTypeCode", message.type),
        _element("EventOutcomeDescription", {}, _text(message.failure)) if message.failure else "",
    )
    # PS3.15 A.5.1.2.1: 4 is an application server.
    reporter = _element(
        "AuditSourceIdentification",
        {"AuditSourceID": f"{source.name}@{source.host}"},
        _element("AuditSourceTypeCode", {"csd-code": "4"}),
    )
    participants = (_participant(participant, source) for participant in message.participants)
    return '<?xml version="1.0" encoding="UTF-8"?>' + _element(
        "AuditMessage", {}, event, *participants, reporter, *map(_subject, message.subjects)
    )


def _participant(participant: Participant, source: AuditSource) -> str:
    is_writer = not participant.user_id
    title = participant.ae_title or (source.ae_title if is_writer else "")
    address = participant.address or (source.host if is_writer else "")
    access = {"NetworkAccessPointID": address, "NetworkAccessPointTypeCode": "2" if _is_ip(address) else "1"}
    return _element(
        "ActiveParticipant",
        {
            "UserID": participant.user_id or str(os.getpid()),  # A.5.2.1
            **({"AlternativeUserID": f"AETITLES={title}"} if title else {}),  # A.5.2.2
            "UserIsRequestor": str(participant.is_requestor).lower(),
            **(access if address else {}),
        },
        _coded("RoleIDCode", participant.role),
        _element("MediaIdentifier", {}, _coded("MediaType", participant.medium)) if participant.medium else "",
    )


def _subject(subject: Subject) -> str:
    attributes = {
        "ParticipantObjectID": subject.identifier,
        "ParticipantObjectTypeCode": subject.kind,
        "ParticipantObjectTypeCodeRole": subject.role,
    }
    # The schema wants a name or a query; no name of a patient stands here.
    label = "ParticipantObjectQuery" if subject.is_query else "ParticipantObjectName"
    return _element(
        "ParticipantObjectIdentification",
        attributes,
        _coded("ParticipantObjectIDTypeCode", subject.identifier_type),
        _element(label, {}),
        *(
            _element("ParticipantObjectDetail", {"type": kind, "value": _base64(value)})
            for kind, value in subject.details
        ),
        _element("ParticipantObjectDescription", {}, *_sop_classes(subject.sop_classes)) if subject.sop_classes else "",
    )


def _sop_classes(counts: Mapping[str, int]) -> Iterable[str]:
    """Yield an element for each SOP class; a last one without UID counts what is beyond the bound."""
    for uid, count in islice(counts.items(), _MAX_SOP_CLASSES):
        yield _element("SOPClass", {**({"UID": uid} if uid else {}), "NumberOfInstances": str(count)})
    if others := sum(islice(counts.values(), _MAX_SOP_CLASSES, None)):
        yield _element("SOPClass", {"NumberOfInstances": str(others)})


def _coded(name: str, code: Code | None) -> str:
    if code is None:
        return ""
    return _element(name, {"csd-code": code.value, "codeSystemName": code.system, "originalText": code.meaning})


def _element(name: str, attributes: Mapping[str, str], *children: str) -> str:
    values = "".join(f' {key}="{_text(value)}"' for key, value in attributes.items())
    content = "".join(children)
    return f"<{name}{values}>{content}</{name}>" if content else f"<{name}{values}/>"


def _text(value: str) -> str:
    """Return a text as XML can hold it, in one line; strangers choose AE titles and file names."""
    return html.escape("".join(char if char.isprintable() else "?" for char in value[:_MAX_VALUE]))


def _base64(value: str) -> str:
    return base64.b64encode(value[:_MAX_TEXT].encode("utf-8", "replace")).decode()


def _is_ip(address: str) -> bool:
    return ":" in address or address.replace(".", "").isdigit()
