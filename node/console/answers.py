"""What the jobs of a study answered, as the page of the study shows the answers: pure, from rows and result.json."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

from markupsafe import Markup

from ainode.node.console.figures.charts import Axis, Curve, date_axis, line_chart
from ainode.node.console.measurements import ShownMeasurement, measurements_of
from ainode.node.domain import SECONDARY_CAPTURES, DeliveryState, DocumentKind, JobState, probability_text
from ainode.node.keeping.records import Delivery, Job, KeptDocument, PastJob

KIND_WORDS: Final = {
    DocumentKind.STRUCTURED_REPORT: "structured report",
    DocumentKind.SECONDARY_CAPTURE: "capture",
    DocumentKind.PRESENTATION_STATE: "presentation state",
    DocumentKind.SEGMENTATION_FRACTIONAL: "segmentation",
    DocumentKind.SEGMENTATION_LABELMAP: "segmentation (label map)",
    DocumentKind.PDF: "PDF",
    DocumentKind.ASSESSMENT: "addendum by a person",
    DocumentKind.OBJECT: "object of a program",
    DocumentKind.MESSAGE: "HL7 message",
    DocumentKind.BUNDLE: "FHIR transaction",
}
_MOST_READINGS: Final = 6
# Multi-frame Secondary Captures (PS3.4 B.5).
_SEVERAL_FRAMES: Final = frozenset(SECONDARY_CAPTURES[1:])
_SHARES: Final = (
    *("probability", "attention", "before calibration", "score", "draw", "diffusion", "classifier", "prior"),
    *("normal", "benign", "malignant", "tumor"),
)
"""words in the names of scores that are between 0 and 1"""


@dataclass(frozen=True, slots=True)
class Score:
    """A number of the model; `share` is whether the number lies between 0 and 1 by its meaning."""

    name: str
    value: float
    is_share: bool


@dataclass(frozen=True, slots=True)
class ShownDocument:
    """A document of a job, with its deliveries."""

    document: KeptDocument
    number: int
    """among the documents of its kind, from 1"""
    deliveries: tuple[Delivery, ...]

    @property
    def uid(self) -> str:
        """Return the SOP Instance UID."""
        return self.document.ref.sop_instance_uid

    @property
    def words(self) -> str:
        """Return what the document is, in words."""
        return KIND_WORDS[self.document.kind]

    @property
    def is_report(self) -> bool:
        """Return whether the document is a structured report."""
        return self.document.kind is DocumentKind.STRUCTURED_REPORT

    @property
    def is_capture(self) -> bool:
        """Return whether the document is a picture that the node drew."""
        return self.document.kind is DocumentKind.SECONDARY_CAPTURE

    @property
    def is_picture(self) -> bool:
        """Return whether the document is a picture of the node, or a Secondary Capture of a site's program."""
        is_of_program = self.document.kind is DocumentKind.OBJECT
        return self.is_capture or (is_of_program and self.document.ref.sop_class_uid in SECONDARY_CAPTURES)

    @property
    def caption(self) -> str:
        """Return what stands below the picture."""
        if self.is_capture:
            return f"Capture {self.number}"
        frame = ", its first frame" if self.document.ref.sop_class_uid in _SEVERAL_FRAMES else ""
        return f"Object {self.number} of the program, as the program drew it{frame}"

    @property
    def file_name(self) -> str:
        """Return the name that `ainode read` gives the document."""
        return f"{self.document.kind}-{self.number}{self.document.kind.suffix}"


