"""What was told before: corrected where a later reading says something else, withdrawn where none has a result.

A study is read again when an image comes late, and after a kill between an urgent answer and its documents, where a
model that is not deterministic may answer otherwise. Who was told of the first answer is told of the second.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from ainode.node.domain import DocumentKind
from ainode.node.encoding.fhir import Json, entries_of, instant, transaction, update
from ainode.node.encoding.hl7 import (
    Fields,
    Script,
    codec_in,
    control_id_of,
    field_at,
    fields_of,
    line_of,
    segment,
    segments_of,
    with_field,
)
from ainode.node.identity import made_control_id

# HL7 table 0085: a correction; results cannot be obtained; a description of the order; posted as wrong; deleted.
_CORRECTED, _NONE, _DESCRIPTION, _WRONG, _DELETED = "C", "X", "O", "W", "D"
# HL7 table 0105: the comment is of another than filler and placer.
_OPERATOR: Final = "O"
_STATUS_OF_OBR, _STATUS_OF_OBX = 25, 11
# By segment: the time of the message, and that of the last change of status, as places behind its name.
_TIMES: Final = {"MSH": 6, "OBR": 22}
# FHIR R4: Observation.status and DiagnosticReport.status have these words: an error was corrected; changed, such as by
# new images; withdrawn after its release.
_FHIR_CORRECTED: Final = {"final": "corrected"}
_FHIR_AMENDED: Final = {"final": "amended"}
_FHIR_WRONG: Final = "entered-in-error"
_STATED: Final = frozenset({"Observation", "DiagnosticReport"})


def corrected(kind: DocumentKind, content: bytes, earlier: bytes) -> bytes:
    """Return a message that says what it corrects; `earlier` is the message that the listener was told before."""
    return _corrected_bundle(content, earlier) if kind is DocumentKind.BUNDLE else _corrected_hl7(content, earlier)


def withdrawn(kind: DocumentKind, earlier: bytes, reason: str, after: timedelta = timedelta()) -> bytes | None:
    """Return the message that takes back an earlier one so much later; None where the earlier one has no result."""
    take_back = _withdrawn_bundle if kind is DocumentKind.BUNDLE else _withdrawn_hl7
    return take_back(earlier, reason, after)


def _corrected_hl7(content: bytes, earlier: bytes) -> bytes:
    note = f"Corrects the AI result in message {control_id_of(earlier)}: the study was read again, this answer holds"
    script = Script(codec_in(content))
    segments = _with_deletions(segments_of(content), segments_of(earlier), script)
    return _rewritten(segments, script, earlier, note, (_CORRECTED, _CORRECTED))


def _withdrawn_hl7(earlier: bytes, reason: str, after: timedelta) -> bytes | None:
    orders = (fields for fields in segments_of(earlier) if fields[0] == "OBR")
    if all(field_at(fields, _STATUS_OF_OBR) == _NONE for fields in orders):
        return None
    note = f"Withdrawn: the AI result in message {control_id_of(earlier)} does not hold; {reason}"
    script = Script(codec_in(earlier))
    segments = [_later(fields, after) for fields in segments_of(earlier)]
    return _rewritten(segments, script, earlier, note, (_NONE, _WRONG))


def _later(fields: Fields, after: timedelta) -> Fields:
    """Return a segment whose time is so much later, on the same clock."""
    place = _TIMES.get(fields[0], 0)
    time = field_at(fields, place) if place else ""
    if not time:
        return fields
    form = "%Y%m%d%H%M%S%z" if len(time) > len("YYYYMMDDHHMMSS") else "%Y%m%d%H%M%S"
    later = datetime.strptime(time, form) + after  # noqa: DTZ007 - a message may state no offset
    return with_field(fields, place, later.strftime(form))


def _with_deletions(segments: Sequence[Fields], earlier: Sequence[Fields], script: Script) -> Iterator[Fields]:
    """Yield the segments, and behind the observations of each order what was told of the order and is said no more.

    Who merges by OBX-3 and OBX-4 would keep it. What an earlier message deleted is deleted again, for nobody knows
    which of the messages arrived. A deletion has no value: who does not look at OBX-11 shows nothing.
    """
    former_orders = {order: _observations(group) for order, group in _orders(earlier)}
    for order, group in _orders(segments):
        yield from group
        current = _observations(group)
        gone = {
            key: fields
            for key, fields in former_orders.get(order, {}).items()
            if key not in current and field_at(fields, _STATUS_OF_OBX) not in {_NONE, _DESCRIPTION}
        }
        count = sum(fields[0] == "OBX" for fields in group)
        for number, ((concept, sub_id), fields) in enumerate(gone.items(), start=count + 1):
            deletion = {1: str(number), 2: fields[2], 3: script.fitting(concept), 4: sub_id, _STATUS_OF_OBX: _DELETED}
            yield fields_of(segment("OBX", deletion))


def _orders(segments: Sequence[Fields]) -> Iterator[tuple[tuple[str, ...], list[Fields]]]:
    """Yield the segments in groups: those before the first order, then those of each, with its two numbers."""
    order, group = tuple[str, ...](), list[Fields]()
    for fields in segments:
        if fields[0] == "ORC":
            yield order, group
            order, group = (field_at(fields, 2), field_at(fields, 3)), []
        group.append(fields)
    yield order, group


def _observations(group: Sequence[Fields]) -> Mapping[tuple[str, str], Fields]:
    """Return the observations of an order by OBX-3 and OBX-4."""
    return {(field_at(fields, 3), field_at(fields, 4)): fields for fields in group if fields[0] == "OBX"}


def _rewritten(segments: Iterable[Fields], script: Script, earlier: bytes, note: str, states: tuple[str, str]) -> bytes:
    """Return a message with another control id, a note, and these states of OBR and OBX."""
    whole = list(segments)
    content = "".join(map(line_of, whole)).encode(script.codec)
    control_id = made_control_id(["takes the place of", control_id_of(earlier), note, content.hex()])
    text = "".join(_lines(whole, {2: _OPERATOR, 3: script.text(note)}, control_id, states))
    return text.encode(script.codec)


def _lines(segments: Sequence[Fields], note: dict[int, str], control_id: str, states: tuple[str, str]) -> Iterator[str]:
    """Yield the segments, with the note behind the other notes of each order."""
    result, observation = states
    note_count, is_noted = 0, True
    for fields in segments:
        name = fields[0]
        if name == "MSH":
            yield line_of(with_field(fields, 9, control_id))
        elif name == "OBR":
            note_count, is_noted = 0, False
            yield line_of(_with_status(fields, _STATUS_OF_OBR, result))
        elif name == "OBX":
            if not is_noted:
                yield segment("NTE", {1: str(note_count + 1), **note})
                is_noted = True
            yield line_of(_with_status(fields, _STATUS_OF_OBX, observation))
        else:
            note_count += name == "NTE"
            yield line_of(fields)


def _with_status(fields: Fields, number: int, status: str) -> Fields:
    """Return a segment with another status, unless it has no result, deletes one or only describes the order."""
    is_statement = field_at(fields, number) not in {_NONE, _DESCRIPTION, _DELETED}
    return with_field(fields, number, status) if is_statement else fields


def _corrected_bundle(content: bytes, earlier: bytes) -> bytes:
    """Return a transaction that puts each statement in the place of a former one, and withdraws the others.

    A former observation of the same thing at the same site is the same resource, changed, as the report is: two for
    each finding would be more entries than some servers take, and who searches would find both.
    """
    former_entries = entries_of(earlier)
    statements = [entry for entry in former_entries if _is_statement(entry)]
    formers = _formers(entries_of(content), statements)
    entries = [
        _in_place_of(former, entry) if (former := formers.get(entry["fullUrl"])) else _put(entry, {})
        for entry in entries_of(content)
    ]
    places = {former["fullUrl"]: url for url, former in formers.items()}
    gone = [entry for entry in statements if entry["fullUrl"] not in places]
    others = [entry for entry in former_entries if not _is_statement(entry)]
    return transaction([*(_withdrawals(gone, others, entries, places) if gone else ()), *entries])


def _formers(entries: Sequence[Json], former_statements: Sequence[Json]) -> dict[str, Json]:
    """Return the former statement whose place an entry takes, by the entry's URL: its own, else one about the same.

    Each entry with a former statement of its own has it before any other entry may take it for one about the same:
    two updates of one resource are refused by some servers, and others keep one of the two.
    """
    formers, left = dict[str, Json](), list(former_statements)
    statements = [entry for entry in entries if _is_statement(entry)]
    for fits in (_is_own, _is_alike):
        for entry in statements:
            former = next((each for each in left if fits(each, entry)), None)
            if former and entry["fullUrl"] not in formers:
                formers[entry["fullUrl"]] = former
                left.remove(former)
    return formers


def _is_own(former: Json, entry: Json) -> bool:
    return bool(former["fullUrl"] == entry["fullUrl"])


def _is_alike(former: Json, entry: Json) -> bool:
    return former["resource"]["status"] != _FHIR_WRONG and _subject_of(former) == _subject_of(entry)


def _subject_of(statement: Json) -> tuple[str, object, object]:
    """Return what a statement is about: the only report, or what is observed at which site."""
    resource = statement["resource"]
    if resource["resourceType"] == "DiagnosticReport":
        return "DiagnosticReport", None, None
    return "Observation", resource["code"].get("coding"), resource.get("bodySite")


def _in_place_of(former: Json, entry: Json) -> Json:
    """Return the entry of a statement in the place of a former one, whose identifiers stay with the resource as old.

    The server may lack any of the transactions before: all of them agree on the oldest identifier.
    """
    resource, former_identifiers = entry["resource"], former["resource"]["identifier"]
    own = resource["identifier"][0]
    is_same = own["value"] == former_identifiers[0]["value"]
    old = [{"use": "old", **each} for each in former_identifiers if each["value"] != own["value"]]
    status = _changed(resource["status"], _FHIR_CORRECTED if is_same else _FHIR_AMENDED)
    changed = {**resource, "identifier": [own, *old], "status": status}
    return update(entry["fullUrl"], changed, former_identifiers[-1])


def _withdrawals(
    gone: Sequence[Json], others: Sequence[Json], entries: Sequence[Json], places: Mapping[str, str]
) -> list[Json]:
    """Return the entries of statements that nobody makes any more, and of the other resources that they refer to.

    What both transactions create, such as the study, has one entry: a server may refuse two with one condition.
    """
    created = {_creation(entry): entry["fullUrl"] for entry in entries if not _is_statement(entry)}
    twins = {entry["fullUrl"]: created[_creation(entry)] for entry in others if _creation(entry) in created}
    lacking = [entry for entry in others if entry["fullUrl"] not in twins]
    text = json.dumps([*lacking, *(_put(entry, _FHIR_WRONG) for entry in gone)])
    for former_url, url in {**places, **twins}.items():
        text = text.replace(former_url, url)
    withdrawn_entries: list[Json] = json.loads(text)
    return withdrawn_entries


def _creation(entry: Json) -> tuple[str, str]:
    return entry["request"]["url"], entry["request"].get("ifNoneExist", "")


def _withdrawn_bundle(earlier: bytes, reason: str, after: timedelta) -> bytes | None:
    entries = entries_of(earlier)
    if entries[-1]["resource"]["status"] in {_FHIR_WRONG, "cancelled"}:
        return None
    *wrong, report = [_put(_issued_later(entry, after), _FHIR_WRONG) for entry in entries]
    resource = report["resource"]
    words = f"Withdrawn: the result does not hold; {reason}\n{resource.get('conclusion', '')}".strip()
    return transaction([*wrong, {**report, "resource": {**resource, "conclusion": words}}])


def _issued_later(entry: Json, after: timedelta) -> Json:
    issued = entry["resource"].get("issued")
    if not issued:
        return entry
    resource = {**entry["resource"], "issued": instant(datetime.fromisoformat(issued) + after)}
    return {**entry, "resource": resource}


def _put(entry: Json, status: str | dict[str, str]) -> Json:
    """Return the entry of a statement in the place of the one with its identifier, with a status; others stay."""
    if not _is_statement(entry):
        return entry
    resource = {**entry["resource"], "status": _changed(entry["resource"]["status"], status)}
    if entry["request"]["method"] == "PUT":
        return {**entry, "resource": resource}
    return update(entry["fullUrl"], resource, resource["identifier"][0])


def _changed(status: str, changes: str | dict[str, str]) -> str:
    return changes if isinstance(changes, str) else changes.get(status, status)


def _is_statement(entry: Json) -> bool:
    return entry["resource"]["resourceType"] in _STATED
