"""What arrives: instances, series and studies as DICOM has them (PS3.3), and places in the patient.

Points are (column, row) in pixels of the source image, from the center of the top left pixel + 0.5 as
PS3.3 C.18.6.1.1 counts them: the outer corner of the first pixel is 0, 0.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NewType, TypeAlias

UID = NewType("UID", str)
UID_PATTERN = r"[0-9][0-9.]{0,63}"
"""PS3.5 9.1, and hardly stricter: leading zeros do occur, but in an address `..` is another resource"""
NO_UID = UID("")
"""stands where a source names no UID"""

SECONDARY_CAPTURES = (
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.7.1",
    "1.2.840.10008.5.1.4.1.1.7.2",
    "1.2.840.10008.5.1.4.1.1.7.3",
    "1.2.840.10008.5.1.4.1.1.7.4",
)
"""the SOP classes of pictures (PS3.4 B.5): of one frame, then of several"""

# One header value as plain Python: text, number, several of them, or sequence items.
Value: TypeAlias = "str | int | float | tuple[Value, ...] | Mapping[str, Value]"
Header: TypeAlias = Mapping[str, Value]
Point: TypeAlias = tuple[float, float]
Position: TypeAlias = tuple[float, float, float]


FARTHEST_MM = 100_000.0
"""the largest coordinate of a position; a larger number comes from a broken file or a slip of the hand"""


def is_position(numbers: Iterable[float]) -> bool:
    """Whether numbers can be the coordinates of a position: finite, and at most 100 m from the origin."""
    return all(abs(number) <= FARTHEST_MM for number in numbers)  # false for NaN


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 8.1)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """The four UIDs that refer to an instance."""

    study_instance_uid: UID
    series_instance_uid: UID
    sop_class_uid: UID
    sop_instance_uid: UID


@dataclass(frozen=True, slots=True)
class Patient:
    """The identity of a patient: the attributes that two studies, and two images of one study, must share."""

    patient_id: str = field(repr=False, default="")
    issuer: str = field(repr=False, default="")
    birth_date: str = field(repr=False, default="")
    """YYYYMMDD"""
    universal_issuer: str = field(repr=False, default="")
    """Universal Entity ID of the issuer (0010,0024)"""
    name: str = field(repr=False, default="")
    sex: str = field(repr=False, default="")
    """M, F or O"""


@dataclass(frozen=True, slots=True)
class Instance:
    """One stored instance: the path of its bytes, and its header (keyword to value)."""

    ref: InstanceRef
    transfer_syntax_uid: UID
    path: Path
    sha256: str
    size_bytes: int
    header: Header = field(repr=False, hash=False, compare=False)
    patient: Patient = field(repr=False, hash=False, compare=False, default=Patient())

    def text(self, keyword: str) -> str:
        """Return the element as text, '' where it is absent; several values are joined by a backslash."""
        value = self.header.get(keyword, "")
        return "\\".join(str(item) for item in value) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, slots=True)
class Series:
    """The instances of one series, in the order of Instance Number."""

    series_instance_uid: UID
    modality: str
    instances: tuple[Instance, ...]


CANDIDATE = "candidate"
"""the first word of the tracking identifier of what a search of the node marked"""
REQUEST, OWN_REPORT, SEARCH, OWN_SEARCH = "request", "own report", "search", "own report of a search"
"""Values of `Location.source`, beside `SR`, `SEG`, `RTSTRUCT` and `registration` (carried from another date).

Nobody pointed at what the node's own search marked, now or in an earlier report of the node.
"""


@dataclass(frozen=True, slots=True)
class Extent:
    """The size of a lesion as someone drew or measured it; None where the object does not say.

    Units: mm, mm3; the short axis is perpendicular to the long axis.
    """

    long_axis_mm: float
    short_axis_mm: float | None = None
    volume_mm3: float | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that are no sizes."""
        sizes = (self.long_axis_mm, self.short_axis_mm, self.volume_mm3)
        if not all(0 < size < FARTHEST_MM**3 for size in sizes if size is not None):
            raise ValueError(f"{sizes} are no sizes")


@dataclass(frozen=True, slots=True)
class Location:
    """A place in the patient that someone pointed at, such as the nodule to read."""

    position_mm: Position
    source: str
    """who named the location: `request`, `search`, an own report, `SR`, `SEG`, `RTSTRUCT` or `registration`"""
    frame_of_reference_uid: UID = NO_UID
    """empty where the source names no frame of reference: then the study must have a single frame of reference"""
    tracking_uid: UID = NO_UID
    """Tracking UID of the SR's measurement group; the result carries it on, so that both describe the same lesion"""
    series_instance_uid: UID = NO_UID
    """series whose images the location was drawn on; empty where the source does not say"""
    extent: Extent | None = None
    """the size of what is there, as the source gives it"""

    def __post_init__(self) -> None:
        """Refuse numbers that are no position."""
        if not is_position(self.position_mm):
            numbers = ", ".join(f"{number:g}" for number in self.position_mm)
            raise ValueError(f"{numbers} is no position: a number is not finite, or more than {FARTHEST_MM:g} mm")


@dataclass(frozen=True, slots=True)
class Study:
    """One study as the spool holds it at one moment."""

    study_instance_uid: UID
    series: tuple[Series, ...]
    sources: tuple[str, ...] = ()
    """AE titles that sent it, oldest first."""
    priors: tuple["Study", ...] = ()
    """earlier studies of the same patient, oldest first"""
    locations: tuple[Location, ...] = ()
    """locations that the request names; `imaging.positions` adds those that objects of the study name"""
    wanted_candidates: int = 0
    """as many candidates the route lets the handler search where nobody pointed; 0: no search"""

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Return every instance of every series."""
        return tuple(instance for series in self.series for instance in series.instances)


def refs(instances: Iterable[Instance]) -> tuple[InstanceRef, ...]:
    """Return the references of the instances, in their order."""
    return tuple(instance.ref for instance in instances)


def synthetic_uid(*parts: object) -> UID:
    """Return the UID of something made up: the same for the same parts (PS3.5 B.2)."""
    return UID(f"2.25.{int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:16], 'big')}")


def is_uid(text: str) -> bool:
    """Whether the text can be a UID."""
    return re.fullmatch(UID_PATTERN, text) is not None
