"""The nouns of the node: frozen, standard library only, valid once constructed.

Points are (column, row) in pixels of the source image, from the center of the top left pixel + 0.5 as
PS3.3 C.18.6.1.1 counts them (the outer corner of the first pixel is 0, 0). Times are aware datetimes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import NewType, Protocol, TypeAlias, runtime_checkable

UID = NewType("UID", str)

# One header value as plain Python: text, number, several of them, or sequence items.
Value: TypeAlias = "str | int | float | tuple[Value, ...] | Mapping[str, Value]"
Header: TypeAlias = Mapping[str, Value]
Point: TypeAlias = tuple[float, float]
Position: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 8.1)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """What a reference to an instance needs, without the instance."""

    study_instance_uid: UID
    series_instance_uid: UID
    sop_class_uid: UID
    sop_instance_uid: UID


@dataclass(frozen=True, slots=True)
class Instance:
    """One stored instance: where its bytes are and what its header says (keyword to value)."""

    ref: InstanceRef
    transfer_syntax_uid: UID
    path: Path
    sha256: str
    size_bytes: int
    header: Header = field(repr=False, hash=False, compare=False)

    def text(self, keyword: str) -> str:
        """Return the element as text, '' where it is absent; several values are joined by a backslash."""
        value = self.header.get(keyword, "")
        return "\\".join(str(one) for one in value) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, slots=True)
class Series:
    """The instances of one series, in the order of Instance Number."""

    series_instance_uid: UID
    modality: str
    instances: tuple[Instance, ...]


REQUEST, OWN_REPORT = "request", "own report"
"""sources of a location beside `SR`, `SEG`, `RTSTRUCT` and, carried from another date, `registration`"""


@dataclass(frozen=True, slots=True)
class Location:
    """A place in the patient that someone pointed at, such as the nodule to read."""

    position_mm: Position
    source: str
    """who said so"""
    frame_of_reference_uid: UID = UID("")
    """'' where the source names none: then the only one of the study is meant"""
    tracking_uid: UID = UID("")
    """of the SR's measurement group, so that the answer is of the same lesion"""
    series_instance_uid: UID = UID("")
    """of the images it was drawn on, where the source says so"""


