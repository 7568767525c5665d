"""What a model says of a study: findings, measurements, regions, pictures; or why it says nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ainode.node.domain.dicom import NO_UID, UID, Code, InstanceRef, Point, Position
from ainode.node.domain.verdict import Presence, Verdict

RESEARCH_USE_ONLY: Final = "RESEARCH USE ONLY. Not for diagnosis. Preliminary and unverified."
"""what every form of an answer says first"""


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """The answer that the model is not for this study; it is no error."""

    reason: str
    """a sentence: what the model expects, and what the study holds"""
    code: str
    """a short stable word for statistics, such as `wrong-body-part`"""
    evidence: tuple[InstanceRef, ...] = ()
    words: str = ""
    """the reason as documents tell it, which name a series by its number and not by its UID; '' is the reason"""

    @property
    def told(self) -> str:
        """Return the reason for people who read a document."""
        return self.words or self.reason


class GraphicType(StrEnum):
    """Shape of a region on an image (PS3.3 C.18.6)."""

    POINT = "POINT"
    POLYLINE = "POLYLINE"


@dataclass(frozen=True, slots=True)
class Region:
    """A shape on one image, in the pixel grid of that image; a closed polyline repeats its first point."""

    image: InstanceRef
    points: tuple[Point, ...]
    graphic_type: GraphicType = GraphicType.POLYLINE
    frame: int | None = None
    """the number of the frame, from 1; None on an image of one frame"""

    @classmethod
    def box(
        cls, image: InstanceRef, *, left: float, top: float, right: float, bottom: float, frame: int | None = None
    ) -> "Region":
        """Return a rectangle: top left, top right, bottom right, bottom left, top left."""
        if not (left < right and top < bottom):
            message = f"a box needs left < right and top < bottom, got {left, top, right, bottom}"
            raise ValueError(message)
        corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
        return cls(image, corners, frame=frame)


@dataclass(frozen=True, slots=True)
class Outline:
    """Contours around something in the patient, each in a plane and closed, one around each piece (PS3.3 C.18.9).

    Units: mm; points (x, y, z) in LPS.
    """

    frame_of_reference_uid: UID
    series_instance_uid: UID
    """the series that the outline was found in"""
    contours: tuple[tuple[Position, ...], ...] = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse contours that enclose no volume."""
        if len(self.contours) < 2 or any(len(set(contour)) < 3 for contour in self.contours):  # noqa: PLR2004
            message = "an outline needs two contours of three points"
            raise ValueError(message)
        if any(contour[0] != contour[-1] for contour in self.contours):
            message = "a contour repeats its first point"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number with its concept, its unit and the images from which it was inferred (TID 300)."""

    concept: Code
    value: float
    unit: Code
    inferred_from: tuple[InstanceRef, ...]
    of_outline: bool = False
    """whether the number was measured on the outline of the finding"""
    place: str = ""
    """where, for people, if not the whole of the finding was measured, such as `slice 12 of 40`"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement about the patient, and the images that it rests on (TID 1501; TID 1410 with a region)."""

    tracking_identifier: str
    """deterministic within the study, such as `box 1`"""
    concept: Code
    site: Code
    measurements: tuple[Measurement, ...]
    evidence: tuple[InstanceRef, ...]
    region: Region | None = None
    label: str = ""
    """short ASCII text for the capture, such as `Osteophytes 81 %`"""
    tracking_uid: UID = NO_UID
    """Tracking UID of the lesion in earlier studies; empty: the report derives a UID from the reading"""
    verdict: Verdict | None = None
    """whether the finding is there, by the model's threshold; the first measurement is the verdict's probability"""
    laterality: Code | None = None
    """the side of the site"""
    outline: Outline | None = None
    qualities: tuple[tuple[Code, Code], ...] = ()
    """what is said of the finding in codes: concept and value, such as density and solid"""
    is_candidate: bool = False
    """whether a search of the node marked it and nobody pointed at it: then its presence is not certain"""

    @property
    def presence(self) -> Presence | None:
        """Return the verdict; a candidate without a verdict is indeterminate, another finding is stated as it is."""
        if self.verdict:
            return self.verdict.presence
        return Presence.INDETERMINATE if self.is_candidate else None

    @property
    def evaluations(self) -> tuple[tuple[Code, Presence], ...]:
        """Return what is evaluated, and its presence: the finding, then what else the verdict is about."""
        if self.verdict is None:
            return ((self.concept, self.presence),) if self.presence else ()
        if self.verdict.about is None:
            return ((self.concept, self.verdict.presence),)
        presence = Presence.INDETERMINATE if self.is_candidate else Presence.PRESENT
        return (self.concept, presence), (self.verdict.about, self.verdict.presence)

    @property
    def conclusion(self) -> str:
        """Return name and verdict: `pneumonia: absent`, `nodule 1, malignant: absent`; the name where no verdict is.

        A name that has what is judged as a word says it once. Of a candidate without a verdict it is
        `region 1: indeterminate`.
        """
        if self.verdict is None:
            return f"{self.tracking_identifier}: {self.presence}" if self.presence else self.tracking_identifier
        about = self.verdict.about.meaning.lower() if self.verdict.about else ""
        is_named = about in ("", *self.tracking_identifier.lower().split())
        subject = self.tracking_identifier if is_named else f"{self.tracking_identifier}, {about}"
        return f"{subject}: {self.verdict.presence}"

    @property
    def statement(self) -> str:
        """Return the verdict in words, such as `pneumonia: absent, 0.12, threshold 0.35`; empty without a verdict.

        Of a candidate without a verdict it says that there is no probability.
        """
        if self.verdict is None:
            return f"{self.conclusion}, a candidate without a verdict" if self.presence else ""
        return f"{self.conclusion}, {self.verdict.numbers}"


