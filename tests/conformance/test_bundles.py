"""Transactions for FHIR servers, judged by fhir.resources and by Medplum: they say what the report says."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import requests
from pydicom import Dataset
from support import installed, instance_ref

installed("fhir.resources")

from conformance.made import ALGORITHM, CONTEXT, a_result, source, sources_of  # noqa: E402
from fhir.resources.R4B.bundle import Bundle  # noqa: E402
from support.fhir import medplum  # noqa: E402

from ainode.node import reports  # noqa: E402
from ainode.node.domain import (  # noqa: E402
    UID,
    Code,
    DocumentContext,
    DocumentKind,
    InstanceRef,
    Outline,
    OutOfScope,
    Result,
    ServerAddress,
    Verdict,
)
from ainode.node.encoding.fhir import UIDS  # noqa: E402
from ainode.node.reports.corrections import corrected  # noqa: E402

Json = Mapping[str, Any]
LEFT = Code("7771000", "SCT", "Left")
EARLIER = InstanceRef(UID("1.2"), UID("1.2.3"), UID("1.2.840.10008.5.1.4.1.1.88.34"), UID("1.2.3.4"))
KINDS = ("Observation", "BodyStructure", "DiagnosticReport", "ImagingStudy", "Device")
SYSTEMS = (("", "urn:oid:1.2.9"), ("HOSPITAL", "urn:oid:1.2.8"))


def address(**values: Any) -> ServerAddress:  # noqa: ANN401
    given = {
        "destination": "ehr",
        "patient": "identifier",
        "patient_systems": SYSTEMS,
        "accession_system": "urn:oid:1.2.7",
        "report_status": "partial",
        **values,
    }
    return ServerAddress(**given)


def made(
    path: Path, answer: Result | OutOfScope | None = None, *, context: DocumentContext = CONTEXT, **wish: object
) -> bytes:
    """Return the transaction of an answer, which fhir.resources takes."""
    answer, context = answer or a_result(path), replace(context, servers=(address(**wish),))
    if isinstance(answer, OutOfScope):
        *_, document = reports.documents_out_of_scope(answer, sources_of(path), context)
    else:
        *_, document = reports.documents(answer, sources_of(path), context)
    assert (document.kind, document.destination) == (DocumentKind.BUNDLE, "ehr")
    Bundle.model_validate(json.loads(document.content))
    return document.content


def entries(content: bytes, kind: str) -> list[Json]:
    return [entry for entry in json.loads(content)["entry"] if entry["resource"]["resourceType"] == kind]


def only(content: bytes, kind: str) -> Json:
    (entry,) = entries(content, kind)
    resource: Json = entry["resource"]
    return resource


def groups(content: bytes) -> list[Json]:
    found = [entry["resource"] for entry in entries(content, "Observation")]
    return [resource for resource in found if "121071" in str(resource["code"])]


def judged(result: Result, probability: float) -> Result:
    first = replace(result.findings[0], verdict=Verdict.of(probability, 0.4))
    return replace(result, findings=(first, *result.findings[1:]))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with medplum() as base:
        yield base


def sent(server: str, content: bytes) -> list[str]:
    """Send a transaction to a server; return the status of each entry."""
    response = requests.post(server, data=content, headers={"Content-Type": "application/fhir+json"}, timeout=120)
    assert response.status_code == 200, response.text
    return [entry["response"]["status"] for entry in response.json()["entry"]]


def kept(server: str, query: str) -> list[Json]:
    response = requests.get(f"{server}/{query}", timeout=120).json()
    return [entry["resource"] for entry in response.get("entry", [])]


def test_every_entry_is_created_once_and_a_transaction_that_is_sent_again_changes_nothing(
    server: str, tmp_path: Path
) -> None:
    content = made(source(tmp_path, PatientID="7"), patient="create", members="components")
    first, second = sent(server, content), sent(server, content)
    assert first[-1] == "201"
    assert set(second) == {"200"}
    uid = only(content, "ImagingStudy")["identifier"][0]["value"]
    assert len(kept(server, f"ImagingStudy?identifier={UIDS}|{uid}")) == 1


def test_the_identifiers_and_the_bytes_of_the_same_answer_are_the_same(tmp_path: Path) -> None:
    path = source(tmp_path)
    first = made(path)
    assert made(path) == first
    conditions = [entry["request"]["ifNoneExist"] for entry in json.loads(first)["entry"]]
    urls = [entry["fullUrl"] for entry in json.loads(first)["entry"]]
    assert len(set(conditions)) == len(conditions) == len(set(urls))
    for entry in json.loads(first)["entry"]:
        identifier = entry["resource"]["identifier"][0]
        assert unquote(entry["request"]["ifNoneExist"]) == f"identifier={identifier['system']}|{identifier['value']}"


def test_the_report_names_study_order_results_and_what_it_is_not_for(tmp_path: Path) -> None:
    path = source(
        tmp_path,
        PatientID="7",
        AccessionNumber="A7",
        StudyDate="20260101",
        StudyTime="120000.5",
        TimezoneOffsetFromUTC="+0100",
    )
    content = made(path, judged(a_result(path), 0.9))
    report, study = only(content, "DiagnosticReport"), only(content, "ImagingStudy")
    documents = reports.documents(judged(a_result(path), 0.9), sources_of(path), CONTEXT)
    (sr,) = [document for document in documents if document.kind is DocumentKind.STRUCTURED_REPORT]
    assert report["identifier"] == [{"system": UIDS, "value": f"urn:oid:{sr.ref.sop_instance_uid}"}]
    assert study["identifier"][0]["value"] == f"urn:oid:{sr.ref.study_instance_uid}"
    assert study["started"] == report["effectiveDateTime"] == "2026-01-01T12:00:00+01:00"
    (order,) = report["basedOn"]
    assert (order["identifier"]["system"], order["identifier"]["value"]) == ("urn:oid:1.2.7", "A7")
    assert report["status"] == "partial"
    assert report["conclusion"].startswith("RESEARCH USE ONLY")
    assert "whole image: present, 0.90, threshold 0.40" in report["conclusion"]
    assert "demonstration weights" in report["conclusion"]
    (study_entry,) = entries(content, "ImagingStudy")
    assert report["imagingStudy"] == [{"reference": study_entry["fullUrl"]}]
    group_urls = [entry["fullUrl"] for entry in entries(content, "Observation") if entry["resource"] in groups(content)]
    assert [item["reference"] for item in report["result"]] == group_urls


def test_a_study_whose_offset_nobody_knows_has_its_date_alone(tmp_path: Path) -> None:
    content = made(source(tmp_path, StudyDate="20260101", StudyTime="120000"))
    assert only(content, "ImagingStudy")["started"] == "2026-01-01"


@pytest.mark.parametrize(("probability", "value", "interpretation"), [(0.9, "Abnormal", "POS"), (0.1, None, "NEG")])
def test_a_finding_is_the_value_of_its_group_only_where_it_is_there(
    tmp_path: Path, probability: float, value: str | None, interpretation: str
) -> None:
    path = source(tmp_path)
    (group,) = groups(made(path, judged(a_result(path), probability)))
    assert group.get("valueCodeableConcept", {}).get("text") == value
    assert group["interpretation"][0]["coding"][0]["code"] == interpretation
    assert group["status"] == "preliminary"


def test_evaluations_and_measurements_are_members_with_codes_units_device_and_place(tmp_path: Path) -> None:
    path = source(tmp_path)
    content = made(path, judged(a_result(path), 0.9))
    by_url = {entry["fullUrl"]: entry["resource"] for entry in json.loads(content)["entry"]}
    (group,) = groups(content)
    members = [by_url[item["reference"]] for item in group["hasMember"]]
    presence, probability, threshold = members
    assert presence["code"]["coding"][0]["system"] == "http://snomed.info/sct"
    assert presence["valueCodeableConcept"]["coding"][0]["code"] == "52101004"
    assert probability["valueQuantity"] == {
        "value": 90.0,
        "unit": "Percent",
        "system": "http://unitsofmeasure.org",
        "code": "%",
    }
    assert threshold["valueQuantity"]["value"] == 40.0
    for resource in (group, *members):
        assert by_url[resource["device"]["reference"]]["deviceName"][0]["name"] == "spine_radiograph"
        assert by_url[resource["focus"][0]["reference"]]["resourceType"] == "BodyStructure"
        assert resource["bodySite"]["coding"][0]["code"] == "421060004"


def test_a_server_that_takes_few_entries_gets_components_and_places_within_the_group(
    server: str, tmp_path: Path
) -> None:
    path = source(tmp_path, PatientID="8")
    result = judged(a_result(path, boxes=2), 0.9)
    many, few = made(path, result), made(path, result, members="components")
    assert [len(json.loads(content)["entry"]) for content in (many, few)] == [14, 6]
    assert sent(server, few)[-1] == "201"
    parts = [[component["code"]["text"] for component in group["component"]] for group in groups(few)]
    assert parts[0] == ["Abnormal", "Probability", "Threshold Value"]
    assert groups(few)[1]["contained"][0]["description"].startswith("POLYLINE on image ")


def test_the_place_has_the_tracking_uid_of_the_report_the_side_and_the_coordinates(tmp_path: Path) -> None:
    path = source(tmp_path)
    result = a_result(path, boxes=1)
    outline = Outline(UID("1.2.5"), UID("1.2.6"), (((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 0)),) * 2)
    whole, box = result.findings
    whole = replace(whole, laterality=LEFT, outline=outline)
    box = replace(box, region=replace(box.region, frame=3))  # type: ignore[type-var]
    content = made(path, replace(result, findings=(whole, box)))
    outlined, boxed = [entry["resource"] for entry in entries(content, "BodyStructure")]
    assert outlined["locationQualifier"][0]["text"] == "Left"
    assert outlined["description"].startswith("outline of 2 contours in the frame of reference 1.2.5")
    assert "column,row: 2.5,2.25 " in boxed["description"]
    assert f"on frame 3 of image {instance_ref(path).sop_instance_uid}" in boxed["description"]
    types = [identifier.get("type", {}).get("coding", [{}])[0].get("code") for identifier in boxed["identifier"]]
    assert types == [None, "112040", "112039"]
    (report,) = [
        document
        for document in reports.documents(replace(result, findings=(whole, box)), sources_of(path), CONTEXT)
        if document.kind is DocumentKind.STRUCTURED_REPORT
    ]
    assert boxed["identifier"][1]["value"].removeprefix("urn:oid:").encode() in report.content


def test_the_device_is_the_model_with_its_weights_and_their_status(tmp_path: Path) -> None:
    path = source(tmp_path)
    algorithm = replace(ALGORITHM, not_for=("children",))
    device = only(made(path, a_result(path, algorithm=algorithm)), "Device")
    assert [version["value"] for version in device["version"]] == ["1.0.0", "5" * 64]
    assert device["property"][0]["valueCode"] == [{"text": "demonstration"}]
    assert device["safety"][0]["text"].startswith("RESEARCH USE ONLY")
    assert device["note"] == [{"text": "Not for: children"}]
    same = only(made(path, a_result(path, algorithm=ALGORITHM)), "Device")
    assert same["identifier"] == device["identifier"]
    other = replace(algorithm, weights_sha256="6" * 64)
    assert only(made(path, a_result(path, algorithm=other)), "Device")["identifier"][0] != device["identifier"][0]


# The patient


@pytest.mark.parametrize(
    ("header", "system"),
    [
        ({"PatientID": "7"}, "urn:oid:1.2.9"),
        ({"PatientID": "7", "IssuerOfPatientID": "HOSPITAL"}, "urn:oid:1.2.8"),
        ({"PatientID": "7", "IssuerOfPatientID": "ELSEWHERE"}, None),
    ],
)
def test_a_patient_is_named_by_identifier_with_the_system_of_its_issuer_alone(
    tmp_path: Path, header: Mapping[str, str], system: str | None
) -> None:
    content = made(source(tmp_path, **header))
    subject = only(content, "DiagnosticReport")["subject"]
    assert (subject["identifier"].get("system"), subject["identifier"]["value"]) == (system, "7")
    assert entries(content, "Patient") == []


def test_an_issuer_that_says_who_it_is_needs_no_configuration(tmp_path: Path) -> None:
    item = Dataset()
    item.UniversalEntityID, item.UniversalEntityIDType = "1.9.9", "ISO"
    path = source(tmp_path, PatientID="7", IssuerOfPatientID="ELSEWHERE", IssuerOfPatientIDQualifiersSequence=[item])
    assert only(made(path), "DiagnosticReport")["subject"]["identifier"]["system"] == "urn:oid:1.9.9"


def test_a_patient_is_created_with_what_the_images_say(server: str, tmp_path: Path) -> None:
    path = source(
        tmp_path,
        PatientID="9",
        PatientName="MÜLLER^JÖRG^M^Dr.^jun.",
        PatientBirthDate="19500102",
        PatientSex="M",
        SpecificCharacterSet="ISO_IR 192",
    )
    content = made(path, patient="create", members="components")
    sent(server, content)
    (found,) = kept(server, "Patient?identifier=urn:oid:1.2.9|9")
    assert found["name"] == [{"family": "MÜLLER", "given": ["JÖRG", "M"], "prefix": ["Dr."], "suffix": ["jun."]}]
    assert (found["gender"], found["birthDate"]) == ("male", "1950-01-02")
    (study,) = kept(server, f"ImagingStudy?subject=Patient/{found['id']}")
    assert study["subject"]["reference"] == f"Patient/{found['id']}"


def test_a_patient_whom_the_server_is_to_find_is_a_search_for_the_identifier(tmp_path: Path) -> None:
    content = made(source(tmp_path, PatientID="1|1,2"), patient="conditional")
    subject = only(content, "DiagnosticReport")["subject"]
    assert unquote(subject["reference"]) == "Patient?identifier=urn:oid:1.2.9|1\\|1\\,2"
    assert entries(content, "Patient") == []


@pytest.mark.parametrize("patient", ["conditional", "create"])
def test_a_patient_of_an_issuer_without_a_system_is_neither_looked_for_nor_made(tmp_path: Path, patient: str) -> None:
    content = made(source(tmp_path, PatientID="7", IssuerOfPatientID="ELSEWHERE"), patient=patient)
    assert entries(content, "Patient") == []
    assert "reference" not in only(content, "DiagnosticReport")["subject"]


def test_images_without_a_patient_id_say_so(tmp_path: Path) -> None:
    content = made(source(tmp_path, PatientID=""), patient="create")
    assert "no Patient ID" in only(content, "DiagnosticReport")["subject"]["display"]


# What is superseded, and what was not read


@pytest.mark.parametrize(
    ("wish", "status"), [("partial", "partial"), ("preliminary", "preliminary"), ("final", "amended")]
)
def test_a_report_that_supersedes_another_takes_its_place_and_what_comes_late_changes_nothing(
    server: str, tmp_path: Path, wish: str, status: str
) -> None:
    path = source(tmp_path, PatientID=f"12 {wish}")
    before = made(path, judged(a_result(path), 0.9), members="components", report_status=wish)
    (uid,) = [item["value"] for item in only(before, "DiagnosticReport")["identifier"]]
    earlier = replace(EARLIER, sop_instance_uid=UID(uid.removeprefix("urn:oid:")))
    context = replace(CONTEXT, predecessors=(earlier,))
    answer = made(path, judged(a_result(path), 0.1), context=context, members="components", report_status=wish)
    after = corrected(DocumentKind.BUNDLE, answer, before)
    assert sent(server, before)[-1] == "201"
    for _ in range(2):
        sent(server, after)
    sent(server, before)
    new = only(answer, "DiagnosticReport")["identifier"][0]["value"]
    (found,) = kept(server, f"DiagnosticReport?identifier={UIDS}|{uid}")
    assert found["status"] == status
    assert [item["value"] for item in found["identifier"]] == [new, uid]
    (group,) = entries(answer, "Observation")
    (former_group,) = entries(before, "Observation")
    (observation,) = kept(server, f"Observation?identifier={UIDS}|{former_group['resource']['identifier'][0]['value']}")
    assert observation["identifier"][0] == group["resource"]["identifier"][0]
    assert observation["status"] == ("amended" if wish == "final" else "preliminary")
    assert observation["interpretation"] == group["resource"]["interpretation"]
    everything = [resource for kind in KINDS for resource in kept(server, kind)]
    assert "urn:uuid" not in json.dumps(everything)


def test_every_reference_of_a_correction_is_to_an_entry_of_it_and_nothing_is_created_by_two_entries(
    tmp_path: Path,
) -> None:
    path = source(tmp_path, PatientID="16")
    before = made(path, a_result(path, boxes=2), patient="create")
    context = replace(CONTEXT, predecessors=(EARLIER,))
    answer = made(path, a_result(path, boxes=1), context=context, patient="create")
    content = corrected(DocumentKind.BUNDLE, answer, before)
    Bundle.model_validate(json.loads(content))
    every = json.loads(content)["entry"]
    urls = [entry["fullUrl"] for entry in every]
    assert set(re.findall(r'"reference": ?"(urn:uuid:[^"]+)"', json.dumps(every))) <= set(urls)
    requests_made = [(entry["request"]["url"], entry["request"].get("ifNoneExist")) for entry in every]
    assert len(set(urls)) == len(urls) == len(set(requests_made))
    states = [entry["resource"]["status"] for entry in entries(content, "Observation")]
    count, former_count = (len(entries(each, "Observation")) for each in (answer, before))
    assert states.count("preliminary") == count
    assert states.count("entered-in-error") == former_count - count > 0


def test_a_third_report_takes_the_place_of_the_first_where_the_server_never_got_the_second(
    server: str, tmp_path: Path
) -> None:
    path = source(tmp_path, PatientID="15")
    answers = [
        made(
            path,
            context=replace(CONTEXT, software_versions=(f"ainode {number}",)),
            members="components",
            report_status="final",
        )
        for number in range(3)
    ]
    uids = [only(content, "DiagnosticReport")["identifier"][0]["value"] for content in answers]
    second = corrected(DocumentKind.BUNDLE, answers[1], answers[0])
    sent(server, answers[0])
    sent(server, corrected(DocumentKind.BUNDLE, answers[2], second))
    (found,) = [found for uid in uids[:1] for found in kept(server, f"DiagnosticReport?identifier={UIDS}|{uid}")]
    assert [item["value"] for item in found["identifier"]] == [uids[2], uids[1], uids[0]]
    former = {entry["resource"]["identifier"][0]["value"] for entry in entries(answers[0], "Observation")}
    observations = [item for uid in former for item in kept(server, f"Observation?identifier={UIDS}|{uid}")]
    assert [(len(item["identifier"]), item["status"]) for item in observations] == [(3, "amended")] * len(former)


def test_a_finding_that_is_no_more_is_withdrawn_in_the_server(server: str, tmp_path: Path) -> None:
    path = source(tmp_path, PatientID="17")
    before = made(path, a_result(path, boxes=2), members="components", report_status="final")
    context = replace(CONTEXT, predecessors=(EARLIER,))
    after = made(path, a_result(path, boxes=1), context=context, members="components", report_status="final")
    sent(server, before)
    sent(server, corrected(DocumentKind.BUNDLE, after, before))
    former = [entry["resource"]["identifier"][0]["value"] for entry in entries(before, "Observation")]
    found = [item for uid in former for item in kept(server, f"Observation?identifier={UIDS}|{uid}")]
    assert sorted(item["status"] for item in found) == ["amended"] * (len(found) - 1) + ["entered-in-error"]
    assert "urn:uuid" not in json.dumps([resource for kind in KINDS for resource in kept(server, kind)])


def test_a_refusal_is_a_cancelled_report_without_results(server: str, tmp_path: Path) -> None:
    path = source(tmp_path, PatientID="13")
    reason = OutOfScope("it shows a hand", "wrong-body-part", (instance_ref(path),))
    content = made(path, reason)
    report = only(content, "DiagnosticReport")
    assert report["status"] == "cancelled"
    assert "it shows a hand" in report["conclusion"]
    assert "result" not in report
    assert sent(server, content)[-1] == "201"


def test_a_test_is_marked_as_data_of_a_test(tmp_path: Path) -> None:
    content = made(source(tmp_path), is_test=True)
    marks = [entry["resource"]["meta"]["security"][0]["code"] for entry in json.loads(content)["entry"]]
    assert set(marks) == {"HTEST"}
