"""A person's judgement as an ORU^R01 that follows the message about the report: same patient, visit and order.

OBR-25 and OBX-11 are C, corrected, of what the person changed or rejected; what a person accepted keeps its status.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from ainode.node.domain import AssessmentRequest, Code, Opinion, Presence
from ainode.node.encoding.hl7 import (
    Fields,
    Script,
    codec_in,
    control_id_of,
    field_at,
    line_of,
    segment,
    segments_of,
    with_field,
)
from ainode.node.identity import made_control_id
from ainode.node.reports.assessment import assessment_uid, sentence
from ainode.node.reports.measurement_groups import PRESENCES
from ainode.node.reports.source_header import creation_time, header_of, stated_zone

# HL7 tables 0085 and 0105: a correction; a description of the order; the comment is of another than filler and placer.
_CORRECTED, _DESCRIPTION, _OPERATOR = "C", "O", "O"
_TRACKING, _TEXT = "112039", Code("59776-5", "LN", "Procedure findings")
_FLAGS: Final = {Presence.PRESENT: "A", Presence.ABSENT: "N", Presence.INDETERMINATE: ""}
_PRESENCE_CODES: Final = frozenset(code.value for code in PRESENCES.values())


def judged_hl7(request: AssessmentRequest, content: bytes) -> bytes:
    """Return the message about a judgement; `content` is the message about the report.

    Raises: ReportError if the report cannot be read.
    """
    script = Script(codec_in(content))
    text = "".join(_segments(request, segments_of(content), script, control_id_of(content)))
    return text.encode(script.codec)


def _segments(request: AssessmentRequest, lines: Sequence[Fields], script: Script, original: str) -> Iterator[str]:
    time = _time(request)
    for fields in lines:
        name = fields[0]
        if name == "MSH":
            control_id = made_control_id(["judged", original, assessment_uid(request)])
            yield line_of(with_field(with_field(fields, 6, time), 9, control_id))
        elif name == "OBR":
            status = _status(request, field_at(fields, 25))
            yield line_of(with_field(with_field(fields, 22, time), 25, status))
            note = f"A person's assessment of the AI result in message {original}"
            yield segment("NTE", {1: "1", 2: _OPERATOR, 3: script.text(note)})
            for number, values in enumerate(_observations(request, lines, script, status), start=1):
                yield line_of(["OBX", str(number), *values[2:]])
        elif name not in {"NTE", "OBX"}:
            yield line_of(fields)


def _time(request: AssessmentRequest) -> str:
    header = header_of(request.report, {request.report.sop_instance_uid: request.path})
    time = creation_time(header, request.context)
    return time.strftime("%Y%m%d%H%M%S%z" if stated_zone(header, request.context) else "%Y%m%d%H%M%S")


def _status(request: AssessmentRequest, status: str) -> str:
    return status if request.judgement.opinion is Opinion.ACCEPT else _CORRECTED


def _observations(request: AssessmentRequest, lines: Sequence[Fields], script: Script, status: str) -> Iterator[Fields]:
    """Yield what the message is about, the judgement as a sentence and as a code, and what holds instead."""
    first = next((index for index, fields in enumerate(lines) if fields[0] == "OBR"), 0)
    count = next((index for index, fields in enumerate(lines[first + 1 :]) if fields[0] == "ORC"), len(lines))
    observations = [fields for fields in lines[first + 1 :][:count] if fields[0] == "OBX"]
    yield from (fields for fields in observations if field_at(fields, 11) == _DESCRIPTION)
    person = script.components(request.judgement.person)
    sub_id = _sub_id(request, observations, script)
    codes, judgement = request.codes, request.judgement
    opinion = codes.of_opinion(judgement.opinion)
    words = script.text(sentence(request))
    yield _observation("TX", _coded(_TEXT, script), "", words, status, person)
    yield _observation("CE", _coded(codes.opinion, script), sub_id, _coded(opinion, script), status, person)
    if judgement.reason:
        reason = _coded(codes.of_reason(judgement.reason), script)
        yield _observation("CE", _coded(codes.reason, script), sub_id, reason, status, person)
    of_finding = [fields for fields in observations if sub_id and field_at(fields, 4) == sub_id]
    yield from _corrections(request, of_finding, script, person)


def _corrections(
    request: AssessmentRequest, of_finding: Sequence[Fields], script: Script, person: str
) -> Iterator[Fields]:
    """Yield the observations of the finding that have another value now."""
    correction = request.judgement.correction
    if presence := correction.presence:
        rows = [row for row in of_finding if row[2] == "CE" and field_at(row, 5).split("^")[0] in _PRESENCE_CODES]
        code = PRESENCES[presence]
        value = script.components(code.value, code.meaning, code.scheme_designator)
        for row in rows[-1:]:  # the last is the verdict: the finding itself comes before what is said of it
            yield _observation("CE", row[3], row[4], value, _CORRECTED, person, flag=_FLAGS[presence])
    if correction.value is not None:
        name = script.text(correction.measurement)
        rows = [row for row in of_finding if row[2] == "NM" and [*field_at(row, 3).split("^"), ""][1] == name]
        for row in rows[:1]:
            value = f"{correction.value:.10g}"
            yield _observation("NM", row[3], row[4], value, _CORRECTED, person, unit=field_at(row, 6))


def _observation(  # noqa: PLR0913 - the fields of an OBX
    value_type: str, concept: str, sub_id: str, value: str, status: str, person: str, *, unit: str = "", flag: str = ""
) -> Fields:
    return ["OBX", "", value_type, concept, sub_id, value, unit, "", flag, "", "", status, "", "", "", "", person]


def _coded(code: Code, script: Script) -> str:
    return script.components(code.value, code.meaning, code.scheme)


def _sub_id(request: AssessmentRequest, observations: Sequence[Fields], script: Script) -> str:
    """Return the number that the message about the report gives the judged finding; '' of the whole result."""
    finding = script.text(request.judgement.finding)
    names = {field_at(row, 5): field_at(row, 4) for row in observations if field_at(row, 3).startswith(f"{_TRACKING}^")}
    own = (
        number for name, number in names.items() if name == finding or name.startswith((f"{finding}:", f"{finding},"))
    )
    return next(own, "") if finding else ""
