"""What a reader process is asked for and what it returns: requests, documents, readings. Times are aware datetimes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from ainode.node.domain.dicom import NO_UID, UID, InstanceRef, Location
from ainode.node.domain.findings import OutOfScope, Result
from ainode.node.domain.urgency import UrgentRule


class DocumentKind(StrEnum):
    """The kind of a document."""

    STRUCTURED_REPORT = "sr"
    SECONDARY_CAPTURE = "sc"
    PRESENTATION_STATE = "pr"
    SEGMENTATION_FRACTIONAL = "seg-fractional"
    SEGMENTATION_LABELMAP = "seg-labelmap"
    PDF = "pdf"
    """the page of report.pdf as an Encapsulated PDF"""
    ASSESSMENT = "assessment"
    """what a person says of the report; no reading makes it"""
    OBJECT = "object"
    """a DICOM object that the program of a site made, of any kind that its model may make"""
    MESSAGE = "message"
    """the report as an HL7 v2 message for one listener"""
    BUNDLE = "bundle"
    """the report as a FHIR transaction for one listener"""

    @property
    def is_message(self) -> bool:
        """Whether the document is for one listener alone, and no DICOM object."""
        return self in {DocumentKind.MESSAGE, DocumentKind.BUNDLE}

    @property
    def is_optional(self) -> bool:
        """Whether only archives that ask for the kind get it; other kinds of DICOM objects go to every archive."""
        return not self.is_message and self not in {
            DocumentKind.STRUCTURED_REPORT,
            DocumentKind.SECONDARY_CAPTURE,
            DocumentKind.ASSESSMENT,
            DocumentKind.OBJECT,
        }

    @property
    def suffix(self) -> str:
        """Return how the name of a file of the kind ends."""
        return {DocumentKind.MESSAGE: ".hl7", DocumentKind.BUNDLE: ".json"}.get(self, ".dcm")


@dataclass(frozen=True, slots=True)
class Document:
    """One encoded DICOM object or message, ready to be sent byte for byte."""

    kind: DocumentKind
    ref: InstanceRef
    """of a message: the study and a UID of its own, without series and SOP class"""
    content: bytes = field(repr=False)
    destination: str = ""
    """the only destination that gets the document; '' of a document for every archive"""


@dataclass(frozen=True, slots=True)
class MessageAddress:
    """A listener that gets the answer as an HL7 v2 message, and how the message is written for the listener."""

    destination: str
    """name of the peer"""
    sending_application: str
    sending_facility: str
    receiving_application: str
    receiving_facility: str
    character_set: str
    """MSH-18, of HL7 table 0211"""
    processing_id: str
    """MSH-11: P production, T training, D debugging"""
    result_status: str
    """of a result that nobody verified: R, P or F of HL7 table 0123"""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A FHIR server that gets the answer as a transaction, and how the resources are written for the server."""

    destination: str
    """name of the peer"""
    patient: str
    """identifier, conditional or create: how the resources name the patient"""
    patient_systems: tuple[tuple[str, str], ...]
    """Issuer of Patient ID, '' where none is stated, and the system of the server's identifiers"""
    accession_system: str
    report_status: str
    """of a report that nobody verified: partial, preliminary or final"""
    members: str = "observations"
    """observations or components: what the evaluations and measurements of a finding are"""
    is_test: bool = False
    """whether the resources are marked as data of a test"""


@dataclass(frozen=True, slots=True)
class DocumentContext:
    """What a document states beside the result: the installation, its software, the time.

    Result and context hold everything that the bytes of a document depend on, so a rerun makes the same bytes.
    """

    created: datetime
    """when the study was first received, on the clock of the node"""
    device_uid: UID
    """the same for the lifetime of this installation"""
    device_name: str
    software_versions: tuple[str, ...]
    configuration_hash: str
    predecessors: tuple[InstanceRef, ...] = ()
    """earlier reports that this report supersedes (Predecessor Documents Sequence)"""
    comprehensive_3d: bool = True
    states_offset: bool = False
    """whether documents of a source without an offset state the offset of `created`: the time zone is configured"""
    source_series_numbers: frozenset[int] = field(default=frozenset(), repr=False)
    """Series Numbers of the source, which no series of documents takes; no UID depends on them"""
    optional: tuple[DocumentKind, ...] = field(default=(), repr=False)
    """further kinds that some destination asks for; they change no other document, so no UID depends on them"""
    messages: tuple[MessageAddress, ...] = field(default=(), repr=False)
    """listeners that get the answer as a message; a message has UIDs of its own, so no other UID depends on them"""
    servers: tuple[ServerAddress, ...] = field(default=(), repr=False)
    """FHIR servers that get the answer as a transaction; no other UID depends on them either"""


@dataclass(frozen=True, slots=True)
class File:
    """The file of one instance."""

    path: Path
    sha256: str
    """of the data set as received: without the meta group"""
    sop_instance_uid: UID = NO_UID
    """empty where a record does not name it"""


@dataclass(frozen=True, slots=True)
class NeedsQuestion:
    """Asks a reader process what its handler needs."""


@dataclass(frozen=True, slots=True)
class PrepareQuestion:
    """Asks a reader process to load what the first reading would load; the answer is what its handler needs."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a handler needs before it can read a study."""

    weights: tuple[str, ...]
    """names in the manifests"""
    missing_packages: tuple[str, ...] = ()
    """packages of the handler that are not installed"""


@dataclass(frozen=True, slots=True)
class Request:
    """One study to read, and what its documents state beside the result."""

    study_instance_uid: UID
    files: tuple[File, ...]
    context: DocumentContext
    report_out_of_scope: bool = False
    priors: tuple[File, ...] = ()
    """files of earlier studies of the same patient"""
    locations: tuple[Location, ...] = ()
    notes: tuple[str, ...] = ()
    """sentences for the reader of the report, such as why a prior is missing"""
    refusal: str = ""
    """why nobody may read the study, whatever its images show; '' if the handler decides"""
    wanted_candidates: int = 0
    """as many candidates the handler searches where nobody pointed; 0: no search"""
    urgent: UrgentRule | None = None
    """which answer leaves before the pictures are drawn"""


@dataclass(frozen=True, slots=True)
class Reading:
    """The outcome of a request: the answer, its documents in the order of sending, result.json, the duration."""

    answer: Result | OutOfScope
    documents: tuple[Document, ...]
    summary: str
    seconds: float
    demonstration_weights: tuple[str, ...] = ()
    """names of the handler's weights that were of status `demonstration` when it answered"""
    compose_seconds: float = 0.0
    """the part of the duration in which the documents were made"""
    is_early: bool = False
    """whether this is the urgent part alone: the answer without pictures, and the messages"""


OnEarly = Callable[[Reading], None]
"""takes the urgent part of a reading, before the reading"""


def nothing_early(_: Reading) -> None:
    """Wait for the whole reading."""
