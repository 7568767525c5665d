"""A judgement for listeners that were told of the report, judged by hl7apy, fhir.resources and Medplum."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import installed

installed("hl7apy", "fhir.resources")

from conformance.made import CONTEXT, a_result, source, sources_of  # noqa: E402
from conformance.test_assessments import CODES, JUDGED_AT  # noqa: E402
from conformance.test_bundles import address as server_address  # noqa: E402
from conformance.test_bundles import kept, sent  # noqa: E402
from conformance.test_messages import address, field, segments  # noqa: E402
from fhir.resources.R4B.bundle import Bundle  # noqa: E402
from hl7apy.core import Message, Segment  # noqa: E402
from support.fhir import medplum  # noqa: E402
from support.listener import judged as parsed  # noqa: E402

from ainode.node import reports  # noqa: E402
from ainode.node.domain import (  # noqa: E402
    AssessmentRequest,
    Correction,
    Document,
    DocumentKind,
    Judgement,
    Opinion,
    Presence,
    SentMessage,
    Verdict,
)
from ainode.node.encoding.fhir import UIDS  # noqa: E402
from ainode.node.encoding.hl7 import control_id_of  # noqa: E402
from ainode.node.reports.corrections import corrected  # noqa: E402
from ainode.node.reports.judged_messages import judged_messages  # noqa: E402

CHANGED = Judgement(
    "a", "whole image", Opinion.CHANGE, "jdoe", Correction(presence=Presence.ABSENT), "artifact", "Gefäß im Bild"
)
MEASURED = Judgement(
    "a",
    "whole image",
    Opinion.CHANGE,
    "jdoe",
    Correction(measurement="Probability", value=12.5),
    reason="wrong-value",
)
ACCEPTED = Judgement("a", "", Opinion.ACCEPT, "jdoe")


def a_request(folder: Path, judgement: Judgement, **wish: Any) -> tuple[AssessmentRequest, list[Document]]:  # noqa: ANN401
    """Return the request of a judgement, and the two messages about the report, which lie in the folder."""
    image = source(
        folder, PatientID="31", PatientName="MÜLLER^JÖRG", SpecificCharacterSet="ISO_IR 192", AccessionNumber="A7"
    )
    result = a_result(image, boxes=1)
    first = replace(result.findings[0], verdict=Verdict.of(0.9, 0.4))
    result = replace(result, findings=(first, *result.findings[1:]))
    server = server_address(members="components", **wish)
    context = replace(CONTEXT, messages=(address("8859/1"),), servers=(server,))
    *_, report, message, bundle = reports.documents(result, sources_of(image), context)
    assert (report.kind, message.kind, bundle.kind) == (
        DocumentKind.STRUCTURED_REPORT,
        DocumentKind.MESSAGE,
        DocumentKind.BUNDLE,
    )
    path = folder / "report.dcm"
    path.write_bytes(report.content)
    told = tuple(told_by(document, folder) for document in (message, bundle))
    context = replace(CONTEXT, created=JUDGED_AT)
    request = AssessmentRequest(judgement, "whole image: present", 7, report.ref, path, context, CODES, told)
    return request, [message, bundle]


def told_by(document: Document, folder: Path) -> SentMessage:
    path = folder / f"{document.ref.sop_instance_uid}{document.kind.suffix}"
    path.write_bytes(document.content)
    return SentMessage(document.kind, document.destination, document.ref.sop_instance_uid, path)


def hl7(folder: Path, judgement: Judgement) -> tuple[Message, bytes]:
    request, (original, _) = a_request(folder, judgement)
    message, _ = judged_messages(request)
    assert (message.kind, message.destination) == (DocumentKind.MESSAGE, "his")
    assert message.ref.sop_instance_uid != original.ref.sop_instance_uid
    return parsed(message.content, "iso8859_1"), original.content


def by_concept(message: Message) -> dict[str, Segment]:
    return {field(item, 3).split("^")[1]: item for item in segments(message, "OBX")}


def test_a_changed_finding_is_a_correction_of_the_message_that_it_names(tmp_path: Path) -> None:
    message, original = hl7(tmp_path, CHANGED)
    assert field(message.msh, 10) not in {"", control_id_of(original)}
    patient = message.oru_r01_patient_result.oru_r01_patient.pid
    assert field(patient, 3).startswith("31")
    (order,) = segments(message, "OBR")
    assert (field(order, 18), field(order, 25)) == ("A7", "C")
    assert control_id_of(original) in field(segments(message, "NTE")[0], 3)
    rows = by_concept(message)
    assert field(rows["Abnormal"], 5).split("^")[0] == "272519000"
    assert [field(rows["Abnormal"], number) for number in (4, 8, 11, 16)] == ["1", "N", "C", "jdoe"]
    assert "Gefäß im Bild" in field(rows["Procedure findings"], 5)
    assert field(rows[CODES.opinion.meaning], 5).split("^")[1] == CODES.changed.meaning
    assert field(rows["SR Instance UID"], 5) in original.decode("iso8859_1")
    assert "Probability" not in rows


def test_a_corrected_number_keeps_concept_and_unit(tmp_path: Path) -> None:
    message, _ = hl7(tmp_path, MEASURED)
    row = by_concept(message)["Probability"]
    assert [field(row, number) for number in (2, 4, 5, 11)] == ["NM", "1", "12.5", "C"]
    assert field(row, 6).startswith("%^")


def test_what_a_person_accepts_keeps_its_status(tmp_path: Path) -> None:
    message, _ = hl7(tmp_path, ACCEPTED)
    (order,) = segments(message, "OBR")
    assert field(order, 25) == "R"
    assert {field(item, 11) for item in segments(message, "OBX")} == {"O", "R"}


def test_the_same_judgement_is_the_same_message_and_another_is_another(tmp_path: Path) -> None:
    request, _ = a_request(tmp_path, CHANGED)
    assert judged_messages(request) == judged_messages(request)
    other = judged_messages(replace(request, judgement=MEASURED))
    for one, another in zip(judged_messages(request), other, strict=True):
        assert one.ref != another.ref
        assert one.content != another.content


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with medplum() as base:
        yield base


@pytest.mark.parametrize(("wish", "status"), [("partial", "partial"), ("final", "amended")])
def test_judgements_amend_the_same_report_and_the_last_transaction_holds_them_all(
    server: str, tmp_path: Path, wish: str, status: str
) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    request, (_, original) = a_request(folder, CHANGED, report_status=wish, destination=wish)
    first = judged_messages(request)[1]
    again = replace(request, judgement=ACCEPTED, number=8, messages=(told_by(first, folder),))
    (second,) = judged_messages(again)
    for document in (original, first, second):
        Bundle.model_validate(json.loads(document.content))
    assert sent(server, original.content)[-1] in {"200", "201"}
    for content in (first.content, second.content, second.content, original.content):
        sent(server, content)
    uid = request.report.sop_instance_uid
    (report,) = kept(server, f"DiagnosticReport?identifier={UIDS}|urn:oid:{uid}")
    before = json.loads(original.content)["entry"][-1]["resource"]
    assert report["status"] == status
    assert len(report["result"]) == len(before["result"]) + 2
    assert "changed by jdoe, absent instead" in report["conclusion"]
    assert "accepted by jdoe" in report["conclusion"]
    resources = [entry["resource"] for entry in json.loads(first.content)["entry"]]
    (judgement,) = [resource for resource in resources if "performer" in resource]
    assert judgement["valueCodeableConcept"]["text"] == CODES.changed.meaning
    assert judgement["focus"][0]["reference"] in first.content.decode()
    assert "272519000" in json.dumps(judgement["component"])


def test_a_judgement_is_about_the_finding_of_now_and_about_none_that_was_withdrawn_under_its_name(
    tmp_path: Path,
) -> None:
    request, (_, bundle) = a_request(tmp_path, CHANGED)
    former = bundle.content.replace(b"421060004", b"51185008")  # of the chest, and so another finding
    for entry in json.loads(bundle.content)["entry"]:
        if entry["resource"]["resourceType"] == "Observation":
            former = former.replace(entry["fullUrl"].encode(), f"{entry['fullUrl'][:-4]}beef".encode())
    content = corrected(DocumentKind.BUNDLE, bundle.content, former)
    assert b"entered-in-error" in content
    sent_bundle = told_by(replace(bundle, content=content), tmp_path)
    (document,) = judged_messages(replace(request, messages=(sent_bundle,)))
    *_, judgement, _ = json.loads(document.content)["entry"]
    (focus,) = judgement["resource"]["focus"]
    assert focus["reference"] in bundle.content.decode()