@dataclass(frozen=True, slots=True)
class CourseRow:
    """A finding at one date."""

    study_instance_uid: str
    day: date | None
    days_before: float | None
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Course:
    """A finding at several dates: the numbers side by side, and a chart of each."""

    finding: str
    names: tuple[str, ...]
    rows: tuple[CourseRow, ...]
    charts: tuple[Markup, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of one job."""

    job: Job
    headline: str
    presence: str
    statements: tuple[str, ...]
    model: str
    weights_status: str
    lowest_weights: str
    """the weights of that status, where the others have a better status"""
    weights_sha256: str
    software: str
    scores: tuple[Score, ...]
    documents: tuple[ShownDocument, ...]
    measurements: tuple[ShownMeasurement, ...] = ()
    courses: tuple[Course, ...] = ()
    not_for: tuple[str, ...] = ()
    known_limits: tuple[str, ...] = ()
    is_refusal: bool = False
    refusal_code: str = ""
    deliveries: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)
    leftovers: Mapping[str, str] = field(default_factory=dict)
    """of a withdrawn answer: what each archive still has, in words"""

    @property
    def reports(self) -> tuple[ShownDocument, ...]:
        """Return the structured reports."""
        return tuple(document for document in self.documents if document.is_report)

    @property
    def has_messages(self) -> bool:
        """Return whether messages for listeners are among the documents."""
        return any(document.document.kind.is_message for document in self.documents)

    @property
    def has_deliveries(self) -> bool:
        """Return whether a document of the answer was meant for a destination."""
        return any(document.deliveries for document in self.documents)

    @property
    def places(self) -> tuple[str, ...]:
        """Return the destinations that took a document of the answer."""
        taken = {DeliveryState.SENT, DeliveryState.CONFIRMED}
        return tuple(name for name, (state, confirmed, _) in self.deliveries.items() if confirmed or state in taken)

    @property
    def captures(self) -> tuple[ShownDocument, ...]:
        """Return the pictures."""
        return tuple(document for document in self.documents if document.is_picture)


def headline(result: str, reason: str = "") -> str:
    """Return the strongest verdict of a result.json in words; without a verdict, its first score, or the reason."""
    values = json.loads(result) if result else {}
    sentence = (values.get("verdict") or {}).get("headline")
    if sentence or reason:
        return str(sentence or reason)
    return ", ".join(
        f"{name} {probability_text(value, 3)}" for name, value in list(values.get("scores", {}).items())[:1]
    )


def answer_of(
    job: Job, documents: Sequence[KeptDocument], deliveries: Sequence[Delivery], day: date | None = None
) -> Answer:
    """Return the answer of a job; `day` is the Study Date, where it is known and may be shown."""
    values: Mapping[str, Any] = json.loads(job.result) if job.result else {}
    algorithm: Mapping[str, Any] = values.get("algorithm") or {}
    verdict: Mapping[str, Any] = values.get("verdict") or {}
    refusal: Mapping[str, Any] = values.get("out_of_scope") or {}
    return Answer(
        job=job,
        # Of a withdrawn answer the reason stands beside it.
        headline=headline(job.result, "" if job.withdrawn_at and job.result else job.reason),
        presence=verdict.get("presence") or "",
        statements=tuple(verdict.get("statements", ())),
        model=f"{algorithm.get('name', '')} {algorithm.get('version', '')}".strip(),
        weights_status=(status := algorithm.get("weights_status", "")),
        lowest_weights=algorithm.get("parameters", {}).get(f"{status} weights", ""),
        weights_sha256=algorithm.get("weights_sha256", ""),
        software=", ".join(values.get("software", ())),
        scores=tuple(_score(name, value) for name, value in values.get("scores", {}).items()),
        documents=_shown(documents, deliveries),
        measurements=measurements_of(values.get("findings", ())),
        courses=_courses(values.get("course", ()), day),
        not_for=tuple(algorithm.get("not_for", ())),
        known_limits=tuple(algorithm.get("known_limits", ())),
        is_refusal=bool(refusal) or job.state is JobState.OUT_OF_SCOPE,
        refusal_code=refusal.get("code", ""),
        deliveries=_by_destination(deliveries),
    )


def _score(name: str, value: float) -> Score:
    return Score(name, value, 0 <= value <= 1 and any(word in name for word in _SHARES))


def _shown(documents: Sequence[KeptDocument], deliveries: Sequence[Delivery]) -> tuple[ShownDocument, ...]:
    counts = dict.fromkeys(DocumentKind, 0)
    shown = []
    for document in documents:
        counts[document.kind] += 1
        uid = document.ref.sop_instance_uid
        own_deliveries = tuple(delivery for delivery in deliveries if delivery.document.ref.sop_instance_uid == uid)
        shown.append(ShownDocument(document, counts[document.kind], own_deliveries))
    return tuple(shown)


def _by_destination(deliveries: Sequence[Delivery]) -> dict[str, tuple[str, int, int]]:
    """Return the least state of what the reading made at each destination, and how many documents are confirmed.

    Messages that a later one replaced are none that a destination has, or waits for.
    An addendum that does not arrive makes no report undelivered; its state stands with the judgement.
    """
    order = [*(DeliveryState.FAILED, DeliveryState.WAITING, DeliveryState.CHECKING, DeliveryState.SENT)]
    states: dict[str, list[DeliveryState]] = {}
    for delivery in deliveries:
        if delivery.document.kind is not DocumentKind.ASSESSMENT and not delivery.is_replaced:
            states.setdefault(delivery.destination, []).append(delivery.state)
    return {
        destination: (
            next((state for state in order if state in group), DeliveryState.CONFIRMED),
            group.count(DeliveryState.CONFIRMED),
            len(group),
        )
        for destination, group in states.items()
    }


def _courses(time_points: Sequence[Mapping[str, Any]], day: date | None) -> tuple[Course, ...]:
    """Return the findings that were seen at several dates."""
    by_finding: dict[str, list[Mapping[str, Any]]] = {}
    for time_point in time_points:
        by_finding.setdefault(time_point["finding"], []).append(time_point)
    return tuple(_course(name, group, day) for name, group in by_finding.items() if len(group) > 1)


def _course(finding: str, time_points: Sequence[Mapping[str, Any]], day: date | None) -> Course:
    rows = tuple(
        CourseRow(item["study_instance_uid"], _day(day, item["days_before"]), item["days_before"], item["values"])
        for item in time_points
    )
    names = tuple(dict.fromkeys(name for row in rows for name in row.values))
    is_dated = all(row.days_before is not None for row in rows)
    charts = tuple(_chart(finding, name, rows) for name in names) if is_dated else ()
    return Course(finding, names, rows, tuple(chart for chart in charts if chart))


def _day(day: date | None, days_before: float | None) -> date | None:
    return None if day is None or days_before is None else day - timedelta(days=days_before)


def _chart(finding: str, name: str, rows: Sequence[CourseRow]) -> Markup:
    """Return a number of a finding over its dates, '' for a number that a single date has."""
    shown = [row for row in rows if name in row.values]
    if len(shown) < 2:  # noqa: PLR2004 - a line needs two ends
        return Markup("")
    days = [row.day for row in rows if row.day]
    if len(days) == len(rows):
        axis = date_axis("date of the study", days)
        points = tuple((float(row.day.toordinal()), row.values[name]) for row in shown if row.day)
    else:
        ticks = _days_before_ticks(rows)
        axis = Axis("days before this study", min(ticks)[0], max(ticks)[0], ticks)
        points = tuple((-(row.days_before or 0.0), row.values[name]) for row in shown)
    return line_chart(f"{finding}: {name}", [Curve(name, points, is_marked=True)], axis, Axis(name, low=0.0))


def _days_before_ticks(rows: Sequence[CourseRow]) -> tuple[tuple[float, str], ...]:
    return tuple((-(row.days_before or 0.0), f"{row.days_before or 0:.0f}") for row in rows)


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """The scores of one route in the readings of a study, the oldest reading first."""

    route: str
    times: tuple[datetime, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


def score_tables(readings: Sequence[Job | PastJob]) -> tuple[ScoreTable, ...]:
    """Return the scores of each route that read a study more than once; of many readings, the newest."""
    by_route: dict[str, list[tuple[datetime, Mapping[str, float]]]] = {}
    for reading in sorted(readings, key=lambda reading: reading.queued_at):
        scores = json.loads(reading.result).get("scores", {}) if reading.result else {}
        if scores:
            by_route.setdefault(reading.route, []).append((reading.queued_at, scores))
    return tuple(_score_table(route, group[-_MOST_READINGS:]) for route, group in by_route.items() if len(group) > 1)


def _score_table(route: str, group: Sequence[tuple[datetime, Mapping[str, float]]]) -> ScoreTable:
    names = dict.fromkeys(name for _, scores in group for name in scores)
    rows = tuple((name, tuple(scores.get(name) for _, scores in group)) for name in names)
    return ScoreTable(route, tuple(time for time, _ in group), rows)