@dataclass(frozen=True, slots=True)
class Saliency:
    """How much each pixel of one image contributed: 0 (nothing) to 255, row by row."""

    rows: int
    columns: int
    values: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a grid that does not hold its values."""
        if len(self.values) != self.rows * self.columns:
            message = f"{len(self.values)} values do not fill {self.rows} x {self.columns}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Window:
    """The modality values that a picture shows from black to white, such as those of the lung in HU (PS3.3 C.11.2)."""

    center: float
    width: float

    def __post_init__(self) -> None:
        """Refuse a window without gray values."""
        if not self.width > 1:
            message = f"a window of width {self.width} shows no gray values"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Capture:
    """A picture to draw: a source image with saliency, regions of findings and captions."""

    image: InstanceRef
    title: str
    captions: tuple[str, ...]
    saliency: Saliency | None = None
    findings: tuple[Finding, ...] = ()
    """findings whose regions are drawn"""
    subject: Finding | None = None
    """the finding that the picture is about; the picture says its verdict first"""
    beside: tuple[Finding, ...] = ()
    """other findings with a verdict on the same image, which the picture says as well"""
    inset: Finding | None = None
    """a small finding whose surroundings are shown magnified beside the whole image"""
    window: Window | None = None
    """the gray values that the picture shows; None: as the image says"""
    frame: int | None = None
    """the number of the frame, from 1; None on an image of one frame"""


@dataclass(frozen=True, slots=True)
class Segment:
    """What a model outlined on images, by its codes (PS3.3 C.8.20.4)."""

    label: str
    category: Code
    kind: Code
    finding: str = ""
    """tracking identifier of the finding that is outlined; then report and segmentation track one lesion"""


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Which segment each pixel of an image belongs to, row by row: 0 to none, 1 to the first segment."""

    image: InstanceRef
    rows: int
    columns: int
    labels: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a grid that does not hold its labels."""
        if len(self.labels) != self.rows * self.columns:
            message = f"{len(self.labels)} labels do not fill {self.rows} x {self.columns}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Segmented:
    """Segments on the images of the current study; a pixel belongs to one segment at most.

    The rule of sizes: what a handler says of the size of a segment it counts on these pixels, so that a reader who
    counts them in the segmentation finds the number of the report.
    """

    name: str
    """Content Label: capitals, digits, spaces and underscores, 16 at most (CS)"""
    segments: tuple[Segment, ...]
    maps: tuple[LabelMap, ...]
    slice_distance_mm: float | None = None
    """from the center of a slice to that of the next one, of the slices that were looked at, marked or not; None of
    images that stand for themselves, and of slices at uneven distances"""


class WeightsStatus(StrEnum):
    """How far weights may be trusted."""

    DEMONSTRATION = "demonstration"
    """synthetic studies, a shortcut as good, or a second source that contradicts: they show that the node works"""
    RESEARCH = "research"
    """trained on a named public set: on the set's own test part the lower bound of the interval lies above every
    shortcut baseline, and no second source contradicts the weights"""
    SITE = "site"
    """a site's own, under that site's responsibility"""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The model that made a result (TID 4019, and the equipment modules)."""

    name: str
    version: str
    weights_sha256: str
    """digest over the sha256 of every weight file, in the order of their names"""
    weights_status: WeightsStatus
    parameters: tuple[tuple[str, str], ...] = ()
    """name and value as text: threshold, input size, precision, …"""
    not_for: tuple[str, ...] = ()
    """what the model is not for, in short words"""
    known_limits: tuple[str, ...] = ()
    """what was seen to go wrong, in short words"""


