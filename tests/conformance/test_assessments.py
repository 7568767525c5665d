"""What a person says of a report is a document that strangers' programs find no error in."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from conformance.made import CONTEXT, PERCENT, a_result, source, sources_of
from pydicom import Dataset, dcmread
from support import judges

from ainode.node import reports
from ainode.node.domain import (
    AssessmentRequest,
    Correction,
    Document,
    Judgement,
    Opinion,
    Presence,
)
from ainode.node.errors import ReportError
from ainode.node.reports.assessment import assessment
from ainode.node.settings import ConsoleTable

JUDGED_AT = datetime(2026, 3, 5, 9, 30, 0, tzinfo=UTC)
CODES = ConsoleTable().codes.codes()
JUDGEMENTS = {
    "an accepted result": Judgement("a", "", Opinion.ACCEPT, "jdoe"),
    "a rejected box": Judgement("a", "box 1", Opinion.REJECT, "jdoe", reason="false-positive", comment="Gefäß im Bild"),
    "an absent box": Judgement(
        "a", "box 2", Opinion.CHANGE, "j.doe^MD", Correction(presence=Presence.ABSENT), reason="artifact"
    ),
    "another value and name": Judgement(
        "a",
        "box 1",
        Opinion.CHANGE,
        "jdoe",
        Correction(measurement="Probability", value=12.5, label="Schmorl node"),
        reason="wrong-value",
    ),
}


def a_request(folder: Path, judgement: Judgement) -> AssessmentRequest:
    """Return the request of a judgement of a report with two boxes, which lies in the folder."""
    image = source(folder)
    report = reports.documents(a_result(image, boxes=2), sources_of(image), CONTEXT)[-1]
    path = folder / "report.dcm"
    path.write_bytes(report.content)
    context = replace(CONTEXT, created=JUDGED_AT)
    return AssessmentRequest(judgement, "box 1: present, 0.89", 7, report.ref, path, context, CODES)


def written(document: Document, folder: Path) -> Path:
    path = folder / "assessment.dcm"
    path.write_bytes(document.content)
    return path


def opinion_of(document: Document) -> Dataset:
    """Return the content item with the coded opinion."""
    tree = dcmread(BytesIO(document.content))
    heading = next(item for item in tree.ContentSequence if item.ValueType == "CONTAINER")
    opinion: Dataset = next(item for item in heading.ContentSequence if item.ValueType == "CODE")
    return opinion


def meanings(item: Dataset) -> dict[str, str]:
    """Return the coded and the free text below a content item, by the meaning of their concepts."""
    values = {}
    for child in item.ContentSequence:
        value = child.get("TextValue") or child.get("UID")
        if child.ValueType == "CODE":
            value = child.ConceptCodeSequence[0].CodeValue
        if child.ValueType == "NUM":
            value = f"{child.MeasuredValueSequence[0].NumericValue}"
        values[child.ConceptNameCodeSequence[0].CodeMeaning] = str(value)
    return values


@pytest.mark.parametrize("name", JUDGEMENTS)
def test_modules_tree_and_set_of_an_assessment_have_no_errors(name: str, tmp_path: Path) -> None:
    request = a_request(tmp_path, JUDGEMENTS[name])
    path = written(assessment(request), tmp_path)
    assert judges.module_errors(path) + judges.tree_errors(path) == []
    assert judges.set_errors([path, request.path], [tmp_path / "source.dcm"]) == []


@pytest.mark.parametrize("name", ["another value and name"])
def test_the_template_validator_finds_no_error_in_an_assessment(name: str, tmp_path: Path) -> None:
    assert judges.template_errors(written(assessment(a_request(tmp_path, JUDGEMENTS[name])), tmp_path)) == []


def test_an_assessment_refers_to_the_report_and_stands_in_its_study_and_in_a_series_of_its_own(tmp_path: Path) -> None:
    request = a_request(tmp_path, JUDGEMENTS["a rejected box"])
    document, report = dcmread(BytesIO(assessment(request).content)), dcmread(request.path)
    (study,) = document.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (reference,) = series.ReferencedSOPSequence
    assert reference.ReferencedSOPInstanceUID == report.SOPInstanceUID
    (composite,) = [
        item for item in opinion_of(assessment(request)).ContentSequence if item.RelationshipType == "INFERRED FROM"
    ]
    assert composite.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == report.SOPInstanceUID
    assert document.StudyInstanceUID == report.StudyInstanceUID
    assert document.SeriesInstanceUID != report.SeriesInstanceUID
    assert document.SeriesNumber != report.SeriesNumber
    for keyword in ("PatientName", "PatientID", "AccessionNumber", "StudyDate"):
        assert document[keyword] == report[keyword]


def test_an_assessment_names_its_person_the_finding_the_reason_and_the_comment(tmp_path: Path) -> None:
    request = a_request(tmp_path, JUDGEMENTS["a rejected box"])
    tree = dcmread(BytesIO(assessment(request).content))
    (name,) = [item.PersonName for item in tree.ContentSequence if item.ValueType == "PNAME"]
    opinion = opinion_of(assessment(request))
    values = meanings(opinion)
    assert name.family_name == "jdoe"
    assert opinion.ConceptCodeSequence[0].CodeValue == "rejected"
    assert values["Tracking Identifier"] == "box 1"
    assert values["Tracking Unique Identifier"] in tracking_uids(dcmread(request.path))
    assert values["Reason for Assessment"] == "false-positive"
    assert values["Comment"] == "Gefäß im Bild"
    assert values["Assessment Status"] == "final"


def tracking_uids(item: Dataset) -> set[str]:
    """Return every tracking UID in a content tree, as pydicom walks it."""
    return {
        element.value for element in item.iterall() if element.keyword == "UID" and str(element.value).startswith("2.")
    }


def test_a_change_has_presence_measurement_with_the_unit_of_the_report_and_name(tmp_path: Path) -> None:
    request = a_request(tmp_path, JUDGEMENTS["another value and name"])
    opinion = opinion_of(assessment(request))
    (number,) = [item for item in opinion.ContentSequence if item.ValueType == "NUM"]
    measured = number.MeasuredValueSequence[0]
    assert number.ConceptNameCodeSequence[0].CodeValue == "122157"
    assert (measured.NumericValue, measured.MeasurementUnitsCodeSequence[0].CodeValue) == (12.5, PERCENT.value)
    assert meanings(opinion)["Finding"] == "Schmorl node"
    absent = opinion_of(assessment(a_request(tmp_path, JUDGEMENTS["an absent box"])))
    assert meanings(absent)["Presence according to Assessor"] == "272519000"


def test_the_assessment_of_a_later_judgement_is_amended_and_names_the_earlier_one(tmp_path: Path) -> None:
    first = a_request(tmp_path, JUDGEMENTS["a rejected box"])
    earlier = assessment(first)
    context = replace(first.context, created=JUDGED_AT + timedelta(minutes=1), predecessors=(earlier.ref,))
    judgement = replace(first.judgement, opinion=Opinion.ACCEPT, reason="")
    later = assessment(replace(first, judgement=judgement, number=8, context=context))
    tree = dcmread(BytesIO(later.content))
    predecessor = tree.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert predecessor.ReferencedSOPInstanceUID == earlier.ref.sop_instance_uid
    assert meanings(opinion_of(later))["Assessment Status"] == "amended"
    assert later.ref.series_instance_uid == earlier.ref.series_instance_uid
    assert judges.module_errors(written(later, tmp_path)) == []


def test_the_same_judgement_has_the_same_bytes_and_another_judgement_another_uid(tmp_path: Path) -> None:
    request = a_request(tmp_path, JUDGEMENTS["a rejected box"])
    other = replace(request, judgement=replace(request.judgement, comment="another comment"))
    assert assessment(request) == assessment(request)
    assert assessment(other).ref.sop_instance_uid != assessment(request).ref.sop_instance_uid


def test_a_site_may_give_its_own_codes(tmp_path: Path) -> None:
    own = ConsoleTable.model_validate({"codes": {"rejected": ("R", "99PACS", "Refused")}}).codes.codes()
    request = replace(a_request(tmp_path, JUDGEMENTS["a rejected box"]), codes=own)
    code = opinion_of(assessment(request)).ConceptCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("R", "99PACS", "Refused")


def test_a_finding_that_the_report_does_not_have_is_refused_by_name(tmp_path: Path) -> None:
    request = a_request(tmp_path, replace(JUDGEMENTS["a rejected box"], finding="box 17"))
    with pytest.raises(ReportError, match="has no finding 'box 17'"):
        assessment(request)


def test_a_box_whose_name_begins_the_name_of_another_is_not_taken_for_it(tmp_path: Path) -> None:
    image = source(tmp_path)
    report = reports.documents(a_result(image, boxes=10), sources_of(image), CONTEXT)[-1]
    path = tmp_path / "report.dcm"
    path.write_bytes(report.content)
    request = a_request(tmp_path, JUDGEMENTS["a rejected box"])
    path.write_bytes(report.content)
    request = replace(request, report=report.ref)
    first, tenth = (
        meanings(opinion_of(assessment(replace(request, judgement=replace(request.judgement, finding=name)))))
        for name in ("box 1", "box 10")
    )
    assert first["Tracking Unique Identifier"] != tenth["Tracking Unique Identifier"]
