"""What an answer says as observations of a message: the report, the findings, their numbers, and a text for people."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from ainode.node.domain import RESEARCH_USE_ONLY, Code, Finding, InstanceRef, Measurement, OutOfScope, Presence, Result
from ainode.node.reports.measurement_groups import PRESENCES, with_threshold
from ainode.node.reports.text import title

# IHE RAD-128 and RAD-132 name the study so, RAD-28 the report (as an HD, which table 0125 no longer has).
_STUDY: Final = Code("113014", "DCM", "DICOM Study")
_REPORT: Final = Code("", "", "SR Instance UID")
_TEXT: Final = Code("59776-5", "LN", "Procedure findings")
_FINDING: Final = Code("121071", "DCM", "Finding")
_TRACKING: Final = Code("112039", "DCM", "Tracking Identifier")
_SITE: Final = Code("363698007", "SCT", "Finding Site")
_LATERALITY: Final = Code("272741003", "SCT", "Laterality")
# HL7 table 0078: abnormal, normal; nothing is said of what is indeterminate.
_FLAGS: Final = {Presence.PRESENT: "A", Presence.ABSENT: "N"}
# HL7 table 0085: a description of the order, no result; results cannot be obtained.
_DESCRIPTION, _NOT_OBTAINED = "O", "X"
_UNITLESS: Final = "1"


@dataclass(frozen=True, slots=True)
class Observation:
    """The fields of an OBX, not escaped yet."""

    value_type: str
    """OBX-2: CE, NM, ST or TX"""
    concept: Code
    value: tuple[str, ...]
    """components"""
    sub_id: str = ""
    """number of the finding, which its observations share; '' of what is said of the study"""
    unit: Code | None = None
    flag: str = ""
    probability: str = ""
    """of the finding, 0 to 1"""
    status: str = ""
    """of HL7 table 0085; '' is the status of the result"""


def observations(answer: Result | OutOfScope, report: InstanceRef) -> Iterator[Observation]:
    """Yield the study, the report, the text of the answer, and each finding with its numbers in the report's order."""
    yield Observation("ST", _STUDY, (report.study_instance_uid,), status=_DESCRIPTION)
    yield Observation("ST", _REPORT, (report.sop_instance_uid,), status=_DESCRIPTION)
    status = _NOT_OBTAINED if isinstance(answer, OutOfScope) else ""
    for line in _lines(answer):
        yield Observation("TX", _TEXT, (line,), status=status)
    if isinstance(answer, Result):
        for number, finding in enumerate(answer.findings, start=1):
            yield from _of_finding(finding, str(number))


def _lines(answer: Result | OutOfScope) -> Iterator[str]:
    """Yield the lines for people; the first of all says what the answer is not for."""
    yield RESEARCH_USE_ONLY
    yield title(answer)
    if isinstance(answer, OutOfScope):
        yield answer.told
    else:
        yield from answer.statements


def _of_finding(finding: Finding, sub_id: str) -> Iterator[Observation]:
    yield Observation("ST", _TRACKING, (finding.tracking_identifier,), sub_id)
    probability = f"{finding.verdict.probability:.3f}" if finding.verdict else ""
    *described, judged = finding.evaluations or (None,)
    for evaluation in described:  # the finding itself, where its verdict is about something else
        if evaluation:
            yield _presence(*evaluation, sub_id)
    if judged is None:
        yield _coded(_FINDING, finding.concept, sub_id)
    else:
        yield _presence(*judged, sub_id, probability)
    yield _coded(_SITE, finding.site, sub_id)
    if finding.laterality:
        yield _coded(_LATERALITY, finding.laterality, sub_id)
    for concept, value in finding.qualities:
        yield _coded(concept, value, sub_id)
    for measurement in with_threshold(finding):
        yield _number(measurement, sub_id)


def _presence(concept: Code, presence: Presence, sub_id: str, probability: str = "") -> Observation:
    code = PRESENCES[presence]
    value = (code.value, code.meaning, code.scheme_designator)
    return Observation("CE", concept, value, sub_id, flag=_FLAGS.get(presence, ""), probability=probability)


def _coded(concept: Code, value: Code, sub_id: str) -> Observation:
    return Observation("CE", concept, (value.value, value.meaning, value.scheme), sub_id)


def _number(measurement: Measurement, sub_id: str) -> Observation:
    """Return a measurement; an NM has no exponent (HL7 2.5.1, 2.A.47)."""
    value = format(Decimal(f"{measurement.value:.10g}"), "f")
    unit = None if measurement.unit.value == _UNITLESS else measurement.unit
    return Observation("NM", measurement.concept, (value,), sub_id, unit)
