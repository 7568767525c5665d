"""Messages for listeners, judged by hl7apy: valid, and they say what the report says."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from support import installed, instance_ref

installed("hl7apy")

from conformance.made import ALGORITHM, CONTEXT, a_result, source, sources_of  # noqa: E402
from hl7apy.core import Message, Segment  # noqa: E402
from support.listener import judged  # noqa: E402

from ainode.node import reports  # noqa: E402
from ainode.node.domain import (  # noqa: E402
    Code,
    Document,
    DocumentContext,
    DocumentKind,
    Measurement,
    MessageAddress,
    OutOfScope,
    Result,
    Verdict,
)
from ainode.node.encoding.hl7 import codec_of  # noqa: E402
from ainode.node.reports.corrections import corrected  # noqa: E402

UTF_8, LATIN = "UNICODE UTF-8", "8859/1"
MALIGNANT = Code("86049000", "SCT", "Malignant neoplasm, primary")
LEFT = Code("7771000", "SCT", "Left")


def address(character_set: str = UTF_8, **values: str) -> MessageAddress:
    names = {"sending_application": "AINODE", "sending_facility": "XRAY", "receiving_application": "RIS"}
    given = {
        "destination": "his",
        "receiving_facility": "HOSPITAL",
        "processing_id": "P",
        "result_status": "R",
        **values,
    }
    return MessageAddress(character_set=character_set, **{**names, **given})


def made(path: Path, result: Result, *addresses: MessageAddress, context: DocumentContext = CONTEXT) -> list[Document]:
    """Return the report and the messages of a result."""
    documents = reports.documents(result, sources_of(path), replace(context, messages=addresses))
    kinds = (DocumentKind.STRUCTURED_REPORT, DocumentKind.MESSAGE)
    return [document for document in documents if document.kind in kinds]


def message(path: Path, result: Result | None = None, wish: MessageAddress | None = None) -> Message:
    wish = wish or address()
    *_, document = made(path, result or a_result(path), wish)
    assert (document.kind, document.destination) == (DocumentKind.MESSAGE, "his")
    return judged(document.content, codec_of(wish.character_set))


def segments(parsed: Message, name: str) -> list[Segment]:
    order = parsed.oru_r01_patient_result.oru_r01_order_observation
    if name == "OBX":
        return [group.obx for item in order for group in item.oru_r01_observation]
    return [item for group in order for item in group.children if item.name == name]


def field(part: Segment, number: int) -> str:
    return str(getattr(part, f"{part.name.lower()}_{number}").to_er7())


def rows(parsed: Message, sub_id: str, *numbers: int) -> list[tuple[str, ...]]:
    """Return fields of the observations of a finding."""
    found = [item for item in segments(parsed, "OBX") if field(item, 4) == sub_id]
    return [tuple(field(item, number) for number in numbers) for item in found]


def name_in(path: Path, wish: MessageAddress) -> bytes:
    """Return PID-5 with its repetitions, as it is sent."""
    *_, document = made(path, a_result(path), wish)
    judged(document.content, codec_of(wish.character_set))
    (line,) = [line for line in document.content.split(b"\r") if line.startswith(b"PID")]
    return line.split(b"|")[5]


def with_verdict(result: Result, probability: float, **more: object) -> Result:
    first = replace(result.findings[0], verdict=Verdict.of(probability, 0.4, **more))  # type: ignore[arg-type]
    return replace(result, findings=(first, *result.findings[1:]))


def test_a_message_names_sender_receiver_type_version_and_character_set(tmp_path: Path) -> None:
    header = message(source(tmp_path), wish=address(LATIN, processing_id="T")).msh
    values = {number: field(header, number) for number in (3, 4, 5, 6, 7, 9, 11, 12, 18)}
    assert values == {
        3: "AINODE",
        4: "XRAY",
        5: "RIS",
        6: "HOSPITAL",
        7: "20260304050607",
        9: "ORU^R01^ORU_R01",
        11: "T",
        12: "2.5.1",
        18: LATIN,
    }


def test_patient_visit_and_order_are_those_of_the_images(tmp_path: Path) -> None:
    item = Dataset()
    item.RequestedProcedureID, item.AccessionNumber = "RP1", "A1"
    item.PlacerOrderNumberImagingServiceRequest, item.FillerOrderNumberImagingServiceRequest = "P1", "F1"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "36713-2", "LN", "Spine X-ray"
    path = source(
        tmp_path,
        PatientName="DOE^JANE^M^Dr.^jun.",
        PatientID="7",
        IssuerOfPatientID="HOSPITAL",
        PatientBirthDate="19500102",
        PatientSex="F",
        AdmissionID="V9",
        StudyDate="20260101",
        StudyTime="120000.5",
        TimezoneOffsetFromUTC="+0100",
        ProcedureCodeSequence=[code],
        RequestAttributesSequence=[item],
    )
    parsed = message(path)
    result = parsed.oru_r01_patient_result.oru_r01_patient
    assert [field(result.pid, number) for number in (3, 5, 7, 8)] == [
        *("7^^^HOSPITAL", "DOE^JANE^M^jun.^Dr.", "19500102", "F")
    ]
    assert [field(result.oru_r01_visit.pv1, number) for number in (2, 19)] == ["U", "V9"]
    (order,), (control,) = segments(parsed, "OBR"), segments(parsed, "ORC")
    assert [field(control, number) for number in (1, 2, 3)] == ["RE", "P1", "F1"]
    assert [field(order, number) for number in (2, 3, 4, 7, 18, 19, 24, 25)] == [
        *("P1", "F1", "36713-2^Spine X-ray^LN", "20260101120000+0100", "A1", "RP1", "RAD", "R")
    ]


def test_an_accession_number_alone_is_the_number_of_the_filler(tmp_path: Path) -> None:
    (order,) = segments(message(source(tmp_path, AccessionNumber="A7")), "OBR")
    assert [field(order, number) for number in (2, 3, 18)] == ["", "A7", "A7"]


def test_issuers_go_with_their_identifiers_and_say_nothing_without_one(tmp_path: Path) -> None:
    issuer = Dataset()
    issuer.LocalNamespaceEntityID, issuer.UniversalEntityID, issuer.UniversalEntityIDType = "RIS", "1.2.3", "ISO"
    issuers = {"IssuerOfAccessionNumberSequence": [issuer], "IssuerOfAdmissionIDSequence": [issuer]}
    path = source(tmp_path, AccessionNumber="A7", AdmissionID="V9", **issuers)
    parsed = message(path)
    (order,) = segments(parsed, "OBR")
    assert field(order, 3) == "A7^RIS^1.2.3^ISO"
    visit = parsed.oru_r01_patient_result.oru_r01_patient.oru_r01_visit.pv1
    assert field(visit, 19) == "V9^^^RIS&1.2.3&ISO"
    (tmp_path / "none").mkdir()
    path = source(tmp_path / "none", PatientID="", IssuerOfPatientID="HOSPITAL", **issuers)
    *_, document = made(path, a_result(path), address())
    lines = {line[:3]: line.split("|") for line in reversed(document.content.decode().split("\r"))}
    assert (lines["PID"][3], lines["OBR"][3], lines["PV1"][2:]) == ("", "", ["U"])


def test_images_of_two_requests_have_the_whole_result_below_each(tmp_path: Path) -> None:
    items = []
    for number in ("1", "2"):
        items.append(item := Dataset())
        item.RequestedProcedureID, item.AccessionNumber = f"RP{number}", f"A{number}"
    parsed = message(source(tmp_path, RequestAttributesSequence=items))
    assert [field(order, 18) for order in segments(parsed, "OBR")] == ["A1", "A2"]
    texts = [field(item, 5) for item in segments(parsed, "OBX")]
    assert texts[: len(texts) // 2] == texts[len(texts) // 2 :]


def test_the_study_and_the_report_are_named_as_ihe_names_them(tmp_path: Path) -> None:
    path = source(tmp_path)
    report, document = made(path, a_result(path), address())
    rows_of_study = rows(judged(document.content, "utf-8"), "", 2, 3, 5, 11)
    assert ("ST", "113014^DICOM Study^DCM", report.ref.study_instance_uid, "O") in rows_of_study
    assert ("ST", "^SR Instance UID", report.ref.sop_instance_uid, "O") in rows_of_study


def test_the_first_line_that_people_read_says_what_the_answer_is_not_for(tmp_path: Path) -> None:
    path = source(tmp_path)
    parsed = message(path, with_verdict(a_result(path), 0.9))
    texts = [text for kind, text in rows(parsed, "", 2, 5) if kind == "TX"]
    assert texts == [
        "RESEARCH USE ONLY. Not for diagnosis. Preliminary and unverified.",
        "Spine radiograph: AI result",
        "whole image: present, 0.90, threshold 0.40",
    ]


def test_a_finding_has_presence_flag_probability_site_and_numbers_with_their_units(tmp_path: Path) -> None:
    path = source(tmp_path)
    result = with_verdict(a_result(path), 0.9)
    angle = Measurement(Code("285285000", "SCT", "Cobb angle"), 42.0, Code("deg", "UCUM", "Degrees"), result.evidence)
    tiny = Measurement(Code("ratio", "99AINODE", "Ratio"), 1.5e-7, Code("1", "UCUM", "no units"), result.evidence)
    first = result.findings[0]
    first = replace(first, measurements=(*first.measurements, angle, tiny), laterality=LEFT)
    parsed = message(path, replace(result, findings=(first,)))
    assert rows(parsed, "1", 2, 3, 5, 6, 8, 9) == [
        ("ST", "112039^Tracking Identifier^DCM", "whole image", "", "", ""),
        ("CE", "263654008^Abnormal^SCT", "52101004^Present^SCT", "", "A", "0.900"),
        ("CE", "363698007^Finding Site^SCT", "421060004^Spine^SCT", "", "", ""),
        ("CE", "272741003^Laterality^SCT", "7771000^Left^SCT", "", "", ""),
        ("NM", "122157^Probability^DCM", "90", "%^Percent^UCUM", "", ""),
        ("NM", "122411^Threshold Value^DCM", "40", "%^Percent^UCUM", "", ""),
        ("NM", "285285000^Cobb angle^SCT", "42", "deg^Degrees^UCUM", "", ""),
        ("NM", "ratio^Ratio^99AINODE", "0.00000015", "", "", ""),
    ]


def test_the_observations_are_those_of_the_report(tmp_path: Path) -> None:
    path = source(tmp_path)
    report, document = made(path, with_verdict(a_result(path, boxes=3), 0.9), address())
    measurements = dcmread(BytesIO(report.content)).ContentSequence[-1]
    stated = [float(element.value) for element in measurements.iterall() if element.keyword == "NumericValue"]
    parsed = judged(document.content, "utf-8")
    sent = [float(field(item, 5)) for item in segments(parsed, "OBX") if field(item, 2) == "NM"]
    assert sent == stated == [90.0, 40.0, 89.0, 88.0, 87.0]


@pytest.mark.parametrize(("probability", "code", "flag"), [(0.9, "52101004", "A"), (0.1, "272519000", "N")])
def test_the_flag_follows_the_presence(tmp_path: Path, probability: float, code: str, flag: str) -> None:
    path = source(tmp_path)
    parsed = message(path, with_verdict(a_result(path), probability))
    (row,) = [row for row in rows(parsed, "1", 3, 5, 8) if row[0].startswith("263654008")]
    assert (row[1].partition("^")[0], row[2]) == (code, flag)


def test_a_verdict_about_something_else_stands_beside_the_finding(tmp_path: Path) -> None:
    path = source(tmp_path)
    parsed = message(path, with_verdict(a_result(path), 0.1, about=MALIGNANT))
    found = [row for row in rows(parsed, "1", 3, 5, 8, 9) if row[2]]
    assert [(row[0].partition("^")[0], row[1].partition("^")[2], *row[2:]) for row in found] == [
        ("263654008", "Present^SCT", "A", ""),
        (MALIGNANT.value, "Absent^SCT", "N", "0.100"),
    ]


def test_who_answered_stands_with_each_observation_of_a_finding_and_in_the_notes(tmp_path: Path) -> None:
    path = source(tmp_path)
    algorithm = replace(ALGORITHM, not_for=("children",), known_limits=("implants",))
    parsed = message(path, a_result(path, algorithm=algorithm))
    assert set(rows(parsed, "1", 17)) == {
        ("spine_radiograph^spine_radiograph 1.0.0, weights 5555555555555555^99AINODE",)
    }
    assert all(row[0].startswith("test-node^^2.25.") and row[0].endswith("^ISO") for row in rows(parsed, "1", 18))
    notes = [field(note, 3) for note in segments(parsed, "NTE")]
    assert notes[0].startswith("RESEARCH USE ONLY")
    assert "5" * 64 in notes[1]
    assert notes[2:] == ["Not for: children", "Known limits: implants", "Made by ainode 0.1.0 on test-node"]


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        (LATIN, b"M\xfcller\\F\\\\T\\\\R\\^J\xf6rg^^jun.\\S\\der \\S\\Zweite^Dr."),
        (UTF_8, "Müller\\F\\\\T\\\\R\\^Jörg^^jun.\\S\\der \\S\\Zweite^Dr.".encode()),
        ("ASCII", b"M\\XC3BC\\ller\\F\\\\T\\\\R\\^J\\XC3B6\\rg^^jun.\\S\\der \\S\\Zweite^Dr."),
    ],
)
def test_a_name_with_delimiters_and_umlauts_arrives_whole_in_every_character_set(
    tmp_path: Path, character_set: str, name: bytes
) -> None:
    path = source(tmp_path, SpecificCharacterSet="ISO_IR 192", PatientName="Müller|&~^Jörg^^Dr.^jun.^der ^Zweite")
    assert name_in(path, address(character_set)) == name


def test_a_listener_that_has_no_japanese_gets_the_letters_and_the_rest_escaped(tmp_path: Path) -> None:
    path = source(tmp_path, SpecificCharacterSet="ISO_IR 192", PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう")
    names = name_in(path, address(LATIN)).decode(codec_of(LATIN)).split("~")
    assert names[0] == "Yamada^Tarou^^^^^^A"
    escaped = "".join(f"\\X{letter.encode().hex().upper()}\\" for letter in "山田")
    assert names[1].startswith(f"{escaped}^")
    assert names[1].endswith("^^^^^^I")
    assert names[2].endswith("^^^^^^P")
    assert name_in(path, address()).decode() == "Yamada^Tarou^^^^^^A~山田^太郎^^^^^^I~やまだ^たろう^^^^^^P"


def test_images_without_identity_make_a_message_that_says_nothing_of_it(tmp_path: Path) -> None:
    path = source(tmp_path, PatientID=None, PatientName=None, AccessionNumber=None, StudyDate="", StudyTime="")
    *_, document = made(path, a_result(path), address())
    lines = {line[:3]: line.split("|") for line in reversed(document.content.decode().split("\r"))}
    assert lines["PID"][3:6] == ["", "", ""]
    assert lines["OBR"][2:4] == ["", ""]
    assert lines["OBR"][7] == ""


def test_the_same_answer_is_the_same_message_and_another_listener_has_another(tmp_path: Path) -> None:
    path = source(tmp_path)
    result = a_result(path, boxes=1)
    _, first, second = made(path, result, address(), address(destination="ris"))
    _, again, _ = made(path, result, address(), address(destination="ris"))
    assert first == again
    assert first.ref.sop_instance_uid != second.ref.sop_instance_uid
    ids = [field(judged(item.content, "utf-8").msh, 10) for item in (first, second)]
    assert len(set(ids)) == 2
    assert all(len(control_id) == 20 for control_id in ids)
    _, other = made(path, a_result(path, algorithm=replace(ALGORITHM, version="1.0.1")), address())
    assert field(judged(other.content, "utf-8").msh, 10) not in ids


def test_no_listener_changes_the_other_documents(tmp_path: Path) -> None:
    path = source(tmp_path)
    result = a_result(path, boxes=1)
    without = reports.documents(result, sources_of(path), CONTEXT)
    *those_before, _ = reports.documents(result, sources_of(path), replace(CONTEXT, messages=(address(),)))
    assert tuple(those_before) == without


@pytest.mark.parametrize("status", ["F", "R", "P"])
def test_a_later_answer_is_a_correction_that_names_the_message_before_it(tmp_path: Path, status: str) -> None:
    path = source(tmp_path)
    *_, first = made(path, a_result(path), address(result_status=status))
    answer = a_result(path, algorithm=replace(ALGORITHM, version="1.0.1"))
    *_, second = made(path, answer, address(result_status=status))
    correction = judged(corrected(second.kind, second.content, first.content), "utf-8")
    (order,) = segments(correction, "OBR")
    assert field(order, 25) == "C"
    assert set(rows(correction, "1", 11)) == {("C",)}
    *_, note = segments(correction, "NTE")
    numbers = [field(judged(item.content, "utf-8").msh, 10) for item in (first, second)]
    assert numbers[0] in field(note, 3)
    assert field(correction.msh, 10) not in numbers


def test_a_refusal_says_why_and_that_there_is_no_result(tmp_path: Path) -> None:
    path = source(tmp_path)
    refusal = OutOfScope(
        "the model expects a spine, and the study holds a hand", "wrong-body-part", (instance_ref(path),)
    )
    context = replace(CONTEXT, messages=(address(),))
    report, document = reports.documents_out_of_scope(refusal, sources_of(path), context)
    assert report.kind is DocumentKind.STRUCTURED_REPORT
    parsed = judged(document.content, "utf-8")
    (order,) = segments(parsed, "OBR")
    assert field(order, 25) == "X"
    texts: Sequence[tuple[str, ...]] = [row for row in rows(parsed, "", 2, 5, 11) if row[0] == "TX"]
    assert ("TX", refusal.reason, "X") in texts
    assert not [item for item in segments(parsed, "OBX") if field(item, 2) in {"NM", "CE"}]
