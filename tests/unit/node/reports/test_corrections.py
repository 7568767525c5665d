"""What a correction does to the transaction of before: nothing that is no longer said stays as it was."""

import json
from datetime import timedelta
from typing import Any

import pytest

from ainode.node.domain import DocumentKind
from ainode.node.reports.corrections import corrected, withdrawn


def entry(kind: str, name: str, status: str = "final") -> dict[str, Any]:
    identifier = [{"system": "urn:dicom:uid", "value": f"urn:oid:2.25.{name}"}]
    code = {"coding": [{"code": f"about {name}"}]}
    resource = {"resourceType": kind, "identifier": identifier, "status": status, "code": code}
    return {"fullUrl": f"urn:uuid:{name}", "resource": resource, "request": {"method": "POST", "url": kind}}


def bundle(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}).encode()


def requests(content: bytes | None) -> dict[str, tuple[str, str]]:
    assert content
    entries = json.loads(content)["entry"]
    return {each["fullUrl"][9:]: (each["request"]["method"], each["resource"]["status"]) for each in entries}


REPORT, STUDY = entry("DiagnosticReport", "9"), entry("ImagingStudy", "1", "available")


def test_a_finding_that_is_no_more_is_marked_as_wrong_and_what_is_still_said_is_put_in_its_place() -> None:
    before = bundle(STUDY, entry("Observation", "2"), entry("Observation", "3"), REPORT)
    now = bundle(STUDY, entry("Observation", "2"), entry("Observation", "4", "preliminary"), REPORT)
    content = corrected(DocumentKind.BUNDLE, now, before)
    assert requests(content) == {
        "1": ("POST", "available"),
        "2": ("PUT", "corrected"),
        "3": ("PUT", "entered-in-error"),
        "4": ("PUT", "preliminary"),
        "9": ("PUT", "corrected"),
    }
    *_, report = json.loads(content)["entry"]
    assert report["request"]["url"] == "DiagnosticReport?identifier=urn%3Adicom%3Auid%7Curn%3Aoid%3A2.25.9"


def test_a_withdrawal_marks_every_statement_as_wrong_once_and_says_why() -> None:
    report = entry("DiagnosticReport", "9")
    report["resource"]["issued"] = "2026-01-02T23:30:00+05:30"
    before = bundle(STUDY, entry("Observation", "2"), report)
    content = withdrawn(DocumentKind.BUNDLE, before, "the reading failed", timedelta(hours=1))
    assert requests(content) == {
        "1": ("POST", "available"),
        "2": ("PUT", "entered-in-error"),
        "9": ("PUT", "entered-in-error"),
    }
    assert content
    *_, report = json.loads(content)["entry"]
    assert report["resource"]["conclusion"] == "Withdrawn: the result does not hold; the reading failed"
    assert report["resource"]["issued"] == "2026-01-03T00:30:00+05:30"
    assert withdrawn(DocumentKind.BUNDLE, content, "again") is None


def message(control_id: str, *observations: str, character_set: str = "UNICODE UTF-8") -> bytes:
    """Return a message; an observation is OBX-2 to OBX-5 and the status."""
    header = rf"MSH|^~\&|AINODE||||20260102030405||ORU^R01^ORU_R01|{control_id}|P|2.5.1||||||{character_set}"
    order = "OBR|1|||P5-1^Imaging^SCT" + "|" * 21 + "F"
    lines = []
    for number, observation in enumerate(observations, start=1):
        value_type, concept, sub_id, value, status = observation.split("|")
        lines.append(f"OBX|{number}|{value_type}|{concept}|{sub_id}|{value}||||||{status}")
    codec = "utf-8" if character_set == "UNICODE UTF-8" else "ascii"
    return "".join(f"{line}\r" for line in (header, "PID|1", "ORC|RE", order, *lines)).encode(codec)


def observed(content: bytes | None) -> list[tuple[str, str, str, str]]:
    """Return OBX-3, OBX-4, OBX-5 and OBX-11; OBX-1 counts them."""
    assert content
    rows = [line.split("|") for line in content.decode().split("\r") if line.startswith("OBX|")]
    assert [row[1] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    return [(row[3], row[4], row[5], row[11]) for row in rows]


STUDY_ROW, NODULE = "ST|UID||1.2|O", "CE|N^Nodule|1|present|F"
MASS, MASS_SIZE = "CE|M^Größe|2|present|F", "NM|D^Diameter|2|7|F"


def test_an_observation_that_is_no_more_is_deleted_in_hl7_without_a_value_that_somebody_could_still_show() -> None:
    first = message("A", STUDY_ROW, NODULE, MASS, MASS_SIZE)
    second = corrected(DocumentKind.MESSAGE, message("B", STUDY_ROW, "CE|N^Nodule|1|absent|F"), first)
    gone = [("M^Größe", "2", "", "D"), ("D^Diameter", "2", "", "D")]
    assert observed(second) == [("UID", "", "1.2", "O"), ("N^Nodule", "1", "absent", "C"), *gone]
    third = corrected(DocumentKind.MESSAGE, message("C", STUDY_ROW, NODULE, MASS), second)
    assert observed(third)[1:] == [
        ("N^Nodule", "1", "present", "C"),
        ("M^Größe", "2", "present", "C"),
        ("D^Diameter", "2", "", "D"),  # the listener may never have had the second message
    ]
    taken_back = observed(withdrawn(DocumentKind.MESSAGE, third, "the reading failed"))
    assert [status for *_, status in taken_back] == ["O", "W", "W", "D"]


@pytest.mark.parametrize(
    ("time", "later"), [("20260102233000", "20260103003000"), ("20260102233000+0530", "20260103003000+0530")]
)
def test_a_withdrawal_is_dated_when_it_is_made_on_the_clock_of_the_message_before(time: str, later: str) -> None:
    first = message("A", NODULE).replace(b"20260102030405", time.encode())
    first = first.replace(b"OBR|1|||P5-1^Imaging^SCT" + b"|" * 18, f"OBR|1|||P5-1^Imaging^SCT{'|' * 18}{time}".encode())
    content = withdrawn(DocumentKind.MESSAGE, first, "the reading failed", timedelta(hours=1))
    assert content
    header, *_, order = [line.split("|") for line in content.decode().split("\r") if line[:3] in {"MSH", "OBR"}]
    assert (header[6], order[22], order[25]) == (later, later, "X")


def test_a_deletion_fits_the_character_set_of_the_message_that_deletes() -> None:
    now = message("B", NODULE, character_set="ASCII")
    content = corrected(DocumentKind.MESSAGE, now, message("A", NODULE, MASS))
    assert observed(content)[1] == (r"M^Gr\XC3B6\\XC39F\e", "2", "", "D")


def test_a_new_statement_about_the_same_takes_no_former_one_that_another_statement_has_as_its_own() -> None:
    def about_size(name: str, value: int) -> dict[str, Any]:
        one = entry("Observation", name)
        one["resource"] |= {"code": {"coding": [{"code": "diameter"}]}, "valueQuantity": {"value": value}}
        return one

    before = bundle(STUDY, about_size("3", 12), REPORT)
    now = bundle(STUDY, about_size("2", 7), about_size("3", 12), REPORT)
    content = corrected(DocumentKind.BUNDLE, now, before)
    entries = json.loads(content)["entry"]
    conditions = [each["request"]["url"] + each["request"].get("ifNoneExist", "") for each in entries]
    assert len(set(conditions)) == len(conditions)
    assert requests(content) == {
        "1": ("POST", "available"),
        "2": ("PUT", "final"),
        "3": ("PUT", "corrected"),
        "9": ("PUT", "corrected"),
    }