@dataclass(frozen=True, slots=True)
class Study:
    """One study as it lies in the spool at one moment."""

    study_instance_uid: UID
    series: tuple[Series, ...]
    sources: tuple[str, ...] = ()
    """AE titles that sent it, oldest first."""
    priors: tuple["Study", ...] = ()
    """earlier studies of the same patient, oldest first"""
    locations: tuple[Location, ...] = ()
    """what the request points at; what reports in the study point at is found by `positions`"""

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Return every instance of every series."""
        return tuple(instance for series in self.series for instance in series.instances)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a handler will read, images and objects that point into them: of the study first, then its newest prior."""

    study_instance_uid: UID
    series: tuple[Series, ...]
    locations: tuple[Location, ...] = ()
    declined: Mapping[str, "OutOfScope"] = field(default_factory=dict, hash=False)
    """what else was pointed at and is not read, by name, such as `nodule 11`; and why"""

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Return every selected instance."""
        return tuple(instance for series in self.series for instance in series.instances)


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """The model is not for this study: an answer, not an error."""

    reason: str
    """a sentence: what was expected and what was found"""
    code: str
    """a short stable word for statistics, such as `wrong-body-part`"""
    evidence: tuple[InstanceRef, ...] = ()


class GraphicType(StrEnum):
    """Shape of a region on an image (PS3.3 C.18.6)."""

    POINT = "POINT"
    POLYLINE = "POLYLINE"


@dataclass(frozen=True, slots=True)
class Region:
    """Where on one image, in its own pixel grid; a closed polyline repeats its first point."""

    image: InstanceRef
    points: tuple[Point, ...]
    graphic_type: GraphicType = GraphicType.POLYLINE

    @classmethod
    def box(cls, image: InstanceRef, *, left: float, top: float, right: float, bottom: float) -> "Region":
        """Return a rectangle: top left, top right, bottom right, bottom left, top left."""
        if not (left < right and top < bottom):
            message = f"a box needs left < right and top < bottom, got {left, top, right, bottom}"
            raise ValueError(message)
        corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
        return cls(image, corners)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number with its concept, its unit and the images it was inferred from (TID 300)."""

    concept: Code
    value: float
    unit: Code
    inferred_from: tuple[InstanceRef, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement about the patient, with what it rests on (TID 1501, or 1410 with a region)."""

    tracking_identifier: str
    """deterministic within the study, such as `box 1`"""
    concept: Code
    site: Code
    measurements: tuple[Measurement, ...]
    evidence: tuple[InstanceRef, ...]
    region: Region | None = None
    label: str = ""
    """short ASCII text for the capture, such as `Osteophytes 81 %`"""
    tracking_uid: UID = UID("")
    """what others call this lesion in every study of it; '' where nobody named it: then one is made of the reading"""


@dataclass(frozen=True, slots=True)
class Saliency:
    """Where the model looked, on the grid of one image: 0 (not at all) to 255, row by row."""

    rows: int
    columns: int
    values: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a grid that does not hold its values."""
        if len(self.values) != self.rows * self.columns:
            message = f"{len(self.values)} values do not fill {self.rows} x {self.columns}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Capture:
    """A picture to draw: one source image, the saliency over it, its findings' regions, captions."""

    image: InstanceRef
    title: str
    captions: tuple[str, ...]
    saliency: Saliency | None = None
    findings: tuple[Finding, ...] = ()


class WeightsStatus(StrEnum):
    """What weights may be trusted for."""

    DEMONSTRATION = "demonstration"
    """made on synthetic studies: shows that the way works, says nothing of patients"""
    RESEARCH = "research"
    """trained on a named public set"""
    SITE = "site"
    """a site's own, under that site's responsibility"""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """Which model made a result (TID 4019, and the equipment modules)."""

    name: str
    version: str
    weights_sha256: str
    """one digest over all weight files, in the order of their names"""
    weights_status: WeightsStatus
    parameters: tuple[tuple[str, str], ...] = ()
    """threshold, input size, precision, …: name and value as text"""


@dataclass(frozen=True, slots=True)
class Result:
    """What a model says of a study; the current study's images come first in the evidence."""

    study_instance_uid: UID
    algorithm: Algorithm
    title: str
    """the task, such as `Spine radiograph`"""
    procedure: Code
    findings: tuple[Finding, ...]
    captures: tuple[Capture, ...]
    evidence: tuple[InstanceRef, ...]
    key_images: tuple[InstanceRef, ...]
    scores: Mapping[str, float] = field(default_factory=dict, hash=False)
    """every number the model gave, by name: probability, per-network probabilities, …"""
    continues: tuple[InstanceRef, ...] = ()
    """our reports of earlier studies whose lesions this one follows"""
    seconds: Mapping[str, float] = field(default_factory=dict, hash=False, compare=False)
    """what parts of the reading took, such as `register`; in no document, which a rerun must repeat byte for byte"""


@dataclass(frozen=True, slots=True)
class SyntheticImage:
    """A made-up image: pixels row by row, little-endian 16 bit gray or 8 bit RGB, and header values."""

    rows: int
    columns: int
    pixels: bytes = field(repr=False)
    header: Header = field(hash=False)
    samples: int = 1
    """1: gray, 3: RGB, interleaved"""


@dataclass(frozen=True, slots=True)
class SyntheticStudy:
    """A made-up study for demonstrations; `positions_mm` become a report that points at them (TID 1500)."""

    images: tuple[SyntheticImage, ...]
    positions_mm: tuple[Position, ...] = ()


@runtime_checkable
class Handler(Protocol):
    """Turns a study into a result: the only thing the node knows of a model."""

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return the series to read, by headers alone; loads no network."""
        ...

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return what the model says of the selection."""
        ...

    def weights(self) -> tuple[str, ...]:
        """Return the names in the weights manifest that this handler needs."""
        ...

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a synthetic study that this handler reads."""
        ...


class DocumentKind(StrEnum):
    """What leaves the node."""

    STRUCTURED_REPORT = "sr"
    SECONDARY_CAPTURE = "sc"
    PRESENTATION_STATE = "pr"
    SEGMENTATION_FRACTIONAL = "seg-fractional"
    SEGMENTATION_LABELMAP = "seg-labelmap"

    @property
    def is_optional(self) -> bool:
        """Whether only those destinations get it that ask for it; report and captures go to all."""
        return self not in {DocumentKind.STRUCTURED_REPORT, DocumentKind.SECONDARY_CAPTURE}


@dataclass(frozen=True, slots=True)
class Document:
    """One encoded DICOM object, ready to be sent byte for byte."""

    kind: DocumentKind
    ref: InstanceRef
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DocumentContext:
    """What a document needs beside the result: who made it, for which job, when.

    Everything that ends in the bytes comes in here or in the result, so that a rerun is byte-identical.
    """

    created: datetime
    """the first reception of the study, not now"""
    device_uid: UID
    """of this installation, stable"""
    device_name: str
    software_versions: tuple[str, ...]
    configuration_hash: str
    series_number_base: int = 9001
    predecessors: tuple[InstanceRef, ...] = ()
    """earlier reports that this one supersedes (Predecessor Documents Sequence)"""
    comprehensive_3d: bool = True
    optional: tuple[DocumentKind, ...] = field(default=(), repr=False)
    """what some destination wants beside report and captures; not in the repr, for it changes no other document and
    must not change their names (`reports.uids.run_digest`)"""


@dataclass(frozen=True, slots=True)
class File:
    """One instance file of a request."""

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Request:
    """One study to read, and everything that will stand in its documents beside the result."""

    study_instance_uid: UID
    files: tuple[File, ...]
    context: DocumentContext
    report_out_of_scope: bool = False
    priors: tuple[File, ...] = ()
    """instances of earlier studies of the patient"""
    locations: tuple[Location, ...] = ()
    notes: tuple[str, ...] = ()
    """what a reader of the report must know of how the inputs were found, such as why there are fewer priors"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of a request: the answer, its documents in the order of sending, result.json, the time it took."""

    answer: Result | OutOfScope
    documents: tuple[Document, ...]
    summary: str
    seconds: float


class JobState(StrEnum):
    """Where a job is."""

    WAITING = "waiting"
    READING = "reading"
    REPORTED = "reported"
    OUT_OF_SCOPE = "out_of_scope"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class DeliveryState(StrEnum):
    """Where one document is on its way to one destination."""

    WAITING = "waiting"
    SENT = "sent"
    CONFIRMED = "confirmed"
    FAILED = "failed"


def refs(instances: Iterable[Instance]) -> tuple[InstanceRef, ...]:
    """Return the references of the instances, in their order."""
    return tuple(instance.ref for instance in instances)