@dataclass(frozen=True, slots=True)
class TimePoint:
    """What was measured of one finding at one of several dates."""

    finding: str
    """the finding's tracking identifier"""
    study_instance_uid: UID
    days_before: float | None
    """days before the current study; None where a study has no date"""
    values: Mapping[str, float] = field(default_factory=dict, hash=False)
    """numbers by name and unit, such as `diameter in mm`"""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A ready-made DICOM object beside a result, as a site's program wrote it; the node checks it before it leaves."""

    content: bytes = field(repr=False)
    """a whole Part 10 file"""
    kinds: tuple[str, ...]
    """what the program may make: `SR`, `SC`, `SEG`, `GSPS`, `PDF`, or the UID of another SOP class"""


@dataclass(frozen=True, slots=True)
class Result:
    """The answer of a model on a study; evidence begins with the images of the current study."""

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
    """every number of the model by name: probability, probability of each network, …"""
    continues: tuple[InstanceRef, ...] = ()
    """reports of this node on earlier studies, whose lesions this result follows"""
    seconds: Mapping[str, float] = field(default_factory=dict, hash=False, compare=False)
    """duration of each part of the reading, such as `register`; no document states it, a rerun repeats their bytes"""
    course: tuple[TimePoint, ...] = ()
    """each finding at each date, the oldest first; the documents state what of it is a measurement of a finding"""
    summary: str = ""
    """what was measured, in a sentence, where nothing is judged: such as `largest curve 42 degrees, T5 to T11`"""
    segmented: Segmented | None = field(default=None, repr=False, hash=False, compare=False)
    """what was outlined on the images of the current study, for destinations that ask for segmentations"""
    attachments: tuple[Attachment, ...] = field(default=(), repr=False, hash=False, compare=False)
    """objects that go with the report to every archive; a reading that has made its documents keeps none of them"""

    @property
    def presence(self) -> Presence | None:
        """Return the strongest verdict: present, else indeterminate, else absent; None without a verdict.

        A candidate without a verdict is indeterminate.
        """
        answers = {finding.presence for finding in self.findings}
        order = (Presence.PRESENT, Presence.INDETERMINATE, Presence.ABSENT)
        return next((presence for presence in order if presence in answers), None)

    @property
    def leading(self) -> tuple[Finding, Verdict] | None:
        """Return the finding with the strongest verdict, None without a verdict.

        Of several that say the same it is the most probable; verdicts on whole images come before those on places in
        them, whose probability is of something else.
        """
        verdicts = [(finding, finding.verdict) for finding in self.findings if finding.verdict]
        judged = [(finding, verdict) for finding, verdict in verdicts if verdict.presence is self.presence]
        return max(judged, key=lambda pair: (pair[0].region is None, pair[1].probability), default=None)

    @property
    def headline(self) -> str:
        """Return the strongest verdict in words, else that of the first candidate, else what was measured."""
        return self.leading[0].statement if self.leading else next(iter(self.statements), "")

    @property
    def statements(self) -> tuple[str, ...]:
        """Return every verdict in words, in the order of the findings; without a verdict, what was measured."""
        verdicts = tuple(finding.statement for finding in self.findings if finding.presence)
        return verdicts or ((self.summary,) if self.summary else ())
