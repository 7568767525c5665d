"""What a person says of an answer: it is accepted, changed or rejected."""

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ainode.node.domain.dicom import UID, Code, InstanceRef
from ainode.node.domain.requests import DocumentContext, DocumentKind
from ainode.node.domain.verdict import Presence

MOST_CHARACTERS = 2_000
"""of a comment"""


class Opinion(StrEnum):
    """What a person thinks of a finding, or of a whole result."""

    ACCEPT = "accept"
    CHANGE = "change"
    """something is wrong, and the person says what holds instead"""
    REJECT = "reject"
    """the finding is none"""


@dataclass(frozen=True, slots=True)
class Correction:
    """What holds instead of what the model said; what a person leaves out stays as the model said."""

    presence: Presence | None = None
    measurement: str = ""
    """name of the measurement that has another value"""
    value: float | None = None
    """in the unit of the measurement"""
    label: str = ""
    """what the finding is"""

    def __post_init__(self) -> None:
        """Refuse a value without its measurement, a measurement without a value, and numbers that are none."""
        if bool(self.measurement) != (self.value is not None):
            message = "a corrected measurement needs its name and its value"
            raise ValueError(message)
        if self.value is not None and not math.isfinite(self.value):
            message = "a corrected measurement needs a number"
            raise ValueError(message)

    def __bool__(self) -> bool:
        """Return whether anything is corrected."""
        return bool(self.presence or self.measurement or self.label)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One person's opinion of a finding, or of a whole result; a later judgement replaces it and both are kept."""

    job: str
    finding: str
    """the tracking identifier of the finding in its result; '' for the whole result"""
    opinion: Opinion
    person: str
    correction: Correction = Correction()
    reason: str = ""
    """value of a code; see `[console.codes]` in node.toml"""
    comment: str = ""
    """free text, which may name a patient: never in a log or in the audit trail"""

    def __post_init__(self) -> None:
        """Refuse a change of nothing, an acceptance with a change, and a rejection or a change without a reason."""
        if bool(self.correction) != (self.opinion is Opinion.CHANGE):
            message = "say what holds instead to change a finding, and nothing else to accept or reject it"
            raise ValueError(message)
        if self.opinion is not Opinion.ACCEPT and not self.reason:
            message = "choose a reason: a change and a rejection need one"
            raise ValueError(message)
        if len(self.comment) > MOST_CHARACTERS or len(self.correction.label) > MOST_CHARACTERS:
            message = f"the text is longer than {MOST_CHARACTERS} characters; shorten it"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class AssessmentCodes:
    """The codes of an assessment as a document: no public scheme has them, so that a site may give its own."""

    title: Code
    opinion: Code
    """the concept whose value is one of the next three"""
    accepted: Code
    changed: Code
    rejected: Code
    status: Code
    """the concept whose value is one of the next two"""
    final: Code
    amended: Code
    reason: Code
    """the concept whose value is one of `reasons`"""
    replaced_by: Code
    """the concept of what holds instead"""
    reasons: tuple[Code, ...]

    def of_opinion(self, opinion: Opinion) -> Code:
        """Return the code of an opinion."""
        return {Opinion.ACCEPT: self.accepted, Opinion.CHANGE: self.changed, Opinion.REJECT: self.rejected}[opinion]

    def of_reason(self, value: str) -> Code:
        """Return the code of a reason; a reason that is no longer in the list is its own meaning."""
        gone = Code(value, self.reason.scheme, value)
        return next((code for code in self.reasons if code.value == value), gone)


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message about a report, to a listener that is to hear of a judgement, too."""

    kind: DocumentKind
    destination: str
    uid: UID
    path: Path


@dataclass(frozen=True, slots=True)
class AssessmentRequest:
    """Everything that the bytes of an assessment depend on: the judgement, the report that it judges, the node."""

    judgement: Judgement
    statement: str
    """what the model said, in words"""
    number: int
    """of the judgement, among all of the node"""
    report: InstanceRef
    path: Path
    """file of the report"""
    context: DocumentContext
    """with the time of the judgement, and as predecessor the assessment that this assessment replaces"""
    codes: AssessmentCodes
    messages: tuple[SentMessage, ...] = ()
    """of each listener: of HL7 the message about the report, of FHIR the last transaction of the job"""
